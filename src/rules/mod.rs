//! The module's decisions as pure functions and machines: nothing here knows of httpd, and nothing is unsafe.

use std::ffi::CStr;

/// The module's name and version, as the error log and mod_status say it.
pub const VERSION: &str = concat!("mod_finish_request/", env!("CARGO_PKG_VERSION"));

/// The version alone, as the request note gives it.
pub const VERSION_NUMBER: &CStr = match CStr::from_bytes_with_nul(concat!(env!("CARGO_PKG_VERSION"), "\0").as_bytes()) {
    Ok(version) => version,
    Err(_) => c"",
};

pub mod course;
pub mod declared;
pub mod digits;
pub mod ending;
pub mod header_end;
pub mod hold;
pub mod late;
pub mod mark;
pub mod quote;
pub mod search;
