//! The thread that reads a connection.

use std::io::Read as _;
use std::net::TcpStream;
use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{RecvFlags, recv};
use rustls::ClientConnection;

use crate::watch::Watch;

/// Bytes that came together. Under TLS: decrypted.
#[derive(Clone, Debug)]
pub struct Read {
    /// When they came.
    pub at: Instant,
    /// What came.
    pub bytes: Vec<u8>,
}

/// The end of what the server sends.
#[derive(Clone, Copy, Debug)]
pub struct End {
    /// When it came.
    pub at: Instant,
    /// How it came.
    pub kind: EndKind,
    /// When the TLS session was closed; `None` without TLS, and when that was left out.
    pub close_notify: Option<Instant>,
}

/// How a connection can end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EndKind {
    /// The server closed its side: a FIN.
    Fin,
    /// The server gave the connection up: an RST.
    Reset,
}

/// What has come over a connection until now.
#[derive(Default)]
pub(super) struct Received {
    /// All bytes, together.
    pub(super) bytes: Vec<u8>,
    /// Where in them each read ended, and when it came.
    ends: Vec<(usize, Instant)>,
    pub(super) end: Option<End>,
    pub(super) close_notify: Option<Instant>,
    /// While set, nothing is read.
    pub(super) paused: bool,
    /// Once set, the thread ends.
    pub(super) quit: bool,
}

impl Received {
    fn push(&mut self, bytes: &[u8], at: Instant) {
        self.bytes.extend_from_slice(bytes);
        self.ends.push((self.bytes.len(), at));
    }

    /// When the byte at `position` came.
    pub(super) fn time_of(&self, position: usize) -> Option<Instant> {
        let after = self.ends.partition_point(|(end, _)| *end <= position);
        self.ends.get(after).map(|(_, at)| *at)
    }

    /// When the last byte came.
    pub(super) fn time_of_last(&self) -> Option<Instant> {
        self.ends.last().map(|(_, at)| *at)
    }

    /// What came together.
    pub(super) fn reads(&self) -> Vec<Read> {
        let starts = std::iter::once(0).chain(self.ends.iter().map(|(end, _)| *end));
        let read =
            |(start, (end, at)): (usize, &(usize, Instant))| Read { at: *at, bytes: self.bytes[start..*end].to_vec() };
        starts.zip(&self.ends).map(read).collect()
    }
}

/// What the thread that reads and the test share.
pub(super) struct Shared {
    pub(super) socket: TcpStream,
    pub(super) tls: Option<Mutex<ClientConnection>>,
    pub(super) received: Watch<Received>,
    /// An eventfd that wakes the thread from waiting for the socket.
    pub(super) wake: OwnedFd,
}

impl Shared {
    /// Makes the thread look at `paused` and `quit`.
    pub(super) fn wake(&self) {
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
}

/// Reads until the connection has ended or `quit` is set.
pub(super) fn run(shared: &Arc<Shared>) {
    loop {
        let paused = shared.received.update(|received| received.paused);
        wait_for_something(shared, !paused);
        let over = shared.received.update(|received| {
            if received.quit {
                return true;
            }
            if !received.paused {
                read_once(shared, received);
            }
            received.end.is_some()
        });
        if over {
            return;
        }
    }
}

fn wait_for_something(shared: &Shared, socket_too: bool) {
    let mut descriptors = vec![PollFd::new(&shared.wake, PollFlags::IN)];
    if socket_too {
        descriptors.push(PollFd::new(&shared.socket, PollFlags::IN));
    }
    let _ = poll(&mut descriptors, None);
    if descriptors[0].revents().contains(PollFlags::IN) {
        let _ = rustix::io::read(&shared.wake, &mut [0; 8]);
    }
}

/// Takes what the socket has, without waiting.
fn read_once(shared: &Shared, received: &mut Received) {
    let mut buffer = [0; 16 * 1024];
    let kind = match recv(&shared.socket, &mut buffer, RecvFlags::DONTWAIT) {
        Ok((0, _)) => EndKind::Fin,
        Ok((length, _)) => return take(shared, received, &buffer[..length]),
        Err(Errno::INTR | Errno::AGAIN) => return,
        Err(_) => EndKind::Reset,
    };
    received.end = Some(End { at: Instant::now(), kind, close_notify: received.close_notify });
}

fn take(shared: &Shared, received: &mut Received, bytes: &[u8]) {
    let at = Instant::now();
    let Some(tls) = &shared.tls else {
        received.push(bytes, at);
        return;
    };
    let mut tls = tls.lock().unwrap_or_else(PoisonError::into_inner);
    let mut rest = bytes;
    while !rest.is_empty() {
        let taken = tls.read_tls(&mut rest).expect("a slice can be read");
        let state = tls.process_new_packets().expect("the server speaks TLS");
        if state.plaintext_bytes_to_read() > 0 {
            let mut bytes = vec![0; state.plaintext_bytes_to_read()];
            tls.reader().read_exact(&mut bytes).expect("there are so many");
            received.push(&bytes, at);
        }
        if state.peer_has_closed() {
            received.close_notify.get_or_insert(at);
        }
        if taken == 0 {
            return;
        }
    }
}
