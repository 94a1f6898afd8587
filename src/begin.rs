//! A request's handler is about to run, or httpd is about to send an error page: the request gets its response's state, its filters,
//! and the record of its connection that the handler sees.

use std::ffi::CStr;

use crate::directives::{Mode, Settings};
use crate::filters::{body_end, fcgid, interim, output};
use crate::handlers::{self, digits};
use crate::httpd::{Brigade, Filter, InsertErrorFilter, InsertFilter, Request, dir_config, with_context};
use crate::response::{MARK, Response, decide, late, private_record};
use crate::rules::VERSION_NUMBER;

/// The request note by which an application inside httpd sees that the module is there, and on.
const VERSION_NOTE: &CStr = c"finish-request-version";

/// The hooks by which a response begins.
pub struct Begin;

impl InsertFilter for Begin {
    fn insert_filter(request: Request<'_>) {
        private_record::use_client_record(request);
        fcgid::before_handler(request, false);
        let Some(settings) = dir_config::<Settings>(request) else { return };
        if settings.mode() == Mode::Off || Response::of(request).is_some() {
            return;
        }
        if request.is_subrequest() {
            digits::take_away(request);
            return;
        }
        if Response::find(request, Response::works_on).is_some() {
            // An error document for nobody: its handler's request has been finished already.
            return;
        }
        with_context(request, || {
            // What stands there now is no mark of the handler's: an internal redirect brought it, or mod_headers.
            request.unset_header(MARK);
            let response = request.extra_or_init(|| Response::begin(request));
            output::insert(request);
            body_end::watch(request);
            fcgid::before_handler(request, true);
            late::before_handler(request, response);
            if handlers::runs_application(request) {
                request.notes().set_constant(VERSION_NOTE, VERSION_NUMBER);
            }
            private_record::before_handler(request, response, settings);
            interim::watch(request, response);
        });
    }
}

impl InsertErrorFilter for Begin {
    fn insert_error_filter(request: Request<'_>) {
        private_record::use_client_record(request);
        if let Some(response) = Response::of(request) {
            response.note_error_page();
        }
    }
}

/// The header is going to be made of a response whose handler has had no turn: a quick handler made it, or a fixup. If it is marked, and
/// does not end with this brigade, it gets what one with a handler gets: its filter, for `brigade` to go through. Not where other filters
/// have worked on the brigade already: then they cannot be told of an early end, and the response is an ordinary one.
pub fn without_handler<'r>(request: Request<'r>, brigade: &Brigade<'_>) -> Option<Filter<'r>> {
    let settings = dir_config::<Settings>(request)?;
    let is_new = settings.mode() != Mode::Off && Response::of(request).is_none() && !request.is_subrequest();
    if !is_new || brigade.has_eos() || !decide::says_something(request) || request.has_content_filters() {
        return None;
    }
    if Response::find(request, Response::works_on).is_some() {
        return None;
    }
    // It is counted once more below.
    request.uncount(brigade.length()?);
    request.extra_or_init(|| Response::begin(request));
    output::insert(request)
}
