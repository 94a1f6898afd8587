//! mod_proxy in front of applications, whatever it speaks with them: the module is in httpd, not in the application's server.
//! (php-fpm behind mod_proxy_fcgi is one of the handlers that most tests run under.)

use support::{Answer, Backend, Client, Handler, Httpd, Mpm, Protocol, Speaks, body, wait_for};

use crate::judge::{BYTES, assert_body, path, ran_to_its_end, side_by_side};

const ALL: [Speaks; 3] = [Speaks::Ajp, Speaks::Scgi, Speaks::Uwsgi];

fn server(mpm: Mpm, backend: &Backend, speaks: Speaks, config: &str) -> Httpd {
    Httpd::builder(mpm)
        .modules(&["proxy", speaks.module()])
        .config(&format!("ProxyPass /static.txt !\n{}\nFinishRequest On\n{config}", backend.proxy_pass("/app")))
        .start()
}

/// The next request's answer, with the beginning of a marked response.
#[track_caller]
fn marked(backend: &Backend) -> Answer {
    let mut answer = backend.next();
    answer.head(&[("Content-Type", "text/plain"), ("X-Finish-Request", "length=4096")]);
    answer
}

fn on_all(check: impl Fn(Mpm, Speaks) + Sync) {
    side_by_side(Mpm::ALL.into_iter().flat_map(|mpm| ALL.map(|speaks| (mpm, speaks))), |(mpm, speaks)| {
        check(mpm, speaks);
    });
}

/// The client is let go while the backend still has something to say, which nobody gets.
#[test]
fn finish_early() {
    on_all(|mpm, speaks| {
        let backend = Backend::start(speaks);
        for connection in ["Close", "Keep"] {
            let httpd = server(mpm, &backend, speaks, &format!("FinishRequestConnection {connection}"));
            httpd.install("static.txt", "a static file\n");
            for &protocol in mpm.protocols() {
                let client = Client::connect(&httpd, protocol);
                let exchange = client.get("/app", &[]);
                let mut answer = marked(&backend);
                answer.body(&body(BYTES)).unwrap();
                let response = match (protocol, connection) {
                    (Protocol::Http1, "Keep") => exchange.response(),
                    _ => exchange.released(),
                };
                assert_body(&response, &body(BYTES));
                assert_eq!(response.header("X-Finish-Request"), None);
                answer.body(b"after the end").unwrap();
                // More than the kernel takes: somebody reads it.
                for _ in 0..16 {
                    answer.body(&[b'L'; 1_000_000]).unwrap();
                }
                if protocol == Protocol::Http2 || (protocol, connection) == (Protocol::Http1, "Keep") {
                    assert_body(&client.get("/static.txt", &[]).response(), b"a static file\n");
                }
                drop(answer);
                drop(client);
            }
            wait_for("the work's end", || {
                (httpd.log().matches("the background work has ended").count() == mpm.protocols().len()).then_some(())
            });
            httpd.stop();
        }
    });
}

/// A backend whose client goes away is read to its end.
#[test]
fn continue_on_abort() {
    // More than the kernel takes for a client that is not there.
    const PIECE: usize = 1_000_000;
    const PIECES: usize = 16;
    on_all(|mpm, speaks| {
        let backend = Backend::start(speaks);
        let httpd = server(mpm, &backend, speaks, "FinishRequestOnAbort Continue");
        for &protocol in mpm.protocols() {
            let client = Client::connect(&httpd, protocol);
            let exchange = client.get("/app", &[]);
            let mut answer = backend.next();
            answer.head(&[("Content-Type", "text/plain"), ("X-Finish-Request", "length=17000000")]);
            answer.body(&body(BYTES)).unwrap();
            drop(exchange);
            client.abort();
            for piece in 0..PIECES {
                let taken = answer.body(&[b'L'; PIECE]);
                assert!(taken.is_ok(), "{mpm:?} {speaks:?} {protocol:?}: {taken:?} for piece {piece}");
            }
            drop(answer);
        }
        wait_for("the requests' end", || {
            let lines = httpd.access_log();
            (lines.iter().filter(|line| line.ends_with(" X")).count() == mpm.protocols().len()).then_some(())
        });
        httpd.stop();
    });
}

