//! `FinishRequest Auto`: what counts as a mark without being one, and what does not.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use support::http1::EndKind;
use support::{Background, Client, Exchange, Framing, Handler, Httpd, Mpm, Protocol, Response, body, wait_for};

use crate::administrator::status::{counts, wait_for_running, with_status};
use crate::judge::{AFTER, BYTES, assert_body, ran_to_its_end};

/// How long a client is watched that must not be released.
const SHORT: Duration = Duration::from_millis(700);

/// Answers with the headers of its query, `NAME:VALUE` with commas between them, then works in the background.
const IDIOM: &str = r#"
function handle(r)
    local background = dofile(r.filename:match("^(.*)/") .. "/background.lua")
    local query = r:parseargs()
    r.content_type = "text/plain"
    for name, value in (query.headers or ""):gmatch("([%w-]+):([%w-]+)") do
        r.headers_out[name] = value
    end
    r:write(background.body(1500))
    if query.id then
        r:flush()
        background.run(r, query.id, 200)
    end
    return apache2.OK
end
"#;

/// The same as a script, whose headers httpd keeps in another table. Behind the body it prints `after` bytes, none by default: on a busy machine httpd
/// may read both at once, and then a declared end is wrong.
const SCRIPT: &str = r#"#!/bin/sh
. ./background.sh
query id ''
query headers ''
query after 0
printf 'Content-Type: text/plain\r\n'
for header in $(printf '%s' "$headers" | tr ',' ' '); do
    printf '%s: %s\r\n' "${header%%:*}" "${header#*:}"
done
printf '\r\n'
body 1500
background "$id" "$after"
"#;

const PAGES: [&str; 2] = ["idiom.lua", "idiom.cgi"];

fn builder(mpm: Mpm) -> support::Builder {
    Httpd::builder(mpm)
        .handler(Handler::Lua)
        .handler(Handler::Cgi)
        .modules(&["filter", "deflate", "alias"])
        .config("AddOutputFilterByType DEFLATE text/plain")
}

fn start(builder: support::Builder) -> Httpd {
    let httpd = builder.start();
    httpd.install("idiom.lua", IDIOM);
    httpd.install("idiom.cgi", SCRIPT);
    httpd
}

fn path(background: &Background, page: &str, headers: &str) -> String {
    format!("{}&headers={headers}", background.query(page))
}

/// Waits until the work has begun and the client would have been released long ago, had it been.
fn is_held(exchange: &Exchange<'_>, background: &Background) -> bool {
    background.wait_for_begin();
    let begun = Instant::now();
    wait_for("a client that is not released", || {
        if exchange.response_now().is_some() {
            return Some(false);
        }
        (begun.elapsed() > SHORT).then_some(true)
    })
}

#[test]
fn close_with_length_is_a_mark_on_every_protocol() {
    for mpm in [Mpm::Event, Mpm::Prefork] {
        let httpd = start(builder(mpm).config("FinishRequest Auto"));
        for &protocol in mpm.protocols() {
            for page in PAGES {
                for headers in ["Connection:close,Content-Length:1500", "Content-Length:1500,connection:Close"] {
                    let background = httpd.background();
                    let client = Client::connect(&httpd, protocol);
                    let response = client.get(&path(&background, page, headers), &[]).released();
                    assert_eq!(response.body, body(1500), "{page} {protocol:?}");
                    background.open_gate();
                    assert_eq!(background.wait_for_done().errors, "");
                }
            }
        }
        httpd.stop();
    }
}

#[test]
fn over_http2_the_length_alone_is_a_mark() {
    let httpd = start(builder(Mpm::Event).config("FinishRequest Auto"));
    let connection = httpd.connect_h2c();
    for page in PAGES {
        let background = httpd.background();
        let response = connection.get(&path(&background, page, "Content-Length:1500"), &[]).response();
        assert!(!background.is_done());
        assert_eq!(response.body, body(1500));
        background.open_gate();
        assert_eq!(background.wait_for_done().errors, "");
    }
    httpd.stop();
}

