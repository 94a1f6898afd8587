//! A connection that comes by the server's own socket: the client's takes its place, and httpd goes on with it as if it
//! had had it all the time.

use std::cell::Cell;
use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use super::listener;
use super::message::{HandOver, LONGEST};
use super::unix;
use crate::background::{self, Kind};
use crate::connection::{poll, resources};
use crate::httpd::{
    Accepted, Brigade, ByHttpd, Connection, CreateConnection, InsertNetworkBucket, NetworkBucket, Pool, PreConnection,
    ProcessConnection, Reply, is_async,
};

/// How long a process of the server's own may take from connecting to sending: it does the one after the other.
const SENDING: Duration = Duration::from_secs(1);

/// The origin of a connection.
pub enum Received {
    /// From another process or thread of this server.
    Kept {
        /// The message that came with it.
        kept: HandOver,
        /// True if httpd has not been told of it yet.
        fresh: Cell<bool>,
    },
    /// From somebody who has no business here.
    Stranger,
}

/// The hooks by which such a connection comes.
pub struct Receive;

impl CreateConnection for Receive {
    fn create_connection<'c>(pool: Pool<'c>, socket: Accepted<'c>) -> ByHttpd {
        look_at(pool, socket);
        ByHttpd
    }
}

impl PreConnection for Receive {
    fn pre_connection(connection: Connection<'_>, socket: Option<Accepted<'_>>) -> Reply {
        let accepted = socket.filter(|_| !connection.is_stream());
        if let Some(received) = accepted.and_then(|accepted| accepted.extra::<Cell<Option<Received>>>()?.take()) {
            if let Received::Kept { kept, .. } = &received {
                connection.set_keepalives(kept.keepalives);
            }
            connection.extra_or_init(|| received);
        }
        Reply::Ok
    }
}

impl ProcessConnection for Receive {
    fn process_connection(connection: Connection<'_>) -> Reply {
        if is_done(connection) { Reply::Ok } else { Reply::Declined }
    }
}

impl InsertNetworkBucket for Receive {
    /// The bytes that httpd had read of the connection before go before those that it reads now.
    fn insert_network_bucket<'c>(
        connection: Connection<'c>,
        mut brigade: Brigade<'c>,
        socket: Accepted<'c>,
    ) -> NetworkBucket {
        match connection.extra() {
            Some(Received::Kept { kept, .. }) if !kept.held.is_empty() => {
                brigade.push_bytes(&kept.held);
                brigade.push_socket(socket);
                NetworkBucket::Inserted
            }
            _ => NetworkBucket::Declined,
        }
    }
}

/// Looks at a socket before httpd does.
fn look_at<'c>(pool: Pool<'c>, accepted: Accepted<'c>) {
    let (Some(listener), Some(socket)) = (listener::get(), accepted.descriptor()) else { return };
    if !listener.has_accepted(socket) {
        return;
    }
    let received = match receive(socket, |message| listener.open(message)).and_then(|(kept, client)| {
        accepted.replace(client.as_fd()).map_err(|status| io::Error::other(status.to_string()))?;
        Ok(kept)
    }) {
        Ok(kept) => Received::Kept { kept, fresh: Cell::new(true) },
        Err(error) => {
            if error.raw_os_error() == Some(libc::EMFILE) {
                resources::warn("a kept connection is closed", &error);
            } else {
                background::seldom(Kind::Stranger, |more| {
                    log::debug!("somebody at the socket for kept connections was sent away: {error}{more}")
                });
            }
            end(socket);
            accepted.clear_names();
            Received::Stranger
        }
    };
    accepted.set_extra(pool, Cell::new(Some(received)));
}

