//! No panic leaves the module: it would end the child with all its requests.

use std::panic::{AssertUnwindSafe, catch_unwind};

/// Runs the body of an entry from C; a panic becomes the fallback, after the panic hook has logged it. What an entry does before that, most
/// often all, does not pay for it.
#[inline(never)]
pub fn guard<T>(fallback: T, body: impl FnOnce() -> T) -> T {
    catch_unwind(AssertUnwindSafe(body)).unwrap_or(fallback)
}

/// Has panics logged in httpd's error log, as errors of this module, and nowhere else.
pub fn set_panic_hook() {
    std::panic::set_hook(Box::new(|info| {
        let payload = info.payload();
        let text = payload.downcast_ref::<&str>().copied();
        let message = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("no message");
        match info.location() {
            Some(place) => {
                log::error!("internal error, please report it: {message} ({}:{})", place.file(), place.line())
            }
            None => log::error!("internal error, please report it: {message}"),
        }
    }));
}

#[cfg(test)]
mod tests {
    #[test]
    #[allow(clippy::panic)]
    fn a_panic_becomes_the_fallback() {
        assert_eq!(super::guard(1, || panic!("this one is meant")), 1);
        assert_eq!(super::guard(1, || 2), 2);
    }
}
