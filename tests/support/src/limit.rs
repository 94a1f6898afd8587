//! What the kernel gives a process.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::programs;
use crate::tools::run;

/// A limit of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// How many descriptors it may have: `RLIMIT_NOFILE`.
    Files,
    /// How many processes and threads its user may have: `RLIMIT_NPROC`.
    Processes,
}

impl Limit {
    /// What prlimit(1) and `/proc/PID/limits` call it.
    fn names(self) -> [&'static str; 2] {
        match self {
            Limit::Files => ["nofile", "Max open files"],
            Limit::Processes => ["nproc", "Max processes"],
        }
    }

    /// The soft limit of a process.
    fn of(self, process: u32) -> Option<String> {
        let limits = fs::read_to_string(format!("/proc/{process}/limits")).ok()?;
        let values = limits.lines().find_map(|line| line.strip_prefix(self.names()[1]))?;
        values.split_whitespace().next().map(str::to_owned)
    }
}

/// Sets a limit of a process that runs; `None` gives it what its parent has, as before.
///
/// # Panics
///
/// When that fails.
#[track_caller]
pub fn limit(process: u32, limit: Limit, to: Option<u32>) {
    let status = |name| of_status(process, name).unwrap_or_else(|| panic!("process {process} has gone"));
    // No number is enough for all: those of a user's processes count together, and all tests' servers have one user.
    let to = to.map_or_else(|| limit.of(status("PPid:")).expect("its parent has a limit"), |to| to.to_string());
    let mut command = Command::new(programs::program(&["prlimit"]));
    command.arg(format!("--{}={to}:", limit.names()[0])).arg("--pid").arg(process.to_string());
    if rustix::process::geteuid().is_root() {
        // Only its own user may always do this.
        command.gid(status("Gid:")).uid(status("Uid:"));
    }
    let output = run(command);
    assert!(output.status.success(), "{}", output.stderr);
}

fn of_status(process: u32, name: &str) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}
