//! The counts, of the server and of each virtual host.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

/// What has happened since the server was started.
pub struct Counts {
    /// Requests that were finished.
    pub finished: AtomicU64,
    /// Marked responses that were not, because of a limit.
    pub over_limit: AtomicU64,
    /// Requests whose background work was ended for having taken too long.
    pub timed_out: AtomicU64,
    /// Connections of finished responses that were kept.
    pub kept: AtomicU64,
}

/// Where a request counts: for the server, and for its virtual host, unless there are too many. Good for longer than the request.
#[derive(Clone, Copy)]
pub struct Counting {
    server: &'static Counts,
    host: Option<&'static Counts>,
}

impl Counting {
    pub(super) fn new(server: &'static Counts, host: Option<&'static Counts>) -> Self {
        Self { server, host }
    }

    /// The request was finished.
    pub fn finished(self) {
        self.count(|counts| &counts.finished);
    }

    /// It was not, because of a limit.
    pub fn over_limit(self) {
        self.count(|counts| &counts.over_limit);
    }

    /// Its background work was ended for having taken too long.
    pub fn timed_out(self) {
        self.count(|counts| &counts.timed_out);
    }

    /// The connection of its finished response was kept.
    pub fn kept(self) {
        self.count(|counts| &counts.kept);
    }

    fn count(self, counter: impl Fn(&Counts) -> &AtomicU64) {
        for counts in [Some(self.server), self.host].into_iter().flatten() {
            counter(counts).fetch_add(1, Relaxed);
        }
    }
}
