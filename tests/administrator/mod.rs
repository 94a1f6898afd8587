//! What an administrator sees, and can do: the logs, the status page, the version, restarts, the manual of
//! operations.
//!
//! * `log`: One line in the access log for each request, at the right time, with what the client waited for.
//! * `operations`: What `docs/operations.md` says can be done as it stands there.
//! * `restarts`: Restarts and stops: to them, work in background is a request like any other.
//! * `status`: What mod_status and mod_info show of background work.
//! * `stops`: What becomes of work when the server or its child ends: the manual's table, cell by cell.
//! * `version`: The module says its version where an administrator looks for it, and refuses an httpd that is too old
//!   for it.

mod log;
mod operations;
pub mod restarts;
pub mod status;
mod stops;
mod version;
