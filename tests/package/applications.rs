//! What `docs/applications.md` tells to paste works as it stands. Only the places of files are another machine's; what the applications call
//! `work` waits at the test's gate.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use support::{Client, Handler, Httpd, Mpm};
use tempfile::TempDir;

const PAGE: &str = include_str!("../../docs/applications.md");

/// Where the page has the applications.
const PLACE: &str = "/srv/app";

/// What `work` is for Python and Perl: the gate, for the request's id.
const WORK: &str = "cd \"$DOCUMENT_ROOT\"; . ./background.sh; query id ''; background \"$id\" 200";

/// The fragments in this language between this heading and the next.
pub(crate) fn fragments(heading: &str, language: &str) -> Vec<String> {
    let section = PAGE
        .split("\n## ")
        .flat_map(|part| part.split("\n### "))
        .find(|part| part.starts_with(&format!("{heading}\n")));
    let section = section.unwrap_or_else(|| panic!("the page has no heading {heading:?}"));
    let fence = format!("\n```{language}\n");
    let found = section.split(&fence).skip(1);
    found.map(|text| format!("{}\n", text.split("\n```").next().unwrap())).collect()
}

pub(crate) fn fragment(heading: &str, language: &str) -> String {
    let [fragment] = fragments(heading, language).try_into().expect("one fragment");
    fragment
}

