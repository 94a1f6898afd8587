//! `FinishRequestBuffer`: a client that reads slowly holds up nobody. What it has not read waits in memory, and comes in order, to
//! the last byte.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use std::{env, fs};

use support::http1::{Connection, EndKind, connect_with_little_room};
use support::{Background, Handler, Httpd, Mpm, Signal, body, wait_for};

use crate::administrator::restarts::children;
use crate::finished::released::{connections_to, sockets_of};
use crate::harmless::faults::exists;
use crate::judge::{Application, assert_body, path, ran_to_its_end, side_by_side};

/// The kernel keeps little on the server's side too, so that a response need not be large.
const LITTLE: &str = "FinishRequest On\nSendBufferSize 16384\nLogLevel finish_request:debug\n";
/// More than the kernel takes.
const LARGE: usize = 400_000;

fn server(handler: Handler, mpm: Mpm, config: &str) -> Httpd {
    Httpd::builder(mpm).handler(handler).workers(32).config(LITTLE).config(config).start()
}

fn connect(httpd: &Httpd, tls: bool) -> Connection {
    if tls { httpd.connect_slow_tls() } else { httpd.connect_slow() }
}

/// Sends a request for a large response.
fn ask(httpd: &Httpd, connection: &Connection, handler: Handler, bytes: usize) -> Background {
    ask_page(httpd, connection, handler.page(), bytes)
}

fn ask_page(httpd: &Httpd, connection: &Connection, page: &str, bytes: usize) -> Background {
    let background = httpd.background();
    connection.get(&path(&background, page, &format!("mark=on&bytes={bytes}")), &[]);
    background
}

/// Microseconds of Unix time, as in what background work says of itself.
fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_micros()).unwrap()
}

/// The client reads now, and gets everything, ended as it should be.
#[track_caller]
fn gets_all(connection: &Connection, tls: bool, bytes: usize) {
    connection.resume();
    let end = connection.end();
    assert_eq!((end.kind, end.close_notify.is_some()), (EndKind::Fin, tls));
    assert_body(&connection.response(), &body(bytes));
    assert_eq!(connection.rest(), b"");
}

on_every_handler_and_mpm!(work_begins);

/// The client has read nothing when the work begins, plain and over TLS. It gets everything when it reads.
fn work_begins(handler: Handler, mpm: Mpm) {
    begins_unread(server(handler, mpm, "FinishRequestBuffer 4M"), handler.page());
}

fn begins_unread(httpd: Httpd, page: &str) {
    for tls in [false, true] {
        let connection = connect(&httpd, tls);
        let background = ask_page(&httpd, &connection, page, LARGE);
        background.wait_for_begin();
        assert_eq!(connection.received(), b"");
        gets_all(&connection, tls, LARGE);
        assert!(!background.is_done());
        ran_to_its_end(&background);
    }
    httpd.stop();
}

on_every_mpm!(work_begins_where_the_application_closes);

/// The same where it is the application's own `Connection: close` by which `Auto` knows the end.
fn work_begins_where_the_application_closes(mpm: Mpm) {
    const CLOSES: Application = Application {
        php: "",
        sh: "",
        lua: "r.content_type = 'text/plain'
              r.headers_out['Connection'] = 'close'
              r.headers_out['Content-Length'] = query.bytes
              r:write(background.body(tonumber(query.bytes)))
              r:flush()
              background.run(r, query.id, 0)
              return apache2.OK",
    };
    let httpd = server(Handler::Lua, mpm, "FinishRequest Auto\nFinishRequestBuffer 4M");
    let page = CLOSES.install(&httpd, Handler::Lua, "closes");
    begins_unread(httpd, &page);
}

/// The work ends, and the request with it, before the client reads: it gets everything all the same.
#[test]
fn the_work_ends_first() {
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = server(Handler::Lua, mpm, "FinishRequestBuffer 4M");
        for tls in [false, true] {
            let connection = connect(&httpd, tls);
            ran_to_its_end(&ask(&httpd, &connection, Handler::Lua, LARGE));
            wait_for("the request to be over", || httpd.log().contains("finished early").then_some(()));
            gets_all(&connection, tls, LARGE);
        }
        httpd.stop();
    });
}

