//! Measuring in turns, and how far the result can be believed.

use std::thread;
use std::time::{Duration, Instant};

/// A part has at least so many rounds, however slow the machine is.
const FEWEST: usize = 5;
/// More say nothing more.
const MOST: usize = 40;

/// A subject of a comparison: measures once.
pub type Subject<'a, T> = &'a mut dyn FnMut() -> T;

/// Calls `round` with its number, for so many seconds.
pub fn rounds(seconds: u64, mut round: impl FnMut(usize)) {
    let (start, limit) = (Instant::now(), Duration::from_secs(seconds));
    let mut done = 0;
    while done < FEWEST || (done < MOST && start.elapsed() < limit) {
        round(done);
        done += 1;
    }
}

/// Has the subjects take turns; each round begins with another. Gives for each what it measured, round by round.
pub fn in_turns<T>(seconds: u64, subjects: &mut [Subject<'_, T>]) -> Vec<Vec<T>> {
    let count = subjects.len();
    // What comes first finds cold caches.
    subjects.iter_mut().for_each(|subject| {
        subject();
    });
    let mut measured: Vec<Vec<T>> = (0..count).map(|_| Vec::new()).collect();
    rounds(seconds, |round| {
        for turn in 0..count {
            let index = (round + turn) % count;
            measured[index].push(subjects[index]());
        }
    });
    measured
}

/// Some times, from the shortest to the longest.
pub struct Times(Vec<f64>);

impl Times {
    /// Of durations, in microseconds.
    pub fn of(times: impl IntoIterator<Item = Duration>) -> Times {
        let mut times: Vec<f64> = times.into_iter().map(|time| time.as_secs_f64() * 1e6).collect();
        times.sort_unstable_by(f64::total_cmp);
        Times(times)
    }

    pub fn percentile(&self, percent: f64) -> f64 {
        let index = (self.0.len() as f64 * percent / 100.0) as usize;
        self.0[index.min(self.0.len() - 1)]
    }
}

/// How long a server has for what it does behind an answer, so that the next request does not pay for it.
const PAUSE: Duration = Duration::from_millis(1);

/// The numbers below `count`, in an order that looks like chance.
pub fn shuffled(count: usize, seed: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..count).collect();
    let mut state = seed as u64;
    for last in (1..count).rev() {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        order.swap(last, (state >> 33) as usize % (last + 1));
    }
    order
}

/// Has the subjects take turns request by request, `requests` times a round, each time in another order. Gives for each its times, round
/// by round.
pub fn request_by_request<T>(seconds: u64, requests: usize, subjects: &mut [Subject<'_, T>]) -> Vec<Vec<Vec<T>>> {
    subjects.iter_mut().for_each(|subject| {
        subject();
    });
    let mut measured: Vec<Vec<Vec<T>>> = subjects.iter().map(|_| Vec::new()).collect();
    rounds(seconds, |round| {
        measured.iter_mut().for_each(|measured| measured.push(Vec::with_capacity(requests)));
        for request in 0..requests {
            for index in shuffled(subjects.len(), round * requests + request) {
                let times = measured[index].last_mut().expect("a round");
                times.push(subjects[index]());
                thread::sleep(PAUSE);
            }
        }
    });
    measured
}

/// This percentile of each round, in microseconds.
pub fn percentiles(rounds: &[Vec<Duration>], percent: f64) -> Vec<f64> {
    rounds.iter().map(|times| Times::of(times.iter().copied()).percentile(percent)).collect()
}

/// Round by round, `these` in relation to `those`.
pub fn ratios(these: &[f64], those: &[f64]) -> Vec<f64> {
    these.iter().zip(those).map(|(this, that)| this / that).collect()
}

/// Round by round, how much `these` are more than `those`.
pub fn differences(these: &[f64], those: &[f64]) -> Vec<f64> {
    these.iter().zip(those).map(|(this, that)| this - that).collect()
}

/// What a row of the report says about the values of its rounds.
#[derive(Clone, Copy)]
pub struct Summary {
    pub median: f64,
    /// Half of the rounds are between these.
    pub quartiles: [f64; 2],
    /// The median of all rounds there could be is between these, with a probability of 95%, if rounds are independent.
    pub interval: [f64; 2],
}

impl Summary {
    pub fn of(values: &[f64]) -> Summary {
        let mut sorted = values.to_vec();
        sorted.sort_unstable_by(f64::total_cmp);
        let count = sorted.len();
        let at = |share: f64| {
            let position = share * (count - 1) as f64;
            let (low, part) = (position as usize, position.fract());
            sorted[low] + part * (sorted[(low + 1).min(count - 1)] - sorted[low])
        };
        // Order statistics: how many rounds are below the median is binomial.
        let reach = 0.98 * (count as f64).sqrt();
        let low = (count as f64 / 2.0 - reach).floor().max(0.0) as usize;
        let low = low.min(count - 1);
        Summary { median: at(0.5), quartiles: [at(0.25), at(0.75)], interval: [sorted[low], sorted[count - 1 - low]] }
    }
}
