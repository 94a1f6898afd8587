//! How many system calls a server's processes make: strace counts them.

use std::fs;
use std::process::{Command, Stdio};

use rustix::process::Signal;

use crate::deadline::{DEADLINE, wait_for};
use crate::process::Process;
use crate::programs;

/// True if this machine can count them.
pub fn can_trace() -> bool {
    programs::find(&["strace"]).is_some()
}

/// The system calls of these processes, of all their threads, while `work` is done: of all kinds, or those that `only` names.
///
/// # Panics
///
/// When strace cannot trace them.
pub fn system_calls(processes: &[u32], only: Option<&str>, work: impl FnOnce()) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let counts = folder.path().join("counts");
    let mut command = Command::new(programs::program(&["strace"]));
    command.args(["-f", "-c", "-o"]).arg(&counts).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.args(only.map(|names| format!("--trace={names}")));
    command.args(processes.iter().map(|id| format!("--attach={id}")));
    let mut strace = Process::spawn(command).expect("strace runs");
    wait_for("strace to have all threads", || {
        assert!(!strace.has_ended(), "strace cannot trace httpd's processes here");
        processes.iter().all(|&id| is_traced(id)).then_some(())
    });
    work();
    strace.signal(Signal::INT);
    strace.wait(DEADLINE).expect("strace ends");
    let text = fs::read_to_string(counts).expect("strace has written what it has counted");
    let total = text.lines().rev().find(|line| line.ends_with("total"));
    // Without a call there is no table.
    total.and_then(|line| line.split_whitespace().nth(3)).map_or(0.0, |calls| calls.parse().expect("a number"))
}

fn is_traced(process: u32) -> bool {
    let threads = fs::read_dir(format!("/proc/{process}/task")).into_iter().flatten().flatten();
    threads.map(|thread| fs::read_to_string(thread.path().join("status")).unwrap_or_default()).all(|status| {
        status.lines().find_map(|line| line.strip_prefix("TracerPid:")).is_some_and(|tracer| tracer.trim() != "0")
    })
}
