//! The child's thread for clients whose responses have ended: it sends what still waits for them, and then either hands
//! their connections on, or closes them as `ap_lingering_close` does: after FIN the client's bytes are read and discarded
//! until it closes too. A socket closed with unread bytes would be reset, and the client might lose the end of the response.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SendError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::keep::{self, HandOver};
use super::poll::milliseconds;
use super::waiting::{Queue, Waiting};
use super::{resources, stop};
use crate::httpd::{Connection, guard, is_threaded};

/// How long a client may be silent (`SECONDS_TO_LINGER`).
const SILENCE: Duration = Duration::from_secs(2);
/// How long it may go on sending (`MAX_SECS_TO_LINGER`).
const LIMIT: Duration = Duration::from_secs(30);

/// How often a socket is read before the others have their turn, and how much of it in one go.
const READS: usize = 16;
const PIECE: usize = 65_536;
/// How many sockets a child closes at a time; above that the oldest ones are cut.
const MOST_LINGERING: usize = 256;
/// How many clients a child's thread sends to at a time; above that their request's thread does it.
const MOST_WRITING: usize = 256;
/// How often a child that ends looks whether it has been told to hurry.
const GLANCE: Duration = Duration::from_millis(200);

/// The child's thread; started with the first socket that it gets.
static THREAD: Mutex<Option<Thread>> = Mutex::new(None);
/// To how many clients it still sends.
static WRITING: AtomicUsize = AtomicUsize::new(0);
/// True if the child ends in its own time.
static GRACEFUL: AtomicBool = AtomicBool::new(false);

struct Thread {
    /// The process that the thread belongs to: a fork does not take it along.
    process: u32,
    clients: Sender<Client>,
    wake: Arc<Bell>,
    handle: JoinHandle<()>,
}

/// What wakes the thread: a number, which the kernel keeps, and which needs no memory to be added to, as a byte for a socket does.
struct Bell(File);

impl Bell {
    fn new() -> io::Result<Self> {
        // SAFETY: makes a descriptor.
        let made = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if made < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made it (invariant 11).
        Ok(Self(unsafe { File::from_raw_fd(made) }))
    }

    fn ring(&self) {
        // Where the number is full, it rings already.
        while (&self.0).write(&stop::RING).is_err_and(|error| error.kind() == ErrorKind::Interrupted) {}
    }

    /// Until it rings again.
    fn hush(&self) {
        let _ = (&self.0).read(&mut [0; stop::RING.len()]);
    }
}

/// A client that the thread gets.
enum Client {
    /// Its response has ended.
    Leaving(Leaving),
    /// Its response is still being made.
    Helped(Helped),
}

/// A client of whose response bytes wait, while its application is busy with what comes next.
struct Helped {
    socket: TcpStream,
    queue: Arc<Queue>,
    /// How long it may read nothing.
    timeout: Option<Duration>,
    silent: Option<Instant>,
}

/// A client whose response has ended.
pub struct Leaving {
    socket: TcpStream,
    waiting: Waiting,
    /// The knowledge that its connection's next process must have; none where the connection is closed.
    kept: Option<HandOver>,
    /// How long it may read nothing, while bytes wait for it.
    timeout: Option<Duration>,
    writing: Option<Writing>,
    /// True if FIN has been sent.
    closing: bool,
    silent: Option<Instant>,
    limit: Option<Instant>,
}

/// One of [`WRITING`].
struct Writing(());

impl Writing {
    fn new() -> Self {
        WRITING.fetch_add(1, Ordering::Relaxed);
        Self(())
    }
}

impl Drop for Writing {
    fn drop(&mut self) {
        WRITING.fetch_sub(1, Ordering::Relaxed);
    }
}

/// `child_stopping`: the child is about to exit; gracefully: nobody is going to kill it.
pub fn stopping(graceful: bool) {
    stop::check();
    GRACEFUL.store(graceful, Ordering::Relaxed);
}

