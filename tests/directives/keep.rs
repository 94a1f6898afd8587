//! `FinishRequestConnection Keep`: the client's connection goes on while the background work runs.

use std::fs;
use std::time::{Duration, Instant};

use support::http1::{Connection, EndKind};
use support::{Background, Handler, Httpd, Mpm, Response, body, wait_for};

use crate::directives::kept_bodies::{BETWEEN, post};
use crate::judge::{Application, assert_body, path, ran_to_its_end, side_by_side};

pub const KEEP: &str = "LogLevel finish_request:debug\nFinishRequest On\nFinishRequestConnection Keep\n\
                    CustomLog \"${ROOT}/kept.log\" \"%h %{remote}p %A %p %k %X %{finish-request}n %D %U\"\n";

/// Whether the response says that the connection goes on.
pub fn keeps(response: &Response) -> bool {
    !response.header("Connection").is_some_and(|value| value.contains("close"))
}

/// The client's connection is closed in good order, with nothing behind what was taken.
#[track_caller]
pub fn is_closed(connection: &Connection) {
    let end = connection.end();
    assert_eq!((end.kind, connection.rest().escape_ascii().to_string().as_str()), (EndKind::Fin, ""));
}

/// A request that is not marked is answered, and its connection goes on.
#[track_caller]
fn goes_on(connection: &Connection, handler: Handler) {
    connection.get(&format!("/{}?mark=none&bytes=77", handler.page()), &[]);
    assert_body(&connection.response(), &body(77));
}

on_every_handler_and_mpm!(requests_in_a_row);

/// Ten requests over one connection; the background work of each waits at its gate until all have been answered.
fn requests_in_a_row(handler: Handler, mpm: Mpm) {
    let httpd = Httpd::builder(mpm).handler(handler).workers(24).config(KEEP).start();
    let connection = httpd.connect();
    let works: Vec<Background> = (0..10).map(|_| httpd.background()).collect();
    for background in &works {
        connection.get(&path(background, handler.page(), "mark=on"), &[]);
        let response = connection.response();
        assert_body(&response, &body(4096));
        assert!(keeps(&response));
        background.wait_for_begin();
    }
    assert!(works.iter().all(|background| !background.is_done()));
    assert!(!connection.has_ended());
    works.iter().for_each(|background| {
        ran_to_its_end(background);
    });
    connection.get("/?after", &[("Connection", "close")]);
    connection.response();
    is_closed(&connection);
    httpd.stop();
}

/// Behind more blank lines than httpd reads over nothing is a request: the connection ends, and no answer is another request's.
#[test]
fn many_blank_lines_before_the_next_request() {
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).config(KEEP).start();
        let mut works = Vec::new();
        for (lines, goes_on) in [(1, true), (32, false), (400, false)] {
            let connection = httpd.connect();
            let [first, second, third] = [100, 200, 300].map(|length| request(&httpd, true, length, &mut works));
            connection.send([first, "\r\n".repeat(lines), second].concat());
            assert_eq!(connection.response().body, body(100));
            connection.send(third);
            if goes_on {
                assert_eq!(connection.response().body, body(200));
                assert_eq!(connection.response().body, body(300));
                continue;
            }
            assert_eq!(connection.end().kind, EndKind::Fin);
            assert_eq!(connection.rest(), b"");
            works.truncate(works.len() - 2);
        }
        works.iter().for_each(|background| {
            ran_to_its_end(background);
        });
        httpd.stop();
    });
}

