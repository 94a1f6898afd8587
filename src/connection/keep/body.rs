//! The body of a request whose connection is to go on: it must have been read, or the client's next request would be
//! taken for its rest.

use std::sync::atomic::AtomicPtr;

use crate::connection::detach;
use crate::httpd::{Block, Brigade, FilterHandle, InputFilter, Kind, Request, Result, input_filter};
use crate::rules::ending::{Chunks, Verdict};
use crate::sys;

/// How much of a body that has arrived, and that the application has not read, is kept for it.
pub const MOST: u64 = 65_536;
/// How much is read in one go.
const PIECE: i64 = 8192;

static FILTER: AtomicPtr<sys::ap_filter_rec_t> = AtomicPtr::new(std::ptr::null_mut());
/// The filter that gives the application what was read ahead of it.
pub static HANDLE: FilterHandle = FilterHandle::new(&FILTER);

/// Registers the filter that gives the application what was read ahead of it.
pub fn register() {
    HANDLE.register_input(c"FINISH_REQUEST_BODY", input, sys::ap_filter_type_AP_FTYPE_RESOURCE - 5);
}

/// Whether the client has sent all of the request's body, and httpd has taken it from the connection. What the application
/// has not read of it is kept for it. Does not wait for the client.
pub fn is_complete(request: Request<'_>) -> bool {
    if !request.has_body() {
        return true;
    }
    if request.expects_continue() {
        // Reading would ask the client to send it.
        return false;
    }
    let mut body = request.brigade();
    let mut piece = request.brigade();
    let mut length = 0;
    let without_end = length_without_end(request);
    let complete = loop {
        let wanted = without_end.map_or(PIECE, |all| all.saturating_sub(length).try_into().unwrap_or(PIECE).min(PIECE));
        if wanted == 0 {
            break false;
        }
        // The http filter waits for the lines behind the last chunk.
        let read = || request.read_body(&mut piece, Block::No, wanted, detach::OUTPUT_FILTER);
        if request.connection().without_waiting(read).is_err() {
            break false;
        }
        let mut ended = false;
        let before = length;
        while let Some(kind) = piece.first() {
            ended |= kind == Kind::Eos;
            length += if let Kind::Data(Some(bytes)) = kind { bytes } else { 0 };
            piece.move_first(&mut body);
        }
        if ended || length == before || length > MOST {
            break ended;
        }
    };
    if !body.is_empty() {
        request.put_back(HANDLE, body);
    }
    complete
}

/// How much there is of a body in chunks whose end has not come; none where the end is there, or the body is another one. The http filter
/// must not be asked for more: it takes the last chunk, and where the lines behind that are missing it does not know later that it
/// was the last one (`read_chunked_trailers`), and takes for the body what comes next.
fn length_without_end(request: Request<'_>) -> Option<u64> {
    if !request.has_transfer_coding() {
        return None;
    }
    let mut brigade = request.brigade();
    // Errors: there is nothing, and nothing is taken.
    let _ = request.connection().peek_input(&mut brigade, MOST.try_into().unwrap_or(PIECE));
    let (mut chunks, mut length, mut is_empty) = (Chunks::new(), 0, true);
    while let Some(kind) = brigade.first() {
        if let Kind::Data(_) = kind {
            let mut bytes = brigade.read_first(Block::No).unwrap_or_default();
            is_empty &= bytes.is_empty();
            loop {
                let taken = match chunks.next(bytes) {
                    Verdict::Pass(body) => {
                        length += body as u64;
                        body
                    }
                    Verdict::Drop(framing) => framing,
                    Verdict::More => break,
                    // The end; or the application has read some of it.
                    _ => return None,
                };
                bytes = bytes.get(taken..).unwrap_or_default();
            }
        }
        brigade.delete_first();
    }
    (!is_empty).then_some(length)
}

unsafe extern "C" fn input(
    filter: *mut sys::ap_filter_t,
    brigade: *mut sys::apr_bucket_brigade,
    mode: sys::ap_input_mode_t,
    block: sys::apr_read_type_e,
    most: sys::apr_off_t,
) -> sys::apr_status_t {
    // SAFETY: httpd calls this filter.
    unsafe { input_filter(filter, brigade, mode, block, most, give) }
}

/// Gives what was put back; what the client sends comes behind it.
fn give(filter: InputFilter<'_>, brigade: &mut Brigade<'_>, most: u64) -> Result {
    let mut given = 0;
    if let Some(mut body) = filter.put_back() {
        while given < most
            && let Some(kind) = body.first()
        {
            if let Kind::Data(Some(length)) = kind {
                let left = most - given;
                if length > left {
                    body.split_first(left)?;
                }
                given += length.min(left);
            }
            body.move_first(brigade);
        }
        if body.is_empty() {
            filter.remove();
        }
    }
    if brigade.is_empty() { filter.pass_on(brigade) } else { Ok(()) }
}
