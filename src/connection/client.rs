//! A client that the child's thread has: what can be done for it now, and what it is waited for. What still waits for it is sent; and then its
//! connection is either handed on, or closed as `ap_lingering_close` does: after FIN the client's bytes are read and discarded until it closes
//! too. A socket closed with unread bytes would be reset, and the client might lose the end of the response.

use std::io::{self, ErrorKind};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use super::keep;
use super::poll;
use super::waiting::{Queue, Waiting};

/// How long a client may be silent (`SECONDS_TO_LINGER`).
pub const SILENCE: Duration = Duration::from_secs(2);
/// How long it may go on sending (`MAX_SECS_TO_LINGER`).
const LIMIT: Duration = Duration::from_secs(30);
/// When it is tried again, where the kernel does not say.
pub const GLANCE: Duration = Duration::from_millis(200);

/// How often a socket is read before the others have their turn, and how much of it in one go.
pub const READS: usize = 16;
const PIECE: usize = 65_536;
/// How many clients a child's thread sends to at a time; above that their request's thread does it.
const MOST_WRITING: usize = 256;

/// To how many clients it still sends.
static WRITING: AtomicUsize = AtomicUsize::new(0);

/// A client that the thread gets.
pub enum Client {
    /// Its response has ended.
    Leaving(Leaving),
    /// Its response is still being made.
    Helped(Helped),
}

/// A client of whose response bytes wait, while its application is busy with what comes next.
pub struct Helped {
    socket: TcpStream,
    queue: Arc<Queue>,
    /// How long it may read nothing.
    timeout: Option<Duration>,
    silent: Option<Instant>,
}

/// A client whose response has ended.
pub struct Leaving {
    /// Given up before the socket: who sees that closed finds room for its own.
    waiting: Waiting,
    socket: TcpStream,
    /// How its connection is kept; none where that is closed.
    kept: Option<keep::Unwatched>,
    /// How long it may read nothing, while bytes wait for it.
    timeout: Option<Duration>,
    writing: Option<Writing>,
    /// True if FIN has been sent.
    closing: bool,
    silent: Option<Instant>,
    limit: Option<Instant>,
}

/// One of [`WRITING`].
struct Writing(());

impl Writing {
    fn new() -> Self {
        WRITING.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        WRITING.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Client {
    /// Does what can be done now. False when the client is out of this thread's hands.
    pub fn goes_on(&mut self, now: Instant) -> bool {
        match self {
            Self::Leaving(client) => client.goes_on(now),
            Self::Helped(client) => client.goes_on(now),
        }
    }

    /// What it is waited for.
    pub fn events(&self) -> i32 {
        match self {
            Self::Leaving(client) if client.waiting.is_empty() => libc::EPOLLIN,
            _ => libc::EPOLLOUT,
        }
    }

    /// When something is due, whatever it does.
    pub fn next(&self) -> Option<Instant> {
        match self {
            Self::Leaving(client) => client.next(),
            Self::Helped(client) => client.silent,
        }
    }

    pub fn socket(&self) -> BorrowedFd<'_> {
        match self {
            Self::Leaving(client) => client.socket.as_fd(),
            Self::Helped(client) => client.socket.as_fd(),
        }
    }
}

impl Helped {
    /// A client that gets what waits in `queue`, within `timeout` for each step.
    pub fn new(socket: OwnedFd, queue: Arc<Queue>, timeout: Option<Duration>) -> Self {
        Self { socket: TcpStream::from(socket), queue, timeout, silent: None }
    }

    /// Sends what the kernel takes. False when there is nothing to send, now or any more.
    fn goes_on(&mut self, now: Instant) -> bool {
        if !self.queue.is_helped() {
            // The request's thread has done with it.
            return false;
        }
        let Some(mut waiting) = self.queue.try_lock() else { return true };
        let before = waiting.len();
        match waiting.send(self.socket.as_fd()) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if self.silent.is_none() || waiting.len() < before {
                    self.silent = self.timeout.map(|timeout| now + timeout);
                }
                if self.silent.is_none_or(|limit| now < limit) {
                    return true;
                }
                self.queue.set_helped(false);
            }
            Ok(()) => _ = self.queue.set_helped(false),
            // The client has gone, as the request's thread will see.
            Err(_) => {}
        }
        false
    }
}

impl Leaving {
    /// A client that gets what waits for it, within `timeout` for each step, and whose connection is then kept or closed.
    pub fn new(socket: OwnedFd, waiting: Waiting, timeout: Option<Duration>, kept: Option<keep::Unwatched>) -> Self {
        let socket = TcpStream::from(socket);
        // Where it fails, the first read may wait; it is the last one then.
        let _ = socket.set_nonblocking(true);
        Self { socket, waiting, kept, timeout, writing: None, closing: false, silent: None, limit: None }
    }

