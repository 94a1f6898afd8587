//! Who has a client's connection that is kept, while the work of its finished response goes on: the worker, whose request it is, or the child's
//! thread, which watches it. One word says it, and each step is one change of it, so that two never have it at a time. `docs/course.md` has the
//! table, which the test runs.

// The model takes all ways on which the two can meet.
#[cfg(test)]
use loom::sync::atomic::{AtomicU64, Ordering};
#[cfg(not(test))]
use std::sync::atomic::{AtomicU64, Ordering};

/// Who has the connection.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum State {
    /// The worker, as httpd has it: nobody watches it.
    Workers,
    /// The worker, which leaves it alone while it works on. The thread may take it.
    Watched,
    /// The thread, for a moment, in which the worker waits.
    HandingOver,
    /// Another process or thread of the server. What the worker has in its place is at its end.
    HandedOver,
    /// Nobody: the client has been told the end. The worker closes what is left of it.
    Closed,
}

/// A step.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Step {
    /// The worker: the response has ended, and the work goes on.
    ResponseEnds,
    /// The worker: the work has ended.
    WorkEnds,
    /// The thread: something has come, or it is time.
    Takes,
    /// The thread: it was nothing to act on.
    Leaves,
    /// The thread: another process has it.
    HandsOver,
    /// The thread: the client was told the end.
    Closes,
}

/// What the client has sent, as far as it has not been read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Sent<'b> {
    /// Nothing.
    Nothing,
    /// These bytes, and perhaps more.
    Bytes(&'b [u8]),
    /// The end: it has closed its side, or has gone.
    End,
}

/// What the thread does about it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Act {
    /// Nothing.
    Leave,
    /// Hands the connection over, with the next request that has begun to come.
    HandOver,
    /// Tells the client the end.
    Close,
}

/// Returns the state that a step leads to; none where it cannot be taken: the worker waits.
#[must_use]
pub fn next(state: State, step: Step) -> Option<State> {
    match (state, step) {
        (State::Workers, Step::ResponseEnds) => Some(State::Watched),
        (State::Watched, Step::Takes) => Some(State::HandingOver),
        (State::Watched, Step::WorkEnds) => Some(State::Workers),
        (State::HandingOver, Step::Leaves) => Some(State::Watched),
        (State::HandingOver, Step::HandsOver) => Some(State::HandedOver),
        (State::HandingOver, Step::Closes) => Some(State::Closed),
        (State::Workers | State::HandedOver | State::Closed, Step::WorkEnds) => Some(state),
        _ => None,
    }
}

/// Returns what is to be done about what the client has sent; `is_time` says that it has been silent for as long as it may be. Empty lines are no
/// request, as [`blank_lines`] has it, nor is the half of one.
#[must_use]
pub fn act(sent: Sent<'_>, is_time: bool) -> Act {
    match sent {
        Sent::End => Act::Close,
        Sent::Bytes(bytes) if !matches!(bytes.get(blank_lines(bytes)..), None | Some(b"" | b"\r")) => Act::HandOver,
        Sent::Bytes(_) | Sent::Nothing if is_time => Act::Close,
        Sent::Bytes(_) | Sent::Nothing => Act::Leave,
    }
}

/// Returns how many bytes the empty lines take that some clients send behind a body. They are no request (`ap_check_pipeline`): no
/// thread is to wait for what comes behind them.
#[must_use]
pub fn blank_lines(bytes: &[u8]) -> usize {
    let mut rest = bytes;
    while let Some(behind) = rest.strip_prefix(b"\r\n").or_else(|| rest.strip_prefix(b"\n")) {
        rest = behind;
    }
    bytes.len() - rest.len()
}

/// The word: the state, and above it the number of the time that the connection is watched. An event of an earlier time finds another number.
pub struct Hold(AtomicU64);

/// How many bits the state takes.
const STATE: u32 = 3;

const fn word(number: u64, state: State) -> u64 {
    number << STATE | state as u64
}

fn state(word: u64) -> State {
    const ALL: [State; 4] = [State::Workers, State::Watched, State::HandingOver, State::HandedOver];
    let at = word & ((1 << STATE) - 1);
    usize::try_from(at).ok().and_then(|at| ALL.get(at)).copied().unwrap_or(State::Closed)
}

impl Default for Hold {
    /// The worker's.
    fn default() -> Self {
        Self(AtomicU64::new(word(0, State::Workers)))
    }
}

