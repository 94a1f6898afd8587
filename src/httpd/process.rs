//! The process.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};

/// The process's number; 0 where the kernel must be asked.
static OWN: AtomicU32 = AtomicU32::new(0);
/// True if a fork clears it.
static CLEARED: AtomicBool = AtomicBool::new(false);

/// Returns the number of this process, for which the kernel is asked once: httpd forks its children, and PHP may fork one of them.
pub fn process_id() -> u32 {
    match OWN.load(Ordering::Relaxed) {
        0 => ask(),
        own => own,
    }
}

#[cold]
fn ask() -> u32 {
    extern "C" fn forked() {
        OWN.store(0, Ordering::Relaxed);
    }
    if !CLEARED.load(Ordering::Relaxed) {
        // SAFETY: the function stays where it is (invariant 4), and does what may be done in a process that was just forked. Twice is no harm.
        let failed = unsafe { libc::pthread_atfork(None, None, Some(forked)) } != 0;
        if failed {
            return std::process::id();
        }
        CLEARED.store(true, Ordering::Relaxed);
    }
    let own = std::process::id();
    OWN.store(own, Ordering::Relaxed);
    own
}

/// Returns true if this is the handler of a signal that ends a child at once: it is blocked meanwhile.
pub fn is_in_signal_handler() -> bool {
    // SAFETY: the set is this function's own; with a null pointer nothing is changed (invariant 11).
    unsafe {
        let mut blocked = std::mem::zeroed();
        libc::pthread_sigmask(libc::SIG_BLOCK, std::ptr::null(), &raw mut blocked);
        [libc::SIGTERM, libc::SIGHUP].into_iter().any(|signal| libc::sigismember(&raw const blocked, signal) == 1)
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_forked_process_has_its_own_number() {
        assert_eq!(super::process_id(), std::process::id());
        // SAFETY: the child asks for its number, and ends (invariant 11).
        unsafe {
            let child = libc::fork();
            if child == 0 {
                let same = super::process_id() == std::process::id();
                libc::_exit(i32::from(!same));
            }
            let mut status = -1;
            assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
            assert_eq!(status, 0);
        }
        assert_eq!(super::process_id(), std::process::id());
    }
}
