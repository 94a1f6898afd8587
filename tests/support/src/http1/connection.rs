//! The test's side of a connection.

use std::io::{self, Write};
use std::net::{Shutdown, SocketAddr, TcpStream};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use rustix::event::{EventfdFlags, eventfd};
use rustix::net::{AddressFamily, SocketType, socket, sockopt};
use rustls::ClientConnection;

use super::parse::{parse, parse_so_far};
use super::reader::{self, End, Read, Received, Shared};
use crate::certificate::Certificate;
use crate::deadline::DEADLINE;
use crate::response::Response;
use crate::watch::Watch;

/// How many bytes the kernel keeps for a slow client, at the most; it doubles the number.
const LITTLE_ROOM: usize = 16 * 1024;

/// A connection to a server. Closed when dropped.
pub struct Connection {
    shared: Arc<Shared>,
    reader: Option<JoinHandle<()>>,
    /// How many of the received bytes belong to responses that the test has taken.
    taken: Mutex<usize>,
}

/// What can come instead of a response.
#[derive(Clone, Debug)]
pub enum Trouble {
    /// The end of the connection.
    End(End),
    /// Bytes that are no response: why.
    Nonsense(String),
}

impl Connection {
    /// Connects to `address`.
    ///
    /// # Panics
    ///
    /// When nobody listens there.
    #[track_caller]
    pub fn plain(address: SocketAddr) -> Connection {
        Connection::start(connect(address), None)
    }

    /// Connects to `address` and shakes hands, trusting `certificate` and offering HTTP/1.1.
    ///
    /// # Panics
    ///
    /// When that fails.
    #[track_caller]
    pub fn tls(address: SocketAddr, certificate: &Certificate) -> Connection {
        Connection::shake_hands(connect(address), certificate)
    }

    /// As [`Connection::plain`] for a client that reads nothing before [`Connection::resume`], and for which the kernel keeps
    /// little.
    ///
    /// # Panics
    ///
    /// When nobody listens there.
    #[track_caller]
    pub fn slow(address: SocketAddr) -> Connection {
        let connection = Connection::start(connect_with_little_room(address), None);
        connection.pause();
        connection
    }

    /// The same over TLS, after the handshake.
    ///
    /// # Panics
    ///
    /// When that fails.
    #[track_caller]
    pub fn slow_tls(address: SocketAddr, certificate: &Certificate) -> Connection {
        let connection = Connection::shake_hands(connect_with_little_room(address), certificate);
        connection.pause();
        connection
    }

    #[track_caller]
    fn shake_hands(mut socket: TcpStream, certificate: &Certificate) -> Connection {
        let config = certificate.client_config(b"http/1.1");
        let mut tls = ClientConnection::new(config, Certificate::server_name()).expect("the TLS settings are right");
        while tls.is_handshaking() {
            tls.complete_io(&mut socket).expect("TLS can be agreed on");
        }
        Connection::start(socket, Some(tls))
    }

    fn start(socket: TcpStream, tls: Option<ClientConnection>) -> Connection {
        let shared = Arc::new(Shared {
            socket,
            tls: tls.map(Mutex::new),
            received: Watch::default(),
            wake: eventfd(0, EventfdFlags::NONBLOCK).expect("an eventfd"),
        });
        let reader = thread::spawn({
            let shared = Arc::clone(&shared);
            move || reader::run(&shared)
        });
        Connection { shared, reader: Some(reader), taken: Mutex::new(0) }
    }

    /// The client's own address and port.
    ///
    /// # Panics
    ///
    /// Never, in practice: a connected socket has them.
    pub fn local_address(&self) -> SocketAddr {
        self.shared.socket.local_addr().expect("a connected socket has an address")
    }

