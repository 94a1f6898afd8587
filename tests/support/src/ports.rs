//! Free ports for many servers at once.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Below the ports that Linux gives to clients, so that no test's own connection takes one.
pub(crate) const FIRST: u32 = 10_000;
pub(crate) const COUNT: u32 = 20_000;

/// A TCP port on 127.0.0.1 that nobody listened on a moment ago, and that this process gives out
/// to nobody else. Another process can still take it: who binds it must be ready to ask again.
///
/// # Panics
///
/// When every port is taken.
pub(crate) fn free_port() -> u16 {
    find_port().unwrap_or_else(|error| panic!("no port of 127.0.0.1 is free: {error}"))
}

/// As [`free_port`].
///
/// # Errors
///
/// Why none is free: what the operating system says to the last.
pub(crate) fn find_port() -> io::Result<u16> {
    static NEXT: OnceLock<AtomicU32> = OnceLock::new();
    let next = NEXT.get_or_init(|| AtomicU32::new(somewhere()));
    let mut trouble = io::ErrorKind::AddrInUse.into();
    for port in (0..COUNT).map(|_| FIRST + next.fetch_add(1, Ordering::Relaxed) % COUNT) {
        let Ok(port) = u16::try_from(port) else { continue };
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) => trouble = error,
        }
    }
    Err(trouble)
}

/// Another place to start for each process.
fn somewhere() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_micros());
    (std::process::id().wrapping_mul(7919)).wrapping_add(now) % COUNT
}
