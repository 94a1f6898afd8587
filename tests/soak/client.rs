//! Clients of all kinds. What they get is parsed by others' parsers, and its framing is held to the byte.

use std::cell::Cell;
use std::io::{ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use support::{DEADLINE, Httpd};

use crate::ledger::{Ledger, Outcome};

/// A client that asks for one thing after the other, as its numbers say.
pub struct Client<'a> {
    httpd: &'a Httpd,
    ledger: &'a Ledger,
    numbers: Numbers,
}

/// Numbers by chance, the same for the same seed (Marsaglia's xorshift).
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Numbers {
        Numbers(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    /// One below `end`.
    pub fn below(&mut self, end: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 16) as usize % end
    }
}

/// The kinds of requests whose clients wait for their responses.
pub const WAIT: [&str; 9] = ["close", "chunked", "auto", "unmarked", "late", "keep", "upload", "tls", "slow"];
/// The one that HTTP/2 has besides.
pub const STREAM: &str = "stream";

/// What a response must be.
struct Asked {
    kind: &'static str,
    job: usize,
    path: String,
    length: usize,
}

impl<'a> Client<'a> {
    pub fn new(httpd: &'a Httpd, ledger: &'a Ledger, seed: u64) -> Client<'a> {
        Client { httpd, ledger, numbers: Numbers::new(seed) }
    }

    /// One thing of those that clients do.
    pub fn one(&mut self) {
        match self.numbers.below(100) {
            0..30 => self.closed("close", "/job.lua", "&framing=length&mark=on"),
            30..36 => self.closed("chunked", "/job.lua", "&mark=flush"),
            36..42 => self.closed("auto", "/auto/job.lua", "&framing=length&close=1"),
            42..50 => self.closed("unmarked", "/job.lua", "&framing=length"),
            50..52 => self.closed("late", "/late/job.cgi", ""),
            52..75 => self.kept(),
            75..80 => self.upload(),
            80..85 => self.tls(),
            85..90 => self.streams(),
            90..95 => self.aborted(),
            _ => self.slow(),
        }
    }

    fn asked(&mut self, kind: &'static str, page: &str, query: &str, most: usize) -> Asked {
        let job = self.ledger.job();
        let length = 1 + self.numbers.below(most);
        let work = [0, 0, 0, 2_000, 20_000][self.numbers.below(5)];
        Asked { kind, job, path: format!("{page}?id={job}&n={length}&work={work}{query}"), length }
    }

    fn connect(&self) -> TcpStream {
        let socket = TcpStream::connect(self.httpd.address()).unwrap();
        socket.set_nodelay(true).unwrap();
        socket.set_read_timeout(Some(DEADLINE)).unwrap();
        socket.set_write_timeout(Some(DEADLINE)).unwrap();
        socket
    }

    fn note(&self, asked: &Asked, outcome: Outcome) {
        self.ledger.note(asked.job, asked.kind, outcome);
    }

    /// The connection is closed after the response: in good order, and with nothing behind it.
    fn closed(&mut self, kind: &'static str, page: &str, query: &str) {
        let most = if self.numbers.below(10) == 0 { 200_000 } else { 3_000 };
        let asked = self.asked(kind, page, query, most);
        let mut socket = self.connect();
        let close = if matches!(kind, "unmarked" | "late") { "Connection: close\r\n" } else { "" };
        let outcome = send(&mut socket, &get(&asked, close)).and_then(|()| read(&mut socket, &asked, true));
        // mod_cgid's daemon, which restarts with the server, has not begun yet.
        let outcome = outcome.map(|_| Outcome::Whole).unwrap_or_else(|broken| match broken {
            Outcome::Wrong(what) if kind == "late" && what.starts_with("status 503,") => Outcome::Aborted,
            broken => broken,
        });
        self.note(&asked, outcome);
    }

    /// Several requests, one after the other; some clients say then that nothing follows.
    fn kept(&mut self) {
        let mut socket = self.connect();
        for number in 0..2 + self.numbers.below(8) {
            let asked = self.asked("keep", "/keep/job.lua", "&framing=length&mark=on", 3_000);
            let outcome = send(&mut socket, &get(&asked, "")).and_then(|()| read(&mut socket, &asked, false));
            match outcome {
                // Any kept connection may be closed instead of being answered on.
                Err(Outcome::Broken(what)) if number > 0 && what == NOTHING => {
                    return self.note(&asked, Outcome::Aborted);
                }
                Err(broken) => return self.note(&asked, broken),
                Ok(goes_on) => {
                    self.note(&asked, Outcome::Whole);
                    if !goes_on {
                        return;
                    }
                    // Some ask at once, and their connection is handed over if the work runs; others about when the work ends.
                    if self.numbers.below(2) == 0 {
                        thread::sleep(Duration::from_millis(self.numbers.below(25) as u64));
                    }
                }
            }
        }
        if self.numbers.below(2) == 0 {
            let _ = socket.shutdown(Shutdown::Write);
            let _ = socket.read(&mut [0; 1]);
        }
    }

    /// A body that nobody reads.
    fn upload(&mut self) {
        let asked = self.asked("upload", "/job.lua", "&framing=length&mark=on", 3_000);
        let length = self.numbers.below(100_000);
        let mut socket = self.connect();
        let mut request =
            format!("POST {} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n", asked.path).into_bytes();
        request.resize(request.len() + length, b'u');
        let outcome = send(&mut socket, &request).and_then(|()| read(&mut socket, &asked, true));
        self.note(&asked, outcome.map_or_else(|broken| broken, |_| Outcome::Whole));
    }

    fn tls(&mut self) {
        let asked = self.asked("tls", "/job.lua", "&framing=length&mark=on", 20_000);
        let Some(connection) = quietly(|| self.httpd.connect_tls()) else { return self.note(&asked, Outcome::Aborted) };
        let outcome = match connection.try_send(get(&asked, "")).map(|()| connection.response_or_trouble(false)) {
            Ok(Ok(response)) if response.status == 200 && is_body(&response.body, &asked) => Outcome::Whole,
            Ok(Ok(response)) => Outcome::Wrong(format!("{} and {} bytes", response.status, response.body.len())),
            Ok(Err(trouble)) => Outcome::Broken(format!("{trouble:?}")),
            Err(error) => Outcome::Broken(error.to_string()),
        };
        self.note(&asked, outcome);
    }

    fn streams(&mut self) {
        if self.httpd.log().contains("[mpm_prefork:") {
            return;
        }
        let Some(connection) = quietly(|| self.httpd.connect_http2()) else { return };
        for _ in 0..1 + self.numbers.below(6) {
            if !connection.is_open() {
                return;
            }
            let all: Vec<_> = (0..1 + self.numbers.below(3))
                .map(|_| self.asked(STREAM, "/job.lua", "&framing=length&mark=on", 20_000))
                .map(|asked| (connection.get(&asked.path, &[]), asked))
                .collect();
            for (stream, asked) in all {
                let outcome = match stream.response_or_failure() {
                    Ok(response) if response.status == 200 && is_body(&response.body, &asked) => Outcome::Whole,
                    Ok(response) => Outcome::Wrong(format!("{} and {} bytes", response.status, response.body.len())),
                    // A server that restarts lets no stream begin that came too late; no byte of it has come.
                    Err(_) if stream.so_far().is_none() => Outcome::Aborted,
                    Err(failure) => Outcome::Broken(failure.text),
                };
                self.note(&asked, outcome);
            }
        }
    }

    /// The client goes before it has the response.
    fn aborted(&mut self) {
        let asked = self.asked("aborted", "/job.lua", "&framing=length&mark=on", 400_000);
        let mut socket = self.connect();
        let _ = socket.write_all(&get(&asked, ""));
        if self.numbers.below(2) == 0 {
            let _ = socket.read(&mut [0; 100]);
        }
        self.note(&asked, Outcome::Aborted);
    }

    /// The client begins to read late, and has closed its own side.
    fn slow(&mut self) {
        let asked = self.asked("slow", "/job.lua", "&framing=length&mark=on", 900_000);
        let mut socket = self.connect();
        let sent = send(&mut socket, &get(&asked, ""));
        let _ = socket.shutdown(Shutdown::Write);
        thread::sleep(Duration::from_millis(self.numbers.below(100) as u64));
        let outcome = sent.and_then(|()| read(&mut socket, &asked, true));
        self.note(&asked, outcome.map_or_else(|broken| broken, |_| Outcome::Whole));
    }
}