/// The child exits, which would reset the connections of clients whose bytes have not been read, and lose what waits for
/// slow ones: waits for them, but not for long, unless the child ends gracefully.
pub fn end() {
    let by_signal = !is_threaded() && stop::is_in_signal_handler();
    // Whatever a signal's handler has interrupted, it must not wait for.
    let Some(thread) = THREAD.try_lock().ok().and_then(|mut thread| thread.take()) else { return };
    if thread.process != std::process::id() || by_signal {
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
    // SAFETY: the handler stores a number, which is allowed in one; the process is about to exit.
    unsafe { libc::signal(libc::SIGTERM, hurry as extern "C" fn(libc::c_int) as libc::sighandler_t) };
}

/// Sees a client out. Does not wait, unless the thread has too much to do already, and then until all has been sent; or none
/// can be started: then all is done here.
pub fn leave(mut client: Leaving) {
    if client.waiting.is_empty() {
        // The client need not wait for the thread. What could be handed on has been.
        client.kept = None;
        client.shut();
    } else if WRITING.load(Ordering::Relaxed) >= MOST_WRITING {
        let Some(sent) = client.send_here() else { return };
        client = sent;
    } else {
        client.writing = Some(Writing::new());
    }
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
    hand_in(Client::Helped(Helped { socket: TcpStream::from(socket), queue, timeout, silent: None })).is_none()
}

/// Has the thread look at what has changed; later, where it is being given a client at this moment.
pub fn wake() {
    if let Ok(thread) = THREAD.try_lock()
        && let Some(Thread { wake, .. }) = &*thread
    {
        wake.ring();
    }
}

/// Gives a client to the thread, which is started where there is none. What it could not give, and what the kernel says where it
/// gives no thread.
fn hand_in(client: Client) -> Option<(Client, Option<io::Error>)> {
    let mut thread = THREAD.lock().unwrap_or_else(PoisonError::into_inner);
    if thread.as_ref().is_none_or(|thread| thread.process != std::process::id() || thread.handle.is_finished()) {
        match Thread::start() {
            Ok(started) => *thread = Some(started),
            Err(error) => return Some((client, Some(error))),
        }
    }
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
        stop::prepare(wake.0.as_raw_fd());
        let handle = without_signals(|| {
            std::thread::Builder::new()
                .name("finish_request".into())
                .spawn(move || guard((), || run(&incoming, &woken)))
        })
        .inspect_err(|_| stop::forget())?;
        Ok(Self { process: std::process::id(), clients, wake, handle })
    }
}

/// Runs `start` with all signals blocked, which a thread started by it inherits: httpd's own threads handle them.
fn without_signals<T>(start: impl FnOnce() -> T) -> T {
    // SAFETY: both sets are this function's own; the calling thread gets back the set that it had.
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

fn run(incoming: &Receiver<Client>, woken: &Bell) {
    let mut clients: Vec<Leaving> = Vec::new();
    let mut helped: Vec<Helped> = Vec::new();
    let mut ending = false;
    while !ending || !clients.is_empty() {
        wait(&clients, &helped, if ending { None } else { Some(woken.0.as_raw_fd()) });
        woken.hush();
        stop::answer();
        let now = Instant::now();
        loop {
            match incoming.try_recv() {
                Ok(Client::Leaving(client)) => clients.push(client),
                Ok(Client::Helped(client)) => helped.push(client),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    ending = true;
                    break;
                }
            }
        }
        helped.retain_mut(|client| client.goes_on(now));
        if ending {
            // Their requests have ended.
            helped.clear();
            let graceful = GRACEFUL.load(Ordering::Relaxed);
            clients.iter_mut().for_each(|client| client.hurry(now, graceful));
        }
        clients.retain_mut(|client| client.goes_on(now));
        let mut too_many =
            clients.iter().filter(|client| client.waiting.is_empty()).count().saturating_sub(MOST_LINGERING);
        clients.retain(|client| {
            let cut = too_many > 0 && client.waiting.is_empty();
            too_many -= usize::from(cut);
            !cut
        });
    }
}

impl Helped {
    /// Sends what the kernel takes. False when there is nothing to send, now or any more.
    fn goes_on(&mut self, now: Instant) -> bool {
        if !self.queue.is_helped() {
            // The request's thread has done with it.
            return false;
        }
        let Some(mut waiting) = self.queue.try_lock() else { return true };
        let before = waiting.len();
        match waiting.send(self.socket.as_fd()) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                if self.silent.is_none() || waiting.len() < before {
                    self.silent = self.timeout.map(|timeout| now + timeout);
                }
                if self.silent.is_none_or(|limit| now < limit) {
                    return true;
                }
                self.queue.set_helped(false);
            }
            Ok(()) => _ = self.queue.set_helped(false),
            // The client has gone, as the request's thread will see.
            Err(_) => {}
        }
        false
    }
}

impl Leaving {
    /// A client that gets what waits for it, within `timeout` for each step, and whose connection is then kept or closed.
    pub fn new(socket: OwnedFd, waiting: Waiting, timeout: Option<Duration>, kept: Option<HandOver>) -> Self {
        let socket = TcpStream::from(socket);
        // Where it fails, the first read may wait; it is the last one then.
        let _ = socket.set_nonblocking(true);
        Self { socket, waiting, kept, timeout, writing: None, closing: false, silent: None, limit: None }
    }

    /// Does what can be done now. False when the connection is out of this thread's hands.
    fn goes_on(&mut self, now: Instant) -> bool {
        match self.write(now) {
            Some(goes_on) => goes_on,
            None => self.linger(now),
        }
    }

