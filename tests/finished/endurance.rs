//! A hundred thousand finished requests leave nothing behind: neither descriptors nor memory.

use std::collections::HashMap;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;

use support::{DEADLINE, Handler, Httpd, Mpm, tcp_sockets, wait_for};

/// How many clients send requests at once.
const CLIENTS: usize = 4;
/// After so many requests the server is warm.
const WARM: usize = 1_000;
/// How large the response is that slow clients ask for: more than the kernel takes for a client that does not read, with
/// the `SendBufferSize` below.
const LARGE: usize = 500_000;
/// How much more memory of its own a child may have: less than a hundred bytes for each request.
const NOISE_KB: u64 = 4_096;

/// Answers with `n` bytes, and ends a moment after its response.
const PAGE: &str = "function handle(r)\n\
                    local n = tonumber(r:parseargs().n)\n\
                    r.headers_out['X-Finish-Request'] = 'length=' .. n\n\
                    r:write(string.rep('x', n))\n\
                    r:flush()\n\
                    r:write('left over')\n\
                    end\n";

#[test]
fn on_event() {
    endure(Mpm::Event, 100_000);
}

#[test]
fn on_worker() {
    endure(Mpm::Worker, 30_000);
}

#[test]
fn on_prefork() {
    endure(Mpm::Prefork, 30_000);
}

fn endure(mpm: Mpm, requests: usize) {
    let config = "FinishRequest On\nFinishRequestMax none\nSendBufferSize 16384\nMaxKeepAliveRequests 0\nLogLevel notice\n\
                  <Location /keep.lua>\nFinishRequestConnection Keep\n</Location>";
    let httpd = Httpd::builder(mpm).handler(Handler::Lua).workers(20).config(config).start();
    // On a busy machine many requests may be about to end at the same time.
    httpd.may_be_full();
    httpd.install("close.lua", PAGE);
    httpd.install("keep.lua", PAGE);

    run(&httpd, WARM);
    // Slow clients were among them: their memory has been given back.
    let before = settled(&httpd);
    run(&httpd, requests / 2 - WARM);
    let halfway = settled(&httpd);
    run(&httpd, requests / 2);
    let after = settled(&httpd);
    let mut compared = 0;
    for (child, after) in &after {
        // prefork has more or fewer children as it likes.
        if let (Some(before), Some(halfway)) = (before.get(child), halfway.get(child)) {
            let what = format!("child {child}: {before:?}, {halfway:?}, {after:?}");
            // The module's thread, which has two, begins with the first connection that it closes.
            assert!(halfway.descriptors <= before.descriptors + 2, "{what}");
            assert!(after.descriptors <= halfway.descriptors.max(before.descriptors), "{what}");
            // What malloc keeps for each thread grows for a while.
            assert!(after.kilobytes <= before.kilobytes + 2 * NOISE_KB, "{what}");
            assert!(after.kilobytes <= halfway.kilobytes + NOISE_KB, "{what}");
            compared += 1;
        }
    }
    assert!(compared > 0);
    httpd.stop();
}

/// Sends so many requests, of all kinds.
fn run(httpd: &Httpd, requests: usize) {
    let next = AtomicUsize::new(0);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| {
                let mut kept = None;
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= requests {
                        return;
                    }
                    match number % 1000 {
                        0..10 => slow(httpd),
                        10..30 => aborted(httpd),
                        30..50 => tls(httpd),
                        50..300 => closed(httpd),
                        _ => in_a_row(httpd, &mut kept),
                    }
                }
            });
        }
    });
}

fn connect(httpd: &Httpd) -> TcpStream {
    let socket = TcpStream::connect(httpd.address()).unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket.set_write_timeout(Some(DEADLINE)).unwrap();
    socket
}

fn ask(socket: &mut TcpStream, page: &str, bytes: usize) {
    // In one packet: the kernel would keep a second one until the first is acknowledged.
    let request = format!("GET /{page}.lua?n={bytes} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    socket.write_all(request.as_bytes()).unwrap();
}

/// The connection is closed after the response.
fn closed(httpd: &Httpd) {
    let mut socket = connect(httpd);
    ask(&mut socket, "close", 1000);
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).unwrap();
    assert!(bytes.ends_with(&[b'x'; 1000]));
}

/// The connection goes on; but event closes those that wait while all its workers are busy.
fn in_a_row(httpd: &Httpd, kept: &mut Option<BufReader<TcpStream>>) {
    let fresh = kept.is_none();
    let reader = kept.get_or_insert_with(|| BufReader::new(connect(httpd)));
    ask(reader.get_mut(), "keep", 1000);
    let mut line = String::new();
    while line != "\r\n" {
        let first = line.is_empty();
        line.clear();
        let read = reader.read_line(&mut line);
        if first && !fresh && read.as_ref().map_or(true, |read| *read == 0) {
            *kept = None;
            return in_a_row(httpd, kept);
        }
        assert!(read.unwrap() > 0, "the connection was not kept");
        assert!(!line.to_ascii_lowercase().starts_with("connection: close"), "{line}");
    }
    let mut bytes = [0; 1000];
    reader.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes, [b'x'; 1000]);
}

/// The client goes before it has the response.
fn aborted(httpd: &Httpd) {
    let mut socket = connect(httpd);
    ask(&mut socket, "close", 200_000);
    // Dropped with bytes that it has not read: a reset.
    let mut first = [0; 1];
    socket.read_exact(&mut first).unwrap();
}

