//! The end of a marked response, exact to the byte, whatever its body comes in.

use std::io::{Read, Write};
use std::net::TcpStream;

use support::http1::EndKind;
use support::{Client, DEADLINE, Framing, Handler, Httpd, Mpm, body};

use crate::judge::{Application, assert_body, early, is_said_seldom, path, ran_to_its_end, side_by_side};

on_every_handler_and_mpm!(lengths);

fn lengths(handler: Handler, mpm: Mpm) {
    let httpd = Httpd::builder(mpm).handler(handler).config("FinishRequest On").start();
    let sizes = [
        // The application prints `bytes`; `end` of them are the response.
        (0, 0),
        (1, 0),
        (1, 1),
        (2, 1),
        (4096, 1),
        (4096, 4095),
        (8193, 8192),
        (65_537, 65_536),
        (300_000, 300_000),
        (300_000, 299_999),
    ];
    for &protocol in mpm.protocols() {
        side_by_side(sizes, |(bytes, end)| {
            let by_header = format!("bytes={bytes}&length={end}&mark=on");
            let by_mark = format!("bytes={bytes}&length=none&mark=length%3D{end}");
            for query in [by_header, by_mark] {
                let response = early(&httpd, protocol, handler.page(), &query, end);
                assert_eq!(response.header("Content-Length"), Some(end.to_string().as_str()), "{query}");
            }
        });
    }
    httpd.stop();
}

mod no_body {
    use super::*;

    on_every_handler_and_mpm!(ends_with_the_header);

    /// 204, 304, HEAD, and a redirect with `Content-Length: 0`, each with work behind it.
    fn ends_with_the_header(handler: Handler, mpm: Mpm) {
        let httpd = Httpd::builder(mpm).handler(handler).config("FinishRequest On").start();
        let redirects = REDIRECTS.install(&httpd, handler, "redirects");
        for &protocol in mpm.protocols() {
            side_by_side(
                [
                    ("GET", handler.page(), "bytes=0&length=none&status=204", 204),
                    ("GET", handler.page(), "bytes=0&length=none&status=304", 304),
                    ("HEAD", handler.page(), "bytes=4096", 200),
                    ("HEAD", handler.page(), "bytes=4096&mark=length%3D10", 200),
                    ("GET", &redirects, "", 302),
                ],
                |(method, page, query, status)| {
                    // mod_lua does not run at all for HEAD, and PHP under FastCGI sends nothing before it ends.
                    if method == "HEAD" && !matches!(handler, Handler::ModPhp | Handler::Cgi) {
                        return;
                    }
                    let background = httpd.background();
                    let client = Client::connect(&httpd, protocol);
                    let response = client.request(method, &path(&background, page, query), &[], None).released();
                    assert!(!background.is_done(), "the client had to wait for the background work");
                    assert_eq!((response.status, response.body.len()), (status, 0));
                    if status == 302 {
                        assert_eq!(response.header("Location"), Some("/somewhere/else"));
                    }
                    ran_to_its_end(&background);
                },
            );
        }
        httpd.stop();
    }

    const REDIRECTS: Application = Application {
        php: r#"
            http_response_code(302);
            header('Location: /somewhere/else');
            header('Content-Length: 0');
            header('X-Finish-Request: on');
            flush();
            background($_GET['id']);
        "#,
        sh: r#"
            printf 'Status: 302 Found\r\nLocation: /somewhere/else\r\nContent-Length: 0\r\n'
            printf 'X-Finish-Request: on\r\n\r\n'
            background "$id" 200
        "#,
        lua: r#"
            r.status = 302
            r.headers_out["Location"] = "/somewhere/else"
            r.headers_out["Content-Length"] = "0"
            r.headers_out["X-Finish-Request"] = "on"
            r:flush()
            background.run(r, query.id, 200)
            return apache2.OK
        "#,
    };
}

mod http_1_0 {
    use super::*;

    on_every_handler_and_mpm!(closes);

    /// A client of the last century, and one that would keep its connection: after the end it is closed.
    fn closes(handler: Handler, mpm: Mpm) {
        let httpd = Httpd::builder(mpm).handler(handler).config("FinishRequest On").start();
        for connection_header in ["", "Connection: keep-alive\r\n"] {
            for query in ["mark=on", "mark=length%3D4096&length=none"] {
                let background = httpd.background();
                let connection = httpd.connect();
                let target = path(&background, handler.page(), query);
                connection.send(format!("GET {target} HTTP/1.0\r\nHost: localhost\r\n{connection_header}\r\n"));
                let response = connection.response();
                assert_body(&response, &body(4096));
                assert_eq!(response.framing, Framing::Length(4096));
                assert!(response.header("Connection").is_some_and(|value| value.ends_with("close")));
                assert_eq!((connection.end().kind, connection.rest().len()), (EndKind::Fin, 0));
                assert!(!background.is_done());
                ran_to_its_end(&background);
            }
        }
        httpd.stop();
    }
}