    /// Does what must not wait for the thread: sends FIN where nothing waits; all that waits, where the thread has too many to send to. None when
    /// the connection is out of the caller's hands.
    pub fn begin(mut self) -> Option<Self> {
        if self.waiting.is_empty() {
            // What could be handed on has been.
            self.kept = None;
            self.shut();
        } else if WRITING.load(Ordering::Relaxed) >= MOST_WRITING {
            return self.send_here();
        } else {
            self.writing = Some(Writing::new());
        }
        Some(self)
    }

    /// Does what can be done now. False when the connection is out of this thread's hands.
    fn goes_on(&mut self, now: Instant) -> bool {
        match self.write(now) {
            Some(goes_on) => goes_on,
            None => self.linger(now),
        }
    }

    /// Sends what waits. None when the connection is to be closed, and nothing waits any more.
    fn write(&mut self, now: Instant) -> Option<bool> {
        if !self.waiting.is_empty() {
            let before = self.waiting.len();
            match self.waiting.send(self.socket.as_fd()) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.silent.is_none() || self.waiting.len() < before {
                        self.silent = self.timeout.map(|timeout| now + timeout);
                    }
                    let given_up = [self.silent, self.limit].into_iter().flatten().any(|limit| now >= limit);
                    return Some(!given_up);
                }
                Err(_) => return Some(false),
            }
            self.writing = None;
        }
        if let Some(kept) = self.kept.take()
            && kept.hand_over(self.socket.as_fd()).is_ok()
        {
            return Some(false);
        }
        self.shut();
        None
    }

    /// Sends FIN, unless that has been done. Nothing waits any more, and the connection is not to be kept.
    pub fn shut(&mut self) {
        if !self.closing {
            self.closing = true;
            // An error says that the client has gone already.
            let _ = self.socket.shutdown(Shutdown::Write);
            let now = Instant::now();
            (self.silent, self.limit) = (Some(now + SILENCE), Some(now + LIMIT));
        }
    }

    /// Reads what is there. False when the client has closed, has been silent, or has sent for too long.
    fn linger(&mut self, now: Instant) -> bool {
        let Some(got_something) = discard(self.socket.as_fd(), READS) else { return false };
        if got_something {
            self.silent = Some(now + SILENCE);
        }
        self.next().is_none_or(|limit| now < limit)
    }

    /// The child ends: how long it can stay depends on whether it ends gracefully.
    pub fn hurry(&mut self, now: Instant, graceful: bool) {
        if !graceful || self.waiting.is_empty() {
            let limit = now + SILENCE;
            self.limit = Some(self.limit.map_or(limit, |earlier| earlier.min(limit)));
        }
    }

    /// When something is due, whatever the client does.
    fn next(&self) -> Option<Instant> {
        self.silent.into_iter().chain(self.limit).min()
    }

    /// Does all that is to do, while the caller waits.
    pub fn see_out(mut self) {
        while self.goes_on(Instant::now()) {
            self.wait();
        }
    }

    /// Waits until something can be read or written, or is due.
    fn wait(&self) {
        let events = if self.waiting.is_empty() { libc::POLLIN } else { libc::POLLOUT };
        let next = self.next().map(|next| next.saturating_duration_since(Instant::now()));
        if poll::wait(self.socket.as_fd(), events, next).is_err() {
            std::thread::sleep(GLANCE);
        }
    }

    /// Sends what waits, while the caller waits. None when the connection has been handed on, or the client has gone.
    fn send_here(mut self) -> Option<Self> {
        while self.goes_on(Instant::now()) {
            if self.waiting.is_empty() {
                return Some(self);
            }
            self.wait();
        }
        None
    }
}

/// Reads what is there, so many times at the most, and discards it: whether it is anything. None when the client has closed, or has gone.
pub fn discard(socket: BorrowedFd<'_>, times: usize) -> Option<bool> {
    let mut got_something = false;
    for _ in 0..times {
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // SAFETY: the socket is open (invariant 11). With MSG_TRUNC the kernel discards the bytes of a TCP socket (tcp(7)), and writes nothing.
        match unsafe { libc::recv(socket.as_raw_fd(), std::ptr::null_mut(), PIECE, flags) } {
            0 => return None,
            1.. => got_something = true,
            _ => match io::Error::last_os_error().kind() {
                ErrorKind::Interrupted => {}
                ErrorKind::WouldBlock => break,
                _ => return None,
            },
        }
    }
    Some(got_something)
}
