//! An entry of the table: one request in background work, as mod_status's page shows it.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU32, fence};

use super::shared::Shared;
use crate::rules::mark::Source;

/// How long a handler must work on, in microseconds, for a response to count as finished that was only believed to be complete: others
/// end in that time by themselves.
pub const WORKS_ON: i64 = 20_000;

const SOURCES: [Source; 4] = [Source::Header, Source::Env, Source::Auto, Source::Api];

/// A request in background work, as it can be shown.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// The process that works on it.
    pub pid: u32,
    /// When its client was released: microseconds of Unix time.
    pub since: i64,
    /// The mark of its response, by number.
    pub source: Source,
    /// The virtual host, `...` at its end where it was cut.
    pub vhost: Vec<u8>,
    /// The request line, the same.
    pub request: Vec<u8>,
}

impl Entry {
    /// True if the response was only believed to be complete.
    pub fn is_believed(&self) -> bool {
        self.source == Source::Auto
    }

    /// True if it is known by `now`, microseconds of Unix time, that the handler works on.
    pub fn is_sure(&self, now: i64) -> bool {
        !self.is_believed() || now - self.since > WORKS_ON
    }
}

/// The place of a description in shared memory. One process writes to it, its owner, and all may read it meanwhile: what
/// was read counts only if `sequence` was odd before, and is the same after that.
pub struct Slot {
    sequence: AtomicU32,
    source: AtomicU32,
    since: AtomicI64,
    vhost: Text<64>,
    request: Text<160>,
}

// SAFETY: atomics alone (invariant 10).
unsafe impl Shared for Slot {}

impl Slot {
    /// Describes the request. To be called by the owner, for an entry that is clear.
    pub fn write(&self, entry: &Entry) {
        // The stores below are not seen before the entry was seen as clear.
        fence(Release);
        self.source.store(entry.source as u32, Relaxed);
        self.since.store(entry.since, Relaxed);
        self.vhost.write(&entry.vhost);
        self.request.write(&entry.request);
        self.sequence.store(self.sequence.load(Relaxed) | 1, Release);
    }

    /// Says that the client was released at this time. To be called by the owner.
    pub fn set_since(&self, since: i64) {
        self.since.store(since, Relaxed);
    }

    /// There is nothing to read from now on. To be called by the owner, or when it has ended, and nobody else.
    pub fn clear(&self) {
        let sequence = self.sequence.load(Relaxed);
        self.sequence.store(sequence.wrapping_add(sequence & 1), Relaxed);
    }

    /// Returns the entry of a request of this process; none where it is clear, or being written.
    pub fn read(&self, pid: u32) -> Option<Entry> {
        let before = self.sequence.load(Acquire);
        let entry = Entry {
            pid,
            since: self.since.load(Relaxed),
            source: *SOURCES.get(self.source.load(Relaxed) as usize)?,
            vhost: self.vhost.read(),
            request: self.request.read(),
        };
        fence(Acquire);
        (before % 2 == 1 && self.sequence.load(Relaxed) == before).then_some(entry)
    }
}

/// The beginning of a text.
pub struct Text<const N: usize> {
    /// Of the whole text.
    length: AtomicU32,
    bytes: [AtomicU8; N],
}

impl<const N: usize> Text<N> {
    /// Writes it. A reader may see a part of it meanwhile.
    pub fn write(&self, text: &[u8]) {
        self.length.store(u32::try_from(text.len()).unwrap_or(u32::MAX), Relaxed);
        for (place, byte) in self.bytes.iter().zip(text) {
            place.store(*byte, Relaxed);
        }
    }

    /// Returns it, with `...` at its end where it was cut.
    pub fn read(&self) -> Vec<u8> {
        let length = self.length.load(Relaxed) as usize;
        let mut text: Vec<u8> = self.bytes.iter().take(length).map(|byte| byte.load(Relaxed)).collect();
        if length > N {
            text.extend_from_slice(b"...");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::thread;

    use super::super::shared::zeroed;
    use super::*;

    fn entry(vhost: &[u8], request: &[u8]) -> Entry {
        Entry { pid: 7, since: 1, source: Source::Env, vhost: vhost.to_vec(), request: request.to_vec() }
    }

    #[test]
    fn long_texts_are_cut() {
        let Ok([slot]) = zeroed::<Slot>(1) else { unreachable!() };
        assert_eq!(slot.read(7), None);
        slot.write(&entry(&[b'v'; 65], &[b'r'; 160]));
        assert_eq!(slot.read(7), Some(entry(&[&[b'v'; 64][..], b"..."].concat(), &[b'r'; 160])));
        slot.set_since(2);
        assert_eq!(slot.read(7).map(|entry| entry.since), Some(2));
        slot.clear();
        slot.clear();
        assert_eq!(slot.read(7), None);
        slot.write(&entry(b"", b""));
        assert_eq!(slot.read(7), Some(entry(b"", b"")));
    }

    #[test]
    fn what_is_read_is_whole() {
        let Ok([slot]) = zeroed::<Slot>(1) else { unreachable!() };
        let stop = AtomicBool::new(false);
        thread::scope(|scope| {
            scope.spawn(|| {
                for letter in (b'a'..=b'z').cycle().take(20_000) {
                    slot.write(&entry(&[letter; 40], &[letter; 100]));
                    slot.clear();
                }
                stop.store(true, Ordering::Relaxed);
            });
            while !stop.load(Ordering::Relaxed) {
                if let Some(Entry { vhost, request, .. }) = slot.read(7) {
                    assert_eq!((vhost.len(), request.len()), (40, 100));
                    let letter = vhost.first();
                    assert!(vhost.iter().chain(&request).all(|byte| Some(byte) == letter));
                }
            }
        });
    }
}
