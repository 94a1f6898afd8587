//! `Content-Length` from CGI scripts and their like: httpd drops it, and the module uses it only as far as it holds
//! the application to it.

use support::http1::EndKind;
use support::{Answer, Backend, Background, Builder, Client, Handler, Httpd, Mpm, Protocol, Speaks, body};

use crate::judge::{assert_body, path, ran_to_its_end};

const CGI_LIKE: [(Handler, Mpm); 5] = [
    (Handler::Cgi, Mpm::Event),
    (Handler::Cgi, Mpm::Worker),
    (Handler::Cgi, Mpm::Prefork),
    (Handler::PhpFpm, Mpm::Event),
    (Handler::PhpFpm, Mpm::Prefork),
];

fn with_and_without(builder: impl Fn() -> Builder) -> [Httpd; 2] {
    [builder().without_module(), builder().config("FinishRequest On")].map(Builder::start)
}

/// An unmarked response of an application that still runs has no length on stock httpd, nor with the module. Where the
/// administrator trusts the application it has one, with and without the module.
#[test]
fn unmarked() {
    for (handler, mpm) in CGI_LIKE {
        let servers = with_and_without(|| {
            Httpd::builder(mpm).handler(handler).modules(&["alias", "env"]).config(
                "Alias /trusted ${WWW}
                <Location /trusted/>
                  SetEnv ap_trust_cgilike_cl yes
                </Location>",
            )
        });
        for httpd in &servers {
            for (folder, length) in [("", None), ("trusted/", Some("4096"))] {
                // `off` and a mark that does not parse are not marked either.
                for mark in ["none", "off"] {
                    let background = httpd.background();
                    let client = Client::connect(httpd, Protocol::Http1);
                    let page = format!("{folder}{}", handler.page());
                    client.get(&format!("{}&after=0", path(&background, &page, &format!("mark={mark}"))), &[]);
                    let connection = client.http1().unwrap();
                    connection.next_begins();
                    background.wait_for_begin();
                    ran_to_its_end(&background);
                    let response = connection.response();
                    assert_body(&response, &body(4096));
                    assert_eq!(response.header("Content-Length"), length, "{page} {mark}");
                }
            }
        }
        servers.into_iter().for_each(Httpd::stop);
    }
}

/// To the script all is as without the module.
#[test]
fn a_script_does_not_see_what_keeps_its_length() {
    for mpm in Mpm::ALL {
        let servers = with_and_without(|| Httpd::builder(mpm).handler(Handler::Cgi));
        for httpd in servers {
            // app.cgi only reads this: to run a file that has just been written may fail, as a process that is being started meanwhile holds it.
            let lines =
                "printf 'Content-Type: text/plain\\n\\n'; env | grep -i -e ^ap_trust -e ^finish || echo none; exit";
            httpd.install("background.sh", lines);
            let response = Client::connect(&httpd, Protocol::Http1).get("/app.cgi", &[]).response();
            assert_eq!(response.body.escape_ascii().to_string(), "none\\n");
            httpd.stop();
        }
    }
}

/// The next answer of this backend, which declares 4096 bytes, and has sent so many.
fn answer(backend: &Backend, mark: &[(&str, &str)], bytes: usize) -> Answer {
    let mut answer = backend.next();
    answer.head(&[&[("Content-Type", "text/plain"), ("Content-Length", "4096")], mark].concat());
    answer.body(&body(bytes)).unwrap();
    answer
}

#[test]
fn mod_proxy_scgi() {
    for mpm in Mpm::ALL {
        let backend = Backend::start(Speaks::Scgi);
        let [stock, httpd] = with_and_without(|| {
            Httpd::builder(mpm).modules(&["proxy", "proxy_scgi"]).config(&backend.proxy_pass("/app"))
        });
        let answer = |mark, bytes| answer(&backend, mark, bytes);

        // Unmarked: no length, and what the application prints too much is there to see.
        for httpd in [&stock, &httpd] {
            let client = Client::connect(httpd, Protocol::Http1);
            let exchange = client.get("/app", &[]);
            let mut answer = answer(&[], 4096);
            client.http1().unwrap().next_begins();
            answer.body(b"after the end").unwrap();
            drop(answer);
            let response = exchange.response();
            assert_body(&response, &[&body(4096)[..], b"after the end"].concat());
            assert_eq!(response.header("Content-Length"), None);
        }

        for &protocol in mpm.protocols() {
            // Marked, with enough bytes and with more than enough: let go before the backend ends.
            for bytes in [4096, 5000] {
                let client = Client::connect(&httpd, protocol);
                let exchange = client.get("/app", &[]);
                let answer = answer(&[("X-Finish-Request", "on")], bytes);
                let response = exchange.released();
                assert_body(&response, &body(4096));
                assert_eq!(response.header("Content-Length"), Some("4096"));
                drop(answer);
            }
        }
        stock.stop();
        httpd.stop();
    }
}

