//! PHP applications call `apache_finish_request()`, from `php/finish_request.php`.

mod oracle;
mod prepend;
mod scripts;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

use support::{Client, Handler, Httpd, Mpm, Protocol};

use crate::finished::compression::{ACCEPT, Compression, with_compressions};

/// Text in two nested buffers, so that the function has something to collect; the query says which answer is wanted.
const APPLICATION: &str = r#"<?php
require __DIR__ . '/background.php';
require __DIR__ . '/finish_request.php';
ob_start();
echo 'printed before, ';
if (($_GET['how'] ?? '') === 'sent') {
    ob_end_flush();
    while (ob_get_level()) {
        ob_end_flush();
    }
    flush();
}
if (($_GET['how'] ?? '') === 'rewritten') {
    while (ob_get_level()) {
        ob_end_clean();
    }
    ob_start(fn ($text) => strtoupper($text));
    echo 'printed before, ';
}
ob_start();
echo 'printed in a buffer of its own';
$marked = apache_finish_request();
file_put_contents('@GATES@/' . $_GET['id'] . '.marked', var_export($marked, true));
background($_GET['id']);
"#;

const TEXT: &str = "printed before, printed in a buffer of its own";

#[test]
fn mod_php() {
    for buffering in ["0", "4096"] {
        let httpd = start(Handler::ModPhp, Mpm::Prefork, buffering);
        // Inside the server the end is a flush: it needs no length.
        for how in ["plain", "sent"] {
            finishes(&httpd, Mpm::Prefork, how, TEXT);
        }
        finishes(&httpd, Mpm::Prefork, "rewritten", &TEXT.to_uppercase());
        httpd.stop();
    }
}

#[test]
fn mod_fcgid() {
    for buffering in ["0", "4096"] {
        let httpd = start(Handler::ModFcgid, Mpm::Worker, buffering);
        finishes(&httpd, Mpm::Worker, "plain", TEXT);
        is_refused(&httpd, "sent", TEXT);
        is_refused(&httpd, "rewritten", &TEXT.to_uppercase());
        nothing_to_send(&httpd, buffering);
        httpd.stop();
    }
}

/// What is refused for there being no text has changed nothing: the buffers are there, and the header can be written.
fn nothing_to_send(httpd: &Httpd, buffering: &str) {
    httpd.install(
        "nothing.php",
        "<?php require __DIR__ . '/finish_request.php';
         ob_start();
         $finished = apache_finish_request();
         header('X-Later: ' . var_export($finished, true) . ' ' . ob_get_level());
         echo 'collected';
         $text = ob_get_clean();
         echo 'and sent: ', $text;",
    );
    let response = Client::connect(httpd, Protocol::Http1).get("/nothing.php", &[]).response();
    let level = if buffering == "0" { 1 } else { 2 };
    assert_eq!(response.header("X-Later"), Some(&*format!("false {level}")));
    assert_eq!(response.body, b"and sent: collected");
}

