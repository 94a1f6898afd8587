//! poll(2), for one socket.

use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::time::{Duration, Instant};

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

/// A duration as poll(2) takes it: rounded up, so that a time limit has passed when it returns.
pub fn milliseconds(duration: Duration) -> i32 {
    i32::try_from(duration.as_micros().div_ceil(1000)).unwrap_or(i32::MAX)
}
