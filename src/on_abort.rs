//! `FinishRequestOnAbort Continue`: a client that goes away before its marked response is complete does not end the
//! application.
//!
//! That a client has gone is known from `aborted` in its connection's record. Over HTTP/1 the thread that writes sets it
//! (`core_filters.c`); for an HTTP/2 stream mod_http2 does, in another thread and at any time (`h2_c2_abort`). Handlers look
//! at it in the record that the request names, `ap_rwrite` before any filter is called. So a request that is to go on gets a copy of
//! the record, and httpd, mod_http2 and the filters below keep the original.

use std::ffi::c_int;

use crate::cgi_length::is_proxied;
use crate::connection::sink;
use crate::directives::{OnAbort, Settings};
use crate::finish::Place;
use crate::httpd::{Brigade, Connection, Request, RequestConfig, Result, dir_config, guard};
use crate::response::{Phase, Response};
use crate::{cgi_script, sys};

/// A handler is about to run, or has ended, or httpd is to send an error page of its own: the request gets the client's own
/// record, also where it is an internal redirect of one that has a copy. Not where that one has been finished: nothing of
/// this one goes to the client.
pub fn unshield(request: Request<'_>) {
    let mut chain = std::iter::successors(Some(request), |request| request.prev());
    let before = chain.find_map(|request| Response::of(request).zip(dir_config::<Settings>(request)));
    if let Some((response, settings)) = before
        && settings.on_abort() == OnAbort::Continue
        && response.work().is_none()
    {
        request.set_connection(response.client());
    }
}

/// The handler is about to run. It may keep the record that it sees now, and look at it later: mod_proxy_http does. And
/// mod_http2 may say in it that the client has gone before the response is decided. Not where it may become a tunnel: mod_proxy
/// then takes a filter off the record's chain (`ap_proxy_tunnel_create`), and would go on with the chain of a copy.
pub fn before_handler(request: Request<'_>, response: &Response, settings: &Settings) {
    if settings.on_abort() == OnAbort::Continue
        && !request.asks_for_tunnel()
        && (is_proxied(request) || request.connection().is_stream() && runs_application(request))
    {
        shield(request, response.client());
    }
}

/// The response is decided, perhaps anew: one that is not marked is to end as on stock httpd.
pub fn decided(request: Request<'_>, response: &Response, settings: &Settings, phase: &Phase) {
    if settings.on_abort() == OnAbort::Stop || matches!(phase, Phase::Finished) {
        return;
    }
    let client = response.client();
    match phase {
        Phase::Marked(marked) if !marked.off && client.is_stream() => shield(request, client),
        // Over HTTP/1 the record has what the header says of the connection.
        _ => request.set_connection(client),
    }
}

/// Goes on without the client, if that is why a brigade of a marked response could not be passed on, and what the
/// configuration wants.
///
/// # Errors
///
/// What came of it otherwise: `passed`.
pub fn or_continue(place: Place<'_>, passed: Result, brigade: &mut Brigade<'_>) -> Result {
    let Place { request, response, settings, .. } = place;
    if settings.on_abort() == OnAbort::Stop || !response.client().is_aborted() {
        return passed;
    }
    let phase = response.take_phase();
    let goes_on = match &phase {
        Phase::Marked(marked) => !marked.off,
        Phase::Failed(_) => passed.is_err(),
        _ => false,
    };
    if !goes_on {
        response.set_phase(phase);
        return passed;
    }
    log::info!("the client has gone before its response was complete; the application goes on");
    sink::divert(request, response, settings);
    response.aborted.set(true);
    response.set_phase(Phase::Finished);
    cgi_script::keep(request, response.work());
    sink::swallow(brigade, response.work().as_deref())
}

/// `log_transaction`, before all others: the request of a client that went away is logged as one (`%X`).
pub unsafe extern "C" fn log_transaction(request: *mut sys::request_rec) -> c_int {
    guard(sys::DECLINED, || {
        // SAFETY: httpd calls the hook with a live request, in its thread.
        if let Some(request) = unsafe { Request::from_raw(request) }
            && let Some((_, response)) = Response::find(request, |response| response.aborted.get())
        {
            request.last().set_connection(response.client());
        }
        sys::DECLINED
    })
}

fn shield(request: Request<'_>, client: Connection<'_>) {
    if request.connection().raw() == client.raw() {
        request.set_connection(client.unaborted());
    }
}

/// Whether something other than a file may answer: mod_php and mod_cgi may be named by a pseudo media type.
fn runs_application(request: Request<'_>) -> bool {
    match request.handler() {
        Some(handler) => handler != b"default-handler",
        None => request.content_type().is_some_and(|name| name.starts_with(b"application/x-httpd-")),
    }
}