    /// Sends `bytes` as they are.
    ///
    /// # Panics
    ///
    /// When the server has closed the connection.
    #[track_caller]
    pub fn send(&self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).expect("the server takes what is sent");
    }

    /// As [`Connection::send`].
    ///
    /// # Errors
    ///
    /// What the operating system says when the server has closed the connection.
    pub fn try_send(&self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        let bytes = bytes.as_ref();
        let mut socket = &self.shared.socket;
        match &self.shared.tls {
            None => socket.write_all(bytes),
            Some(tls) => {
                let mut tls = tls.lock().unwrap_or_else(PoisonError::into_inner);
                // TLS takes only so much before it must be sent.
                for part in bytes.chunks(16 * 1024) {
                    tls.writer().write_all(part)?;
                    flush(&mut tls, socket)?;
                }
                Ok(())
            }
        }
    }

    /// Sends a GET request for `path` over HTTP/1.1 with `Host` and these other headers.
    ///
    /// # Panics
    ///
    /// When the server has closed the connection.
    #[track_caller]
    pub fn get(&self, path: &str, headers: &[(&str, &str)]) {
        self.request("GET", path, headers, None);
    }

    /// Sends a request for `path` over HTTP/1.1 with `Host` and these other headers; with a body, and its
    /// length in a header, if there is one.
    ///
    /// # Panics
    ///
    /// When the server has closed the connection.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) {
        let mut head = format!("{method} {path} HTTP/1.1\r\nHost: localhost\r\n");
        for (name, value) in headers {
            head += &format!("{name}: {value}\r\n");
        }
        if let Some(body) = body {
            head += &format!("Content-Length: {}\r\n", body.len());
        }
        head += "\r\n";
        self.send([head.as_bytes(), body.unwrap_or_default()].concat());
    }

    /// Waits for the next response on this connection that is complete by its own framing.
    ///
    /// # Panics
    ///
    /// After the deadline, when the connection ends first, or when what comes is no response.
    #[track_caller]
    pub fn response(&self) -> Response {
        match self.next(false) {
            Ok(response) => response,
            Err(end) => panic!("{:?} in the middle of {}", end.kind, show(&self.rest())),
        }
    }

    /// As [`Connection::response`] to a HEAD request.
    #[track_caller]
    pub fn head_response(&self) -> Response {
        match self.next(true) {
            Ok(response) => response,
            Err(end) => panic!("{:?} in the middle of {}", end.kind, show(&self.rest())),
        }
    }

    /// As [`Connection::response_or_end`] to a HEAD request.
    ///
    /// # Errors
    ///
    /// The end of the connection.
    #[track_caller]
    pub fn head_response_or_end(&self) -> Result<Response, End> {
        self.next(true)
    }

    /// As [`Connection::response`], where the connection may end before the response is complete.
    ///
    /// # Errors
    ///
    /// That end. What came before it is in [`Connection::received`].
    ///
    /// # Panics
    ///
    /// After the deadline, and when what comes is no response.
    #[track_caller]
    pub fn response_or_end(&self) -> Result<Response, End> {
        self.next(false)
    }

    #[track_caller]
    fn next(&self, to_head: bool) -> Result<Response, End> {
        self.response_or_trouble(to_head).map_err(|trouble| match trouble {
            Trouble::End(end) => end,
            Trouble::Nonsense(nonsense) => panic!("{nonsense}"),
        })
    }

    /// As [`Connection::response_or_end`], also to a HEAD request, where what comes may be no response.
    ///
    /// # Errors
    ///
    /// What came instead. The bytes are in [`Connection::rest`].
    ///
    /// # Panics
    ///
    /// After the deadline.
    #[track_caller]
    pub fn response_or_trouble(&self, to_head: bool) -> Result<Response, Trouble> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let start = *taken;
        let result = self.shared.received.wait(
            |received| take_response(received, start, to_head).transpose(),
            |received| format!("no complete response in {}", show(&received.bytes[start..])),
        );
        match result {
            Ok(Ok(response)) => {
                *taken += response.raw.len();
                Ok(response)
            }
            Ok(Err(end)) => Err(Trouble::End(end)),
            Err(nonsense) => Err(Trouble::Nonsense(nonsense)),
        }
    }

    /// The next response if it is complete already, or why it will never be. Does not wait.
    pub fn response_now(&self) -> Option<Result<Response, String>> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let result = self.shared.received.update(|received| take_response(received, *taken, false)).transpose()?;
        let result = result.and_then(|response| response.map_err(|end| format!("{:?} in the middle", end.kind)));
        if let Ok(response) = &result {
            *taken += response.raw.len();
        }
        Some(result)
    }

    /// What there is of the next response: `None` before its headers are complete. Does not wait.
    pub fn so_far(&self) -> Option<Response> {
        let taken = *self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.received.update(|received| {
            let raw = received.bytes[taken..].to_vec();
            let (parsed, _) = parse_so_far(&raw, false).ok()??;
            let began = received.time_of(taken)?;
            let ended = received.time_of_last()?;
            let (status, headers, body, framing) = (parsed.status, parsed.headers, parsed.body, parsed.framing);
            Some(Response { status, headers, body, framing, raw, began, ended })
        })
    }

    /// Waits until something has come of the next response, or the connection has ended.
    ///
    /// # Panics
    ///
    /// After the deadline.
    #[track_caller]
    pub fn next_begins(&self) {
        let taken = *self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        self.shared.received.wait(
            |received| (received.end.is_some() || received.time_of(taken).is_some()).then_some(()),
            |received| format!("nothing more after {}", show(&received.bytes)),
        );
    }

    /// Waits for the end of the connection.
    ///
    /// # Panics
    ///
    /// After the deadline.
    #[track_caller]
    pub fn end(&self) -> End {
        self.shared.received.wait(
            |received| received.end,
            |received| format!("no end of the connection after {}", show(&received.bytes)),
        )
    }

    /// Whether the server has ended the connection already. Does not wait.
    pub fn has_ended(&self) -> bool {
        self.shared.received.update(|received| received.end.is_some())
    }

    /// All bytes that have come until now, under TLS decrypted.
    pub fn received(&self) -> Vec<u8> {
        self.shared.received.update(|received| received.bytes.clone())
    }

    /// The bytes that have come and belong to no response that was taken.
    pub fn rest(&self) -> Vec<u8> {
        let taken = *self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        self.received().split_off(taken)
    }

    /// All reads until now, each with its time.
    pub fn reads(&self) -> Vec<Read> {
        self.shared.received.update(|received| received.reads())
    }

    /// Closes the client's side: no more will be sent, but everything is still received.
    pub fn close_sending(&self) {
        if let Some(tls) = &self.shared.tls {
            let mut tls = tls.lock().unwrap_or_else(PoisonError::into_inner);
            tls.send_close_notify();
            let _ = flush(&mut tls, &self.shared.socket);
        }
        let _ = self.shared.socket.shutdown(Shutdown::Write);
    }

    /// Reads nothing from now on, like a client that is slow: the kernel's buffers fill up.
    pub fn pause(&self) {
        self.shared.received.update(|received| received.paused = true);
        self.shared.wake();
    }

    /// Reads again after [`Connection::pause`].
    pub fn resume(&self) {
        self.shared.received.update(|received| received.paused = false);
        self.shared.wake();
    }

    /// Gives the connection up: the server gets an RST.
    pub fn abort(self) {
        let none = Some(Duration::ZERO);
        sockopt::set_socket_linger(&self.shared.socket, none).expect("SO_LINGER");
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.shared.received.update(|received| received.quit = true);
        self.shared.wake();
        if let Some(reader) = self.reader.take() {
            let _ = reader.join();
        }
    }
}

