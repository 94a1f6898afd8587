//! What is said of a finished response: request notes for `LogFormat`, the access log, the end of the background work,
//! and mod_status's page.

pub mod status;

use std::ffi::c_int;

use crate::httpd::{Request, RequestConfig, guard, with_context};
use crate::mark::{self, Source};
use crate::response::Response;
use crate::sys;

/// Sets the notes: how the response was marked, and the microseconds from the request's arrival until now, the
/// client's release.
pub fn note(request: Request<'_>, source: Source) {
    let notes = request.notes();
    let set = |name, value: String| notes.set(name, request.pool().string(value.as_bytes()));
    set(c"finish-request", source.as_str().to_owned());
    set(c"finish-request-us", request.age_us().to_string());
}

/// The path that the client asked for, for a message.
pub fn path(request: Request<'_>) -> String {
    mark::escaped(request.first().uri().unwrap_or_default())
}

/// Has the request logged now, and not once more at its end.
pub fn log(request: Request<'_>, response: &Response) {
    request.first().run_log_transaction();
    response.logged.set(true);
}

/// `log_transaction`, before all others: a request that has been logged is not logged again. It is called when the request
/// has really ended, and before that by [`log()`].
pub unsafe extern "C" fn log_transaction(request: *mut sys::request_rec) -> c_int {
    guard(sys::DECLINED, || {
        // SAFETY: httpd calls the hook with a live request, in its thread.
        let request = unsafe { Request::from_raw(request) };
        let response = request.and_then(|request| Response::of(request.last()));
        if let (Some(request), Some(took)) = (request, response.and_then(|response| response.background.took_us())) {
            with_context(request, || {
                log::info!("the background work has ended, {took} microseconds after the client was released");
            });
        }
        if response.is_some_and(|response| response.logged.get()) { sys::DONE } else { sys::DECLINED }
    })
}