    /// Sends what waits. None when the connection is to be closed, and nothing waits any more.
    fn write(&mut self, now: Instant) -> Option<bool> {
        if !self.waiting.is_empty() {
            let before = self.waiting.len();
            match self.waiting.send(self.socket.as_fd()) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {
                    if self.silent.is_none() || self.waiting.len() < before {
                        self.silent = self.timeout.map(|timeout| now + timeout);
                    }
                    let given_up = [self.silent, self.limit].into_iter().flatten().any(|limit| now >= limit);
                    return Some(!given_up);
                }
                Err(_) => return Some(false),
            }
            self.writing = None;
        }
        if let Some(kept) = self.kept.take()
            && keep::hand_over(self.socket.as_fd(), &kept).is_ok()
        {
            return Some(false);
        }
        self.shut();
        None
    }

    /// Sends FIN, unless that has been done. Nothing waits any more, and the connection is not to be kept.
    fn shut(&mut self) {
        if !self.closing {
            self.closing = true;
            // An error says that the client has gone already.
            let _ = self.socket.shutdown(Shutdown::Write);
            let now = Instant::now();
            (self.silent, self.limit) = (Some(now + SILENCE), Some(now + LIMIT));
        }
    }

    /// Reads what is there. False when the client has closed, has been silent, or has sent for too long.
    fn linger(&mut self, now: Instant) -> bool {
        let Some(got_something) = discard(self.socket.as_fd(), READS) else { return false };
        if got_something {
            self.silent = Some(now + SILENCE);
        }
        self.next().is_none_or(|limit| now < limit)
    }

    /// The child ends: how long it can stay depends on whether it ends gracefully.
    fn hurry(&mut self, now: Instant, graceful: bool) {
        if !graceful || self.waiting.is_empty() {
            let limit = now + SILENCE;
            self.limit = Some(self.limit.map_or(limit, |earlier| earlier.min(limit)));
        }
    }

    /// When something is due, whatever the client does.
    fn next(&self) -> Option<Instant> {
        self.silent.into_iter().chain(self.limit).min()
    }

    /// Does all that is to do, while the caller waits.
    fn see_out(mut self) {
        while self.goes_on(Instant::now()) {
            wait(std::slice::from_ref(&self), &[], None);
        }
    }

    /// Sends what waits, while the caller waits. None when the connection has been handed on, or the client has gone.
    fn send_here(mut self) -> Option<Self> {
        while self.goes_on(Instant::now()) {
            if self.waiting.is_empty() {
                return Some(self);
            }
            wait(std::slice::from_ref(&self), &[], None);
        }
        None
    }
}

/// Reads what is there, so many times at the most, and discards it: whether it is anything. None when the client has closed, or has gone.
pub fn discard(socket: BorrowedFd<'_>, times: usize) -> Option<bool> {
    let mut got_something = false;
    for _ in 0..times {
        let flags = libc::MSG_DONTWAIT | libc::MSG_TRUNC;
        // SAFETY: the socket is open (invariant 11). With MSG_TRUNC the kernel discards the bytes of a TCP socket (tcp(7)), and writes nothing.
        match unsafe { libc::recv(socket.as_raw_fd(), std::ptr::null_mut(), PIECE, flags) } {
            0 => return None,
            1.. => got_something = true,
            _ => match io::Error::last_os_error().kind() {
                ErrorKind::Interrupted => {}
                ErrorKind::WouldBlock => break,
                _ => return None,
            },
        }
    }
    Some(got_something)
}

/// Waits until something can be read or written, a client is handed in, or a time limit passes.
fn wait(clients: &[Leaving], helped: &[Helped], woken: Option<RawFd>) {
    let watch = |fd, events| libc::pollfd { fd, events, revents: 0 };
    let of_client = |client: &Leaving| {
        let events = if client.waiting.is_empty() { libc::POLLIN } else { libc::POLLOUT };
        watch(client.socket.as_raw_fd(), events)
    };
    let of_helped = |client: &Helped| watch(client.socket.as_raw_fd(), libc::POLLOUT);
    let mut fds: Vec<_> = woken.map(|fd| watch(fd, libc::POLLIN)).into_iter().collect();
    fds.extend(clients.iter().map(of_client).chain(helped.iter().map(of_helped)));
    let now = Instant::now();
    let limits = clients.iter().filter_map(Leaving::next).chain(helped.iter().filter_map(|client| client.silent));
    let next = limits.map(|limit| limit.saturating_duration_since(now)).min();
    let glance = if woken.is_none() { Some(GLANCE) } else { None };
    let timeout = next.into_iter().chain(glance).min();
    // SAFETY: the array is this function's own, of the length that is given (invariant 11). What is ready is found out by trying.
    let ready = unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout.map_or(-1, milliseconds)) };
    if ready < 0 {
        // More than the limit of open files allows, say: it is tried now and then.
        std::thread::sleep(GLANCE);
    }
}
