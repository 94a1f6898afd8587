//! Waiting for events, never for time.

use std::thread;
use std::time::{Duration, Instant};

/// How long anything that must happen may take. Generous, because a loaded machine is no failure. What would happen without it
/// all the same (httpd's own `Timeout`, in the tests' configuration; a gate that opens by itself) takes longer.
pub const DEADLINE: Duration = Duration::from_secs(60);

/// How often a condition is looked at that cannot wake us by itself, such as a file's existence.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// A look that takes long leaves the machine to the others for nineteen times as long, but not for longer than this.
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Waits until `probe` gives a value, and returns it.
///
/// # Panics
///
/// After [`DEADLINE`], with `what` in the message.
#[track_caller]
pub fn wait_for<T>(what: &str, probe: impl FnMut() -> Option<T>) -> T {
    match poll(DEADLINE, probe) {
        Some(value) => value,
        None => panic!("waited {} s in vain for {what}", DEADLINE.as_secs()),
    }
}

/// As [`wait_for`], but gives `None` when `limit` has passed.
pub(crate) fn poll<T>(limit: Duration, mut probe: impl FnMut() -> Option<T>) -> Option<T> {
    let start = Instant::now();
    loop {
        let look = Instant::now();
        if let Some(value) = probe() {
            return Some(value);
        }
        if start.elapsed() >= limit {
            return None;
        }
        thread::sleep((look.elapsed() * 19).clamp(LOOK_EVERY, LONGEST_PAUSE));
    }
}
