//! `Close`: a client that has all of its response, and has sent all of its request, gets FIN at once. httpd keeps the connection's descriptor until
//! the work has ended, and nobody waits for the client then.

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use support::http1::EndKind;
use support::{Background, Client, DEADLINE, Handler, Httpd, Mpm, Protocol, body, wait_for};

use super::released::{connections_to, sockets_of};
use crate::administrator::restarts::children;
use crate::judge::{BYTES, assert_body, path, ran_to_its_end, side_by_side, write};

/// A client that writes its whole request before it reads does not wait for the work: it is read until it has written all.
#[test]
fn a_client_that_writes_first() {
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).config("FinishRequest On").start();
        let upload = vec![b'S'; 8_000_000];
        let background = httpd.background();
        let mut socket = TcpStream::connect(httpd.address()).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        let target = path(&background, "app.lua", "mark=on");
        let length = upload.len();
        write!(socket, "POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n").unwrap();
        socket.write_all(&upload).unwrap();
        let mut response = Vec::new();
        socket.read_to_end(&mut response).unwrap();
        assert!(response.starts_with(b"HTTP/1.1 200 ") && response.ends_with(&body(BYTES)), "{} bytes", response.len());
        assert!(!background.is_done(), "the client had to wait for the work");
        ran_to_its_end(&background);
        httpd.stop();
    });
}

/// A request that fails after its end, with a body that nobody has read: PHP is to make the error page, and asks for the body. What it gets is
/// the body, or its end, and never what is on the connection behind that; over TLS nobody asks a session that has been freed.
#[test]
fn an_error_page_that_reads() {
    let cases = [(Mpm::Event, Handler::PhpFpm), (Mpm::Worker, Handler::PhpFpm), (Mpm::Prefork, Handler::ModPhp)];
    side_by_side(cases, |(mpm, php)| {
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .handler(php)
            .config("FinishRequest On\nErrorDocument 500 /error.php")
            .poisoned()
            .start();
        httpd.install("fails.lua", FAILS);
        httpd.install("error.php", ERROR);
        for protocol in [Protocol::Http1, Protocol::Http1Tls] {
            // All of it has come; not all.
            for length in [5000, 5001, 200_000] {
                let background = httpd.background();
                let client = Client::connect(&httpd, protocol);
                let connection = client.http1().unwrap();
                let target = background.query("fails.lua");
                let head = format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
                connection.send([head.as_bytes(), &body(5000)].concat());
                assert_body(&connection.response(), &body(BYTES));
                assert_eq!(connection.end().kind, EndKind::Fin);
                assert!(!background.is_done());
                ran_to_its_end(&background);
                let read = httpd.root().join("gates").join(format!("{}.body", background.id()));
                let read = wait_for("the error page", || fs::read(&read).ok().filter(|read| read.ends_with(b"read")));
                let sent = read.strip_suffix(b"read").unwrap();
                assert!(body(5000).starts_with(sent), "{}", sent.escape_ascii());
                assert_eq!(connection.rest(), b"");
            }
        }
        httpd.stop();
    });
}

const FAILS: &str = r#"
    function handle(r)
        local background = dofile(r.filename:match("^(.*)/") .. "/background.lua")
        background.answer(r)
        background.run(r, r:parseargs().id, 200)
        return 500
    end
"#;

const ERROR: &str = r#"<?php
    parse_str($_SERVER['REDIRECT_QUERY_STRING'], $query);
    file_put_contents("@GATES@/$query[id].body", file_get_contents('php://input') . 'read');
    echo 'the page of an error';
"#;