/// The client begins to read when the whole of the response waits for it.
fn slow(httpd: &Httpd) {
    let mut socket = connect(httpd);
    ask(&mut socket, "close", LARGE);
    socket.shutdown(Shutdown::Write).unwrap();
    // Another request has been served meanwhile.
    closed(httpd);
    let mut bytes = Vec::new();
    socket.read_to_end(&mut bytes).unwrap();
    assert!(bytes.ends_with(&[b'x'; 1000]) && bytes.len() > LARGE);
}

fn tls(httpd: &Httpd) {
    let connection = httpd.connect_tls();
    connection.get("/close.lua?n=1000", &[]);
    assert_eq!(connection.response().body, [b'x'; 1000]);
    connection.end();
}

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub struct Use {
    pub descriptors: usize,
    pub threads: usize,
    pub kilobytes: u64,
}

/// However many pieces a marked response is written in, and however many of them a connection brings, nothing is kept of each.
#[test]
fn pieces_and_requests_on_one_connection() {
    const STREAM: &str = "function handle(r)
        r.content_type = 'text/plain'
        r.headers_out['X-Finish-Request'] = 'boundary=\"a-token-that-never-comes\"'
        for piece = 1, tonumber(r:parseargs().pieces) do r:puts('piece ') r:flush() end
        return apache2.OK
    end";
    let httpd = Httpd::builder(Mpm::Worker)
        .handler(Handler::Lua)
        .workers(2)
        .config("FinishRequest On\nFinishRequestConnection Keep\nMaxKeepAliveRequests 0\nLogLevel finish_request:warn")
        .start();
    httpd.install("stream.lua", STREAM);
    let mut client = BufReader::new(TcpStream::connect(httpd.address()).unwrap());
    let mut ask = |requests: usize, pieces: usize| {
        let request = format!("GET /stream.lua?pieces={pieces} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        client.get_mut().write_all(request.repeat(requests).as_bytes()).unwrap();
        let mut line = Vec::new();
        for _ in 0..requests {
            // Up to the last chunk.
            while line != b"0\r\n" {
                line.clear();
                assert_ne!(client.read_until(b'\n', &mut line).unwrap(), 0);
            }
            line.clear();
            client.read_until(b'\n', &mut line).unwrap();
        }
    };
    let kilobytes = || used(&httpd).values().map(|used| used.kilobytes).sum::<u64>();
    for (times, requests, pieces) in [(100, 100, 1), (1, 1, 50_000)] {
        (0..20).for_each(|_| ask(10, 10));
        let before = kilobytes();
        (0..times).for_each(|_| ask(requests, pieces));
        let more = kilobytes().saturating_sub(before);
        assert!(more < 500, "{times} times {requests} responses in {pieces} pieces: {more} kB more");
    }
    httpd.stop();
}

/// A client may stay with a proxy for as long as it likes, and `FinishRequestOnAbort Continue` keeps nothing of each of its requests.
#[test]
fn requests_for_a_backend_on_one_connection() {
    const REQUESTS: usize = 5_000;
    let backend = Httpd::builder(Mpm::Event).without_module().start();
    backend.install("small.txt", "small\n");
    let httpd = Httpd::builder(Mpm::Worker)
        .modules(&["proxy", "proxy_http"])
        .workers(2)
        .config(&format!(
            "FinishRequest On
             FinishRequestOnAbort Continue
             MaxKeepAliveRequests 0
             ProxyPass / http://{}/",
            backend.address()
        ))
        .start();
    let mut client = BufReader::new(connect(&httpd));
    let mut ask = |requests: usize| {
        for _ in 0..requests {
            client.get_mut().write_all(b"GET /small.txt HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            let mut line = String::new();
            while line != "small\n" {
                line.clear();
                assert_ne!(client.read_line(&mut line).unwrap(), 0);
            }
        }
    };
    let kilobytes = || used(&httpd).values().map(|used| used.kilobytes).sum::<u64>();
    ask(500);
    let before = kilobytes();
    ask(REQUESTS);
    let more = kilobytes().saturating_sub(before);
    assert!(more < REQUESTS as u64 / 10, "{REQUESTS} requests: {more} kB more");
    httpd.stop();
    backend.stop();
}

/// What each child holds when nothing is under way any more.
pub fn settled(httpd: &Httpd) -> HashMap<u32, Use> {
    wait_for("the lingering connections to end", || {
        let addresses = [httpd.address(), httpd.tls_address()];
        let sockets = tcp_sockets(addresses.map(|address| address.port()));
        // Not those that listen, nor those that only the kernel still knows.
        let mut open = sockets.iter().filter(|socket| socket.is_of(&addresses) && !socket.listens && socket.inode != 0);
        open.next().is_none().then_some(())
    });
    used(httpd)
}

/// What each child holds now.
fn used(httpd: &Httpd) -> HashMap<u32, Use> {
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", httpd.id())).unwrap();
    children
        .split_whitespace()
        .map(|child| {
            let [descriptors, threads] =
                ["fd", "task"].map(|list| fs::read_dir(format!("/proc/{child}/{list}")).unwrap().count());
            let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap();
            let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).unwrap();
            let kilobytes = anonymous.trim().trim_end_matches(" kB").parse().unwrap();
            (child.parse().unwrap(), Use { descriptors, threads, kilobytes })
        })
        .collect()
}
