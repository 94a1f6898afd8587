<?php
// Laravel's framework, as it is packaged, with a terminable middleware, a job that is dispatched after the response, and a session.
require_once 'Illuminate/autoload.php';
require_once '@BACKGROUND@';

use Illuminate\Contracts\Debug\ExceptionHandler;
use Illuminate\Contracts\Http\Kernel as KernelContract;
use Illuminate\Foundation\Application;
use Illuminate\Foundation\Http\Kernel;
use Illuminate\Http\Request;
use Illuminate\Session\Middleware\StartSession;

class Counts
{
    public function handle($request, Closure $next)
    {
        return $next($request);
    }

    public function terminate($request, $response)
    {
        if (isset($_SERVER['HTTP_X_GATE'])) {
            background($_SERVER['HTTP_X_GATE'], 0);
        }
    }
}

class Sends
{
    private $name;

    public function __construct(string $name)
    {
        $this->name = $name;
    }

    public function handle()
    {
        file_put_contents('@STATE@/sent', "$this->name\n", FILE_APPEND);
    }
}

class AppKernel extends Kernel
{
    protected $middleware = [Counts::class, StartSession::class];
}

$app = new Application('@STATE@');
$app->singleton(KernelContract::class, AppKernel::class);
$app->singleton(ExceptionHandler::class, Illuminate\Foundation\Exceptions\Handler::class);
$app->booted(function () use ($app) {
    $router = $app['router'];
    $router->get('/', fn () => body(30000));
    $router->get('/short', fn () => response('Short.', 201)->header('Content-Type', 'text/plain'));
    $router->get('/json', fn () => response()->json(['list' => range(1, 2000)]));
    $router->get('/empty', fn () => response('', 204));
    $router->get('/redirect', fn () => redirect('/laravel/index.php/short'));
    $router->get('/streamed', fn () => response()->stream(function () { echo body(50000); }, 200, ['Content-Type' => 'text/plain']));
    $router->get('/download', fn () => response()->download('@STATE@/file.txt', 'name.txt'));
    $router->get('/form', fn (Request $request) => 'Sent: ' . $request->session()->get('name', 'nothing') . "\n" . body(2000));
    $router->post('/form', function (Request $request) use ($app) {
        $request->session()->put('name', $request->input('name'));
        $name = $request->input('name');
        $app->make(Illuminate\Contracts\Bus\Dispatcher::class)->dispatchAfterResponse(new Sends($name));
        return redirect('/laravel/index.php/form');
    });
});
$kernel = $app->make(KernelContract::class);
$response = $kernel->handle($request = Request::capture());
$response->send();
$kernel->terminate($request, $response);
