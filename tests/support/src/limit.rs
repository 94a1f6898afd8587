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
    /// prlimit(1)'s option that sets the soft limit; `None` gives more than a test needs.
    fn option(self, to: Option<u32>) -> String {
        let name = match self {
            Limit::Files => "nofile",
            Limit::Processes => "nproc",
        };
        to.map_or_else(|| format!("--{name}=1000:"), |to| format!("--{name}={to}:"))
    }
}

/// Sets a limit of a process that runs; `None` gives it enough again.
///
/// # Panics
///
/// When that fails.
#[track_caller]
pub fn limit(process: u32, limit: Limit, to: Option<u32>) {
    let mut command = Command::new(programs::program(&["prlimit"]));
    command.arg(limit.option(to)).arg("--pid").arg(process.to_string());
    if rustix::process::geteuid().is_root() {
        // Only its own user may always do this.
        let id = |name| id_of(process, name).unwrap_or_else(|| panic!("process {process} has gone"));
        command.gid(id("Gid:")).uid(id("Uid:"));
    }
    let output = run(command);
    assert!(output.status.success(), "{}", output.stderr);
}

fn id_of(process: u32, name: &str) -> Option<u32> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix(name)?.split_whitespace().next()?.parse().ok())
}
