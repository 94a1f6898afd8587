//! The requests in background work, of all processes, in memory that they share.

use std::io;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64};

use once_cell::sync::OnceCell;

use super::counts::Counts;
use super::entry::{Entry, Slot};
use super::hosts::{self, Host};
use super::shared::{Shared, zeroed};
use crate::httpd::Seldom;

/// The table of this parent and all its children. Made by the parent when it starts, and kept through its restarts: the
/// library is never unmapped.
pub static TABLE: OnceCell<Table> = OnceCell::new();

/// A kind of message.
#[derive(Clone, Copy)]
pub enum Kind {
    /// As many requests are in background work as may be.
    Limit,
    /// The same, of a virtual host.
    HostLimit,
    /// Background work took too long.
    TimeLimit,
    /// A mark does not parse.
    BadMark,
    /// A mark does not go with the application's own chunks.
    OwnChunks,
    /// A body is not what it claims to be.
    BadBody,
    /// The kernel gives no descriptor.
    Files,
    /// The kernel gives no thread.
    Threads,
    /// The kernel gives something else not.
    Memory,
    /// Connections cannot be kept.
    NoDoor,
    /// Somebody came to the socket for kept connections.
    Stranger,
    /// A program does not get the digits that it was to have.
    NoDigits,
}

impl Kind {
    /// The number of places.
    pub const COUNT: usize = Self::NoDigits as usize + 1;
}

/// How many hints are read at once.
const HINTS: usize = u64::BITS as usize;

/// The table. A place in it belongs to the process whose id stands there, and to nobody where that is 0. All else follows from these ids: a
/// process may die at any time.
pub struct Table {
    owners: &'static [AtomicU32],
    /// A bit for each place, set where somebody was seen there. A hint, by which a free place is found without a look at each: whoever dies between
    /// the one and the other leaves it wrong, and whoever finds it wrong sets it right.
    hints: &'static [AtomicU64],
    /// By the same places: whose virtual host's the request is. 0 where the place is free, or not counted yet.
    keys: &'static [AtomicU64],
    slots: &'static [Slot],
    hosts: &'static [Host],
    state: &'static State,
}

/// The part of the table that there is once.
pub struct State {
    /// How many requests may be in background work.
    limit: AtomicU32,
    /// How many workers there are, of which percentages are meant.
    pub workers: AtomicU32,
    /// No place from this one on has ever been taken.
    taken: AtomicU32,
    /// What has happened to all requests.
    pub counts: Counts,
    /// The messages that are logged once in a while.
    pub said: [Seldom; Kind::COUNT],
}

// SAFETY: atomics alone (invariant 10), in Seldom too.
unsafe impl Shared for State {}

impl Table {
    /// A table with so many places, all free.
    ///
    /// # Errors
    ///
    /// The kernel's, about the memory.
    pub fn new(places: u32) -> io::Result<Self> {
        let count = usize::try_from(places).map_err(|_| io::ErrorKind::InvalidInput)?;
        let state = zeroed(1)?.first().ok_or(io::ErrorKind::InvalidInput)?;
        let hosts = zeroed(hosts::MOST)?;
        let hints = zeroed(count.div_ceil(HINTS))?;
        Ok(Self { owners: zeroed(count)?, hints, keys: zeroed(count)?, slots: zeroed(count)?, hosts, state })
    }

    /// Returns how many places there are.
    pub fn places(&self) -> u32 {
        u32::try_from(self.owners.len()).unwrap_or(u32::MAX)
    }

    /// Returns what the table has once.
    pub fn state(&self) -> &State {
        self.state
    }

    /// Returns how many requests may be in background work at once.
    pub fn limit(&self) -> u32 {
        self.state.limit.load(SeqCst)
    }

    /// Sets that, for the processes that run too: those that have their places keep them.
    pub fn set_limit(&self, limit: u32) {
        self.state.limit.store(limit, SeqCst);
    }

    /// Returns the number of requests in background work.
    pub fn running(&self) -> u32 {
        let running = self.used().filter(|owner| owner.load(SeqCst) != 0).count();
        u32::try_from(running).unwrap_or(u32::MAX)
    }

