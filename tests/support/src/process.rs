//! Child processes that end with the test, whatever happens to it.

use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus};
use std::sync::OnceLock;
use std::sync::mpsc::{Sender, channel};
use std::thread;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::process::{
    Pid, PidfdFlags, Signal, getppid, kill_process, kill_process_group, pidfd_open, set_parent_process_death_signal,
};
use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

/// How long a process may take to end by itself before it is killed.
const GRACE: Duration = Duration::from_secs(5);

/// A child process with a process group of its own.
///
/// Dropping it ends the whole group: politely at first, so that the program can clean up, then by
/// SIGKILL. When the test's process dies without dropping anything, the kernel sends the child
/// SIGTERM.
pub struct Process {
    child: Child,
    pid: Pid,
    pidfd: OwnedFd,
    status: Option<ExitStatus>,
}

/// Ends a process that the test did not start itself, at once and without its doing (SIGKILL).
///
/// # Panics
///
/// When there is none of this number.
#[track_caller]
pub fn kill(process: u32) {
    let pid = i32::try_from(process).ok().and_then(Pid::from_raw).expect("a process id");
    kill_process(pid, Signal::KILL).expect("the process runs");
}

/// A process whose end its parent does not hear of, as long as this lives: the thread that made it traces it. Another thread of the same test
/// process must not drop it.
pub struct Held(i32);

impl Held {
    /// Traces a process that runs on.
    ///
    /// # Errors
    ///
    /// The kernel's: EPERM where tracing is not allowed.
    pub fn new(process: u32) -> io::Result<Held> {
        let pid = i32::try_from(process).map_err(io::Error::other)?;
        // SAFETY: PTRACE_SEIZE takes two numbers beside the process, and writes to no memory.
        match unsafe { libc::ptrace(libc::PTRACE_SEIZE, pid, 0, 0) } {
            0 => Ok(Held(pid)),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// Lets go of the process, which has ended or is about to: then its parent hears of it.
    pub fn let_go(self) {
        // SAFETY: no status is asked for.
        unsafe { libc::waitpid(self.0, std::ptr::null_mut(), libc::__WALL) };
    }
}

impl Process {
    /// Starts `command` as the leader of a new process group.
    ///
    /// # Errors
    ///
    /// What the operating system says, for example that there is no such program.
    pub fn spawn(command: Command) -> io::Result<Process> {
        let child = spawn_from_lasting_thread(command)?;
        let pid = Pid::from_child(&child);
        let pidfd = pidfd_open(pid, PidfdFlags::empty())?;
        Ok(Process { child, pid, pidfd, status: None })
    }

    /// The process id, which is the id of its group too.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Sends `signal` to the process alone. One that has ended already is no error.
    pub fn signal(&self, signal: Signal) {
        if self.status.is_none() {
            let _ = kill_process(self.pid, signal);
        }
    }

    /// Ends the process and all of its group, without their doing (SIGKILL).
    pub fn crash(&mut self) {
        let _ = kill_process_group(self.pid, Signal::KILL);
        self.wait(GRACE);
    }

    /// Waits until the process has ended, at most `limit`; gives `None` if it still runs then.
    ///
    /// What is left of its group is killed.
    pub fn wait(&mut self, limit: Duration) -> Option<ExitStatus> {
        if self.status.is_none() && self.has_ended_within(limit) {
            // Not reaped yet, so the group's number cannot belong to anyone else.
            let _ = kill_process_group(self.pid, Signal::KILL);
            self.status = self.child.wait().ok();
        }
        self.status
    }

    /// Whether the process has ended. Does not wait.
    pub fn has_ended(&self) -> bool {
        self.status.is_some() || self.has_ended_within(Duration::ZERO)
    }

    fn has_ended_within(&self, limit: Duration) -> bool {
        let end = Instant::now() + limit;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            let left = Timespec::try_from(left).unwrap_or(Timespec { tv_sec: 0, tv_nsec: 0 });
            match poll(&mut [PollFd::new(&self.pidfd, PollFlags::IN)], Some(&left)) {
                Ok(ready) => return ready > 0,
                Err(rustix::io::Errno::INTR) => {}
                Err(_) => return false,
            }
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        if self.status.is_some() {
            return;
        }
        self.signal(Signal::TERM);
        if self.wait(GRACE).is_none() {
            let _ = kill_process_group(self.pid, Signal::KILL);
            let _ = self.child.wait();
        }
    }
}

/// The signal that the kernel sends at a parent's death is sent when the *thread* that started
/// the child ends. Hence one thread that starts all children and never ends.
fn spawn_from_lasting_thread(command: Command) -> io::Result<Child> {
    type Job = (Command, Sender<io::Result<Child>>);
    static SPAWNER: OnceLock<Sender<Job>> = OnceLock::new();

    let spawner = SPAWNER.get_or_init(|| {
        let (jobs, queue) = channel::<Job>();
        thread::Builder::new()
            .name("spawner".into())
            .spawn(move || {
                // The thread that needs it first may have a network of its own.
                if let Ok(network) = File::open("/proc/self/ns/net") {
                    let _ = move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network));
                }
                for (command, answer) in queue {
                    let _ = answer.send(spawn_bound_to_us(command));
                }
            })
            .unwrap_or_else(|error| panic!("no thread can be started (ulimit -u, ulimit -v): {error}"));
        jobs
    });
    let (answer, result) = channel();
    spawner.send((command, answer)).expect("the spawner thread lives");
    result.recv().expect("the spawner thread answers")
}

fn spawn_bound_to_us(mut command: Command) -> io::Result<Child> {
    let parent = rustix::process::getpid();
    command.process_group(0);
    // SAFETY: between fork and exec only system calls that are async-signal-safe are made, and no
    // memory is allocated.
    unsafe {
        command.pre_exec(move || {
            set_parent_process_death_signal(Some(Signal::TERM))?;
            if getppid() != Some(parent) {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            Ok(())
        });
    }
    command.spawn()
}
