//! Background work: the requests whose clients have their responses, and whose handlers work on. Each has a place in a table that all processes
//! share, so that an administrator can see them and limit how many there are.

mod counts;
mod entry;
mod hosts;
mod pauses;
mod seldom;
mod shared;
mod table;
mod work;

use std::cell::Cell;
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::Relaxed;

pub use self::counts::Counting;
use self::counts::Counts;
pub use self::entry::{Entry, WORKS_ON};
use self::hosts::Host;
pub use self::pauses::Pauses;
pub use self::seldom::seldom;
pub use self::table::Kind;
use self::table::{TABLE, Table};
pub use self::work::Work;
use crate::directives::{Max, Settings};
use crate::httpd::{Mpm, Request, dir_config, now, process_id};
use crate::rules::mark::Source;
use crate::rules::quote::escaped;

/// The least number of places in the table: mod_http2 has workers of its own besides the MPM's.
const PLACES: u32 = 1024;

/// The configuration has been read: sets the limit, and makes the table, the first time.
///
/// # Errors
///
/// A sentence, where there is no memory.
pub fn configure(max: Max) -> Result<(), String> {
    let table = TABLE.get_or_try_init(|| {
        let places = Mpm::most_workers_ever().saturating_mul(2).max(PLACES);
        Table::new(places)
            .map_err(|error| format!("there is no shared memory for {places} requests in background work: {error}"))
    })?;
    // Children may have ended while the configuration was one without the module.
    look_after_children();
    table.state().workers.store(Mpm::most_workers(), Relaxed);
    SERVER_MAX.store(max.bits(), Relaxed);
    table.set_limit(most(table, max));
    Ok(())
}

/// The value of `FinishRequestMax` for the server, as this process has read it, in bits.
static SERVER_MAX: AtomicU64 = AtomicU64::new(0);

/// Returns how many requests a limit is, of which the server's own is not looked at.
fn most(table: &Table, max: Max) -> u32 {
    max.requests(table.state().workers.load(Relaxed), table.places())
}

/// Returns how many requests of a request's virtual host may be in background work. Without a limit of its own it has the server's, which a
/// restart may have changed since this process began.
fn most_of_host(table: &Table, request: Request<'_>) -> u32 {
    let max = dir_config::<Settings>(request).map_or_else(Default::default, Settings::max);
    let limit = table.limit();
    if max.bits() == SERVER_MAX.load(Relaxed) { limit } else { most(table, max).min(limit) }
}

/// Returns where a request counts.
pub fn counting(request: Request<'_>) -> Option<Counting> {
    let table = TABLE.get()?;
    let host = Host::find(table.hosts(), request.server_name());
    if let Some(host) = host {
        host.limit.store(most_of_host(table, request), Relaxed);
    }
    Some(Counting::new(&table.state().counts, host.map(|host| &host.counts)))
}

/// Returns true if this is the process that calls, or a child of its, which may have ended but has not been waited for.
fn is_own(pid: u32) -> bool {
    // SAFETY: an all-zero siginfo_t is valid; waitid writes to it, and WNOWAIT leaves the child as it is (invariant 11).
    let result = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_PID, pid, &raw mut info, libc::WEXITED | libc::WNOWAIT | libc::WNOHANG)
    };
    pid == process_id() || result == 0 || std::io::Error::last_os_error().raw_os_error() != Some(libc::ECHILD)
}

/// Gives all places of a process back, which has ended: how many it had.
fn release_all(table: &'static Table, pid: u32) -> usize {
    let now = now();
    // What was counted while it ran stays counted.
    for (key, _) in table.entries().filter(|(_, entry)| entry.pid == pid && entry.is_believed() && entry.is_sure(now)) {
        let host = Host::all(table.hosts()).find(|(_, other, _)| *other == key);
        Counting::new(&table.state().counts, host.map(|(host, ..)| &host.counts)).finished();
    }
    table.release_all(pid)
}