    /// Returns the virtual hosts.
    pub fn hosts(&self) -> &'static [Host] {
        self.hosts
    }

    /// Returns the number of requests of this virtual host in background work.
    pub fn running_of(&self, key: u64) -> u32 {
        let running = self.used().zip(self.keys).filter(|(_, other)| other.load(SeqCst) == key).count();
        u32::try_from(running).unwrap_or(u32::MAX)
    }

    /// Takes a place for a process, for a virtual host that may have so many of all; none where a limit is reached.
    ///
    /// Never has a host more than its limit, for the same reason as below. Of several that ask at once for its last place all may be refused.
    pub fn claim_for(&self, pid: u32, key: u64, most: u32) -> Option<usize> {
        let is_limited = most < self.limit();
        if is_limited && self.running_of(key) >= most {
            return None;
        }
        let place = self.claim(pid)?;
        self.keys.get(place)?.store(key, SeqCst);
        if is_limited && self.running_of(key) > most {
            self.release(place, pid);
            return None;
        }
        Some(place)
    }

    /// Takes a place for a process; none where the limit is reached.
    ///
    /// Only the first places, as many as the limit allows, are taken: where the hints say that they are free, and if none of these is, wherever they
    /// are. Those behind may still be used where the limit was lowered: then all are counted once more. Never are too many let in: whoever takes
    /// his place last of these sees those of the others.
    fn claim(&self, pid: u32) -> Option<usize> {
        let limit = self.limit();
        let most = self.owners.len().min(limit as usize);
        let place = self.seems_free(most).chain(0..most).find(|place| self.take(*place, pid))?;
        if self.are_within(limit) {
            return Some(place);
        }
        self.release(place, pid);
        None
    }

    /// Returns true if there seems to be a place. That is not counted where the hints say so.
    pub fn has_room(&self) -> bool {
        let limit = self.limit();
        let most = self.owners.len().min(limit as usize);
        let is_free = |place: usize| self.owners.get(place).is_some_and(|owner| owner.load(SeqCst) == 0);
        (self.state.taken.load(SeqCst) <= limit && self.seems_free(most).any(is_free)) || self.running() < limit
    }

    /// The places of the first `most` that are free by their hints.
    fn seems_free(&self, most: usize) -> impl Iterator<Item = usize> {
        let words = self.hints.iter().zip((0..most).step_by(HINTS));
        words.flat_map(move |(word, first)| {
            let mut free = !word.load(Relaxed);
            std::iter::from_fn(move || {
                let place = first + free.trailing_zeros() as usize;
                free &= free.wrapping_sub(1);
                (place < most.min(first + HINTS)).then_some(place)
            })
        })
    }

    /// Takes this place, if it is free.
    fn take(&self, place: usize, pid: u32) -> bool {
        let (Some(owner), Some(hint)) = (self.owners.get(place), self.hints.get(place / HINTS)) else { return false };
        let mut is_taken = false;
        if owner.load(Relaxed) == 0 {
            // Before the place is taken, so that it is counted when it is.
            self.state.taken.fetch_max(u32::try_from(place + 1).unwrap_or(u32::MAX), SeqCst);
            is_taken = owner.compare_exchange(0, pid, SeqCst, SeqCst).is_ok();
        }
        let bit = 1 << (place % HINTS);
        if hint.load(Relaxed) & bit == 0 {
            hint.fetch_or(bit, Relaxed);
        }
        is_taken
    }

    /// Returns true if no more places are used than the limit allows: none behind those that may be taken, or few enough in all.
    fn are_within(&self, limit: u32) -> bool {
        let behind = self.used().skip(limit as usize).any(|owner| owner.load(SeqCst) != 0);
        !behind || self.running() <= limit
    }

    /// Describes the request that has this place.
    pub fn describe(&self, place: usize, entry: &Entry) {
        if let Some(slot) = self.slots.get(place) {
            slot.write(entry);
        }
    }

    /// Says since when the request that has this place is in background work: microseconds of Unix time.
    pub fn set_since(&self, place: usize, since: i64) {
        if let Some(slot) = self.slots.get(place) {
            slot.set_since(since);
        }
    }

    /// Gives a place back, if it is this process's: whether it was.
    pub fn release(&self, place: usize, pid: u32) -> bool {
        let (Some(owner), Some(slot)) = (self.owners.get(place), self.slots.get(place)) else { return false };
        let owned = owner.load(SeqCst) == pid;
        if owned {
            slot.clear();
            if let Some(key) = self.keys.get(place) {
                key.store(0, SeqCst);
            }
            owner.store(0, SeqCst);
            if let Some(hint) = self.hints.get(place / HINTS) {
                hint.fetch_and(!(1 << (place % HINTS)), Relaxed);
            }
        }
        owned
    }

    /// Gives all places of a process back, which has ended: how many it had.
    pub fn release_all(&self, pid: u32) -> usize {
        (0..self.used().len()).filter(|place| self.release(*place, pid)).count()
    }

    /// The processes that have places, one for each place.
    pub fn owners(&self) -> impl Iterator<Item = u32> {
        self.used().map(|owner| owner.load(SeqCst)).filter(|pid| *pid != 0)
    }

    /// The requests in background work, each with the key of its virtual host.
    pub fn entries(&self) -> impl Iterator<Item = (u64, Entry)> {
        self.used().zip(self.slots).zip(self.keys).filter_map(|((owner, slot), key)| {
            let (pid, key) = (owner.load(SeqCst), key.load(SeqCst));
            let entry = slot.read(pid)?;
            (pid != 0 && owner.load(SeqCst) == pid).then_some((key, entry))
        })
    }

    fn used(&self) -> std::slice::Iter<'static, AtomicU32> {
        let taken = self.state.taken.load(SeqCst) as usize;
        self.owners.get(..taken).unwrap_or(self.owners).iter()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;
    use std::thread;

    use super::*;
    use crate::rules::mark::Source;

    fn table(limit: u32) -> Table {
        let Ok(table) = Table::new(64) else { unreachable!() };
        table.set_limit(limit);
        table
    }

    #[test]
    fn places_are_taken_up_to_the_limit_and_given_back() {
        let table = table(2);
        assert_eq!([table.claim(7), table.claim(8), table.claim(9)], [Some(0), Some(1), None]);
        assert_eq!(table.running(), 2);
        table.release(1, 7);
        assert_eq!(table.running(), 2, "it is another's");
        table.release(0, 7);
        assert_eq!((table.running(), table.claim(9)), (1, Some(0)));
        table.set_limit(0);
        assert_eq!((table.running(), table.claim(9)), (2, None));
    }

    #[test]
    fn processes_that_have_ended_give_their_places_back() {
        let table = table(4);
        assert_eq!([7, 8, 7, 9].map(|pid| table.claim(pid)), [Some(0), Some(1), Some(2), Some(3)]);
        table.owners().filter(|pid| *pid == 7).for_each(|pid| _ = table.release_all(pid));
        assert_eq!((table.running(), table.claim(9), table.claim(9)), (2, Some(0), Some(2)));
        assert_eq!(table.owners().collect::<Vec<_>>(), [9, 8, 9, 9]);
    }

    #[test]
    fn hints_that_a_process_left_wrong_cost_no_place_and_give_none_twice() {
        let table = table(3);
        let all = |table: &Table| [7, 8, 9, 10].map(|pid| table.claim(pid));
        let ([hints, ..], [first, ..]) = (table.hints, table.owners) else { unreachable!() };
        // It died when it had taken a place, and not said so.
        first.store(6, SeqCst);
        assert_eq!((table.has_room(), all(&table)), (true, [Some(1), Some(2), None, None]));
        assert_eq!((hints.load(SeqCst) & 7, table.has_room()), (7, false));
        (6..=8).for_each(|pid| _ = table.release_all(pid));
        assert_eq!((hints.load(SeqCst), table.running()), (0, 0));
        // It died when it had given one back, or all of them, and not said so.
        for wrong in [1, 7, u64::MAX] {
            hints.store(wrong, SeqCst);
            assert!(table.has_room());
            let mut given = all(&table).map(|place| place.unwrap_or(usize::MAX));
            given.sort_unstable();
            assert_eq!(given, [0, 1, 2, usize::MAX], "{wrong}");
            (7..=10).for_each(|pid| _ = table.release_all(pid));
        }
    }

    #[test]
    fn places_beyond_the_first_hints_are_found() {
        let Ok(table) = Table::new(150) else { unreachable!() };
        table.set_limit(140);
        assert!((0..140).all(|place| table.claim(7) == Some(place)));
        assert_eq!((table.claim(7), table.has_room()), (None, false));
        for place in [139, 64, 63] {
            table.release(place, 7);
            assert_eq!((table.has_room(), table.claim(8)), (true, Some(place)));
        }
        assert_eq!(table.running(), 140);
    }

    #[test]
    fn the_end_of_a_process_frees_its_places_alone() {
        let table = table(4);
        assert_eq!([7, 8, 7].map(|pid| table.claim(pid)), [Some(0), Some(1), Some(2)]);
        assert_eq!(table.release_all(7), 2);
        assert_eq!((table.running(), table.claim(9)), (1, Some(0)));
    }

    #[test]
    fn a_lowered_limit_holds_while_places_behind_it_are_in_use() {
        let table = table(4);
        assert_eq!([7; 4].map(|pid| table.claim(pid)), [Some(0), Some(1), Some(2), Some(3)]);
        table.set_limit(2);
        for (free, running) in [(0, 3), (1, 2)] {
            table.release(free, 7);
            assert_eq!((table.claim(8), table.running()), (None, running));
        }
        table.release(2, 7);
        assert_eq!((table.claim(8), table.claim(8)), (Some(0), None));
        table.set_limit(3);
        assert_eq!((table.claim(8), table.claim(8)), (Some(1), None));
    }

    #[test]
    fn a_host_has_its_part_and_no_more() {
        let table = table(4);
        let claim = |key, most| table.claim_for(7, key, most);
        assert_eq!([claim(1, 2), claim(1, 2), claim(1, 2)], [Some(0), Some(1), None]);
        assert_eq!((table.running(), table.running_of(1)), (2, 2), "a refusal takes nothing");
        assert_eq!(
            [claim(2, 4), claim(2, 4), claim(2, 4)],
            [Some(2), Some(3), None],
            "all have no more than the server"
        );
        table.release(0, 7);
        assert_eq!((table.running_of(1), claim(1, 1)), (1, None));
        assert_eq!((claim(1, 2), table.running_of(1)), (Some(0), 2));
        table.release_all(7);
        assert_eq!((table.running_of(1), table.running_of(2), claim(3, 0)), (0, 0, None));

        // Many at once.
        let inside = AtomicU32::new(0);
        let admitted = AtomicU32::new(0);
        thread::scope(|scope| {
            for pid in 1..=8 {
                let (table, inside, admitted) = (&table, &inside, &admitted);
                scope.spawn(move || {
                    for _ in 0..5_000 {
                        if let Some(place) = table.claim_for(pid, 5, 2) {
                            assert!(inside.fetch_add(1, Ordering::SeqCst) < 2);
                            admitted.fetch_add(1, Ordering::SeqCst);
                            inside.fetch_sub(1, Ordering::SeqCst);
                            table.release(place, pid);
                        }
                    }
                });
            }
        });
        assert_eq!((table.running(), table.running_of(5)), (0, 0));
        assert!(admitted.load(Ordering::SeqCst) > 0);
    }

    #[test]
    fn works_are_those_that_run() {
        let table = table(4);
        let entry = |pid| Entry {
            pid,
            since: 5,
            source: Source::Api,
            vhost: b"host".to_vec(),
            request: b"GET / HTTP/1.1".to_vec(),
        };
        for pid in [7, 8] {
            let Some(place) = table.claim(pid) else { unreachable!() };
            assert!(table.entries().all(|(_, entry)| entry.pid != pid), "nothing is known of it yet");
            table.describe(place, &entry(pid));
        }
        let entries = || table.entries().map(|(_, entry)| entry).collect::<Vec<_>>();
        assert_eq!(entries(), [entry(7), entry(8)]);
        table.release_all(7);
        assert_eq!(entries(), [entry(8)]);
        assert_eq!(table.claim(9), Some(0));
        assert_eq!(entries(), [entry(8)], "not what was there before");
    }

    #[test]
    fn many_at_once_are_never_more_than_the_limit_and_never_fewer() {
        const LIMIT: u32 = 5;
        let table = table(LIMIT);
        // All ask, and nobody gives back: just so many are let in.
        let admitted = thread::scope(|scope| {
            let table = &table;
            let asking: Vec<_> = (1..=16).map(|pid| scope.spawn(move || table.claim(pid))).collect();
            asking.into_iter().filter_map(|asking| asking.join().ok().flatten()).count()
        });
        assert_eq!(admitted, LIMIT as usize);
        (1..=16).for_each(|pid| _ = table.release_all(pid));

        // They come and go, while the limit changes.
        let inside = AtomicU32::new(0);
        thread::scope(|scope| {
            for pid in 1..=8 {
                let (table, inside) = (&table, &inside);
                scope.spawn(move || {
                    for round in 0..5_000 {
                        if pid == 1 {
                            table.set_limit(if round % 2 == 0 { LIMIT } else { 2 });
                        }
                        if let Some(place) = table.claim(pid) {
                            assert!(inside.fetch_add(1, Ordering::SeqCst) < LIMIT);
                            inside.fetch_sub(1, Ordering::SeqCst);
                            table.release(place, pid);
                        }
                    }
                });
            }
        });
        assert_eq!(table.running(), 0);
    }
}