/// mod_proxy_scgi puts a file in the place of the body, whatever length the application has said of that.
#[test]
fn a_file_by_mod_proxy_scgi() {
    for mpm in Mpm::ALL {
        let backend = Backend::start(Speaks::Scgi);
        let [stock, httpd] = with_and_without(|| {
            let config = format!("{}\nProxySCGISendfile On", backend.proxy_pass("/app"));
            Httpd::builder(mpm).modules(&["proxy", "proxy_scgi"]).config(&config)
        });
        for (httpd, mark) in [(&stock, None), (&httpd, None), (&httpd, Some("on")), (&httpd, Some("length=0"))] {
            httpd.install("file.txt", &"the file\n".repeat(1000));
            let file = httpd.root().join("www/file.txt").display().to_string();
            for &protocol in mpm.protocols() {
                let exchange = Client::connect(httpd, protocol);
                let exchange = exchange.get("/app", &[]);
                let mut answer = backend.next();
                let mut headers = vec![("Content-Type", "text/plain"), ("Content-Length", "0"), ("X-Sendfile", &*file)];
                headers.extend(mark.map(|mark| ("X-Finish-Request", mark)));
                answer.head(&headers);
                drop(answer);
                let response = exchange.response();
                // Who says where the end is, has said it.
                let expected = if mark == Some("length=0") { Vec::new() } else { b"the file\n".repeat(1000) };
                assert_body(&response, &expected);
            }
        }
        stock.stop();
        httpd.stop();
    }
}

/// Of this one httpd keeps the length: without a mark it reaches the client with the module as without it, also where the backend ends before.
#[test]
fn mod_proxy_uwsgi() {
    for mpm in Mpm::ALL {
        let backend = Backend::start(Speaks::Uwsgi);
        let servers = with_and_without(|| {
            Httpd::builder(mpm).modules(&["proxy", "proxy_uwsgi"]).config(&backend.proxy_pass("/app"))
        });
        let answer = |mark, bytes| answer(&backend, mark, bytes);

        for mark in [&[][..], &[("X-Finish-Request", "off")]] {
            for (request, bytes) in [
                ("GET /app HTTP/1.1", 4096),
                ("GET /app HTTP/1.0", 4096),
                ("HEAD /app HTTP/1.1", 0),
                // The backend dies.
                ("GET /app HTTP/1.1", 1000),
                ("GET /app HTTP/1.0", 1000),
            ] {
                let [expected, seen] = servers.each_ref().map(|httpd| {
                    let connection = httpd.connect();
                    connection.send(format!("{request}\r\nHost: localhost\r\nConnection: close\r\n\r\n"));
                    drop(answer(mark, bytes));
                    let kind = connection.end().kind;
                    let received = String::from_utf8(connection.received()).unwrap();
                    let own = |line: &&str| line.starts_with("Date: ") || line.starts_with("X-Finish-Request: ");
                    let lines: String = received.split_inclusive('\n').filter(|line| !own(line)).collect();
                    (kind, lines)
                });
                assert!(expected.1.contains("Content-Length: 4096\r\n"), "{request}: {}", expected.1);
                assert_eq!(seen, expected, "{request} {mark:?} {bytes}");
            }
        }
        let [stock, httpd] = &servers;
        for &protocol in mpm.protocols() {
            for server in [stock, httpd] {
                let client = Client::connect(server, protocol);
                for _ in 0..2 {
                    let exchange = client.get("/app", &[]);
                    drop(answer(&[], 4096));
                    let response = exchange.response();
                    assert_body(&response, &body(4096));
                    assert_eq!(response.header("Content-Length"), Some("4096"));
                }
            }

            // Marked, it is held to its length, as others are.
            for bytes in [4096, 5000] {
                let client = Client::connect(httpd, protocol);
                let exchange = client.get("/app", &[]);
                let answer = answer(&[("X-Finish-Request", "on")], bytes);
                let response = exchange.released();
                assert_body(&response, &body(4096));
                assert_eq!(response.header("Content-Length"), Some("4096"));
                drop(answer);
            }
            let client = Client::connect(httpd, protocol);
            let exchange = client.get("/app", &[]);
            drop(answer(&[("X-Finish-Request", "on")], 1000));
            match client.http1() {
                Some(connection) => assert!(connection.response_or_end().is_err(), "not a whole response"),
                None => _ = exchange.failure().expect_err("not a whole response"),
            }
        }
        httpd.expect_log("finish_request:warn.*ended before the end that it promised");
        servers.into_iter().for_each(Httpd::stop);
    }
}

/// Marked, an application is held to its length: neither more nor fewer bytes on a connection that goes on.
#[test]
fn marked() {
    for (handler, mpm) in CGI_LIKE {
        let httpd = Httpd::builder(mpm).handler(handler).config("FinishRequest On").start();
        httpd.expect_log("finish_request:warn.*ended before the end that it promised");
        let ask = |length: usize| -> (Background, Client) {
            let background = httpd.background();
            let client = Client::connect(&httpd, Protocol::Http1);
            client.get(&path(&background, handler.page(), &format!("mark=on&length={length}")), &[]);
            (background, client)
        };
        let (background, client) = ask(100);
        let connection = client.http1().unwrap();
        assert_body(&connection.response(), &body(100));
        assert_eq!((connection.end().kind, connection.rest().len()), (EndKind::Fin, 0));
        ran_to_its_end(&background);

        let (background, client) = ask(10_000);
        let connection = client.http1().unwrap();
        ran_to_its_end(&background);
        assert!(connection.response_or_end().is_err());
        assert_eq!(connection.end().kind, EndKind::Fin);
        httpd.stop();
    }
}