/// The parent looks for children of which httpd has not said that they have ended: it had given them up ("attempting to continue anyway"),
/// and has waited for them since.
pub fn look_after_children() {
    if let Some(table) = TABLE.get() {
        for pid in table.owners().filter(|pid| !is_own(*pid)) {
            release_all(table, pid);
        }
    }
}

/// A child process has ended.
pub fn child_ended(pid: u32) {
    let ended = TABLE.get().map_or(0, |table| release_all(table, pid));
    look_after_children();
    match ended {
        0 => {}
        count => log::info!("child process {pid} has ended, and the background work of {count} requests with it"),
    }
}

/// The figures of all processes, of the server or of a virtual host: counts since the server was started, and what is running now.
pub struct Overview {
    /// Requests that were finished.
    pub finished: u64,
    /// Requests in background work now.
    pub running: u32,
    /// The limit of that.
    pub limit: u32,
    /// Connections that were kept.
    pub kept: u64,
    /// Marked responses that were not finished early, because of a limit.
    pub over_limit: u64,
    /// Requests whose background work took too long.
    pub timed_out: u64,
}

/// A request in background work whose response was only believed to be complete: the key of its virtual host, and whether it is known that it works
/// on. Then it counts as finished already, else not as running.
type Believed = (u64, bool);

impl Overview {
    fn new<'b>(counts: &Counts, running: u32, limit: u32, believed: impl Iterator<Item = &'b Believed>) -> Self {
        let (mut unsure, mut uncounted) = (0_u32, 0_u32);
        for (_, is_sure) in believed {
            *(if *is_sure { &mut uncounted } else { &mut unsure }) += 1;
        }
        Self {
            finished: counts.finished.load(Relaxed) + u64::from(uncounted),
            running: running.saturating_sub(unsure),
            limit,
            kept: counts.kept.load(Relaxed),
            over_limit: counts.over_limit.load(Relaxed),
            timed_out: counts.timed_out.load(Relaxed),
        }
    }
}

fn believed(table: &Table) -> Vec<Believed> {
    let now = now();
    let believed = table.entries().filter(|(_, entry)| entry.is_believed());
    believed.map(|(key, entry)| (key, entry.is_sure(now))).collect()
}

/// The figures of the server.
pub fn overview() -> Option<Overview> {
    let table = TABLE.get()?;
    Some(Overview::new(&table.state().counts, table.running(), table.limit(), believed(table).iter()))
}

/// The virtual hosts that had marked responses, always in the same order: the name of each, `...` at its end where it was cut, and its figures.
pub fn hosts() -> Vec<(Vec<u8>, Overview)> {
    let Some(table) = TABLE.get() else { return Vec::new() };
    let believed = believed(table);
    let overview = |(host, key, name): (&Host, u64, _)| {
        let its_own = believed.iter().filter(|(other, _)| *other == key);
        (name, Overview::new(&host.counts, table.running_of(key), host.limit.load(Relaxed), its_own))
    };
    Host::all(table.hosts()).map(overview).collect()
}

/// The requests in background work now.
pub fn entries() -> impl Iterator<Item = Entry> {
    TABLE.get().into_iter().flat_map(Table::entries).map(|(_, entry)| entry).filter(|entry| entry.is_sure(now()))
}

/// One request's background work. A place in the table that it has is given back when this is dropped.
#[derive(Default)]
pub struct Background {
    claim: Cell<Option<Claim>>,
    refused: Cell<bool>,
    since: Cell<Option<i64>>,
    believed: Cell<bool>,
}

impl Background {
    /// Takes a place in the table for the request, unless it has one: whether it has one now.
    pub fn claim(&self, request: Request<'_>, source: Source) -> bool {
        let claim = self.claim.take().or_else(|| Claim::new(request, source));
        let claimed = claim.is_some();
        self.claim.set(claim);
        claimed
    }

