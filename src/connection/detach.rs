//! A request is detached from its client. Its filters then lead nowhere: what its handler writes is discarded with success, and its body is at
//! its end.

use std::cell::RefCell;
use std::ffi::CStr;
use std::sync::{Arc, Weak};

use super::{keep, release};
use crate::background::Work;
use crate::directives::Settings;
use crate::httpd::{
    Block, Brigade, Connection, Filter, FilterHandle, FilterType, InputCall, InputFilter, Kind, OutputFilter,
    OutputHead, Record, Request, RequestRecord, Result,
};

/// The filter that takes what reaches nobody. It belongs to the connection: the request's own filters end with the request's pool, and
/// the end of the request is written through it.
pub struct Sink;

/// The filter that has nothing to read but the end.
pub struct Empty;

/// Called when the handler of a detached request has ended, before httpd ends the request.
pub type Ended = fn(Request<'_>, &Work);

/// Where a connection's [`Sink`] leads: nowhere, while it has a detached request, and on to the next filter otherwise. The same sink serves
/// all requests of a connection that is kept.
#[derive(Default)]
pub struct Leads(RefCell<Option<Arc<Detached>>>);

/// The request that is detached.
pub struct Detached {
    /// Lives as long as the request.
    work: Weak<Work>,
    request: RequestRecord,
    ended: Ended,
    /// True if the client had gone before.
    aborted: bool,
    /// True if the client's connection goes on, as the client was told.
    kept: bool,
    /// Where its output began before.
    head: OutputHead,
}

/// Cuts a request off from `client`, its client's connection: gives the background work, which begins. Later writes, of the handler,
/// of a module or of httpd's error page, are discarded with success. What is read of the request's body is the body's end.
/// `ended` is called at the handler's end. `kept` says that the client's connection goes on.
pub fn detach(
    request: Request<'_>,
    client: Connection<'_>,
    settings: &Settings,
    kept: bool,
    ended: Ended,
) -> Arc<Work> {
    let seen = request.connection();
    // mod_http2 says of a stream at any time that the client has gone.
    let aborted = client.is_aborted();
    let copies = seen.raw() == client.raw() && (client.is_stream() || aborted);
    let connection = if copies { client.unaborted() } else { seen };
    let work = Arc::new(Work::begin(request, Record::of(connection), settings));
    if let Some((Leads(to), head)) = request.detach::<Sink, Empty, keep::ReadAhead>(client, connection, Leads::default)
    {
        let (request, work) = (RequestRecord::of(request), Arc::downgrade(&work));
        to.replace(Some(Arc::new(Detached { work, request, ended, aborted, kept, head })));
    }
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
    type Context = Leads;

    fn handle() -> &'static FilterHandle {
        static HANDLE: FilterHandle = FilterHandle::new();
        &HANDLE
    }

    fn pass(filter: Filter<'_>, brigade: &mut Brigade<'_>) -> Result {
        // One without a context is nobody's: a .htaccess may put it there by its name.
        let Some(Leads(to)) = filter.context::<Self>() else { return filter.pass_on(brigade) };
        let Some(detached) = to.borrow().clone() else { return filter.pass_on(brigade) };
        // Without the work the request has ended, and what comes is httpd's own.
        let known = detached.work.upgrade().map(|work| (work, detached));
        if brigade.first() != Some(Kind::Eor) {
            return discard(brigade, known.as_ref().map(|(work, _)| &**work));
        }
        if let Some((work, detached)) = &known {
            let connection = filter.connection();
            if detached.kept {
                // Whatever the handler returned: an error of its says that the connection ends (`ap_die`).
                connection.keep_after_response();
            }
            (detached.ended)(detached.request.get(), work);
            if !connection.is_stream() && release::work_ended(connection, detached.aborted) {
                to.replace(None);
                // Filters above this one have to know of it as well, mod_reqtimeout's, and of all that comes on the connection.
                return pass_end_of_request(brigade, |brigade| connection.pass_from(&detached.head, brigade));
            }
        }
        pass_end_of_request(brigade, |brigade| filter.pass_on(brigade))
    }
}

/// Sends the end of the request, the first of the brigade, after what the connection's filters hold of its response: that may lie in
/// the request's memory, which goes when this bucket is destroyed. mod_http2's header bucket waits so for a client that does not read.
fn pass_end_of_request(brigade: &mut Brigade<'_>, pass: impl FnOnce(&mut Brigade<'_>) -> Result) -> Result {
    brigade.keep_first();
    let passed = pass(brigade);
    // Where nobody has taken it, nothing waits.
    brigade.clear();
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

    fn read(call: InputCall<'_>, brigade: &mut Brigade<'_>, _wanted: u64) -> Result {
        if call.context::<Self>().is_none() {
            // Nobody's, as above: the body is the client's.
            return call.pass_on(brigade);
        }
        brigade.push_eos();
        Ok(())
    }
}