/// `Keep`: first all bytes go to the client, then its connection goes on.
#[test]
fn a_kept_connection() {
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = server(Handler::Lua, mpm, "FinishRequestBuffer 4M\nFinishRequestConnection Keep");
        // The next request comes when all has been read, or has been sent already.
        for pipelined in [false, true] {
            let connection = httpd.connect_slow();
            let works: Vec<Background> = (0..3).map(|_| httpd.background()).collect();
            let targets: Vec<String> =
                works.iter().map(|work| path(work, "app.lua", &format!("mark=on&bytes={LARGE}"))).collect();
            if pipelined {
                let text = |target| format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
                connection.send(targets.iter().map(text).collect::<String>());
            }
            for (target, work) in targets.iter().zip(&works) {
                if !pipelined {
                    connection.get(target, &[]);
                }
                work.wait_for_begin();
                connection.resume();
                let response = connection.response();
                assert_body(&response, &body(LARGE));
                if !pipelined {
                    connection.pause();
                }
            }
            assert!(works.iter().all(|work| !work.is_done()));
            works.iter().for_each(|work| {
                ran_to_its_end(work);
            });
            assert!(!connection.has_ended());
        }
        httpd.stop();
    });
}

/// What has been flushed goes to the client while its application thinks about the rest: whatever waits in memory, the client need
/// not wait for the application's next word.
#[test]
fn what_was_flushed_goes_out_meanwhile() {
    const IN_PARTS: Application = Application {
        php: "",
        sh: "",
        lua: "r.content_type = 'text/plain'
              r.headers_out['Content-Length'] = '800000'
              r.headers_out['X-Finish-Request'] = 'on'
              local text = background.body(800000)
              r:write(text:sub(1, 400000))
              r:flush()
              background.run(r, query.between, 0)
              r:write(text:sub(400001))
              r:flush()
              background.run(r, query.id, 0)
              return apache2.OK",
    };
    let cases = Mpm::ALL.into_iter().map(|mpm| (mpm, "4M")).chain([(Mpm::Event, "500K"), (Mpm::Worker, "0")]);
    side_by_side(cases, |(mpm, buffer)| {
        let httpd = server(Handler::Lua, mpm, &format!("FinishRequestBuffer {buffer}"));
        let page = IN_PARTS.install(&httpd, Handler::Lua, "parts");
        for tls in [false, true] {
            let connection = connect(&httpd, tls);
            let (between, background) = (httpd.background(), httpd.background());
            connection.get(&path(&background, &page, &format!("between={}", between.id())), &[]);
            if buffer != "0" {
                between.wait_for_begin();
            }
            connection.resume();
            wait_for("what was flushed to come", || {
                let so_far = connection.so_far()?;
                (so_far.body.len() >= 400_000).then_some(())
            });
            assert!(!between.is_done());
            ran_to_its_end(&between);
            gets_all(&connection, tls, 800_000);
            assert!(!background.is_done());
            ran_to_its_end(&background);
        }
        httpd.stop();
    });
}

/// Above `BYTES` the application waits for its client: its work has not begun when that of a later request has, and begins when the
/// client reads. The same with 0, which turns the buffer off.
#[test]
fn above_its_own_limit_it_waits() {
    let cases = Mpm::ALL.into_iter().flat_map(|mpm| ["100K", "0", "1"].map(|bytes| (mpm, bytes)));
    side_by_side(cases, |(mpm, bytes)| {
        let httpd = server(
            Handler::Lua,
            mpm,
            &format!("FinishRequestBuffer 4M\n<Location /small.lua>\nFinishRequestBuffer {bytes}\n</Location>"),
        );
        httpd.install("small.lua", &fs::read_to_string(httpd.root().join("www/app.lua")).unwrap());
        for tls in [false, true] {
            let (waits, passes) = (connect(&httpd, tls), connect(&httpd, tls));
            let first = httpd.background();
            waits.get(&path(&first, "small.lua", &format!("mark=on&bytes={LARGE}")), &[]);
            let second = ask(&httpd, &passes, Handler::Lua, LARGE);
            second.wait_for_begin();
            let later = connect(&httpd, tls);
            let third = ask(&httpd, &later, Handler::Lua, LARGE);
            third.wait_for_begin();
            assert!(!first.has_begun());
            gets_all(&passes, tls, LARGE);
            assert!(!first.has_begun());
            let reads = now();
            gets_all(&waits, tls, LARGE);
            assert!(ran_to_its_end(&first).began >= reads);
            ran_to_its_end(&second);
            ran_to_its_end(&third);
        }
        httpd.stop();
    });
}

