//! Filters as httpd calls them: `ap_filter_rec_t`, and the functions in it.
//!
//! A filter of the module's is a type with one method, `pass`. httpd gets [`call_output`] or [`call_input`] for it: there a panic
//! ends, and becomes the status of a filter that fails.

use std::cell::Cell;
use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::{Block, Brigade, Configured, Connection, Filter, Hooks, Request, Result, Status, guard, with_context};
use crate::sys;

/// An output filter's function, as httpd calls it.
type OutputFunction = unsafe extern "C" fn(*mut sys::ap_filter_t, *mut sys::apr_bucket_brigade) -> sys::apr_status_t;

/// An output filter of the module's.
pub trait OutputFilter: 'static {
    /// The name that it is registered by. It begins with `FINISH_REQUEST`.
    const NAME: &'static CStr;
    /// Where it stands among others.
    const TYPE: FilterType;
    /// The value that is stored with its node when it is added to a chain.
    type Context: 'static;

    /// Returns the implementor's static: Rust has no generic ones.
    fn handle() -> &'static FilterHandle;

    /// Takes a brigade, and passes on what the next one below is to get.
    ///
    /// # Errors
    ///
    /// Those of the filters below, or another one for the caller.
    fn pass(filter: Filter<'_>, brigade: &mut Brigade<'_>) -> Result;
}

/// An input filter of the module's, for a request's body.
pub trait InputFilter: 'static {
    /// The name that it is registered by. It begins with `FINISH_REQUEST`.
    const NAME: &'static CStr;
    /// Where it stands among others.
    const TYPE: FilterType;
    /// The value that is stored with its node when it is added to a chain.
    type Context: 'static;

    /// Returns the implementor's static.
    fn handle() -> &'static FilterHandle;

    /// Reads `wanted` bytes at the most into an empty brigade. Whoever wants a line, or only a look, gets bytes: nobody does so with
    /// a request's body.
    ///
    /// # Errors
    ///
    /// Those of the filters below.
    fn read(call: InputCall<'_>, brigade: &mut Brigade<'_>, wanted: u64) -> Result;
}

/// A function of the module's in the place of another module's output filter.
pub trait Replacement: 'static {
    /// The other's name.
    const OF: &'static CStr;

    /// Returns the implementor's static.
    fn original() -> &'static Replaced;

    /// What is to be done here for a request. It is asked outside of the guard, and can not panic.
    fn concerns(request: Request<'_>) -> Concern;

    /// The other filter has taken a brigade, which had the end of the stream if `ended`. Only where that is all that is to be done. It is called outside
    /// of the guard, and can not panic.
    fn passed(_request: Request<'_>, _ended: bool) {}

    /// Takes a brigade as the other would, which [`Replaced::pass`] still calls.
    ///
    /// # Errors
    ///
    /// As [`OutputFilter::pass`].
    fn pass(filter: Filter<'_>, brigade: &mut Brigade<'_>) -> Result;
}

/// What a [`Replacement`] does for a request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Concern {
    /// Nothing.
    Nothing,
    /// It is told of what has passed.
    Passed,
    /// What it does in the other's place.
    All,
}

/// Where a filter stands among others: `ap_filter_type`.
#[derive(Clone, Copy)]
pub struct FilterType(sys::ap_filter_type);

impl FilterType {
    /// Among those that make or change the content (`AP_FTYPE_RESOURCE`).
    pub const RESOURCE: Self = Self(sys::ap_filter_type_AP_FTYPE_RESOURCE);
    /// Among those that make the content of what a connection gives (`AP_FTYPE_PROTOCOL`).
    pub const PROTOCOL: Self = Self(sys::ap_filter_type_AP_FTYPE_PROTOCOL);
    /// Among those of a connection (`AP_FTYPE_CONNECTION`).
    pub const CONNECTION: Self = Self(sys::ap_filter_type_AP_FTYPE_CONNECTION);
    /// Beside the network's own (`AP_FTYPE_NETWORK`).
    pub const NETWORK: Self = Self(sys::ap_filter_type_AP_FTYPE_NETWORK);

