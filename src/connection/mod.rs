//! What becomes of the client's connection when a response is finished.

pub mod close;
mod linger;
pub mod sink;

/// Registers what the parts need.
pub fn register() {
    sink::register();
}
