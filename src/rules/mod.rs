//! The module's decisions as pure functions and machines: nothing here knows of httpd, and nothing is unsafe.

/// The module's name and version, as the error log and mod_status say it.
pub const VERSION: &str = concat!("mod_finish_request/", env!("CARGO_PKG_VERSION"));

pub mod digits;
pub mod ending;
pub mod header_end;
pub mod late;
pub mod mark;
pub mod quote;
pub mod search;
