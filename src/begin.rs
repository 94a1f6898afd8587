//! A request's handler is about to run, or httpd is about to send an error page: the request gets its response's state, its filters,
//! and the record of its connection that the handler sees.

use std::ffi::CStr;

use crate::directives::{self, Mode, Settings};
use crate::filters::{body, fcgid, interim, output};
use crate::finish;
use crate::handlers::{self, Kind, digits};
use crate::httpd::{InsertErrorFilter, InsertFilter, Request, dir_config, with_context};
use crate::response::{MARK, Response, decide, late, private_record};
use crate::rules::{VERSION_NUMBER, mark};

/// The request note by which an application inside httpd sees that the module is there, and on.
const VERSION_NOTE: &CStr = c"finish-request-version";

/// Has the header of mod_fcgid's programs read as marked responses need it, where there is an mod_fcgid.
fn before_fcgid(request: Request<'_>, may_be_marked: bool) {
    if fcgid::is_there() {
        handlers::fcgid::before_handler(request, may_be_marked);
    }
}

/// The hooks by which a response begins.
pub struct Begin;

impl InsertFilter for Begin {
    fn concerns(request: Request<'_>) -> bool {
        let is_on = || dir_config(request).is_some_and(|settings: &Settings| settings.mode() != Mode::Off);
        directives::is_used() && (Response::is_in_chain_of(request) || is_on() || fcgid::is_there())
    }

    fn insert_filter(request: Request<'_>) {
        before_fcgid(request, false);
        let Some(settings) = dir_config::<Settings>(request) else { return };
        let is_off = settings.mode() == Mode::Off;
        if Response::is_in_chain_of(request) {
            interim::end(request);
            private_record::use_client_record(request);
            cut_off(request, settings);
            // An error document may be for nobody: its handler's request has been finished already.
            if Response::of(request).is_some() || Response::find(request, Response::works_on).is_some() {
                return;
            }
        }
        late::before_redirected(request);
        if is_off {
            take_brought_mark(request);
            return;
        }
        digits::take_away(request);
        if let Some(main) = request.main() {
            decide::before_subrequest(main);
            return;
        }
        // What stands there now is no mark of the handler's: an internal redirect brought it, or mod_headers.
        request.unset_header(MARK);
        let handler = handlers::kind(request);
        if is_left_to_httpd(request, handler) {
            Response::leave_to_httpd(request);
            return;
        }
        with_context(request, || {
            let response = request.undropped_or_init(|| Response::begin(request, handler));
            output::insert(request);
            body::watch(request, response);
            before_fcgid(request, true);
            if decide::is_late(response, request) {
                late::before_handler(request, response);
            }
            if handler != Kind::Default {
                request.notes().setn(VERSION_NOTE, VERSION_NUMBER);
            }
            private_record::before_handler(request, response, settings);
            interim::watch(request, response);
        });
    }
}

/// A request where the module is `Off` shows its header as any other, but no mark that an internal redirect has brought: the headers of the one
/// before it, where the module is on, are its own.
fn take_brought_mark(request: Request<'_>) {
    let is_on =
        |earlier: Request<'_>| dir_config(earlier).is_some_and(|settings: &Settings| settings.mode() != Mode::Off);
    if std::iter::successors(request.prev(), |earlier| earlier.prev()).any(is_on) {
        request.unset_header(MARK);
    }
}

/// True for a file that httpd's own handler sends, unless an administrator's variable may mark it.
fn is_left_to_httpd(request: Request<'_>, handler: Kind) -> bool {
    handler == Kind::Default
        && request.is_for_file()
        && request.is_single()
        && !request.subprocess_env().has(mark::VARIABLE)
}

impl InsertErrorFilter for Begin {
    fn insert_error_filter(request: Request<'_>) {
        interim::end(request);
        private_record::use_client_record(request);
        if let Some(settings) = dir_config::<Settings>(request) {
            cut_off(request, settings);
            if settings.mode() == Mode::Off {
                // Its handler may have had no turn: an error document may be denied.
                take_brought_mark(request);
            }
        }
        if let Some(response) = Response::of(request) {
            late::before_error_page(request, response);
            response.note_error_page();
        }
    }
}

/// An error page behind a marked response, or a part of one, is for nobody, also where its client's connection goes on: then it is closed.
fn cut_off(request: Request<'_>, settings: &Settings) {
    // Where it could not be ended, neither the page nor another response is to be taken for its rest.
    let has_failed = output::handler_failed(request).is_err();
    let is_over = |response: &Response| response.is_finished() || has_failed && response.has_failed();
    if let Some((_, response)) = Response::find(request, |response| is_over(response) && !response.works_on()) {
        finish::cut_off(request, response, settings);
    }
}
