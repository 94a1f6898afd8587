//! The client is let go for good: its connection belongs to nobody, and the server is there for others.

use std::collections::{BTreeSet, HashSet};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Mutex;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use support::http1::EndKind;
use support::{Background, Client, DEADLINE, Handler, Httpd, Mpm, Protocol, body, tcp_sockets, wait_for};

use crate::administrator::restarts::children;
use crate::judge::{assert_body, path, ran_to_its_end, side_by_side};

/// How long a client may go on sending (`MAX_SECS_TO_LINGER`).
const LINGERING: Duration = Duration::from_secs(30);

/// A hundred requests are in background work at once; each client was let go before any gate was opened.
fn a_hundred(mpm: Mpm, protocol: Protocol) {
    const REQUESTS: usize = 100;
    let config = format!("FinishRequest On\nFinishRequestMax {REQUESTS}");
    let httpd = Httpd::builder(mpm).handler(Handler::Lua).workers(128).config(&config).start();
    let backgrounds: Vec<Background> = (0..REQUESTS).map(|_| httpd.background()).collect();
    let clients: Vec<Client> = (0..REQUESTS).map(|_| Client::connect(&httpd, protocol)).collect();
    let exchanges: Vec<_> = clients
        .iter()
        .zip(&backgrounds)
        .map(|(client, background)| client.get(&path(background, "app.lua", "mark=on"), &[]))
        .collect();
    for exchange in &exchanges {
        assert_body(&exchange.released(), &body(4096));
    }
    for background in &backgrounds {
        background.wait_for_begin();
        assert!(!background.is_done());
    }
    backgrounds.iter().for_each(Background::open_gate);
    for background in &backgrounds {
        assert_eq!(background.wait_for_done().errors, "");
    }
    httpd.stop();
}

#[test]
fn a_hundred_at_once_on_event() {
    a_hundred(Mpm::Event, Protocol::Http1);
}

#[test]
fn a_hundred_at_once_on_worker() {
    a_hundred(Mpm::Worker, Protocol::Http1Tls);
}

/// The connection stays, and so do its other streams.
#[test]
fn another_stream_of_the_same_connection() {
    for (handler, mpm) in [
        (Handler::Lua, Mpm::Event),
        (Handler::Lua, Mpm::Worker),
        (Handler::PhpFpm, Mpm::Event),
        (Handler::Cgi, Mpm::Worker),
        (Handler::ModFcgid, Mpm::Event),
    ] {
        let httpd = Httpd::builder(mpm).handler(handler).config("FinishRequest On").start();
        for connection in [httpd.connect_http2(), httpd.connect_h2c()] {
            let first = httpd.background();
            let response = connection.get(&path(&first, handler.page(), "mark=on"), &[]).response();
            assert_body(&response, &body(4096));
            first.wait_for_begin();

            let response = connection.get(&format!("/{}?mark=none", handler.page()), &[]).response();
            assert_body(&response, &body(4096));
            let second = httpd.background();
            let response = connection.get(&path(&second, handler.page(), "mark=on&bytes=100"), &[]).response();
            assert_body(&response, &body(100));
            assert!(!first.is_done());
            ran_to_its_end(&second);
            ran_to_its_end(&first);
            assert!(connection.is_open());
        }
        httpd.stop();
    }
}

/// The client still sends its request's body when the response has come: it gets all of it, and no reset.
#[test]
fn the_client_goes_on_sending() {
    const BYTES: usize = 200_000;
    for mpm in Mpm::ALL {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).config("FinishRequest On").start();
        for connection in [httpd.connect(), httpd.connect_tls()] {
            let background = httpd.background();
            let target = path(&background, "app.lua", &format!("mark=on&bytes={BYTES}"));
            connection.pause();
            let head = format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n");
            connection.send(head);
            for _ in 0..50 {
                connection.send(b"S".repeat(10_000));
            }
            connection.resume();
            let response = connection.response();
            assert_body(&response, &body(BYTES));
            assert_eq!((connection.end().kind, connection.rest().len()), (EndKind::Fin, 0));
            assert!(!background.is_done());
            connection.send(b"S".repeat(10_000));
            ran_to_its_end(&background);
        }
        httpd.stop();
    }
}

/// Reads what has come. A signal to this process, as debuggers and job control send them, ends a read that has a time limit.
fn read(socket: &mut TcpStream, buffer: &mut [u8]) -> usize {
    loop {
        match socket.read(buffer) {
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            read => return read.unwrap(),
        }
    }
}

