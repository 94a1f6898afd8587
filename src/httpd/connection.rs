//! `conn_rec`: a client's connection, or the stream of an HTTP/2 one.

use std::ffi::c_void;
use std::marker::PhantomData;
use std::mem::offset_of;
use std::os::fd::{BorrowedFd, RawFd};
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::time::Duration;

use super::extra::Alive;
use super::{Brigade, Configured, Filter, OutputFilter, Pool, Result, Status, retrieve_optional};
use crate::sys;

/// mod_logio's `ap_logio_add_bytes_out`, where that module is loaded.
static ADD_BYTES_OUT: AtomicPtr<c_void> = AtomicPtr::new(std::ptr::null_mut());

impl Configured<'_> {
    /// Looks for the module that counts the bytes of connections.
    pub fn find_byte_counter(&self) {
        ADD_BYTES_OUT.store(retrieve_optional(c"ap_logio_add_bytes_out"), Ordering::Release);
    }
}

/// A client's connection, or that of an HTTP/2 stream.
#[derive(Clone, Copy)]
pub struct Connection<'c> {
    raw: *mut sys::conn_rec,
    life: PhantomData<&'c sys::conn_rec>,
}

/// Where a connection's output begins: the first of its own filters. For as long as the connection lives.
pub struct OutputHead(*mut sys::ap_filter_t);

// SAFETY: an address, which is followed for a connection that the calling thread works on (invariant 2).
unsafe impl Send for OutputHead {}
// SAFETY: as for Send.
unsafe impl Sync for OutputHead {}

impl<'c> Connection<'c> {
    /// # Safety
    ///
    /// `raw` is a connection that lives for `'c`, and this thread works on it.
    pub unsafe fn from_raw(raw: *mut sys::conn_rec) -> Self {
        Self { raw, life: PhantomData }
    }

    /// The pointer, for httpd's functions.
    pub fn raw(self) -> *mut sys::conn_rec {
        self.raw
    }

    /// Returns true if it is a stream of another connection: mod_http2's.
    pub fn is_stream(self) -> bool {
        // SAFETY: reads a field of a live connection (invariant 1).
        unsafe { !(*self.raw).master.is_null() }
    }

    /// Returns true if httpd has told the client that the connection lives on after the response (`ap_set_keepalive`).
    pub fn is_kept_alive(self) -> bool {
        // SAFETY: reads a field of a live connection (invariant 1).
        unsafe { (*self.raw).keepalive == sys::ap_conn_keepalive_e_AP_CONN_KEEPALIVE }
    }

    /// True if httpd has told the client that the connection ends with the response.
    pub fn is_closing(self) -> bool {
        // SAFETY: reads a field of a live connection (invariant 1).
        unsafe { (*self.raw).keepalive == sys::ap_conn_keepalive_e_AP_CONN_CLOSE }
    }

    /// Returns true if its filters hold bytes of an earlier response.
    pub fn holds_output(self) -> bool {
        // SAFETY: reads a field of a live connection (invariant 1).
        unsafe { (*self.raw).data_in_output_filters != 0 }
    }

    /// Returns true if an `F` is among its output filters.
    pub fn has_output_filter<F: OutputFilter>(self) -> bool {
        // SAFETY: the connection is live (invariant 1), with its chain of filters.
        let first = unsafe { Filter::from_raw((*self.raw).output_filters) };
        std::iter::successors(first, |filter| filter.next()).any(Filter::is::<F>)
    }

