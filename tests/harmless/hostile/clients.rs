//! Resets at every stage of the finish, floods of them, slow beginnings, TLS's oddities.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::net::sockopt::set_socket_linger;
use support::http1::{Connection, EndKind};
use support::{Background, Client, Frame, Frames, Httpd, Mpm, body, wait_for};

use super::{Attacked, CLOSED, KEPT, job, wait_for_hold};
use crate::judge::assert_body;
use tempfile::NamedTempFile;

/// How a client comes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    Plain,
    Tls,
    Http2,
}

impl Way {
    /// With these the connection is closed after the response, with those it is kept, where it can be.
    fn all(mpm: Mpm) -> Vec<(Way, &'static str)> {
        let http2 = mpm.has_http2().then_some((Way::Http2, CLOSED));
        [(Way::Plain, CLOSED), (Way::Plain, KEPT), (Way::Tls, CLOSED)].into_iter().chain(http2).collect()
    }
}

/// A client that is about to go.
enum Visitor {
    Http1(Connection),
    Http2(Frames),
}

impl Visitor {
    fn connect(httpd: &Httpd, way: Way) -> Visitor {
        match way {
            Way::Plain => Visitor::Http1(httpd.connect()),
            Way::Tls => Visitor::Http1(httpd.connect_tls()),
            Way::Http2 => Visitor::Http2(Frames::connect(httpd.address(), &[])),
        }
    }

    fn ask(&mut self, target: &str) {
        match self {
            Visitor::Http1(connection) => connection.get(target, &[]),
            Visitor::Http2(frames) => frames.send(&Frame::get(1, target)).unwrap(),
        }
    }

    fn ask_half(&mut self, target: &str) {
        let half = |bytes: &[u8]| bytes[..bytes.len() / 2].to_vec();
        match self {
            Visitor::Http1(connection) => connection.send(half(format!("GET {target} HTTP/1.1\r\nHost: x").as_bytes())),
            Visitor::Http2(frames) => frames.send(&half(&Frame::get(1, target))).unwrap(),
        }
    }

    fn sees_some(&mut self) {
        match self {
            Visitor::Http1(connection) => connection.next_begins(),
            Visitor::Http2(frames) => while frames.frame().is_some_and(|frame| frame.stream == 0) {},
        }
    }

    fn sees_all(&mut self, bytes: usize) {
        match self {
            Visitor::Http1(connection) => assert_body(&connection.response(), &body(bytes)),
            Visitor::Http2(frames) => assert!(frames.body(1, |_, _| ()) == body(bytes)),
        }
    }

    fn reset(self) {
        match self {
            Visitor::Http1(connection) => connection.abort(),
            Visitor::Http2(frames) => frames.reset(),
        }
    }
}

/// When a client goes.
#[derive(Clone, Copy, Debug)]
enum Stage {
    Connected,
    HalfAsked,
    /// So many microseconds after it has asked.
    Asked(u64),
    /// As soon as something of a large response has come.
    Begun,
    /// The application is in the middle of its response.
    Middle,
    /// As soon as all has come.
    Whole,
    /// While the work runs.
    Working,
    /// So many microseconds after the work was told to end.
    Ending(u64),
}

fn stages() -> Vec<Stage> {
    let delays = |step: u64| (0..10).map(move |times| times * step);
    let fixed = [Stage::Connected, Stage::HalfAsked, Stage::Begun, Stage::Middle, Stage::Whole, Stage::Working];
    fixed.into_iter().chain(delays(200).map(Stage::Asked)).chain(delays(250).map(Stage::Ending)).collect()
}

/// The kernel's clock is too coarse for a sleep that is as short as this.
pub fn pass(microseconds: u64) {
    let began = Instant::now();
    while began.elapsed() < Duration::from_micros(microseconds) {
        std::hint::spin_loop();
    }
}

fn goes(httpd: &Httpd, way: Way, page: &str, stage: Stage) {
    let background = httpd.background();
    let path = |query: &str| job(&background, page, query);
    let mut visitor = Visitor::connect(httpd, way);
    match stage {
        Stage::Connected => {}
        Stage::HalfAsked => visitor.ask_half(&path("")),
        Stage::Asked(microseconds) => {
            visitor.ask(&path(""));
            pass(microseconds);
        }
        Stage::Begun => {
            visitor.ask(&path("bytes=300000"));
            visitor.sees_some();
        }
        Stage::Middle => {
            visitor.ask(&path("hold=middle"));
            wait_for_hold(httpd, &background);
        }
        Stage::Whole => {
            visitor.ask(&path(""));
            visitor.sees_all(4096);
        }
        Stage::Working | Stage::Ending(_) => {
            visitor.ask(&path("hold=work"));
            visitor.sees_all(4096);
            wait_for_hold(httpd, &background);
            if let Stage::Ending(microseconds) = stage {
                background.open_gate();
                pass(microseconds);
            }
        }
    }
    visitor.reset();
    background.open_gate();
}

