//! Free ports for many servers at once.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixListener};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Below the ports that Linux gives to clients, so that no test's own connection takes one.
pub(crate) const FIRST: u32 = 10_000;
pub(crate) const COUNT: u32 = 20_000;

/// Into so many parts they are divided: test programs that run side by side have one each, and take no port that another's server has just
/// given up and is about to take again.
const PARTS: u32 = 4;

/// A TCP port on 127.0.0.1 that nobody listened on a moment ago, and that this process gives out
/// to nobody else. Another process can still take it: who binds it must be ready to ask again.
///
/// # Panics
///
/// When every port is taken.
pub fn free_port() -> u16 {
    find_port().unwrap_or_else(|error| panic!("no port of 127.0.0.1 is free: {error}"))
}

/// As [`free_port`].
///
/// # Errors
///
/// Why none is free: what the operating system says to the last.
pub(crate) fn find_port() -> io::Result<u16> {
    static NEXT: OnceLock<(u32, u32, AtomicU32)> = OnceLock::new();
    let (first, count, next) = NEXT.get_or_init(|| {
        let (first, count) = own_part().map_or((FIRST, COUNT), |part| (FIRST + part * COUNT / PARTS, COUNT / PARTS));
        (first, count, AtomicU32::new(somewhere()))
    });
    let mut trouble = io::ErrorKind::AddrInUse.into();
    for port in (0..*count).map(|_| first + next.fetch_add(1, Ordering::Relaxed) % count) {
        let Ok(port) = u16::try_from(port) else { continue };
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) => trouble = error,
        }
    }
    Err(trouble)
}

/// A part that no other process has as long as this one lives; none where all are taken.
fn own_part() -> Option<u32> {
    let is_own = |part: &u32| {
        let name = SocketAddr::from_abstract_name(format!("finish-request-tests-ports-{part}"));
        name.and_then(|name| UnixListener::bind_addr(&name)).map(std::mem::forget).is_ok()
    };
    (0..PARTS).map(|turn| (somewhere() + turn) % PARTS).find(is_own)
}

/// Another place to start for each process.
fn somewhere() -> u32 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |now| now.subsec_micros());
    (std::process::id().wrapping_mul(7919)).wrapping_add(now) % COUNT
}