    /// The `O` among its output filters that has a context, made now if there is none: one for all its requests, since its memory stays with the
    /// connection.
    pub fn add_output_filter<O: OutputFilter>(self, context: impl FnOnce() -> O::Context) -> Filter<'c> {
        // SAFETY: the connection is live (invariant 1), with its chain of filters and its pool.
        unsafe {
            let first = Filter::from_raw((*self.raw).output_filters);
            let mut chain = std::iter::successors(first, |filter| filter.next());
            chain.find(|filter| filter.context::<O>().is_some()).unwrap_or_else(|| {
                let context = self.pool().own(context()).as_ptr().cast();
                let none = std::ptr::null_mut();
                let added = sys::ap_add_output_filter_handle(O::handle().raw(), context, none, self.raw);
                Filter::from_raw(added).unwrap_unchecked()
            })
        }
    }

    /// Where its output begins.
    pub(super) fn output_head(self) -> OutputHead {
        // SAFETY: the connection is live (invariant 1).
        OutputHead(unsafe { (*self.raw).output_filters })
    }

    /// Has its output begin again where it did, at filters of its own: writes this there.
    ///
    /// # Errors
    ///
    /// What the filters say.
    pub fn pass_from(self, head: &OutputHead, brigade: &mut Brigade<'_>) -> Result {
        // SAFETY: the filters of a connection are in its pool, and live as long as it (invariant 1), as long as whoever kept the head.
        unsafe {
            (*self.raw).output_filters = head.0;
            Status::check(sys::ap_pass_brigade(head.0, brigade.raw()))
        }
    }

    /// The names of the connection's own filters, in lower case: those of its input, then those of its output.
    pub fn filters(self) -> impl Iterator<Item = &'c [u8]> {
        // SAFETY: the connection is live (invariant 1), with its two chains.
        let first = unsafe { [(*self.raw).input_filters, (*self.raw).output_filters] };
        first.into_iter().flat_map(|first| {
            // SAFETY: null, or the first of a live chain (invariant 1).
            let first = unsafe { Filter::from_raw(first) };
            std::iter::successors(first, |filter| filter.next()).map(Filter::name)
        })
    }

    /// Returns how many requests it has been kept alive for, this one included where it was.
    pub fn keepalives(self) -> i32 {
        // SAFETY: reads a field of a live connection (invariant 1).
        unsafe { (*self.raw).keepalives }
    }

    /// Sets that number.
    pub fn set_keepalives(self, keepalives: i32) {
        // SAFETY: writes a field of a live connection (invariant 1) of this thread (invariant 2).
        unsafe { (*self.raw).keepalives = keepalives };
    }

    /// Reads what httpd's own filter, the last one, has of its input, without waiting: past mod_reqtimeout, whose time may
    /// be up, and past mod_logio, which counts what belongs to the request.
    ///
    /// # Errors
    ///
    /// The filter's; it has no more then.
    pub fn read_input(self, to: &mut Brigade<'_>, most: i64) -> Result {
        self.input(to, sys::ap_input_mode_t_AP_MODE_READBYTES, most)
    }

    /// Looks at what [`Connection::read_input`] would read, which stays there.
    ///
    /// # Errors
    ///
    /// As [`Connection::read_input`].
    pub fn peek_input(self, to: &mut Brigade<'_>, most: i64) -> Result {
        self.input(to, sys::ap_input_mode_t_AP_MODE_SPECULATIVE, most)
    }

    fn input(self, to: &mut Brigade<'_>, mode: sys::ap_input_mode_t, most: i64) -> Result {
        let block = sys::apr_read_type_e_APR_NONBLOCK_READ;
        // SAFETY: the connection, its chain of filters, which ends in null, and the brigade are live (invariant 1).
        Status::check(unsafe {
            let mut last = (*self.raw).input_filters;
            while let Some(filter) = last.as_ref()
                && !filter.next.is_null()
            {
                last = filter.next;
            }
            sys::ap_get_brigade(last, to.raw(), mode, block, most)
        })
    }

    /// Puts its MPM into the state that follows a response: it waits for the client's next request, without holding a
    /// thread. For an MPM that is [`is_async`](super::is_async); to be called from `process_connection`.
    pub fn wait_for_request(self) {
        // SAFETY: the connection is live (invariant 1); an MPM that has no such state gives null.
        unsafe {
            (*self.raw).keepalive = sys::ap_conn_keepalive_e_AP_CONN_KEEPALIVE;
            if let Some(state) = (*self.raw).cs.as_mut() {
                state.state = sys::conn_state_e_CONN_STATE_WRITE_COMPLETION;
            }
        }
    }

    /// Has its MPM close it, once `process_connection` has returned.
    pub fn linger(self) {
        // SAFETY: the connection is live (invariant 1); an MPM that has no such state gives null.
        unsafe {
            if let Some(state) = (*self.raw).cs.as_mut() {
                state.state = sys::conn_state_e_CONN_STATE_LINGER;
            }
        }
    }

    /// Has the scoreboard say that it waits for the client's next request.
    pub fn show_waiting(self) {
        // SAFETY: the connection is live (invariant 1), with its place in the scoreboard.
        unsafe {
            sys::ap_update_child_status((*self.raw).sbh.cast(), sys::SERVER_BUSY_KEEPALIVE, std::ptr::null_mut());
        }
    }

    /// Returns how long the client may make no progress (`Timeout`); none without limit.
    pub fn timeout(self) -> Option<Duration> {
        let mut timeout = -1;
        // SAFETY: the connection is live (invariant 1), with its socket, if it has one.
        unsafe {
            let socket = sys::ap_get_conn_socket(self.raw);
            if !socket.is_null() {
                sys::apr_socket_timeout_get(socket, &raw mut timeout);
            }
        }
        u64::try_from(timeout).ok().map(Duration::from_micros)
    }

    /// Does something that reads from the client, without waiting for it: where a filter waits though it was asked not to, it
    /// is told that the time is up.
    pub fn without_waiting<T>(self, read: impl FnOnce() -> T) -> T {
        // SAFETY: the connection is live (invariant 1), with its socket, if it has one, of this thread (invariant 2).
        unsafe {
            let socket = sys::ap_get_conn_socket(self.raw);
            let mut timeout = 0;
            if socket.is_null() || sys::apr_socket_timeout_get(socket, &raw mut timeout) != 0 {
                return read();
            }
            sys::apr_socket_timeout_set(socket, 0);
            let result = read();
            sys::apr_socket_timeout_set(socket, timeout);
            result
        }
    }

    /// Has mod_logio count bytes that are sent past httpd's own filter; less than zero takes bytes back.
    pub fn count_sent(self, bytes: i64) {
        let count = ADD_BYTES_OUT.load(Ordering::Acquire);
        if !count.is_null() {
            // SAFETY: registered by mod_logio under this name, with this type (mod_logio.h); the connection is live (invariant 1).
            unsafe {
                let count: unsafe extern "C" fn(*mut sys::conn_rec, sys::apr_off_t) = std::mem::transmute(count);
                count(self.raw, bytes);
            }
        }
    }

    /// Has httpd close it when the request has ended. Too early before the header: httpd would not chunk the body.
    pub fn close_after_response(self) {
        // SAFETY: writes a field of a live connection (invariant 1) of this thread (invariant 2).
        unsafe { (*self.raw).keepalive = sys::ap_conn_keepalive_e_AP_CONN_CLOSE };
    }

    /// Has httpd decide anew whether the connection lives on, with the next header (`ap_set_keepalive`).
    pub fn decide_anew(self) {
        // SAFETY: as for close_after_response.
        unsafe { (*self.raw).keepalive = sys::ap_conn_keepalive_e_AP_CONN_UNKNOWN };
    }

    /// Has httpd go on with it when the request has ended.
    pub fn keep_after_response(self) {
        // SAFETY: as for close_after_response.
        unsafe { (*self.raw).keepalive = sys::ap_conn_keepalive_e_AP_CONN_KEEPALIVE };
    }

    /// Returns true if it is known that the client has gone.
    pub fn is_aborted(self) -> bool {
        self.aborted().load(Ordering::Relaxed) != 0
    }

    /// Says that the client has gone: nothing more is written, and the connection ends with the request.
    pub fn abort(self) {
        self.set_aborted(true);
    }

    /// Says whether it has.
    pub fn set_aborted(self, aborted: bool) {
        self.aborted().store(aborted.into(), Ordering::Relaxed);
    }

    /// The field that mod_http2's thread writes to as well.
    fn aborted(self) -> &'c AtomicU32 {
        // SAFETY: an aligned field of a live connection (invariant 1); the module reads and writes it in this way alone.
        unsafe { AtomicU32::from_ptr(&raw mut (*self.raw).aborted) }
    }

    /// The pool that lives as long as the connection.
    pub fn pool(self) -> Pool<'c> {
        // SAFETY: a live connection has a pool (invariant 1).
        unsafe { Pool::from_raw((*self.raw).pool).unwrap_unchecked() }
    }

    /// A copy of the record, in the connection's pool, that does not say that the client has gone, and never will.
    pub fn unaborted(self) -> Self {
        // An httpd newer than the headers may have added fields to the record's end: there they are zero.
        const ROOM: usize = 256;
        // SAFETY: the connection is live (invariant 1), with its pool; the new memory is large enough.
        let copy = unsafe {
            let size = size_of::<sys::conn_rec>() + ROOM;
            let copy: *mut sys::conn_rec = sys::apr_palloc((*self.raw).pool, size).cast();
            copy.cast::<u8>().write_bytes(0, size);
            Self::from_raw(copy)
        };
        self.copy_to(copy);
        copy
    }

    /// Makes such a copy what it would be if it were made now.
    pub fn copy_to(self, copy: Self) {
        const BEFORE: usize = offset_of!(sys::conn_rec, aborted);
        const AFTER: usize = BEFORE + size_of::<AtomicU32>();
        let (from, to) = (self.raw.cast_const().cast::<u8>(), copy.raw.cast::<u8>());
        // SAFETY: both are live (invariant 1), and two. What another thread may set meanwhile, `aborted`, is left out.
        unsafe {
            std::ptr::copy(from, to, BEFORE);
            std::ptr::copy(from.add(AFTER), to.add(AFTER), size_of::<sys::conn_rec>() - AFTER);
        }
        copy.aborted().store(0, Ordering::Relaxed);
    }

    /// An empty brigade for this connection. Its memory stays with the connection.
    pub fn brigade(self) -> Brigade<'c> {
        Brigade::new(self, self.pool())
    }

    /// Has the connection's own filters, behind the request's, send what they hold; `pool` is that of a request.
    ///
    /// # Errors
    ///
    /// Those of the filters: mostly that the client has gone.
    pub fn flush(self, pool: Pool<'_>) -> Result {
        let mut flush = Brigade::new(self, pool);
        flush.push_flush();
        // SAFETY: the connection is live (invariant 1), with its chain of filters.
        let first = unsafe { Filter::from_raw((*self.raw).output_filters) };
        first.ok_or(Status::GENERAL)?.pass(&mut flush)
    }

    /// Tells the connection's filters that nothing follows (`ap_shutdown_conn`): mod_ssl sends its close_notify.
    ///
    /// # Errors
    ///
    /// As [`Connection::flush`].
    pub fn end_output(self) -> Result {
        // SAFETY: the connection is live (invariant 1).
        Status::check(unsafe { sys::ap_shutdown_conn(self.raw, 1) })
    }

    /// The client's socket; none the connection has none: a stream, or one that a module took away.
    pub fn socket(self) -> Option<BorrowedFd<'c>> {
        // SAFETY: the connection is live (invariant 1), so its socket is open, and stays so until httpd closes it.
        unsafe {
            let socket = sys::ap_get_conn_socket(self.raw);
            let mut fd: RawFd = -1;
            if socket.is_null() || sys::apr_os_sock_get(&raw mut fd, socket) != 0 || fd < 0 {
                return None;
            }
            Some(BorrowedFd::borrow_raw(fd))
        }
    }
}

