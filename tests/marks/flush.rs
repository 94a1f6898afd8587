//! `flush`: the first flush after the mark ends the response; an in-process application may set the mark late.

use support::{Client, Handler, Httpd, Mpm, Protocol, body, wait_for};

/// Half of the text goes out; then the mark is set, and the other half goes out.
const LATE_PHP: &str = r#"<?php
require __DIR__ . '/background.php';
[$first, $second] = str_split(body(2000), 1000);
echo $first;
flush();
background($_GET['hold'], 0);
apache_setenv('finish-request', 'flush');
echo $second;
flush();
background($_GET['id']);
"#;

const LATE_LUA: &str = r#"
function handle(r)
    local background = dofile(r.filename:match("^(.*)/") .. "/background.lua")
    local query = r:parseargs()
    local text = background.body(2000)
    r.content_type = "text/plain"
    r:write(text:sub(1, 1000))
    r:flush()
    background.run(r, query.hold, 0)
    r.subprocess_env["finish-request"] = "flush"
    r:write(text:sub(1001))
    r:flush()
    background.run(r, query.id, 200)
    return apache2.OK
end
"#;

/// The first part streams, the second ends the response: with the mark set in between.
fn marked_late(httpd: &Httpd, page: &str, protocols: &[Protocol]) {
    for &protocol in protocols {
        for accept in [&[][..], &[("Accept-Encoding", "gzip")]] {
            let (hold, background) = (httpd.background(), httpd.background());
            let client = Client::connect(httpd, protocol);
            let path = format!("{}&hold={}", background.query(page), hold.id());
            let exchange = client.get(&path, accept);
            hold.wait_for_begin();
            let first = |exchange: &support::Exchange<'_>| exchange.so_far().map(|response| response.decoded_so_far());
            wait_for("the first half", || first(&exchange).filter(|first| *first == body(1000)));
            hold.open_gate();
            let response = exchange.released();
            assert_eq!(response.decoded(), body(2000), "{protocol:?} {accept:?}");
            assert_eq!(response.header("Content-Encoding").is_some(), !accept.is_empty());
            background.open_gate();
            assert_eq!(background.wait_for_done().errors, "");
        }
    }
}

fn start(builder: support::Builder) -> Httpd {
    let httpd = builder
        .modules(&["filter", "deflate", "env"])
        .config("FinishRequest On\nAddOutputFilterByType DEFLATE text/html text/plain")
        .start();
    httpd.install("late.php", LATE_PHP);
    httpd.install("late.lua", LATE_LUA);
    httpd
}

#[test]
fn php_sets_the_mark_late() {
    let httpd = start(Httpd::builder(Mpm::Prefork).handler(Handler::ModPhp));
    marked_late(&httpd, "late.php", Mpm::Prefork.protocols());
    httpd.stop();
}

#[test]
fn lua_sets_the_mark_late() {
    for mpm in Mpm::ALL {
        let httpd = start(Httpd::builder(mpm).handler(Handler::Lua));
        marked_late(&httpd, "late.lua", mpm.protocols());
        httpd.stop();
    }
}

/// The response ends before the length that its client was told: it is cut, so that nobody takes it for whole.
#[test]
fn shorter_than_the_client_was_told() {
    const SHORT: &str = r#"
function handle(r)
    local background = dofile(r.filename:match("^(.*)/") .. "/background.lua")
    r.content_type = "text/plain"
    r.headers_out["Content-Length"] = "1000"
    r:write("first")
    r:flush()
    r.subprocess_env["finish-request"] = "flush"
    r:write("second")
    r:flush()
    background.run(r, r:parseargs().id, 200)
    return apache2.OK
end
"#;
    for mpm in [Mpm::Event, Mpm::Prefork] {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).config("FinishRequest On").start();
        httpd.install("short.lua", SHORT);
        httpd.expect_log("finish_request:warn.*it ended before the end that it promised");
        for &protocol in mpm.protocols() {
            let background = httpd.background();
            let client = Client::connect(&httpd, protocol);
            let exchange = client.get(&background.query("short.lua"), &[]);
            wait_for("the response to fail", || {
                exchange.response_now().map(|response| assert!(response.is_err(), "{protocol:?}"))
            });
            assert!(!background.is_done());
            background.open_gate();
            assert_eq!(background.wait_for_done().errors, "");
        }
        httpd.stop();
    }
}

/// Set before the body begins, by the application's header or by the configuration, it ends at the first flush.
#[test]
fn the_first_flush_ends_it() {
    for (handler, mpm) in [(Handler::ModPhp, Mpm::Prefork), (Handler::Lua, Mpm::Event)] {
        let httpd = start(
            Httpd::builder(mpm)
                .handler(handler)
                .modules(&["alias"])
                .config("Alias /marked \"${WWW}\"\n<Location /marked>\nSetEnv finish-request flush\n</Location>"),
        );
        for &protocol in mpm.protocols() {
            for (folder, mark) in [("", "flush"), ("marked/", "none")] {
                let background = httpd.background();
                let client = Client::connect(&httpd, protocol);
                let page = background.query(&format!("{folder}{}", handler.page()));
                let response = client.get(&format!("{page}&length=none&mark={mark}"), &[]).released();
                assert_eq!(response.body, body(4096), "{handler:?} {protocol:?} {folder}");
                assert_eq!(response.header("X-Finish-Request"), None);
                background.open_gate();
                assert_eq!(background.wait_for_done().errors, "");
            }
        }
        httpd.stop();
    }
}

/// A flush that never comes makes an ordinary response, which ends with its handler and is whole.
#[test]
fn without_a_flush_the_response_is_ordinary() {
    const QUIET: &str = r#"
function handle(r)
    r.content_type = "text/plain"
    r.headers_out["X-Finish-Request"] = "flush"
    r:write(("x"):rep(20000))
    return apache2.OK
end
"#;
    let httpd = start(Httpd::builder(Mpm::Event).handler(Handler::Lua));
    httpd.install("quiet.lua", QUIET);
    for protocol in [Protocol::Http1, Protocol::Http1Tls, Protocol::Http2] {
        let client = Client::connect(&httpd, protocol);
        let response = client.get("/quiet.lua", &[]).response();
        assert_eq!(response.body.len(), 20000);
        assert_eq!(response.header("X-Finish-Request"), None);
    }
    assert!(!httpd.log().contains("finished early"));
    httpd.stop();
}