/// Above `TOTAL`, which is for all clients of a child process, the application waits too; when the others have got theirs, there is
/// room again.
#[test]
fn above_the_limit_of_all_it_waits() {
    side_by_side([Mpm::Event, Mpm::Worker], |mpm| {
        let httpd = server(Handler::Lua, mpm, "FinishRequestBuffer 500K 600K");
        let (passes, waits) = (httpd.connect_slow(), httpd.connect_slow());
        let first = ask(&httpd, &passes, Handler::Lua, LARGE);
        first.wait_for_begin();
        let second = ask(&httpd, &waits, Handler::Lua, LARGE);
        let other = httpd.connect();
        let third = ask(&httpd, &other, Handler::Lua, LARGE);
        third.wait_for_begin();
        assert!(!second.has_begun());
        let reads = now();
        gets_all(&passes, false, LARGE);
        gets_all(&waits, false, LARGE);
        assert!(ran_to_its_end(&second).began >= reads);

        let again = httpd.connect_slow();
        let fourth = ask(&httpd, &again, Handler::Lua, LARGE);
        fourth.wait_for_begin();
        gets_all(&again, false, LARGE);
        for work in [first, third, fourth] {
            ran_to_its_end(&work);
        }
        httpd.stop();
    });
}

/// A client that reads nothing is given up after `Timeout`: its connection is let go, and so is what waited for it.
#[test]
fn who_reads_nothing_is_given_up() {
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = server(Handler::Lua, mpm, "FinishRequestBuffer 500K 500K\nTimeout 4");
        let mut works = Vec::new();
        for _ in 0..3 {
            let connection = httpd.connect_slow();
            let port = connection.local_address().port();
            let background = ask(&httpd, &connection, Handler::Lua, LARGE);
            // There is room for it, though the one before it never read.
            background.wait_for_begin();
            wait_for("the connection to be given up", || {
                let sockets = sockets_of(httpd.id());
                (!connections_to(&HashSet::from([port])).iter().any(|inode| sockets.contains(inode))).then_some(())
            });
            assert!(!background.is_done());
            works.push(background);
        }
        works.iter().for_each(|work| {
            ran_to_its_end(work);
        });
        httpd.stop();
    });
}

