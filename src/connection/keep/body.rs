//! The body of a request whose connection is to go on: it must have been read, or the client's next request would be
//! taken for its rest.

use std::ffi::CStr;

use super::has_known_filters;
use crate::httpd::{Block, Brigade, FilterHandle, FilterType, InputCall, InputFilter, Kind, PutBack, Request, Result};
use crate::rules::ending::{Chunks, Verdict};

/// How much of a body that has arrived, and that the application has not read, is kept for it.
pub const MOST: u64 = 65_536;
/// How much is read in one go.
const PIECE: i64 = 8192;

/// The filter that gives the application what was read ahead of it.
pub struct ReadAhead;

/// Returns true if the client has sent all of the request's body, and httpd has taken it from the connection. What the application
/// has not read of it is kept for it. Does not wait for the client.
pub fn is_complete(request: Request<'_>) -> bool {
    // An input filter takes the header away from which httpd knew of a body, mod_deflate's say.
    if !request.has_body() && !request.has_begun_body() {
        return true;
    }
    if request.expects_continue() {
        // Reading would ask the client to send it.
        return false;
    }
    if let Some(ahead) = request.still_put_back::<ReadAhead>() {
        // The bytes that came since then stand behind it, and the filter for it would stand before.
        return ahead.with(|body| body.has_eos()).unwrap_or(false);
    }
    let mut body = request.brigade();
    let mut piece = request.brigade();
    let mut length = 0;
    // Where in a body in chunks the connection is, is not known once the application has read some of it. It has read all if there is
    // an end without more.
    let is_begun = request.has_transfer_coding() && request.body_is_begun();
    if request.has_transfer_coding() && !is_begun && !has_known_filters(request.connection()) {
        // Where its last chunk comes without the line behind it, httpd and mod_ssl would wait for that, and not sleep (`ssl_io_input_read`).
        return false;
    }
    let without_end = if is_begun { None } else { length_without_end(request) };
    let complete = loop {
        let wanted = without_end.map_or(PIECE, |all| all.saturating_sub(length).try_into().unwrap_or(PIECE).min(PIECE));
        if wanted == 0 {
            break false;
        }
        // The http filter waits for the lines behind the last chunk.
        let mut read = || request.read_body(&mut piece, Block::No, wanted);
        let read = || if is_begun { request.without_connection(read) } else { read() };
        if request.connection().without_waiting(read).is_err() {
            break false;
        }
        let mut ended = false;
        let before = length;
        while let Some(kind) = piece.first() {
            ended |= kind == Kind::Eos;
            if let Kind::Data(Some(bytes)) = kind {
                length += bytes;
                // A copy: mod_ssl's is in memory of its own, which it reads the next piece into (`ssl_io_filter_input`).
                if let Ok(data) = piece.read_first(Block::No) {
                    body.push_bytes(data);
                    piece.delete_first();
                    continue;
                }
            }
            piece.move_first(&mut body);
        }
        if ended || length == before || length > MOST {
            break ended;
        }
    };
    if !body.is_empty() {
        request.put_back::<ReadAhead>(body);
    }
    complete
}

/// Returns how much there is of a body in chunks whose end has not come; none where the end is there, or the body is another one. The http
/// filter must not be asked for more: it takes the last chunk. Where the lines behind that are missing, it does not know later that it was
/// the last one (`read_chunked_trailers`), and takes what comes next for the body.
fn length_without_end(request: Request<'_>) -> Option<u64> {
    if !request.has_transfer_coding() {
        return None;
    }
    let mut brigade = request.brigade();
    // Errors: there is nothing, and nothing is taken.
    let _ = request.connection().peek_input(&mut brigade, MOST.try_into().unwrap_or(PIECE));
    let (mut chunks, mut length) = (Chunks::new(), 0);
    while let Some(kind) = brigade.first() {
        if let Kind::Data(_) = kind {
            let mut bytes = brigade.read_first(Block::No).unwrap_or_default();
            loop {
                let taken = match chunks.next(bytes) {
                    Verdict::Pass(body) => {
                        length += body as u64;
                        body
                    }
                    Verdict::Drop(framing) => framing,
                    Verdict::More => break,
                    // The end; or it is not in chunks, and is refused.
                    _ => return None,
                };
                bytes = bytes.get(taken..).unwrap_or_default();
            }
        }
        brigade.delete_first();
    }
    Some(length)
}

impl InputFilter for ReadAhead {
    const NAME: &'static CStr = c"FINISH_REQUEST_BODY";
    const TYPE: FilterType = FilterType::RESOURCE.above(5);
    type Context = PutBack;

    fn handle() -> &'static FilterHandle {
        static HANDLE: FilterHandle = FilterHandle::new();
        &HANDLE
    }

    /// Gives what was put back; what the client sends comes behind it.
    fn read(call: InputCall<'_>, brigade: &mut Brigade<'_>, wanted: u64) -> Result {
        let give = |body: &mut Brigade<'_>| {
            let mut given = 0;
            while given < wanted
                && let Some(kind) = body.first()
            {
                if let Kind::Data(Some(length)) = kind {
                    let left = wanted - given;
                    if length > left {
                        body.split_first(left)?;
                    }
                    given += length.min(left);
                }
                body.move_first(brigade);
            }
            if body.is_empty() {
                call.remove();
            }
            Ok(())
        };
        call.context::<Self>().and_then(|body| body.with(give)).unwrap_or(Ok(()))?;
        if brigade.is_empty() { call.pass_on(brigade) } else { Ok(()) }
    }
}