/// Clients that do not close their side, and send on, hold no thread when the work has ended: all are there for others, while httpd or the module
/// still has each of these connections (up to 30 s, `MAX_SECS_TO_LINGER`).
#[test]
fn clients_that_never_close_hold_nobody() {
    const WORKERS: usize = 8;
    side_by_side(Mpm::ALL, |mpm| {
        // prefork has as many spare processes.
        let all = if mpm == Mpm::Prefork { 2 * WORKERS } else { WORKERS };
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .workers(WORKERS)
            .config("FinishRequest On\nFinishRequestMax none")
            .start();
        httpd.may_be_full();
        let begin = || {
            let background = httpd.background();
            let mut socket = TcpStream::connect(httpd.address()).unwrap();
            socket.set_read_timeout(Some(DEADLINE)).unwrap();
            let target = path(&background, "app.lua", "mark=on");
            write!(socket, "GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            (background, socket)
        };
        let mut first: Vec<_> = (0..all).map(|_| begin()).collect();
        for (background, socket) in &mut first {
            socket.read_to_end(&mut Vec::new()).unwrap();
            background.wait_for_begin();
            socket.write_all(b"S").unwrap();
        }
        let ports: HashSet<u16> = first.iter().map(|(_, socket)| socket.local_addr().unwrap().port()).collect();
        let first = &first;
        // On a busy machine they may be silent for too long.
        let were_silent = AtomicBool::new(false);
        thread::scope(|scope| {
            // Gone with this closure, however that ends.
            let (_until, ended) = mpsc::channel::<()>();
            let were_silent = &were_silent;
            scope.spawn(move || {
                let mut last = Instant::now();
                while ended.recv_timeout(Duration::from_millis(100)) == Err(RecvTimeoutError::Timeout) {
                    were_silent.fetch_or(last.elapsed() > Duration::from_secs(1), Ordering::Relaxed);
                    last = Instant::now();
                    // Event waits 30 s for the silent ones, too, and closes who sends while all of its workers are taken.
                    for (_, socket) in first.iter().filter(|_| mpm != Mpm::Event) {
                        // Whom the server has given up is no matter.
                        let _ = (&*socket).write_all(b"S");
                    }
                }
            });
            for (background, _) in first {
                ran_to_its_end(background);
            }
            let second: Vec<_> = (0..all).map(|_| begin()).collect();
            second.iter().for_each(|(background, _)| background.wait_for_begin());
            // What the kernel lists while it changes may lack some; what is there later was there before. Else the second ones may have waited for the first.
            wait_for("all of the first connections to be seen", || {
                let sockets = sockets_of(httpd.id());
                let lingering = connections_to(&ports).iter().filter(|inode| sockets.contains(inode)).count();
                (lingering == all || were_silent.load(Ordering::Relaxed)).then_some(())
            });
            for (background, _) in &second {
                ran_to_its_end(background);
            }
        });
        httpd.stop();
    });
}

/// The client is let go before anything is logged: here the log takes nothing for a while.
#[test]
fn a_log_that_is_stuck() {
    const LINE: usize = 7000;
    let httpd = Httpd::builder(Mpm::Event)
        .handler(Handler::Lua)
        .workers(64)
        .config(
            "FinishRequest On\n\
             CustomLog \"|$while test ! -e '${ROOT}/unstuck'; do sleep 0.05; done; cat >'${ROOT}/stuck.log'\" \"%{X-Line}i %q\"",
        )
        .start();
    // More than a pipe holds.
    let line = "x".repeat(LINE);
    for _ in 0..16 {
        let response =
            Client::connect(&httpd, Protocol::Http1).get("/app.lua?mark=none", &[("X-Line", &line)]).response();
        assert_body(&response, &body(BYTES));
    }
    let background = httpd.background();
    let client = Client::connect(&httpd, Protocol::Http1);
    let response = client.get(&path(&background, "app.lua", "mark=on"), &[("X-Line", &line)]).released();
    assert_body(&response, &body(BYTES));
    assert!(!background.has_begun(), "the log was not stuck");
    write(&httpd, "../unstuck", "");
    ran_to_its_end(&background);
    wait_for("the line in the log", || {
        fs::read_to_string(httpd.root().join("stuck.log")).ok()?.contains(background.id()).then_some(())
    });
    httpd.stop();
}

/// Work that its time limit ends is no reason for a reset: a client that reads slowly, and has sent more than was read, gets all.
#[test]
fn a_time_limit_resets_nothing() {
    const LARGE: usize = 150_000;
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .config("FinishRequest On\nFinishRequestTimeout 1\nSendBufferSize 1000000")
            .start();
        httpd.expect_log("finish_request:warn.*has reached the 1 seconds of FinishRequestTimeout");
        httpd.install("flushes.lua", FLUSHES);
        let connection = httpd.connect_slow();
        connection.pause();
        let port = connection.local_address().port();
        let head = format!("GET /flushes.lua?bytes={LARGE} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        connection.send([head.as_bytes(), &b"S".repeat(1000)].concat());
        httpd.wait_for_log("the background work has ended");
        wait_for("the connection to be closed", || {
            let sockets = sockets_of(httpd.id());
            (!connections_to(&HashSet::from([port])).iter().any(|inode| sockets.contains(inode))).then_some(())
        });
        connection.resume();
        assert_body(&connection.response(), &body(LARGE));
        httpd.stop();
    });
}

/// Writes for longer than the limit.
const FLUSHES: &str = r#"
    function handle(r)
        local background = dofile(r.filename:match("^(.*)/") .. "/background.lua")
        local bytes = tonumber(r:parseargs().bytes)
        r.content_type = "text/plain"
        r.headers_out["Content-Length"] = tostring(bytes)
        r.headers_out["X-Finish-Request"] = "on"
        r:write(background.body(bytes))
        r:flush()
        for _ = 1, 200 do
            r:write("L")
            r:flush()
            r.usleep(10000)
        end
        return apache2.OK
    end
"#;

/// What is asked of the kernel for a client that is let go: nothing but FIN. The work of many requests goes on in threads of httpd's alone, and
/// each client has one descriptor, as an ordinary one that waits.
#[test]
fn nothing_more_is_held() {
    const COUNT: usize = 50;
    let httpd = Httpd::builder(Mpm::Event)
        .handler(Handler::Lua)
        .workers(2 * COUNT)
        .config("FinishRequest On\nFinishRequestMax none")
        .start();
    let works: Vec<(Background, Client)> =
        (0..COUNT).map(|_| (httpd.background(), Client::connect(&httpd, Protocol::Http1))).collect();
    for (background, client) in &works {
        assert_body(&client.get(&path(background, "app.lua", "mark=on"), &[]).released(), &body(BYTES));
        background.wait_for_begin();
    }
    let ports = works.iter().map(|(_, client)| client.http1().unwrap().local_address().port()).collect();
    // A look at what changes may miss some.
    let connections: HashSet<u64> = wait_for("all of the connections to be seen", || {
        let sockets = sockets_of(httpd.id());
        let seen: Vec<u64> = connections_to(&ports).into_iter().filter(|inode| sockets.contains(inode)).collect();
        (seen.len() == COUNT).then(|| seen.into_iter().collect())
    });
    let held: Vec<u64> = children(httpd.id()).into_iter().flat_map(descriptors_of).collect();
    assert_eq!(held.iter().filter(|inode| connections.contains(inode)).count(), COUNT);
    for (background, _) in &works {
        ran_to_its_end(background);
    }
    httpd.stop();
}

/// The inodes of a process's sockets, one for each descriptor.
fn descriptors_of(process: u32) -> Vec<u64> {
    let names = fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten();
    let targets = names.filter_map(|name| Some(fs::read_link(name.path()).ok()?.to_string_lossy().into_owned()));
    targets.filter_map(|target| target.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()).collect()
}
