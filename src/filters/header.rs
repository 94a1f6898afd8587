//! The mark's header on its way to the client: it never gets there, whoever set it, and whatever made the response.
//!
//! A response may come from a handler, from a hook before its turn (a quick handler, a fixup, mod_cache), or from httpd as an error
//! page. The one place that sees them all is where httpd makes the header: this module's function stands before httpd's there,
//! and before mod_http2's for a stream.

use crate::begin;
use crate::directives::{self, Mode, Settings};
use crate::httpd::{Brigade, Filter, Replaced, Request, Result, dir_config, output_filter};
use crate::response::{MARK, Response};
use crate::sys;

use super::output;

static HTTP1: Replaced = Replaced::new();
static HTTP2: Replaced = Replaced::new();

/// Puts this module's functions before those that make the header.
pub fn take_over() {
    HTTP1.replace(c"HTTP_HEADER", http1);
    HTTP2.replace(c"H2_C2_RESPONSE_OUT", http2);
}

unsafe extern "C" fn http1(filter: *mut sys::ap_filter_t, brigade: *mut sys::apr_bucket_brigade) -> sys::apr_status_t {
    // SAFETY: httpd calls this filter, by its own name.
    unsafe { output_filter(filter, brigade, |filter, brigade| strip(&HTTP1, filter, brigade)) }
}

unsafe extern "C" fn http2(filter: *mut sys::ap_filter_t, brigade: *mut sys::apr_bucket_brigade) -> sys::apr_status_t {
    // SAFETY: httpd calls this filter, by mod_http2's name.
    unsafe { output_filter(filter, brigade, |filter, brigade| strip(&HTTP2, filter, brigade)) }
}

fn strip(original: &Replaced, filter: Filter<'_>, brigade: &mut Brigade<'_>) -> Result {
    if let Some(request) = filter.request()
        && hides_mark(request)
    {
        if let Some(first) = begin::without_handler(request, brigade) {
            // It comes here again, by way of the filter that was added.
            return output::first(first, brigade);
        }
        request.unset_header(MARK);
    }
    let ended = brigade.has_eos();
    original.call_original(filter, brigade)?;
    if let Some(request) = filter.request() {
        Response::note_header(request, ended);
    }
    Ok(())
}

/// True unless the module is `Off`. A quick handler answers before httpd looks for the file, and so for the directory whose
/// configuration holds: there the header is a mark if it is one anywhere.
fn hides_mark(request: Request<'_>) -> bool {
    let mode = dir_config(request).map_or(Mode::Off, Settings::mode);
    mode != Mode::Off || (request.filename().is_none() && directives::is_used())
}
