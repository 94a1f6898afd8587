//! `conn_rec`.

use std::marker::PhantomData;
use std::os::fd::{BorrowedFd, RawFd};

use super::{Brigade, Filter, Result, Status};
use crate::sys;

/// A client's connection, or that of an HTTP/2 stream.
#[derive(Clone, Copy)]
pub struct Connection<'c> {
    raw: *mut sys::conn_rec,
    life: PhantomData<&'c sys::conn_rec>,
}

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

    /// Whether it is a stream of another connection: mod_http2's.
    pub fn is_stream(self) -> bool {
        // SAFETY: reads a field of a live connection (LIVE).
        unsafe { !(*self.raw).master.is_null() }
    }

    /// Has httpd close it when the request has ended. Too early before the header: httpd would not chunk the body.
    pub fn close_after_response(self) {
        // SAFETY: writes a field of a live connection (LIVE) of this thread (ONE THREAD).
        unsafe { (*self.raw).keepalive = sys::ap_conn_keepalive_e_AP_CONN_CLOSE };
    }

    /// A copy of the record, in the connection's pool, that does not say that the client has gone, and never will.
    pub(super) fn unaborted(self) -> *mut sys::conn_rec {
        // An httpd newer than the headers may have added fields to the record's end: there they are zero.
        const ROOM: usize = 256;
        // SAFETY: the connection is live (LIVE), with its pool; the new memory is large enough. Another thread may set
        // `aborted` meanwhile: the bytes are copied without looking at them, and that field is then overwritten.
        unsafe {
            let size = size_of::<sys::conn_rec>() + ROOM;
            let copy: *mut sys::conn_rec = sys::apr_palloc((*self.raw).pool, size).cast();
            copy.cast::<u8>().write_bytes(0, size);
            std::ptr::copy_nonoverlapping(self.raw.cast_const(), copy, 1);
            (*copy).aborted = 0;
            copy
        }
    }

    /// An empty brigade for this connection.
    pub fn brigade(self) -> Brigade<'c> {
        Brigade::new(self)
    }

    /// Has the connection's own filters, behind the request's, send what they hold.
    ///
    /// # Errors
    ///
    /// What they say: mostly that the client has gone.
    pub fn flush(self) -> Result {
        let mut flush = self.brigade();
        flush.push_flush();
        // SAFETY: the connection is live (LIVE), with its chain of filters.
        let first = unsafe { Filter::from_raw((*self.raw).output_filters) };
        first.ok_or(Status::GENERAL)?.pass(&mut flush)
    }

    /// Tells the connection's filters that nothing follows (`ap_shutdown_conn`): mod_ssl sends its close_notify.
    ///
    /// # Errors
    ///
    /// As [`Connection::flush`].
    pub fn end_output(self) -> Result {
        // SAFETY: the connection is live (LIVE).
        Status::check(unsafe { sys::ap_shutdown_conn(self.raw, 1) })
    }

    /// The client's socket; none the connection has none: a stream, or one that a module took away.
    pub fn socket(self) -> Option<BorrowedFd<'c>> {
        // SAFETY: the connection is live (LIVE), so its socket is open, and stays so until httpd closes it.
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