/// A thousand requests over one connection, each with work that takes 200 ms, and does not end before the next request has been
/// answered.
#[test]
fn a_thousand_in_a_row() {
    const REQUESTS: usize = 1000;
    const WORK: &str = "local query = r:parseargs()
        r.content_type = 'text/plain'
        r.headers_out['X-Finish-Request'] = 'length=2'
        r:write('ok')
        r:flush()
        local function file(extension, how)
            return io.open('@GATES@/' .. query.id .. extension, how)
        end
        local limit = r:clock() + 75000000
        r.usleep(200000)
        local next = file('.next', 'r')
        while not next and r:clock() < limit do
            r.usleep(10000)
            next = file('.next', 'r')
        end
        local log = file('.thousand', 'w')
        log:write(next and 'done' or 'late')
        log:close()
        return apache2.OK";
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            // Enough for all that a fast machine asks for within 200 ms; prefork takes its time to have as many.
            .workers(if mpm == Mpm::Prefork { 128 } else { 320 })
            .config(KEEP)
            .config("FinishRequestMax none\nMaxKeepAliveRequests 0\nLogLevel finish_request:warn")
            .start();
        httpd.may_be_full();
        httpd.install("work.lua", &format!("function handle(r)\n{WORK}\nend\n"));
        let connection = httpd.connect();
        let gate = |id: usize, extension: &str| httpd.root().join(format!("gates/{id}.{extension}"));
        for id in 0..REQUESTS {
            connection.get(&format!("/work.lua?id={id}"), &[]);
            let response = connection.response();
            assert_eq!((response.body.as_slice(), keeps(&response)), (b"ok".as_slice(), true));
            if id > 0 {
                fs::write(gate(id - 1, "next"), "").unwrap();
            }
        }
        fs::write(gate(REQUESTS - 1, "next"), "").unwrap();
        for id in 0..REQUESTS {
            let text = || fs::read_to_string(gate(id, "thousand")).ok().filter(|text| !text.is_empty());
            assert_eq!(wait_for("a work to be done", text), "done", "{id}");
        }
        assert!(!connection.has_ended());
        httpd.stop();
    });
}

/// A kept connection on which nothing comes ends after `KeepAliveTimeout`, and nothing is logged for it.
#[test]
fn an_idle_one_ends_without_a_trace() {
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .modules(&["reqtimeout"])
            .config(KEEP)
            .config("KeepAliveTimeout 12")
            .start();
        let (first, second) = (httpd.background(), httpd.background());
        let connection = httpd.connect();
        let mut sent = Instant::now();
        for background in [&first, &second] {
            sent = Instant::now();
            connection.get(&path(background, "app.lua", "mark=on"), &[]);
            assert!(keeps(&connection.response()));
            background.wait_for_begin();
        }
        is_closed(&connection);
        // Event takes what is due within a tenth of a second together.
        assert!(sent.elapsed() >= Duration::from_millis(11_800), "closed after {:?}", sent.elapsed());
        assert!(!first.is_done() && !second.is_done());
        ran_to_its_end(&first);
        ran_to_its_end(&second);
        // Its end is logged before it is closed.
        let lines = httpd.access_log();
        assert_eq!(lines.len(), 2, "{lines:?}");
        httpd.stop();
    });
}

/// On event idle kept connections hold no thread: there are more of them than threads, and the server answers.
#[test]
fn idle_ones_hold_no_thread_on_event() {
    let httpd = Httpd::builder(Mpm::Event).handler(Handler::Lua).workers(4).config(KEEP).start();
    // One after the other: a new connection holds a thread until its first request has come.
    let connections: Vec<Connection> = (0..9)
        .map(|_| {
            let (connection, background) = (httpd.connect(), httpd.background());
            connection.get(&path(&background, "app.lua", "mark=on"), &[]);
            assert!(keeps(&connection.response()));
            ran_to_its_end(&background);
            connection
        })
        .collect();
    for connection in &connections {
        goes_on(connection, Handler::Lua);
        assert!(!connection.has_ended());
    }
    httpd.stop();
}