/// Neither of these is one: they are streaming, or ask for nothing; and `On` does not guess.
#[test]
fn what_is_no_mark_is_left_alone() {
    let httpd = start(builder(Mpm::Event).modules(&["headers"]).config(
        "FinishRequest Auto
         Alias /on \"${WWW}\"
         <Location /on>
           FinishRequest On
         </Location>
         Alias /added \"${WWW}\"
         <Location /added>
           Header always set Connection close
         </Location>",
    ));
    thread::scope(|scope| {
        let httpd = &httpd;
        for (protocol, folder, headers) in [
            (Protocol::Http1, "", "Content-Length:1700"),
            (Protocol::Http1, "", "Connection:close"),
            (Protocol::Http1, "", "Connection:keep-alive,Content-Length:1700"),
            (Protocol::Http1, "on/", "Connection:close,Content-Length:1700"),
            (Protocol::Http1, "added/", "Content-Length:1700"),
            (Protocol::Http2, "", "Connection:close"),
            (Protocol::Http2, "on/", "Content-Length:1700"),
        ] {
            for page in PAGES {
                scope.spawn(move || {
                    let background = httpd.background();
                    let client = Client::connect(httpd, protocol);
                    let path = path(&background, &format!("{folder}{page}"), headers) + "&after=200";
                    let exchange = client.get(&path, &[]);
                    let held = is_held(&exchange, &background);
                    assert!(held, "{protocol:?} {folder}{page} {headers}: finished early");
                    background.open_gate();
                    // All of it: also what the work printed.
                    assert_eq!(exchange.response().body.len(), 1700, "{protocol:?} {folder}{page} {headers}");
                    assert_eq!(background.wait_for_done().errors, "");
                });
            }
        }
    });
    assert!(!httpd.log().contains("finished early"));
    httpd.stop();
}

/// `Connection: close` and a flush: the first part comes at once, and nothing is cut.
#[test]
fn streaming_stays_streaming() {
    let httpd = start(builder(Mpm::Event).config("FinishRequest Auto"));
    let background = httpd.background();
    let client = Client::connect(&httpd, Protocol::Http1);
    let exchange = client.get(&path(&background, "idiom.lua", "Connection:close"), &[]);
    wait_for("the first part", || exchange.so_far().filter(|response| response.body.starts_with(&body(1500))));
    background.open_gate();
    assert_eq!(exchange.response().body, [body(1500), vec![b'L'; 200]].concat());
    httpd.stop();
}

/// Nothing is to be gained where the handler ends with the body: the connection stays too.
#[test]
fn static_files_and_handlers_that_end_with_the_body_stay_as_they_are() {
    for mpm in [Mpm::Event, Mpm::Prefork] {
        let httpd = start(builder(mpm).config("FinishRequest Auto"));
        httpd.install("small.html", "a small page");
        httpd.install("large.bin", &"a large page ".repeat(100_000));
        for &protocol in mpm.protocols() {
            let client = Client::connect(&httpd, protocol);
            for _ in 0..2 {
                let small = client.get("/small.html", &[]).response();
                assert_eq!(small.body, b"a small page");
                assert_eq!(client.get("/large.bin", &[]).response().body.len(), 1_300_000);
                let lua = client.get("/idiom.lua?headers=Content-Length:1500", &[]).response();
                assert_eq!(lua.body, body(1500));
                let closes = |response: &Response| response.header("Connection") == Some("close");
                assert!(![small, lua].iter().any(closes));
            }
            let closed = client.get("/idiom.lua?headers=Connection:close,Content-Length:1500", &[]);
            assert_eq!(closed.response().body, body(1500));
        }
        assert!(!httpd.log().contains("finished early"), "{mpm:?}: {}", httpd.log());
        httpd.stop();
    }
}

/// What `Auto` recognises goes through all filters; the header says what it says on stock httpd.
#[test]
fn headers_and_compression_are_those_of_stock_httpd() {
    let stock = start(builder(Mpm::Event).without_module());
    let with_module = start(builder(Mpm::Event).config("FinishRequest Auto"));
    for protocol in [Protocol::Http1, Protocol::Http1Tls, Protocol::Http2] {
        for accept in [&[][..], &[("Accept-Encoding", "gzip")]] {
            let headers = "Connection:close,Content-Length:1500,Cache-Control:no-store,ETag:x";
            let ask = |httpd: &Httpd, is_stock: bool| -> Response {
                let background = httpd.background();
                let client = Client::connect(httpd, protocol);
                let mut path = path(&background, "idiom.lua", headers);
                if is_stock {
                    // What is printed later is part of the response there.
                    path = path.replace("1500", "1700");
                    background.open_gate();
                }
                let exchange = client.get(&path, accept);
                let response = if is_stock { exchange.response() } else { exchange.released() };
                background.open_gate();
                assert_eq!(background.wait_for_done().errors, "");
                response
            };
            let (expected, seen) = (ask(&stock, true), ask(&with_module, false));
            assert_eq!(shown(&seen), shown(&expected), "{protocol:?} {accept:?}");
            assert_eq!(seen.decoded(), body(1500));
            assert_eq!(seen.header("Content-Encoding").is_some(), !accept.is_empty());
            let kind = |response: &Response| std::mem::discriminant(&response.framing);
            assert_eq!(kind(&seen), kind(&expected), "{protocol:?} {accept:?}");
            if protocol != Protocol::Http2 {
                assert_ne!(seen.framing, Framing::Close);
            }
        }
    }
    with_module.stop();
    stock.stop();
}

