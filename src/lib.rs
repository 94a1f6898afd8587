//! `mod_finish_request`: an application finishes its HTTP response early, the client is let go, and the
//! request goes on with the application's background work.
//!
//! The crate is an httpd module. Read [`module`] first: it is the table of contents. CONTRIBUTING.md has the map, and the order in which rooms
//! use each other: decisions ([`rules`]) know nothing of httpd, and can be tested without it; wrappers of httpd's objects know nothing of
//! decisions.

pub mod directives;
pub mod module;
pub mod rules;

mod abort;
mod api;
mod background;
mod begin;
mod connection;
mod filters;
mod finish;
mod handlers;
mod httpd;
mod report;
mod response;
mod sys;

/// What the fuzzer asks of those who receive connections.
#[cfg(fuzzing)]
pub use connection::keep::fuzzed as hand_over;
