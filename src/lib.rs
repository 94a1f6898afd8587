//! `mod_finish_request`: an application finishes its HTTP response early, the client is let go, and the
//! request goes on with the application's background work.
//!
//! The crate is an httpd module. Read [`module`] first: it is the table of contents. Dependencies point one
//! way: the module's entries use decisions and wrappers, wrappers use the bindings, and decisions ([`rules`],
//! [`directives`]) use nothing of httpd, so that they can be tested without it.

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
