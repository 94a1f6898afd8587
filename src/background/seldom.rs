//! Warnings that are logged once in a while, by all processes together: prefork's children serve few requests each.

use super::table::{Kind, TABLE};

/// Calls `log` as [`Seldom::log`](crate::httpd::Seldom::log) does.
pub fn seldom(kind: Kind, log: impl FnOnce(&str)) {
    if let Some(said) = TABLE.get().and_then(|table| table.state().said.get(kind as usize)) {
        said.log(log);
    }
}
