//! A client for HTTP/1 on the bare socket, with or without TLS.
//!
//! It sends exactly the bytes that it is given, reads in a thread of its own as soon as something
//! comes, and notes when each piece, the end of the connection and, under TLS, close_notify came.

mod connection;
mod parse;
mod reader;

pub use connection::{Connection, Trouble, connect_with_little_room};
pub use reader::{End, EndKind, Read};
