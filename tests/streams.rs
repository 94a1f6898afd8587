//! HTTP/2: a finished response ends its stream; the connection and its other streams stay.

use support::http2::{Http2, Stream};
use support::{Background, Handler, Httpd, Mpm, body, wait_for};

use crate::judge::{assert_body, path, ran_to_its_end};

/// How many requests of a connection mod_http2 works on at first.
const AT_FIRST: usize = 6;

/// Twenty streams of one connection, every second of them finished early with work that waits at its gate, the others
/// ordinary. The first are answered though the gates are shut, another connection is not held up, and in the end all are.
fn twenty(handler: Handler, mpm: Mpm, connect: fn(&Httpd) -> Http2) {
    let httpd = Httpd::builder(mpm).handler(handler).config("FinishRequest On").start();
    let connection = connect(&httpd);
    let works: Vec<Background> = (0..10).map(|_| httpd.background()).collect();
    let streams: Vec<(Stream, Option<&Background>)> = (0..20)
        .map(|index| match works.get(index / 2).filter(|_| index % 2 == 0) {
            Some(work) => (connection.get(&path(work, handler.page(), "mark=on"), &[]), Some(work)),
            None => (connection.get(&format!("/{}?mark=none", handler.page()), &[]), None),
        })
        .collect();

    // As many as are worked on at first, and those behind them that need no work.
    for (stream, work) in streams.iter().take(AT_FIRST) {
        assert_body(&stream.response(), &body(4096));
        assert!(work.is_none_or(|work| !work.is_done()));
    }
    let other = connect(&httpd);
    assert_body(&other.get(&format!("/{}?mark=none", handler.page()), &[]).response(), &body(4096));
    assert!(works.iter().all(|work| !work.is_done()));

    works.iter().for_each(Background::open_gate);
    for (stream, _) in &streams {
        assert_body(&stream.response(), &body(4096));
    }
    works.iter().for_each(|work| assert_eq!(work.wait_for_done().errors, ""));
    assert!(connection.is_open());
    httpd.stop();
}

macro_rules! twenty_streams {
    ($($name:ident: $handler:ident, $mpm:ident, $connect:ident;)*) => {
        $(
            #[test]
            fn $name() {
                twenty(Handler::$handler, Mpm::$mpm, Httpd::$connect);
            }
        )*
    };
}

twenty_streams! {
    twenty_of_mod_lua_on_event: Lua, Event, connect_http2;
    twenty_of_mod_lua_on_worker: Lua, Worker, connect_h2c;
    twenty_of_php_fpm_on_event: PhpFpm, Event, connect_h2c;
    twenty_of_mod_cgid_on_worker: Cgi, Worker, connect_http2;
    twenty_of_mod_fcgid_on_event: ModFcgid, Event, connect_http2;
}

/// Work on every stream that mod_http2 works on: the next ones wait, as for any requests, and are answered then.
#[test]
fn those_behind_wait_for_a_place() {
    for mpm in [Mpm::Event, Mpm::Worker] {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).config("FinishRequest On").start();
        let connection = httpd.connect_http2();
        let works: Vec<Background> = (0..20).map(|_| httpd.background()).collect();
        let streams: Vec<Stream> =
            works.iter().map(|work| connection.get(&path(work, "app.lua", "mark=on"), &[])).collect();
        // Which ones mod_http2 begins with is its affair.
        let answered = || streams.iter().filter(|stream| stream.response_now().is_some()).count();
        wait_for("as many as are worked on at first", || (answered() >= AT_FIRST).then_some(()));
        assert!(works.iter().all(|work| !work.is_done()));
        let other = httpd.connect_http2();
        assert_body(&other.get("/app.lua?mark=none", &[]).response(), &body(4096));

        works.iter().for_each(Background::open_gate);
        for (stream, work) in streams.iter().zip(&works) {
            assert_body(&stream.response(), &body(4096));
            assert_eq!(work.wait_for_done().errors, "");
        }
        httpd.stop();
    }
}

/// The client resets a stream whose response has come, or closes the connection: the work goes on.
#[test]
fn the_client_goes() {
    for (handler, mpm) in [
        (Handler::Lua, Mpm::Event),
        (Handler::PhpFpm, Mpm::Worker),
        (Handler::Cgi, Mpm::Event),
        (Handler::ModFcgid, Mpm::Worker),
    ] {
        let httpd = Httpd::builder(mpm).handler(handler).config("FinishRequest On").start();
        for connection in [httpd.connect_http2(), httpd.connect_h2c()] {
            let reset = httpd.background();
            let stream = connection.get(&path(&reset, handler.page(), "mark=on"), &[]);
            assert_body(&stream.response(), &body(4096));
            reset.wait_for_begin();
            stream.cancel();
            let closed = httpd.background();
            assert_body(&connection.get(&path(&closed, handler.page(), "mark=on"), &[]).response(), &body(4096));
            closed.wait_for_begin();
            assert!(!reset.is_done() && !closed.is_done());
            drop(connection);
            ran_to_its_end(&reset);
            ran_to_its_end(&closed);
        }
        httpd.stop();
    }
}
