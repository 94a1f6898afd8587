//! `ap_filter_t`: a filter's node in a chain of output filters.

use std::any::Any;
use std::cell::Cell;
use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr::NonNull;

use super::extra::Alive;
use super::{Brigade, Connection, OutputFilter, Request, Result, Status};
use crate::sys;

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
        // SAFETY: a live chain (invariant 1) ends in null.
        unsafe { Self::from_raw((*self.raw).next) }
    }

    /// The request whose filter it is; none for a connection's.
    pub fn request(self) -> Option<Request<'f>> {
        // SAFETY: null or the live request (invariant 1) whose chain this is.
        unsafe { Request::from_raw((*self.raw).r) }
    }

    /// The connection whose filter, or whose request's filter, it is.
    pub fn connection(self) -> Connection<'f> {
        // SAFETY: a filter has a connection (invariant 1).
        unsafe { Connection::from_raw((*self.raw).c) }
    }

    pub(super) fn raw(self) -> *mut sys::ap_filter_t {
        self.raw
    }

    /// Returns true if it is an `F`.
    pub fn is<F: OutputFilter>(self) -> bool {
        // SAFETY: the filter is in a live chain (invariant 1).
        unsafe { (*self.raw).frec == F::handle().raw() }
    }

    /// Returns what was stored with it when it was added, if it is an `F`. An administrator may have added it by its name
    /// (`SetOutputFilter`): then nothing was.
    pub fn context<F: OutputFilter>(self) -> Option<&'f F::Context> {
        // SAFETY: the filter is in a live chain (invariant 1). Its context is an `F`'s, or null (invariant 6).
        self.is::<F>().then(|| unsafe { (*self.raw).ctx.cast::<F::Context>().as_ref() }).flatten()
    }

    /// Calls `run` with an empty brigade, which lives as long as the filter, an `F`: the same at each call, as new ones would pile up. What is
    /// left in it is destroyed.
    pub fn with_brigade<F: OutputFilter<Context = Spare>, T>(self, run: impl FnOnce(&mut Brigade<'f>) -> T) -> T {
        let pool = self.request().map_or_else(|| self.connection().pool(), Request::pool);
        let kept = self.context::<F>().and_then(|spare| spare.0.take());
        let mut brigade = match kept {
            // SAFETY: it is in the pool that the context is in, and nobody else has it (invariant 6).
            Some(raw) => unsafe { Brigade::from_raw(raw.as_ptr()) },
            None => Brigade::new(self.connection(), pool),
        };
        let result = run(&mut brigade);
        brigade.clear();
        let spare = Spare(Cell::new(NonNull::new(brigade.raw())));
        match self.context::<F>() {
            Some(Spare(place)) => place.set(spare.0.take()),
            // SAFETY: the filter is in a live chain (invariant 1), of this thread (invariant 2), and has no context (invariant 6). The pool lives
            // as long as the chain.
            None if self.is::<F>() => unsafe { (*self.raw).ctx = pool.own(spare).as_ptr().cast() },
            None => {}
        }
        result
    }

    /// The name it was registered by, in lower case.
    pub fn name(self) -> &'f [u8] {
        // SAFETY: a filter has a registration with a name (invariants 1 and 3).
        unsafe { CStr::from_ptr((*(*self.raw).frec).name) }.to_bytes()
    }

    /// Returns true if it works on the content of a request's response: not on its protocol, nor on a connection.
    pub fn is_content(self) -> bool {
        // SAFETY: a filter has a registration (invariant 1).
        unsafe { (*(*self.raw).frec).ftype < sys::ap_filter_type_AP_FTYPE_PROTOCOL }
    }

    /// Takes it out of its chain. It stays valid, with its way to the next one.
    pub fn remove(self) {
        // SAFETY: the filter is in a live chain (invariant 1).
        unsafe { sys::ap_remove_output_filter(self.raw) }
    }

    /// Calls it with a brigade.
    ///
    /// # Errors
    ///
    /// Those of the filters below: mostly that the client has gone.
    pub fn pass(self, brigade: &mut Brigade<'_>) -> Result {
        // SAFETY: filter and brigade are live (invariant 1).
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

/// A filter's node in a request's chain, for what is kept with that request alone ([`Request::extra`]): both end with its pool.
pub struct Node(*mut sys::ap_filter_t);

impl Node {
    /// The node of this filter, which is a request's.
    pub fn of(filter: Filter<'_>) -> Self {
        Self(filter.raw)
    }

    /// The filter. httpd may have put another chain in the place of its own; it keeps its way to the next one.
    pub fn get(&self) -> Filter<'_> {
        Filter { raw: self.0, life: PhantomData }
    }
}

/// The beginning of the names of the module's own filters, as they stand in a chain. Registering looks at it ([`Hooks`](super::Hooks)).
const OWN: &[u8] = b"finish_request";

/// Returns true if a filter of this name, in lower case, is one of this module's.
pub fn is_ours(name: &[u8]) -> bool {
    name.starts_with(OWN)
}

/// The context of a filter that needs a brigade now and then ([`Filter::with_brigade`]).
pub struct Spare(Cell<Option<NonNull<sys::apr_bucket_brigade>>>);

/// A filter before all others of a connection: what writes to the connection past a request's filters meets it, what a request's
/// filters pass on does not. It is taken out when it is dropped.
pub struct Foremost {
    node: NonNull<sys::ap_filter_t>,
    context: NonNull<dyn Any>,
    /// The connection's.
    alive: Alive,
}

impl Foremost {
    /// Puts an `F` there, with its context.
    pub fn add<F: OutputFilter>(connection: Connection<'_>, context: F::Context) -> Self {
        let context: NonNull<dyn Any> = NonNull::from(Box::leak(Box::new(context)));
        // SAFETY: the connection is live (invariant 1) and of this thread (invariant 2). An all-zero node is one without a request, and this
        // one is freed by drop, which takes it out. The context stays where it is as long as the node is there.
        unsafe {
            let mut node: sys::ap_filter_t = std::mem::zeroed();
            node.frec = F::handle().raw();
            node.ctx = context.as_ptr().cast();
            node.c = connection.raw();
            node.next = (*connection.raw()).output_filters;
            let node = NonNull::from(Box::leak(Box::new(node)));
            (*connection.raw()).output_filters = node.as_ptr();
            Self { node, context, alive: Alive::of_connection(connection) }
        }
    }

    /// Takes it out, if it is still there. Its node keeps the way to the next one, for who is in it.
    pub fn remove(&self) {
        if self.alive.get() {
            // SAFETY: node and connection are live (invariant 8); a node that is not in the chain is not found (ap_remove_output_filter).
            unsafe { sys::ap_remove_output_filter(self.node.as_ptr()) }
        }
    }
}

impl Drop for Foremost {
    fn drop(&mut self) {
        self.remove();
        // SAFETY: both came from Box::leak, and nobody finds them any more (invariant 6).
        drop(unsafe { (Box::from_raw(self.node.as_ptr()), Box::from_raw(self.context.as_ptr())) });
    }
}
