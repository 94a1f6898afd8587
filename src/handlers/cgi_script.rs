//! mod_cgi: a script that closes its output and works on. To mod_cgi that is its end, and with the request's pool
//! httpd ends the script (`apr_pool_note_subprocess`). Under prefork the script is the process's only child, so it can be
//! waited for; mod_cgid's scripts keep their request going by themselves.

use std::time::{Duration, Instant};

use super::Kind;
use crate::background::{Pauses, Work};
use crate::httpd::{Request, is_threaded};

/// How long a script that is ending may take from the closing of its output to its end.
const ENDING: Duration = Duration::from_millis(10);

/// Between two looks at one.
const PAUSES: Pauses = Pauses::new(Duration::from_micros(100), Duration::from_millis(2));

/// Returns true if the script goes on, though its output is at its end: if the handler runs one.
pub fn works_on(handler: Kind) -> bool {
    if !is_child(handler) {
        return false;
    }
    let (begun, mut pauses) = (Instant::now(), PAUSES);
    while child() == Child::Running {
        let left = ENDING.saturating_sub(begun.elapsed());
        if left.is_zero() {
            return true;
        }
        pauses.sleep(left);
    }
    false
}

/// Waits for the script, if there is one, as long as the background work may go on.
pub fn wait(handler: Kind, work: &Work) {
    if is_child(handler) {
        work.wait_while(|| child() == Child::Running);
    }
}

/// Has httpd do so before it ends the request, whose client waits for it, and has done nothing to be given up where that takes too long.
pub fn keep(request: Request<'_>, handler: Kind, work: Work) {
    if is_child(handler) {
        request.pool().before_end(move || {
            work.wait_while(|| child() == Child::Running);
            work.ended();
        });
    }
}

fn is_child(handler: Kind) -> bool {
    handler == Kind::Cgi && !is_threaded()
}

/// The state of this process's children.
#[derive(PartialEq, Eq)]
enum Child {
    /// There is at least one, and none has ended.
    Running,
    /// One has ended, which is left for httpd to reap; or there is none.
    Ended,
}

/// Looks at the children. A signal may end the call early.
fn child() -> Child {
    // SAFETY: an all-zero siginfo_t is valid; waitid writes to it, and WNOWAIT leaves the child as it is (invariant 11).
    let (result, pid) = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        let result = libc::waitid(libc::P_ALL, 0, &raw mut info, libc::WEXITED | libc::WNOWAIT | libc::WNOHANG);
        (result, info.si_pid())
    };
    let interrupted = || std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted;
    match result {
        0 if pid == 0 => Child::Running,
        0 => Child::Ended,
        _ if interrupted() => Child::Running,
        _ => Child::Ended,
    }
}
