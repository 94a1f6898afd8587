//! How many system calls a server makes.

use std::fs;
use std::process::{Command, Stdio};

use support::{Process, Signal, wait_for};

use crate::processes::Processes;

/// True if this machine can count them.
pub fn is_there() -> bool {
    Command::new("strace")
        .arg("-V")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

/// The system calls of a server's children while `work` is done, of all kinds or those that `only` names.
///
/// # Panics
///
/// When strace cannot trace them.
pub fn count(processes: &Processes, only: Option<&str>, work: impl FnOnce()) -> f64 {
    let folder = tempfile::tempdir().expect("a folder");
    let counts = folder.path().join("counts");
    let mut command = Command::new("strace");
    command.args(["-f", "-c", "-o"]).arg(&counts).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command.args(only.map(|names| format!("--trace={names}")));
    let children = processes.children();
    command.args(children.iter().map(|id| format!("--attach={id}")));
    let mut strace = Process::spawn(command).expect("strace runs");
    wait_for("strace to have all threads", || {
        assert!(!strace.has_ended(), "strace cannot trace httpd's processes here");
        children.iter().all(|&id| is_traced(id)).then_some(())
    });
    work();
    strace.signal(Signal::INT);
    strace.wait(support::DEADLINE).expect("strace ends");
    let text = fs::read_to_string(counts).unwrap_or_default();
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
