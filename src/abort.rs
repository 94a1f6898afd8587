//! A client that goes away before its response is complete. With `FinishRequestOnAbort Continue` that does not end the application
//! of a marked one.

use crate::connection::detach;
use crate::directives::OnAbort;
use crate::finish::work_ended;
use crate::httpd::{Brigade, LogTransaction, Reply, Request, Result};
use crate::response::{Call, Phase, Response};

/// A brigade has been passed on, or could not be. If the client has gone: goes on without it, where the response is marked and the
/// configuration wants that; else a handler that has a copy of the record sees it there, as it would on stock httpd.
///
/// # Errors
///
/// Where it does not go on, what came of it: `passed`.
pub fn unless_client_gone(call: Call<'_>, passed: Result, brigade: &mut Brigade<'_>) -> Result {
    let Call { request, response, settings, .. } = call;
    if !response.client().is_aborted() {
        return passed;
    }
    let phase = response.take_phase();
    let goes_on = settings.on_abort() == OnAbort::Continue
        && match &phase {
            Phase::Marked(marked) => !marked.off,
            Phase::Failed(_) => passed.is_err(),
            _ => false,
        };
    if !goes_on {
        if let (Some(copy), false) = (response.private_record(), matches!(phase, Phase::Finished)) {
            copy.abort();
        }
        response.set_phase(phase);
        return passed;
    }
    log::info!("the client has gone before its response was complete; the application goes on");
    response.set_work(detach::detach(request, response.client(), settings, work_ended));
    response.aborted.set(true);
    response.set_phase(Phase::Finished);
    detach::discard(brigade, response.work().as_deref())
}

/// The request of a client that went away is logged as one (`%X`).
pub struct LogAborted;

impl LogTransaction for LogAborted {
    fn log_transaction(request: Request<'_>) -> Reply {
        if let Some((_, response)) = Response::find(request, |response| response.aborted.get()) {
            request.last().set_connection(response.client());
        }
        Reply::Declined
    }
}
