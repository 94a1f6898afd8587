//! The output filter: shows the course of a response each of its brigades, and does what that orders.

use std::ffi::CStr;

use crate::abort;
use crate::connection::{break_off, detach};
use crate::httpd::{
    Brigade, Filter, FilterHandle, FilterType, OutputFilter, Request, Result, Spare, dir_config, with_context,
};
use crate::response::{Call, Response, decide::decide};
use crate::rules::course::Order;

use super::{declared, late, passed, walk};

/// The output filter.
pub struct FinishRequest;

/// Puts the filter into a request's chain.
pub fn insert(request: Request<'_>) -> Option<Filter<'_>> {
    request.add_output_filter::<FinishRequest>()
}

impl OutputFilter for FinishRequest {
    const NAME: &'static CStr = c"FINISH_REQUEST";
    // Below OLD_WRITE and FCGID_OUT, which have the type RESOURCE - 10, and above all that change the body.
    const TYPE: FilterType = FilterType::RESOURCE.above(5);
    type Context = Spare;

    fn handle() -> &'static FilterHandle {
        static HANDLE: FilterHandle = FilterHandle::new();
        &HANDLE
    }

    fn pass(filter: Filter<'_>, brigade: &mut Brigade<'_>) -> Result {
        first(filter, brigade)
    }
}

/// What the filter does with a brigade. To be called for the first one of a response whose filter was added when that had passed its
/// place already.
///
/// # Errors
///
/// What the filters below say.
pub fn first(filter: Filter<'_>, brigade: &mut Brigade<'_>) -> Result {
    let Some(request) = filter.request() else { return filter.pass_on(brigade) };
    match (Response::of(request), dir_config(request)) {
        (Some(response), Some(settings)) => take(Call { filter, request, response, settings }, brigade),
        _ => filter.pass_on(brigade),
    }
}

/// A handler has failed, and httpd is about to send an error page, for `request`, the same or one that it has been redirected to. Where a part of a
/// marked response is out, that is ended here, past what httpd has made of the request's filters meanwhile.
///
/// # Errors
///
/// It could not be ended; what the filters below say.
pub fn handler_failed(request: Request<'_>) -> Result {
    let Some((failed, response)) = Response::chain(request).find(|(failed, response)| response.is_out_in_part(*failed))
    else {
        return Ok(());
    };
    // An application that hands over to another page by an internal redirect has not failed.
    let goes_on = failed.raw() != request.raw() && !failed.has_failed() && request.comes_from(failed);
    let (Some(filter), Some(settings), false) = (response.filter(), dir_config(failed), goes_on) else { return Ok(()) };
    response.goes_on();
    let call = Call { filter, request: failed, response, settings };
    with_context(failed, || {
        filter.with_brigade::<FinishRequest, _>(|body| walk::handler_failed(call, body, &mut failed.brigade()))
    })
}

/// Takes a brigade of the response: does with it what its course orders.
fn take(call: Call<'_>, brigade: &mut Brigade<'_>) -> Result {
    let Call { request, response, settings, .. } = call;
    let order = decide(response, request, settings);
    response.goes_on();
    if order == Order::PassOn && !response.has_stand_in() {
        // Most brigades.
        response.pass_header(request);
        response.count(brigade.length());
        let passed = call.filter.pass_on(brigade);
        return abort::unless_client_gone(call, passed, brigade);
    }
    let is_all_taken = late::take(response, brigade, false)?;
    let passed = match order {
        Order::Discard => return detach::discard(brigade, response.work().as_deref()),
        Order::Refuse(status) => {
            brigade.clear();
            return Err(status);
        }
        Order::Walk => {
            let passed = call.filter.with_brigade::<FinishRequest, _>(|body| walk::walk(call, body, brigade));
            if response.may_break_off(request) {
                break_off::watch(response.client(), request, |request| {
                    Response::of(request).is_some_and(|response| response.has_broken_off(request))
                });
            }
            passed
        }
        Order::Look => declared::look(call, brigade, is_all_taken),
        _ => {
            response.pass_header(request);
            response.count(brigade.length());
            passed::pass_on(call, brigade, is_all_taken)
        }
    };
    abort::unless_client_gone(call, passed, brigade)?;
    late::drain(call, brigade)
}
