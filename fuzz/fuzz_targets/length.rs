//! The end after a number of bytes: any split, and any takes, count the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mod_finish_request::rules::ending::{Ending, Length, model};

fuzz_target!(|input: (u64, u8, [u8; 4], Vec<u64>, &[u8])| {
    let (large, small, cuts, takes, body) = input;
    for length in [large, small.into()] {
        let expected = model::length(length, body);
        let run = |pieces| model::run(Ending::Length(Length::new(length)), pieces);
        assert_eq!(run(vec![body]), expected);
        assert_eq!(run(model::pieces(body, &cuts)), expected);

        let mut machine = Length::new(length);
        let mut left = u128::from(length);
        for &available in &takes {
            let taken = u128::from(machine.take(available));
            assert_eq!(taken, left.min(available.into()));
            left -= taken;
            assert_eq!(u128::from(machine.remaining()), left);
            assert_eq!(machine.is_complete(), left == 0);
        }
    }
});
