//! The message that goes with a client's connection to the server's own socket, where another process accepts it.

use super::body;
use crate::httpd::{Block, Connection, Kind};
use crate::rules::hold::blank_lines;

/// How long the server's secret is.
pub const SECRET: usize = 32;
/// How much of the client's next requests may go along: what the look for a body's end may have read, with twice the 8000 bytes that
/// httpd reads ahead.
const MOST_HELD: usize = body::MOST as usize + 2 * 8192;
/// The largest message.
pub const LONGEST: usize = SECRET + 4 + 8 + MOST_HELD;

/// The knowledge of a connection that its next process must have.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HandOver {
    /// How often it has been kept alive (`conn_rec.keepalives`).
    pub keepalives: i32,
    /// How long it may wait for its next request, in microseconds (`KeepAliveTimeout`).
    pub keep_alive_timeout: i64,
    /// The bytes that httpd has read of it, but has not worked on.
    pub held: Vec<u8>,
}

impl HandOver {
    /// Of a connection whose socket has been taken away: what httpd can still read of it, it had read before.
    pub fn new(connection: Connection<'_>, keep_alive_timeout: i64) -> Self {
        Self { keepalives: connection.keepalives(), keep_alive_timeout, held: held(connection) }
    }

    /// Of a connection of which httpd has read nothing more.
    pub fn without_bytes(connection: Connection<'_>, keep_alive_timeout: i64) -> Self {
        Self { keepalives: connection.keepalives(), keep_alive_timeout, held: Vec::new() }
    }

    /// For the way, with the server's secret.
    pub fn to_bytes(&self, secret: &[u8; SECRET]) -> Vec<u8> {
        let mut bytes = secret.to_vec();
        bytes.extend(self.keepalives.to_le_bytes());
        bytes.extend(self.keep_alive_timeout.to_le_bytes());
        bytes.extend(&self.held);
        bytes
    }

    /// From such a message; none from any other.
    pub fn from_bytes(bytes: &[u8], secret: &[u8; SECRET]) -> Option<Self> {
        let bytes = bytes.strip_prefix(secret)?;
        let (keepalives, bytes) = bytes.split_first_chunk()?;
        let (keep_alive_timeout, held) = bytes.split_first_chunk()?;
        Some(Self {
            keepalives: i32::from_le_bytes(*keepalives),
            keep_alive_timeout: i64::from_le_bytes(*keep_alive_timeout),
            held: held.to_vec(),
        })
    }
}

fn held(connection: Connection<'_>) -> Vec<u8> {
    let mut held = Vec::new();
    let mut brigade = connection.brigade();
    while held.len() < MOST_HELD && connection.read_input(&mut brigade, (MOST_HELD - held.len()) as i64).is_ok() {
        let before = held.len();
        while let Some(Kind::Data(_)) = brigade.first() {
            held.extend_from_slice(brigade.read_first(Block::No).unwrap_or_default());
            brigade.delete_first();
        }
        brigade.clear();
        if held.len() == before {
            break;
        }
    }
    held.drain(..blank_lines(&held));
    held
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn a_message_comes_back_and_no_other_is_taken_for_one() {
        let secret = [7; SECRET];
        let kept = HandOver { keepalives: 3, keep_alive_timeout: 5_000_000, held: b"GET / HTTP/1.1\r\n".to_vec() };
        let bytes = kept.to_bytes(&secret);
        assert_eq!(HandOver::from_bytes(&bytes, &secret), Some(kept));
        assert_eq!(HandOver::from_bytes(&bytes, &[8; SECRET]), None);
        for length in 0..SECRET + 12 {
            assert_eq!(HandOver::from_bytes(&bytes[..length], &secret), None);
        }
    }
}