/// A client that needs longer than `Timeout` for all, but not to read something, is not given up.
#[test]
fn who_reads_a_little_at_a_time_gets_all() {
    const TIMEOUT: Duration = Duration::from_secs(10);
    let httpd = server(Handler::Lua, Mpm::Event, &format!("FinishRequestBuffer 4M\nTimeout {}", TIMEOUT.as_secs()));
    let mut client = connect_with_little_room(httpd.address());
    let background = httpd.background();
    let target = path(&background, "app.lua", &format!("mark=on&bytes={LARGE}"));
    write!(client, "GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    background.wait_for_begin();
    let (begin, mut bytes) = (Instant::now(), vec![0; 20_000]);
    let mut length = client.read(&mut bytes).unwrap();
    while begin.elapsed() < TIMEOUT * 3 / 2 {
        // How long does not matter, as long as it is shorter than the limit.
        thread::sleep(TIMEOUT / 20);
        bytes.resize(length + 10_000, 0);
        length += client.read(&mut bytes[length..]).unwrap();
    }
    bytes.truncate(length);
    client.read_to_end(&mut bytes).unwrap();
    assert!(bytes.ends_with(&body(LARGE)), "{length} of {} bytes", bytes.len());
    ran_to_its_end(&background);
    httpd.stop();
}

/// A child that ends gracefully waits for the client that still reads, though not for one that has everything and goes on sending;
/// until it is told to stop.
#[test]
fn a_child_that_ends() {
    let cases = Mpm::ALL.into_iter().flat_map(|mpm| [Signal::USR1, Signal::WINCH].map(|signal| (mpm, signal)));
    side_by_side(cases, |(mpm, signal)| {
        let builder = Httpd::builder(mpm).handler(Handler::Lua).workers(32).generations(2);
        let httpd = builder.config(LITTLE).config("FinishRequestBuffer 4M").start();
        let [early, late] = [true, false].map(|tls| {
            let connection = connect(&httpd, tls);
            ran_to_its_end(&ask(&httpd, &connection, Handler::Lua, LARGE));
            connection
        });
        let sends = httpd.connect();
        sends.get("/app.lua?mark=on", &[]);
        assert_body(&sends.response(), &body(4096));
        let children = children(httpd.id());
        httpd.signal(signal);
        wait_for("the one that sends to be cut", || sends.try_send(b"S").is_err().then_some(()));
        gets_all(&early, true, LARGE);
        if signal == Signal::USR1 {
            gets_all(&late, false, LARGE);
        } else {
            httpd.allow_log("AH00045");
            httpd.signal(Signal::TERM);
            wait_for("the children to end", || (!children.iter().copied().any(exists)).then_some(()));
            late.resume();
            late.end();
            assert!(late.received().len() < LARGE);
        }
        drop((early, late));
        httpd.stop();
    });
}

/// More slow clients at once than the helping thread takes: each gets its own response.
#[test]
fn three_hundred_at_once() {
    side_by_side([Mpm::Event, Mpm::Worker], |mpm| {
        const CLIENTS: usize = 300;
        const BYTES: usize = 120_000;
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .workers(64)
            .config("FinishRequest On\nFinishRequestMax none\nSendBufferSize 16384")
            .start();
        // As many threads wait for clients as there are, for a while.
        httpd.may_be_full();
        let connections: Vec<Connection> = (0..CLIENTS)
            .map(|number| {
                let connection = httpd.connect_slow();
                connection.get(&format!("/app.lua?mark=on&bytes={}", BYTES + number), &[]);
                connection
            })
            .collect();
        wait_for("most to be finished", || (httpd.access_log().len() >= 256).then_some(()));
        assert!(connections.iter().all(|connection| connection.received().is_empty()));
        connections.iter().for_each(Connection::resume);
        let text = body(BYTES + CLIENTS);
        for (number, connection) in connections.iter().enumerate() {
            assert_eq!(connection.end().kind, EndKind::Fin);
            assert!(connection.received().ends_with(&[b"\r\n\r\n", &text[..BYTES + number]].concat()), "{number}");
        }
        // They have gone, and the thread takes others.
        drop(connections);
        let connection = httpd.connect_slow();
        let background = ask(&httpd, &connection, Handler::Lua, LARGE);
        background.wait_for_begin();
        gets_all(&connection, false, LARGE);
        drop(connection);
        ran_to_its_end(&background);
        httpd.stop();
    });
}

/// A marked response that ends with its handler: httpd holds the last of it until then. What came before waits for a slow client.
const TOGETHER: Application = Application {
    php: "",
    sh: "",
    lua: "r.content_type = 'text/plain'
          r.headers_out['Content-Length'] = query.bytes
          r.headers_out['X-Finish-Request'] = 'on'
          local text = background.body(tonumber(query.bytes))
          r:write(text:sub(1, -1001))
          if query.flush then
              r:flush()
          end
          r:write(text:sub(-1000))
          if query.flush then
              io.open('@GATES@/' .. query.flush, 'w'):close()
          end
          return apache2.OK",
};

/// The first part has been taken, and the handler ends.
#[track_caller]
fn is_taken(httpd: &Httpd, name: &str) {
    wait_for("the response to be taken", || httpd.root().join("gates").join(name).exists().then_some(()));
}

/// `%O` is what the client got: for clients that read at once and for slow ones, with and without the buffer, for responses that
/// are finished early and for those that end with their handler.
#[test]
fn bytes_are_counted() {
    let cases = Mpm::ALL
        .into_iter()
        .flat_map(|mpm| [(mpm, "4M", "Close"), (mpm, "0", "Close"), (mpm, "4M", "Keep"), (mpm, "0", "Keep")]);
    side_by_side(cases, |(mpm, buffer, keep)| {
        let httpd = server(
            Handler::Lua,
            mpm,
            &format!(
                "FinishRequestBuffer {buffer}\nFinishRequestConnection {keep}\nCustomLog \"${{ROOT}}/bytes.log\" \"%q %O %X\""
            ),
        );
        let together = TOGETHER.install(&httpd, Handler::Lua, "together");
        let mut number = 0;
        for (page, flush) in [("app.lua", false), (&together, false), (&together, true)] {
            for slow in [true, false] {
                for bytes in [0, 1000, LARGE] {
                    if flush && bytes < LARGE || page == together && bytes == 0 {
                        continue;
                    }
                    number += 1;
                    let connection = if slow { httpd.connect_slow() } else { httpd.connect() };
                    let taken = if flush { format!("&flush=taken-{number}") } else { String::new() };
                    connection.get(&format!("/{page}?bytes={bytes}&number={number}{taken}"), &[]);
                    if flush && buffer == "4M" {
                        is_taken(&httpd, &format!("taken-{number}"));
                    }
                    // What is not buffered is logged when the client has read: it does so when the server has begun to wait.
                    connection.resume();
                    let response = connection.response();
                    assert_body(&response, &body(bytes));
                    let line = format!("?bytes={bytes}&number={number}{taken} {}", response.raw.len());
                    wait_for(&format!("the line '{line}'"), || {
                        let log = fs::read_to_string(httpd.root().join("bytes.log")).unwrap_or_default();
                        let found = log.lines().find(|logged| logged.contains(&format!("&number={number}{taken} ")))?;
                        assert!(found.starts_with(&format!("{line} ")), "'{found}', not '{line}'");
                        Some(())
                    });
                }
            }
        }
        httpd.stop();
    });
}

/// A marked response that ends with its handler, for a slow client: it is complete, and its connection goes on, with what the client
/// has sent meanwhile.
#[test]
fn an_ordinary_response() {
    let cases = Mpm::ALL.into_iter().flat_map(|mpm| [(mpm, "4M"), (mpm, "50K"), (mpm, "0")]);
    side_by_side(cases, |(mpm, buffer)| {
        let httpd = server(Handler::Lua, mpm, &format!("FinishRequestConnection Keep\nFinishRequestBuffer {buffer}"));
        let page = TOGETHER.install(&httpd, Handler::Lua, "together");
        for flush in ["", "&flush=taken"] {
            let connection = httpd.connect_slow();
            let text = format!("GET /{page}?bytes={LARGE}{flush} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            connection.send(text.repeat(2) + "GET /app.lua?mark=none&bytes=50 HTTP/1.1\r\nHost: localhost\r\n\r\n");
            if buffer == "4M" && !flush.is_empty() {
                is_taken(&httpd, "taken");
            }
            connection.resume();
            assert_body(&connection.response(), &body(LARGE));
            assert_body(&connection.response(), &body(LARGE));
            assert_body(&connection.response(), &body(50));
            assert!(!connection.has_ended());
        }
        assert!(!httpd.log().contains("finished early"));
        httpd.stop();
    });
}

/// A file, larger than the buffer, and a compressed response.
#[test]
fn files_and_compressed_responses() {
    /// Less than the file: Lua takes long to give back what it has made of lines, and a server that is stopped waits for that.
    const COMPRESSED: usize = 2_000_000;
    const FILE: Application = Application {
        php: "",
        sh: "",
        lua: "r.content_type = 'text/plain'
              r.headers_out['Content-Length'] = '6000000'
              r.headers_out['X-Finish-Request'] = 'on'
              r:sendfile(r.filename:gsub('[^/]*$', 'large.txt'))
              r:flush()
              background.run(r, query.id, 0)
              return apache2.OK",
    };
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .modules(&["deflate", "filter"])
            .config(LITTLE)
            .config(
                "FinishRequestBypass none\nFinishRequestBuffer 4M\nSetOutputFilter DEFLATE\nDeflateCompressionLevel 1",
            )
            .start();
        let page = FILE.install(&httpd, Handler::Lua, "file");
        httpd.install("large.txt", &String::from_utf8(body(6_000_000)).unwrap());
        for tls in [false, true] {
            let connection = connect(&httpd, tls);
            let background = httpd.background();
            connection.get(&background.query(&page), &[]);
            gets_all(&connection, tls, 6_000_000);
            assert!(!background.is_done());
            ran_to_its_end(&background);

            let connection = connect(&httpd, tls);
            let background = httpd.background();
            let target = path(&background, "app.lua", &format!("mark=on&bytes={COMPRESSED}"));
            connection.get(&target, &[("Accept-Encoding", "gzip")]);
            background.wait_for_begin();
            connection.resume();
            assert_eq!(connection.end().kind, EndKind::Fin);
            assert!(connection.response().decoded() == body(COMPRESSED));
            assert!(!background.is_done());
            ran_to_its_end(&background);
        }
        httpd.stop();
    });
}

