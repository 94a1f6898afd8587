//! The end of a request whose response has broken off: nobody has passed its end on, and the client waits for more. What follows on the connection would
//! be taken for the rest of it.

use std::cell::RefCell;
use std::ffi::CStr;

use crate::httpd::{
    Brigade, Connection, Filter, FilterHandle, FilterType, HTTP_BAD_GATEWAY, Kind, OutputFilter, Request,
    RequestRecord, Result,
};

/// The filter that sees the end of such a request: a stream is reset, as mod_http2 leaves open for ever what has no end, and another connection ends.
pub struct BreakOff;

/// The request whose response may break off, and what says whether it has. The same for all requests of a connection.
pub struct BrokenOff {
    request: RefCell<Option<RequestRecord>>,
    has: fn(Request<'_>) -> bool,
}

/// More may come of the response to this request. `has_broken_off` is asked at the request's end; until then nothing is said of the connection: of one
/// that is to end httpd does not read the request's body (`ap_discard_request_body`), which would be taken for the next request.
pub fn watch(client: Connection<'_>, request: Request<'_>, has_broken_off: fn(Request<'_>) -> bool) {
    let filter =
        client.add_output_filter::<BreakOff>(|| BrokenOff { request: RefCell::default(), has: has_broken_off });
    if let Some(watched) = filter.context::<BreakOff>() {
        watched.request.replace(Some(RequestRecord::of(request)));
    }
}

impl OutputFilter for BreakOff {
    const NAME: &'static CStr = c"FINISH_REQUEST_BREAK_OFF";
    const TYPE: FilterType = FilterType::CONNECTION;
    type Context = BrokenOff;

    fn handle() -> &'static FilterHandle {
        static HANDLE: FilterHandle = FilterHandle::new();
        &HANDLE
    }

    fn pass(filter: Filter<'_>, brigade: &mut Brigade<'_>) -> Result {
        if brigade.first() == Some(Kind::Eor)
            && let Some(watched) = filter.context::<Self>()
            && let Some(record) = watched.request.take()
            && let request = record.get()
            && (watched.has)(request)
        {
            let connection = filter.connection();
            if connection.is_stream() {
                let mut end = request.brigade();
                end.push_error(HTTP_BAD_GATEWAY);
                end.push_eos();
                // It says that the stream is reset.
                let _ = filter.pass_on(&mut end);
            } else {
                connection.close_after_response();
            }
        }
        filter.pass_on(brigade)
    }
}
