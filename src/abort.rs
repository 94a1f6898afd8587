//! A client that goes away before its response is complete. With `FinishRequestOnAbort Continue` that does not end the application
//! of a marked one.

use crate::connection::detach;
use crate::directives::OnAbort;
use crate::finish::work_ended;
use crate::httpd::{Brigade, Result};
use crate::response::Call;
use crate::rules::course::{Order, Seen};

/// A brigade has been passed on, or could not be. If the client has gone: goes on without it, where the response is marked and the
/// configuration wants that; else a handler that has a copy of the record sees it there, as it would on stock httpd.
///
/// # Errors
///
/// Where it does not go on, what came of it: `passed`.
#[inline]
pub fn unless_client_gone(call: Call<'_>, passed: Result, brigade: &mut Brigade<'_>) -> Result {
    if call.response.client().is_aborted() { client_gone(call, passed, brigade) } else { passed }
}

fn client_gone(call: Call<'_>, passed: Result, brigade: &mut Brigade<'_>) -> Result {
    let Call { request, response, settings, .. } = call;
    let continues = settings.on_abort() == OnAbort::Continue;
    match response.step(Seen::ClientGone { continues, failed: passed.is_err() }) {
        Order::Detach => {
            log::info!("the client has gone before its response was complete; the application goes on");
            response.set_work(detach::detach(request, response.client(), settings, false, work_ended));
            response.aborted.set(true);
            return detach::discard(brigade, response.work().as_deref());
        }
        Order::TellHandler => {
            if let Some(copy) = response.private_record() {
                copy.abort();
            }
        }
        _ => {}
    }
    passed
}