/// When the clients have gone no process of the server holds a connection of any of them: with `Keep` while the work of two hundred requests goes
/// on, with `Close` when it has ended, and until then there is no thread for it.
#[test]
fn nobody_holds_the_connections() {
    for (handler, mpm, count) in [
        (Handler::Lua, Mpm::Event, 200),
        (Handler::Lua, Mpm::Worker, 200),
        (Handler::Cgi, Mpm::Worker, 20),
        (Handler::ModPhp, Mpm::Prefork, 20),
        (Handler::Cgi, Mpm::Prefork, 20),
    ] {
        for keep in ["Close", "Keep"] {
            // With Keep a connection that waits for its next request holds a thread under worker and prefork.
            let httpd = Httpd::builder(mpm)
                .handler(handler)
                .workers(2 * count + 24)
                .config(&format!("FinishRequest On\nFinishRequestConnection {keep}"))
                .start();
            let backgrounds: Vec<Background> = (0..count).map(|_| httpd.background()).collect();
            let mut ports = HashSet::new();
            for background in &backgrounds {
                let mut socket = TcpStream::connect(httpd.address()).unwrap();
                socket.set_read_timeout(Some(DEADLINE)).unwrap();
                ports.insert(socket.local_addr().unwrap().port());
                let target = path(background, handler.page(), "mark=on");
                write!(socket, "GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
                let mut bytes = Vec::new();
                while !bytes.ends_with(&body(4096)) {
                    let mut some = [0; 8192];
                    let read = read(&mut socket, &mut some);
                    assert!(read > 0, "{}", bytes.escape_ascii());
                    bytes.extend_from_slice(&some[..read]);
                }
                if keep == "Close" {
                    assert_eq!(read(&mut socket, &mut [0; 64]), 0);
                }
            }
            backgrounds.iter().for_each(Background::wait_for_begin);
            let let_go = || {
                wait_for("the server to let go of the connections", || {
                    let sockets = sockets_of(httpd.id());
                    (!connections_to(&ports).iter().any(|inode| sockets.contains(inode))).then_some(())
                });
            };
            if keep == "Keep" {
                let_go();
            }
            assert!(backgrounds.iter().all(|background| !background.is_done()));
            // One thread for all clients of a process, where there is one at all.
            let helpers: Vec<usize> = children(httpd.id()).into_iter().map(helpers_of).collect();
            assert!(helpers.iter().all(|&helpers| helpers <= usize::from(keep == "Keep")), "{helpers:?}");
            backgrounds.iter().for_each(Background::open_gate);
            for background in &backgrounds {
                assert_eq!(background.wait_for_done().errors, "");
            }
            let_go();
            httpd.stop();
        }
    }
}

/// How many threads of the module's a process has.
fn helpers_of(process: u32) -> usize {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    let names = threads.map(|thread| fs::read_to_string(thread.path().join("comm")).unwrap_or_default());
    names.filter(|name| name.trim() == "finish_request").count()
}

/// The inodes of the connections whose other side has one of these ports.
pub fn connections_to(ports: &HashSet<u16>) -> Vec<u64> {
    let clients: Vec<_> = ports.iter().map(|&port| SocketAddr::from(([0; 4], port))).collect();
    let sockets = tcp_sockets(ports.iter().copied()).into_iter();
    sockets.filter(|socket| !socket.is_of(&clients) && socket.inode != 0).map(|socket| socket.inode).collect()
}

/// The inodes of all sockets that a process and its descendants hold.
pub fn sockets_of(process: u32) -> HashSet<u64> {
    let mut sockets = HashSet::new();
    let mut processes = vec![process];
    while let Some(process) = processes.pop() {
        for task in fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten() {
            let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
            processes.extend(children.split_whitespace().filter_map(|child| child.parse::<u32>().ok()));
        }
        for entry in fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten() {
            let target = fs::read_link(entry.path()).unwrap_or_default().to_string_lossy().into_owned();
            let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']'));
            sockets.extend(inode.and_then(|inode| inode.parse::<u64>().ok()));
        }
    }
    sockets
}

