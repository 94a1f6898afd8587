//! The ground that the tests stand on, tested against httpd without the module.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::thread;

use support::http1::EndKind;
use support::tools::{curl, nghttp};
use support::{Builder, Handler, Httpd, Mpm, Signal, body, wait_for};

const PAGE: &str = "/app.lua?mark=none";

fn stock() -> Builder {
    Httpd::builder(Mpm::Event).without_module().handler(Handler::Lua)
}

#[test]
fn every_client_gets_the_same() {
    let httpd = stock().start();

    for connection in [httpd.connect(), httpd.connect_tls()] {
        for _ in 0..2 {
            connection.get(PAGE, &[]);
            let response = connection.response();
            assert_eq!((response.status, response.body), (200, body(4096)));
        }
        assert!(!connection.has_ended());
    }
    for connection in [httpd.connect_http2(), httpd.connect_h2c()] {
        let streams = [connection.get(PAGE, &[]), connection.get(PAGE, &[])];
        for stream in streams {
            assert_eq!(stream.response().body, body(4096));
        }
    }
    let certificate = httpd.root().join("server.pem");
    let output = curl(&["--http2", "--cacert", certificate.to_str().unwrap(), &httpd.tls_url(PAGE)]);
    assert!(output.status.success(), "{}", output.stderr);
    assert_eq!(output.stdout, body(4096));
    assert_eq!(nghttp(&[&httpd.tls_url(PAGE)]).stdout, body(4096));
    httpd.stop();
}

#[test]
fn the_end_of_a_connection_is_noted() {
    let httpd = stock().start();
    for (connection, tls) in [(httpd.connect(), false), (httpd.connect_tls(), true)] {
        connection.get(PAGE, &[("Connection", "close")]);
        let response = connection.response();
        let end = connection.end();
        assert_eq!(end.kind, EndKind::Fin);
        assert_eq!(end.close_notify.is_some(), tls);
        assert!(response.began <= response.ended && response.ended <= end.at);
    }
    httpd.stop();
}

#[test]
fn a_paused_client_gets_the_rest_later() {
    const BYTES: usize = 4_000_000;
    let httpd = stock().start();
    let background = httpd.background();
    let connection = httpd.connect();
    connection.pause();
    let query = format!("{}&mark=none&after=0&bytes={BYTES}", background.query("app.lua"));
    connection.get(&query, &[]);
    assert!(connection.received().is_empty());
    connection.resume();
    connection.next_begins();
    background.open_gate();
    assert_eq!(connection.response().body.len(), BYTES);
    httpd.stop();
}

#[test]
fn a_gate_holds_the_application_on_every_handler() {
    for mpm in Mpm::ALL {
        let handlers = [Handler::ModPhp, Handler::ModFcgid, Handler::Cgi, Handler::PhpFpm, Handler::Lua];
        for handler in handlers.into_iter().filter(|handler| handler.runs_on(mpm)) {
            let httpd = Httpd::builder(mpm).without_module().handler(handler).start();
            let background = httpd.background();
            let connection = httpd.connect();
            let query = "mark=none&length=none&after=9&bytes=100";
            connection.get(&format!("{}&{query}", background.query(handler.page())), &[]);
            background.wait_for_begin();
            assert!(!background.is_done());
            background.open_gate();
            let done = background.wait_for_done();
            assert_eq!(done.errors, "");
            assert!(done.began <= done.gate && done.gate <= done.ended);
            assert_eq!(connection.response().body, [body(100), b"L".repeat(9)].concat());
            httpd.stop();
        }
    }
}

#[test]
fn a_complaint_fails_the_test_unless_announced() {
    let fails = |announce: &dyn Fn(&Httpd), path: &str| {
        let httpd = stock().start();
        httpd.install("broken.lua", "function handle(r) error('oh dear') end");
        announce(&httpd);
        let connection = httpd.connect();
        connection.get(path, &[]);
        connection.response();
        catch_unwind(AssertUnwindSafe(|| httpd.stop())).is_err()
    };
    const BROKEN: &str = "/broken.lua";
    assert!(!fails(&|_| {}, PAGE));
    assert!(fails(&|_| {}, BROKEN));
    assert!(!fails(&|httpd| httpd.expect_log("oh dear"), BROKEN));
    assert!(fails(&|httpd| httpd.expect_log("oh dear"), PAGE));
    assert!(!fails(&|httpd| httpd.allow_log("oh dear"), PAGE));
}

/// A machine whose OpenSSL is older than the one that mod_ssl was built with: httpd warns of it whenever it starts, with the module
/// and without, and that is nobody's fault.
#[test]
fn what_stock_httpd_says_at_its_start_is_forgiven() {
    let folder = tempfile::tempdir().unwrap();
    let (source, library) = (folder.path().join("old.c"), folder.path().join("old.so"));
    fs::write(&source, "unsigned long OpenSSL_version_num(void) { return 0x30000000L; }\n").unwrap();
    let mut build = Command::new("cc");
    build.args(["-shared", "-fPIC", "-o"]).args([&library, &source]);
    assert!(build.status().unwrap().success());

    for mpm in Mpm::ALL {
        let old = Httpd::builder(mpm).generations(4).without_module().env("LD_PRELOAD", library.to_str().unwrap());
        for _ in 0..2 {
            let httpd = old.clone().start();
            let complaints = || httpd.log().matches("AH01882").count();
            let first = complaints();
            assert_ne!(first, 0, "{}", httpd.log());
            httpd.signal(Signal::USR1);
            wait_for("the complaint of a restart", || (complaints() > first).then_some(()));
            wait_for("the restart", || (httpd.log().matches("resuming normal operations").count() == 2).then_some(()));
            httpd.stop();
        }
        // Its own configuration's is not.
        let httpd = old.config("<VirtualHost *:1>\nDocumentRoot /nowhere/at/all\n</VirtualHost>").start();
        let said = catch_unwind(AssertUnwindSafe(|| httpd.stop())).unwrap_err();
        let said = said.downcast_ref::<String>().unwrap();
        assert!(said.contains("/nowhere/at/all") && !said.contains("AH01882"), "{said}");
    }
}

#[test]
fn a_wrong_configuration_is_told() {
    let said = stock().config("KeepAlive Perhaps").try_start().err().unwrap().to_string();
    assert!(said.contains("KeepAlive"), "{said}");
}

#[test]
fn many_servers_side_by_side() {
    thread::scope(|scope| {
        for mpm in Mpm::ALL.into_iter().cycle().take(6) {
            scope.spawn(move || {
                let httpd = Httpd::builder(mpm).without_module().handler(Handler::Lua).start();
                let connection = httpd.connect();
                connection.get(PAGE, &[]);
                assert_eq!(connection.response().status, 200);
                httpd.stop();
            });
        }
    });
}

#[test]
fn an_aborted_connection_and_a_cancelled_stream_leave_a_working_server() {
    let httpd = stock().start();
    let background = httpd.background();
    let connection = httpd.connect();
    connection.get(&background.query("app.lua"), &[]);
    background.wait_for_begin();
    connection.abort();
    background.open_gate();
    background.wait_for_done();

    let background = httpd.background();
    let http2 = httpd.connect_http2();
    let stream = http2.get(&background.query("app.lua"), &[]);
    background.wait_for_begin();
    stream.cancel();
    http2.is_seen(PAGE);
    background.open_gate();
    background.wait_for_done();
    assert_eq!(httpd.connect_http2().get(PAGE, &[]).response().status, 200);
    httpd.stop();
}
