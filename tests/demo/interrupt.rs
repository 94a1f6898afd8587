//! Ctrl-C: the demo ends in good order, so that no server and no folder stays behind.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

static CAME: AtomicBool = AtomicBool::new(false);

extern "C" fn note(_signal: libc::c_int) {
    CAME.store(true, Ordering::Relaxed);
}

/// From now on Ctrl-C, a hang-up and a request to terminate are noted and do not kill.
pub fn listen() {
    for signal in [libc::SIGINT, libc::SIGTERM, libc::SIGHUP] {
        let handler: extern "C" fn(libc::c_int) = note;
        // SAFETY: the handler only stores to an atomic, which is async-signal-safe.
        unsafe { libc::signal(signal, handler as libc::sighandler_t) };
    }
}

/// Whether one of them came.
pub fn came() -> bool {
    CAME.load(Ordering::Relaxed)
}

/// Waits for one of them.
pub fn wait() {
    while !came() {
        thread::sleep(Duration::from_millis(50));
    }
}