impl Hold {
    /// The worker: the connection is watched from now on, under a number that no other time has: whether it can be.
    pub fn watch(&self, number: u64) -> bool {
        let now = self.0.load(Ordering::Acquire);
        let Some(after) = next(state(now), Step::ResponseEnds) else { return false };
        self.0.compare_exchange(now, word(number, after), Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }

    /// The worker: the work has ended. Returns who had the connection. [`State::Watched`]: the worker has it again. Calls `wait` while the thread
    /// is at it.
    pub fn take_back(&self, mut wait: impl FnMut()) -> State {
        loop {
            let now = self.0.load(Ordering::Acquire);
            let Some(after) = next(state(now), Step::WorkEnds) else {
                wait();
                continue;
            };
            let number = now >> STATE;
            if self.0.compare_exchange(now, word(number, after), Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return state(now);
            }
        }
    }

    /// The thread: takes it, if it is still watched under this number.
    pub fn take(&self, number: u64) -> Option<Taken<'_>> {
        let after = next(State::Watched, Step::Takes)?;
        let (from, to) = (word(number, State::Watched), word(number, after));
        let taken = self.0.compare_exchange(from, to, Ordering::AcqRel, Ordering::Relaxed).is_ok();
        // Made only where it was: what is dropped gives it back.
        taken.then(|| Taken { hold: self, number, step: Step::Closes })
    }
}

/// The thread has it. When this is dropped, the worker may go on, and finds it closed, unless something else was said.
pub struct Taken<'h> {
    hold: &'h Hold,
    number: u64,
    step: Step,
}

