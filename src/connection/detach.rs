//! Where a finished request is read from and written to: nowhere.

use std::sync::atomic::AtomicPtr;
use std::sync::{Arc, Weak};

use super::keep;
use crate::background::Work;
use crate::directives::Settings;
use crate::httpd::{
    Block, Brigade, Connection, Filter, FilterHandle, Kind, Record, Request, RequestRecord, Result, Status, guard,
    output_filter,
};
use crate::sys;

static OUTPUT: AtomicPtr<sys::ap_filter_rec_t> = AtomicPtr::new(std::ptr::null_mut());
static INPUT: AtomicPtr<sys::ap_filter_rec_t> = AtomicPtr::new(std::ptr::null_mut());
/// The filter that takes what reaches nobody.
pub static OUTPUT_FILTER: FilterHandle = FilterHandle::new(&OUTPUT);
static INPUT_FILTER: FilterHandle = FilterHandle::new(&INPUT);

/// Called when the handler of a detached request has ended, before httpd ends the request.
pub type Ended = fn(Request<'_>, &Work);

/// What the output filter knows of the request.
struct Detached {
    /// Lives as long as the request.
    work: Weak<Work>,
    request: RequestRecord,
    ended: Ended,
}

/// Registers the two filters.
pub fn register() {
    // The output filter belongs to the connection: the request's own filters end with the request's pool, and the end
    // of the request is written through it.
    OUTPUT_FILTER.register_output(c"FINISH_REQUEST_SINK", output, sys::ap_filter_type_AP_FTYPE_CONNECTION);
    INPUT_FILTER.register_input(c"FINISH_REQUEST_EMPTY", input, sys::ap_filter_type_AP_FTYPE_RESOURCE);
}

/// Cuts a request off from `client`, its client's connection: gives the background work, which begins. Later writes, of the handler,
/// of a module or of httpd's error page, are discarded with success. What is read of the request's body is the body's end.
/// `ended` is called at the handler's end.
pub fn detach(request: Request<'_>, client: Connection<'_>, settings: &Settings, ended: Ended) -> Arc<Work> {
    let seen = request.connection();
    // mod_http2 says of a stream at any time that the client has gone.
    let copies = seen.raw() == client.raw() && (client.is_stream() || client.is_aborted());
    let connection = if copies { client.unaborted() } else { seen };
    let work = Arc::new(Work::begin(request, Record::of(connection), settings));
    let detached = Detached { work: Arc::downgrade(&work), request: RequestRecord::of(request), ended };
    request.detach(client, connection, OUTPUT_FILTER, detached, INPUT_FILTER, keep::BODY);
    work
}

/// Takes what is written after the end, and destroys it. Buckets that stand for what a program still writes are read
/// to their end, so that the program can go on writing.
///
/// # Errors
///
/// What such a bucket says: that the program's own time limit has passed; [`Status::ABORTED`] where that of the
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

unsafe extern "C" fn output(filter: *mut sys::ap_filter_t, brigade: *mut sys::apr_bucket_brigade) -> sys::apr_status_t {
    let take = |filter: Filter<'_>, brigade: &mut Brigade<'_>| {
        // SAFETY: detach adds the filter with this, in the pool of the connection.
        let detached = unsafe { filter.context::<Detached>() };
        // Without the work the request has ended, and what comes is httpd's own.
        let known = detached.and_then(|detached| Some((detached, detached.work.upgrade()?)));
        if brigade.first() != Some(Kind::Eor) {
            return discard(brigade, known.as_ref().map(|(_, work)| &**work));
        }
        if let Some((Detached { request, ended, .. }, work)) = &known {
            ended(request.get(), work);
        }
        pass_end_of_request(filter, brigade)
    };
    // SAFETY: httpd calls this filter.
    unsafe { output_filter(filter, brigade, take) }
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

unsafe extern "C" fn input(
    _filter: *mut sys::ap_filter_t,
    brigade: *mut sys::apr_bucket_brigade,
    _mode: sys::ap_input_mode_t,
    _block: sys::apr_read_type_e,
    _bytes: sys::apr_off_t,
) -> sys::apr_status_t {
    guard(Status::code(Err(Status::GENERAL)), || {
        // SAFETY: httpd calls a filter with a live brigade, in the request's thread.
        unsafe { Brigade::from_raw(brigade) }.push_eos();
        0
    })
}
