//! The client is let go: by FIN on httpd's own socket, or by taking that from the request. Whatever happens to the request later does not reach the
//! client.

use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;

use super::client::{self, Leaving};
use super::thread;
use super::waiting::Waiting;
use super::watch::{self, Fate, Watch};
use super::{buffer, keep, resources};
use crate::background;
use crate::httpd::{Connection, Request, is_async, is_stopping};
use crate::rules::hold::{Act, act};

/// Lets the client go. To be called when the response has been passed to the connection's filters and flushed.
///
/// A client that has all of it, and has sent all of its request, needs no more than FIN where its connection is closed: httpd keeps the socket, and
/// closes it when the work has ended. So it does where the connection goes on, and is watched meanwhile. Otherwise the request's connection is left
/// with a socket that is at its end.
pub fn release(connection: Connection<'_>, request: Request<'_>, next: Next) {
    // Asked before TLS is shut down. A client that writes all of its request before it reads would wait for the work to end.
    let has_sent_all = next == Next::Close && keep::body_is_complete(request);
    if next == Next::Close {
        // The client has all of the response: whether it wants to hear that nothing follows does not matter.
        let _ = connection.end_output();
    }
    let waiting = buffer::take(connection);
    let has_all = waiting.is_empty() && !connection.holds_output();
    if has_all && next == Next::Nothing && watch(connection, request) {
        return;
    }
    connection.close_after_response();
    if has_all && (has_sent_all || next == Next::End) {
        shutdown(connection);
        return;
    }
    let timeout = connection.timeout();
    match take(connection) {
        Ok(client) => {
            let is_kept = matches!(next, Next::Request | Next::Nothing);
            let kept = is_kept.then(|| keep::Unwatched::new(connection, request));
            if waiting.is_empty()
                && let Some(kept) = &kept
                && kept.hand_over(client.as_fd()).is_ok()
            {
                return;
            }
            thread::leave(Leaving::new(client, waiting, timeout, kept));
        }
        // A server that is told to stop closes its workers' connections (`close_worker_sockets`).
        Err(error) if error.kind() == io::ErrorKind::NotConnected || error.raw_os_error() == Some(libc::EBADF) => {}
        Err(error) => {
            resources::warn(
                "a client has its response, but its connection stays open on this side until the background work ends",
                &error,
            );
            // The bytes that wait are sent while the request waits. Errors: the client has gone.
            let _ = buffer::send(connection, waiting);
            shutdown(connection);
        }
    }
}

/// What follows on a connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Next {
    /// Nothing: it is to be closed.
    Close,
    /// It is kept, and the client has said that nothing follows.
    End,
    /// It is kept, and the next request is there: httpd has read of it.
    Request,
    /// It is kept, and httpd has read nothing of the next request.
    Nothing,
}

/// Looks what follows on a connection that is to be kept. To be called before the client has all of the response: what it sends because of that is
/// left to whoever reads it then.
pub fn look_ahead(request: Request<'_>) -> Next {
    match watch::look_ahead(request.connection(), request.brigade(), |sent| act(sent, false)) {
        Act::Close => Next::End,
        Act::HandOver => Next::Request,
        Act::Leave => Next::Nothing,
    }
}

/// Has a connection watched that goes on: whether it is.
fn watch(connection: Connection<'_>, request: Request<'_>) -> bool {
    // With another record httpd would not see at the request's end what it has read of the next one (`data_in_input_filters`). A process that ends
    // goes on with no connection.
    if request.connection().raw() != connection.raw() || is_stopping() {
        return false;
    }
    let Some(watched) = Watch::of(connection) else { return false };
    let kept = keep::HandOver::without_bytes(connection, request.keep_alive_timeout());
    let list = || {
        let no_thread =
            |error: &_| resources::warn("a child process has no thread to watch its kept connections", error);
        thread::watching().inspect_err(no_thread).ok()
    };
    let is_watched = watched.begin(request.path(), kept, list);
    if is_watched && let Some(counting) = background::counting(request) {
        counting.kept();
    }
    is_watched
}

/// The work has ended. Returns true if the client's connection goes on here. Otherwise httpd is about to close what it has of it. `aborted` says
/// whether the client had gone before the work began: what the time limit has said since is no reason for a reset. httpd's thread, where it would wait
/// for the client to close too, is spared that.
pub fn work_ended(connection: Connection<'_>, aborted: bool) -> bool {
    connection.set_aborted(aborted);
    match connection.extra().map_or(Fate::Unwatched, Watch::take_back) {
        Fate::Back => {
            log::debug!("the background work has ended before the client's next request: its connection goes on");
            return true;
        }
        // FIN would be the other process's, and so would the client's bytes.
        Fate::AnotherProcess => drop(take(connection)),
        Fate::Unwatched | Fate::Gone => {}
    }
    connection.close_after_response();
    end_of_closed(connection, aborted);
    false
}

fn end_of_closed(connection: Connection<'_>, aborted: bool) {
    if aborted || is_async() || connection.holds_output() || buffer::holds_something(connection) {
        return;
    }
    let is_at_end = connection.socket().is_none_or(|socket| client::discard(socket, 1).is_none());
    if !is_at_end && let Ok(client) = take(connection) {
        thread::leave(Leaving::new(client, Waiting::default(), None, None));
    }
}

/// Sends FIN.
pub fn shutdown(connection: Connection<'_>) {
    if let Some(socket) = connection.socket() {
        // SAFETY: a descriptor that is open (invariant 11). An error says that the client has gone already.
        unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_WR) };
    }
}

/// Puts a socket that has come to its end in the place of the client's.
fn take(connection: Connection<'_>) -> io::Result<OwnedFd> {
    let socket = connection.socket().ok_or(io::ErrorKind::NotConnected)?;
    // One end of a pair whose other end is closed: reading gives the end, writing an error.
    let (ended, _) = UnixStream::pair()?;
    let client = socket.try_clone_to_owned()?;
    // SAFETY: both descriptors are open (invariant 11); the number stays httpd's, which sees a connection that the client has closed.
    if unsafe { libc::dup3(ended.as_raw_fd(), socket.as_raw_fd(), libc::O_CLOEXEC) } < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(client)
}
