//! The kept connections that the child's thread watches: for each it looks what the client does, while the request's work goes on.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::time::Instant;

use super::bell::Bell;
use super::client::GLANCE;
use super::keep::{self, HandOver};
use super::link::{Link, discard_blank_lines, pause, peek};
use super::poll::Epoll;
use super::{resources, stop};
use crate::rules::hold::{Act, act};

/// By this bit the numbers of watched connections differ from those of the thread's own clients.
const WATCHED: u64 = 1 << 60;
/// What a socket is watched for: each time that something comes, once.
const EVENTS: i32 = libc::EPOLLIN | libc::EPOLLRDHUP | libc::EPOLLET;

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

    /// A worker: has one watched from now on, until it is [`Watching::unwatch`]ed. Where the work is likely to end before `patience`, what comes is not
    /// acted on before; after `deadline` the client has been silent for too long.
    ///
    /// # Errors
    ///
    /// The kernel's. It is in the list all the same.
    pub fn watch(
        &self,
        time: u64,
        link: &Arc<Link>,
        kept: HandOver,
        patience: Instant,
        deadline: Instant,
    ) -> io::Result<()> {
        let entry = Entry { link: Arc::clone(link), kept, patience, deadline, next: deadline, wakes: true };
        let first = self.add(time, entry);
        if matches!(first, First::Soon) {
            return Ok(());
        }
        let watched = self.epoll.watch_number(link.number(), EVENTS, WATCHED | time);
        // Where the kernel refuses as well: others rely by now on the time at which the thread wakes.
        if matches!(first, First::Ring) {
            self.bell.ring();
        }
        watched
    }

    /// A worker: has it watched no more.
    pub fn unwatch(&self, time: u64, link: &Link) {
        if self.list().remove(time) {
            self.epoll.forget_number(link.number());
        }
    }

    /// The same for a worker that may have been interrupted where it has the list.
    pub fn unwatch_in_signal_handler(&self, time: u64, link: &Link) {
        self.epoll.forget_number(link.number());
        if let Ok(mut list) = self.list.try_lock() {
            let _ = list.remove(time);
        }
    }

    /// True as long as the thread lives.
    pub fn runs(&self) -> bool {
        self.runs.load(Ordering::Acquire)
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
        let is_watched = self.epoll.watch_number(link.number(), EVENTS, WATCHED | time).is_ok();
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
            self.epoll.forget_number(link.number());
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

/// What the client sends next cannot be handed over, now.
fn waits(error: &io::Error) {
    if !keep::is_ordinary(error.kind()) {
        resources::warn("the next request on a kept connection waits for the background work of the last one", error);
    }
}