/// The headers without what is another one each time.
fn shown(response: &Response) -> Vec<String> {
    let header = |(name, value): &(String, String)| match name.to_lowercase().as_str() {
        "date" => format!("{name}: now"),
        "content-length" => format!("{name}: {}", value.replace("1700", "1500")),
        _ => format!("{name}: {value}"),
    };
    response.headers.iter().map(header).collect()
}

/// `Content-Encoding: none` is no content coding, but the recipes' way past mod_deflate: a mark of its own has it taken off, `Auto` leaves
/// all headers as they are.
#[test]
fn the_coding_that_is_none_is_taken_off_with_a_mark() {
    let httpd = start(builder(Mpm::Event).config("FinishRequest Auto\nFinishRequestBypass none"));
    let marks = [
        ("Content-Encoding:none,Content-Length:1500,Connection:close", Some("none")),
        ("Content-Encoding:None,Content-Length:1500,X-Finish-Request:on", None),
    ];
    for protocol in [Protocol::Http1, Protocol::Http1Tls, Protocol::Http2] {
        for (page, (headers, coding)) in PAGES.into_iter().flat_map(|page| marks.map(|headers| (page, headers))) {
            let background = httpd.background();
            let client = Client::connect(&httpd, protocol);
            let exchange = client.get(&path(&background, page, headers), &[("Accept-Encoding", "gzip")]);
            let response = exchange.released();
            assert_eq!(response.header("Content-Encoding"), coding, "{page} {protocol:?} {headers}");
            assert_eq!(response.body, body(1500));
            background.open_gate();
            assert_eq!(background.wait_for_done().errors, "");
        }
    }

    // What the module does not handle, it does not touch.
    let client = Client::connect(&httpd, Protocol::Http1);
    let response = client.get("/idiom.lua?headers=Content-Encoding:none", &[]).response();
    assert_eq!(response.header("Content-Encoding"), Some("none"));
    httpd.stop();
}

/// Answers in a chunk of its own, with its last chunk; then works in the background, and prints what is no chunk.
const CHUNKED: &str = r#"
function handle(r)
    local background = dofile(r.filename:match("^(.*)/") .. "/background.lua")
    r.content_type = "text/plain"
    r.headers_out["Transfer-Encoding"] = "chunked"
    r:write("5dc\r\n" .. background.body(1500) .. "\r\n0\r\n\r\n")
    r:flush()
    background.run(r, r:parseargs().id, 200)
    return apache2.OK
end
"#;

/// Own chunks go on as they are. A client whose connection is to be closed sees that at the last of them. Another one has its response by then, and
/// its connection goes on: behind the work, or at once.
#[test]
fn own_chunks_end_as_the_connection_does() {
    for mpm in [Mpm::Event, Mpm::Worker, Mpm::Prefork] {
        for keep in [false, true] {
            let connection = if keep { "Keep" } else { "Close" };
            let httpd =
                start(builder(mpm).config(&format!("FinishRequest Auto\nFinishRequestConnection {connection}")));
            httpd.install("chunked.lua", CHUNKED);
            let background = httpd.background();
            let client = httpd.connect();
            client.get(&background.query("/chunked.lua"), &[("Connection", "close")]);
            let response = client.response();
            assert_eq!((response.body, response.framing), (body(1500), Framing::Chunked));
            assert_eq!(client.end().kind, EndKind::Fin);
            assert!(!background.is_done());
            background.open_gate();
            assert_eq!(background.wait_for_done().errors, "");

            let background = httpd.background();
            let client = httpd.connect();
            client.get(&background.query("/chunked.lua"), &[]);
            let response = client.response();
            assert_eq!((response.body.clone(), response.framing), (body(1500), Framing::Chunked));
            assert_ne!(response.header("Connection"), Some("close"));
            background.wait_for_begin();
            client.get("/idiom.lua", &[]);
            if keep {
                assert_eq!(client.response().body, body(1500));
                assert!(!background.is_done(), "{mpm:?}");
            }
            background.open_gate();
            assert_eq!(background.wait_for_done().errors, "");
            if !keep {
                assert_eq!(client.response().body, body(1500), "{mpm:?}: what the work printed is lost, and no more");
            }
            httpd.stop();
        }
    }
}

mod a_client_whose_connection_is_closed_anyway {
    on_every_handler_and_mpm!(super::a_client_whose_connection_is_closed_anyway_is_let_go);
}

