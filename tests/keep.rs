//! `FinishRequestConnection Keep`: the client's connection goes on while the background work runs.

use std::fs;

use support::http1::{Connection, EndKind};
use support::{Background, Handler, Httpd, Mpm, Response, body, wait_for};

use crate::judge::{Application, assert_body, path, ran_to_its_end, side_by_side};

const KEEP: &str = "LogLevel finish_request:debug\nFinishRequest On\nFinishRequestConnection Keep\n\
                    CustomLog \"${ROOT}/kept.log\" \"%h %{remote}p %A %p %k %X %{finish-request}n %D %U\"\n";

/// Whether the response says that the connection goes on.
fn keeps(response: &Response) -> bool {
    !response.header("Connection").is_some_and(|value| value.contains("close"))
}

/// The client's connection is closed in good order, with nothing behind what was taken.
#[track_caller]
fn is_closed(connection: &Connection) {
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

/// A thousand requests over one connection. At each response the work of that request has not been done, though it takes
/// but 200 ms: the next request is sent at once, and answered while works of earlier ones still run.
#[test]
fn a_thousand_in_a_row() {
    const REQUESTS: usize = 1000;
    const WORK: &str = "local query = r:parseargs()
        r.content_type = 'text/plain'
        r.headers_out['X-Finish-Request'] = 'length=2'
        r:write('ok')
        r:flush()
        local began = r:clock()
        r.usleep(200000)
        local log = io.open('@GATES@/' .. query.id .. '.thousand', 'w')
        log:write(string.format('%.0f %.0f', began, r:clock()))
        log:close()
        return apache2.OK";
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .workers(128)
            .config(KEEP)
            .config("MaxKeepAliveRequests 0\nLogLevel finish_request:warn")
            .start();
        httpd.install("work.lua", &format!("function handle(r)\n{WORK}\nend\n"));
        let connection = httpd.connect();
        for id in 0..REQUESTS {
            connection.get(&format!("/work.lua?id={id}"), &[]);
            let response = connection.response();
            assert_eq!((response.body.as_slice(), keeps(&response)), (b"ok".as_slice(), true));
        }
        let times: Vec<(u64, u64)> = (0..REQUESTS)
            .map(|id| {
                let file = httpd.root().join(format!("gates/{id}.thousand"));
                let text =
                    wait_for("a work to be done", || fs::read_to_string(&file).ok().filter(|text| text.contains(' ')));
                let (began, ended) = text.split_once(' ').unwrap();
                (began.parse().unwrap(), ended.trim().parse().unwrap())
            })
            .collect();
        // Nobody waited: the next request's work began before this one's had ended.
        let waited = times.windows(2).filter(|pair| pair[1].0 >= pair[0].1).count();
        assert!(waited * 20 < REQUESTS, "{waited} of {REQUESTS} requests waited for the work of the one before");
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
            .config("KeepAliveTimeout 1\nTimeout 20")
            .start();
        let (first, second) = (httpd.background(), httpd.background());
        let connection = httpd.connect();
        for background in [&first, &second] {
            connection.get(&path(background, "app.lua", "mark=on"), &[]);
            assert!(keeps(&connection.response()));
            background.wait_for_begin();
        }
        is_closed(&connection);
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
            while kept.last().copied().unwrap_or(true) {
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

fn request(httpd: &Httpd, marked: bool, bytes: usize, works: &mut Vec<Background>) -> String {
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