/// A backend whose client goes away is given up, as on a server without the module.
#[test]
fn stop_on_abort() {
    on_all(|mpm, speaks| {
        let backend = Backend::start(speaks);
        let httpd = server(mpm, &backend, speaks, "");
        let asked: Vec<_> = mpm
            .protocols()
            .iter()
            .flat_map(|&protocol| ["length=17000000", "off"].map(|mark| (protocol, mark)))
            .collect();
        for (protocol, mark) in &asked {
            let client = Client::connect(&httpd, *protocol);
            let exchange = client.get("/app", &[]);
            let mut answer = backend.next();
            answer.head(&[("Content-Type", "text/plain"), ("X-Finish-Request", mark)]);
            answer.body(&body(BYTES)).unwrap();
            drop(exchange);
            client.abort();
            wait_for("httpd to give the backend up", || answer.body(&[b'L'; 100_000]).is_err().then_some(()));
        }
        let aborted = || httpd.access_log().iter().filter(|line| line.ends_with(" X")).count();
        wait_for("the requests to be logged", || (aborted() == asked.len()).then_some(()));
        httpd.stop();
    });
}

/// Work that is not silent ends at its limit.
#[test]
fn end_at_the_time_limit() {
    on_all(|mpm, speaks| {
        let backend = Backend::start(speaks);
        let httpd = server(mpm, &backend, speaks, "FinishRequestTimeout 1");
        httpd.expect_log("background work of /app has reached the 1 seconds of FinishRequestTimeout");
        let client = Client::connect(&httpd, Protocol::Http1);
        let exchange = client.get("/app", &[]);
        let mut answer = marked(&backend);
        answer.body(&body(BYTES)).unwrap();
        assert_body(&exchange.released(), &body(BYTES));
        wait_for("httpd to give the backend up", || answer.body(b"still there").is_err().then_some(()));
        httpd.stop();
    });
}

/// A server that is a backend itself, without the module: the one in front ends the response early. mod_proxy_http2 would give
/// the work up with the stream of its client, unless the client's going is to be borne: then that stream waits.
#[test]
fn another_httpd() {
    let backend = Httpd::builder(Mpm::Event).handler(Handler::Cgi).without_module().start();
    let address = backend.address();
    let cases = [Mpm::Event, Mpm::Worker, Mpm::Prefork].into_iter().flat_map(|mpm| {
        let schemes = if mpm.has_http2() { &["http", "h2c", "balancer"][..] } else { &["http"] };
        schemes.iter().flat_map(move |scheme| ["Stop", "Continue"].map(|on_abort| (mpm, *scheme, on_abort)))
    });
    side_by_side(cases, |(mpm, scheme, on_abort)| {
        let modules = ["proxy", "proxy_http", "proxy_http2", "proxy_balancer", "slotmem_shm", "lbmethod_byrequests"];
        let modules = if mpm.has_http2() { &modules } else { &modules[..2] };
        let pass = match scheme {
            "balancer" => format!(
                "<Proxy balancer://members>
                   BalancerMember h2c://{address} disablereuse=on
                 </Proxy>
                 ProxyPass / balancer://members/"
            ),
            _ => format!("ProxyPass / {scheme}://{address}/ disablereuse=on"),
        };
        let config = format!("FinishRequest On\nFinishRequestOnAbort {on_abort}\n{pass}");
        let front = Httpd::builder(mpm).modules(modules).config(&config).start();
        for &protocol in mpm.protocols() {
            let background = backend.background();
            let client = Client::connect(&front, protocol);
            let exchange =
                client.get(&path(&background, "app.cgi", "mark=length%3D4096&length=none&after=4000000"), &[]);
            let response = if (protocol, scheme, on_abort) == (Protocol::Http2, "h2c", "Stop") {
                background.wait_for_begin();
                ran_to_its_end(&background);
                exchange.response()
            } else {
                let response = exchange.released();
                assert!(!background.is_done());
                ran_to_its_end(&background);
                response
            };
            assert_body(&response, &body(BYTES));
        }
        front.stop();
    });
    backend.stop();
}
