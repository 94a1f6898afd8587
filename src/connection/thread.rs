//! The child's thread for clients whose responses have ended: it sends what still waits for them, and then either hands
//! their connections on, or closes them as `ap_lingering_close` does: after FIN the client's bytes are read and discarded
//! until it closes too. A socket closed with unread bytes would be reset, and the client might lose the end of the response.

use std::collections::{BTreeSet, HashMap};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SendError, Sender, TryRecvError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use super::keep::{self, HandOver};
use super::poll::{self, Epoll};
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

/// When a client is looked at again that could not be attended to when it was due.
const MOMENT: Duration = Duration::from_millis(1);

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
        let epoll = Epoll::new()?;
        epoll.watch(woken.0.as_fd(), true, libc::EPOLLIN, WOKEN)?;
        stop::prepare(wake.0.as_raw_fd());
        let handle = without_signals(|| {
            std::thread::Builder::new()
                .name("finish_request".into())
                .spawn(move || guard((), || run(&incoming, &woken, epoll)))
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

fn run(incoming: &Receiver<Client>, woken: &Bell, epoll: Epoll) {
    let mut clients = Clients { epoll, all: HashMap::new(), due: BTreeSet::new(), lingering: BTreeSet::new(), next: 0 };
    let mut helped = BTreeSet::new();
    let mut ending = false;
    while !ending || !clients.all.is_empty() {
        let glance = if ending { Some(GLANCE) } else { None };
        let ready = clients.wait(glance);
        let now = Instant::now();
        let mut is_woken = false;
        for number in ready {
            if number == WOKEN {
                is_woken = true;
            } else {
                clients.attend(number, now);
            }
        }
        clients.attend_due(now);
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

/// The number by which the thread is woken.
const WOKEN: u64 = u64::MAX;

/// The clients that the thread has, by numbers that grow. What is done at a time is for those for whom something has come, or is due.
struct Clients {
    epoll: Epoll,
    all: HashMap<u64, Watched>,
    /// When to look at a client at the latest.
    due: BTreeSet<(Instant, u64)>,
    /// Those that have all of their responses.
    lingering: BTreeSet<u64>,
    next: u64,
}

struct Watched {
    client: Client,
    /// Its place in [`Clients::due`].
    due: Option<Instant>,
    /// What it is watched for; none where the kernel refused that.
    events: Option<i32>,
}

impl Clients {
    /// Waits until something can be read or written, the thread is woken, or something is due; gives the numbers.
    fn wait(&self, glance: Option<Duration>) -> Vec<u64> {
        let next = self.due.first().map(|(due, _)| due.saturating_duration_since(Instant::now()));
        let ready = self.epoll.wait(next.into_iter().chain(glance).min());
        ready.map(Iterator::collect).unwrap_or_else(|_| {
            std::thread::sleep(GLANCE);
            Vec::new()
        })
    }

    /// Takes a client, unless all can be done for it now: its number.
    fn add(&mut self, client: Client, now: Instant) -> Option<u64> {
        let number = self.next;
        self.next += 1;
        self.all.insert(number, Watched { client, due: None, events: None });
        if !self.attend(number, now) {
            return None;
        }
        if self.lingering.len() > MOST_LINGERING
            && let Some(oldest) = self.lingering.first().copied()
        {
            self.remove(oldest);
        }
        Some(number)
    }

    /// Does what can be done for a client now. False when it is out of this thread's hands.
    fn attend(&mut self, number: u64, now: Instant) -> bool {
        let Some(watched) = self.all.get_mut(&number) else { return false };
        if !watched.client.goes_on(now) {
            self.remove(number);
            return false;
        }
        let events = watched.client.events();
        if watched.events != Some(events) {
            let is_new = watched.events.is_none();
            let watches = self.epoll.watch(watched.client.socket(), is_new, events, number);
            watched.events = watches.is_ok().then_some(events).or(watched.events);
        }
        if events == libc::EPOLLIN {
            self.lingering.insert(number);
        }
        // Where the kernel does not watch it, it is tried now and then.
        let glance = if watched.events == Some(events) { None } else { Some(now + GLANCE) };
        let next = watched.client.next().into_iter().chain(glance).min().map(|next| next.max(now + MOMENT));
        // A place that is too early is no harm.
        if let Some(next) = next
            && watched.due.is_none_or(|due| next < due || due <= now)
        {
            if let Some(due) = watched.due.replace(next) {
                self.due.remove(&(due, number));
            }
            self.due.insert((next, number));
        }
        true
    }

    /// Does what is due.
    fn attend_due(&mut self, now: Instant) {
        while let Some(&(due, number)) = self.due.first()
            && due <= now
        {
            if self.attend(number, now) && self.due.first() == Some(&(due, number)) {
                // It has no time limit any more.
                self.due.pop_first();
                if let Some(watched) = self.all.get_mut(&number) {
                    watched.due = None;
                }
            }
        }
    }

    fn remove(&mut self, number: u64) {
        if let Some(Watched { client, due, events }) = self.all.remove(&number) {
            if events.is_some() {
                self.epoll.forget(client.socket());
            }
            if let Some(due) = due {
                self.due.remove(&(due, number));
            }
            self.lingering.remove(&number);
        }
    }

    /// The child ends.
    fn hurry(&mut self, now: Instant, graceful: bool) {
        let numbers: Vec<u64> = self.all.keys().copied().collect();
        for number in numbers {
            match self.all.get_mut(&number).map(|watched| &mut watched.client) {
                Some(Client::Leaving(client)) => {
                    client.hurry(now, graceful);
                    self.attend(number, now);
                }
                // Its request has ended.
                _ => self.remove(number),
            }
        }
    }
}

impl Client {
    /// Does what can be done now. False when the client is out of this thread's hands.
    fn goes_on(&mut self, now: Instant) -> bool {
        match self {
            Self::Leaving(client) => client.goes_on(now),
            Self::Helped(client) => client.goes_on(now),
        }
    }

    /// What it is waited for.
    fn events(&self) -> i32 {
        match self {
            Self::Leaving(client) if client.waiting.is_empty() => libc::EPOLLIN,
            _ => libc::EPOLLOUT,
        }
    }

    /// When something is due, whatever it does.
    fn next(&self) -> Option<Instant> {
        match self {
            Self::Leaving(client) => client.next(),
            Self::Helped(client) => client.silent,
        }
    }

    fn socket(&self) -> BorrowedFd<'_> {
        match self {
            Self::Leaving(client) => client.socket.as_fd(),
            Self::Helped(client) => client.socket.as_fd(),
        }
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
            self.wait();
        }
    }

    /// Waits until something can be read or written, or is due.
    fn wait(&self) {
        let events = if self.waiting.is_empty() { libc::POLLIN } else { libc::POLLOUT };
        let next = self.next().map(|next| next.saturating_duration_since(Instant::now()));
        if poll::wait(self.socket.as_fd(), events, next).is_err() {
            std::thread::sleep(GLANCE);
        }
    }

    /// Sends what waits, while the caller waits. None when the connection has been handed on, or the client has gone.
    fn send_here(mut self) -> Option<Self> {
        while self.goes_on(Instant::now()) {
            if self.waiting.is_empty() {
                return Some(self);
            }
            self.wait();
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

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn clients() -> Clients {
        let epoll = Epoll::new().unwrap();
        Clients { epoll, all: HashMap::new(), due: BTreeSet::new(), lingering: BTreeSet::new(), next: 0 }
    }

    /// A client whose response has ended, and its own end of the connection.
    fn leaving(listener: &TcpListener) -> (Client, TcpStream) {
        let theirs = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut client = Leaving::new(listener.accept().unwrap().0.into(), Waiting::default(), None, None);
        client.shut();
        (Client::Leaving(client), theirs)
    }

    fn listener() -> TcpListener {
        TcpListener::bind("127.0.0.1:0").unwrap()
    }

    #[test]
    fn only_who_does_something_is_attended_to() {
        let (mut clients, listener) = (clients(), listener());
        let mut theirs = Vec::new();
        for _ in 0..100 {
            let (client, other) = leaving(&listener);
            clients.add(client, Instant::now()).unwrap();
            theirs.push(other);
        }
        drop(theirs.remove(42));
        assert_eq!(clients.wait(None), [42]);
        assert!(!clients.attend(42, Instant::now()));
        assert_eq!(clients.all.len(), 99);
        assert!(!clients.all.contains_key(&42));
        assert_eq!(clients.wait(Some(Duration::ZERO)), []);
    }

    #[test]
    fn who_is_silent_is_closed_in_time() {
        let (mut clients, listener) = (clients(), listener());
        let theirs: Vec<_> = (0..10)
            .map(|_| {
                let (client, other) = leaving(&listener);
                clients.add(client, Instant::now()).unwrap();
                other
            })
            .collect();
        // One says something, and has more time.
        std::io::Write::write_all(&mut &theirs[3], b"S").unwrap();
        assert_eq!(clients.wait(None), [3]);
        let later = Instant::now() + SILENCE / 2;
        assert!(clients.attend(3, later));
        clients.attend_due(later);
        assert_eq!(clients.all.len(), 10);
        clients.attend_due(later + SILENCE - Duration::from_millis(1));
        assert_eq!(clients.all.keys().collect::<Vec<_>>(), [&3]);
        clients.attend_due(later + SILENCE);
        assert!(clients.all.is_empty() && clients.due.is_empty() && clients.lingering.is_empty());
    }

    #[test]
    fn the_oldest_goes_where_there_are_too_many() {
        let (mut clients, listener) = (clients(), listener());
        let theirs: Vec<_> = (0..MOST_LINGERING + 3)
            .map(|_| {
                let (client, other) = leaving(&listener);
                clients.add(client, Instant::now()).unwrap();
                other
            })
            .collect();
        assert_eq!(clients.all.len(), MOST_LINGERING);
        for number in 0..theirs.len() as u64 {
            let cut = !clients.all.contains_key(&number);
            assert_eq!(cut, number < 3);
        }
    }
}
