//! Clients that do nothing but ask and wait.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::time::{Duration, Instant};

/// When what came, from the first byte sent on.
pub struct Exchange {
    /// The response was complete by its own framing.
    pub complete: Duration,
    /// The server's FIN.
    pub end: Duration,
}

/// The request that most clients make.
pub fn request(path: &str, connection: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n{connection}\r\n").into_bytes()
}

/// Asks on a connection of its own, which the server is to close, and waits for its FIN.
///
/// # Panics
///
/// When the server does not answer, or with an error.
pub fn ask_and_close(server: SocketAddr, path: &str) -> Exchange {
    let mut socket = connect(server);
    let request = request(path, "Connection: close\r\n");
    let start = Instant::now();
    socket.write_all(&request).expect("the server takes the request");
    let mut reader = Reader::default();
    let mut complete = None;
    while reader.read(&mut socket).expect("the server answers") > 0 {
        if complete.is_none() && reader.complete(false).is_some() {
            complete = Some(start.elapsed());
        }
    }
    let end = start.elapsed();
    assert!(reader.complete(true).is_some(), "{path}: {}", reader.0.escape_ascii());
    Exchange { complete: complete.unwrap_or(end), end }
}

/// Asks on a connection of its own, and closes it as soon as the response is complete by its framing.
///
/// # Panics
///
/// When the server does not answer, or with an error.
pub fn ask_and_leave(server: SocketAddr, path: &str) -> Duration {
    let mut socket = connect(server);
    let request = request(path, "Connection: close\r\n");
    let start = Instant::now();
    socket.write_all(&request).expect("the server takes the request");
    let mut reader = Reader::default();
    while reader.complete(false).is_none() {
        if reader.read(&mut socket).expect("the server answers") == 0 {
            assert!(reader.complete(true).is_some(), "{path}: {}", reader.0.escape_ascii());
            break;
        }
    }
    start.elapsed()
}

/// A client that keeps its connection as long as the server does.
pub struct Kept {
    server: SocketAddr,
    socket: Option<TcpStream>,
    reader: Reader,
    /// How many connections it has had.
    pub connections: usize,
}

impl Kept {
    pub fn new(server: SocketAddr) -> Kept {
        Kept { server, socket: None, reader: Reader::default(), connections: 0 }
    }

    /// Asks, and waits until the response is complete by its framing. Where the server has closed the connection, or says that it will,
    /// the next request has a new one.
    ///
    /// # Panics
    ///
    /// When the server does not answer, or with an error.
    pub fn ask(&mut self, path: &str) -> Duration {
        let request = request(path, "");
        let start = Instant::now();
        loop {
            let fresh = self.socket.is_none();
            let mut socket = self.socket.take().unwrap_or_else(|| {
                self.connections += 1;
                connect(self.server)
            });
            match self.exchange(&mut socket, &request) {
                Ok(keep) => {
                    self.socket = keep.then_some(socket);
                    return start.elapsed();
                }
                // Closed while the client was busy elsewhere: as a browser does, once more.
                Err(_) if !fresh => {}
                Err(error) => panic!("{path}: the server does not answer: {error}"),
            }
        }
    }

    /// Whether the connection may have a further request.
    fn exchange(&mut self, socket: &mut TcpStream, request: &[u8]) -> io::Result<bool> {
        self.reader.0.clear();
        socket.write_all(request)?;
        while self.reader.complete(false).is_none() {
            if self.reader.read(socket)? == 0 {
                self.reader.complete(true).ok_or(io::ErrorKind::UnexpectedEof)?;
                return Ok(false);
            }
        }
        Ok(!self.reader.says_close())
    }
}

/// The bytes of a response.
#[derive(Default)]
pub struct Reader(pub Vec<u8>);

impl Reader {
    pub fn read(&mut self, socket: &mut impl Read) -> io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let count = socket.read(&mut buffer)?;
        self.0.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    /// Where the response ends by its framing, if it has come. `at_end` if no more will come.
    ///
    /// # Panics
    ///
    /// When its status is not 200.
    pub fn complete(&self, at_end: bool) -> Option<usize> {
        let head = find(&self.0, b"\r\n\r\n")? + 4;
        let text = std::str::from_utf8(&self.0[..head]).expect("a header in ASCII");
        assert!(text.starts_with("HTTP/1.1 200 "), "{text}");
        let body = &self.0[head..];
        if let Some(length) = header(text, "content-length") {
            let length: usize = length.parse().expect("a length");
            return (body.len() >= length).then_some(head + length);
        }
        if header(text, "transfer-encoding").is_some() {
            return body.ends_with(b"0\r\n\r\n").then_some(self.0.len());
        }
        at_end.then_some(self.0.len())
    }

    fn says_close(&self) -> bool {
        let head = find(&self.0, b"\r\n\r\n").unwrap_or(self.0.len());
        std::str::from_utf8(&self.0[..head]).ok().and_then(|text| header(text, "connection")) == Some("close")
    }
}

fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (this, value) = line.split_once(':')?;
        this.eq_ignore_ascii_case(name).then_some(value.trim())
    })
}

fn find(bytes: &[u8], pattern: &[u8]) -> Option<usize> {
    memchr::memmem::find(bytes, pattern)
}

/// A new connection.
///
/// # Panics
///
/// When the server does not take it.
pub fn connect(server: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(server).expect("the server listens");
    socket.set_nodelay(true).unwrap();
    socket.set_read_timeout(Some(support::DEADLINE)).unwrap();
    socket.set_write_timeout(Some(support::DEADLINE)).unwrap();
    socket
}

/// How clients of a crowd behave after their requests have been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Crowd {
    /// There are none.
    Nobody,
    /// They take no more than the first bytes of their responses.
    Slow,
    /// They are in the middle of their requests' bodies, which the application does not read.
    Uploading,
    /// They have the FIN, and leave their side open.
    NeverClosing,
}

/// Clients that have asked, and are still there.
pub struct Clients {
    sockets: Vec<TcpStream>,
}

impl Crowd {
    /// Has `count` clients ask for `small` or `large`, and gives them when their requests are answered.
    ///
    /// # Panics
    ///
    /// When the server does not answer.
    pub fn gather(self, server: SocketAddr, count: usize, small: &str, large: &str) -> Clients {
        let path = if self == Crowd::Slow { large } else { small };
        let count = if self == Crowd::Nobody { 0 } else { count };
        let one = |_| {
            let mut socket = connect(server);
            if self == Crowd::Uploading {
                let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 8000000\r\n\r\n");
                socket.write_all(head.as_bytes()).expect("the server takes the request");
                // It may have answered already.
                let _ = socket.write_all(&[b'x'; 16 * 1024]);
            } else {
                socket.write_all(&request(path, "")).expect("the server takes the request");
            }
            if self == Crowd::Slow {
                socket.read_exact(&mut [0; 12]).expect("the server answers");
            } else {
                let mut reader = Reader::default();
                while reader.read(&mut socket).expect("the server answers") > 0 {}
                assert!(reader.complete(true).is_some());
            }
            socket
        };
        Clients { sockets: (0..count).map(one).collect() }
    }
}

impl Clients {
    /// Says goodbye.
    pub fn leave(self) {
        self.sockets.iter().for_each(|socket| {
            let _ = socket.shutdown(Shutdown::Both);
        });
    }
}
