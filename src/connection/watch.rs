//! A kept connection whose request works on. It stays the worker's, and the child's thread watches it meanwhile. Where the work ends first, httpd goes
//! on with it as with any kept connection. Where the client's next request comes first, the thread hands it over to another process; where its end
//! comes, or `KeepAliveTimeout` has passed, the thread tells the client the end.
//!
//! The thread knows the connection by the number of its socket alone, and touches neither its record nor the request's.

use std::cell::{Cell, RefCell};
use std::collections::{BTreeSet, HashMap};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread;
use std::time::{Duration, Instant};

use super::bell::Bell;
use super::client::GLANCE;
use super::keep::{self, HandOver};
use super::poll::Epoll;
use super::{resources, stop};
use crate::httpd::{Block, Brigade, Connection, Kind, process_id};
use crate::rules::hold::{Act, Hold, Sent, State, act, blank_lines};

/// By this bit the numbers of watched connections differ from those of the thread's own clients.
const WATCHED: u64 = 1 << 60;
/// What a socket is watched for: each time that something comes, once.
const EVENTS: i32 = libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET;
/// How many bytes are looked at: more empty lines than that no client sends.
const GLIMPSE: usize = 64;
/// How often a thread that waits for another one looks again before it sleeps, and how long it sleeps.
const TURNS: u32 = 100;
const NAP: Duration = Duration::from_micros(100);

/// How long the next request of a client waits where the work is mostly over by then, before it is handed over: a client that asks again at once is
/// quicker than a handler that has nothing more to do.
const PATIENCE: Duration = Duration::from_millis(3);

/// Each time that a connection is watched has its own number.
static TIMES: AtomicU64 = AtomicU64::new(1);

/// By a hash of a request's path, true if the last work of such a one in this process took longer than [`PATIENCE`].
static LONG: [AtomicBool; 256] = [const { AtomicBool::new(false) }; 256];

/// The connections that the child's thread watches. Their workers add and remove them, and do not wake the thread for it.
pub struct Watching {
    epoll: Arc<Epoll>,
    bell: Arc<Bell>,
    list: Mutex<List>,
    /// True as long as there is a thread.
    runs: AtomicBool,
}

#[derive(Default)]
struct List {
    all: HashMap<u64, Entry>,
    /// When each is looked at, whatever comes.
    due: BTreeSet<(Instant, u64)>,
    /// When the thread wakes by itself. It may be too early.
    wakes: Option<Instant>,
}

/// One of them, for one time.
struct Entry {
    link: Arc<Link>,
    /// The knowledge that the connection's next process must have.
    kept: HandOver,
    /// Until when the work is waited for, whatever comes.
    patience: Instant,
    /// When the client has been silent for too long.
    deadline: Instant,
    /// Its place in [`List::due`].
    next: Instant,
    /// True if what comes for it wakes the thread.
    wakes: bool,
}

/// How a connection is watched at first.
enum First {
    /// What comes is to wake the thread; and so must the caller, for it to know when.
    Ring,
    /// What comes is to wake the thread, which knows when.
    Quiet,
    /// The thread wakes so soon by itself that it is left alone until then.
    Soon,
}

/// A connection, as worker and thread share it.
struct Link {
    hold: Hold,
    /// The number of its socket, which may have become another's: httpd closes the sockets of a child that is told to stop.
    number: RawFd,
    /// The kernel's own name of the socket, which no other ever has.
    cookie: u64,
}

/// Kept with a connection: the same for all its requests.
pub struct Kept {
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
    then(if bytes.is_empty() { Sent::End } else { Sent::Bytes(&bytes) })
}

impl Kept {
    /// That of a connection; none where it has no socket, or the kernel does not name it.
    pub fn of(connection: Connection<'_>) -> Option<&Self> {
        if connection.extra::<Self>().is_none() {
            let number = connection.socket()?.as_raw_fd();
            let cookie = cookie(number).ok()?;
            let link = Arc::new(Link { hold: Hold::default(), number, cookie });
            let kept = Self {
                link,
                watching: RefCell::new(None),
                time: Cell::new(0),
                process: Cell::new(0),
                work: Cell::new(None),
            };
            connection.extra_or_init(|| kept);
        }
        connection.extra()
    }

    /// The thread's list, which may be a former thread's; then the one that `find` gives.
    fn watching(&self, find: impl FnOnce() -> Option<Arc<Watching>>) -> Option<Arc<Watching>> {
        let mut watching = self.watching.borrow_mut();
        let is_there =
            |known: &&Arc<Watching>| known.runs.load(Ordering::Acquire) && self.process.get() == process_id();
        if watching.as_ref().filter(is_there).is_none() {
            *watching = find();
        }
        watching.clone()
    }

