//! The child's own thread, for clients whose responses have ended, or wait while their applications are busy, and for kept connections meanwhile:
//! started with the first of them, woken for each client, and seen to its end when the child exits.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, SendError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::JoinHandle;
use std::time::Instant;

use super::bell::Bell;
use super::client::{Client, GLANCE, Helped, Leaving};
use super::clients::{Clients, WOKEN};
use super::poll::Epoll;
use super::waiting::Queue;
use super::watching::Watching;
use super::{resources, stop};
use crate::httpd::{Connection, guard, is_in_signal_handler, is_threaded, process_id};

/// The child's thread; started with the first socket that it gets.
static THREAD: Mutex<Option<Thread>> = Mutex::new(None);
/// True if the child ends in its own time.
static GRACEFUL: AtomicBool = AtomicBool::new(false);

struct Thread {
    /// The process that the thread belongs to: a fork does not take it along.
    process: u32,
    clients: Sender<Client>,
    wake: Arc<Bell>,
    watching: Arc<Watching>,
    handle: JoinHandle<()>,
}

/// `child_stopping`: the child is about to exit; gracefully: nobody is going to kill it.
pub fn stopping(graceful: bool) {
    stop::check();
    GRACEFUL.store(graceful, Ordering::Relaxed);
}

/// The child exits, which would reset the connections of clients whose bytes have not been read, and lose what waits for
/// slow ones: waits for them, but not for long, unless the child ends gracefully.
pub fn end() {
    let by_signal = !is_threaded() && is_in_signal_handler();
    // Whatever a signal's handler has interrupted, it must not wait for.
    let Some(thread) = THREAD.try_lock().ok().and_then(|mut thread| thread.take()) else { return };
    if thread.process != process_id() || by_signal {
        std::mem::forget(thread);
        return;
    }
    if !is_threaded() {
        // prefork does not say so; without a signal a child ends in its own time.
        GRACEFUL.store(true, Ordering::Relaxed);
    }
    if GRACEFUL.load(Ordering::Relaxed) {
        hurry_when_terminated();
    }
    let Thread { clients, wake, handle, .. } = thread;
    drop(clients);
    wake.ring();
    let _ = handle.join();
}

/// Lets a SIGTERM end a graceful wait: by then the MPM has no use for that signal.
fn hurry_when_terminated() {
    extern "C" fn hurry(_signal: libc::c_int) {
        GRACEFUL.store(false, Ordering::Relaxed);
    }
    // SAFETY: the handler stores a number, which is allowed in one; the process is about to exit (invariant 11).
    unsafe { libc::signal(libc::SIGTERM, hurry as extern "C" fn(libc::c_int) as libc::sighandler_t) };
}

/// Sees a client out. Does not wait, unless the thread has too much to do already, and then until all has been sent; or none
/// can be started: then all is done here.
pub fn leave(client: Leaving) {
    let Some(client) = client.begin() else { return };
    let Some((client, error)) = hand_in(Client::Leaving(client)) else { return };
    if let Some(error) = error {
        resources::warn(
            "a child process has no thread to close its clients' connections, and background work waits for them",
            &error,
        );
    }
    if let Client::Leaving(client) = client {
        client.see_out();
    }
}

/// Has the thread send what waits for a client whose response is still being made. To be called with the queue's lock. False where
/// there is no thread, or no descriptor for it: then it waits for the application's next word.
pub fn help(connection: Connection<'_>, queue: &Arc<Queue>) -> bool {
    let Some(socket) = connection.socket().and_then(|socket| socket.try_clone_to_owned().ok()) else { return false };
    let (queue, timeout) = (Arc::clone(queue), connection.timeout());
    hand_in(Client::Helped(Helped::new(socket, queue, timeout))).is_none()
}

/// Has the thread look at what has changed.
pub fn wake() {
    let thread = match THREAD.try_lock() {
        Ok(thread) => thread,
        // A prefork child's signal may have interrupted who has it.
        Err(TryLockError::WouldBlock) if !is_threaded() && is_in_signal_handler() => return,
        Err(_) => THREAD.lock().unwrap_or_else(PoisonError::into_inner),
    };
    if let Some(Thread { wake, .. }) = &*thread {
        wake.ring();
    }
}