mod short {
    use super::*;

    on_every_handler_and_mpm!(is_seen);

    /// Fewer bytes than the client was told: it must not take anything else for the rest.
    fn is_seen(handler: Handler, mpm: Mpm) {
        let httpd = Httpd::builder(mpm).handler(handler).config("FinishRequest On").start();
        httpd.expect_log("finish_request:warn.*ended before the end that it promised");
        let page = handler.page();
        for &protocol in mpm.protocols() {
            side_by_side(["length=5000&mark=on", "length=none&mark=length%3D5000"], |query| {
                let background = httpd.background();
                let client = Client::connect(&httpd, protocol);
                let exchange = client.get(&format!("{}&after=200", path(&background, page, query)), &[]);
                background.wait_for_begin();
                ran_to_its_end(&background);
                let Some(connection) = client.http1() else {
                    let failure = exchange.failure().expect_err("not a whole response");
                    assert!(failure.code.is_some(), "the stream is reset: {failure:?}");
                    assert!(client.http2().unwrap().is_open(), "and nothing but the stream");
                    return;
                };
                assert!(connection.response_or_end().is_err(), "not a whole response");
                let seen = connection.received();
                let head = String::from_utf8_lossy(&seen).into_owned();
                assert!(head.contains("Content-Length: 5000\r\n"), "{head}");
                let start = head.find("\r\n\r\n").unwrap() + 4;
                assert_eq!(seen[start..].len(), 4296, "all that came, and no more");
            });
        }
        is_said_seldom(&httpd, "finish_request:warn");
        httpd.stop();
    }
}

/// A filter that makes the body longer, and tells the client so: whether all has come goes by what the application promised.
#[test]
fn a_filter_that_changes_the_length() {
    const IN_TWO_PIECES: Application = Application {
        php: "",
        sh: "",
        lua: r#"
            r.content_type = "text/plain"
            r.headers_out["Content-Length"] = query.promise
            r.headers_out["X-Finish-Request"] = query.mark
            r:write(background.body(4096):sub(1, 3000))
            r:flush()
            r:write(background.body(4096):sub(3001))
            if query.id then
                background.run(r, query.id, 200)
            end
            return apache2.OK
        "#,
    };
    side_by_side(Mpm::ALL, |mpm| {
        let config = "FinishRequest On\nSetOutputFilter DATA";
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).modules(&["data"]).config(config).start();
        httpd.expect_log("finish_request:warn.*ended before the end that it promised");
        let page = IN_TWO_PIECES.install(&httpd, Handler::Lua, "pieces");
        for &protocol in mpm.protocols() {
            let expected = Client::connect(&httpd, protocol).get(&format!("/{page}?promise=4096"), &[]).response();
            assert!(expected.body.starts_with(b"data:text/plain;base64,"), "{}", expected.body.escape_ascii());
            for mark in ["on", "length%3D4096"] {
                let background = httpd.background();
                let client = Client::connect(&httpd, protocol);
                let exchange = client.get(&path(&background, &page, &format!("promise=4096&mark={mark}")), &[]);
                let response = exchange.released();
                assert!(!background.is_done());
                assert_body(&response, &expected.body);
                ran_to_its_end(&background);
            }

            let background = httpd.background();
            let client = Client::connect(&httpd, protocol);
            let exchange = client.get(&path(&background, &page, "promise=5000&mark=on"), &[]);
            background.wait_for_begin();
            ran_to_its_end(&background);
            match client.http1() {
                Some(connection) => assert!(connection.response_or_end().is_err(), "not a whole response"),
                None => _ = exchange.failure().expect_err("not a whole response"),
            }
        }
        httpd.stop();
    });
}

/// What follows on the connection of a response that was left as it is.
fn goes_on(client: &Client, target: &str, expected: &[u8]) {
    for _ in 0..3 {
        let response = client.get(target, &[]).response();
        assert_body(&response, expected);
        assert_ne!(response.header("Connection"), Some("close"));
    }
    if let Some(connection) = client.http1() {
        assert!(!connection.has_ended());
    }
}