    /// Returns true if the request may run on after its client was released: it has a place in the table, or gets one now.
    pub fn admit(&self, request: Request<'_>, source: Source) -> bool {
        let admitted = self.claim(request, source);
        if !admitted {
            self.refuse(request);
        }
        admitted
    }

    /// Returns true if it would be admitted as things are. Cheaper, and nothing is taken.
    pub fn expects_place(&self, request: Request<'_>) -> bool {
        let claim = self.claim.take();
        let expects = claim.is_some() || TABLE.get().is_some_and(|table| has_room(table, request));
        self.claim.set(claim);
        if !expects {
            self.refuse(request);
        }
        expects
    }

    /// Returns true if it was not admitted at some time.
    pub fn was_refused(&self) -> bool {
        self.refused.get()
    }

    /// Gives the place back: there is no background work.
    pub fn withdraw(&self) {
        drop(self.claim.take());
    }

    /// The client has been released: the background work begins. Where the response is only `believed` to be complete, there may be none.
    pub fn begin(&self, believed: bool) {
        let now = now();
        self.believed.set(believed);
        self.since.set(Some(now));
        if let Some(claim) = self.claim.take() {
            claim.table.set_since(claim.place, now);
            self.claim.set(Some(claim));
        }
    }

    /// When it has begun, in microseconds of Unix time.
    pub fn since(&self) -> Option<i64> {
        self.since.get()
    }

    /// True if the response was only believed to be complete.
    pub fn is_believed(&self) -> bool {
        self.believed.get()
    }

    fn refuse(&self, request: Request<'_>) {
        let Some(table) = TABLE.get() else { return };
        if self.refused.replace(true) {
            return;
        }
        if let Some(counting) = counting(request) {
            counting.over_limit();
        }
        let limit = table.limit();
        let most = if table.running() < limit { most_of_host(table, request) } else { limit };
        warn_of_limit(limit, most, request);
    }
}

/// Returns true if a limit is not reached, neither the server's nor the virtual host's.
fn has_room(table: &Table, request: Request<'_>) -> bool {
    let (limit, most) = (table.limit(), most_of_host(table, request));
    table.has_room() && (most == limit || table.running_of(hosts::key(request.server_name())) < most)
}

/// Says that the server's limit is reached, or the virtual host's, if that is lower. One of 0 is as the administrator wants it.
fn warn_of_limit(limit: u32, most: u32, request: Request<'_>) {
    if most == 0 {
        return;
    }
    if most < limit {
        let name = escaped(request.server_name());
        seldom(Kind::HostLimit, |more| {
            log::warn!(
                "{most} requests of {name} are in background work, as many as FinishRequestMax allows this virtual host, and the \
                 clients of further marked responses there wait for their handlers: raise it, or have less work done after the \
                 responses{more}"
            );
        });
        return;
    }
    seldom(Kind::Limit, |more| {
        log::warn!(
            "{limit} requests are in background work, as many as FinishRequestMax allows, and the clients of further \
             marked responses wait for their handlers: raise FinishRequestMax or MaxRequestWorkers, or have less work \
             done after the responses{more}"
        );
    });
}

/// A place in the table.
struct Claim {
    table: &'static Table,
    place: usize,
    pid: u32,
}

impl Claim {
    fn new(request: Request<'_>, source: Source) -> Option<Self> {
        let table = TABLE.get()?;
        let pid = process_id();
        let place = table.claim_for(pid, hosts::key(request.server_name()), most_of_host(table, request))?;
        let entry = Entry {
            pid,
            since: now(),
            source,
            vhost: request.virtual_host(),
            request: request.request_line().to_vec(),
        };
        table.describe(place, &entry);
        // Its virtual host has a place from now on: the process may be killed before it counts.
        counting(request);
        Some(Self { table, place, pid })
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // A process that was forked off, by PHP say, has a copy of this: the place is not its own.
        if process_id() == self.pid {
            self.table.release(self.place, self.pid);
        }
    }
}
