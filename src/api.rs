//! `ap_finish_request()`: the optional function by which modules written in C finish a response
//! (`apxs/mod_finish_request.h`).

use std::ffi::CStr;

use crate::httpd::{OptionalFunction, Request, Result, Status};
use crate::response::{Phase, Response};
use crate::rules::mark::Source;

/// `ap_finish_request()`: the response to the request ends now, with what has been written to it.
pub struct FinishRequest;

impl OptionalFunction for FinishRequest {
    const NAME: &'static CStr = c"ap_finish_request";

    fn call(request: Request<'_>) -> Result {
        finish(request)
    }
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
