//! `ap_filter_t`, a filter's place in a chain, and `ap_filter_rec_t`, its registration.

use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::{Brigade, Connection, Request, Result, Status, guard, with_context};
use crate::sys;

/// An output filter's function, as httpd calls it.
pub type OutputFunction =
    unsafe extern "C" fn(*mut sys::ap_filter_t, *mut sys::apr_bucket_brigade) -> sys::apr_status_t;

/// An input filter's function, as httpd calls it.
pub type InputFunction = unsafe extern "C" fn(
    *mut sys::ap_filter_t,
    *mut sys::apr_bucket_brigade,
    sys::ap_input_mode_t,
    sys::apr_read_type_e,
    sys::apr_off_t,
) -> sys::apr_status_t;

/// A place in a chain of filters.
#[derive(Clone, Copy)]
pub struct Filter<'f> {
    raw: *mut sys::ap_filter_t,
    life: PhantomData<&'f sys::ap_filter_t>,
}

impl<'f> Filter<'f> {
    /// # Safety
    ///
    /// `raw` is null or a place in a chain that lives for `'f` and that this thread works on.
    pub unsafe fn from_raw(raw: *mut sys::ap_filter_t) -> Option<Self> {
        (!raw.is_null()).then_some(Self { raw, life: PhantomData })
    }

    /// The next one below.
    pub fn next(self) -> Option<Self> {
        // SAFETY: a live chain (LIVE) ends in null.
        unsafe { Self::from_raw((*self.raw).next) }
    }

    /// The request whose filter it is; none for a connection's.
    pub fn request(self) -> Option<Request<'f>> {
        // SAFETY: null or the live request (LIVE) whose chain this is.
        unsafe { Request::from_raw((*self.raw).r) }
    }

    /// The connection whose filter, or whose request's filter, it is.
    pub fn connection(self) -> Connection<'f> {
        // SAFETY: a filter has a connection (LIVE).
        unsafe { Connection::from_raw((*self.raw).c) }
    }

    /// What was stored with it when it was added.
    ///
    /// # Safety
    ///
    /// The filter was added with a `T` that lives as long as its chain, or with nothing.
    pub unsafe fn context<T>(self) -> Option<&'f T> {
        // SAFETY: the filter is in a live chain (LIVE); the caller's promise.
        unsafe { (*self.raw).ctx.cast::<T>().as_ref() }
    }

    /// An empty brigade, that lives as long as the filter: the one that was given back, where there is one. Made anew at each
    /// call, they would pile up.
    ///
    /// # Safety
    ///
    /// The filter was added with nothing, and keeps nothing but this.
    pub unsafe fn take_brigade(self) -> Brigade<'f> {
        // SAFETY: the filter is in a live chain (LIVE); its context is null, or the brigade that was given back.
        let kept = unsafe { std::mem::replace(&mut (*self.raw).ctx, std::ptr::null_mut()) };
        match (kept.is_null(), self.request()) {
            // SAFETY: as above.
            (false, _) => unsafe { Brigade::from_raw(kept.cast()) },
            (true, Some(request)) => request.brigade(),
            (true, None) => self.connection().brigade(),
        }
    }

    /// Gives it back. What is still in it is destroyed.
    ///
    /// # Safety
    ///
    /// As for [`Filter::take_brigade`], which gave the brigade for this filter.
    pub unsafe fn give_back(self, mut brigade: Brigade<'_>) {
        brigade.clear();
        // SAFETY: the filter is in a live chain (LIVE), of this thread (ONE THREAD).
        unsafe { (*self.raw).ctx = brigade.raw().cast() };
    }

    /// The name it was registered by, in lower case.
    pub fn name(self) -> &'f [u8] {
        // SAFETY: a filter has a registration with a name (LIVE, NUL).
        unsafe { CStr::from_ptr((*(*self.raw).frec).name) }.to_bytes()
    }

    /// Whether it works on the content of a request's response: not on its protocol, nor on a connection.
    pub fn is_content(self) -> bool {
        // SAFETY: a filter has a registration (LIVE).
        unsafe { (*(*self.raw).frec).ftype < sys::ap_filter_type_AP_FTYPE_PROTOCOL }
    }

    /// Takes it out of its chain. It stays valid, with its way to the next one.
    pub fn remove(self) {
        // SAFETY: the filter is in a live chain (LIVE).
        unsafe { sys::ap_remove_output_filter(self.raw) }
    }

    /// Calls it with a brigade.
    ///
    /// # Errors
    ///
    /// What the filters below say: mostly that the client has gone.
    pub fn pass(self, brigade: &mut Brigade<'_>) -> Result {
        // SAFETY: filter and brigade are live (LIVE).
        Status::check(unsafe { sys::ap_pass_brigade(self.raw, brigade.raw()) })
    }

    /// Calls the next one below with a brigade.
    ///
    /// # Errors
    ///
    /// As [`Filter::pass`]; and where there is none.
    pub fn pass_on(self, brigade: &mut Brigade<'_>) -> Result {
        self.next().ok_or(Status::GENERAL)?.pass(brigade)
    }
}

