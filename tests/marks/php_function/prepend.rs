//! The prepended file does nothing where it must not, and the function gives `false`, with the page as ever, where it can do nothing.

use std::fs;

use support::{Builder, Client, Handler, Httpd, Mpm, Protocol, wait_for};

use super::installed;

/// Says which functions there are, and what they give.
const QUESTION: &str = r#"<?php
header('Content-Type: text/plain');
echo 'before, ';
$functions = ['apache_finish_request', 'fastcgi_finish_request', 'litespeed_finish_request'];
$there = array_values(array_filter($functions, 'function_exists'));
foreach ($there as $function) {
    echo $function, ' ';
}
$result = $there ? $there[0]() : null;
file_put_contents('@GATES@/answer', var_export($result, true));
echo 'after';
"#;

fn prepended(mpm: Mpm, handler: Handler) -> Builder {
    let file = installed().join("prepend.php").display().to_string();
    Httpd::builder(mpm).handler(handler).modules(&["env"]).php_ini("auto_prepend_file", &file)
}

/// What the client gets from the page, and what the function has given.
fn ask(httpd: &Httpd) -> (String, String) {
    answer(httpd, QUESTION)
}

/// The same of another page.
fn answer(httpd: &Httpd, page: &str) -> (String, String) {
    httpd.install("question.php", page);
    let answer = httpd.root().join("gates/answer");
    let _ = fs::remove_file(&answer);
    let response = Client::connect(httpd, Protocol::Http1).get("/question.php", &[]).response();
    let answer = wait_for("an answer", || fs::read_to_string(&answer).ok().filter(|text| !text.is_empty()));
    (String::from_utf8(response.body).unwrap(), answer)
}

const ALL: &str = "before, apache_finish_request fastcgi_finish_request litespeed_finish_request ";

#[test]
fn defines_all_of_them() {
    let late = "FinishRequest On\nSetEnv finish-request late";
    for (mpm, handler) in
        [(Mpm::Prefork, Handler::ModPhp), (Mpm::Event, Handler::ModFcgid), (Mpm::Prefork, Handler::ModFcgid)]
    {
        let httpd = prepended(mpm, handler).config(late).start();
        assert_eq!(ask(&httpd), (ALL.to_owned(), "true".to_owned()), "{handler:?}");
        httpd.stop();
    }
}

#[test]
fn does_nothing_without_the_module_or_with_off() {
    for (builder, page) in [
        (prepended(Mpm::Prefork, Handler::ModPhp).without_module(), "before, after"),
        (prepended(Mpm::Prefork, Handler::ModPhp).config("FinishRequest Off"), "before, after"),
        (prepended(Mpm::Event, Handler::ModFcgid).without_module(), "before, after"),
        (prepended(Mpm::Event, Handler::ModFcgid).config("FinishRequest On"), "before, after"),
        (
            prepended(Mpm::Event, Handler::ModFcgid).config("FinishRequest Off\nSetEnv finish-request late"),
            "before, after",
        ),
        // A variable of this name with something else in it.
        (
            prepended(Mpm::Event, Handler::ModFcgid).without_module().config("SetEnv FINISH_REQUEST 0123456789"),
            "before, after",
        ),
    ] {
        let httpd = builder.start();
        assert_eq!(ask(&httpd), (page.to_owned(), "NULL".to_owned()));
        httpd.stop();
    }
    // php-fpm has one of its own, and no other.
    let httpd = prepended(Mpm::Event, Handler::PhpFpm).config("FinishRequest On").start();
    let (page, _) = ask(&httpd);
    assert_eq!(page, "before, fastcgi_finish_request ");
    httpd.stop();
}

