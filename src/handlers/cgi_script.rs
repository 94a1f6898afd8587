//! mod_cgi: a script that closes its output and works on. To mod_cgi that is its end, and with the request's pool
//! httpd ends the script (`apr_pool_note_subprocess`). Under prefork it is among the process's children, where it can be told from what
//! earlier requests have left (a PHP page's `proc_open()`); mod_cgid's scripts keep their request going by themselves.

use std::fs;
use std::time::{Duration, Instant};

use super::Kind;
use crate::background::{Pauses, Work};
use crate::httpd::{Request, is_threaded, now};

/// How long a script that is ending may take from the closing of its output to its end.
const ENDING: Duration = Duration::from_millis(10);

/// Between two looks at one.
const PAUSES: Pauses = Pauses::new(Duration::from_micros(100), Duration::from_millis(2));

/// Returns true if the script goes on, though its output is at its end: if the handler runs one.
pub fn works_on(request: Request<'_>, handler: Kind) -> bool {
    if !is_child(handler) {
        return false;
    }
    let (since, begun, mut pauses) = (Ticks::of(request), Instant::now(), PAUSES);
    while is_running(since) {
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
    if is_child(handler) {
        let since = Ticks::of(request);
        work.wait_while(|| is_running(since));
    }
}

/// Has httpd do so before it ends the request, whose client waits for it, and has done nothing to be given up where that takes too long.
pub fn keep(request: Request<'_>, handler: Kind, work: Work) {
    if is_child(handler) {
        let since = Ticks::of(request);
        request.pool().before_end(move || {
            work.wait_while(|| is_running(since));
            work.ended();
        });
    }
}

fn is_child(handler: Kind) -> bool {
    handler == Kind::Cgi && !is_threaded()
}

/// When something began: in clock ticks since the machine's start, as the kernel says it of processes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Ticks(u64);

impl Ticks {
    /// When the request came, or a tick before.
    fn of(request: Request<'_>) -> Ticks {
        let age = u64::try_from(request.us_until(now())).unwrap_or(0);
        // SAFETY: a timespec for the kernel to write to, and a number (invariant 11).
        let (us, per_second) = unsafe {
            let mut time: libc::timespec = std::mem::zeroed();
            libc::clock_gettime(libc::CLOCK_BOOTTIME, &raw mut time);
            (time.tv_sec as u64 * 1_000_000 + time.tv_nsec as u64 / 1000, libc::sysconf(libc::_SC_CLK_TCK) as u64)
        };
        Ticks((us.saturating_sub(age) * per_second / 1_000_000).saturating_sub(1))
    }
}

/// Returns true if children of this process that began since then run, and none of them has ended: a filter's program that runs beside a script
/// that has ended is not the script. A signal may end a look early.
fn is_running(since: Ticks) -> bool {
    let Some(mut children) = children() else { return none_has_ended() };
    children.retain(|&(_, began)| began >= since);
    !children.is_empty() && children.iter().all(|&(state, _)| state != b'Z')
}

/// The state and the beginning of each child of this thread, the only one that runs handlers: where the kernel tells
/// (`CONFIG_PROC_CHILDREN`; a process in a `ChrootDir` sees nothing of it).
fn children() -> Option<Vec<(u8, Ticks)>> {
    let list = fs::read_to_string("/proc/thread-self/children").ok()?;
    list.split_ascii_whitespace().map(|child| parse(&fs::read(format!("/proc/{child}/stat")).ok()?)).collect()
}

/// The state and the beginning in a process's `/proc/PID/stat` (proc_pid_stat(5)): the third field, and the twenty-second. The second is the
/// program's name in parentheses, which may have any bytes.
fn parse(stat: &[u8]) -> Option<(u8, Ticks)> {
    let name_end = stat.iter().rposition(|&byte| byte == b')')?;
    let mut fields = std::str::from_utf8(stat.get(name_end + 1..)?).ok()?.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    Some((state, Ticks(fields.nth(18)?.parse().ok()?)))
}

/// Returns true if there are children, and none has ended that is left for httpd to reap.
fn none_has_ended() -> bool {
    // SAFETY: an all-zero siginfo_t is valid; waitid writes to it, and WNOWAIT leaves the child as it is (invariant 11).
    let (result, pid) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let result = libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | libc::WNOWAIT | libc::WNOHANG);
        (result, info.si_pid())
    };
    let interrupted = || std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted;
    match result {
        0 => pid == 0,
        _ => interrupted(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_says_how_a_process_is_and_when_it_began() {
        let stat = b"1784 (a) Z 1) (b) S 1 1784 1784 0 -1 4194560 199 0 0 0 0 0 0 0 20 0 1 0 112233 2560000 221 18446744073709551615\n";
        assert!(parse(stat) == Some((b'S', Ticks(112_233))));
        let own = fs::read("/proc/self/stat").unwrap_or_default();
        assert!(parse(&own).is_some_and(|(state, began)| b"RSD".contains(&state) && began > Ticks(0)));
        for short in [&b""[..], b"1 (a", b"1 (a)", b"1 (a) Z 1 2 3"] {
            assert!(parse(short).is_none());
        }
    }
}
