//! A request's handler is about to run, or httpd is about to send an error page: the request gets its response's state, its filters,
//! and the record of its connection that the handler sees.

use std::ffi::CStr;

use crate::connection::detach;
use crate::directives::{Mode, Settings};
use crate::filters::{body_end, fcgid, interim, output};
use crate::finish::work_ended;
use crate::handlers::{self, digits};
use crate::httpd::{InsertErrorFilter, InsertFilter, Request, dir_config, with_context};
use crate::response::{MARK, Response, late, private_record};
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
        cut_off(request, settings);
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
        if let Some(settings) = dir_config::<Settings>(request) {
            cut_off(request, settings);
        }
        if let Some(response) = Response::of(request) {
            response.note_error_page();
        }
    }
}

/// An error page behind a response that has ended is for nobody, also where its client's connection goes on: then it is closed.
fn cut_off(request: Request<'_>, settings: &Settings) {
    if let Some((_, response)) = Response::find(request, |response| response.is_finished() && !response.works_on()) {
        response.client().close_after_response();
        response.set_work(detach::detach(request, response.client(), settings, work_ended));
    }
}