/// By `require`, where the page does not know whether the module is there.
#[test]
fn the_function_says_false_and_the_page_is_as_ever() {
    let page = format!("before, {}", "apache_finish_request after");
    let required = |builder: Builder, functions: &str| {
        let file = installed().join("finish_request.php").display().to_string();
        let httpd = builder.php_ini("auto_prepend_file", &file).php_ini("disable_functions", functions).start();
        assert_eq!(ask(&httpd), (page.clone(), "false".to_owned()), "{functions}");
        httpd.stop();
    };
    let mod_php = || Httpd::builder(Mpm::Prefork).handler(Handler::ModPhp).modules(&["env"]);
    required(mod_php().without_module(), "");
    required(mod_php().config("FinishRequest Off"), "");
    for redirects in ["", "REDIRECT_", "REDIRECT_REDIRECT_"] {
        required(mod_php().config(&format!("FinishRequest On\nSetEnv {redirects}finish-request off")), "");
    }
    required(mod_php().config("FinishRequest On"), "apache_note,apache_setenv");
    required(mod_php().config("FinishRequest On").php_ini("implicit_flush", "On"), "apache_note,apache_setenv");
}

/// Whatever way it would take: `off` wins, and the page gets to the client as a whole.
#[test]
fn it_says_false_where_the_page_has_said_off() {
    let says_off = QUESTION.replacen("header(", "header('X-Finish-Request: off');\nheader(", 1);
    let late = "FinishRequest On\nSetEnv finish-request late";
    let file = installed().join("finish_request.php").display().to_string();
    let required = |mpm, handler| Httpd::builder(mpm).handler(handler).php_ini("auto_prepend_file", &file);
    for (builder, names) in [
        (prepended(Mpm::Prefork, Handler::ModPhp).config("FinishRequest On"), ALL),
        (prepended(Mpm::Event, Handler::ModFcgid).config(late), ALL),
        (required(Mpm::Event, Handler::ModFcgid).config("FinishRequest On"), "before, apache_finish_request "),
    ] {
        let httpd = builder.start();
        assert_eq!(answer(&httpd, &says_off), (format!("{names}after"), "false".to_owned()));
        httpd.stop();
    }
}

/// By `auto_prepend_file`, and by a page that has the line of its own.
#[test]
fn it_may_come_twice() {
    let again = format!("<?php require '{}'; ?>{QUESTION}", installed().join("prepend.php").display());
    let late = "FinishRequest On\nSetEnv finish-request late";
    for (mpm, handler) in [(Mpm::Prefork, Handler::ModPhp), (Mpm::Event, Handler::ModFcgid)] {
        let httpd = prepended(mpm, handler).config(late).start();
        assert_eq!(answer(&httpd, &again), (ALL.to_owned(), "true".to_owned()), "{handler:?}");
        httpd.stop();
    }
}

/// Without `apache_setenv()` there is the header, as long as it has not gone; without `virtual()` the buffers that only it can end stay.
#[test]
fn what_is_disabled_in_mod_php() {
    for (functions, before, finished) in [
        ("apache_setenv", "ob_start();", true),
        ("apache_setenv", "", false),
        ("apache_setenv", "ob_start(function ($text) { flush(); return strtoupper($text); });", true),
        ("apache_setenv", "ob_start(null, 0, 0);", true),
        ("apache_setenv,virtual", "ob_start(null, 0, 0);", false),
        ("apache_setenv", "echo 'a'; flush();", false),
        ("apache_note", "", true),
        ("apache_note", "ob_start(null, 0, 0);", false),
        ("virtual", "ob_start(function ($text) { flush(); return strtoupper($text); });", true),
        ("virtual", "ob_start(null, 0, 0);", false),
        ("virtual", "ini_set('zlib.output_compression', 1); ob_start();", true),
        ("virtual", "ini_set('zlib.output_compression', 1); echo str_repeat('a', 20000);", false),
        ("virtual", "ini_set('zlib.output_compression', 1); ob_start(); echo str_repeat('a', 20000);", false),
        ("getenv,apache_getenv,ini_get,ini_set,putenv", "ob_start();", true),
    ] {
        let file = installed().join("finish_request.php").display().to_string();
        let builder = Httpd::builder(Mpm::Prefork).handler(Handler::ModPhp).config("FinishRequest On");
        let httpd = builder.php_ini("auto_prepend_file", &file).php_ini("disable_functions", functions).start();
        let text = format!(
            "<?php error_reporting(0); require __DIR__ . '/background.php'; {before} echo 'whole, '; \
             $result = apache_finish_request(); $result ? background($_GET['id']) : print('and more');"
        );
        httpd.install("page.php", &text);
        let background = httpd.background();
        let exchange = Client::connect(&httpd, Protocol::Http1);
        let response = exchange.get(&background.query("page.php"), &[("Accept-Encoding", "gzip")]).response();
        let body = String::from_utf8(response.decoded()).unwrap().to_lowercase();
        let (begin, end) = (body.trim_start_matches('a'), if finished { "whole, " } else { "whole, and more" });
        assert_eq!(begin, end, "{functions} {before}");
        if finished {
            background.wait_for_begin();
            assert!(!background.is_done());
            background.open_gate();
            assert_eq!(background.wait_for_done().errors, "", "{functions} {before}");
        }
        httpd.stop();
    }
}