on_every_mpm!(resets_at_every_stage);

/// Each client gives its connection up at another stage of the finish.
fn resets_at_every_stage(mpm: Mpm) {
    let attacked = Attacked::start(mpm, |builder| builder);
    attacked.withstands(|httpd| {
        for (way, page) in Way::all(mpm) {
            stages().into_iter().for_each(|stage| goes(httpd, way, page, stage));
        }
    });
}

on_every_mpm!(a_flood_of_resets);

/// Several clients at once do nothing but ask and go.
fn a_flood_of_resets(mpm: Mpm) {
    const CLIENTS: usize = 4;
    const TIMES: usize = 30;
    let attacked = Attacked::start(mpm, |builder| builder);
    attacked.withstands(|httpd| {
        thread::scope(|scope| {
            for client in 0..CLIENTS {
                scope.spawn(move || {
                    for time in 0..TIMES {
                        let mut socket = TcpStream::connect(httpd.address()).unwrap();
                        let target = job(&httpd.background(), [CLOSED, KEPT][(client + time) % 2], "");
                        // The rest of a packet that has all of the request in it is the beginning of another one.
                        write!(socket, "GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\nGET /").unwrap();
                        // A reset that comes at once takes the request with it, before httpd has read it.
                        pass(100 * (time as u64 / 2));
                        set_socket_linger(&socket, Some(Duration::ZERO)).unwrap();
                    }
                });
            }
        });
    });
}

on_every_mpm!(slow_beginnings);

/// Headers and handshakes that do not come to their end, or byte by byte: beside them responses are finished, and so are those of the slow.
fn slow_beginnings(mpm: Mpm) {
    // A record of 512 bytes with a ClientHello in it, and no more of that than its random numbers.
    const HANDSHAKE: &[u8] = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\x01\x02\x03\x04\x05\x06\x07\x08";
    let attacked = Attacked::start(mpm, |builder| builder);
    attacked.withstands(|httpd| {
        let handshakes: Vec<TcpStream> = (0..8)
            .map(|_| {
                let mut socket = TcpStream::connect(httpd.tls_address()).unwrap();
                socket.write_all(HANDSHAKE).unwrap();
                socket
            })
            .collect();
        let slow: Vec<_> = (0..8)
            .map(|number| {
                let (background, connection) =
                    (httpd.background(), [Httpd::connect, Httpd::connect_tls][number % 2](httpd));
                let target = job(&background, CLOSED, "");
                connection.send(format!("GET {target} HTTP/1.1\r\nHost: loc"));
                connection
            })
            .collect();
        for byte in b"alhost\r\n\r\n" {
            for &protocol in mpm.protocols() {
                let (background, client) = (httpd.background(), Client::connect(httpd, protocol));
                let target = job(&background, CLOSED, "hold=work");
                assert_body(&client.get(&target, &[]).released(), &body(4096));
                wait_for_hold(httpd, &background);
            }
            slow.iter().for_each(|connection| connection.send([*byte]));
        }
        for connection in &slow {
            assert_body(&connection.response(), &body(4096));
            assert_eq!(connection.end().kind, EndKind::Fin);
        }
        drop(handshakes);
    });
}

/// A client of OpenSSL's, which says what it was told to say when it was told to.
struct SClient {
    process: Child,
    /// What it says of errors, and of what it does.
    errors: NamedTempFile,
}

impl SClient {
    fn start(httpd: &Httpd, arguments: &[&str]) -> SClient {
        SClient::run(Command::new("openssl"), httpd, arguments)
    }

    /// One that sends early data to a server that has not offered to take any.
    fn start_eager(httpd: &Httpd, arguments: &[&str]) -> SClient {
        let mut command = Command::new("openssl");
        command.env("LD_PRELOAD", support::early_data());
        SClient::run(command, httpd, arguments)
    }