/// `MaxKeepAliveRequests` and `%k` count on: as on a connection whose responses are not marked.
#[test]
fn requests_are_counted_on() {
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).config(KEEP).config("MaxKeepAliveRequests 4").start();
        let mut seen = Vec::new();
        for mark in ["none", "on"] {
            let connection = httpd.connect();
            let mut kept = Vec::new();
            while kept.len() < 10 && kept.last().copied().unwrap_or(true) {
                let background = httpd.background();
                connection.get(
                    &path(&background, "app.lua", &format!("mark={mark}&after=0")),
                    &[("Connection", "keep-alive")],
                );
                if mark == "none" {
                    background.open_gate();
                }
                let response = connection.response();
                kept.push(keeps(&response));
                ran_to_its_end(&background);
            }
            is_closed(&connection);
            seen.push(kept);
        }
        assert_eq!(seen[0], seen[1]);
        assert!(seen[0].len() >= 4);
        let log = wait_for("the access log", || {
            let log = fs::read_to_string(httpd.root().join("kept.log")).unwrap();
            (log.lines().count() == 2 * seen[0].len()).then_some(log)
        });
        let counts = |marked| -> Vec<String> {
            let lines = log.lines().map(|line| line.split(' ').collect::<Vec<_>>());
            lines.filter(|line| (line[6] == "header") == marked).map(|line| line[4].to_owned()).collect()
        };
        assert_eq!(counts(true), counts(false));
        assert_eq!(counts(true).len(), seen[0].len());
        httpd.stop();
    });
}

pub fn request(httpd: &Httpd, marked: bool, bytes: usize, works: &mut Vec<Background>) -> String {
    let query = if marked {
        works.push(httpd.background());
        path(works.last().unwrap(), "app.lua", &format!("mark=on&bytes={bytes}"))
    } else {
        format!("/app.lua?mark=none&bytes={bytes}")
    };
    format!("GET {query} HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// Requests that come in one packet are answered in their order, none is lost, none is answered twice.
#[test]
fn pipelined_requests() {
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).workers(64).config(KEEP).start();
        for number in [2, 3, 7, 20] {
            for marked in [|_| true, |n| n % 2 == 0, |n| n % 3 == 1] as [fn(usize) -> bool; 3] {
                let connection = httpd.connect();
                let mut works = Vec::new();
                let text: String = (0..number).map(|n| request(&httpd, marked(n), 100 + n, &mut works)).collect();
                connection.send(text);
                for n in 0..number {
                    let response = connection.response();
                    assert_body(&response, &body(100 + n));
                    assert!(keeps(&response));
                }
                works.iter().for_each(Background::wait_for_begin);
                assert!(works.iter().all(|work| !work.is_done()));
                works.iter().for_each(|work| {
                    ran_to_its_end(work);
                });
                assert_eq!(connection.rest(), b"");
                goes_on(&connection, Handler::Lua);
            }
        }
        let lines = httpd.access_log();
        for line in &lines {
            let id = line.split("id=").nth(1).and_then(|rest| rest.split('&').next());
            let twice = |id: &str| lines.iter().filter(|line| line.contains(&format!("id={id}&"))).count() != 1;
            assert!(!id.is_some_and(twice), "{line}");
        }
        httpd.stop();
    });
}

/// Half of the next request, or all but its last byte, is in the packet of the first; the rest comes later.
#[test]
fn half_a_request_is_there_already() {
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).modules(&["reqtimeout"]).workers(32).config(KEEP).start();
        let mut works = Vec::new();
        let length = request(&httpd, true, 200, &mut works).len();
        works.clear();
        for cut in [1, 3, 16, length - 3, length - 1] {
            let connection = httpd.connect();
            let first = request(&httpd, true, 100, &mut works);
            let second = request(&httpd, true, 200, &mut works);
            connection.send(first + &second[..cut]);
            assert_body(&connection.response(), &body(100));
            works[0].wait_for_begin();
            connection.send(&second[cut..]);
            assert_body(&connection.response(), &body(200));
            assert!(works.iter().all(|work| !work.is_done()));
            works.drain(..).for_each(|work| {
                ran_to_its_end(&work);
            });
            goes_on(&connection, Handler::Lua);
        }
        httpd.stop();
    });
}

