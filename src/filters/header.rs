//! The mark's header on its way to the client: it never gets there, whoever set it.

use std::sync::atomic::AtomicPtr;

use crate::httpd::{Brigade, Filter, FilterHandle, Request, output_filter};
use crate::response::MARK;
use crate::sys;

static STRIP: AtomicPtr<sys::ap_filter_rec_t> = AtomicPtr::new(std::ptr::null_mut());
const STRIP_FILTER: FilterHandle = FilterHandle::new(&STRIP);

/// Registers the filter that looks at the headers last.
pub fn register() {
    // mod_headers' filter has the type CONTENT_SET, and the header is sent by one of the type PROTOCOL.
    STRIP_FILTER.register_output(c"FINISH_REQUEST_HEADER", strip, sys::ap_filter_type_AP_FTYPE_CONTENT_SET + 5);
}

/// Sees to it that the mark does not reach the client, even if it is set later: by mod_headers.
pub fn keep_from_client(request: Request<'_>) {
    request.add_output_filter(STRIP_FILTER);
}

unsafe extern "C" fn strip(filter: *mut sys::ap_filter_t, brigade: *mut sys::apr_bucket_brigade) -> sys::apr_status_t {
    let strip = |filter: Filter<'_>, brigade: &mut Brigade<'_>| {
        if let Some(request) = filter.request() {
            request.unset_header(MARK);
        }
        filter.remove();
        filter.pass_on(brigade)
    };
    // SAFETY: httpd calls this filter.
    unsafe { output_filter(filter, brigade, strip) }
}