/// A mark that the page has of its own is another end, and the function's is the one, as long as PHP's header has not gone: then the mark's.
#[test]
fn a_page_that_is_marked_otherwise() {
    const MARKED: &str = "<?php
        require __DIR__ . '/background.php';
        require __DIR__ . '/finish_request.php';
        header('X-Finish-Request: boundary=\"0123456789abcdef\"');
        echo 'printed before';
        file_put_contents('@GATES@/' . $_GET['id'] . '.marked', var_export(apache_finish_request(), true));
        background($_GET['id']);";
    for (handler, mpm) in [(Handler::ModPhp, Mpm::Prefork), (Handler::ModFcgid, Mpm::Worker)] {
        let builder = Httpd::builder(mpm).handler(handler).modules(&["env"]).php_ini("output_buffering", "4096");
        let httpd = builder.config("FinishRequest On\nSetEnv finish-request late").start();
        httpd.install("finish_request.php", include_str!("../../../php/finish_request.php"));
        httpd.install("marked.php", MARKED);
        let sent = MARKED.replace("echo 'printed before';", "echo 'printed before'; ob_end_flush(); flush();");
        httpd.install(
            "sent.php",
            &sent.replace("background(", "echo ', behind the call0123456789abcdef'; flush(); background("),
        );
        for &protocol in mpm.protocols() {
            let background = httpd.background();
            let client = Client::connect(&httpd, protocol);
            let exchange = client.get(&background.query("marked.php"), &[]);
            background.wait_for_begin();
            assert_eq!(marked(&httpd, background.id()), "true");
            let response = exchange.response();
            assert_eq!(response.body, b"printed before", "{handler:?} {protocol:?}");
            assert!(!background.is_done());
            background.open_gate();
            assert_eq!(background.wait_for_done().errors, "");
            let background = httpd.background();
            background.open_gate();
            let response = Client::connect(&httpd, protocol).get(&background.query("sent.php"), &[]).response();
            assert_eq!(response.body, b"printed before, behind the call", "{handler:?} {protocol:?}");
            background.wait_for_done();
            assert_eq!(marked(&httpd, background.id()), "false");
        }
        httpd.stop();
    }
}

#[test]
fn php_fpm() {
    let httpd = start(Handler::PhpFpm, Mpm::Event, "0");
    for how in ["plain", "sent"] {
        // php-fpm's own fastcgi_finish_request() has it so.
        finishes_with(&httpd, Mpm::Event, how, TEXT, "connection_status() is 1");
    }
    httpd.stop();
}

fn start(handler: Handler, mpm: Mpm, buffering: &str) -> Httpd {
    let builder = Httpd::builder(mpm).handler(handler).php_ini("output_buffering", buffering);
    let httpd = with_compressions(builder, &["all"]).config("FinishRequest On").start();
    httpd.install("finish_request.php", include_str!("../../../php/finish_request.php"));
    httpd.install("function.php", APPLICATION);
    httpd
}

fn finishes(httpd: &Httpd, mpm: Mpm, how: &str, text: &str) {
    finishes_with(httpd, mpm, how, text, "");
}

fn finishes_with(httpd: &Httpd, mpm: Mpm, how: &str, text: &str, errors: &str) {
    for &protocol in mpm.protocols() {
        for compression in Compression::ALL {
            let background = httpd.background();
            let page = format!("all/{}/function.php", compression.folder());
            let path = format!("{}&how={how}", background.query(&page));
            let client = Client::connect(httpd, protocol);
            let response = client.get(&path, &ACCEPT).response();
            assert_eq!(String::from_utf8_lossy(&response.decoded()), text, "{protocol:?} {compression:?} {how}");
            assert!(!background.is_done());
            background.wait_for_begin();
            assert_eq!(marked(httpd, background.id()), "true");
            background.open_gate();
            assert_eq!(background.wait_for_done().errors, errors);
        }
    }
}

fn is_refused(httpd: &Httpd, how: &str, text: &str) {
    let background = httpd.background();
    background.open_gate();
    let path = format!("{}&how={how}", background.query("function.php"));
    let response = Client::connect(httpd, Protocol::Http1).get(&path, &[]).response();
    let body = String::from_utf8_lossy(&response.body).into_owned();
    assert!(
        body.starts_with(text) && body.len() > text.len(),
        "an ordinary response, with all that is printed: {body}"
    );
    assert_eq!(marked(httpd, background.id()), "false");
    assert_eq!(background.wait_for_done().errors, "");
}

fn marked(httpd: &Httpd, id: &str) -> String {
    std::fs::read_to_string(httpd.root().join("gates").join(format!("{id}.marked"))).unwrap()
}

/// A folder with the PHP files, as `make install` has them: readable by the server's user.
fn installed() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = support::machine::folder("httpd-test-php-").unwrap().keep();
        for name in ["finish_request.php", "prepend.php", "cgi.php"] {
            let copy = folder.join(name);
            fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("php").join(name), &copy).unwrap();
            fs::set_permissions(copy, fs::Permissions::from_mode(0o644)).unwrap();
        }
        folder
    })
}
