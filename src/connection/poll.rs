//! poll(2), for one socket; and epoll(7), for as many as there are, at a cost that does not depend on how many that is.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::{Duration, Instant};

use crate::httpd::Ahead;

/// Whether a program's next output can be read without waiting, or will be before `within` has passed. Errors: it is not known to be.
pub fn is_at_hand(ahead: &Ahead<'_>, within: Duration) -> bool {
    match ahead {
        Ahead::Read => true,
        Ahead::Socket(socket) => wait(*socket, libc::POLLIN, Some(within)).unwrap_or(false),
    }
}

/// Waits until one of `events` (`POLLIN`, `POLLOUT`) is there, or the other side has gone. False when `within` has passed before
/// that; none is without limit.
///
/// # Errors
///
/// The kernel's: no memory, say.
pub fn wait(socket: BorrowedFd<'_>, events: i16, within: Option<Duration>) -> io::Result<bool> {
    let deadline = within.map(|within| Instant::now() + within);
    loop {
        let mut watched = libc::pollfd { fd: socket.as_raw_fd(), events, revents: 0 };
        let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
        // SAFETY: one record, of this function's own (invariant 11).
        match unsafe { libc::poll(&raw mut watched, 1, left.map_or(-1, milliseconds)) } {
            0 => return Ok(false),
            1.. => return Ok(true),
            _ => {
                let error = io::Error::last_os_error();
                if error.kind() != ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// How many sockets are told of at a time.
const AT_ONCE: usize = 64;

/// Sockets that are watched, each with a number of its own.
pub struct Epoll(OwnedFd);

impl Epoll {
    /// One that watches nothing.
    ///
    /// # Errors
    ///
    /// The kernel's: no descriptor, say.
    pub fn new() -> io::Result<Self> {
        // SAFETY: the kernel gives a new descriptor, which is nobody else's (invariant 11).
        unsafe {
            match libc::epoll_create1(libc::EPOLL_CLOEXEC) {
                ..0 => Err(io::Error::last_os_error()),
                epoll => Ok(Self(OwnedFd::from_raw_fd(epoll))),
            }
        }
    }

    /// Watches a socket for `events` (`EPOLLIN`, `EPOLLOUT`), or for others than before.
    ///
    /// # Errors
    ///
    /// The kernel's: no memory, say.
    pub fn watch(&self, socket: BorrowedFd<'_>, is_new: bool, events: i32, number: u64) -> io::Result<()> {
        let what = if is_new { libc::EPOLL_CTL_ADD } else { libc::EPOLL_CTL_MOD };
        self.control(what, socket.as_raw_fd(), events, number)
    }

    /// Watches a socket by its own number, be it that it has been watched before.
    ///
    /// # Errors
    ///
    /// As [`Epoll::watch`].
    pub fn watch_number(&self, socket: RawFd, events: i32, number: u64) -> io::Result<()> {
        match self.control(libc::EPOLL_CTL_ADD, socket, events, number) {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                self.control(libc::EPOLL_CTL_MOD, socket, events, number)
            }
            added => added,
        }
    }

    /// Does not watch it any more. To be called before the descriptor is closed: another process may have the socket, too, for a moment, and with
    /// that it would go on being watched.
    pub fn forget(&self, socket: BorrowedFd<'_>) {
        self.forget_number(socket.as_raw_fd());
    }

    /// The same for a socket that is known by its number: if that is another's by now, nothing happens.
    pub fn forget_number(&self, socket: RawFd) {
        // An error says that it was not watched.
        let _ = self.control(libc::EPOLL_CTL_DEL, socket, 0, 0);
    }

    fn control(&self, what: i32, socket: RawFd, events: i32, number: u64) -> io::Result<()> {
        let mut event = libc::epoll_event { events: events.cast_unsigned(), u64: number };
        // SAFETY: this one is open, the socket's number may be anybody's, and the record is this function's own (invariant 11).
        if unsafe { libc::epoll_ctl(self.0.as_raw_fd(), what, socket, &raw mut event) } < 0 {
            return Err(io::Error::last_os_error());
        }
        Ok(())
    }

    /// Waits until something has come for one of them, and gives their numbers; none when `within` has passed before that, which none has without
    /// limit.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn wait(&self, within: Option<Duration>) -> io::Result<impl Iterator<Item = u64>> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; AT_ONCE];
        let (most, timeout) = (AT_ONCE as i32, within.map_or(-1, milliseconds));
        // SAFETY: the array is this function's own, of the length that is given (invariant 11).
        let count = unsafe { libc::epoll_wait(self.0.as_raw_fd(), events.as_mut_ptr(), most, timeout) };
        let count = usize::try_from(count).or_else(|_| match io::Error::last_os_error() {
            error if error.kind() == ErrorKind::Interrupted => Ok(0),
            error => Err(error),
        })?;
        Ok(events.into_iter().take(count).map(|event| event.u64))
    }
}

/// A duration as poll(2) takes it: rounded up, so that a time limit has passed when it returns.
pub fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
}
