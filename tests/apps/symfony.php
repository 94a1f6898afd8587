<?php
// Symfony's components, as they are packaged, put together as its own documentation does: routes, controllers, and a listener that works when the
// response has been sent. https://symfony.com/doc/current/components/http_kernel.html
foreach (['EventDispatcher', 'HttpFoundation', 'HttpKernel', 'Routing'] as $component) {
    require_once "/usr/share/php/Symfony/Component/$component/autoload.php";
}
require_once '@BACKGROUND@';

use Symfony\Component\EventDispatcher\EventDispatcher;
use Symfony\Component\HttpFoundation\{BinaryFileResponse, JsonResponse, RedirectResponse, Request, RequestStack, Response, StreamedResponse};
use Symfony\Component\HttpFoundation\Session\Session;
use Symfony\Component\HttpFoundation\Session\Storage\NativeSessionStorage;
use Symfony\Component\HttpKernel\Controller\{ArgumentResolver, ControllerResolver};
use Symfony\Component\HttpKernel\Event\TerminateEvent;
use Symfony\Component\HttpKernel\EventListener\{ResponseListener, RouterListener};
use Symfony\Component\HttpKernel\{HttpKernel, KernelEvents};
use Symfony\Component\Routing\Matcher\UrlMatcher;
use Symfony\Component\Routing\{RequestContext, Route, RouteCollection};

$session = new Session(new NativeSessionStorage(['save_path' => '@STATE@/sessions', 'cache_limiter' => '']));
$page = fn (int $bytes, int $status = 200) => new Response(body($bytes), $status, ['Content-Type' => 'text/plain']);
$controllers = [
    '/' => fn () => $page(30000),
    '/short' => fn () => new Response('Short.', 201),
    '/json' => fn () => new JsonResponse(['list' => range(1, 2000)]),
    '/empty' => fn () => new Response('', 204),
    '/redirect' => fn () => new RedirectResponse('/symfony/index.php/short'),
    '/unchanged' => fn () => (new Response())->setNotModified(),
    '/cached' => fn () => $page(5000)->setEtag('x')->setPublic()->setMaxAge(60),
    '/streamed' => fn () => new StreamedResponse(function () { echo body(50000); }, 200, ['Content-Type' => 'text/plain']),
    '/download' => fn () => (new BinaryFileResponse('@STATE@/file.txt'))->setContentDisposition('attachment', 'name.txt'),
    '/part' => function (Request $request) {
        $request->headers->set('Range', 'bytes=100-299');
        return new BinaryFileResponse('@STATE@/file.txt');
    },
    '/form' => function (Request $request) use ($session, $page) {
        if ($request->isMethod('POST')) {
            $session->set('name', $request->request->get('name'));
            $request->attributes->set('sent', $request->request->get('name'));
            return new RedirectResponse('/symfony/index.php/form');
        }
        return $page(2000)->setContent('Sent: ' . $session->get('name', 'nothing') . "\n" . body(2000));
    },
];
$routes = new RouteCollection();
foreach ($controllers as $path => $controller) {
    $routes->add($path, new Route($path, ['_controller' => $controller]));
}

$dispatcher = new EventDispatcher();
$requests = new RequestStack();
$dispatcher->addSubscriber(new RouterListener(new UrlMatcher($routes, new RequestContext()), $requests));
$dispatcher->addSubscriber(new ResponseListener('UTF-8'));
$dispatcher->addListener(KernelEvents::RESPONSE, fn () => $session->save());
$dispatcher->addListener(KernelEvents::TERMINATE, function (TerminateEvent $event) {
    if ($event->getRequest()->headers->has('X-Gate')) {
        background($event->getRequest()->headers->get('X-Gate'), 0);
    }
    if ($event->getRequest()->attributes->has('sent')) {
        file_put_contents('@STATE@/sent', $event->getRequest()->attributes->get('sent') . "\n", FILE_APPEND);
    }
});

$kernel = new HttpKernel($dispatcher, new ControllerResolver(), $requests, new ArgumentResolver());
$request = Request::createFromGlobals();
$response = $kernel->handle($request);
$response->send();
$kernel->terminate($request, $response);
