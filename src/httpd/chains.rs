//! A request's chains of filters: what is in them, what is added, and how the request is cut off from its client.

use std::ffi::CStr;

use super::connection::OutputHead;
use super::{Brigade, Connection, Filter, InputFilter, OutputFilter, PutBack, Request, Result, Status};
use crate::sys;

impl<'r> Request<'r> {
    /// Adds an output filter to the request, or to its connection with the request's way through it, where its type belongs.
    pub fn add_output_filter<F: OutputFilter>(self) -> Option<Filter<'r>> {
        // SAFETY: the request and its connection are live (invariant 1); a filter without a context.
        unsafe {
            let (handle, none) = (F::handle().raw(), std::ptr::null_mut());
            Filter::from_raw(sys::ap_add_output_filter_handle(handle, none, self.raw(), self.connection().raw()))
        }
    }

    /// Adds an input filter to the request, without a context, where its type belongs.
    pub fn add_input_filter<F: InputFilter>(self) {
        // SAFETY: the request and its connection are live (invariant 1).
        unsafe {
            let (handle, none) = (F::handle().raw(), std::ptr::null_mut());
            sys::ap_add_input_filter_handle(handle, none, self.raw(), self.connection().raw());
        }
    }

    /// The same of one that only looks at the body, of a type between those that change content and those of the protocol. mod_proxy streams a body
    /// with the length that the client has said where none may change it (`r->input_filters == r->proto_input_filters`, mod_proxy_http.c): it still does.
    /// An internal redirect keeps such a filter, so it may be there already.
    pub fn add_watching_input_filter<F: InputFilter>(self) {
        if self.input_filter(|each| each.frec == F::handle().raw()).is_some() {
            return;
        }
        // SAFETY: the request is live (invariant 1). Where its two chains are one, the filter becomes the head of both.
        unsafe {
            let raw = self.raw();
            let is_unchanged = (*raw).input_filters == (*raw).proto_input_filters;
            self.add_input_filter::<F>();
            if is_unchanged {
                (*raw).proto_input_filters = (*raw).input_filters;
            }
        }
    }

    /// True if filters work on the content of the response: more than httpd's collector of small writes.
    pub fn has_content_filters(self) -> bool {
        // SAFETY: the request is live (invariant 1), with its chain of filters.
        let first = unsafe { Filter::from_raw((*self.raw()).output_filters) };
        let mut filters = std::iter::successors(first, |filter| filter.next());
        filters.any(|filter| filter.is_content() && filter.name() != b"old_write")
    }

    /// True if an output filter of this name, in lower case, is in its chain.
    pub fn has_output_filter(self, name: &[u8]) -> bool {
        // SAFETY: the request is live (invariant 1), with its chain of filters.
        let first = unsafe { Filter::from_raw((*self.raw()).output_filters) };
        std::iter::successors(first, |filter| filter.next()).any(|filter| filter.name() == name)
    }

    fn input_filter(self, is_wanted: impl Fn(&sys::ap_filter_t) -> bool) -> Option<*mut sys::ap_filter_t> {
        // SAFETY: the request is live (invariant 1), with its chain of filters, which ends in null.
        unsafe {
            let mut node = (*self.raw()).input_filters;
            while let Some(each) = node.as_ref() {
                if is_wanted(each) {
                    return Some(node);
                }
                node = each.next;
            }
        }
        None
    }

    /// Passes a flush through all output filters, as `ap_rflush` does: what was collected above goes out with it.
    ///
    /// # Errors
    ///
    /// Those of the filters: mostly that the client has gone.
    pub fn flush(self) -> Result {
        let mut flush = self.brigade();
        flush.push_flush();
        // SAFETY: the request is live (invariant 1), with its chain of filters.
        let first = unsafe { Filter::from_raw((*self.raw()).output_filters) };
        first.ok_or(Status::GENERAL)?.pass(&mut flush)
    }

    /// Has what was read of the body read again, by way of a filter that gives it.
    pub fn put_back<F: InputFilter<Context = PutBack>>(self, mut body: Brigade<'_>) {
        let mut own = self.brigade();
        body.move_all(&mut own);
        let context = self.pool().own(PutBack::new(own)).as_ptr();
        // SAFETY: the request and its connection are live (invariant 1); the context and its brigade are in the request's pool, as the
        // filter is.
        unsafe {
            let handle = F::handle().raw();
            sys::ap_add_input_filter_handle(handle, context.cast(), self.raw(), self.connection().raw());
        }
    }

    /// Returns the bytes that were put back by way of such a filter, as long as that gives it.
    pub fn still_put_back<F: InputFilter<Context = PutBack>>(self) -> Option<&'r PutBack> {
        let node = self.input_filter(|each| each.frec == F::handle().raw())?;
        // SAFETY: a live chain (invariant 1). The filter was added by put_back with a context in the request's pool; or by an administrator,
        // with null.
        unsafe { (*node).ctx.cast::<PutBack>().as_ref() }
    }

    /// httpd's own filter that makes the body of what the connection gives (`HTTP_IN`).
    pub(super) fn body_filter(self) -> Option<*mut sys::ap_filter_t> {
        // SAFETY: a filter has a registration with a name (invariants 1 and 3).
        self.input_filter(|each| unsafe { CStr::from_ptr((*each.frec).name) } == c"http_in")
    }

    /// Returns true if something of the body has been asked for: httpd's filter then has its own idea of where in it the connection is.
    pub fn body_is_begun(self) -> bool {
        // SAFETY: the filter is in a live chain (invariant 1). It keeps nothing before it is read for the first time (`ap_http_filter`).
        self.body_filter().is_none_or(|filter| unsafe { !(*filter).ctx.is_null() })
    }

    /// True if something of it has been read that httpd reads for this request, whatever its header says by now.
    pub fn has_begun_body(self) -> bool {
        // SAFETY: as for body_is_begun.
        self.body_filter().is_some_and(|filter| unsafe { !(*filter).ctx.is_null() })
    }

    /// Detaches this request, those that were redirected to it, and those that it has been redirected to, from their client. Writes go to the filter `O` of the client's connection, which
    /// gets a new context when it is first there: the context is returned.
    /// Reads come from `I`, whose context has no size, behind what was put back by way of `P`, and so do those of a request that it is redirected to. They get `connection`, `client` or a copy of it, as the record that
    /// their handler looks at.
    pub fn detach<O: OutputFilter, I: InputFilter, P: InputFilter>(
        self,
        client: Connection<'r>,
        connection: Connection<'r>,
        context: impl FnOnce() -> O::Context,
    ) -> Option<(&'r O::Context, OutputHead)> {
        let output = client.add_output_filter::<O>(context);
        let head = connection.output_head();
        // Without one it would be somebody else's who put the filter there.
        const { assert!(size_of::<I::Context>() == 0) }
        let present = std::ptr::NonNull::<I::Context>::dangling().as_ptr();
        // SAFETY: both filters are added to live objects (invariant 1); then the heads of the chains, which httpd reads
        // anew at each write and read, name them. The requests of a chain of internal redirects live as long as one another, and httpd may still
        // write an error page to those before this one. The end of the request goes through the chain of its connection.
        unsafe {
            let end = sys::ap_add_input_filter_handle(I::handle().raw(), present.cast(), self.raw(), client.raw());
            // The filter with what was put back stands above it, and is the request's own.
            let first = (*self.raw()).input_filters;
            let input = if (*first).frec == P::handle().raw() { first } else { end };
            let output = output.raw();
            (*connection.raw()).output_filters = output;
            let mut request = Some(self.last());
            while let Some(each) = request {
                (*each.raw()).output_filters = output;
                (*each.raw()).proto_output_filters = output;
                (*each.raw()).input_filters = input;
                (*each.raw()).proto_input_filters = end;
                request = each.prev();
            }
        }
        self.last().set_connection(connection);
        Some((output.context::<O>()?, head))
    }
}
