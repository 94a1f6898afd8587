//! The end after a number of bytes.

use super::Verdict;

/// Counts the bytes of a body down to its end. It looks at no byte, so that the caller can pass a
/// bucket on, a file say, without reading it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Length {
    remaining: u64,
}

impl Length {
    /// A body of `length` bytes, any number of them.
    pub const fn new(length: u64) -> Self {
        Self { remaining: length }
    }

    /// Returns how many of the next `available` bytes belong to the body: they are counted as passed on.
    /// Where it is fewer than `available`, the body ends after them.
    pub fn take(&mut self, available: u64) -> u64 {
        let taken = available.min(self.remaining);
        self.remaining -= taken;
        taken
    }

    /// Returns how many bytes are still to come.
    pub const fn remaining(&self) -> u64 {
        self.remaining
    }

    /// Returns true if all bytes of the body have come.
    pub const fn is_complete(&self) -> bool {
        self.remaining == 0
    }

    /// The verdict on the next bytes of the body.
    pub fn next(&mut self, input: &[u8]) -> Verdict {
        if self.is_complete() {
            return Verdict::End;
        }
        // A number that does not fit usize is more than any slice has.
        let most = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        match most.min(input.len()) {
            0 => Verdict::More,
            taken => {
                self.remaining -= taken as u64;
                Verdict::Pass(taken)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Ending;
    use super::super::model::{self, Close, Outcome};
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn zero_bytes_end_before_the_first() {
        let mut length = Length::new(0);
        assert!(length.is_complete());
        assert_eq!(length.next(b""), Verdict::End);
        assert_eq!(length.next(b"x"), Verdict::End);
        assert_eq!(length.take(u64::MAX), 0);
    }

    #[test]
    fn the_end_follows_the_last_byte_at_once() {
        let mut length = Length::new(3);
        assert_eq!(length.next(b""), Verdict::More);
        assert_eq!(length.next(b"ab"), Verdict::Pass(2));
        assert_eq!(length.next(b""), Verdict::More);
        assert!(!length.is_complete());
        assert_eq!(length.next(b"cde"), Verdict::Pass(1));
        assert!(length.is_complete());
        assert_eq!(length.next(b""), Verdict::End);
        assert_eq!(length.next(b"de"), Verdict::End);
    }

    #[test]
    fn the_largest_numbers_do_not_overflow() {
        let mut length = Length::new(u64::MAX);
        assert_eq!(length.next(b"x"), Verdict::Pass(1));
        assert_eq!(length.remaining(), u64::MAX - 1);
        assert_eq!(length.take(u64::MAX), u64::MAX - 1);
        assert!(length.is_complete());
        assert_eq!(length.take(u64::MAX), 0);
    }

    proptest! {
        #[test]
        fn any_split_gives_the_same(body in any::<Vec<u8>>(), length in 0_u64..150, cuts in any::<Vec<u8>>()) {
            let expected = model::length(length, &body);
            let pieces = model::pieces(&body, &cuts);
            prop_assert_eq!(model::run(Ending::Length(Length::new(length)), pieces), expected);
        }

        #[test]
        fn takes_sum_up_to_the_length(length in any::<u64>(), takes in any::<Vec<u64>>()) {
            let mut machine = Length::new(length);
            let mut taken = 0_u128;
            let mut offered = 0_u128;
            for available in takes {
                offered += u128::from(available);
                taken += u128::from(machine.take(available));
                prop_assert_eq!(taken, offered.min(u128::from(length)));
                prop_assert_eq!(u128::from(machine.remaining()), u128::from(length) - taken);
            }
        }
    }

    #[test]
    fn a_short_body_is_open() {
        let outcome = model::run(Ending::Length(Length::new(4)), [&b"abc"[..]]);
        assert_eq!(outcome, Outcome { body: b"abc".to_vec(), close: Close::Open });
    }
}
