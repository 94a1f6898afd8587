use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use support::{Builder, Handler, Httpd, Mpm};
use tempfile::TempDir;

use crate::clients::{Kept, ask_and_close};
use crate::measure::{Subject, in_turns, percentiles, ratios, request_by_request};
use crate::pages;
use crate::processes::{Processes, cpu_per_request};
use crate::report::Report;

const AUTOLOAD: &str = "/usr/share/php/Symfony/Component/HttpKernel/autoload.php";

const PAGE: &str = r#"<?php
require '/usr/share/php/Symfony/Component/HttpKernel/autoload.php';
require '/usr/share/php/Symfony/Component/EventDispatcher/autoload.php';
use Symfony\Component\EventDispatcher\EventDispatcher;
use Symfony\Component\HttpFoundation\{Request, RequestStack, Response};
use Symfony\Component\HttpKernel\Controller\{ArgumentResolver, ControllerResolver};
use Symfony\Component\HttpKernel\EventListener\ResponseListener;
use Symfony\Component\HttpKernel\{HttpKernel, KernelEvents};

$dispatcher = new EventDispatcher();
$dispatcher->addListener(KernelEvents::REQUEST, function ($event) {
    $event->setResponse(new Response(str_repeat("<p>A line of the page.</p>\n", 300)));
});
$dispatcher->addSubscriber(new ResponseListener('UTF-8'));
$kernel = new HttpKernel($dispatcher, new ControllerResolver(), new RequestStack(), new ArgumentResolver());
$request = Request::createFromGlobals();
$response = $kernel->handle($request);
$response->send();
$kernel->terminate($request, $response);
"#;

pub fn measure(report: &mut Report) {
    let (handler, mpm) = (Handler::ModPhp, Mpm::Prefork);
    if let Some(missing) = handler.missing(mpm) {
        return report.left_out(&format!("mod_php: {missing}."));
    }
    if !Path::new(AUTOLOAD).is_file() {
        return report.left_out("there is no php-symfony-http-kernel.");
    }
    let php = prepended();
    let start = |builder: Builder| {
        let httpd = pages::start(
            builder
                .php_ini("zend_extension", "opcache")
                .php_ini("opcache.enable", "1")
                .php_ini("output_buffering", "4096"),
        );
        httpd.install("page.php", PAGE);
        httpd
    };
    let prepend = format!("php_value auto_prepend_file {}/prepend.php\n", php.path().display());
    let stock = start(pages::stock(mpm, handler));
    let close = start(pages::module(mpm, handler, &prepend));
    let keep = start(pages::module(mpm, handler, &(prepend + "FinishRequestConnection Keep")));

    let client = |httpd: &Httpd| Kept::new(httpd.address());
    let cpu = |httpd: &Httpd| {
        let mut client = client(httpd);
        cpu_per_request(&Processes::of(httpd), 50, || {
            client.ask("/page.php");
        })
    };
    let closed = |httpd: &Httpd| {
        cpu_per_request(&Processes::of(httpd), 50, || {
            ask_and_close(httpd.address(), "/page.php");
        })
    };
    let subjects: &mut [Subject<'_, f64>] =
        &mut [&mut || cpu(&stock), &mut || cpu(&close), &mut || cpu(&keep), &mut || cpu(&stock), &mut || {
            closed(&stock)
        }];
    let measured = in_turns(14, subjects);
    let [ordinary, finished, kept, again, ordinary_closed] = &measured[..] else { return };
    report.figure("CPU, Close ÷ not finished, kept", "", ratios(finished, ordinary));
    report.figure("CPU, Close ÷ not finished, closed", "", ratios(finished, ordinary_closed));
    report.figure("CPU, Keep ÷ not finished, kept", "", ratios(kept, ordinary));
    report.noise("CPU, not finished, kept", "", ratios(again, ordinary));
    report.figure("CPU of a page, not finished", " µs", ordinary.clone());

    let mut clients = [&stock, &close, &keep, &stock].map(client);
    let [a, b, c, d] = &mut clients;
    let subjects: &mut [Subject<'_, Duration>] =
        &mut [&mut || a.ask("/page.php"), &mut || b.ask("/page.php"), &mut || c.ask("/page.php"), &mut || {
            d.ask("/page.php")
        }];
    let measured = request_by_request(8, 100, subjects);
    let [ordinary, finished, kept, again] = [0, 1, 2, 3].map(|index: usize| percentiles(&measured[index], 50.0));
    report.figure("time of a page p50, Close ÷ not finished", "", ratios(&finished, &ordinary));
    report.figure("time of a page p50, Keep ÷ not finished", "", ratios(&kept, &ordinary));
    report.noise("time of a page p50, not finished", "", ratios(&again, &ordinary));
    report.figure("time of a page p50, not finished", " µs", ordinary);
    [stock, close, keep].into_iter().for_each(Httpd::stop);
}

/// The files of `php/`, where the servers' user can read them.
fn prepended() -> TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).expect("a folder");
    for name in ["prepend.php", "finish_request.php", "cgi.php"] {
        let file = folder.path().join(name);
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("php").join(name), &file).expect("a file");
        fs::set_permissions(file, fs::Permissions::from_mode(0o644)).expect("a file");
    }
    folder
}
