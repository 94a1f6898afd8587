//! The lingering close, as `ap_lingering_close` has it: after FIN the client's bytes are read and discarded until it
//! closes too. A socket closed with unread bytes would be reset, and the client might lose the end of the response.

use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::mpsc::{Receiver, Sender, TryRecvError, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::httpd::{Seldom, guard};

/// How long a client may be silent (`SECONDS_TO_LINGER`).
const SILENCE: Duration = Duration::from_secs(2);
/// How long it may go on sending (`MAX_SECS_TO_LINGER`).
const LIMIT: Duration = Duration::from_secs(30);

/// How often a socket is read before the others have their turn.
const READS: usize = 16;
/// How many sockets a child holds at the most; above that the oldest ones are closed.
const MOST: usize = 256;

/// The child's thread; started with the first socket that it gets.
static THREAD: Mutex<Option<Thread>> = Mutex::new(None);

struct Thread {
    /// The process that the thread belongs to: a fork does not take it along.
    process: u32,
    sockets: Sender<OwnedFd>,
    /// A byte written here wakes the thread.
    wake: UnixStream,
    handle: JoinHandle<()>,
}

/// The child is about to exit, which would reset the connections of clients whose bytes have not been read: waits for
/// them, but not for long.
pub fn end() {
    // A signal may have interrupted whoever has the lock; then there is no waiting for it.
    let Some(thread) = THREAD.try_lock().ok().and_then(|mut thread| thread.take()) else { return };
    if thread.process == std::process::id() {
        let Thread { sockets, wake, handle, .. } = thread;
        drop((sockets, wake));
        let _ = handle.join();
    }
}

/// Closes a client's socket in its own time: FIN has been sent. Does not wait.
pub fn close(client: OwnedFd) {
    let mut thread = THREAD.lock().unwrap_or_else(PoisonError::into_inner);
    if thread.as_ref().is_none_or(|thread| thread.process != std::process::id()) {
        match Thread::start() {
            Ok(started) => *thread = Some(started),
            Err(error) => {
                static FAILED: Seldom = Seldom::new();
                FAILED.log(|more| log::warn!("no thread can be started for closing connections: {error}{more}"));
                return;
            }
        }
    }
    if let Some(Thread { sockets, wake, .. }) = &*thread {
        // Errors: the thread has ended, which closes the socket; or so many bytes wait that it will wake anyway.
        if sockets.send(client).is_ok() {
            let _ = std::io::Write::write(&mut &*wake, &[0]);
        }
    }
}

impl Thread {
    fn start() -> std::io::Result<Self> {
        let (sockets, incoming) = channel();
        let (wake, woken) = UnixStream::pair()?;
        wake.set_nonblocking(true)?;
        woken.set_nonblocking(true)?;
        let handle = without_signals(|| {
            std::thread::Builder::new()
                .name("finish_request".into())
                .spawn(move || guard((), || run(&incoming, &woken)))
        })?;
        Ok(Self { process: std::process::id(), sockets, wake, handle })
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

/// A socket that is being closed.
struct Lingering {
    socket: TcpStream,
    silent: Instant,
    limit: Instant,
}

fn run(incoming: &Receiver<OwnedFd>, mut woken: &UnixStream) {
    let mut lingering: Vec<Lingering> = Vec::new();
    let mut ending = false;
    while !ending || !lingering.is_empty() {
        wait(&lingering, if ending { None } else { Some(woken.as_raw_fd()) });
        let mut bytes = [0; 64];
        while matches!(woken.read(&mut bytes), Ok(read) if read > 0) {}
        let now = Instant::now();
        loop {
            match incoming.try_recv() {
                Ok(client) => lingering.push(Lingering::new(client, now)),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => {
                    if !ending {
                        ending = true;
                        lingering.iter_mut().for_each(|each| each.limit = each.limit.min(now + SILENCE));
                    }
                    break;
                }
            }
        }
        lingering.retain_mut(|each| each.goes_on(now));
        lingering.drain(..lingering.len().saturating_sub(MOST));
    }
}

impl Lingering {
    fn new(client: OwnedFd, now: Instant) -> Self {
        let socket = TcpStream::from(client);
        // Where it fails, the first read may wait; it is the last one then.
        let _ = socket.set_nonblocking(true);
        Self { socket, silent: now + SILENCE, limit: now + LIMIT }
    }

    /// Reads what is there. False when the client has closed, has been silent, or has sent for too long.
    fn goes_on(&mut self, now: Instant) -> bool {
        let mut bytes = [0; 16_384];
        for _ in 0..READS {
            match self.socket.read(&mut bytes) {
                Ok(0) => return false,
                Ok(_) => self.silent = now + SILENCE,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return error.kind() == ErrorKind::WouldBlock && now < self.silent.min(self.limit),
            }
        }
        now < self.limit
    }
}

/// Waits until a socket can be read, one is handed in, or a time limit passes.
fn wait(lingering: &[Lingering], woken: Option<RawFd>) {
    let watch = |fd| libc::pollfd { fd, events: libc::POLLIN, revents: 0 };
    let mut fds: Vec<_> =
        woken.into_iter().chain(lingering.iter().map(|each| each.socket.as_raw_fd())).map(watch).collect();
    let now = Instant::now();
    let timeout = lingering
        .iter()
        .map(|each| each.silent.min(each.limit).saturating_duration_since(now).as_millis() + 1)
        .min()
        .map_or(-1, |timeout| i32::try_from(timeout).unwrap_or(i32::MAX));
    // SAFETY: the array is this function's own, of the length that is given. What is ready is found out by reading.
    unsafe { libc::poll(fds.as_mut_ptr(), fds.len() as libc::nfds_t, timeout) };
}