thread_local! {
    /// Whether a panic is no news: a handshake that fails, with a child that has just been killed.
    static QUIET: Cell<bool> = const { Cell::new(false) };
}

fn quietly<T>(connect: impl FnOnce() -> T) -> Option<T> {
    QUIET.set(true);
    let connected = catch_unwind(AssertUnwindSafe(connect)).ok();
    QUIET.set(false);
    connected
}

/// Has a panic be told, unless it is no news.
pub fn tell_panics() {
    let tell = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if !QUIET.get() {
            tell(panic);
        }
    }));
}

/// No byte came.
const NOTHING: &str = "nothing came";

fn get(asked: &Asked, more: &str) -> Vec<u8> {
    format!("GET {} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n", asked.path).into_bytes()
}

fn send(socket: &mut TcpStream, request: &[u8]) -> Result<(), Outcome> {
    match socket.write_all(request) {
        Err(error) if is_gone(error.kind()) => Ok(()),
        Err(error) => Err(Outcome::Wrong(format!("cannot be asked: {error}"))),
        Ok(()) => Ok(()),
    }
}

fn is_gone(error: ErrorKind) -> bool {
    matches!(error, ErrorKind::BrokenPipe | ErrorKind::ConnectionReset)
}

/// The job's number again and again, and nothing else.
fn is_body(body: &[u8], asked: &Asked) -> bool {
    let word = format!("{}\n", asked.job).into_bytes();
    body.len() == asked.length && body.iter().zip(word.iter().cycle()).all(|(is, should)| is == should)
}

