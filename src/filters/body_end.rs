//! mod_proxy_fcgi reads a response while it still sends the request's body. A FastCGI program that is told of the body's end too
//! early may wait for the rest of it (PHP does, for as many bytes as `Content-Length` says), until the backend's timeout. So a
//! response that is complete before the body has been read is finished when that is.

use std::sync::atomic::AtomicPtr;

use crate::handlers::{is_proxied, proxy_scheme};
use crate::httpd::{Brigade, FilterHandle, InputFilter, Request, RequestConfig, Result, input_filter};
use crate::response::{Body, Response};
use crate::sys;

static FILTER: AtomicPtr<sys::ap_filter_rec_t> = AtomicPtr::new(std::ptr::null_mut());
static HANDLE: FilterHandle = FilterHandle::new(&FILTER);

/// Registers the filter that sees the end of a body.
pub fn register() {
    // Below the one that holds what was read ahead of the application: that is not lost with the client's connection.
    HANDLE.register_input(c"FINISH_REQUEST_BODY_END", input, sys::ap_filter_type_AP_FTYPE_RESOURCE - 4);
}

/// The handler is about to run, which may be mod_proxy's for FastCGI: that of a balancer, or of a handler with a URL, is not
/// known before.
pub fn watch(request: Request<'_>) {
    if is_proxied(request) {
        request.add_input_filter(HANDLE);
    }
}

/// Whether the program may wait for a part of the body that has not been read.
pub fn is_unread(request: Request<'_>, response: &Response) -> bool {
    response.body.get() != Body::Ended && proxy_scheme(request) == Some(b"fcgi")
}

unsafe extern "C" fn input(
    filter: *mut sys::ap_filter_t,
    brigade: *mut sys::apr_bucket_brigade,
    mode: sys::ap_input_mode_t,
    block: sys::apr_read_type_e,
    most: sys::apr_off_t,
) -> sys::apr_status_t {
    let pass = |filter: InputFilter<'_>, brigade: &mut Brigade<'_>, _most: u64| -> Result {
        filter.pass_on(brigade)?;
        if let Some(request) = filter.request()
            && let Some(response) = Response::of(request)
            && brigade.has_eos()
            && response.body.replace(Body::Ended) == Body::Awaited
        {
            // An error says that the client has gone, which the handler sees when it writes.
            let _ = request.flush();
        }
        Ok(())
    };
    // SAFETY: httpd calls this filter.
    unsafe { input_filter(filter, brigade, mode, block, most, pass) }
}