/// A client that reads slowly gets everything.
#[test]
fn a_slow_reader_gets_all() {
    const BYTES: usize = 2_000_000;
    for (handler, mpm) in [(Handler::Lua, Mpm::Event), (Handler::ModPhp, Mpm::Prefork), (Handler::Cgi, Mpm::Worker)] {
        let httpd = Httpd::builder(mpm).handler(handler).config("FinishRequest On").start();
        let background = httpd.background();
        let mut socket = TcpStream::connect(httpd.address()).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        let target = path(&background, handler.page(), &format!("mark=on&bytes={BYTES}"));
        write!(socket, "GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut bytes = Vec::new();
        let mut piece = [0; 20_000];
        loop {
            match read(&mut socket, &mut piece) {
                0 => break,
                read => bytes.extend_from_slice(&piece[..read]),
            }
            // Slow, so that the server has to wait; how slow does not matter.
            thread::sleep(Duration::from_millis(3));
        }
        assert!(bytes.ends_with(&body(BYTES)), "{} bytes", bytes.len());
        assert!(!background.is_done());
        ran_to_its_end(&background);
        httpd.stop();
    }
}

/// More clients that go on sending, though they have got their responses, than a child waits for: the oldest are cut. One that has not got all of its
/// response yet is not.
#[test]
fn more_than_a_child_waits_for() {
    const CLIENTS: usize = 300;
    const AT_ONCE: usize = 10;
    const WORKERS: usize = 32;
    const MOST: usize = 256;
    const LARGE: usize = 400_000;
    let config = "FinishRequest On\nFinishRequestMax none\nSendBufferSize 16384";
    let httpd = Httpd::builder(Mpm::Event).handler(Handler::Lua).workers(WORKERS).config(config).start();
    httpd.may_be_full();
    let slow = httpd.connect_slow();
    let background = httpd.background();
    slow.get(&path(&background, "app.lua", &format!("mark=on&bytes={LARGE}")), &[]);
    background.wait_for_begin();
    let begin = Instant::now();
    let clients = Mutex::new(Vec::<TcpStream>::new());
    let ask = || {
        let mut client = TcpStream::connect(httpd.address()).unwrap();
        client.set_read_timeout(Some(DEADLINE)).unwrap();
        let head = "POST /app.lua?mark=on HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n";
        client.write_all(head.as_bytes()).unwrap();
        client
    };
    let cut = Mutex::new(BTreeSet::new());
    // The longest time in which nobody said anything.
    let silence = thread::scope(|scope| {
        let (until, ended) = mpsc::channel::<()>();
        let (clients, cut) = (&clients, &cut);
        let senders = scope.spawn(move || {
            let (mut silence, mut last) = (Duration::ZERO, Instant::now());
            while ended.recv_timeout(Duration::from_millis(50)) == Err(RecvTimeoutError::Timeout) {
                for (index, mut client) in clients.lock().unwrap().iter().enumerate() {
                    if client.write_all(b"S").is_err() {
                        cut.lock().unwrap().insert(index);
                    }
                }
                silence = silence.max(last.elapsed());
                last = Instant::now();
            }
            silence
        });
        let mut silence = Duration::ZERO;
        for _ in 0..CLIENTS / AT_ONCE {
            let asked = Instant::now();
            let mut some: Vec<TcpStream> = (0..AT_ONCE).map(|_| ask()).collect();
            some.iter_mut().for_each(|client| _ = client.read_to_end(&mut Vec::new()).unwrap());
            clients.lock().unwrap().extend(some);
            silence = silence.max(asked.elapsed());
        }
        let ports = clients.lock().unwrap().iter().map(|client| client.local_addr().unwrap().port()).collect();
        wait_for("the oldest to be cut", || {
            let sockets = sockets_of(httpd.id());
            let held = connections_to(&ports).iter().filter(|inode| sockets.contains(inode)).count();
            (held <= MOST).then_some(())
        });
        // They hear of it when they send once more.
        wait_for("them to know", || (cut.lock().unwrap().len() >= CLIENTS - MOST).then_some(()));
        drop(until);
        silence.max(senders.join().unwrap())
    });
    let cut = cut.into_inner().unwrap();
    // On a busy machine their time may be over, or they may have been silent for too long.
    if begin.elapsed() < LINGERING / 2 && silence < Duration::from_secs(1) {
        // Who comes a little later may be done a little sooner.
        assert_eq!(cut.len(), CLIENTS - MOST);
        assert!(cut.iter().all(|index| *index < CLIENTS - MOST + WORKERS), "{cut:?}");
    }
    slow.resume();
    assert_body(&slow.response(), &body(LARGE));
    ran_to_its_end(&background);
    drop((clients, slow));
    httpd.stop();
}

/// A client that never stops sending after its response is cut at httpd's own limit for that, not before.
#[test]
fn a_client_that_never_stops_sending() {
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).config("FinishRequest On").start();
        let background = httpd.background();
        let mut socket = TcpStream::connect(httpd.address()).unwrap();
        let target = path(&background, "app.lua", "mark=on");
        let head = format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n");
        let begin = Instant::now();
        socket.write_all(head.as_bytes()).unwrap();
        let mut bytes = Vec::new();
        socket.read_to_end(&mut bytes).unwrap();
        assert!(bytes.ends_with(&body(4096)));

        let (mut last, mut silence) = (begin, Duration::ZERO);
        while socket.write_all(b"S").is_ok() {
            assert!(begin.elapsed() < 3 * LINGERING, "it may send for ever");
            thread::sleep(Duration::from_millis(200));
            silence = silence.max(last.elapsed());
            last = Instant::now();
        }
        // On a busy machine it may have been silent for too long.
        assert!(
            begin.elapsed() > LINGERING / 2 || silence > Duration::from_secs(1),
            "it was cut after {:?}",
            begin.elapsed()
        );
        background.open_gate();
        background.wait_for_done();
        httpd.stop();
    });
}
