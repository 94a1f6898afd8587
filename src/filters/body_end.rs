//! mod_proxy_fcgi reads a response while it still sends the request's body. A FastCGI program that is told of the body's end too early may
//! wait for the rest of it until the backend's timeout. PHP does, for as many bytes as `Content-Length` says. So a response that is
//! complete before the body has been read is finished when that is.

use std::ffi::CStr;

use crate::handlers::is_proxied;
use crate::httpd::{Brigade, FilterHandle, FilterType, InputCall, InputFilter, Request, Result};
use crate::response::{Body, Response};

/// The filter that sees the end of a body.
pub struct BodyEnd;

/// The handler is about to run, which may be mod_proxy's for FastCGI: that of a balancer, or of a handler with a URL, is not
/// known before.
pub fn watch(request: Request<'_>) {
    if is_proxied(request) {
        request.add_input_filter::<BodyEnd>();
    }
}

impl InputFilter for BodyEnd {
    const NAME: &'static CStr = c"FINISH_REQUEST_BODY_END";
    // Below the one that holds what was read ahead of the application: that is not lost with the client's connection.
    const TYPE: FilterType = FilterType::RESOURCE.above(4);
    type Context = ();

    fn handle() -> &'static FilterHandle {
        static HANDLE: FilterHandle = FilterHandle::new();
        &HANDLE
    }

    fn read(call: InputCall<'_>, brigade: &mut Brigade<'_>, _wanted: u64) -> Result {
        call.pass_on(brigade)?;
        if let Some(request) = call.request()
            && let Some(response) = Response::of(request)
            && brigade.has_eos()
            && response.body.replace(Body::Ended) == Body::Awaited
        {
            // An error says that the client has gone, which the handler sees when it writes.
            let _ = request.flush();
        }
        Ok(())
    }
}