/// Where the handler ends together with the body there is nothing to gain: the connection is kept.
#[test]
fn with_the_handler() {
    const WHOLE: Application = Application {
        php: r#"
            header('Content-Length: 4096');
            header('X-Finish-Request: on');
            echo body(4096);
        "#,
        sh: "",
        lua: r#"
            r.headers_out["Content-Length"] = "4096"
            r.headers_out["X-Finish-Request"] = "on"
            r:write(background.body(4096))
            return apache2.OK
        "#,
    };
    for (handler, mpm) in [
        (Handler::ModPhp, Mpm::Prefork),
        (Handler::Lua, Mpm::Event),
        (Handler::Lua, Mpm::Worker),
        (Handler::Lua, Mpm::Prefork),
    ] {
        let httpd = Httpd::builder(mpm).handler(handler).config("FinishRequest On").start();
        let page = WHOLE.install(&httpd, handler, "whole");
        for &protocol in mpm.protocols() {
            goes_on(&Client::connect(&httpd, protocol), &format!("/{page}"), &body(4096));
        }
        assert!(!httpd.log().contains("finished early"));
        httpd.stop();
    }
}

/// A static file, marked by the configuration: smaller, equal and greater than the promise.
#[test]
fn static_files() {
    for mpm in Mpm::ALL {
        let httpd = Httpd::builder(mpm)
            .modules(&["alias", "env"])
            .config(
                "FinishRequest On
                AliasMatch ^/[0-9on]+/(.*) ${WWW}/$1
                SetEnvIf Request_URI ^/([0-9]+)/ finish-request=length=$1
                <Location /on/>
                  SetEnv finish-request on
                </Location>",
            )
            .modules(&["setenvif"])
            .start();
        const LARGE: usize = 5_000_000;
        httpd.install("small.txt", &String::from_utf8(body(1000)).unwrap());
        httpd.install("large.txt", &String::from_utf8(body(LARGE)).unwrap());
        let cases = [
            ("/on/small.txt", 1000),
            ("/0/small.txt", 0),
            ("/1/small.txt", 1),
            ("/999/small.txt", 999),
            ("/1000/small.txt", 1000),
            ("/1001/small.txt", 1000),
            ("/9223372036854775807/small.txt", 1000),
        ];
        for &protocol in mpm.protocols() {
            let client = Client::connect(&httpd, protocol);
            for (target, length) in cases {
                let response = client.get(target, &[]).response();
                assert_body(&response, &body(length));
                assert_eq!(response.header("Content-Length"), Some(length.to_string().as_str()), "{target}");
            }
            goes_on(&client, "/999/small.txt", &body(999));

            let ranges =
                [("bytes=0-9", 0..10), ("bytes=990-998", 990..999), ("bytes=990-", 990..999), ("bytes=-9", 990..999)];
            for (range, expected) in ranges {
                let response = client.get("/999/small.txt", &[("Range", range)]).response();
                assert_eq!(response.status, 206, "{range}");
                assert_body(&response, &body(1000)[expected]);
            }
            let response = client.get("/999/small.txt", &[("Range", "bytes=999-")]).response();
            assert_eq!(response.status, 416);
            goes_on(&client, "/on/small.txt", &body(1000));
        }
        let large = body(LARGE);
        for (promise, length) in [(1_234_567, 1_234_567), (LARGE - 1, LARGE - 1), (LARGE, LARGE), (LARGE + 1, LARGE)] {
            let mut socket = TcpStream::connect(httpd.address()).unwrap();
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
            write!(socket, "GET /{promise}/large.txt HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")
                .unwrap();
            let mut bytes = Vec::new();
            socket.read_to_end(&mut bytes).unwrap();
            let head = bytes.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
            assert!(bytes[head..] == large[..length], "{promise}: {} bytes", bytes.len() - head);
        }
        httpd.stop();
    }
}

/// The next request came along with the first one, whose response says that none will be answered.
#[test]
fn pipelined() {
    for mpm in Mpm::ALL {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).config("FinishRequest On").start();
        for connection in [httpd.connect(), httpd.connect_tls()] {
            let background = httpd.background();
            let target = path(&background, "app.lua", "mark=on");
            let second = "GET /app.lua?mark=none HTTP/1.1\r\nHost: localhost\r\n\r\n";
            connection.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n{}", second.repeat(3)));
            let response = connection.response();
            assert_body(&response, &body(4096));
            assert!(response.header("Connection").is_some_and(|value| value.ends_with("close")));
            assert_eq!((connection.end().kind, connection.rest().len()), (EndKind::Fin, 0));
            ran_to_its_end(&background);
        }
        httpd.stop();
    }
}
