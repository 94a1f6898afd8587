//! `Keep`: the client's connection goes on, by way of a listening socket of the server's own. Whichever child accepts it
//! there goes on with the client's connection as if it had served it all the time.

mod body;
mod listener;
mod message;
mod receive;
mod unix;

use std::io::ErrorKind;
use std::os::fd::BorrowedFd;

pub use self::body::{ReadAhead, is_complete as body_is_complete};
pub use self::listener::{child_init, open, warn_if_unavailable};
pub use self::message::HandOver;
pub use self::receive::Receive;
#[cfg(fuzzing)]
pub use self::receive::fuzzed;
use super::resources;
use crate::background::{self, Counting};
use crate::httpd::{Connection, Request, is_ours};

/// The filters that a connection may have and be kept, besides this module's: httpd's core's, mod_logio's, mod_reqtimeout's.
const KNOWN: [&[u8]; 4] = [b"core", b"core_in", b"log_input_output", b"reqtimeout"];

/// Returns true if the request's connection, over HTTP/1, can go on after its response, as far as this server is concerned.
pub fn is_possible(request: Request<'_>) -> bool {
    let why_not = why_not(request);
    if let Some(why) = &why_not {
        log::debug!("the client's connection cannot be kept: {why}");
    }
    why_not.is_none()
}

/// True if nothing but httpd's core and what only counts stands between a connection and its socket: no TLS, say.
pub fn has_known_filters(connection: Connection<'_>) -> bool {
    foreign_filter(connection).is_none()
}

fn foreign_filter(connection: Connection<'_>) -> Option<&[u8]> {
    connection.filters().find(|name| !KNOWN.contains(name) && !is_ours(name))
}

fn why_not(request: Request<'_>) -> Option<String> {
    let connection = request.connection();
    if !listener::is_there() {
        Some("the server's own configuration has no Keep, or there is no socket for it".to_owned())
    } else if let Some(name) = foreign_filter(connection) {
        Some(format!("the filter {} belongs to it", String::from_utf8_lossy(name)))
    } else if !body::is_complete(request) {
        Some("the request's body has not come, or not been read".to_owned())
    } else {
        None
    }
}

/// Returns true if an error is none to warn of: a full queue says that there are more clients than the server can serve. That nobody
/// listens, or not any more between connecting and sending, says that it is stopping.
pub fn is_ordinary(error: ErrorKind) -> bool {
    matches!(error, ErrorKind::WouldBlock | ErrorKind::BrokenPipe) || is_refused(error)
}

/// Returns true if it says that nobody listens. Not where one has accepted, and closed: another may take the connection.
pub fn is_refused(error: ErrorKind) -> bool {
    matches!(error, ErrorKind::ConnectionRefused | ErrorKind::ConnectionReset)
}

/// A connection that is to be kept without having been watched: it counts as kept when it has been handed over.
pub struct Unwatched {
    kept: HandOver,
    counting: Option<Counting>,
}

impl Unwatched {
    /// The connection of this request, whose socket has been taken away.
    pub fn new(connection: Connection<'_>, request: Request<'_>) -> Self {
        Self { kept: HandOver::new(connection, request.keep_alive_timeout()), counting: background::counting(request) }
    }

    /// Gives it to the server, by the client's socket. Does not wait.
    ///
    /// # Errors
    ///
    /// As [`send`].
    pub fn hand_over(&self, client: BorrowedFd<'_>) -> std::io::Result<()> {
        send(client, &self.kept).inspect_err(|error| {
            if !is_ordinary(error.kind()) {
                resources::warn("a connection that was to be kept is closed", error);
            }
        })?;
        if let Some(counting) = self.counting {
            counting.kept();
        }
        Ok(())
    }
}

/// Gives a client's connection to the server, as [`HandOver`] says. Does not wait.
///
/// # Errors
///
/// Nobody listens, or there is no room in the queue.
pub fn send(client: BorrowedFd<'_>, kept: &HandOver) -> std::io::Result<()> {
    listener::get().ok_or(ErrorKind::ConnectionRefused)?.send(client, kept)
}
