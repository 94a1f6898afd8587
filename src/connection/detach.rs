//! A request is detached from its client. Its filters then lead nowhere: what its handler writes is discarded with success, and its body is at
//! its end.

use std::ffi::CStr;
use std::sync::{Arc, Weak};

use super::{keep, release};
use crate::background::Work;
use crate::directives::Settings;
use crate::httpd::{
    Block, Brigade, Connection, Filter, FilterHandle, FilterType, InputCall, InputFilter, Kind, OutputFilter, Record,
    Request, RequestRecord, Result,
};

/// The filter that takes what reaches nobody. It belongs to the connection: the request's own filters end with the request's pool, and
/// the end of the request is written through it.
pub struct Sink;

/// The filter that has nothing to read but the end.
pub struct Empty;

/// Called when the handler of a detached request has ended, before httpd ends the request.
pub type Ended = fn(Request<'_>, &Work);

/// The request that [`Sink`] belongs to.
pub struct Detached {
    /// Lives as long as the request.
    work: Weak<Work>,
    request: RequestRecord,
    ended: Ended,
    /// True if the client had gone before.
    aborted: bool,
}

/// Cuts a request off from `client`, its client's connection: gives the background work, which begins. Later writes, of the handler,
/// of a module or of httpd's error page, are discarded with success. What is read of the request's body is the body's end.
/// `ended` is called at the handler's end.
pub fn detach(request: Request<'_>, client: Connection<'_>, settings: &Settings, ended: Ended) -> Arc<Work> {
    let seen = request.connection();
    // mod_http2 says of a stream at any time that the client has gone.
    let aborted = client.is_aborted();
    let copies = seen.raw() == client.raw() && (client.is_stream() || aborted);
    let connection = if copies { client.unaborted() } else { seen };
    let work = Arc::new(Work::begin(request, Record::of(connection), settings));
    let detached = Detached { work: Arc::downgrade(&work), request: RequestRecord::of(request), ended, aborted };
    request.detach::<Sink, Empty, keep::ReadAhead>(client, connection, detached);
    work
}

/// Takes what is written after the end, and destroys it. Buckets that stand for what a program still writes are read
/// to their end, so that the program can go on writing.
///
/// # Errors
///
/// That of such a bucket: that the program's own time limit has passed; [`ABORTED`](crate::httpd::Status::ABORTED) where that of the
/// background work has.
pub fn discard(brigade: &mut Brigade<'_>, work: Option<&Work>) -> Result {
    while !brigade.is_empty() {
        destroy_up_to_eos(brigade, work)?;
        brigade.delete_first();
    }
    Ok(())
}

/// The same up to the end of the stream, which is left in the brigade, for a client that waits: whether it is there.
///
/// # Errors
///
/// As [`discard`].
pub fn discard_to_eos(brigade: &mut Brigade<'_>) -> Result<bool> {
    destroy_up_to_eos(brigade, None)
}

fn destroy_up_to_eos(brigade: &mut Brigade<'_>, work: Option<&Work>) -> Result<bool> {
    while let Some(kind) = brigade.first() {
        let done = match (kind, work) {
            (Kind::Eos, _) => return Ok(true),
            (Kind::Data(None), Some(work)) => work.read(brigade).map(|_| ()),
            (Kind::Data(None), None) => brigade.read_first(Block::Yes).map(|_| ()),
            (Kind::Data(Some(_)) | Kind::Flush, Some(work)) => work.write(),
            _ => Ok(()),
        };
        if let Err(status) = done {
            brigade.clear();
            return Err(status);
        }
        brigade.delete_first();
    }
    Ok(false)
}

impl OutputFilter for Sink {
    const NAME: &'static CStr = c"FINISH_REQUEST_SINK";
    const TYPE: FilterType = FilterType::CONNECTION;
    type Context = Detached;

    fn handle() -> &'static FilterHandle {
        static HANDLE: FilterHandle = FilterHandle::new();
        &HANDLE
    }

    fn pass(filter: Filter<'_>, brigade: &mut Brigade<'_>) -> Result {
        // Without the work the request has ended, and what comes is httpd's own.
        let known = filter.context::<Self>().and_then(|detached| Some((detached, detached.work.upgrade()?)));
        if brigade.first() != Some(Kind::Eor) {
            return discard(brigade, known.as_ref().map(|(_, work)| &**work));
        }
        if let Some((Detached { request, ended, aborted, .. }, work)) = &known {
            ended(request.get(), work);
            if !filter.connection().is_stream() {
                release::work_ended(filter.connection(), *aborted);
            }
        }
        pass_end_of_request(filter, brigade)
    }
}

/// Sends the end of the request, the first of the brigade, after what the connection's filters hold of its response: that may lie in
/// the request's memory, which goes when this bucket is destroyed. mod_http2's header bucket waits so for a client that does not read.
fn pass_end_of_request(filter: Filter<'_>, brigade: &mut Brigade<'_>) -> Result {
    let mut end = filter.connection().brigade();
    brigade.move_first(&mut end);
    brigade.clear();
    let passed = filter.pass_on(&mut end);
    // Where nobody has taken it, nothing waits.
    end.clear();
    passed
}

impl InputFilter for Empty {
    const NAME: &'static CStr = c"FINISH_REQUEST_EMPTY";
    const TYPE: FilterType = FilterType::RESOURCE;
    type Context = ();

    fn handle() -> &'static FilterHandle {
        static HANDLE: FilterHandle = FilterHandle::new();
        &HANDLE
    }

    fn read(_call: InputCall<'_>, brigade: &mut Brigade<'_>, _wanted: u64) -> Result {
        brigade.push_eos();
        Ok(())
    }
}
