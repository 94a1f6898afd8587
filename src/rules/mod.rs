//! The module's decisions as pure functions and machines: nothing here knows of httpd, and nothing is unsafe.

pub mod ending;
pub mod mark;
pub mod quote;