/// The body of an output filter's function: `body` gets its place in the chain and the brigade, with messages logged
/// about its request or connection. An MPM calls a connection's first filter without a brigade, to ask whether something
/// waits to be written: nothing does.
///
/// # Safety
///
/// To be called by an [`OutputFunction`] with what httpd gave it: a place in a chain, and a brigade or null, both live
/// (LIVE), in the thread that works on the request.
pub unsafe fn output_filter(
    filter: *mut sys::ap_filter_t,
    brigade: *mut sys::apr_bucket_brigade,
    body: impl FnOnce(Filter<'_>, &mut Brigade<'_>) -> Result,
) -> sys::apr_status_t {
    guard(Status::code(Err(Status::GENERAL)), || {
        if brigade.is_null() {
            return 0;
        }
        // SAFETY: the caller's promise.
        let (filter, mut brigade) = unsafe { (Filter::from_raw(filter), Brigade::from_raw(brigade)) };
        let Some(filter) = filter else { return Status::code(Err(Status::GENERAL)) };
        let run = || Status::code(body(filter, &mut brigade));
        match filter.request() {
            Some(request) => with_context(request, run),
            None => with_context(filter.connection(), run),
        }
    })
}

/// A place in a chain of input filters, of a request's body.
#[derive(Clone, Copy)]
pub struct InputFilter<'f> {
    raw: *mut sys::ap_filter_t,
    /// How it is to be read.
    reading: (sys::ap_input_mode_t, sys::apr_read_type_e, sys::apr_off_t),
    life: PhantomData<&'f sys::ap_filter_t>,
}

impl<'f> InputFilter<'f> {
    /// The request whose filter it is.
    pub fn request(self) -> Option<Request<'f>> {
        // SAFETY: null or the live request (LIVE) whose chain this is.
        unsafe { Request::from_raw((*self.raw).r) }
    }

    /// What [`Request::put_back`] gave it.
    pub fn put_back(self) -> Option<Brigade<'f>> {
        // SAFETY: the filter is live (LIVE); its context is null, or a brigade of its request's connection.
        unsafe {
            let brigade: *mut sys::apr_bucket_brigade = (*self.raw).ctx.cast();
            (!brigade.is_null()).then(|| Brigade::from_raw(brigade))
        }
    }

    /// Reads from the next one below, as it was read itself.
    ///
    /// # Errors
    ///
    /// What the filters below say.
    pub fn pass_on(self, brigade: &mut Brigade<'_>) -> Result {
        let (mode, block, most) = self.reading;
        // SAFETY: filter and brigade are live (LIVE); a filter that was taken out keeps its way to the next one.
        Status::check(unsafe { sys::ap_get_brigade((*self.raw).next, brigade.raw(), mode, block, most) })
    }

    /// Takes it out of its chain.
    pub fn remove(self) {
        // SAFETY: the filter is in a live chain (LIVE).
        unsafe { sys::ap_remove_input_filter(self.raw) }
    }
}

/// The body of an input filter's function: `body` gets its place in the chain, the brigade, and how many bytes are wanted
/// at the most. Whoever wants a line, or only a look, gets bytes: nobody does so with a request's body.
///
/// # Safety
///
/// To be called by an input filter's function with what httpd gave it, live (LIVE), in the request's thread.
pub unsafe fn input_filter(
    filter: *mut sys::ap_filter_t,
    brigade: *mut sys::apr_bucket_brigade,
    mode: sys::ap_input_mode_t,
    block: sys::apr_read_type_e,
    most: sys::apr_off_t,
    body: impl FnOnce(InputFilter<'_>, &mut Brigade<'_>, u64) -> Result,
) -> sys::apr_status_t {
    guard(Status::code(Err(Status::GENERAL)), || {
        // SAFETY: the caller's promise.
        let mut brigade = unsafe { Brigade::from_raw(brigade) };
        let filter = InputFilter { raw: filter, reading: (mode, block, most), life: PhantomData };
        let wanted = u64::try_from(most).ok().filter(|wanted| *wanted > 0).unwrap_or(8192);
        Status::code(body(filter, &mut brigade, wanted))
    })
}