/// Returns true if httpd need not go on with it, now or at all.
fn is_done(connection: Connection<'_>) -> bool {
    match connection.extra() {
        None => false,
        Some(Received::Stranger) => {
            close(connection);
            true
        }
        Some(Received::Kept { kept, fresh }) => {
            let is_fresh = fresh.replace(false);
            if is_fresh && !super::has_known_filters(connection) {
                // The server has been restarted meanwhile, and a filter of its new configuration expects a connection's beginning (TLS's, the
                // PROXY protocol's): it would believe the client's next bytes.
                log::debug!("a kept connection is closed: a filter belongs to it that it did not have");
                close(connection);
                return true;
            }
            if !is_fresh || !kept.held.is_empty() {
                return false;
            }
            let Some(socket) = connection.socket() else { return false };
            let is_silent = |timeout| matches!(poll::wait(socket, libc::POLLIN, Some(timeout)), Ok(false));
            if is_async() {
                // One whose request is here is read, as a new connection is: as an idle one httpd may close it, where workers are few or the
                // child is to end.
                let is_idle = is_silent(Duration::ZERO);
                if is_idle {
                    connection.wait_for_request();
                }
                return is_idle;
            }
            connection.show_waiting();
            is_silent(Duration::from_micros(u64::try_from(kept.keep_alive_timeout).unwrap_or(0)))
        }
    }
}

/// Has httpd close it, and send nothing.
fn close(connection: Connection<'_>) {
    connection.abort();
    connection.linger();
}

/// Receives a message that can be opened, with a client's connection.
fn receive(socket: BorrowedFd<'_>, open: impl Fn(&[u8]) -> Option<HandOver>) -> io::Result<(HandOver, OwnedFd)> {
    let mut buffer = Vec::with_capacity(LONGEST);
    let deadline = Instant::now() + SENDING;
    let (message, client) = loop {
        match unix::receive(socket, buffer.spare_capacity_mut()) {
            // Nothing yet: one of the server's own is just about to send it. Nobody else is waited for.
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                let left = deadline.saturating_duration_since(Instant::now());
                if left.is_zero() || !is_of_this_server(socket)? || !poll::wait(socket, libc::POLLIN, Some(left))? {
                    return Err(error);
                }
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            received => {
                let (message, client) = received?;
                break (open(message), client);
            }
        }
    };
    match (message, client) {
        (Some(kept), Some(client)) if unix::is_tcp(client.as_fd()) => Ok((kept, client)),
        _ => Err(ErrorKind::PermissionDenied.into()),
    }
}

/// Returns true if the process that has connected is a child of this server's parent, as this one is, and of the same user. A parent that
/// is the first process of a container has foreign children as well. One that is not to be seen, of the same user, where `/proc` shows
/// nobody another's processes, may be such a child.
///
/// # Errors
///
/// There is no descriptor for a look at it.
fn is_of_this_server(socket: BorrowedFd<'_>) -> io::Result<bool> {
    let peer = unix::peer(socket)?;
    // SAFETY: only asks (invariant 11).
    if peer.uid != unsafe { libc::geteuid() } {
        return Ok(false);
    }
    let stat = match fs::read_to_string(format!("/proc/{}/stat", peer.pid)) {
        Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::PermissionDenied) => return Ok(true),
        stat => stat?,
    };
    // The name, in parentheses, may have any bytes in it; behind it are the state and the parent.
    let parent = stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)?.parse().ok());
    Ok(parent == Some(std::os::unix::process::parent_id()))
}

/// Sends a stranger away: its socket is replaced by one that is at its end.
fn end(socket: BorrowedFd<'_>) {
    if let Ok((ended, _)) = UnixStream::pair() {
        // SAFETY: both descriptors are open (invariant 11); the number stays httpd's.
        unsafe { libc::dup3(ended.as_raw_fd(), socket.as_raw_fd(), libc::O_CLOEXEC) };
    }
}

/// For the fuzzer: all that is done with what comes from a socket, before httpd hears of it.
#[cfg(fuzzing)]
#[allow(missing_docs, clippy::missing_errors_doc)]
pub mod fuzzed {
    use std::io;
    use std::os::fd::{BorrowedFd, OwnedFd};

    pub use super::super::message::{LONGEST, SECRET};
    use super::HandOver;

    pub fn receive(secret: &[u8; SECRET], socket: BorrowedFd<'_>) -> io::Result<(HandOver, OwnedFd)> {
        super::receive(socket, |message| HandOver::from_bytes(message, secret))
    }
}
