//! Runs the demo in a process of its own and clears up behind it, however and whenever it ends.

use std::fs;
use std::io::{IsTerminal, Write, stderr, stdin, stdout};
use std::path::Path;
use std::process::ExitCode;
use std::sync::atomic::{AtomicI32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::sentence;

/// How long servers may take to end in good order.
const GRACE: Duration = Duration::from_millis(300);

/// How long it takes at the most until the kernel has ended what was killed.
const KILLED: Duration = Duration::from_secs(30);

/// How often is looked whether something has ended.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// The first signal that asked for the end; 0 if none did.
static ASKED: AtomicI32 = AtomicI32::new(0);

extern "C" fn note(signal: libc::c_int) {
    let _ = ASKED.compare_exchange(0, signal, Ordering::Relaxed, Ordering::Relaxed);
}

extern "C" fn nothing(_signal: libc::c_int) {}

/// Whether a signal has asked this process for the end, the supervisor or the demo itself.
pub fn is_to_end() -> bool {
    ASKED.load(Ordering::Relaxed) != 0
}

/// Runs `demo`, which gets a folder for its files, and gives how it ended; for a signal that asked for the end, 128 and its number.
///
/// The demo may end at any moment and in any way, and its servers too: what they have started becomes this process's, and is ended;
/// the folder is removed. Where this process is killed, the kernel ends the demo, and with it the servers.
pub fn run(demo: impl FnOnce(&Path) -> ExitCode) -> ExitCode {
    let terminal = listen();
    // SAFETY: the call takes numbers only.
    unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1) };
    let folder = match support::machine::folder("finish-request-demo-") {
        Ok(folder) => folder,
        Err(trouble) => return sentence::cannot_run(&trouble),
    };
    // SAFETY: the calls take nothing, and this process has one thread.
    let (parent, process) = unsafe { (libc::getppid(), libc::fork()) };
    if process == 0 {
        // It is the parent's folder.
        let folder = std::mem::ManuallyDrop::new(folder);
        die_with(libc::SIGKILL);
        return demo(folder.path());
    }
    let code = if process > 0 {
        wait_for(process, parent, terminal)
    } else {
        sentence::cannot_run(&format!("no process can be started ({})", std::io::Error::last_os_error()))
    };
    end_all();
    if is_to_end() {
        let _ = writeln!(stdout(), "\nThe servers have been stopped.");
    }
    let path = folder.path().to_owned();
    if folder.close().is_err() && fs::remove_dir_all(&path).is_err() && path.exists() {
        return sentence::cannot_run(&format!("the folder {} cannot be removed: please remove it", path.display()));
    }
    code
}

/// From now on what asks for the end is noted. Where hang-ups are ignored (nohup), they are; else gives what tells of one.
fn listen() -> Vec<libc::pollfd> {
    let set = |signal, handler: extern "C" fn(libc::c_int)| {
        // SAFETY: the handlers only store to an atomic, or do nothing, which is async-signal-safe.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) }
    };
    let ignored = set(libc::SIGHUP, note) == libc::SIG_IGN;
    if ignored {
        // SAFETY: nothing is called for it.
        unsafe { libc::signal(libc::SIGHUP, libc::SIG_IGN) };
    }
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGQUIT] {
        set(signal, note);
    }
    // What is too large for `ulimit -f` is an error of the write, and not the end.
    set(libc::SIGXFSZ, nothing);

    // A terminal that is closed sends its signal to one program only, which may keep it to itself, as make does.
    let told = [(0, stdin().is_terminal()), (1, true), (2, stderr().is_terminal())];
    let told = told.into_iter().filter(|(_, tells)| *tells && !ignored);
    told.map(|(fd, _)| libc::pollfd { fd, events: 0, revents: 0 }).collect()
}

/// Has the kernel send this process `signal` when its parent ends.
fn die_with(signal: libc::c_int) {
    // SAFETY: the call takes numbers only.
    unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, signal) };
}

/// Waits until the demo has ended, or has been ended because it was asked for, or because the program that started it or the
/// terminal has gone.
fn wait_for(process: libc::pid_t, parent: libc::pid_t, mut terminal: Vec<libc::pollfd>) -> ExitCode {
    loop {
        let mut status = 0;
        // SAFETY: `status` is ours; the process is our child and has not been waited for.
        let ended = unsafe { libc::waitpid(process, &raw mut status, libc::WNOHANG) } == process;
        let asked = match ASKED.load(Ordering::Relaxed) {
            // SAFETY: the call takes nothing.
            0 if unsafe { libc::getppid() } != parent => libc::SIGHUP,
            0 if !ended && hung_up(&mut terminal) => libc::SIGHUP,
            asked => asked,
        };
        if asked != 0 {
            if !ended {
                // SAFETY: it has not been waited for, so that the number is its own.
                unsafe { libc::kill(process, libc::SIGKILL) };
            }
            return ExitCode::from(u8::try_from(128 + asked).unwrap_or(u8::MAX));
        }
        if ended && libc::WIFEXITED(status) {
            return ExitCode::from(u8::try_from(libc::WEXITSTATUS(status)).unwrap_or(u8::MAX));
        }
        if ended {
            return sentence::cannot_run(&format!("its process was ended by signal {}", libc::WTERMSIG(status)));
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Whether the terminal has been closed, or the last reader of a pipe.
fn hung_up(terminal: &mut [libc::pollfd]) -> bool {
    let count = libc::nfds_t::try_from(terminal.len()).unwrap_or_default();
    // SAFETY: the records are ours, and as many as the call is told.
    let ready = unsafe { libc::poll(terminal.as_mut_ptr(), count, 0) };
    ready > 0 && terminal.iter().any(|one| one.revents & (libc::POLLHUP | libc::POLLERR) != 0)
}

/// Ends all processes that the demo has left: politely at first.
fn end_all() {
    let start = Instant::now();
    send_all(libc::SIGTERM);
    while reap() && start.elapsed() < KILLED {
        // Each that ends leaves its own children to this process.
        if start.elapsed() > GRACE {
            send_all(libc::SIGKILL);
        }
        thread::sleep(LOOK_EVERY);
    }
}

/// Takes note of the children that have ended. Gives whether there are others.
fn reap() -> bool {
    loop {
        // SAFETY: nothing is to be stored.
        match unsafe { libc::waitpid(-1, std::ptr::null_mut(), libc::WNOHANG) } {
            0 => return true,
            pid if pid < 0 => return false,
            _ => {}
        }
    }
}

/// Sends a signal to each child.
fn send_all(signal: libc::c_int) {
    for child in children() {
        // SAFETY: it has not been waited for, so that the number is its own.
        unsafe { libc::kill(child, signal) };
    }
}

/// The processes whose parent is this one.
fn children() -> Vec<libc::pid_t> {
    let this = std::process::id().to_string();
    let is_child = |pid: &libc::pid_t| {
        // `PID (NAME) STATE PARENT …`, and the name may be anything.
        let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
        let stat = String::from_utf8_lossy(&stat).into_owned();
        stat.rsplit_once(')').and_then(|(_, rest)| rest.split_whitespace().nth(1)) == Some(&*this)
    };
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(is_child).collect()
}
