//! The mark's header on its way to the client: it never gets there, whoever set it, and whatever made the response.
//!
//! A response may come from a handler, from a hook before its turn (a quick handler, a fixup, mod_cache), or from httpd as an error
//! page. The one place that sees them all is where httpd makes the header: this module's function stands before httpd's there,
//! and before mod_http2's for a stream.

use std::ffi::CStr;

use crate::directives::{self, Mode, Settings};
use crate::handlers;
use crate::httpd::{Brigade, Concern, Filter, Replaced, Replacement, Request, Result, dir_config};
use crate::response::{Body, MARK, Response, decide, private_record};

use super::output;

/// Stands before httpd's function.
pub struct Http1;

/// Stands before mod_http2's.
pub struct Http2;

impl Replacement for Http1 {
    const OF: &'static CStr = c"HTTP_HEADER";

    fn original() -> &'static Replaced {
        static ORIGINAL: Replaced = Replaced::new();
        &ORIGINAL
    }

    fn concerns(request: Request<'_>) -> Concern {
        concern(request)
    }

    fn passed(request: Request<'_>, ended: bool) {
        Response::note_header(request, ended);
    }

    fn pass(filter: Filter<'_>, brigade: &mut Brigade<'_>) -> Result {
        strip(Self::original(), filter, brigade)
    }
}

impl Replacement for Http2 {
    const OF: &'static CStr = c"H2_C2_RESPONSE_OUT";

    fn original() -> &'static Replaced {
        static ORIGINAL: Replaced = Replaced::new();
        &ORIGINAL
    }

    fn concerns(request: Request<'_>) -> Concern {
        concern(request)
    }

    fn passed(request: Request<'_>, ended: bool) {
        Response::note_header(request, ended);
    }

    fn pass(filter: Filter<'_>, brigade: &mut Brigade<'_>) -> Result {
        strip(Self::original(), filter, brigade)
    }
}

/// A response may have to learn of its header, or the header may have the mark.
#[inline]
fn concern(request: Request<'_>) -> Concern {
    if !directives::is_used() {
        return Concern::Nothing;
    }
    let is_single = request.is_single();
    if is_single && let Some(response) = Response::of(request) {
        let is_shielded = response.private_record().is_some();
        return if is_shielded || decide::has_mark(request) { Concern::All } else { Concern::Passed };
    }
    if !is_single || hides_mark(request) && decide::says_something(request) { Concern::All } else { Concern::Nothing }
}

fn strip(original: &Replaced, filter: Filter<'_>, brigade: &mut Brigade<'_>) -> Result {
    if let Some(request) = filter.request()
        && Response::of(request).is_some_and(Response::is_undecided)
    {
        // Another's, that did not come by the filter which decides, mod_cache's say: what is said of the connection is to reach the client's own.
        private_record::use_client_record(request);
    }
    if let Some(request) = filter.request()
        && hides_mark(request)
    {
        if Response::of(request).is_none()
            && let Some(first) = without_handler(request, brigade)
        {
            // It comes here again, by way of the filter that was added.
            return output::first(first, brigade);
        }
        request.unset_header(MARK);
    }
    let ended = brigade.has_eos();
    original.pass(filter, brigade)?;
    if let Some(request) = filter.request() {
        Response::note_header(request, ended);
    }
    Ok(())
}

/// True unless the module is `Off`. A quick handler answers before httpd looks for the file, and so for the directory whose
/// configuration holds: there the header is a mark if it is one anywhere.
fn hides_mark(request: Request<'_>) -> bool {
    let mode = dir_config(request).map_or(Mode::Off, Settings::mode);
    mode != Mode::Off || (!request.has_filename() && directives::is_used())
}

/// The header is going to be made of a response whose handler has had no turn: a quick handler made it, or a fixup. If it is marked, and
/// does not end with this brigade, it gets what one with a handler gets: its filter, for `brigade` to go through. Not where other filters
/// have worked on the brigade already: then they cannot be told of an early end, and the response is an ordinary one.
fn without_handler<'r>(request: Request<'r>, brigade: &Brigade<'_>) -> Option<Filter<'r>> {
    let settings = dir_config::<Settings>(request)?;
    let is_new = settings.mode() != Mode::Off && !Response::is_left_to_httpd(request) && !request.is_subrequest();
    // The end may be in what httpd's filter above holds back (`ap_content_length_filter`): it must not be called again meanwhile.
    if !is_new
        || brigade.has_eos()
        || request.has_ended()
        || !decide::says_something(request)
        || request.has_content_filters()
    {
        return None;
    }
    if Response::find(request, Response::works_on).is_some() {
        return None;
    }
    // It is counted once more below.
    request.uncount(brigade.length()?);
    let response = request.undropped_or_init(|| Response::begin(request, handlers::kind(request)));
    // The handler, to which the body would be passed, does not run.
    response.body.set(Body::Ended);
    output::insert(request)
}
