//! Two moments of the request's body that say something of its handler.
//!
//! mod_cgi and mod_cgid read it to its end, if there is one or not, when their program has its environment and before they read its header:
//! the moment to have httpd keep the header's `Content-Length`.
//!
//! mod_proxy_fcgi reads a response while it still sends the request's body. A FastCGI program that is told of the body's end too early may
//! wait for the rest of it until the backend's timeout. PHP does, for as many bytes as `Content-Length` says. So a response that is
//! complete before the body has been read is finished when that is.

use std::ffi::CStr;

use crate::handlers::Kind;
use crate::httpd::{Brigade, FilterHandle, FilterType, InputCall, InputFilter, Request, Result};
use crate::response::{Body, Response};

/// The filter that sees that a body is read.
pub struct BodyBegin;

/// The filter that sees the end of a body.
pub struct BodyEnd;

/// The handler is about to run, which may be mod_proxy's for FastCGI: that of a balancer, or of a handler with a URL, is not
/// known before.
pub fn watch(request: Request<'_>, response: &Response) {
    match response.handler {
        Kind::Cgi => request.add_input_filter::<BodyBegin>(),
        Kind::Proxy => request.add_watching_input_filter::<BodyEnd>(),
        _ => {}
    }
}

impl InputFilter for BodyBegin {
    const NAME: &'static CStr = c"FINISH_REQUEST_BODY_BEGIN";
    const TYPE: FilterType = FilterType::RESOURCE.above(4);
    type Context = ();

    fn handle() -> &'static FilterHandle {
        static HANDLE: FilterHandle = FilterHandle::new();
        &HANDLE
    }

    fn read(call: InputCall<'_>, brigade: &mut Brigade<'_>, _wanted: u64) -> Result {
        if let Some(request) = call.request()
            && let Some(response) = Response::of(request)
        {
            response.keep_length(request);
        }
        call.remove();
        call.pass_on(brigade)
    }
}

impl InputFilter for BodyEnd {
    const NAME: &'static CStr = c"FINISH_REQUEST_BODY_END";
    // Below those that change content, and below the one that holds what was read ahead of the application: that is not lost with the client's
    // connection.
    const TYPE: FilterType = FilterType::PROTOCOL.above(1);
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
