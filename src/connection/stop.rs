//! A prefork child that is told to stop exits in its signal handler, whatever it was just doing. In a process with one thread malloc(3)
//! takes no locks. With the module's thread it does: a child that is interrupted in it would wait for itself until httpd kills it. So the
//! thread tries: it gives back a piece of the main thread's memory. Where that takes too long, the child exits at once, without httpd's
//! cleanup, as it would be killed without it.

use std::ffi::c_void;
use std::os::fd::RawFd;
use std::sync::atomic::{AtomicI32, AtomicPtr, AtomicU8, Ordering};
use std::time::{Duration, Instant};

use super::bell::RING;
use crate::httpd::{is_in_signal_handler, is_threaded};

/// Too large for malloc's caches of each thread, which have no locks, and too small to be the kernel's directly.
const PIECE: usize = 16_384;
/// How long the thread may take: it has nothing else to do but what is due at the moment.
const PATIENCE: Duration = Duration::from_millis(500);

/// Nobody has asked.
const QUIET: u8 = 0;
/// The thread shall try.
const ASKED: u8 = 1;
/// It could.
const DONE: u8 = 2;

static STATE: AtomicU8 = AtomicU8::new(QUIET);
static MEMORY: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());
/// Where the thread is woken; none without a thread.
static WAKE: AtomicI32 = AtomicI32::new(-1);

/// There is going to be a thread, which [`RING`] at `wake` wakes. To be called in the main thread.
pub fn prepare(wake: RawFd) {
    if !is_threaded() {
        // SAFETY: memory that nobody uses; its address is kept for the thread, which frees it, once (invariant 11).
        MEMORY.store(unsafe { libc::malloc(PIECE) }, Ordering::Release);
        WAKE.store(wake, Ordering::Release);
    }
}

/// There is no thread. To be called in the main thread.
pub fn forget() {
    WAKE.store(-1, Ordering::Release);
    // SAFETY: as for answer.
    unsafe { libc::free(MEMORY.swap(std::ptr::null_mut(), Ordering::AcqRel)) };
}

/// The thread has been woken: tries, if it is asked to.
pub fn answer() {
    if STATE.load(Ordering::Acquire) == ASKED {
        // SAFETY: what malloc gave, or null; nobody else gets it (invariant 11).
        unsafe { libc::free(MEMORY.swap(std::ptr::null_mut(), Ordering::AcqRel)) };
        STATE.store(DONE, Ordering::Release);
    }
}

/// The child is going to exit: does not return where that would take until it is killed. Does only what a signal handler
/// may do.
pub fn check() {
    let wake = WAKE.load(Ordering::Acquire);
    if wake < 0 || !is_in_signal_handler() {
        return;
    }
    STATE.store(ASKED, Ordering::Release);
    let start = Instant::now();
    // SAFETY: the bytes of a constant, to a descriptor that is open as long as the thread runs. write, clock_gettime, nanosleep and _exit are
    // allowed in a signal handler (invariant 11).
    unsafe {
        libc::write(wake, RING.as_ptr().cast(), RING.len());
        while start.elapsed() < PATIENCE {
            if STATE.load(Ordering::Acquire) == DONE {
                return;
            }
            let millisecond = libc::timespec { tv_sec: 0, tv_nsec: 1_000_000 };
            libc::nanosleep(&raw const millisecond, std::ptr::null_mut());
        }
        libc::_exit(0);
    }
}