impl Taken<'_> {
    /// It was nothing to act on.
    pub fn leave(mut self) {
        self.step = Step::Leaves;
    }

    /// Another process has it, and what the worker has in its place is at its end.
    pub fn hand_over(mut self) {
        self.step = Step::HandsOver;
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let after = next(State::HandingOver, self.step).unwrap_or(State::Closed);
        self.hold.0.store(word(self.number, after), Ordering::Release);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use loom::cell::UnsafeCell;
    use loom::sync::Arc;
    use loom::thread;

    use super::*;

    const TABLE: &str = include_str!("../../docs/course.md");

    const STATES: [(&str, State); 5] = [
        ("worker's", State::Workers),
        ("watched", State::Watched),
        ("handing over", State::HandingOver),
        ("handed over", State::HandedOver),
        ("closed", State::Closed),
    ];
    const STEPS: [(&str, Step); 6] = [
        ("worker: the response ends", Step::ResponseEnds),
        ("worker: the work ends", Step::WorkEnds),
        ("thread: something has come, or it is time", Step::Takes),
        ("thread: nothing to act on", Step::Leaves),
        ("thread: has handed it over", Step::HandsOver),
        ("thread: has told the end", Step::Closes),
    ];

    fn of<T: Copy>(names: &[(&str, T)], name: &str) -> T {
        names.iter().find(|(known, _)| *known == name).unwrap_or_else(|| unreachable!("'{name}' has no meaning")).1
    }

    #[test]
    fn the_table_has_each_step_and_no_other() {
        let (_, section) = TABLE.split_once("## A kept connection").unwrap();
        let rows = section.lines().filter(|line| line.starts_with('|')).skip(2);
        let mut told = Vec::new();
        for row in rows {
            let cells: Vec<&str> = row.trim_matches('|').split('|').map(str::trim).collect();
            let (from, step) = (of(&STATES, cells[0]), of(&STEPS, cells[1]));
            let to = (cells[3] != "waits").then(|| of(&STATES, cells[3]));
            assert_eq!(next(from, step), to, "{row}");
            told.push((from, step));
        }
        for (from, step) in STATES.iter().flat_map(|from| STEPS.iter().map(move |step| (from.1, step.1))) {
            assert!(
                next(from, step).is_none() || told.contains(&(from, step)),
                "{from:?}: {step:?} is not in the table"
            );
        }
        for (_, state) in STATES {
            assert_eq!(super::state(word(u64::MAX >> 4, state)), state);
        }
    }

    #[test]
    fn empty_lines_are_no_request() {
        for (bytes, length) in [("", 0), ("\r\n", 2), ("\n\r\n\r", 3), ("\r\nGET", 2), ("GET\r\n", 0)] {
            assert_eq!(blank_lines(bytes.as_bytes()), length, "{bytes:?}");
        }
    }

    #[test]
    fn readable_is_not_a_request() {
        for (sent, now, in_time) in [
            (Sent::Nothing, Act::Leave, Act::Close),
            (Sent::End, Act::Close, Act::Close),
            (Sent::Bytes(b"\r\n\n"), Act::Leave, Act::Close),
            (Sent::Bytes(b"\r\n\r"), Act::Leave, Act::Close),
            (Sent::Bytes(b"\r\nG"), Act::HandOver, Act::HandOver),
            (Sent::Bytes(b"\rG"), Act::HandOver, Act::HandOver),
            (Sent::Bytes(b"G"), Act::HandOver, Act::HandOver),
        ] {
            assert_eq!((act(sent, false), act(sent, true)), (now, in_time), "{sent:?}");
        }
    }

    /// What the worker's number is.
    #[derive(Clone, Copy, PartialEq, Eq, Debug)]
    enum Number {
        Clients,
        Shut,
        Dead,
    }

    /// A connection: its word, and what nobody may look at or change but who has it, or the model says so.
    struct Connection {
        hold: Hold,
        number: UnsafeCell<Number>,
        /// How often it was given away.
        given: UnsafeCell<u32>,
    }

    impl Connection {
        fn watched(number: u64) -> Arc<Self> {
            let connection =
                Self { hold: Hold::default(), number: UnsafeCell::new(Number::Clients), given: UnsafeCell::new(0) };
            assert!(connection.hold.watch(number));
            Arc::new(connection)
        }

        fn set(&self, number: Number) {
            // SAFETY: nobody else is at it, as the model looks.
            self.number.with_mut(|at| unsafe { *at = number });
        }

        /// The thread's part: whether it got the connection.
        fn attend(&self, number: u64, act: Act) -> bool {
            let Some(taken) = self.hold.take(number) else { return false };
            match act {
                Act::Leave => taken.leave(),
                Act::HandOver => {
                    // SAFETY: as for set.
                    self.given.with_mut(|at| unsafe { *at += 1 });
                    self.set(Number::Dead);
                    taken.hand_over();
                }
                Act::Close => self.set(Number::Shut),
            }
            true
        }

        /// The worker's part. Returns true if it goes on with the connection.
        fn end_work(&self) -> bool {
            let before = self.hold.take_back(thread::yield_now);
            // SAFETY: as for set.
            let (number, given) = (self.number.with(|at| unsafe { *at }), self.given.with(|at| unsafe { *at }));
            match before {
                State::Watched => assert_eq!((number, given), (Number::Clients, 0)),
                State::HandedOver => assert_eq!((number, given), (Number::Dead, 1)),
                State::Closed => assert_eq!((number, given), (Number::Shut, 0)),
                State::Workers | State::HandingOver => unreachable!("{before:?}"),
            }
            // httpd reads from it, or closes it.
            self.set(number);
            before == State::Watched
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "loom has threads of its own, which no interpreter follows")]
    fn one_of_the_two_has_it_in_every_order() {
        for act in [Act::Leave, Act::HandOver, Act::Close] {
            loom::model(move || {
                let connection = Connection::watched(1);
                let threads = Arc::clone(&connection);
                let thread = thread::spawn(move || threads.attend(1, act));
                let goes_on = connection.end_work();
                let taken = thread.join().unwrap();
                assert_eq!(goes_on, !taken || act == Act::Leave);
            });
        }
    }

    #[test]
    #[cfg_attr(miri, ignore = "loom has threads of its own, which no interpreter follows")]
    fn what_was_left_is_looked_at_again() {
        loom::model(|| {
            let connection = Connection::watched(1);
            let threads = Arc::clone(&connection);
            let thread = thread::spawn(move || {
                threads.attend(1, Act::Leave);
                threads.attend(1, Act::HandOver)
            });
            let goes_on = connection.end_work();
            assert_eq!(thread.join().unwrap(), !goes_on);
        });
    }

    /// The work ends, the next response of the connection ends too, and the thread acts on an event of the first time, then of the second.
    #[test]
    #[cfg_attr(miri, ignore = "loom has threads of its own, which no interpreter follows")]
    fn an_event_of_an_earlier_time_finds_nothing() {
        loom::model(|| {
            let connection = Connection::watched(1);
            let threads = Arc::clone(&connection);
            let thread = thread::spawn(move || (threads.attend(1, Act::Close), threads.attend(2, Act::HandOver)));
            let first = connection.end_work();
            let second = first && {
                assert!(connection.hold.watch(2));
                connection.end_work()
            };
            let (closed, handed_over) = thread.join().unwrap();
            assert_eq!((first, second), (!closed, !closed && !handed_over));
        });
    }

    /// Whoever has closed or handed over what was watched does not give it back.
    #[test]
    #[cfg_attr(miri, ignore = "loom has threads of its own, which no interpreter follows")]
    fn what_is_gone_is_not_watched() {
        loom::model(|| {
            for act in [Act::HandOver, Act::Close] {
                let connection = Connection::watched(1);
                assert!(connection.attend(1, act) && !connection.attend(1, act));
                assert!(!connection.hold.watch(2) && !connection.end_work() && !connection.hold.watch(2));
            }
        });
    }
}