/// The record of the client's connection, for what is kept with a request alone ([`Request::extra`](super::Request::extra)): a connection outlives
/// its requests.
pub struct Client(*mut sys::conn_rec);

impl Client {
    /// The one that the request names now.
    pub fn of(request: super::Request<'_>) -> Self {
        Self(request.connection().raw)
    }

    /// The connection.
    #[inline]
    pub fn get(&self) -> Connection<'_> {
        // SAFETY: this is kept with a live request (invariant 7), and so the connection is live (invariant 1).
        unsafe { Connection::from_raw(self.0) }
    }
}

/// A connection's record, for what lives beyond a call into the module.
///
/// To be kept where a request, or a filter of the connection, is kept: these end before the connection.
pub struct Record {
    raw: AtomicPtr<sys::conn_rec>,
    alive: Alive,
}

impl Record {
    /// Keeps the record.
    pub fn of(connection: Connection<'_>) -> Self {
        Self { raw: AtomicPtr::new(connection.raw), alive: Alive::of_connection(connection) }
    }

    /// The connection, which may be used in a call that is about it or its request.
    pub fn get(&self) -> Connection<'_> {
        assert!(self.alive.get(), "a connection's record is used after its end");
        // SAFETY: the connection lives (invariant 8).
        unsafe { Connection::from_raw(self.raw.load(Ordering::Relaxed)) }
    }
}