/// Empty lines behind a request, as some clients send them, are not the beginning of the next one: the connection waits for
/// that as long as `KeepAliveTimeout` says, which is shorter than `Timeout`.
#[test]
fn empty_lines_between_requests() {
    side_by_side(Mpm::ALL, |mpm| {
        let httpd =
            Httpd::builder(mpm).handler(Handler::Lua).workers(32).config(KEEP).config("KeepAliveTimeout 12").start();
        for lines in ["\r\n", "\n", "\r\n\r\n"] {
            let mut works = Vec::new();
            let connection = httpd.connect();
            connection.send(request(&httpd, true, 100, &mut works) + lines);
            assert_body(&connection.response(), &body(100));
            connection
                .send(request(&httpd, true, 200, &mut works) + lines + &request(&httpd, true, 300, &mut works) + lines);
            assert_body(&connection.response(), &body(200));
            assert_body(&connection.response(), &body(300));
            is_closed(&connection);
            works.drain(..).for_each(|work| {
                ran_to_its_end(&work);
            });
        }
        httpd.stop();
    });
}

/// A POST with its body, wholly or in part, is in the packet of a marked GET.
#[test]
fn a_pipelined_post() {
    const ECHO: Application = Application {
        php: "",
        sh: "",
        lua: "local text = r:requestbody()
              r.content_type = 'text/plain'
              r.headers_out['X-Finish-Request'] = 'length=' .. #text
              r:write(text)
              r:flush()
              background.run(r, query.id, 0)
              return apache2.OK",
    };
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).workers(32).config(KEEP).start();
        let page = ECHO.install(&httpd, Handler::Lua, "echo");
        let text = body(3000);
        for cut in [0, 1, 1500, 3000] {
            let connection = httpd.connect();
            let mut works = Vec::new();
            let first = request(&httpd, true, 100, &mut works);
            let post = httpd.background();
            let third = request(&httpd, true, 300, &mut works);
            let head = format!(
                "POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Type: text/plain\r\nContent-Length: 3000\r\n\r\n",
                post.query(&page)
            );
            connection.send([first.as_bytes(), head.as_bytes(), &text[..cut]].concat());
            assert_body(&connection.response(), &body(100));
            connection.send([&text[cut..], third.as_bytes()].concat());
            let response = connection.response();
            assert_body(&response, &text);
            assert!(keeps(&response));
            assert_body(&connection.response(), &body(300));
            assert!(works.iter().chain([&post]).all(|work| !work.is_done()));
            works.iter().chain([&post]).for_each(|work| {
                ran_to_its_end(work);
            });
            goes_on(&connection, Handler::Lua);
        }
        httpd.stop();
    });
}

/// What is in the way of a kept connection. The response says so, and the connection is closed in good order.
#[test]
fn what_cannot_be_kept() {
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .modules(&["headers", "env", "setenvif"])
            .config(KEEP)
            .config("SetEnvIf Request_URI closing nokeepalive")
            .start();
        let close = Application {
            php: "",
            sh: "",
            lua: "r.headers_out['Connection'] = 'close'
            background.answer(r)
            background.run(r, query.id, 0)
            return apache2.OK",
        };
        let closes = close.install(&httpd, Handler::Lua, "closes");
        httpd.install("closing.lua", &fs::read_to_string(httpd.root().join("www/app.lua")).unwrap());
        let cases: [(&str, bool, &str, &str); 6] = [
            ("app.lua", true, "HTTP/1.1", ""),
            ("app.lua", false, "HTTP/1.0", ""),
            ("app.lua", false, "HTTP/1.1", "Connection: close\r\n"),
            ("app.lua", false, "HTTP/1.0", "Connection: close\r\n"),
            (&closes, false, "HTTP/1.1", ""),
            ("closing.lua", false, "HTTP/1.1", ""),
        ];
        for (page, tls, version, headers) in cases {
            let background = httpd.background();
            let connection = if tls { httpd.connect_tls() } else { httpd.connect() };
            let target = path(&background, page, "mark=on");
            connection.send(format!("GET {target} {version}\r\nHost: localhost\r\n{headers}\r\n"));
            let response = connection.response();
            assert_body(&response, &body(4096));
            assert!(!keeps(&response), "{page} {version} {headers}");
            is_closed(&connection);
            assert_eq!(connection.end().close_notify.is_some(), tls);
            assert!(!background.is_done());
            ran_to_its_end(&background);
        }
        httpd.stop();
    });
}

