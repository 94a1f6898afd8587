//! What becomes of the client's connection when a response is finished.

pub mod close;
mod linger;
pub mod sink;

use crate::httpd::Pool;

/// Registers what the parts need.
pub fn register() {
    sink::register();
}

/// A child process has begun: when it is about to exit, the connections that it is closing are seen out.
pub fn child_init(pool: Pool<'_>) {
    pool.before_end(linger::end);
}