/// Brings the loopback interface of the thread's network up, or down: then packets vanish without a word.
fn loopback(up: bool) {
    // SAFETY: a socket of this function's own; the kernel reads and writes a record of its own kind.
    unsafe {
        let socket = libc::socket(libc::AF_INET, libc::SOCK_DGRAM | libc::SOCK_CLOEXEC, 0);
        assert!(socket >= 0);
        let mut request: libc::ifreq = std::mem::zeroed();
        for (to, from) in request.ifr_name.iter_mut().zip(b"lo") {
            *to = *from as libc::c_char;
        }
        request.ifr_ifru.ifru_flags = if up { libc::IFF_UP as libc::c_short } else { 0 };
        let set = libc::ioctl(socket, libc::SIOCSIFFLAGS, &raw const request);
        assert_eq!(set, 0, "{}", std::io::Error::last_os_error());
        libc::close(socket);
    }
}

/// Says to this program that it runs in a user namespace of its own.
const INSIDE: &str = "FINISH_REQUEST_INSIDE";

/// Whether a thread of this program may have a network of its own.
fn may_have_a_network() -> bool {
    // SAFETY: the thread does nothing else, and ends.
    thread::spawn(|| unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0).join().unwrap()
}

/// Runs a test of this program in a user namespace, in which an ordinary user may have a network.
fn once_more_inside(test: &str) {
    let mut unshare = Command::new("unshare");
    unshare.args(["--user", "--map-current-user", "--keep-caps"]).arg(env::current_exe().unwrap());
    let output = unshare.args(["--exact", test]).env(INSIDE, "yes").output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "in a user namespace: {}", String::from_utf8_lossy(&said));
}

