//! Messages that an administrator should see once in a while, not once a request.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// How long a kind of message is kept quiet after it was logged.
const QUIET_SECONDS: u64 = 60;

/// One kind of message. All zero it is one that has not been logged yet.
pub struct Seldom {
    next: AtomicU64,
    left_out: AtomicU64,
}

impl Seldom {
    /// Calls `log` with a suffix for the message, unless this kind was logged within the last minute. The suffix says
    /// how often it was left out since.
    pub fn log(&self, log: impl FnOnce(&str)) {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        let next = self.next.load(Ordering::Relaxed);
        // A clock may be set back.
        let is_time = now >= next || next - now > QUIET_SECONDS;
        let won = is_time
            && self.next.compare_exchange(next, now + QUIET_SECONDS, Ordering::Relaxed, Ordering::Relaxed).is_ok();
        if !won {
            self.left_out.fetch_add(1, Ordering::Relaxed);
            return;
        }
        match self.left_out.swap(0, Ordering::Relaxed) {
            0 => log(""),
            count => log(&format!(" (and {count} more of this kind since the last such message)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{AtomicU64, Ordering, Seldom};

    #[test]
    fn a_kind_is_logged_once_in_a_while() {
        let kind = Seldom { next: AtomicU64::new(0), left_out: AtomicU64::new(0) };
        let mut said = Vec::new();
        for _ in 0..3 {
            kind.log(|suffix| said.push(suffix.to_owned()));
        }
        assert_eq!(said, [""]);

        // Its time has come, or the clock was set back.
        for (next, suffix) in [(0, " (and 2 more of this kind since the last such message)"), (u64::MAX, "")] {
            kind.next.store(next, Ordering::Relaxed);
            kind.log(|suffix| said.push(suffix.to_owned()));
            assert_eq!(said.last().map(String::as_str), Some(suffix));
        }
        assert_eq!(said.len(), 3);
    }
}