    /// Has it watched from now on, while the work of a request for `path` goes on: whether it is. `find` gives the list of the child's thread.
    pub fn watch(&self, path: &[u8], kept: HandOver, find: impl FnOnce() -> Option<Arc<Watching>>) -> bool {
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
        let entry = Entry { link: Arc::clone(&self.link), kept, patience, deadline, next: deadline, wakes: true };
        let first = watching.add(time, entry);
        if matches!(first, First::Soon) {
            return true;
        }
        if let Err(error) = watching.epoll.watch_number(self.link.number, EVENTS, WATCHED | time) {
            // A server that is told to stop closes its workers' connections (`close_worker_sockets`).
            if !matches!(error.raw_os_error(), Some(libc::EBADF | libc::EPERM)) {
                resources::warn("a kept connection cannot be watched, and is handed over at once", &error);
            }
            return !matches!(self.take_back(), Fate::Back);
        }
        if matches!(first, First::Ring) {
            watching.bell.ring();
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
        if let Some(watching) = &*self.watching.borrow()
            && watching.list().remove(time)
        {
            watching.epoll.forget_number(self.link.number);
        }
        Fate::Back
    }
}

impl Drop for Kept {
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
            watching.epoll.forget_number(self.link.number);
            if let Ok(mut list) = watching.list.try_lock() {
                let _ = list.remove(time);
            }
        }
    }
}

impl List {
    fn set_next(&mut self, time: u64, next: Instant) {
        if let Some(entry) = self.all.get_mut(&time) {
            let before = std::mem::replace(&mut entry.next, next);
            self.due.remove(&(before, time));
            self.due.insert((next, time));
        }
    }

    /// Returns true if what comes for it wakes the thread, or may do so.
    fn remove(&mut self, time: u64) -> bool {
        let Some(entry) = self.all.remove(&time) else { return true };
        self.due.remove(&(entry.next, time));
        entry.wakes
    }
}

impl Watching {
    /// None yet. What comes for them wakes who waits by `epoll`; so does the bell.
    pub fn new(epoll: Arc<Epoll>, bell: Arc<Bell>) -> Self {
        Self { epoll, bell, list: Mutex::default(), runs: AtomicBool::new(true) }
    }

    /// There is no thread any more.
    pub fn end(&self) {
        self.runs.store(false, Ordering::Release);
    }

    /// For a worker.
    fn list(&self) -> MutexGuard<'_, List> {
        self.list.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// For the thread, which may be asked meanwhile whether it hangs: in a prefork child a signal may have interrupted the worker that has the lock.
    fn list_of_thread(&self) -> MutexGuard<'_, List> {
        let mut turns = 0;
        loop {
            match self.list.try_lock() {
                Ok(list) => return list,
                Err(TryLockError::Poisoned(poisoned)) => return poisoned.into_inner(),
                Err(TryLockError::WouldBlock) => {
                    stop::answer();
                    pause(&mut turns);
                }
            }
        }
    }

    /// Adds one.
    fn add(&self, time: u64, mut entry: Entry) -> First {
        let mut list = self.list();
        let first = match list.wakes {
            Some(wakes) if wakes <= entry.patience => First::Soon,
            Some(wakes) if wakes <= entry.deadline => First::Quiet,
            _ => First::Ring,
        };
        match first {
            First::Soon => (entry.next, entry.wakes) = (entry.patience, false),
            First::Quiet => {}
            First::Ring => list.wakes = Some(entry.next),
        }
        list.due.insert((entry.next, time));
        list.all.insert(time, entry);
        first
    }

    /// The thread: returns when it must wake by itself. Once it has said so, it wakes then, though nothing may be due any more: else each connection
    /// that is watched for a moment would have to wake it.
    pub fn next(&self, now: Instant) -> Option<Instant> {
        let mut list = self.list_of_thread();
        let due = list.due.first().map(|(due, _)| *due);
        list.wakes = list.wakes.filter(|wakes| *wakes > now).into_iter().chain(due).min();
        list.wakes
    }

    /// The thread: attends to those for whom it is time.
    pub fn attend_due(&self, now: Instant) {
        loop {
            let time = {
                let mut list = self.list_of_thread();
                match list.due.first() {
                    Some(&(due, time)) if due <= now => {
                        list.due.pop_first();
                        time
                    }
                    _ => return,
                }
            };
            self.attend(WATCHED | time, now);
        }
    }

    /// The thread: attends to one for which something has come, or it is time. False if the number is not that of a watched connection.
    pub fn attend(&self, number: u64, now: Instant) -> bool {
        if number & WATCHED == 0 {
            return false;
        }
        let time = number & !WATCHED;
        let mut list = self.list_of_thread();
        let Some(entry) = list.all.get(&time) else { return true };
        if now < entry.patience {
            let patience = entry.patience;
            list.set_next(time, patience);
            return true;
        }
        let (link, kept) = (Arc::clone(&entry.link), entry.kept.clone());
        let (deadline, wakes) = (entry.deadline, entry.wakes);
        drop(list);
        let Some(taken) = link.hold.take(time) else { return true };
        let socket = match link.socket() {
            Ok(Some(socket)) => socket,
            // The child has been told to stop, and httpd has closed it.
            Ok(None) => {
                let _ = self.list_of_thread().remove(time);
                return true;
            }
            Err(error) => {
                waits(&error);
                taken.leave();
                self.again(time, now + GLANCE);
                return true;
            }
        };
        if !wakes && !self.wake_for(time, &link) {
            taken.leave();
            self.again(time, now + GLANCE);
            return true;
        }
        match peek(socket.as_fd(), |sent| act(sent, now >= deadline)) {
            Act::Leave => {
                taken.leave();
                self.again(time, deadline);
            }
            Act::Close => self.close(time, &link, &socket),
            Act::HandOver => match self.hand_over(time, &link, &socket, &kept) {
                Ok(()) => taken.hand_over(),
                // Nobody listens any more: the server ends. The client asks elsewhere.
                Err(error) if keep::is_refused(error.kind()) => self.close(time, &link, &socket),
                // Its request waits: for a place in the queue, or for the work's end.
                Err(error) => {
                    waits(&error);
                    taken.leave();
                    self.again(time, now + GLANCE);
                }
            },
        }
        true
    }

    /// From now on what comes for one wakes the thread: whether it does.
    fn wake_for(&self, time: u64, link: &Link) -> bool {
        let is_watched = self.epoll.watch_number(link.number, EVENTS, WATCHED | time).is_ok();
        if let Some(entry) = self.list_of_thread().all.get_mut(&time) {
            entry.wakes = is_watched;
        }
        is_watched
    }

    /// Looks at one again then.
    fn again(&self, time: u64, next: Instant) {
        self.list_of_thread().set_next(time, next);
    }

    fn forget(&self, time: u64, link: &Link) {
        if self.list_of_thread().remove(time) {
            self.epoll.forget_number(link.number);
        }
    }

    /// Tells the client the end.
    fn close(&self, time: u64, link: &Link, socket: &OwnedFd) {
        self.forget(time, link);
        // SAFETY: a descriptor that is open (invariant 11). An error says that the client has gone already.
        unsafe { libc::shutdown(socket.as_raw_fd(), libc::SHUT_WR) };
    }

    /// Gives the connection to another process. Here a socket that is at its end takes its place, before the worker can go on.
    fn hand_over(&self, time: u64, link: &Link, socket: &OwnedFd, kept: &HandOver) -> io::Result<()> {
        let (ended, _) = UnixStream::pair()?;
        discard_blank_lines(socket.as_fd());
        keep::send(socket.as_fd(), kept)?;
        self.forget(time, link);
        link.bury(&ended);
        Ok(())
    }
}

