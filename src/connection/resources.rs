//! Descriptors, memory and threads that the kernel refuses, and the limits that an administrator can raise.

use std::io;

use crate::background::{self, Kind};

/// Warns of something that the kernel does not give. Each limit is named once in a while, whatever it is that fails.
pub fn warn(what: &str, error: &io::Error) {
    let (kind, limit) = limit(error);
    let raise = limit.map_or_else(String::new, |limit| format!("; raise {limit}"));
    background::seldom(kind, |more| log::warn!("{what}: {error}{raise}{more}"));
}

/// Returns the limit that an administrator can raise, if there is one.
fn limit(error: &io::Error) -> (Kind, Option<&'static str>) {
    let (kind, limit) = match error.raw_os_error() {
        Some(libc::EMFILE | libc::ETOOMANYREFS) => {
            (Kind::Files, "the number of files that a process may open (ulimit -n, LimitNOFILE)")
        }
        Some(libc::ENFILE) => (Kind::Files, "the number of files that the system may open (fs.file-max)"),
        Some(libc::EAGAIN) => (Kind::Threads, "the number of processes and threads (ulimit -u, LimitNPROC, TasksMax)"),
        Some(libc::ENOMEM | libc::ENOBUFS) => (Kind::Memory, "the memory that the service may use"),
        _ => return (Kind::Memory, None),
    };
    (kind, Some(limit))
}
