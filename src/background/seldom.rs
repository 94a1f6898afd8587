//! Messages that are logged once in a while, by all processes together: prefork's children serve few requests each.

use super::TABLE;

/// A kind of message.
#[derive(Clone, Copy)]
pub enum Kind {
    /// As many requests are in background work as may be.
    Limit,
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
}

impl Kind {
    /// How many there are.
    pub const COUNT: usize = Self::Stranger as usize + 1;
}

/// Calls `log` as [`Seldom::log`](crate::httpd::Seldom::log) does.
pub fn seldom(kind: Kind, log: impl FnOnce(&str)) {
    if let Some(said) = TABLE.get().and_then(|table| table.state().said.get(kind as usize)) {
        said.log(log);
    }
}