impl Link {
    /// A descriptor of the connection's socket for the caller; none where the number is another's, or nobody's.
    fn socket(&self) -> io::Result<Option<OwnedFd>> {
        // SAFETY: only makes a descriptor. A number that is not open is an error (invariant 11).
        let own = unsafe { libc::fcntl(self.number, libc::F_DUPFD_CLOEXEC, 0) };
        if own < 0 {
            let error = io::Error::last_os_error();
            return if error.raw_os_error() == Some(libc::EBADF) { Ok(None) } else { Err(error) };
        }
        // SAFETY: the kernel has just made it.
        let own = unsafe { OwnedFd::from_raw_fd(own) };
        match cookie(own.as_raw_fd()) {
            Ok(cookie) => Ok((cookie == self.cookie).then_some(own)),
            Err(error) if error.raw_os_error() == Some(libc::ENOTSOCK) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Puts another socket in its place.
    fn bury(&self, ended: &UnixStream) {
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

/// What is known of the work of such requests.
fn habit(path: &[u8]) -> &'static AtomicBool {
    // FNV-1a.
    let hash = path.iter().fold(0x811c_9dc5_u32, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193));
    let [low, high, ..] = hash.to_le_bytes();
    // There is one for each byte.
    LONG.get(usize::from(low ^ high)).unwrap_or(&LONG[0])
}

/// What the client sends next cannot be handed over, now.
fn waits(error: &io::Error) {
    if !keep::is_ordinary(error.kind()) {
        resources::warn("the next request on a kept connection waits for the background work of the last one", error);
    }
}

/// Waits for another thread, which is quick.
fn pause(turns: &mut u32) {
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
fn discard_blank_lines(socket: BorrowedFd<'_>) {
    let length = peek(socket, |sent| if let Sent::Bytes(bytes) = sent { blank_lines(bytes) } else { 0 });
    if length > 0 {
        let mut bytes = [0_u8; GLIMPSE];
        // SAFETY: as for peek. So many bytes are there.
        unsafe { libc::recv(socket.as_raw_fd(), bytes.as_mut_ptr().cast(), length.min(GLIMPSE), libc::MSG_DONTWAIT) };
    }
}

/// Looks at what the client has sent, which stays there.
fn peek<T>(socket: BorrowedFd<'_>, then: impl FnOnce(Sent<'_>) -> T) -> T {
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