    /// The same, so many steps further from the network.
    pub const fn above(self, steps: sys::ap_filter_type) -> Self {
        Self(self.0 - steps)
    }
}

/// A filter's registration, which httpd makes anew at every restart.
pub struct FilterHandle(AtomicPtr<sys::ap_filter_rec_t>);

impl FilterHandle {
    /// One that is not registered yet.
    pub const fn new() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    pub(super) fn raw(&self) -> *mut sys::ap_filter_rec_t {
        self.0.load(Ordering::Acquire)
    }
}

impl Hooks {
    /// Registers an output filter.
    pub fn output_filter<F: OutputFilter>(&self) {
        const { assert!(begins_as_ours(F::NAME)) }
        let (name, kind) = (F::NAME.as_ptr(), F::TYPE.0);
        // SAFETY: httpd copies the name; the function stays where it is (invariant 4).
        let record = unsafe { sys::ap_register_output_filter(name, Some(call_output::<F>), None, kind) };
        F::handle().0.store(record, Ordering::Release);
    }

    /// Registers an input filter.
    pub fn input_filter<F: InputFilter>(&self) {
        const { assert!(begins_as_ours(F::NAME)) }
        let (name, kind) = (F::NAME.as_ptr(), F::TYPE.0);
        // SAFETY: as for output_filter.
        let record = unsafe { sys::ap_register_input_filter(name, Some(call_input::<F>), None, kind) };
        F::handle().0.store(record, Ordering::Release);
    }
}

/// The names in a chain are in lower case, and begin with `finish_request`.
const fn begins_as_ours(name: &CStr) -> bool {
    matches!(name.to_bytes().split_first_chunk::<14>(), Some((b"FINISH_REQUEST", _)))
}

/// # Safety
///
/// For httpd to call (invariant 9), as the function of the filter `F`: with a node of a live chain, and a live brigade or null (invariant 1), in the
/// thread that works on the request or connection.
unsafe extern "C" fn call_output<F: OutputFilter>(
    node: *mut sys::ap_filter_t,
    brigade: *mut sys::apr_bucket_brigade,
) -> sys::apr_status_t {
    // SAFETY: the caller's promise.
    unsafe { output(node, brigade, F::pass) }
}

/// # Safety
///
/// As for [`call_output`]: as the function of the filter `R::OF`.
unsafe extern "C" fn call_replacement<R: Replacement>(
    node: *mut sys::ap_filter_t,
    brigade: *mut sys::apr_bucket_brigade,
) -> sys::apr_status_t {
    // SAFETY: the caller's promise.
    unsafe {
        match Request::from_raw((*node).r) {
            Some(request) => match R::concerns(request) {
                Concern::Nothing => R::original().call(node, brigade),
                Concern::Passed => pass_and_tell::<R>(node, brigade, request),
                Concern::All => output(node, brigade, R::pass),
            },
            None => R::original().call(node, brigade),
        }
    }
}

/// Has the other filter take a brigade, and says so.
///
/// # Safety
///
/// As for [`call_output`].
#[inline(never)]
unsafe fn pass_and_tell<R: Replacement>(
    node: *mut sys::ap_filter_t,
    brigade: *mut sys::apr_bucket_brigade,
    request: Request<'_>,
) -> sys::apr_status_t {
    // SAFETY: the caller's promise.
    let (ended, status) = unsafe {
        let ended = !brigade.is_null() && Brigade::from_raw(brigade).has_eos();
        (ended, R::original().call(node, brigade))
    };
    if status == 0 {
        R::passed(request, ended);
    }
    status
}