pub(crate) fn folder(files: &[(&str, &str)]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for (name, text) in files {
        fs::write(folder.path().join(name), text).unwrap();
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    folder
}

pub(crate) fn finishes(httpd: &Httpd, mpm: Mpm, page: &str) {
    for &protocol in mpm.protocols() {
        let background = httpd.background();
        let response = Client::connect(httpd, protocol).get(&background.query(page), &[]).released();
        assert_eq!((response.status, &response.body[..]), (200, &b"Thank you.\n"[..]), "{mpm:?} {protocol:?}");
        background.wait_for_begin();
        assert!(!background.is_done(), "the client had to wait for the work");
        background.open_gate();
        assert_eq!(background.wait_for_done().errors, "", "{mpm:?} {protocol:?}");
    }
}

pub(crate) fn place(text: &str, folder: &Path) -> String {
    assert!(text.contains(PLACE), "{text}");
    text.replace(PLACE, &folder.display().to_string())
}

/// An application in Python, with the lines for WSGI.
fn python(heading: &str) {
    let work = format!(
        "import os\nimport subprocess\n\n\ndef work(environ):\n    names = ('DOCUMENT_ROOT', 'QUERY_STRING')\n    \
         env = {{**os.environ, **{{name: environ[name] for name in names}}}}\n    \
         subprocess.run(['/bin/sh', '-c', {WORK:?}], env=env, stdout=subprocess.DEVNULL)\n"
    );
    let folder = folder(&[("work.py", &work), ("app.wsgi", &fragment(heading, "python"))]);
    let config = place(&fragment("WSGI", "apache"), folder.path());
    for mpm in [Mpm::Event, Mpm::Prefork] {
        let httpd = Httpd::builder(mpm).modules(&["alias", "wsgi"]).config(&config).start();
        // Its children do not end by themselves, without the module either.
        httpd.allow_log("AH0004[5-7]");
        finishes(&httpd, mpm, "app/");
        httpd.stop();
    }
}

#[test]
fn wsgi() {
    python("WSGI");
}

#[test]
fn flask() {
    python("Flask");
}

#[test]
fn wsgi_middleware() {
    python("WSGI middleware");
}

#[test]
fn mod_perl() {
    // mod_perl's %ENV is not that of the process.
    let work = format!(
        "package Work;\nuse Apache2::RequestUtil ();\nsub work {{\n    my $r = shift;\n    \
         my $names = sprintf q(DOCUMENT_ROOT='%s'; QUERY_STRING='%s'; ), $r->document_root, $r->args;\n    \
         system '/bin/sh', '-c', 'exec >/dev/null; ' . $names . q({WORK});\n}}\n1;\n"
    );
    let folder = folder(&[("Work.pm", &work), ("Thanks.pm", &fragment("mod_perl", "perl"))]);
    let config = place(&fragment("mod_perl", "apache"), folder.path());
    for mpm in Mpm::ALL {
        let httpd = Httpd::builder(mpm).modules(&["perl"]).config(&config).start();
        finishes(&httpd, mpm, "thanks");
        httpd.stop();
    }
}

/// PHP, each way that the page tells of.
#[test]
fn php() {
    let folder = folder(&[]);
    let php = Path::new(env!("CARGO_MANIFEST_DIR")).join("php");
    for name in ["prepend.php", "finish_request.php", "cgi.php"] {
        fs::copy(php.join(name), folder.path().join(name)).unwrap();
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    let here = |text: &str| text.replace("/usr/share/php/finish_request", &folder.path().display().to_string());
    let page = "<?php require __DIR__ . '/background.php'; echo \"Thank you.\\n\"; session_write_close();\n\
                if (function_exists('fastcgi_finish_request')) { fastcgi_finish_request(); background($_GET['id']); }";
    let configs = fragments("Every application of a server, unmodified", "apache");
    for (handler, mpms, config) in
        [(Handler::ModPhp, &[Mpm::Prefork][..], &configs[0]), (Handler::ModFcgid, &Mpm::ALL[..], &configs[1])]
    {
        for &mpm in mpms {
            let config = here(config).replace("FinishRequestConnection Keep", "");
            let httpd = Httpd::builder(mpm).handler(handler).modules(&["env"]).config(&config).start();
            httpd.install("page.php", page);
            finishes(&httpd, mpm, "page.php");
            httpd.stop();
        }
    }
    // By `require`, with what is printed in php-cgi's way: without `late`.
    let required = here(&fragment("PHP", "php"))
        .replace("work();", "require __DIR__ . '/background.php'; background($_GET['id']);");
    for (handler, mpm) in [(Handler::ModPhp, Mpm::Prefork), (Handler::ModFcgid, Mpm::Event)] {
        for buffering in ["0", "4096"] {
            let builder = Httpd::builder(mpm).handler(handler).php_ini("output_buffering", buffering);
            let httpd = builder.config("FinishRequest On").start();
            httpd.install("page.php", &required);
            finishes(&httpd, mpm, "page.php");
            httpd.stop();
        }
    }
}

/// Symfony's own kernel, as it is packaged: it sends the response, and its listeners of `kernel.terminate` work on.
const SYMFONY: &str = r#"<?php
require '/usr/share/php/Symfony/Component/HttpKernel/autoload.php';
require '/usr/share/php/Symfony/Component/EventDispatcher/autoload.php';
require __DIR__ . '/background.php';
use Symfony\Component\EventDispatcher\EventDispatcher;
use Symfony\Component\HttpFoundation\{JsonResponse, RedirectResponse, Request, RequestStack, Response, StreamedResponse};
use Symfony\Component\HttpKernel\Controller\{ArgumentResolver, ControllerResolver};
use Symfony\Component\HttpKernel\{HttpKernel, KernelEvents};

$dispatcher = new EventDispatcher();
$dispatcher->addListener(KernelEvents::REQUEST, function ($event) {
    switch ($event->getRequest()->query->get('page')) {
        case 'json':
            return $event->setResponse(new JsonResponse(['thank' => 'you'], 201));
        case 'redirect':
            return $event->setResponse(new RedirectResponse('/elsewhere'));
        case 'empty':
            return $event->setResponse(new Response('', 204));
        case 'streamed':
            return $event->setResponse(new StreamedResponse(function () { print body(30000); }, 200, ['Content-Type' => 'text/plain']));
        default:
            return $event->setResponse(new Response(body(30000), 200, ['Content-Type' => 'text/plain']));
    }
});
$dispatcher->addListener(KernelEvents::TERMINATE, function ($event) { background($_GET['id'], 0); });
$kernel = new HttpKernel($dispatcher, new ControllerResolver(), new RequestStack(), new ArgumentResolver());
$request = Request::createFromGlobals();
$response = $kernel->handle($request);
$response->send();
$kernel->terminate($request, $response);
"#;

/// Unmodified, with the file for a2enconf: each page is what it is without the module, and its client is let go before the work ends.
#[test]
fn symfony() {
    let folder = folder(&[]);
    fs::create_dir(folder.path().join("php.d")).unwrap();
    fs::set_permissions(folder.path().join("php.d"), fs::Permissions::from_mode(0o755)).unwrap();
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let here = |path: &Path| {
        let text = fs::read_to_string(root.join(path)).unwrap();
        text.replace("/usr/share/php/finish_request", &folder.path().display().to_string())
    };
    for name in ["prepend.php", "finish_request.php", "cgi.php", "php.d/finish_request.ini"] {
        fs::write(folder.path().join(name), here(&Path::new("php").join(name))).unwrap();
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    let config = here(Path::new("httpd-conf/finish_request_php.conf"));
    for (handler, mpm) in [(Handler::ModPhp, Mpm::Prefork), (Handler::ModFcgid, Mpm::Event)] {
        let builder = || {
            let builder = Httpd::builder(mpm).handler(handler).modules(&["env", "filter", "deflate"]);
            builder
                .php_ini("output_buffering", "4096")
                .config("AddOutputFilterByType DEFLATE text/plain")
                .config(&config)
        };
        let (stock, module) = (builder().without_module().start(), builder().start());
        for httpd in [&stock, &module] {
            httpd.install("symfony.php", SYMFONY);
        }
        for &protocol in mpm.protocols() {
            for page in ["page", "json", "redirect", "empty", "streamed"] {
                for accept in [&[][..], &[("Accept-Encoding", "gzip")]] {
                    let ask = |httpd: &Httpd, early: bool| {
                        let background = httpd.background();
                        let client = Client::connect(httpd, protocol);
                        let path = format!("{}&page={page}", background.query("symfony.php"));
                        let exchange = client.get(&path, accept);
                        if !early {
                            background.open_gate();
                        }
                        let response = exchange.response();
                        assert!(!early || !background.is_done());
                        background.open_gate();
                        assert_eq!(background.wait_for_done().errors, "", "{handler:?} {protocol:?} {page}");
                        let kept = ["location", "content-type", "cache-control", "x-powered-by"];
                        let headers: Vec<_> = kept.map(|name| response.header(name).map(str::to_owned)).into();
                        (response.status, headers, response.decoded())
                    };
                    assert_eq!(ask(&module, true), ask(&stock, false), "{handler:?} {protocol:?} {page} {accept:?}");
                }
            }
        }
        module.stop();
        stock.stop();
    }
}
