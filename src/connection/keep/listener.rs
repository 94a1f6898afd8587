//! The socket by which connections go back to the server. The parent makes it when the configuration first has `Keep`, and has the MPM
//! listen to it as to any other. Nobody can connect to it without a descriptor that the parent's children have from it. Whoever connects
//! and does not know the parent's secret is sent away. It is the same one across restarts, so that nothing that waits in its queue is lost.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};

use super::message::{HandOver, SECRET};
use super::unix::{self, Name};
use crate::background::{self, Kind};
use crate::directives::wants_keep;
use crate::httpd::{BeforeListening, is_rehearsal};

/// The one that the MPM listens to; or why there is none, though it is wanted.
static LISTENER: RwLock<Result<Arc<Listener>, Option<String>>> = RwLock::new(Err(None));

/// The listening socket, as parent and children know it. Its descriptors are httpd's alone: when the last process that
/// accepts from it has closed them, nobody can hand a connection in any more.
pub struct Listener {
    door: OwnedFd,
    name: Name,
    secret: [u8; SECRET],
}

/// Returns true if there is one, and this process can get at it.
pub fn is_there() -> bool {
    static REACHABLE: OnceLock<bool> = OnceLock::new();
    get().is_some() && *REACHABLE.get_or_init(unix::has_doors)
}

/// The one that the MPM listens to.
pub fn get() -> Option<Arc<Listener>> {
    LISTENER.read().unwrap_or_else(PoisonError::into_inner).as_ref().ok().cloned()
}

/// Has the MPM listen to this one, where `Keep` is wanted, or has been: older children may still hand connections in.
pub fn open(starting: &BeforeListening<'_>) {
    let before = get();
    if before.is_none() && !wants_keep() {
        return;
    }
    let listener = if starting.has_listen_buckets() {
        Err("it cannot be had together with ListenCoresBucketsRatio".to_owned())
    } else {
        let open = before.zip(starting.added_listener());
        let open = open.map_or_else(|| Listener::new().map(|(listener, socket)| (Arc::new(listener), socket)), Ok);
        open.map_err(|error| format!("there is no socket for it: {error}")).and_then(|(listener, socket)| {
            starting.add_listener(socket).map_err(|status| format!("httpd cannot listen for it: {status}"))?;
            Ok(listener)
        })
    };
    *LISTENER.write().unwrap_or_else(PoisonError::into_inner) = listener.map_err(Some);
}

/// Says in the error log why `Keep` acts as `Close`, where it does though it is wanted.
pub fn warn_if_unavailable() {
    let listener = LISTENER.read().unwrap_or_else(PoisonError::into_inner);
    if is_rehearsal() {
        return;
    }
    if let (Err(Some(why)), true) = (&*listener, wants_keep()) {
        log::warn!("'FinishRequestConnection Keep' acts as Close: {why}");
    }
}

/// A child process has begun, with all rights given up that it can do without: says in the error log if it cannot hand any connection
/// on.
pub fn child_init() {
    if get().is_some() && !is_there() {
        background::seldom(Kind::NoDoor, |more| {
            log::warn!(
                "'FinishRequestConnection Keep' acts as Close: there is no /proc where the server's processes are (ChrootDir){more}"
            );
        });
    }
}

impl Listener {
    fn new() -> io::Result<(Self, OwnedFd)> {
        let mut secret = [0; SECRET];
        // SAFETY: the kernel fills the array; so few bytes it gives at once, or none (invariant 11).
        if unsafe { libc::getrandom(secret.as_mut_ptr().cast(), SECRET, 0) } != SECRET.cast_signed() {
            return Err(io::Error::last_os_error());
        }
        let (socket, door) = unix::listen()?;
        let name = Name::of(socket.as_fd())?;
        Ok((Self { door, name, secret }, socket))
    }

    /// Puts a client's connection into the queue. Does not wait.
    ///
    /// # Errors
    ///
    /// The kernel's: nobody listens any more, or the queue is full.
    pub fn send(&self, client: BorrowedFd<'_>, kept: &HandOver) -> io::Result<()> {
        let message = kept.to_bytes(&self.secret);
        let send = || unix::send(self.door.as_fd(), &message, client);
        match send() {
            // A child has accepted, and ended before it had the message, or did not know this process.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => send(),
            sent => sent,
        }
    }

    /// Returns true if a socket was accepted here.
    pub fn has_accepted(&self, socket: BorrowedFd<'_>) -> bool {
        Name::of(socket).is_ok_and(|name| name == self.name)
    }

    /// Opens a message that came here, if it is from one of the server's own processes.
    pub fn open(&self, message: &[u8]) -> Option<HandOver> {
        HandOver::from_bytes(message, &self.secret)
    }
}
