//! `request_rec`: a request, its headers, its environment. Its filters: chains.rs.

use std::ffi::{CStr, c_char};
use std::marker::PhantomData;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::extra::Alive;
use super::{Brigade, Connection, Pool, Result, Server, Status, Table};
use crate::sys::{self, HTTP_OK};

/// A request that httpd is working on.
#[derive(Clone, Copy)]
pub struct Request<'r> {
    raw: NonNull<sys::request_rec>,
    life: PhantomData<&'r sys::request_rec>,
}

impl<'r> Request<'r> {
    /// # Safety
    ///
    /// `raw` is null or a request that lives for `'r`, and this thread works on it.
    pub unsafe fn from_raw(raw: *mut sys::request_rec) -> Option<Self> {
        Some(Self { raw: NonNull::new(raw)?, life: PhantomData })
    }

    /// The pointer, for httpd's functions.
    pub fn raw(self) -> *mut sys::request_rec {
        self.raw.as_ptr()
    }

    /// The connection it came by: for HTTP/2 that of the stream.
    pub fn connection(self) -> Connection<'r> {
        // SAFETY: a live request has a connection that outlives it (invariant 1).
        unsafe { Connection::from_raw((*self.raw()).connection) }
    }

    /// The pool that lives as long as the request.
    pub fn pool(self) -> Pool<'r> {
        // SAFETY: a live request has a pool (invariant 1).
        unsafe { Pool::from_raw((*self.raw()).pool).unwrap_unchecked() }
    }

    /// An empty brigade for its connection, that ends with the request.
    pub fn brigade(self) -> Brigade<'r> {
        Brigade::new(self.connection(), self.pool())
    }

    /// Response headers that are dropped when the response becomes an error page.
    pub fn headers_out(self) -> Table<'r> {
        // SAFETY: a live request has its tables (invariant 1), and this thread works on it (invariant 2).
        unsafe { Table::from_raw((*self.raw()).headers_out) }
    }

    /// Response headers that stay even on an error page; CGI-like handlers put the application's own ones here.
    pub fn err_headers_out(self) -> Table<'r> {
        // SAFETY: as for headers_out.
        unsafe { Table::from_raw((*self.raw()).err_headers_out) }
    }

    /// Both, in the order in which httpd merges them (`ap_http_header_filter`).
    pub fn response_headers(self) -> [Table<'r>; 2] {
        [self.err_headers_out(), self.headers_out()]
    }

    /// The environment that modules and scripts share.
    pub fn subprocess_env(self) -> Table<'r> {
        // SAFETY: as for headers_out.
        unsafe { Table::from_raw((*self.raw()).subprocess_env) }
    }

    /// The notes by which modules tell one another, and the access log, about the request.
    pub fn notes(self) -> Table<'r> {
        // SAFETY: as for headers_out.
        unsafe { Table::from_raw((*self.raw()).notes) }
    }

    /// The request that this one is an internal redirect of.
    pub fn prev(self) -> Option<Self> {
        // SAFETY: `prev` is null or a request that outlives the one that it was redirected to (invariant 1).
        unsafe { Self::from_raw((*self.raw()).prev) }
    }

    /// True if it is neither an internal redirect of another, nor has been redirected itself.
    pub fn is_single(self) -> bool {
        // SAFETY: reads two fields of a live request (invariant 1).
        unsafe { (*self.raw()).prev.is_null() && (*self.raw()).next.is_null() }
    }

    /// The request as it came from the client: this one, before all internal redirects.
    pub fn first(self) -> Self {
        std::iter::successors(Some(self), |request| request.prev()).last().unwrap_or(self)
    }

    /// The request that this one was redirected to in the end: itself, without internal redirects.
    pub fn last(self) -> Self {
        // SAFETY: `next` is null or a request that lives as long as the one that was redirected to it (invariant 1).
        let next = |request: &Self| unsafe { Self::from_raw((*request.raw()).next) };
        std::iter::successors(Some(self), next).last().unwrap_or(self)
    }

    /// Has all modules log the request, as httpd does at its end.
    pub fn run_log_transaction(self) {
        // SAFETY: the request is live (invariant 1). What the hooks say does not matter to httpd either.
        unsafe { sys::ap_run_log_transaction(self.raw()) };
    }

    /// Returns how many bytes of body have been sent, as the client gets them: behind the filters of the content.
    pub fn bytes_sent(self) -> i64 {
        // SAFETY: reads a field of a live request (invariant 1).
        unsafe { (*self.raw()).bytes_sent }
    }

    /// Takes so many bytes off that number: they come again.
    pub fn uncount(self, bytes: u64) {
        // SAFETY: writes to a live request (invariant 1) of this thread (invariant 2).
        unsafe { (*self.raw()).bytes_sent -= i64::try_from(bytes).unwrap_or(0) };
    }

    /// True if suEXEC runs a CGI program for it, which lets only some variables through.
    pub fn has_suexec(self) -> bool {
        // SAFETY: reads a number that is set while there is one thread (invariant 5); the hook gets a live request (invariant 1).
        unsafe { sys::ap_unixd_config.suexec_enabled != 0 && !sys::ap_run_get_suexec_identity(self.raw()).is_null() }
    }

    /// Returns true if it is a subrequest: part of another's response.
    pub fn is_subrequest(self) -> bool {
        // SAFETY: reads a field of a live request (invariant 1).
        unsafe { !(*self.raw()).main.is_null() }
    }

    /// The request that this subrequest is part of.
    pub fn main(self) -> Option<Self> {
        // SAFETY: `main` is null or a request that outlives its subrequests, and is worked on by the same thread (invariant 1).
        unsafe { Self::from_raw((*self.raw()).main) }
    }

    /// Headers of the request.
    pub fn headers_in(self) -> Table<'r> {
        // SAFETY: as for headers_out.
        unsafe { Table::from_raw((*self.raw()).headers_in) }
    }

    /// Returns true if the request says that it has a body.
    pub fn has_body(self) -> bool {
        let headers = self.headers_in();
        self.has_transfer_coding()
            || headers.get(c"Content-Length").is_some_and(|length| length.iter().any(|byte| *byte != b'0'))
    }

    /// Returns true if that is in a transfer coding: in chunks, mostly.
    pub fn has_transfer_coding(self) -> bool {
        self.headers_in().get(c"Transfer-Encoding").is_some()
    }

    /// Returns true if the client asks for another protocol on its connection: a tunnel, by `CONNECT` or for WebSocket; or HTTP/2, which httpd
    /// takes up in a hook for handlers (`core_upgrade_handler`).
    pub fn asks_for_tunnel(self) -> bool {
        // SAFETY: as for is_subrequest.
        let connect = unsafe { (*self.raw()).method_number } == sys::M_CONNECT;
        // HTTP/2 without TLS is an offer of the client's that nobody takes up but mod_http2, where that offers it.
        let is_taken_up = |protocol: &[u8]| {
            let offers = || self.offered_protocols().unwrap_or_default();
            !protocol.eq_ignore_ascii_case(b"h2c") || offers().split(|byte| *byte == b',').any(|offer| offer == b"h2c")
        };
        connect || self.headers_in().get(c"Upgrade").is_some_and(is_taken_up)
    }

    /// True if what follows the header is no response's body: another protocol, or a tunnel.
    pub fn switches_protocol(self) -> bool {
        // SAFETY: as for is_subrequest.
        let connect = unsafe { (*self.raw()).method_number } == sys::M_CONNECT;
        connect || (100..200).contains(&self.status())
    }

    /// The protocols that httpd offers on this connection besides the one it speaks, as its `Upgrade` header has them
    /// (`core_upgrade_handler`); none where it offers none.
    pub fn offered_protocols(self) -> Option<Vec<u8>> {
        let mut offers: *const sys::apr_array_header_t = std::ptr::null();
        // SAFETY: the request, its connection and its server are live (invariant 1). The array is null, or has so many strings (invariant 3) in
        // the request's pool.
        let names: Vec<&[u8]> = unsafe {
            let none = std::ptr::null_mut();
            let connection = self.connection().raw();
            sys::ap_get_protocol_upgrades(connection, self.raw(), none, 0, &raw mut offers);
            let offers = offers.as_ref()?;
            let count = usize::try_from(offers.nelts).unwrap_or(0);
            (0..count).filter_map(|at| string(*offers.elts.cast::<*const c_char>().add(at))).collect()
        };
        (!names.is_empty()).then(|| names.join(&b','))
    }

    /// Returns true if the client waits for `100 Continue` before it sends the body, and has not got it.
    pub fn expects_continue(self) -> bool {
        // SAFETY: as for is_subrequest.
        unsafe { (*self.raw()).expecting_100 != 0 }
    }

    /// Returns how long its connection may wait for the next request, in microseconds (`KeepAliveTimeout`), as
    /// `ap_process_http_sync_connection` has it.
    pub fn keep_alive_timeout(self) -> i64 {
        // SAFETY: a live request has a server, its connection the one of its address (invariant 1).
        unsafe {
            let server = (*self.raw()).server;
            let set = (*server).keep_alive_timeout_set() != 0;
            if set {
                (*server).keep_alive_timeout
            } else {
                (*(*self.connection().raw()).base_server).keep_alive_timeout
            }
        }
    }

    /// True if httpd is going to close the connection after this response, whatever that is: the client's protocol says so, or its
    /// `Connection`, or this server. Of several reasons (`ap_set_keepalive`) one may yet come later.
    pub fn is_last(self) -> bool {
        let connection = self.connection();
        let says = |option: &[u8]| {
            let values = self.headers_in().get(c"Connection").unwrap_or_default();
            values.split(|byte| *byte == b',').any(|value| value.trim_ascii().eq_ignore_ascii_case(option))
        };
        // SAFETY: a live request has a server (invariant 1).
        let (keeps, most, protocol) = unsafe {
            let server = (*self.raw()).server;
            let keeps = (*server).keep_alive != 0 && (*server).keep_alive_timeout > 0;
            (keeps, (*server).keep_alive_max, (*self.raw()).proto_num)
        };
        let old = protocol < HTTP_1_1 && !says(b"keep-alive");
        connection.is_closing() || !keeps || (most > 0 && connection.keepalives() >= most) || old || says(b"close")
    }

    /// True if that other request has been redirected to this one.
    pub fn comes_from(self, other: Request<'_>) -> bool {
        std::iter::successors(self.prev(), |request| request.prev()).any(|request| request.raw() == other.raw())
    }

    /// Of a request with another behind it: true if that is an error document's. What is redirected to begins with the status of what led there
    /// (`internal_internal_redirect`): it has not failed as long as it has that.
    pub fn has_failed(self) -> bool {
        let status = self.status();
        status != HTTP_OK && self.prev().is_none_or(|before| before.status() == HTTP_OK || before.status() != status)
    }

    /// The status of the response.
    pub fn status(self) -> i32 {
        // SAFETY: as for is_subrequest.
        unsafe { (*self.raw()).status }
    }

    /// Returns true if the response has headers only: the request is a HEAD, or the status is 204 or 304
    /// (`AP_STATUS_IS_HEADER_ONLY`).
    pub fn is_header_only(self) -> bool {
        // SAFETY: as for is_subrequest.
        let head = unsafe { (*self.raw()).header_only != 0 };
        head || matches!(self.status(), sys::HTTP_NO_CONTENT | sys::HTTP_NOT_MODIFIED)
    }

    /// Microseconds from when the request came until `time`, microseconds of Unix time (`%D`).
    pub fn us_until(self, time: i64) -> i64 {
        // SAFETY: reads a field of a live request (invariant 1).
        unsafe { time - (*self.raw()).request_time }
    }

    /// The first line of the request, as the client sent it.
    pub fn request_line(self) -> &'r [u8] {
        // SAFETY: as for handler.
        unsafe { string((*self.raw()).the_request) }.unwrap_or_default()
    }

    /// `ServerName` of its virtual host.
    pub fn server_name(self) -> &'r [u8] {
        // SAFETY: a live request has a server (invariant 1).
        unsafe { Server::from_raw((*self.raw()).server) }.map_or(&[], Server::name)
    }

    /// The virtual host that it is for, with the port that it came by: as mod_status shows it.
    pub fn virtual_host(self) -> Vec<u8> {
        // SAFETY: a live request has a connection with an address (invariant 1).
        let port = unsafe { (*self.connection().raw()).local_addr.as_ref().map(|address| address.port) };
        let mut host = self.server_name().to_vec();
        if let Some(port) = port {
            host.extend_from_slice(format!(":{port}").as_bytes());
        }
        host
    }

    /// Writes to the response, for a module that is part of a handler.
    ///
    /// # Errors
    ///
    /// The client has gone.
    pub fn write(self, text: &str) -> Result {
        let length = std::ffi::c_int::try_from(text.len()).map_err(|_| Status::INVALID)?;
        // SAFETY: the request is live (invariant 1); so many bytes are there, and are copied or sent.
        if unsafe { sys::ap_rwrite(text.as_ptr().cast(), length, self.raw()) } < 0 {
            return Err(Status::GENERAL);
        }
        Ok(())
    }

    /// The handler's name, where one is set.
    pub fn handler(self) -> Option<&'r [u8]> {
        // SAFETY: null or a string of the request's (invariant 3).
        unsafe { string((*self.raw()).handler) }
    }

    /// The media type of the response, or the pseudo type that names a handler.
    pub fn content_type(self) -> Option<&'r [u8]> {
        // SAFETY: as for handler.
        unsafe { string((*self.raw()).content_type) }
    }

    /// The path of the request's URL.
    pub fn uri(self) -> Option<&'r [u8]> {
        // SAFETY: as for handler.
        unsafe { string((*self.raw()).uri) }
    }

    /// The path that the client asked for, before all internal redirects: bytes that it chose.
    pub fn path(self) -> &'r [u8] {
        self.first().uri().unwrap_or_default()
    }

    /// True if its path leads to a file, and not to a folder or to nothing.
    pub fn is_for_file(self) -> bool {
        // SAFETY: as for is_subrequest.
        unsafe { (*self.raw()).finfo.filetype == sys::apr_filetype_e_APR_REG }
    }

    /// The file, or for mod_proxy `proxy:` and the backend's URL.
    pub fn filename(self) -> Option<&'r [u8]> {
        // SAFETY: as for handler.
        unsafe { string((*self.raw()).filename) }
    }

    /// True if it has one, which httpd looks for after quick handlers were asked.
    pub fn has_filename(self) -> bool {
        // SAFETY: as for is_subrequest.
        unsafe { !(*self.raw()).filename.is_null() }
    }

    /// True if that starts so.
    pub fn filename_starts_with(self, prefix: &[u8]) -> bool {
        // SAFETY: null, or a string of the request's (invariant 3), of which nothing is read behind its NUL: it differs there.
        unsafe {
            let name = (*self.raw()).filename;
            !name.is_null() && prefix.iter().enumerate().all(|(at, byte)| *name.add(at) as u8 == *byte)
        }
    }

    /// Has the client told this many body bytes, in place of any other `Content-Length`.
    pub fn set_content_length(self, length: i64) {
        self.err_headers_out().unset(c"Content-Length");
        // SAFETY: writes to a live request (invariant 1) of this thread (invariant 2).
        unsafe { sys::ap_set_content_length(self.raw(), length) }
    }

    /// Has the client told no `Content-Length`.
    pub fn unset_content_length(self) {
        self.unset_header(c"Content-Length");
        // SAFETY: as for set_content_length.
        unsafe { (*self.raw()).clength = 0 };
    }

    /// All values of a header of the response: httpd may have one of its own beside the application's.
    pub fn header_values<'n>(self, name: &'n CStr) -> impl Iterator<Item = &'r [u8]> + use<'r, 'n> {
        self.err_headers_out().values(name).chain(self.headers_out().values(name))
    }

    /// Takes a header out of the response.
    pub fn unset_header(self, name: &CStr) {
        for headers in self.response_headers() {
            headers.unset(name);
        }
    }

    /// Has httpd answer with an error page of this status, as it does for a handler that gives it (`ap_die`). Nothing of another response
    /// may have been sent.
    pub fn answer_with_error(self, status: i32) {
        // SAFETY: the request is live (invariant 1), in its thread (invariant 2).
        unsafe { sys::ap_die(status, self.raw()) }
    }

    /// Has mod_cache throw away what it has stored of the response (`r->no_cache`).
    pub fn forbid_caching(self) {
        // SAFETY: writes to a live request (invariant 1) of this thread (invariant 2).
        unsafe { (*self.raw()).no_cache = 1 };
    }

    /// Has the client told that the connection is closed after the response.
    pub fn announce_close(self) {
        // SAFETY: the tables are live (invariant 1); the strings are constants.
        unsafe { sys::apr_table_mergen((*self.raw()).headers_out, c"Connection".as_ptr(), c"close".as_ptr()) }
    }

    /// The same, of an error page that httpd is about to send.
    pub fn announce_close_of_error(self) {
        // SAFETY: as for announce_close.
        unsafe { sys::apr_table_mergen((*self.raw()).err_headers_out, c"Connection".as_ptr(), c"close".as_ptr()) }
    }

    /// Takes httpd's offer of other protocols out of the response: what is closed cannot change. Another module's, or the
    /// application's, stays.
    pub fn withdraw_offer(self) {
        let headers = self.headers_out();
        if let Some(upgrade) = headers.get(c"Upgrade")
            && self.offered_protocols().is_some_and(|offer| offer == upgrade)
        {
            headers.unset(c"Upgrade");
            if headers.get(c"Connection").is_some_and(|options| options.eq_ignore_ascii_case(b"upgrade")) {
                headers.unset(c"Connection");
            }
        }
    }

    /// Returns true if the end of the response has been passed to its filters.
    pub fn has_ended(self) -> bool {
        // SAFETY: as for is_subrequest.
        unsafe { (*self.raw()).eos_sent != 0 }
    }

    /// Gives this request, and those that were redirected to it, another record of the connection that they came by.
    pub fn set_connection(self, connection: Connection<'_>) {
        let mut request = Some(self);
        while let Some(each) = request {
            // SAFETY: writes to live requests (invariant 1) of this thread (invariant 2); the record lives as long as the connection.
            unsafe { (*each.raw()).connection = connection.raw() };
            request = each.prev();
        }
    }
}

