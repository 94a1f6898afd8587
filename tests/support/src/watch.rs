//! A value that one thread changes and others wait for.

use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Instant;

use crate::deadline::DEADLINE;

/// A shared value whose changes can be waited for.
#[derive(Default)]
pub(crate) struct Watch<T> {
    value: Mutex<T>,
    changed: Condvar,
}

impl<T> Watch<T> {
    /// Looks at or changes the value, and wakes those who wait for a change.
    pub(crate) fn update<R>(&self, change: impl FnOnce(&mut T) -> R) -> R {
        let result = change(&mut self.value.lock().unwrap_or_else(PoisonError::into_inner));
        self.changed.notify_all();
        result
    }

    /// Waits until `probe` finds what it looks for in the value.
    ///
    /// # Panics
    ///
    /// After the deadline, with what `describe` makes of the value then.
    #[track_caller]
    pub(crate) fn wait<R>(&self, mut probe: impl FnMut(&T) -> Option<R>, describe: impl FnOnce(&T) -> String) -> R {
        let end = Instant::now() + DEADLINE;
        let mut value = self.value.lock().unwrap_or_else(PoisonError::into_inner);
        loop {
            if let Some(found) = probe(&value) {
                return found;
            }
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                let state = describe(&value);
                drop(value);
                panic!("waited {} s in vain: {state}", DEADLINE.as_secs());
            }
            value = match self.changed.wait_timeout(value, left) {
                Ok((value, _)) => value,
                Err(poisoned) => poisoned.into_inner().0,
            };
        }
    }
}
