//! A kept connection whose request works on. It stays the worker's, and the child's thread watches it meanwhile. Where the work ends first, httpd goes
//! on with it as with any kept connection. Where the client's next request comes first, the thread hands it over to another process; where its end
//! comes, or `KeepAliveTimeout` has passed, the thread tells the client the end.
//!
//! Here is the worker's part, and `watching` has the thread's. That knows the connection by the number of its socket alone, and touches neither its
//! record nor the request's.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::keep::HandOver;
use super::link::{GLIMPSE, Link, pause};
use super::resources;
use super::watching::Watching;
use crate::httpd::{Block, Brigade, Connection, Kind, process_id};
use crate::rules::hold::{Sent, State};

/// How long the next request of a client waits where the work is mostly over by then, before it is handed over: a client that asks again at once is
/// quicker than a handler that has nothing more to do.
const PATIENCE: Duration = Duration::from_millis(3);

/// Each time that a connection is watched has its own number.
static TIMES: AtomicU64 = AtomicU64::new(1);

/// By a hash of a request's path, true if the last work of such a one in this process took longer than [`PATIENCE`].
static LONG: [AtomicBool; 256] = [const { AtomicBool::new(false) }; 256];

/// A worker's part of it, which is kept with the connection: the same for all its requests.
pub struct Watch {
    link: Arc<Link>,
    watching: RefCell<Option<Arc<Watching>>>,
    /// The number of the time that it is watched; 0 where it is not.
    time: Cell<u64>,
    /// The process that watches it.
    process: Cell<u32>,
    /// Since when, and what is known of such work.
    work: Cell<Option<(Instant, &'static AtomicBool)>>,
}

/// What has become of a connection meanwhile.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fate {
    /// It was not watched.
    Unwatched,
    /// It is the worker's again.
    Back,
    /// It has been handed over, or closed.
    Gone,
    /// This process was forked off from the one that it belongs to.
    AnotherProcess,
}

/// Looks whether the client has sent something that httpd has read, or can read, already: it would not be seen by the thread, or be its first event.
pub fn look_ahead<T>(connection: Connection<'_>, mut brigade: Brigade<'_>, then: impl FnOnce(Sent<'_>) -> T) -> T {
    let most = i64::try_from(GLIMPSE).unwrap_or(i64::MAX);
    match connection.peek_input(&mut brigade, most) {
        Err(status) if status.is_again() => return then(Sent::Nothing),
        Err(_) => return then(Sent::End),
        Ok(()) => {}
    }
    if brigade.is_empty() {
        return then(Sent::Nothing);
    }
    let mut bytes = Vec::new();
    while let Some(Kind::Data(_)) = brigade.first() {
        bytes.extend_from_slice(brigade.read_first(Block::No).unwrap_or_default());
        brigade.delete_first();
    }
    // Behind more blank lines than httpd reads over (`DEFAULT_LIMIT_BLANK_LINES`) it would close the connection.
    let is_at_end = bytes.is_empty() || bytes.len() >= GLIMPSE && bytes.iter().all(u8::is_ascii_whitespace);
    then(if is_at_end { Sent::End } else { Sent::Bytes(&bytes) })
}

impl Watch {
    /// That of a connection; none where it has no socket, or the kernel does not name it.
    pub fn of(connection: Connection<'_>) -> Option<&Self> {
        if connection.extra::<Self>().is_none() {
            let own = Self {
                link: Arc::new(Link::of(connection)?),
                watching: RefCell::new(None),
                time: Cell::new(0),
                process: Cell::new(0),
                work: Cell::new(None),
            };
            connection.extra_or_init(|| own);
        }
        connection.extra()
    }

    /// The thread's list, which may be a former thread's; then the one that `find` gives.
    fn watching(&self, find: impl FnOnce() -> Option<Arc<Watching>>) -> Option<Arc<Watching>> {
        let mut watching = self.watching.borrow_mut();
        let is_there = |known: &&Arc<Watching>| known.runs() && self.process.get() == process_id();
        if watching.as_ref().filter(is_there).is_none() {
            *watching = find();
        }
        watching.clone()
    }

    /// Has it watched from now on, while the work of a request for `path` goes on: whether it is. `find` gives the list of the child's thread.
    pub fn begin(&self, path: &[u8], kept: HandOver, find: impl FnOnce() -> Option<Arc<Watching>>) -> bool {
        let Some(watching) = self.watching(find) else { return false };
        let time = TIMES.fetch_add(1, Ordering::Relaxed);
        let timeout = Duration::from_micros(u64::try_from(kept.keep_alive_timeout).unwrap_or(0));
        let now = Instant::now();
        let deadline = now + timeout;
        let is_long = habit(path);
        let patience = if is_long.load(Ordering::Relaxed) { now } else { deadline.min(now + PATIENCE) };
        self.work.set(Some((now, is_long)));
        self.process.set(process_id());
        if !self.link.hold.watch(time) {
            return false;
        }
        self.time.set(time);
        if let Err(error) = watching.watch(time, &self.link, kept, patience, deadline) {
            // A server that is told to stop closes its workers' connections (`close_worker_sockets`).
            if !matches!(error.raw_os_error(), Some(libc::EBADF | libc::EPERM)) {
                resources::warn("a kept connection cannot be watched, and is handed over at once", &error);
            }
            return !matches!(self.take_back(), Fate::Back);
        }
        true
    }

    /// The work has ended.
    pub fn take_back(&self) -> Fate {
        let time = self.time.replace(0);
        if time == 0 {
            return Fate::Unwatched;
        }
        if self.process.get() != process_id() {
            return Fate::AnotherProcess;
        }
        if let Some((since, is_long)) = self.work.take() {
            is_long.store(since.elapsed() > PATIENCE, Ordering::Relaxed);
        }
        let mut turns = 0;
        let before = self.link.hold.take_back(|| pause(&mut turns));
        if before != State::Watched {
            return Fate::Gone;
        }
        if let Some(watching) = &*self.watching.borrow() {
            watching.unwatch(time, &self.link);
        }
        Fate::Back
    }
}

impl Drop for Watch {
    /// The connection ends without its request's end: the child exits. prefork does so in a signal's handler, which may have interrupted whoever
    /// has the lock.
    fn drop(&mut self) {
        let time = self.time.get();
        if time == 0 || self.process.get() != process_id() {
            return;
        }
        let mut turns = 0;
        if self.link.hold.take_back(|| pause(&mut turns)) == State::Watched
            && let Some(watching) = &*self.watching.borrow()
        {
            watching.unwatch_in_signal_handler(time, &self.link);
        }
    }
}

/// What is known of the work of such requests.
fn habit(path: &[u8]) -> &'static AtomicBool {
    // FNV-1a.
    let hash = path.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    let [low, high, ..] = hash.to_le_bytes();
    // There is one for each byte.
    LONG.get(usize::from(low ^ high)).unwrap_or(&LONG[0])
}
