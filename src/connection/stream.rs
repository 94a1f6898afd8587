//! The end of an HTTP/2 stream. A filter may pass it on by itself, behind the last of the body: mod_cache does. A client that
//! was told the length, and has it, may be gone by then; it has its response all the same.

use std::ffi::CStr;

use crate::httpd::{Brigade, Filter, FilterHandle, FilterType, Kind, OutputFilter, Request, Result};

/// The filter that lets the end of a stream fail.
pub struct StreamEnd;

/// The end of the request's stream is about to be passed on. It is no error that nobody waits for it.
pub fn ending(request: Request<'_>) {
    request.add_output_filter::<StreamEnd>();
}

impl OutputFilter for StreamEnd {
    const NAME: &'static CStr = c"FINISH_REQUEST_STREAM_END";
    // Below all others of the request: mod_http2's own belong to the connection.
    const TYPE: FilterType = FilterType::CONNECTION.above(1);
    type Context = ();

    fn handle() -> &'static FilterHandle {
        static HANDLE: FilterHandle = FilterHandle::new();
        &HANDLE
    }

    fn pass(filter: Filter<'_>, brigade: &mut Brigade<'_>) -> Result {
        let end_alone = brigade.first() == Some(Kind::Eos);
        let passed = filter.pass_on(brigade);
        // All that stood before it was taken, or this filter would not have been called.
        if end_alone { Ok(()) } else { passed }
    }
}
