//! mod_cgi: a script that closes its output and works on. To mod_cgi that is its end, and with the request's pool
//! httpd ends the script (`apr_pool_note_subprocess`). Under prefork it is among the process's children, where it can be told from what
//! earlier requests have left (a PHP page's `proc_open()`); mod_cgid's scripts keep their request going by themselves.

use std::fs;
use std::time::{Duration, Instant};

use super::Kind;
use crate::background::{Pauses, Work};
use crate::httpd::{Request, is_in_signal_handler, is_threaded, now};

/// How long a script that is ending may take from the closing of its output to its end.
const ENDING: Duration = Duration::from_millis(10);

/// Between two looks at one.
const PAUSES: Pauses = Pauses::new(Duration::from_micros(100), Duration::from_millis(2));

/// Returns true if the script goes on, though its output is at its end: if the handler runs one.
pub fn works_on(request: Request<'_>, handler: Kind) -> bool {
    let Some(script) = Script::of(request, handler) else { return false };
    let (begun, mut pauses) = (Instant::now(), PAUSES);
    while script.runs() {
        let left = ENDING.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return true;
        }
        pauses.sleep(left);
    }
    false
}

/// Waits for the script, if there is one, as long as the background work may go on.
pub fn wait(request: Request<'_>, handler: Kind, work: &Work) {
    if let Some(script) = Script::of(request, handler) {
        work.wait_while(|| script.runs());
    }
}

/// Has httpd do so before it ends the request, whose client waits for it, and has done nothing to be given up where that takes too long.
pub fn keep(request: Request<'_>, handler: Kind, work: Work) {
    if let Some(script) = Script::of(request, handler) {
        request.pool().before_end(move || {
            // A child that is told to stop ends its requests from there, and the script with them.
            if !is_in_signal_handler() {
                work.wait_while(|| script.runs());
            }
            work.ended();
        });
    }
}

/// A request's script: one of these children of this process, or of all where the kernel does not tell them apart.
struct Script(Option<Vec<libc::id_t>>);

impl Script {
    /// That of a handler that runs one as a child of a process which answers one request at a time.
    fn of(request: Request<'_>, handler: Kind) -> Option<Self> {
        let is_child = handler == Kind::Cgi && !is_threaded();
        is_child.then(|| Self(children_since(ticks_at_begin(request))))
    }

    /// Returns true if children run, and none of them has ended: a filter's program that runs beside a script that has ended is not the script.
    /// Allocates nothing: prefork ends a child in a signal's handler, wherever that is.
    fn runs(&self) -> bool {
        match &self.0 {
            None => is_running(libc::P_ALL, 0),
            Some(children) => !children.is_empty() && children.iter().all(|child| is_running(libc::P_PID, *child)),
        }
    }
}

/// When the request came, or a tick before: in clock ticks since the machine's start, as the kernel says it of processes.
fn ticks_at_begin(request: Request<'_>) -> u64 {
    let age = u64::try_from(request.us_until(now())).unwrap_or(0);
    // SAFETY: a timespec for the kernel to write to, and a number (invariant 11).
    let (us, per_second) = unsafe {
        let mut time: libc::timespec = std::mem::zeroed();
        libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time);
        (time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000, libc::sysconf(libc::_SC_CLK_TCK) as u64)
    };
    (us.saturating_sub(age) * per_second / 1_000_000).saturating_sub(1)
}

/// The children of this thread, the only one that runs handlers, which began since then: where the kernel tells
/// (`CONFIG_PROC_CHILDREN`; a process in a `ChrootDir` sees nothing of it).
fn children_since(ticks: u64) -> Option<Vec<libc::id_t>> {
    let list = fs::read_to_string("/proc/thread-self/children").ok()?;
    let mut children = Vec::new();
    for child in list.split_ascii_whitespace() {
        if began(&fs::read(format!("/proc/{child}/stat")).ok()?)? >= ticks {
            children.push(child.parse().ok()?);
        }
    }
    Some(children)
}

/// When a process began, by its `/proc/PID/stat` (proc_pid_stat(5)): the twenty-second field. The second is the program's name in parentheses, which
/// may have any bytes.
fn began(stat: &[u8]) -> Option<u64> {
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    std::str::from_utf8(stat.get(name_end + 1..)?).ok()?.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Returns true if there are such children, and none has ended that is left for httpd to reap. A signal may end the call early.
fn is_running(which: libc::idtype_t, id: libc::id_t) -> bool {
    // SAFETY: an all-zero siginfo_t is valid; waitid writes to it, and WNOWAIT leaves the child as it is (invariant 11).
    let (result, pid) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let result = libc::waitid(which, id, &raw mut info, libc::WEXITED | libc::WNOWAIT | libc::WNOHANG);
        (result, info.si_pid())
    };
    match result {
        0 => pid == 0,
        _ => std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_when_a_process_began() {
        let stat = b"1784 (a) Z 1) (b) S 1 1784 1784 0 -1 4194560 199 0 0 0 0 0 0 0 20 0 1 0 112233 2560000 221 18446744073709551615\n";
        assert_eq!(began(stat), Some(112_233));
        assert!(fs::read("/proc/self/stat").is_ok_and(|own| began(&own) > Some(0)));
        for short in [&b""[..], b"1 (a", b"1 (a)", b"1 (a) Z 1 2 3"] {
            assert_eq!(began(short), None);
        }
    }
}
