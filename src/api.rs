//! `ap_finish_request()`: the optional function by which modules written in C finish a response
//! (`apxs/mod_finish_request.h`).

use crate::httpd::{OptionalFunction, Request, RequestConfig, Result, Status, guard, register_optional, with_context};
use crate::response::{Phase, Response};
use crate::rules::mark::Source;
use crate::sys;

/// Makes the function known. To be called at each load of the module.
pub fn register() {
    register_optional(c"ap_finish_request", ap_finish_request as OptionalFunction);
}

/// The response to `r` ends now, with what has been written to it.
unsafe extern "C" fn ap_finish_request(r: *mut sys::request_rec) -> sys::apr_status_t {
    guard(Status::code(Err(Status::GENERAL)), || {
        // SAFETY: the caller gives a live request that its thread works on, or null: the header says so.
        let Some(request) = (unsafe { Request::from_raw(r) }) else { return Status::code(Err(Status::INVALID)) };
        with_context(request, || Status::code(finish(request)))
    })
}

fn finish(request: Request<'_>) -> Result {
    let response = Response::of(request).ok_or(Status::NOT_IMPLEMENTED)?;
    if !request.has_ended() {
        // Without a place in background work nothing is asked for: the response goes on as it was.
        if !response.background.admit(request, Source::Api) {
            return Err(Status::AGAIN);
        }
        response.ask(true);
        let flushed = request.flush();
        // A filter above may have kept the flush.
        response.ask(false);
        flushed.inspect_err(|_| response.background.withdraw())?;
    }
    let phase = response.take_phase();
    if !matches!(phase, Phase::Finished) {
        response.background.withdraw();
    }
    let result = match &phase {
        Phase::Finished => Ok(()),
        Phase::Failed(status) => Err(*status),
        _ if request.has_ended() => Ok(()),
        _ if response.background.was_refused() => Err(Status::AGAIN),
        _ => Err(Status::NOT_IMPLEMENTED),
    };
    response.set_phase(phase);
    result
}