/// Its length is not known when the header goes.
const UNKNOWN: Application = Application {
    php: "",
    sh: "",
    lua: "r.content_type = 'text/plain'
          r.headers_out['X-Finish-Request'] = 'boundary=\"----a-boundary-of-some-length\"'
          r:write(background.body(4096):sub(1, 2000))
          r:flush()
          r:write(background.body(4096):sub(2001) .. '----a-boundary-of-some-length')
          r:flush()
          background.run(r, query.id, 0)
          return apache2.OK",
};

/// HTTP/1.0 with `Connection: keep-alive` and a length is kept; without a length it cannot be.
#[test]
fn http_1_0_with_keep_alive() {
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).config(KEEP).start();
        let connection = httpd.connect();
        let works: Vec<Background> = (0..3).map(|_| httpd.background()).collect();
        for background in &works {
            let target = path(background, "app.lua", "mark=on");
            connection.send(format!("GET {target} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
            let response = connection.response();
            assert_body(&response, &body(4096));
            assert!(response.header("Connection").is_some_and(|value| value.contains("Keep-Alive")));
            background.wait_for_begin();
        }
        assert!(works.iter().all(|background| !background.is_done()));
        works.iter().for_each(|background| {
            ran_to_its_end(background);
        });
        let background = httpd.background();
        let page = UNKNOWN.install(&httpd, Handler::Lua, "unknown");
        let target = background.query(&page);
        connection.send(format!("GET {target} HTTP/1.0\r\nConnection: keep-alive\r\n\r\n"));
        is_closed_after(&connection, &body(4096));
        ran_to_its_end(&background);
        httpd.stop();
    });
}

/// The body ends with the connection.
#[track_caller]
fn is_closed_after(connection: &Connection, body: &[u8]) {
    assert_eq!(connection.end().kind, EndKind::Fin);
    let response = connection.response();
    assert!(!keeps(&response));
    assert_body(&response, body);
}

/// The PROXY protocol speaks at the start of a connection only: such a connection is closed.
#[test]
fn the_proxy_protocol() {
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .modules(&["remoteip"])
            .config(KEEP)
            .config("RemoteIPProxyProtocol On")
            .start();
        let background = httpd.background();
        let connection = httpd.connect();
        connection.send("PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n");
        connection.get(&path(&background, "app.lua", "mark=on"), &[]);
        let response = connection.response();
        assert_body(&response, &body(4096));
        assert!(!keeps(&response));
        is_closed(&connection);
        ran_to_its_end(&background);
        assert!(httpd.access_log().iter().any(|line| line.starts_with("192.0.2.1 ")));
        httpd.stop();
    });
}

/// Any filter of another module, for what comes or for what goes, may know something of its connection: it is closed.
#[test]
fn a_foreign_filter() {
    let cases = Mpm::ALL.into_iter().flat_map(|mpm| ["Input", "Output"].map(|side| (mpm, side)));
    side_by_side(cases, |(mpm, side)| {
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .modules(&["dumpio"])
            .config(KEEP)
            .config(&format!("DumpIO{side} On\nLogLevel dumpio:trace7"))
            .start();
        let background = httpd.background();
        let connection = httpd.connect();
        connection.get(&path(&background, "app.lua", "mark=on"), &[]);
        let response = connection.response();
        assert_body(&response, &body(4096));
        assert!(!keeps(&response));
        is_closed(&connection);
        assert!(!background.is_done());
        ran_to_its_end(&background);
        drop(connection);
        httpd.stop();
    });
}

