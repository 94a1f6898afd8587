//! `ap_finish_request()`, which applications inside httpd call: the optional function by which modules written in C finish a response
//! (`apxs/mod_finish_request.h`), and the empty subrequest, by which PHP ends its output buffers (`php/finish_request.php`).

use std::ffi::CStr;

use crate::httpd::{OptionalFunction, QuickHandler, Reply, Request, Result, Status};
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
    // It has been decided that its client waits for the handler.
    if response.phase(|phase| matches!(phase, Phase::Marked(marked) if !marked.early)) {
        return Err(Status::NOT_IMPLEMENTED);
    }
    if !request.has_ended() {
        response.drop_at_end(request);
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
    if !response.is_finished() {
        response.background.withdraw();
    }
    response.phase(|phase| match phase {
        Phase::Finished => Ok(()),
        Phase::Failed(status) => Err(*status),
        _ if request.has_ended() => Ok(()),
        _ if response.background.was_refused() => Err(Status::AGAIN),
        _ => Err(Status::NOT_IMPLEMENTED),
    })
}

/// The note of a request whose next subrequests are empty: whatever their path, nobody is asked for it. PHP's `virtual()` ends all
/// output buffers before it runs a subrequest, also those that no other function of PHP can end.
const EMPTY_SUBREQUESTS: &CStr = c"finish-request-empty-subrequests";

/// Answers the empty subrequests of an application, when httpd looks them up and when it runs them.
pub struct EmptySubrequest;

impl QuickHandler for EmptySubrequest {
    fn concerns(request: Request<'_>) -> bool {
        request.is_subrequest()
    }

    fn quick_handler(request: Request<'_>) -> Reply {
        let asks =
            |main: Request<'_>| main.notes().get(EMPTY_SUBREQUESTS) == Some(b"1") && Response::of(main).is_some();
        if request.main().is_some_and(asks) { Reply::Ok } else { Reply::Declined }
    }
}
