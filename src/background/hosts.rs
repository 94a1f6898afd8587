//! The virtual hosts whose responses have been marked, with their counts, for mod_status's page. A host is its `ServerName`: one for HTTP and one
//! for HTTPS of the same name are one.

use std::sync::atomic::Ordering::{Acquire, Relaxed, Release};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};

use super::counts::Counts;
use super::entry::Text;
use super::shared::Shared;

/// The most hosts that are counted. Further ones have their limits all the same.
pub const MOST: usize = 1024;

/// The number by which a place in the table says whose it is. Never 0.
pub fn key(name: &[u8]) -> u64 {
    /// FNV-1a.
    const BASIS: u64 = 0xcbf2_9ce4_8422_2325;
    const PRIME: u64 = 0x0100_0000_01b3;
    let hash = name.iter().fold(BASIS, |hash, byte| (hash ^ u64::from(byte.to_ascii_lowercase())).wrapping_mul(PRIME));
    hash.max(1)
}

/// A virtual host. Its place is taken by the first process that has something to count, for ever.
pub struct Host {
    key: AtomicU64,
    is_named: AtomicBool,
    name: Text<64>,
    /// The limit that held when it was asked for last.
    pub limit: AtomicU32,
    /// What has happened to its requests.
    pub counts: Counts,
}

// SAFETY: atomics alone (invariant 10).
unsafe impl Shared for Host {}

impl Host {
    /// Returns the host of this name; none where there are too many.
    pub fn find(hosts: &'static [Self], name: &[u8]) -> Option<&'static Self> {
        let key = key(name);
        hosts.iter().find(|host| match host.key.load(Relaxed) {
            0 => match host.key.compare_exchange(0, key, Relaxed, Relaxed) {
                Ok(_) => {
                    host.name.write(name);
                    host.is_named.store(true, Release);
                    true
                }
                Err(other) => other == key,
            },
            other => other == key,
        })
    }

    /// Returns those that have been found, each with its key and name.
    pub fn all(hosts: &'static [Self]) -> impl Iterator<Item = (&'static Self, u64, Vec<u8>)> {
        let found = hosts.iter().take_while(|host| host.key.load(Relaxed) != 0);
        found.filter(|host| host.is_named.load(Acquire)).map(|host| (host, host.key.load(Relaxed), host.name.read()))
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use super::super::shared::zeroed;
    use super::*;

    #[test]
    fn a_host_has_one_place_whoever_comes_first() {
        let Ok(hosts) = zeroed::<Host>(3) else { unreachable!() };
        thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| {
                    for name in [&b"a.example"[..], b"b.example", b"A.example"] {
                        Host::find(hosts, name).map(|host| host.counts.finished.fetch_add(1, Relaxed));
                    }
                });
            }
        });
        let mut all: Vec<_> =
            Host::all(hosts).map(|(host, key, name)| (name, key, host.counts.finished.load(Relaxed))).collect();
        all.iter_mut().for_each(|(name, ..)| name.make_ascii_lowercase());
        all.sort();
        let expected = [(b"a.example", 16), (b"b.example", 8)].map(|(name, count)| (name.to_vec(), key(name), count));
        assert_eq!(all, expected);
        assert!(Host::find(hosts, b"c.example").is_some());
        assert!(Host::find(hosts, b"d.example").is_none(), "there are three places");
    }
}
