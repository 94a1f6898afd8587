//! The module's filters in a request's chains, and its functions in the place of other modules' filters.

pub mod body;
mod declared;
pub mod fcgid;
pub mod header;
pub mod interim;
pub mod late;
pub mod output;
mod passed;
mod walk;
