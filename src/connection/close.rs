//! `Close`: the client's socket is taken from the request and closed on its own.

use std::os::fd::{AsRawFd, BorrowedFd};
use std::os::unix::net::UnixStream;

use super::linger;
use crate::httpd::{Connection, Seldom};

/// Lets the client go: sends FIN, and has the socket closed when the client has had the time to read. The request's
/// connection is left with a socket that is at its end. To be called after all bytes are with the kernel.
pub fn release(connection: Connection<'_>) {
    let Some(socket) = connection.socket() else { return };
    shutdown(socket);
    if let Err(error) = take(socket) {
        static FAILED: Seldom = Seldom::new();
        FAILED.log(|more| {
            log::warn!(
                "the client's socket cannot be closed before the background work ends: {error} (too many open files? see ulimit -n){more}"
            );
        });
    }
}

/// Puts a socket that has come to its end in the place of the client's, which goes to the lingering thread.
fn take(socket: BorrowedFd<'_>) -> std::io::Result<()> {
    // One end of a pair whose other end is closed: reading gives the end, writing an error.
    let (ended, _) = UnixStream::pair()?;
    let client = socket.try_clone_to_owned()?;
    // SAFETY: both descriptors are open; the number stays httpd's, which sees a connection that the client has closed.
    if unsafe { libc::dup3(ended.as_raw_fd(), socket.as_raw_fd(), libc::O_CLOEXEC) } < 0 {
        return Err(std::io::Error::last_os_error());
    }
    linger::close(client);
    Ok(())
}

fn shutdown(socket: BorrowedFd<'_>) {
    // SAFETY: a descriptor that is open. An error says that the client has gone already.
    unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_WR) };
}