/// The length is right, and nothing but the client says that the connection ends: it is let go at the length, and the work goes on. Only then is
/// the response one that was finished.
fn a_client_whose_connection_is_closed_anyway_is_let_go(handler: Handler, mpm: Mpm) {
    let httpd = with_status(Httpd::builder(mpm).handler(handler))
        .config("FinishRequest Auto\nCustomLog \"${ROOT}/notes.log\" \"%{finish-request}n %>s %U\"")
        .start();
    let asks = [
        "GET {} HTTP/1.0\r\nHost: localhost\r\n\r\n",
        "GET {} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n",
    ];
    for ask in asks {
        let background = httpd.background();
        let connection = httpd.connect();
        // Its work prints nothing at once: a busy httpd would find that behind the declared end, which would be wrong then.
        let path = format!("{}&after=1", path_of(&background, handler.page()));
        connection.send(ask.replace("{}", &path));
        let response = connection.response();
        assert_body(&response, &body(BYTES));
        assert_eq!(connection.end().kind, EndKind::Fin);
        assert!(!background.is_done());
        // It has lasted long enough.
        wait_for_running(&httpd, 1);
        ran_to_its_end(&background);
        // Or the next would be taken for one that has.
        wait_for_running(&httpd, 0);
    }
    let page = handler.page().trim_start_matches('/');
    let noted = format!("auto 200 /{page}");
    wait_for("both in the log", || {
        let log = fs::read_to_string(httpd.root().join("notes.log")).unwrap_or_default();
        (log.lines().filter(|line| *line == noted).count() == asks.len()).then_some(())
    });
    assert_eq!(counts(&httpd)["Finished"], asks.len() as u64);
    httpd.stop();
}

mod pages_whose_handlers_end {
    on_every_handler_and_mpm!(super::pages_whose_handlers_end_are_ordinary);
}

/// The commonest page has the right length, and no work behind it.
fn pages_whose_handlers_end_are_ordinary(handler: Handler, mpm: Mpm) {
    let httpd = with_status(Httpd::builder(mpm).handler(handler))
        .config("FinishRequest Auto\nCustomLog \"${ROOT}/notes.log\" \"%{finish-request}n %{finish-request-us}n %>s\"")
        .start();
    let page = format!("/{}?mark=none", handler.page().trim_start_matches('/'));
    let mut asked = 0;
    for &protocol in mpm.protocols() {
        for headers in [&[][..], &[("Connection", "close")]] {
            if protocol == Protocol::Http2 && !headers.is_empty() {
                continue;
            }
            for _ in 0..5 {
                let response = Client::connect(&httpd, protocol).get(&page, headers).response();
                assert_body(&response, &body(BYTES));
                asked += 1;
            }
        }
    }
    let lines = wait_for("all in the log", || {
        let log = fs::read_to_string(httpd.root().join("notes.log")).unwrap_or_default();
        let lines: Vec<_> = log.lines().filter(|line| line.ends_with(" 200")).map(str::to_owned).collect();
        (lines.len() >= asked).then_some(lines)
    });
    // A machine that is slow enough has a handler go on for longer: then that is said, and counted.
    let slow = lines.iter().filter(|line| line.starts_with("auto ")).count();
    assert!(lines.iter().all(|line| line == "- - 200" || line.starts_with("auto ")), "{lines:?}");
    // Over TLS the access log has its line before that is known.
    let said = wait_for("each that is counted to be said", || {
        let said = httpd.log().matches("finished early").count();
        (counts(&httpd)["Finished"] == said as u64).then_some(said)
    });
    assert!(slow <= said && said <= asked, "{said} of {asked} were taken for finished, {slow} in the access log");
    let took = wait_for("the end of each that is counted", || {
        let us = |line: &str| line.split_once("has ended, ")?.1.split_once(' ')?.0.parse().ok();
        let took: Vec<u64> = httpd.log().lines().filter_map(us).collect();
        (took.len() == said).then_some(took)
    });
    assert!(took.iter().all(|us| *us > 20_000), "{took:?}");
    httpd.stop();
}

on_every_mpm!(without_a_place_it_is_ordinary_and_nobody_says_so);

fn without_a_place_it_is_ordinary_and_nobody_says_so(mpm: Mpm) {
    let httpd = with_status(Httpd::builder(mpm).handler(Handler::Lua).handler(Handler::Cgi))
        .config("FinishRequest Auto\nFinishRequestMax 0")
        .start();
    for handler in [Handler::Lua, Handler::Cgi] {
        let background = httpd.background();
        let connection = httpd.connect();
        connection.get(&path_of(&background, handler.page()), &[("Connection", "close")]);
        background.wait_for_begin();
        ran_to_its_end(&background);
        assert_body(
            &connection.response(),
            &[body(BYTES), b"L".repeat(AFTER)].concat()[..if handler == Handler::Lua { BYTES } else { BYTES + AFTER }],
        );
    }
    let counts = counts(&httpd);
    assert_eq!((counts["Finished"], counts["OverLimit"]), (0, 0));
    assert!(!httpd.log().contains("finished early"));
    httpd.stop();
}

fn path_of(background: &Background, page: &str) -> String {
    let path = crate::judge::path(background, page, "mark=none");
    if path.starts_with('/') { path } else { format!("/{path}") }
}
