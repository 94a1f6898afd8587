//! The end of an HTTP/2 stream. A filter may pass it on by itself, behind the last of the body: mod_cache does. A client that
//! was told the length, and has it, may be gone by then; it has its response all the same.

use std::sync::atomic::AtomicPtr;

use crate::httpd::{Brigade, Filter, FilterHandle, Kind, Request, output_filter};
use crate::sys;

static FILTER: AtomicPtr<sys::ap_filter_rec_t> = AtomicPtr::new(std::ptr::null_mut());
static HANDLE: FilterHandle = FilterHandle::new(&FILTER);

/// Registers the filter.
pub fn register() {
    // Below all others of the request: mod_http2's own belong to the connection.
    HANDLE.register_output(c"FINISH_REQUEST_STREAM_END", output, sys::ap_filter_type_AP_FTYPE_CONNECTION - 1);
}

/// The end of the request's stream is about to be passed on. It is no error that nobody waits for it.
pub fn ending(request: Request<'_>) {
    request.add_output_filter(HANDLE);
}

unsafe extern "C" fn output(filter: *mut sys::ap_filter_t, brigade: *mut sys::apr_bucket_brigade) -> sys::apr_status_t {
    let pass = |filter: Filter<'_>, brigade: &mut Brigade<'_>| {
        let end_alone = brigade.first() == Some(Kind::Eos);
        let passed = filter.pass_on(brigade);
        // All that stood before it was taken, or this filter would not have been called.
        if end_alone { Ok(()) } else { passed }
    };
    // SAFETY: httpd calls this filter.
    unsafe { output_filter(filter, brigade, pass) }
}