/// A function of the application's own under php-fpm's name calls ours.
#[test]
fn a_function_of_the_application_under_the_other_name() {
    for (mpm, handler) in [(Mpm::Prefork, Handler::ModPhp), (Mpm::Event, Handler::ModFcgid)] {
        let httpd = Httpd::builder(mpm).handler(handler).config("FinishRequest On").start();
        let file = installed().join("finish_request.php");
        httpd.install(
            "page.php",
            &format!(
                "<?php require '{}'; require __DIR__ . '/background.php';\n\
                 function fastcgi_finish_request() {{ return apache_finish_request(); }}\n\
                 function litespeed_finish_request() {{ return fastcgi_finish_request(); }}\n\
                 ob_start(); echo 'whole'; var_dump(1);\n\
                 $first = litespeed_finish_request(); $second = fastcgi_finish_request();\n\
                 if ($first && !$second) {{ background($_GET['id']); }}",
                file.display()
            ),
        );
        for &protocol in mpm.protocols() {
            let background = httpd.background();
            let response = Client::connect(&httpd, protocol).get(&background.query("page.php"), &[]).released();
            assert_eq!(response.body, b"wholeint(1)\n", "{handler:?} {protocol:?}");
            background.wait_for_begin();
            assert!(!background.is_done());
            background.open_gate();
            assert_eq!(background.wait_for_done().errors, "", "{handler:?} {protocol:?}");
        }
        httpd.stop();
    }
}

/// Applications inside httpd see by a note that the module is there and on. Files have none: they cost nothing.
#[test]
fn the_note_of_the_version() {
    for mode in ["On", "Auto", "Off"] {
        let config =
            format!("FinishRequest {mode}\nCustomLog \"${{ROOT}}/notes.log\" \"%{{finish-request-version}}n %U\"");
        let httpd = Httpd::builder(Mpm::Event).handler(Handler::Lua).config(&config).start();
        httpd.install("file.txt", "text");
        httpd.install(
            "note.lua",
            "function handle(r) r:puts(r.notes['finish-request-version'] or 'none') return apache2.OK end",
        );
        let version = if mode == "Off" { "none" } else { env!("CARGO_PKG_VERSION") };
        let client = Client::connect(&httpd, Protocol::Http2);
        assert_eq!(String::from_utf8(client.get("/note.lua", &[]).response().body).unwrap(), version);
        client.get("/file.txt", &[]).response();
        drop(client);
        wait_for("two lines in the log", || {
            let log = fs::read_to_string(httpd.root().join("notes.log")).ok()?;
            (log.contains("- /file.txt") && log.contains("/note.lua")).then_some(())
        });
        httpd.stop();
    }
}
