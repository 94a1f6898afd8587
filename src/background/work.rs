//! `FinishRequestTimeout`: how long a request may work on after its client was let go, and what becomes of reads that the
//! handler's own time limits end.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::counts::Counting;
use super::pauses::Pauses;
use super::seldom::seldom;
use super::table::Kind;
use crate::directives::{Settings, TimeLimit};
use crate::httpd::{Block, Brigade, Record, Request, Result, Status};
use crate::rules::quote::escaped;

/// Between two looks at a silent program.
const PAUSES: Pauses = Pauses::new(Duration::from_millis(1), Duration::from_millis(100));

/// A request that works on without a client.
pub struct Work {
    since: Instant,
    limit: Option<TimeLimit>,
    /// The method and path, for the log.
    what: String,
    /// Where it counts; only if it has a time limit.
    counting: Option<Counting>,
    /// True if a read or a write has failed, after which the handler ends.
    failed: AtomicBool,
    /// The connection record that the handler looks at.
    connection: Record,
    /// What that said of the client when the work began.
    aborted: bool,
}

/// The outcome of a read or a write of the handler.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Seen {
    /// A write, or a read that gave something.
    Work,
    /// A read that gave nothing in the time that it had.
    Silence,
    /// A read that failed otherwise.
    Failure,
}

/// The consequence of it.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Next {
    /// All is well.
    GoOn,
    /// The read is to be tried again.
    Again,
    /// The handler learns what the read gave.
    Fail,
    /// The handler learns that the client has gone.
    End,
}

fn next(limit: Option<TimeLimit>, elapsed: Duration, seen: Seen) -> Next {
    let over = matches!(limit, Some(TimeLimit::After(limit)) if elapsed >= limit);
    match seen {
        Seen::Failure => Next::Fail,
        _ if over => Next::End,
        Seen::Work => Next::GoOn,
        Seen::Silence if limit.is_some() => Next::Again,
        Seen::Silence => Next::Fail,
    }
}

impl Work {
    /// The background work of this request begins, with `connection` as the record that its handler looks at.
    pub fn begin(request: Request<'_>, connection: Record, settings: &Settings) -> Self {
        let limit = settings.time_limit();
        let (what, counting) = match limit {
            Some(TimeLimit::After(_)) => (escaped(request.path()), super::counting(request)),
            _ => (String::new(), None),
        };
        let aborted = connection.get().is_aborted();
        Self { since: Instant::now(), limit, what, counting, failed: AtomicBool::new(false), connection, aborted }
    }

    /// Returns true if the handler may write.
    ///
    /// # Errors
    ///
    /// [`Status::ABORTED`] once the limit has been reached.
    pub fn write(&self) -> Result {
        match next(self.limit, self.since.elapsed(), Seen::Work) {
            Next::End => Err(self.end()),
            _ => Ok(()),
        }
    }

    /// Reads the first bucket, and gives its length in bytes. Where a limit is set, silence is borne as long as it says.
    ///
    /// # Errors
    ///
    /// [`Status::ABORTED`] once the limit has been reached; otherwise what the bucket says.
    pub fn read(&self, brigade: &mut Brigade<'_>) -> Result<usize> {
        // mod_cgi and mod_cgid log each of their own timeouts, but not that there is nothing yet. mod_fcgid's buckets
        // wait anyway.
        let block = if self.limit.is_some() { Block::No } else { Block::Yes };
        let mut pauses = PAUSES;
        loop {
            let read = brigade.read_first(block).map(<[u8]>::len);
            let seen = match read {
                Ok(_) => Seen::Work,
                Err(status) if status.is_again() || status.is_timeout() => Seen::Silence,
                Err(_) => Seen::Failure,
            };
            match next(self.limit, self.since.elapsed(), seen) {
                Next::GoOn => return read,
                Next::Fail => {
                    self.failed.store(true, Ordering::Relaxed);
                    return read;
                }
                Next::End => return Err(self.end()),
                Next::Again if read.is_err_and(Status::is_again) => {
                    pauses.sleep(self.left());
                }
                Next::Again => {}
            }
        }
    }

    /// Waits as long as `program`, of which nothing can be read, goes on and may go on.
    pub fn wait_while(&self, mut runs: impl FnMut() -> bool) {
        let mut pauses = PAUSES;
        while !self.failed.load(Ordering::Relaxed) && runs() {
            if next(self.limit, self.since.elapsed(), Seen::Work) == Next::End {
                self.end();
            }
            pauses.sleep(self.left());
        }
    }

    /// The work has ended: where its limit has said that the client had gone, the record says again what is true of it.
    pub fn ended(&self) {
        if self.failed.load(Ordering::Relaxed) {
            self.connection.get().set_aborted(self.aborted);
        }
    }

    /// Returns how long it may still go on.
    fn left(&self) -> Duration {
        match self.limit {
            Some(TimeLimit::After(limit)) => limit.saturating_sub(self.since.elapsed()),
            _ => Duration::MAX,
        }
    }

    /// The limit has been reached: from now on it is as if the client had gone, which ends the handler.
    fn end(&self) -> Status {
        if !self.failed.swap(true, Ordering::Relaxed) {
            if let Some(counting) = self.counting {
                counting.timed_out();
            }
            if let Some(TimeLimit::After(limit)) = self.limit {
                warn(&self.what, limit);
            }
        }
        self.connection.get().abort();
        Status::ABORTED
    }
}

/// A request's background work has reached its limit; once for each request.
fn warn(what: &str, limit: Duration) {
    seldom(Kind::TimeLimit, |more| {
        let limit = limit.as_secs();
        log::warn!(
            "the background work of {what} has reached the {limit} seconds of FinishRequestTimeout, and its handler is told \
             to end: raise the limit, or have less work done after the response{more}"
        );
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);
    const AFTER: Option<TimeLimit> = Some(TimeLimit::After(LIMIT));

    #[test]
    fn without_a_limit_of_its_own_the_handler_learns_of_its_time_limits() {
        for elapsed in [Duration::ZERO, Duration::from_secs(1_000_000)] {
            assert_eq!(next(None, elapsed, Seen::Work), Next::GoOn);
            assert_eq!(next(None, elapsed, Seen::Silence), Next::Fail);
        }
    }

    #[test]
    fn silence_is_borne_until_the_limit() {
        let before = LIMIT.saturating_sub(Duration::from_nanos(1));
        for (elapsed, silent, working) in [
            (Duration::ZERO, Next::Again, Next::GoOn),
            (before, Next::Again, Next::GoOn),
            (LIMIT, Next::End, Next::End),
        ] {
            assert_eq!(next(AFTER, elapsed, Seen::Silence), silent);
            assert_eq!(next(AFTER, elapsed, Seen::Work), working);
        }
    }

    #[test]
    fn silence_is_borne_for_ever() {
        assert_eq!(next(Some(TimeLimit::Never), Duration::MAX, Seen::Silence), Next::Again);
        assert_eq!(next(Some(TimeLimit::Never), Duration::MAX, Seen::Work), Next::GoOn);
    }

    #[test]
    fn what_fails_fails() {
        for limit in [None, AFTER, Some(TimeLimit::Never)] {
            for elapsed in [Duration::ZERO, LIMIT] {
                assert_eq!(next(limit, elapsed, Seen::Failure), Next::Fail);
            }
        }
    }
}