/// Calls `pass`, with messages logged about the request or the connection. An MPM calls a connection's first filter without a brigade,
/// to ask whether something waits to be written: nothing does.
///
/// # Safety
///
/// As for [`call_output`].
#[inline(never)]
unsafe fn output(
    node: *mut sys::ap_filter_t,
    brigade: *mut sys::apr_bucket_brigade,
    pass: fn(Filter<'_>, &mut Brigade<'_>) -> Result,
) -> sys::apr_status_t {
    if brigade.is_null() {
        return 0;
    }
    guard(Status::code(Err(Status::GENERAL)), || {
        // SAFETY: the caller's promise.
        let (filter, mut brigade) = unsafe { (Filter::from_raw(node), Brigade::from_raw(brigade)) };
        let Some(filter) = filter else { return Status::code(Err(Status::GENERAL)) };
        let run = || Status::code(pass(filter, &mut brigade));
        match filter.request() {
            Some(request) => with_context(request, run),
            None => with_context(filter.connection(), run),
        }
    })
}

/// # Safety
///
/// For httpd to call (invariant 9), as the function of the filter `F`: with a node of a live chain and a live brigade (invariant 1), in the thread that
/// works on the request.
unsafe extern "C" fn call_input<F: InputFilter>(
    node: *mut sys::ap_filter_t,
    brigade: *mut sys::apr_bucket_brigade,
    mode: sys::ap_input_mode_t,
    block: sys::apr_read_type_e,
    most: sys::apr_off_t,
) -> sys::apr_status_t {
    guard(Status::code(Err(Status::GENERAL)), || {
        // SAFETY: the caller's promise.
        let mut brigade = unsafe { Brigade::from_raw(brigade) };
        let call = InputCall { node, reading: (mode, block, most), life: PhantomData };
        let wanted = u64::try_from(most).ok().filter(|wanted| *wanted > 0).unwrap_or(8192);
        let mut run = || Status::code(F::read(call, &mut brigade, wanted));
        match call.request() {
            Some(request) => with_context(request, run),
            None => run(),
        }
    })
}

/// One call of an input filter: its node, and how it is read.
#[derive(Clone, Copy)]
pub struct InputCall<'f> {
    node: *mut sys::ap_filter_t,
    reading: (sys::ap_input_mode_t, sys::apr_read_type_e, sys::apr_off_t),
    life: PhantomData<&'f sys::ap_filter_t>,
}

impl<'f> InputCall<'f> {
    /// Returns the request whose filter it is.
    pub fn request(self) -> Option<Request<'f>> {
        // SAFETY: null or the live request (invariant 1) whose chain this is.
        unsafe { Request::from_raw((*self.node).r) }
    }

    /// Returns what was stored with it when it was added, if it is an `F`.
    pub fn context<F: InputFilter>(self) -> Option<&'f F::Context> {
        // SAFETY: the filter is live (invariant 1). Its context is an `F`'s, or null (invariant 6).
        unsafe {
            let is_one = (*self.node).frec == F::handle().raw();
            is_one.then(|| (*self.node).ctx.cast::<F::Context>().as_ref()).flatten()
        }
    }

    /// Reads from the next one below, as it is read itself.
    ///
    /// # Errors
    ///
    /// Those of the filters below.
    pub fn pass_on(self, brigade: &mut Brigade<'_>) -> Result {
        let (mode, block, most) = self.reading;
        // SAFETY: filter and brigade are live (invariant 1); a filter that was taken out keeps its way to the next one.
        Status::check(unsafe { sys::ap_get_brigade((*self.node).next, brigade.raw(), mode, block, most) })
    }

    /// Takes the filter out of its chain.
    pub fn remove(self) {
        // SAFETY: the filter is in a live chain (invariant 1).
        unsafe { sys::ap_remove_input_filter(self.node) }
    }
}

/// Bytes of a request's body that were read and are to be read again. One at a time has it.
pub struct PutBack(Cell<Option<NonNull<sys::apr_bucket_brigade>>>);