/// A filter that the module has registered. Registered anew at every restart.
#[derive(Clone, Copy)]
pub struct FilterHandle(&'static AtomicPtr<sys::ap_filter_rec_t>);

impl FilterHandle {
    /// A handle, kept in a static of the module's.
    pub const fn new(place: &'static AtomicPtr<sys::ap_filter_rec_t>) -> Self {
        Self(place)
    }

    /// Registers an output filter, of a type that says where it stands among others.
    pub fn register_output(self, name: &CStr, function: OutputFunction, kind: sys::ap_filter_type) {
        // SAFETY: httpd copies the name; the function stays where it is (the module is never unmapped).
        let record = unsafe { sys::ap_register_output_filter(name.as_ptr(), Some(function), None, kind) };
        self.0.store(record, Ordering::Release);
    }

    /// Registers an input filter of a request's.
    pub fn register_input(self, name: &CStr, function: InputFunction, kind: sys::ap_filter_type) {
        // SAFETY: as for register_output.
        let record = unsafe { sys::ap_register_input_filter(name.as_ptr(), Some(function), None, kind) };
        self.0.store(record, Ordering::Release);
    }

    pub(super) fn raw(self) -> *mut sys::ap_filter_rec_t {
        self.0.load(Ordering::Acquire)
    }
}

/// A filter before all others of a connection: what writes to the connection past a request's filters meets it, what a request's
/// filters pass on does not. It is taken out when it is dropped.
pub struct Foremost<T> {
    node: NonNull<sys::ap_filter_t>,
    context: NonNull<T>,
}

impl<T: 'static> Foremost<T> {
    /// Puts it there, with what its function finds as [`Filter::context`]. It is to be dropped before the connection ends.
    pub fn add(connection: Connection<'_>, handle: FilterHandle, context: T) -> Self {
        let context = NonNull::from(Box::leak(Box::new(context)));
        // SAFETY: the connection is live (LIVE) and of this thread (ONE THREAD). An all-zero node is one without a request, and this
        // one is freed by drop, which takes it out.
        unsafe {
            let mut node: sys::ap_filter_t = std::mem::zeroed();
            node.frec = handle.raw();
            node.ctx = context.as_ptr().cast();
            node.c = connection.raw();
            node.next = (*connection.raw()).output_filters;
            let node = NonNull::from(Box::leak(Box::new(node)));
            (*connection.raw()).output_filters = node.as_ptr();
            Self { node, context }
        }
    }

    /// Takes it out, if it is still there. Its node keeps the way to the next one, for who is in it.
    pub fn remove(&self) {
        // SAFETY: node and connection are live; a node that is not in the chain is not found (ap_remove_output_filter).
        unsafe { sys::ap_remove_output_filter(self.node.as_ptr()) }
    }
}

impl<T> Drop for Foremost<T> {
    fn drop(&mut self) {
        // SAFETY: as for remove; both came from Box::leak.
        unsafe {
            sys::ap_remove_output_filter(self.node.as_ptr());
            drop((Box::from_raw(self.node.as_ptr()), Box::from_raw(self.context.as_ptr())));
        }
    }
}

/// Another module's output filter whose function is replaced by one of this module's.
pub struct Replaced(AtomicPtr<()>);

impl Replaced {
    /// Nothing replaced yet.
    pub const fn new() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }

    /// Puts `function` in the place of the function of the filter that is registered by this name, if one is.
    /// To be called while the configuration is read, when there is one thread.
    pub fn replace(&self, name: &CStr, function: OutputFunction) -> bool {
        // SAFETY: a record that httpd gives is live until the next restart (LIVE), and an output filter's record
        // has an output function; no other thread runs while the configuration is read.
        unsafe {
            let record = sys::ap_get_output_filter_handle(name.as_ptr());
            if record.is_null() {
                return false;
            }
            let Some(original) = (*record).filter_func.out_func else { return false };
            if original as usize != function as usize {
                self.0.store(original as *mut (), Ordering::Release);
                (*record).filter_func.out_func = Some(function);
            }
            true
        }
    }

    /// Calls the function that was replaced.
    ///
    /// # Errors
    ///
    /// What it says; and where nothing was replaced.
    pub fn call_original(&self, filter: Filter<'_>, brigade: &mut Brigade<'_>) -> Result {
        let original = self.0.load(Ordering::Acquire);
        if original.is_null() {
            return Err(Status::GENERAL);
        }
        // SAFETY: `replace` stored an OutputFunction here, and nothing else does; filter and brigade are live (LIVE).
        unsafe {
            let original: OutputFunction = std::mem::transmute::<*mut (), OutputFunction>(original);
            Status::check(original(filter.raw, brigade.raw()))
        }
    }
}
