//! A connection that a worker and the child's thread share, by the number of its socket, and what the client has sent on it.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Duration;

use crate::httpd::Connection;
use crate::rules::hold::{Hold, Sent, blank_lines};

/// How many bytes are looked at: more empty lines than that no client sends.
pub const GLIMPSE: usize = 64;
/// How often a thread that waits for another one looks again before it sleeps, and how long it sleeps.
const TURNS: u32 = 100;
const NAP: Duration = Duration::from_micros(100);

/// A connection, as worker and thread share it.
pub struct Link {
    pub hold: Hold,
    /// The number of its socket, which may have become another's: httpd closes the sockets of a child that is told to stop.
    number: RawFd,
    /// The kernel's own name of the socket, which no other ever has.
    cookie: u64,
}

impl Link {
    /// That of a connection, which nobody watches; none where it has no socket, or the kernel does not name it.
    pub fn of(connection: Connection<'_>) -> Option<Self> {
        let number = connection.socket()?.as_raw_fd();
        Some(Self { hold: Hold::default(), number, cookie: cookie(number).ok()? })
    }

    /// The number of its socket.
    pub const fn number(&self) -> RawFd {
        self.number
    }

    /// A descriptor of the connection's socket for the caller; none where the number is another's, or nobody's.
    pub fn socket(&self) -> io::Result<Option<OwnedFd>> {
        // SAFETY: only makes a descriptor. A number that is not open is an error (invariant 11).
        let own = unsafe { libc::fcntl(self.number, libc::F_DUPFD_CLOEXEC, 0) };
        if own < 0 {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(libc::EBADF) { Ok(None) } else { Err(error) };
        }
        // SAFETY: the kernel has just made it (invariant 11).
        let own = unsafe { OwnedFd::from_raw_fd(own) };
        match cookie(own.as_raw_fd()) {
            Ok(cookie) => Ok((cookie == self.cookie).then_some(own)),
            Err(error) if error.raw_os_error() == Some(libc::ENOTSOCK) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts another socket in its place.
    pub fn bury(&self, ended: &UnixStream) {
        loop {
            match cookie(self.number) {
                Ok(cookie) if cookie != self.cookie => return,
                Err(error) if matches!(error.raw_os_error(), Some(libc::EBADF | libc::ENOTSOCK)) => return,
                _ => {}
            }
            // SAFETY: the socket is open (invariant 11). The number is the connection's, which its worker leaves alone as long as the thread has it.
            if unsafe { libc::dup3(ended.as_raw_fd(), self.number, libc::O_CLOEXEC) } >= 0 {
                return;
            }
            // A thread that is just opening something, say. The worker must not see the client's socket any more.
            thread::sleep(NAP);
        }
    }
}

/// Waits for another thread, which is quick.
pub fn pause(turns: &mut u32) {
    *turns += 1;
    if *turns < TURNS { thread::yield_now() } else { thread::sleep(NAP) }
}

/// The kernel's name of a socket.
fn cookie(number: RawFd) -> io::Result<u64> {
    let mut cookie = 0_u64;
    let mut length = size_of::<u64>() as libc::socklen_t;
    let option = (libc::SOL_SOCKET, libc::SO_COOKIE);
    // SAFETY: the kernel writes a number of that length, or an error: a number that is no socket's is one (invariant 11).
    let result = unsafe { libc::getsockopt(number, option.0, option.1, (&raw mut cookie).cast(), &raw mut length) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(cookie) }
}

/// Takes away the empty lines before the next request, as httpd does at the end of a request (`ap_check_pipeline`): at the beginning of one it may
/// refuse them.
pub fn discard_blank_lines(socket: BorrowedFd<'_>) {
    let length = peek(socket, |sent| if let Sent::Bytes(bytes) = sent { blank_lines(bytes) } else { 0 });
    if length > 0 {
        let mut bytes = [0_u8; GLIMPSE];
        // SAFETY: as for peek. So many bytes are there.
        unsafe { libc::recv(socket.as_raw_fd(), bytes.as_mut_ptr().cast(), length.min(GLIMPSE), libc::MSG_DONTWAIT) };
    }
}

/// Looks at what the client has sent, which stays there.
pub fn peek<T>(socket: BorrowedFd<'_>, then: impl FnOnce(Sent<'_>) -> T) -> T {
    let mut bytes = [0_u8; GLIMPSE];
    loop {
        let flags = libc::MSG_PEEK | libc::MSG_DONTWAIT;
        // SAFETY: the socket is open, and the array this function's own, of the length that is given (invariant 11).
        let read = unsafe { libc::recv(socket.as_raw_fd(), bytes.as_mut_ptr().cast(), GLIMPSE, flags) };
        match usize::try_from(read) {
            Ok(0) => return then(Sent::End),
            Ok(length) => return then(Sent::Bytes(bytes.get(..length).unwrap_or_default())),
            Err(_) => match io::Error::last_os_error().kind() {
                ErrorKind::Interrupted => {}
                ErrorKind::WouldBlock => return then(Sent::Nothing),
                _ => return then(Sent::End),
            },
        }
    }
}