/// A client vanishes: its packets and those to it are lost, and nobody says so. Its application loses nothing by it, and the
/// connection is given up: by the server in its time, whether bytes wait for it, it is closed, or waits for its next request.
#[test]
fn a_client_that_vanishes() {
    if env::var_os(INSIDE).is_none() && !support::machine::may_unshare(&["--net"]) {
        return;
    }
    if !may_have_a_network() && env::var_os(INSIDE).is_none() {
        return once_more_inside("slow_clients::a_client_that_vanishes");
    }
    side_by_side(Mpm::ALL, |mpm| {
        // SAFETY: the thread is this test's own, and gets a network of its own.
        let unshared = unsafe { libc::unshare(libc::CLONE_NEWNET) };
        let error = std::io::Error::last_os_error();
        assert_eq!(
            unshared, 0,
            "this test needs a network namespace of its own, which this machine does not permit: {error}"
        );
        loopback(true);
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .workers(32)
            .in_network_of_this_thread()
            .config(LITTLE)
            .config("FinishRequestBuffer 500K 500K\nTimeout 5\nKeepAliveTimeout 2")
            .config("<Location /kept.lua>\nFinishRequestConnection Keep\n</Location>")
            .start();
        httpd.install("kept.lua", &fs::read_to_string(httpd.root().join("www/app.lua")).unwrap());
        for (page, bytes) in
            [("app.lua", LARGE), ("app.lua", 1000), ("kept.lua", LARGE), ("kept.lua", 1000), ("app.lua", LARGE)]
        {
            let connection = httpd.connect_slow();
            let ports = HashSet::from([connection.local_address().port()]);
            let background = httpd.background();
            connection.get(&path(&background, page, &format!("mark=on&bytes={bytes}")), &[]);
            background.wait_for_begin();
            loopback(false);
            // httpd has it until the work ends.
            let is_httpds = bytes != LARGE;
            if is_httpds {
                ran_to_its_end(&background);
            }
            wait_for("the connection to be given up", || {
                let sockets = sockets_of(httpd.id());
                (!connections_to(&ports).iter().any(|inode| sockets.contains(inode))).then_some(())
            });
            if !is_httpds {
                assert!(!background.is_done());
                ran_to_its_end(&background);
            }
            loopback(true);
        }
        httpd.stop();
    });
}
