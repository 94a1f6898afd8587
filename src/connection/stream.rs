//! The end of an HTTP/2 stream. A filter may pass it on by itself, behind the last of the body: mod_cache does. A client that
//! was told the length, and has it, may be gone by then; it has its response all the same.

use std::ffi::CStr;
use std::thread;
use std::time::{Duration, Instant};

use crate::httpd::{Block, Brigade, Filter, FilterHandle, FilterType, Kind, OutputFilter, Request, Result};

/// The filter that lets the end of a stream fail.
pub struct StreamEnd;

/// The end of the request's stream is about to be passed on. It is no error that nobody waits for it.
pub fn ending(request: Request<'_>) {
    request.add_output_filter::<StreamEnd>();
}

/// How much of a request's body is read in one go.
const PIECE: i64 = 65_536;
/// How long a client may send nothing of it. One that asks for leave (`Expect: 100-continue`) gets none here; curl then waits for a second, and sends
/// all the same, a busy machine's later.
const SILENCE: Duration = Duration::from_secs(3);
/// How long it may send in all: as httpd has it before it closes a connection (`MAX_SECS_TO_LINGER`).
const TOTAL: Duration = Duration::from_secs(30);
/// How long to wait for more, where there is nothing to wait with.
const PAUSE: Duration = Duration::from_millis(2);

/// Reads what the client still sends of the request's body, and discards it. To be called before the end of the stream is passed on:
/// mod_http2 lets a client send no more than is read, and to curl (7.88, 8.14) a stream is open until it has sent all: where httpd ends it before, curl
/// waits for the end of the handler, and fails (7.88, by the stream's reset) or not.
/// If there is something to wait for, `ahead` is called before that, once.
///
/// # Errors
///
/// What `ahead` says.
pub fn discard_body(request: Request<'_>, ahead: impl FnOnce() -> Result) -> Result {
    let mut ahead = Some(ahead);
    let begun = Instant::now();
    let (mut last, mut piece) = (begun, request.brigade());
    while last.elapsed() < SILENCE && begun.elapsed() < TOTAL {
        let read = request.read_body(&mut piece, Block::No, PIECE);
        let (ended, nothing) = (piece.has_eos(), piece.is_empty());
        piece.clear();
        match read {
            Ok(()) if ended => break,
            Ok(()) if !nothing => last = Instant::now(),
            Err(status) if !status.is_again() => {
                // It has gone, or httpd does not accept the body.
                break;
            }
            _ => match ahead.take() {
                Some(ahead) => ahead()?,
                None => thread::sleep(PAUSE),
            },
        }
    }
    Ok(())
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