#[track_caller]
fn connect(address: SocketAddr) -> TcpStream {
    prepared(TcpStream::connect_timeout(&address, DEADLINE).expect("the server listens"))
}

/// A socket that is connected to `address`, and for which the kernel keeps little.
///
/// # Panics
///
/// When nobody listens there.
#[track_caller]
pub fn connect_with_little_room(address: SocketAddr) -> TcpStream {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket(family, SocketType::STREAM, None).expect("a socket");
    // Before it connects: it decides which window is offered.
    sockopt::set_socket_recv_buffer_size(&socket, LITTLE_ROOM).expect("SO_RCVBUF");
    rustix::net::connect(&socket, &address).expect("the server listens");
    prepared(socket.into())
}

fn prepared(socket: TcpStream) -> TcpStream {
    socket.set_nodelay(true).expect("TCP_NODELAY");
    // For the handshake and for what is sent: the reader does not wait in the socket.
    socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
    socket.set_write_timeout(Some(DEADLINE)).expect("a timeout");
    socket
}

/// Sends what TLS has to send.
fn flush(tls: &mut ClientConnection, mut socket: &TcpStream) -> io::Result<()> {
    while tls.wants_write() {
        tls.write_tls(&mut socket)?;
    }
    Ok(())
}

/// The next response, or the end that came instead; `None` while there is neither.
///
/// # Errors
///
/// Why what comes is no response.
fn take_response(received: &Received, start: usize, to_head: bool) -> Result<Option<Result<Response, End>>, String> {
    let bytes = &received.bytes[start..];
    let Some(parsed) = parse(bytes, to_head, received.end.is_some())? else {
        return Ok(received.end.map(Err));
    };
    let raw = bytes[..parsed.length].to_vec();
    let times = received.time_of(start).zip(received.time_of(start + raw.len() - 1));
    Ok(times.map(|(began, last)| {
        // A body that goes up to the end of the connection is complete only then.
        let ended = match (parsed.framing, received.end) {
            (crate::Framing::Close, Some(end)) => end.at,
            _ => last,
        };
        let (status, headers, body, framing) = (parsed.status, parsed.headers, parsed.body, parsed.framing);
        Ok(Response { status, headers, body, framing, began, ended, raw })
    }))
}

/// Bytes for a message.
fn show(bytes: &[u8]) -> String {
    const ENOUGH: usize = 2000;
    let shown = bytes[..bytes.len().min(ENOUGH)].escape_ascii();
    format!("{} bytes: \"{shown}\"", bytes.len())
}