/// The list of the connections that the thread watches.
///
/// # Errors
///
/// The kernel's, where there is no thread, and it gives none.
pub fn watching() -> io::Result<Arc<Watching>> {
    let thread = there()?;
    let watching = thread.as_ref().map(|thread| Arc::clone(&thread.watching));
    watching.ok_or_else(|| ErrorKind::NotFound.into())
}

/// The thread, which is started where there is none.
fn there() -> io::Result<MutexGuard<'static, Option<Thread>>> {
    let mut thread = THREAD.lock().unwrap_or_else(PoisonError::into_inner);
    if thread.as_ref().is_none_or(|thread| thread.process != process_id() || thread.handle.is_finished()) {
        *thread = Some(Thread::start()?);
    }
    Ok(thread)
}

/// Gives a client to the thread, which is started where there is none. What it could not give, and what the kernel says where it
/// gives no thread.
fn hand_in(client: Client) -> Option<(Client, Option<io::Error>)> {
    let mut thread = match there() {
        Ok(thread) => thread,
        Err(error) => return Some((client, Some(error))),
    };
    let Thread { clients, wake, .. } = thread.as_ref()?;
    match clients.send(client) {
        Ok(()) => wake.ring(),
        // The thread has ended, for what is an error of this module: the next client gets another one.
        Err(SendError(client)) => {
            stop::forget();
            *thread = None;
            return Some((client, None));
        }
    }
    None
}

impl Thread {
    fn start() -> io::Result<Self> {
        let (clients, incoming) = channel();
        let wake = Arc::new(Bell::new()?);
        let woken = Arc::clone(&wake);
        let epoll = Arc::new(Epoll::new()?);
        let own = Clients::new(Arc::clone(&epoll), &*woken)?;
        let watching = Arc::new(Watching::new(epoll, Arc::clone(&wake)));
        let watches = Arc::clone(&watching);
        stop::prepare(wake.as_raw_fd());
        let handle = without_signals(|| {
            std::thread::Builder::new().name("finish_request".into()).spawn(move || {
                guard((), || run(&incoming, &woken, own, &watches));
                watches.end();
            })
        })
        .inspect_err(|_| stop::forget())?;
        Ok(Self { process: process_id(), clients, wake, watching, handle })
    }
}

/// Runs `start` with all signals blocked, which a thread started by it inherits: httpd's own threads handle them.
fn without_signals<T>(start: impl FnOnce() -> T) -> T {
    // SAFETY: both sets are this function's own; the calling thread gets back the set that it had (invariant 11).
    unsafe {
        let mut all = std::mem::zeroed();
        let mut before = std::mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const all, &raw mut before);
        let result = start();
        libc::pthread_sigmask(libc::SIG_SETMASK, &raw const before, std::ptr::null_mut());
        result
    }
}

fn run(incoming: &Receiver<Client>, woken: &Bell, mut clients: Clients, watching: &Watching) {
    let mut helped = BTreeSet::new();
    let mut ending = false;
    while !ending || !clients.is_empty() {
        let now = Instant::now();
        let glance = if ending { Some(now + GLANCE) } else { None };
        let ready = clients.wait(watching.next(now).into_iter().chain(glance).min());
        let now = Instant::now();
        let mut is_woken = false;
        for number in ready {
            if number == WOKEN {
                is_woken = true;
            } else if !watching.attend(number, now) {
                clients.attend(number, now);
            }
        }
        clients.attend_due(now);
        watching.attend_due(now);
        if is_woken {
            woken.hush();
            stop::answer();
            helped.retain(|&number| clients.attend(number, now));
            loop {
                match incoming.try_recv() {
                    Ok(client) => {
                        let is_helped = matches!(client, Client::Helped(_));
                        let number = clients.add(client, now);
                        if is_helped {
                            helped.extend(number);
                        }
                    }
                    Err(TryRecvError::Empty) => break,
                    Err(TryRecvError::Disconnected) => {
                        ending = true;
                        break;
                    }
                }
            }
        }
        if ending {
            clients.hurry(now, GRACEFUL.load(Ordering::Relaxed));
        }
    }
}
