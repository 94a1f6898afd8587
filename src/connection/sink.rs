//! Where a finished request is read from and written to: nowhere.

use std::sync::atomic::AtomicPtr;

use crate::httpd::{Block, Brigade, FilterHandle, Kind, Request, Result, Status, guard, output_filter};
use crate::sys;

static OUTPUT: AtomicPtr<sys::ap_filter_rec_t> = AtomicPtr::new(std::ptr::null_mut());
static INPUT: AtomicPtr<sys::ap_filter_rec_t> = AtomicPtr::new(std::ptr::null_mut());
const OUTPUT_FILTER: FilterHandle = FilterHandle::new(&OUTPUT);
const INPUT_FILTER: FilterHandle = FilterHandle::new(&INPUT);

/// Registers the two filters.
pub fn register() {
    // The output filter belongs to the connection: the request's own filters end with the request's pool, and the end
    // of the request is written through it.
    OUTPUT_FILTER.register_output(c"FINISH_REQUEST_SINK", output, sys::ap_filter_type_AP_FTYPE_CONNECTION);
    INPUT_FILTER.register_input(c"FINISH_REQUEST_EMPTY", input, sys::ap_filter_type_AP_FTYPE_RESOURCE);
}

/// Cuts a request off from its client. Whatever is written to it later, by the handler, by another module, or by httpd
/// as an error page, reaches nobody, and is no error. Whatever is read of its body is the body's end.
pub fn divert(request: Request<'_>) {
    request.divert(OUTPUT_FILTER, INPUT_FILTER);
}

/// Takes what is written after the end, and destroys it. Buckets that stand for what a program still writes are read
/// to their end, so that the program can go on writing.
///
/// # Errors
///
/// What such a bucket says: that the program's own time limit has passed.
pub fn swallow(brigade: &mut Brigade<'_>) -> Result {
    while !brigade.is_empty() {
        swallow_to_eos(brigade)?;
        brigade.delete_first();
    }
    Ok(())
}

/// The same up to the end of the stream, which is left in the brigade: whether it is there.
///
/// # Errors
///
/// As [`swallow`].
pub fn swallow_to_eos(brigade: &mut Brigade<'_>) -> Result<bool> {
    while let Some(kind) = brigade.first() {
        match kind {
            Kind::Eos => return Ok(true),
            Kind::Data(None) => {
                if let Err(status) = brigade.read_first(Block::Yes) {
                    brigade.clear();
                    return Err(status);
                }
            }
            _ => {}
        }
        brigade.delete_first();
    }
    Ok(false)
}

unsafe extern "C" fn output(filter: *mut sys::ap_filter_t, brigade: *mut sys::apr_bucket_brigade) -> sys::apr_status_t {
    // SAFETY: httpd calls this filter.
    unsafe { output_filter(filter, brigade, |_, brigade| swallow(brigade)) }
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