/// A request's record, for what may be asked after a call into the module.
///
/// To be asked where it is known that the request lives.
pub struct RequestRecord {
    raw: AtomicPtr<sys::request_rec>,
    alive: Alive,
}

impl RequestRecord {
    /// Keeps the record.
    pub fn of(request: Request<'_>) -> Self {
        Self { raw: AtomicPtr::new(request.raw()), alive: Alive::of_request(request) }
    }

    /// The request, which may be used in a call that is about it.
    pub fn get(&self) -> Request<'_> {
        assert!(self.alive.get(), "a request's record is used after its end");
        // SAFETY: the request lives (invariant 8); it is never null.
        unsafe { Request { raw: NonNull::new_unchecked(self.raw.load(Ordering::Relaxed)), life: PhantomData } }
    }
}

/// `HTTP_VERSION(1, 1)`.
const HTTP_1_1: i32 = 1001;

/// Microseconds of Unix time.
pub fn now() -> i64 {
    // SAFETY: reads the clock (invariant 11).
    unsafe { sys::apr_time_now() }
}

/// # Safety
///
/// `string` is null, or ends in NUL and lives for `'r`.
unsafe fn string<'r>(string: *const c_char) -> Option<&'r [u8]> {
    // SAFETY: the caller's promise.
    (!string.is_null()).then(|| unsafe { CStr::from_ptr(string) }.to_bytes())
}