impl PutBack {
    /// The brigade is in the pool that is going to have this.
    pub(super) fn new(brigade: Brigade<'_>) -> Self {
        Self(Cell::new(NonNull::new(brigade.raw())))
    }

    /// Calls `take` with it, unless somebody has it.
    pub fn with<T>(&self, take: impl FnOnce(&mut Brigade<'_>) -> T) -> Option<T> {
        let raw = self.0.take()?;
        // SAFETY: the brigade lives as long as this, and nobody else has it (invariant 1).
        let result = take(&mut unsafe { Brigade::from_raw(raw.as_ptr()) });
        self.0.set(Some(raw));
        Some(result)
    }
}

/// Another module's output filter, whose function is replaced by a [`Replacement`].
pub struct Replaced(AtomicPtr<()>);

impl Replaced {
    /// Nothing replaced yet.
    pub const fn new() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// Calls the function that was replaced.
    ///
    /// # Errors
    ///
    /// Its own; and where nothing was replaced.
    pub fn pass(&self, filter: Filter<'_>, brigade: &mut Brigade<'_>) -> Result {
        // SAFETY: filter and brigade are live (invariant 1).
        Status::check(unsafe { self.call(filter.raw(), brigade.raw()) })
    }

    /// # Safety
    ///
    /// As for [`call_output`].
    unsafe fn call(&self, node: *mut sys::ap_filter_t, brigade: *mut sys::apr_bucket_brigade) -> sys::apr_status_t {
        let original = self.0.load(Ordering::Acquire);
        if original.is_null() {
            return Status::code(Err(Status::GENERAL));
        }
        // SAFETY: [`Configured::replace`] stored an OutputFunction here, and nothing else does (invariant 5); the rest is the caller's promise.
        unsafe {
            let original: OutputFunction = std::mem::transmute::<*mut (), OutputFunction>(original);
            original(node, brigade)
        }
    }

    /// True if a filter was replaced.
    pub fn is_there(&self) -> bool {
        !self.0.load(Ordering::Acquire).is_null()
    }
}

impl Configured<'_> {
    /// Puts `R` in the place of the filter `R::OF`, if one is registered by this name.
    pub fn replace<R: Replacement>(&self) {
        let function: OutputFunction = call_replacement::<R>;
        // SAFETY: a record that httpd gives is live until the next restart (invariant 1), and an output filter's record has an output
        // function. No other thread runs at this time (invariant 5).
        unsafe {
            let Some(record) = sys::ap_get_output_filter_handle(R::OF.as_ptr()).as_mut() else { return };
            let Some(original) = record.filter_func.out_func else { return };
            if original as usize != function as usize {
                R::original().0.store(original as *mut (), Ordering::Release);
                record.filter_func.out_func = Some(function);
            }
        }
    }
}

/// The record of a filter that stands in a connection's place. It is in no list of httpd's.
struct Unlisted(sys::ap_filter_rec_t);

// SAFETY: nobody writes to the record (invariant 4); its name is a constant.
unsafe impl Sync for Unlisted {}

impl Unlisted {
    const fn new(name: &'static CStr, filter_func: sys::ap_filter_func) -> Self {
        Self(sys::ap_filter_rec_t {
            name: name.as_ptr(),
            filter_func,
            filter_init_func: None,
            next: std::ptr::null_mut(),
            providers: std::ptr::null_mut(),
            ftype: sys::ap_filter_type_AP_FTYPE_CONNECTION,
            debug: 0,
            proto_flags: 0,
        })
    }

    /// A node with nothing below it, and no request, whose end it would note (`ap_pass_brigade`). Nobody writes to its record.
    fn node(&'static self, connection: Connection<'_>) -> sys::ap_filter_t {
        sys::ap_filter_t {
            frec: (&raw const self.0).cast_mut(),
            c: connection.raw(),
            // SAFETY: all that is left of it may be null (invariant 9).
            ..unsafe { std::mem::zeroed() }
        }
    }
}