    fn run(mut command: Command, httpd: &Httpd, arguments: &[&str]) -> SClient {
        command.args(["s_client", "-connect", &httpd.tls_address().to_string(), "-servername", "localhost"]);
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped());
        let errors = NamedTempFile::new().unwrap();
        command.stderr(errors.reopen().unwrap());
        SClient { process: command.spawn().expect("openssl can be run"), errors }
    }

    fn says(&mut self, text: &str) {
        // It may have ended.
        let _ = self.process.stdin.as_mut().unwrap().write_all(text.as_bytes());
    }

    fn has_ended(&mut self) -> bool {
        self.process.try_wait().unwrap().is_some()
    }

    fn errors(&self) -> String {
        fs::read_to_string(self.errors.path()).unwrap()
    }

    /// Its connection has an end, and what it has said until then.
    fn ends(mut self) -> String {
        drop(self.process.stdin.take());
        let mut text = Vec::new();
        self.process.stdout.take().unwrap().read_to_end(&mut text).unwrap();
        self.process.wait().unwrap();
        String::from_utf8_lossy(&text).into_owned()
    }
}

on_every_mpm!(the_last_line_is_missing);

/// A body whose last chunk comes without the line behind it: nobody waits for that, and no thread spins.
fn the_last_line_is_missing(mpm: Mpm) {
    let attacked = Attacked::start(mpm, |builder| builder);
    attacked.withstands(|httpd| {
        for page in [CLOSED, KEPT] {
            for connection in [httpd.connect(), httpd.connect_tls()] {
                let background = httpd.background();
                background.open_gate();
                let target = job(&background, page, "");
                connection.send(format!(
                    "GET {target} HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n"
                ));
                assert_body(&connection.response(), &body(4096));
                connection.end();
                assert_eq!(connection.rest(), b"");
            }
        }
    });
}

on_every_mpm!(renegotiation);

/// TLS 1.2's renegotiation, which httpd refuses: before the request, in the middle of the response, behind its end.
fn renegotiation(mpm: Mpm) {
    let attacked = Attacked::start(mpm, |builder| builder);
    // OpenSSL's own refusal comes before it, by now.
    attacked.httpd.allow_log("AH02042: rejecting client initiated renegotiation");
    attacked.withstands(|httpd| {
        for hold in ["", "middle", "work"] {
            let background = httpd.background();
            let mut client = SClient::start(httpd, &["-tls1_2"]);
            let request = format!(
                "GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n",
                job(&background, CLOSED, &format!("hold={hold}"))
            );
            if hold.is_empty() {
                // It is refused at once, and gives up.
                client.says("R\n");
                wait_for("the client to end", || client.has_ended().then_some(()));
                let errors = client.errors();
                assert!(errors.contains("RENEGOTIATING") && errors.contains("no renegotiation"), "{errors}");
                continue;
            }
            client.says(&request);
            wait_for_hold(httpd, &background);
            client.says("R\n");
            if hold == "middle" {
                wait_for("the client to ask", || client.errors().contains("RENEGOTIATING").then_some(()));
            }
            // Behind its end the response's close_notify may have come first: then s_client does not try.
            background.open_gate();
            client.ends();
        }
    });
}

on_every_mpm!(early_data);

/// A client that comes back, and sends its request together with its hello: httpd has offered nobody to take that, nobody acts on it, and
/// what comes behind the handshake is answered as ever. Of more than OpenSSL skips, the connection ends.
fn early_data(mpm: Mpm) {
    let attacked = Attacked::start(mpm, |builder| builder);
    attacked.withstands(|httpd| {
        let file = |name: &str| httpd.root().join(name).display().to_string();
        let (session, request) = (file("session"), file("request"));
        let first = httpd.background();
        let get = |background: &Background| {
            format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", job(background, CLOSED, ""))
        };
        let mut client = SClient::start(httpd, &["-tls1_3", "-ign_eof", "-sess_out", &session]);
        client.says(&get(&first));
        assert!(client.ends().contains(&*String::from_utf8_lossy(&body(4096))));
        for (copies, sends, is_answered) in [(1, false, true), (1, true, true), (1000, true, false)] {
            let (early, second) = (httpd.background(), httpd.background());
            fs::write(&request, get(&early).repeat(copies)).unwrap();
            let arguments = ["-tls1_3", "-ign_eof", "-sess_in", &session, "-early_data", &request];
            let start = if sends { SClient::start_eager } else { SClient::start };
            let mut client = start(httpd, &arguments);
            client.says(&get(&second));
            let said = client.ends();
            let its_fate = if sends { "Early data was rejected" } else { "Early data was not sent" };
            assert!(said.contains(its_fate) || !is_answered, "{said}");
            assert_eq!(said.contains(&*String::from_utf8_lossy(&body(4096))), is_answered, "{said}");
            for (background, is_served) in [(early, false), (second, is_answered)] {
                let served = httpd.access_log().iter().any(|line| line.contains(background.id()));
                assert_eq!(served, is_served, "{copies} {sends}");
            }
        }
    });
}