/// `Keep` in .htaccess alone: the server has no socket for it, and the response says that it is closed.
#[test]
fn htaccess_alone_cannot_keep() {
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .config("FinishRequest On\n<Directory \"${WWW}\">\nAllowOverride All\n</Directory>")
            .start();
        httpd.install(".htaccess", "FinishRequestConnection Keep\n");
        let background = httpd.background();
        let connection = httpd.connect();
        connection.get(&path(&background, "app.lua", "mark=on"), &[]);
        let response = connection.response();
        assert!(!keeps(&response));
        is_closed(&connection);
        ran_to_its_end(&background);
        httpd.stop();
    });
}

/// Responses without a body, a request's body that is asked for by `100 Continue`, a client that closes its own side, and one that
/// goes on sending at the end: with `Close` as with `Keep`.
#[test]
fn odd_requests() {
    let cases = Mpm::ALL.into_iter().flat_map(|mpm| [(mpm, false), (mpm, true)]);
    side_by_side(cases, |(mpm, keep)| {
        let config = if keep { KEEP } else { "FinishRequest On" };
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).handler(Handler::Cgi).workers(32).config(config).start();
        let page = BETWEEN.install(&httpd, Handler::Lua, "between");
        let ends = |connection: &Connection, kept: bool, response: &Response, background: &Background| {
            assert_eq!(keeps(response), kept);
            background.wait_for_begin();
            assert!(!background.is_done());
            if kept {
                goes_on(connection, Handler::Lua);
            } else {
                is_closed(connection);
            }
            ran_to_its_end(background);
        };

        // mod_lua runs nothing for HEAD.
        for (page, method, status) in [
            ("app.cgi", "HEAD", 200),
            ("app.cgi", "HEAD", 304),
            ("app.cgi", "GET", 304),
            ("app.lua", "GET", 204),
            ("app.lua", "GET", 304),
        ] {
            let (connection, background) = (httpd.connect(), httpd.background());
            let target = path(&background, page, &format!("mark=on&status={status}"));
            connection.request(method, &target, &[], None);
            let response = connection.head_response();
            assert_eq!(response.status, status);
            ends(&connection, keep, &response, &background);
        }

        // The client waits for the server's word before it sends the body, and the application never asks for it.
        let (connection, background) = (httpd.connect(), httpd.background());
        connection.send(post(&path(&background, &page, ""), "Content-Length: 5000\r\nExpect: 100-continue"));
        let response = connection.response();
        assert!(connection.received().starts_with(b"HTTP/1.1 200 "), "nobody has asked for it");
        assert_body(&response, &body(4000));
        let _ = connection.try_send(body(5000));
        ends(&connection, false, &response, &background);

        // The application asks before its header.
        let early = Application {
            php: "",
            sh: "",
            lua: "local text = r:requestbody()
            r.headers_out['Content-Length'] = tostring(#text)
            r.headers_out['X-Finish-Request'] = 'on'
            r:write(text)
            r:flush()
            background.run(r, query.id, 0)
            return apache2.OK",
        };
        let early = early.install(&httpd, Handler::Lua, "early");
        let (connection, background) = (httpd.connect(), httpd.background());
        connection.send(post(&background.query(&early), "Content-Length: 5000\r\nExpect: 100-continue"));
        connection.next_begins();
        assert!(connection.received().starts_with(b"HTTP/1.1 100 Continue\r\n"));
        connection.send(body(5000));
        let response = connection.response();
        assert_body(&response, &body(5000));
        ends(&connection, keep, &response, &background);

        // The client has said that nothing follows.
        let (connection, background) = (httpd.connect(), httpd.background());
        connection.get(&path(&background, "app.lua", "mark=on"), &[]);
        connection.close_sending();
        assert_body(&connection.response(), &body(4096));
        is_closed(&connection);
        assert!(!background.is_done());
        ran_to_its_end(&background);

        // It goes on sending its body.
        let (connection, background) = (httpd.connect(), httpd.background());
        connection.send(post(&path(&background, &page, ""), "Content-Length: 100000"));
        connection.send(body(30_000));
        let response = connection.response();
        assert_body(&response, &body(4000));
        assert!(!keeps(&response));
        let _ = connection.try_send(body(30_000));
        is_closed(&connection);
        ran_to_its_end(&background);
        httpd.stop();
    });
}