/// Reads one response, to its last byte; where the connection is to end with it, up to that. True if the connection goes on.
fn read(socket: &mut TcpStream, asked: &Asked, closes: bool) -> Result<bool, Outcome> {
    let wrong = |what: String| Outcome::Wrong(what);
    let mut bytes = Vec::new();
    let head = loop {
        let mut headers = [httparse::EMPTY_HEADER; 32];
        let mut response = httparse::Response::new(&mut headers);
        match response.parse(&bytes) {
            Err(error) => return Err(wrong(format!("no response: {error}"))),
            Ok(httparse::Status::Partial) => {}
            Ok(httparse::Status::Complete(length)) => break Head::of(&response, length)?,
        }
        more(socket, &mut bytes)?;
    };
    let mut body = Vec::new();
    let mut at = head.bytes;
    match head.length {
        Some(length) => {
            while bytes.len() < at + length {
                more(socket, &mut bytes)?;
            }
            body.extend_from_slice(&bytes[at..at + length]);
            at += length;
        }
        None => loop {
            let size = loop {
                match httparse::parse_chunk_size(&bytes[at..]) {
                    Err(_) => return Err(wrong("no chunk".to_owned())),
                    Ok(httparse::Status::Complete((length, size))) => {
                        at += length;
                        break usize::try_from(size).unwrap();
                    }
                    Ok(httparse::Status::Partial) => more(socket, &mut bytes)?,
                }
            };
            while bytes.len() < at + size + 2 {
                more(socket, &mut bytes)?;
            }
            body.extend_from_slice(&bytes[at..at + size]);
            at += size + 2;
            if &bytes[at - 2..at] != b"\r\n" {
                return Err(wrong("a chunk without its end".to_owned()));
            }
            if size == 0 {
                break;
            }
        },
    }
    if head.status != 200 || !is_body(&body, asked) {
        return Err(wrong(format!("status {}, {} bytes", head.status, body.len())));
    }
    let ends = closes || head.closes;
    // All is there: a reset behind it is no loss, but a byte is one too many.
    while ends && more(socket, &mut bytes).is_ok() {}
    if bytes.len() > at {
        return Err(wrong(format!("{} bytes behind the response", bytes.len() - at)));
    }
    Ok(!ends)
}

struct Head {
    bytes: usize,
    status: u16,
    /// None of a body in chunks.
    length: Option<usize>,
    closes: bool,
}

impl Head {
    fn of(response: &httparse::Response<'_, '_>, bytes: usize) -> Result<Head, Outcome> {
        let values = |name: &str| {
            let headers = response.headers.iter().filter(|header| header.name.eq_ignore_ascii_case(name));
            headers.map(|header| String::from_utf8_lossy(header.value).into_owned()).collect::<Vec<_>>()
        };
        let length = match (&values("Content-Length")[..], &values("Transfer-Encoding")[..]) {
            ([length], []) => Some(length.parse().map_err(|_| Outcome::Wrong(format!("length {length:?}")))?),
            ([], [coding]) if coding == "chunked" => None,
            other => return Err(Outcome::Wrong(format!("framing {other:?}"))),
        };
        if !values("X-Finish-Request").is_empty() {
            return Err(Outcome::Wrong("the mark reached the client".to_owned()));
        }
        let closes = values("Connection").iter().any(|value| value.eq_ignore_ascii_case("close"));
        Ok(Head { bytes, status: response.code.unwrap_or_default(), length, closes })
    }
}

/// Reads what comes next.
fn more(socket: &mut TcpStream, bytes: &mut Vec<u8>) -> Result<(), Outcome> {
    let mut piece = [0; 16_384];
    match socket.read(&mut piece) {
        Ok(0) if bytes.is_empty() => Err(Outcome::Broken(NOTHING.to_owned())),
        Ok(0) => Err(Outcome::Broken(format!("the end after {} bytes", bytes.len()))),
        Ok(read) => {
            bytes.extend_from_slice(&piece[..read]);
            Ok(())
        }
        Err(error) if is_gone(error.kind()) && bytes.is_empty() => Err(Outcome::Broken(NOTHING.to_owned())),
        Err(error) if is_gone(error.kind()) => Err(Outcome::Broken(error.to_string())),
        Err(error) => Err(Outcome::Wrong(format!("after {} bytes: {error}", bytes.len()))),
    }
}
