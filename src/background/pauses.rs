//! Waiting for what nobody announces: a look, a pause, a look, with longer and longer pauses.

use std::time::Duration;

/// Pauses, each twice as long as the one before.
pub struct Pauses {
    next: Duration,
    longest: Duration,
}

impl Pauses {
    /// The first pause, and the longest.
    pub const fn new(first: Duration, longest: Duration) -> Self {
        Self { next: first, longest }
    }

    /// Sleeps for the next pause, and not longer than `left`.
    pub fn sleep(&mut self, left: Duration) {
        std::thread::sleep(self.take().min(left));
    }

    fn take(&mut self) -> Duration {
        let pause = self.next;
        self.next = self.longest.min(pause * 2);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        let mut pauses = Pauses::new(Duration::from_millis(1), Duration::from_millis(5));
        let taken: Vec<_> = std::iter::repeat_with(|| pauses.take().as_millis()).take(5).collect();
        assert_eq!(taken, [1, 2, 4, 5, 5]);
    }
}
