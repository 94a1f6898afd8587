//! Reports of a finished response: request notes for `LogFormat`, the access log, the end of the background work,
//! and mod_status's page.

pub mod status;

use std::ffi::CStr;

use crate::background::{self, WORKS_ON};
use crate::directives;
use crate::httpd::{LogTransaction, Reply, Request, now, with_context};
use crate::response::Response;
use crate::rules::mark::Source;
use crate::rules::quote::escaped;

/// The note that says how the response was marked.
const MARKED: &CStr = c"finish-request";
/// The microseconds from the request's arrival to the client's release.
const RELEASED: &CStr = c"finish-request-us";

/// Sets the notes: how the response was marked, and the microseconds from the request's arrival until `released`, microseconds of Unix
/// time.
pub fn note(request: Request<'_>, source: Source, released: i64) {
    let notes = request.notes();
    let set = |name, value: String| notes.set(name, request.pool().string(value.as_bytes()));
    set(MARKED, source.as_str().to_owned());
    set(RELEASED, request.us_until(released).to_string());
}

/// Counts and logs a finished response, whose client was released at this time, microseconds of Unix time.
pub fn finished(request: Request<'_>, response: &Response, source: Source, released: i64) {
    if let Some(counting) = background::counting(request) {
        counting.finished();
    }
    log::info!(
        "finished early, marked by {}: {} bytes of body, {} microseconds after the request came",
        source.as_str(),
        response.passed.get().map_or_else(|| "an unknown number of".to_owned(), |passed| passed.to_string()),
        request.us_until(released),
    );
}

/// What is wrong with a body that has not come to its end.
pub const SHORT: &str = "it ended before the end that it promised";

/// Says that a response is broken.
pub fn broken(request: Request<'_>, why: &str) {
    background::seldom(background::Kind::BadBody, |more| {
        log::warn!(
            "the body of a marked response is not what it claims to be: {why}; its client's connection is closed, and \
             the application at {} is to be mended{more}",
            escaped(request.path())
        );
    });
}

/// Copies the notes to the request that is logged: the last one in a chain of internal redirects, which may be an error document.
fn carry_notes(from: Request<'_>, to: Request<'_>) {
    for name in [MARKED, RELEASED] {
        if let Some(value) = from.notes().get(name) {
            to.notes().set(name, to.pool().string(value));
        }
    }
}

/// Has mod_logio count what the client of an HTTP/2 stream gets. mod_http2 does so itself, but not before the stream's end. After that it
/// says that the client has gone (`h2_c2_abort`). Nobody knows its frames until then: the body counts.
fn count_stream(request: Request<'_>, response: &Response) {
    let client = response.client();
    if client.is_stream() && !client.is_aborted() {
        client.count_sent(request.bytes_sent());
    }
}

/// Has the request logged now, and not once more at its end.
pub fn log(request: Request<'_>, response: &Response) {
    count_stream(request, response);
    request.first().run_log_transaction();
    response.logged.set(true);
}

/// The background work has ended: gives its place back, and has the request logged, unless that has been done. The request's memory
/// may live on, for a client that reads slowly.
pub fn work_ended(request: Request<'_>) {
    let found = Response::find(request, |response| response.background.since().is_some());
    let Some((ended, response)) = found else { return };
    let released = response.background.since().unwrap_or_default();
    let took = now() - released;
    if response.background.is_believed() {
        if took <= WORKS_ON {
            // An ordinary response, then. mod_http2 calls the client of a stream that has ended gone, where this has lasted longer.
            response.background.withdraw();
            if response.client().is_stream() && response.client().is_aborted() && !response.logged.get() {
                log(ended, response);
            }
            return;
        }
        with_context(request, || finished(ended, response, Source::Auto, released));
        note(ended, Source::Auto, released);
    }
    with_context(request, || {
        log::info!("the background work has ended, {took} microseconds after the client was released");
    });
    response.background.withdraw();
    carry_notes(ended, request.last());
    if Response::find(request, |response| response.logged.get()).is_none() {
        log(ended, response);
    }
}

/// A request that has been logged is not logged again. httpd calls the hook when the request has really ended, and [`log()`] does before.
/// That of a client that went away is logged as one (`%X`).
pub struct LogOnce;

impl LogTransaction for LogOnce {
    fn concerns(request: Request<'_>) -> bool {
        let is_logged =
            |response: &Response| response.logged.get() || response.aborted.get() || response.waits_for_more();
        directives::is_used() && (!request.is_single() || Response::of(request).is_some_and(is_logged))
    }

    fn log_transaction(request: Request<'_>) -> Reply {
        let (mut reply, mut aborted) = (Reply::Declined, None);
        for (marked, response) in Response::chain(request) {
            if response.has_broken_off(marked) {
                with_context(marked, || broken(marked, SHORT));
            }
            if response.logged.get() {
                reply = Reply::Done;
            }
            aborted = aborted.or_else(|| response.aborted.get().then_some(response));
        }
        if let Some(response) = aborted {
            request.last().set_connection(response.client());
        }
        reply
    }
}