/// Discards what it gets.
static DISCARD: Unlisted = Unlisted::new(c"finish_request_discard", sys::ap_filter_func { out_func: Some(discard) });
/// Has nothing to read, at the moment.
static NOTHING: Unlisted = Unlisted::new(c"finish_request_nothing", sys::ap_filter_func { in_func: Some(nothing) });

unsafe extern "C" fn discard(_node: *mut sys::ap_filter_t, brigade: *mut sys::apr_bucket_brigade) -> sys::apr_status_t {
    // SAFETY: httpd calls a filter with a live brigade (invariant 1).
    unsafe { sys::apr_brigade_cleanup(brigade.cast()) }
}

unsafe extern "C" fn nothing(
    _node: *mut sys::ap_filter_t,
    _brigade: *mut sys::apr_bucket_brigade,
    _mode: sys::ap_input_mode_t,
    _block: sys::apr_read_type_e,
    _most: sys::apr_off_t,
) -> sys::apr_status_t {
    Status::code(Err(Status::AGAIN))
}

impl Request<'_> {
    /// Calls `read`, while the connection seems to have nothing of the request's body.
    pub fn without_connection<T>(self, read: impl FnOnce() -> T) -> T {
        let Some(filter) = self.body_filter() else { return read() };
        let mut node = NOTHING.node(self.connection());
        // SAFETY: the filter is in a live chain (invariant 1). Nobody keeps the node that stands for what is below it meanwhile.
        unsafe {
            let connection = std::mem::replace(&mut (*filter).next, &raw mut node);
            let result = read();
            (*filter).next = connection;
            result
        }
    }

    /// Reads from the request's body, as its handler does. What httpd has to say to the client about a body that it does not accept
    /// (`bail_out_on_error`) is discarded. So is the status that it has for it (`read_chunked_trailers`): the response is the handler's.
    ///
    /// # Errors
    ///
    /// Those of the filters: with [`Block::No`] some say so when there is nothing yet, others give nothing.
    pub fn read_body(self, to: &mut Brigade<'_>, block: Block, most: i64) -> Result {
        let mode = sys::ap_input_mode_t_AP_MODE_READBYTES;
        let mut node = DISCARD.node(self.connection());
        // SAFETY: the request and the brigade are live (invariant 1), with its chain of filters. Nobody keeps the node that stands for its
        // output filters meanwhile.
        unsafe {
            let output = std::mem::replace(&mut (*self.raw()).output_filters, &raw mut node);
            let status = (*self.raw()).status;
            let read = sys::ap_get_brigade((*self.raw()).input_filters, to.raw(), mode, block.raw(), most);
            (*self.raw()).output_filters = output;
            (*self.raw()).status = status;
            Status::check(read)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Panics;

    impl OutputFilter for Panics {
        const NAME: &'static CStr = c"FINISH_REQUEST_PANICS";
        const TYPE: FilterType = FilterType::RESOURCE;
        type Context = ();

        fn handle() -> &'static FilterHandle {
            static HANDLE: FilterHandle = FilterHandle::new();
            &HANDLE
        }

        #[allow(clippy::panic)]
        fn pass(_filter: Filter<'_>, _brigade: &mut Brigade<'_>) -> Result {
            panic!("this one is meant")
        }
    }

    #[test]
    fn a_panic_is_a_filter_that_fails() {
        // SAFETY: as httpd: a node without a request, and a brigade that nobody looks into.
        let status = unsafe {
            let mut node: sys::ap_filter_t = std::mem::zeroed();
            call_output::<Panics>(&raw mut node, std::ptr::dangling_mut())
        };
        assert_eq!(Status::check(status), Err(Status::GENERAL));
        // SAFETY: as an MPM: a question without a brigade.
        assert_eq!(unsafe { call_output::<Panics>(std::ptr::null_mut(), std::ptr::null_mut()) }, 0);
    }
}
