//! Hooks: where httpd calls the module.
//!
//! Each hook is a trait with one method. Who implements it is named to [`Hooks`] once. httpd gets a function for it, which turns C's
//! arguments into the wrappers, and the answer into C's. A panic ends there: it becomes the answer of a module that has nothing to say, or,
//! while httpd starts, that of one that cannot serve.

use std::ffi::{CStr, c_char, c_int, c_long, c_void};

use super::{Accepted, Brigade, Connection, Pool, Request, Result, Server, Status, guard, with_context};
use crate::sys;

/// The time of `register_hooks`, when hooks and filters can be added.
pub struct Hooks(());

impl Hooks {
    /// # Safety
    ///
    /// To be called from `register_hooks` only.
    pub unsafe fn registering() -> Self {
        Self(())
    }
}

/// For each hook: its trait, and the method of [`Hooks`] that has httpd call an implementor. One that is called for all requests asks first
/// whether it concerns this one. Behind the method stands what C gives, with an
/// underscore where nobody needs it. Then comes httpd's function that adds to the hook, with the place among other modules.
macro_rules! hooks {
    ($(
        $(#[$doc:meta])*
        $trait:ident: $hook:ident $(<$life:lifetime>)? ($($argument:ident: $type:ty),*) -> $answer:ty $(where $concerns:ident($about:ident))?
            = C($($raw:ident: $raw_type:ty),*) by $add:path, $order:ident;
    )*) => {
        $(
            $(#[$doc])*
            pub trait $trait: 'static {
                $(
                    /// False where there is nothing to be done, as for most requests: it is asked outside of the guard, and can not panic.
                    fn $concerns(request: Request<'_>) -> bool;
                )?

                $(#[$doc])*
                fn $hook $(<$life>)? ($($argument: $type),*) -> $answer;
            }
        )*

        impl Hooks {
            $(
                $(#[$doc])*
                pub fn $hook<H: $trait>(&self) {
                    // One hook's arguments share their lifetime.
                    #[allow(clippy::extra_unused_lifetimes)]
                    unsafe extern "C" fn call<$($life,)? H: $trait>($($raw: $raw_type),*) -> <$answer as Answer>::Raw {
                        $(
                            // SAFETY: as below.
                            match unsafe { Request::given($about) } {
                                Some(request) if H::$concerns(request) => {}
                                _ => return <$answer>::OTHERWISE,
                            }
                        )?
                        guard(<$answer>::OTHERWISE, || {
                            $(
                                // SAFETY: httpd calls a hook with what its header says (invariant 9), live during the call (invariant 1), in the thread that
                                // works on it.
                                let Some($argument) = (unsafe { <$type>::given($argument) }) else {
                                    return <$answer>::OTHERWISE;
                                };
                            )*
                            H::$hook($($argument),*).raw()
                        })
                    }
                    let none = std::ptr::null();
                    // SAFETY: httpd keeps the function's address; it stays where it is (invariant 4). No predecessors or successors.
                    unsafe { $add(Some(call::<H>), none, none, sys::$order) }
                }
            )*
        }
    };
}

type RawPool = *mut sys::apr_pool_t;
type RawServer = *mut sys::server_rec;
type RawRequest = *mut sys::request_rec;
type RawConnection = *mut sys::conn_rec;
type RawSocket = *mut sys::apr_socket_t;

hooks! {
    /// The configuration is going to be read. An error is logged, and httpd does not start.
    PreConfig: pre_config() -> std::result::Result<(), String>
        = C(_config: RawPool, _log: RawPool, _temp: RawPool) by sys::ap_hook_pre_config, APR_HOOK_REALLY_FIRST;

    /// The configuration has been read, and the MPM has not opened its listeners yet. An error is logged, and httpd does not start.
    OpenLogs: open_logs(starting: BeforeListening<'_>) -> std::result::Result<(), String>
        = C(_config: RawPool, _log: RawPool, _temp: RawPool, starting: RawServer) by open_logs_before_mpm, APR_HOOK_REALLY_FIRST;

    /// The configuration has been read, by all modules. An error is logged, and httpd does not start.
    PostConfig: post_config(starting: Configured<'_>) -> std::result::Result<(), String>
        = C(_config: RawPool, _log: RawPool, _temp: RawPool, starting: RawServer) by sys::ap_hook_post_config, APR_HOOK_LAST;

    /// In a child process, before it serves requests, in its main thread. The pool lives as long as the child, and so does the server, the main one.
    ChildInit: child_init(pool: Pool<'_>, server: Server<'_>) -> ()
        = C(pool: RawPool, server: RawServer) by sys::ap_hook_child_init, APR_HOOK_LAST;

    /// In the parent, when a child process has begun or ended.
    ChildStatus: child_status(server: Server<'_>, pid: c_int, state: ChildState) -> ()
        = C(server: RawServer, pid: c_int, _generation: c_int, _slot: c_int, state: sys::mpm_child_status)
        by sys::ap_hook_child_status, APR_HOOK_MIDDLE;

    /// In the parent, every now and then (`ap_wait_or_timeout`: every ten seconds, or with every tenth child that ends).
    Monitor: monitor(server: Server<'_>) -> Reply
        = C(_pool: RawPool, server: RawServer) by sys::ap_hook_monitor, APR_HOOK_MIDDLE;

    /// In a child process that is going to exit: gracefully or not.
    ChildStopping: child_stopping(graceful: bool) -> ()
        = C(_pool: RawPool, graceful: c_int) by sys::ap_hook_child_stopping, APR_HOOK_MIDDLE;

    /// The MPM has accepted a socket, and httpd has no record of its connection yet. The pool is the connection's.
    CreateConnection: create_connection<'c>(pool: Pool<'c>, socket: Accepted<'c>) -> ByHttpd
        = C(
            pool: RawPool, _server: RawServer, socket: RawSocket, _id: c_long, _scoreboard: *mut c_void,
            _buckets: *mut sys::apr_bucket_alloc_t
        ) by sys::ap_hook_create_connection, APR_HOOK_REALLY_FIRST;

    /// The record is there, and no other module has seen it. The socket is what the MPM accepted: for an HTTP/2 stream none, or its
    /// connection's.
    PreConnection: pre_connection(connection: Connection<'_>, socket: Option<Accepted<'_>>) -> Reply
        = C(connection: RawConnection, socket: *mut c_void) by sys::ap_hook_pre_connection, APR_HOOK_REALLY_FIRST;

    /// The MPM has a connection worked on, and no protocol has seen it.
    ProcessConnection: process_connection(connection: Connection<'_>) -> Reply
        = C(connection: RawConnection) by sys::ap_hook_process_connection, APR_HOOK_REALLY_FIRST;

    /// A connection is first read from: the brigade gets what it reads.
    InsertNetworkBucket: insert_network_bucket<'c>(
            connection: Connection<'c>, brigade: Brigade<'c>, socket: Accepted<'c>
        ) -> NetworkBucket
        = C(connection: RawConnection, brigade: *mut sys::apr_bucket_brigade, socket: RawSocket)
        by sys::ap_hook_insert_network_bucket, APR_HOOK_MIDDLE;

    /// A request, or a subrequest that is looked up and, with `lookup` 0, run: who answers here is asked before the URL is translated, and
    /// before all access control.
    QuickHandler: quick_handler(request: Request<'_>) -> Reply where concerns(request)
        = C(request: RawRequest, _lookup: c_int) by sys::ap_hook_quick_handler, APR_HOOK_REALLY_FIRST;

    /// A handler is about to run: time to add filters. After other modules, which may set what is looked at.
    InsertFilter: insert_filter(request: Request<'_>) -> () where concerns(request)
        = C(request: RawRequest) by sys::ap_hook_insert_filter, APR_HOOK_LAST;

    /// httpd is about to send an error page of its own.
    InsertErrorFilter: insert_error_filter(request: Request<'_>) -> ()
        = C(request: RawRequest) by sys::ap_hook_insert_error_filter, APR_HOOK_LAST;

    /// The end of a request, before any module logs it. mod_http2 may call it in another thread than the one that worked on the request.
    LogTransaction: log_transaction(request: Request<'_>) -> Reply where concerns(request)
        = C(request: RawRequest) by sys::ap_hook_log_transaction, APR_HOOK_REALLY_FIRST;

    /// The end of mod_status's page, for the request that asks for it (`mod_status.h`). Never, where that is not loaded.
    StatusHook: status_hook(request: Request<'_>, flags: StatusFlags) -> Reply
        = C(request: RawRequest, flags: c_int) by add_status_hook, APR_HOOK_MIDDLE;
}

/// An argument that C gives a hook, as the module sees it.
trait Argument: Sized {
    type Raw;

    /// None where the module can do nothing with it.
    ///
    /// # Safety
    ///
    /// As for the type's `from_raw`.
    unsafe fn given(raw: Self::Raw) -> Option<Self>;
}

impl Argument for Request<'_> {
    type Raw = *mut sys::request_rec;

    unsafe fn given(raw: Self::Raw) -> Option<Self> {
        // SAFETY: the caller's promise.
        unsafe { Self::from_raw(raw) }
    }
}

impl Argument for Server<'_> {
    type Raw = *mut sys::server_rec;

    unsafe fn given(raw: Self::Raw) -> Option<Self> {
        // SAFETY: the caller's promise.
        unsafe { Self::from_raw(raw) }
    }
}

impl Argument for Pool<'_> {
    type Raw = *mut sys::apr_pool_t;

    unsafe fn given(raw: Self::Raw) -> Option<Self> {
        // SAFETY: the caller's promise.
        unsafe { Self::from_raw(raw) }
    }
}

impl Argument for Connection<'_> {
    type Raw = *mut sys::conn_rec;

    unsafe fn given(raw: Self::Raw) -> Option<Self> {
        // SAFETY: the caller's promise.
        (!raw.is_null()).then(|| unsafe { Self::from_raw(raw) })
    }
}

impl Argument for Brigade<'_> {
    type Raw = *mut sys::apr_bucket_brigade;

    unsafe fn given(raw: Self::Raw) -> Option<Self> {
        // SAFETY: the caller's promise.
        (!raw.is_null()).then(|| unsafe { Self::from_raw(raw) })
    }
}

impl Argument for Accepted<'_> {
    type Raw = *mut sys::apr_socket_t;

    unsafe fn given(raw: Self::Raw) -> Option<Self> {
        // SAFETY: the caller's promise.
        unsafe { Self::from_raw(raw) }
    }
}

/// A hook that has one or not: `void *` there.
impl Argument for Option<Accepted<'_>> {
    type Raw = *mut c_void;

    unsafe fn given(raw: Self::Raw) -> Option<Self> {
        // SAFETY: the caller's promise.
        Some(unsafe { Accepted::from_raw(raw.cast()) })
    }
}

impl Argument for c_int {
    type Raw = Self;

    unsafe fn given(raw: Self) -> Option<Self> {
        Some(raw)
    }
}

impl Argument for bool {
    type Raw = c_int;

    unsafe fn given(raw: c_int) -> Option<Self> {
        Some(raw != 0)
    }
}

/// The state of a child process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChildState {
    /// It is no more.
    Exited,
    /// Something else: it runs, though it may have lost its place in the scoreboard.
    Runs,
}

impl Argument for ChildState {
    type Raw = sys::mpm_child_status;

    unsafe fn given(raw: Self::Raw) -> Option<Self> {
        Some(if raw == sys::mpm_child_status_MPM_CHILD_EXITED { Self::Exited } else { Self::Runs })
    }
}

/// The form in which mod_status's page is wanted.
#[derive(Clone, Copy)]
pub struct StatusFlags(c_int);

impl StatusFlags {
    /// Returns true if it is for programs (`?auto`).
    pub fn is_short(self) -> bool {
        self.0 & sys::AP_STATUS_SHORT != 0
    }

    /// Returns true if it may show the requests of others (`ExtendedStatus`).
    pub fn is_extended(self) -> bool {
        self.0 & sys::AP_STATUS_EXTENDED != 0
    }

    /// Returns true if it is for browsers that have no tables (`?notable`).
    pub fn has_no_tables(self) -> bool {
        self.0 & sys::AP_STATUS_NOTABLE != 0
    }
}

impl Argument for StatusFlags {
    type Raw = c_int;

    unsafe fn given(raw: c_int) -> Option<Self> {
        Some(Self(raw))
    }
}

/// The time of `open_logs`, before the MPM counts its listeners. There is one thread.
pub struct BeforeListening<'s>(Server<'s>);

impl BeforeListening<'_> {
    /// Returns the main server.
    pub(super) fn server(&self) -> Server<'_> {
        self.0
    }
}

impl Argument for BeforeListening<'_> {
    type Raw = *mut sys::server_rec;

    unsafe fn given(raw: Self::Raw) -> Option<Self> {
        // SAFETY: the caller's promise.
        unsafe { Server::from_raw(raw) }.map(Self)
    }
}

/// The time of `post_config`. All modules have registered their filters, and there is one thread.
pub struct Configured<'s>(Server<'s>);

impl<'s> Configured<'s> {
    /// Returns the main server.
    pub fn server(&self) -> Server<'s> {
        self.0
    }

    /// Returns true if a module whose source has this name is loaded (`ap_find_linked_module`).
    pub fn has_module(&self, source: &CStr) -> bool {
        // SAFETY: the name ends in NUL (invariant 3); the modules stay as they are at this time (invariant 5).
        unsafe { !sys::ap_find_linked_module(source.as_ptr()).is_null() }
    }
}

impl Argument for Configured<'_> {
    type Raw = *mut sys::server_rec;

    unsafe fn given(raw: Self::Raw) -> Option<Self> {
        // SAFETY: the caller's promise.
        unsafe { Server::from_raw(raw) }.map(Self)
    }
}

/// The answer of a hook, as C expects it.
trait Answer {
    type Raw;

    /// The answer after a panic, or where an argument is missing.
    const OTHERWISE: Self::Raw;

    fn raw(self) -> Self::Raw;
}

/// The answer of most hooks.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Reply {
    /// `OK`: done.
    Ok,
    /// `DECLINED`: nothing to say.
    Declined,
    /// `DONE`: no other module shall be asked.
    Done,
}

impl Answer for Reply {
    type Raw = c_int;
    const OTHERWISE: c_int = sys::DECLINED;

    fn raw(self) -> c_int {
        match self {
            Self::Ok => sys::OK,
            Self::Declined => sys::DECLINED,
            Self::Done => sys::DONE,
        }
    }
}

impl Answer for () {
    type Raw = ();
    const OTHERWISE: () = ();

    fn raw(self) {}
}

/// The answer of a hook while httpd starts.
impl Answer for std::result::Result<(), String> {
    type Raw = c_int;
    const OTHERWISE: c_int = sys::HTTP_INTERNAL_SERVER_ERROR;

    fn raw(self) -> c_int {
        match self {
            Ok(()) => sys::OK,
            Err(sentence) => {
                log::error!("{sentence}");
                sys::HTTP_INTERNAL_SERVER_ERROR
            }
        }
    }
}

/// Who says what a connection reads.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum NetworkBucket {
    /// The module has put it into the brigade.
    Inserted,
    /// Another module, or httpd: its socket.
    Declined,
}

impl Answer for NetworkBucket {
    type Raw = sys::apr_status_t;
    const OTHERWISE: Self::Raw = sys::AP_DECLINED;

    fn raw(self) -> Self::Raw {
        match self {
            Self::Inserted => 0,
            Self::Declined => sys::AP_DECLINED,
        }
    }
}

/// httpd makes the record of a connection, as no module has.
pub struct ByHttpd;

impl Answer for ByHttpd {
    type Raw = *mut sys::conn_rec;
    const OTHERWISE: Self::Raw = std::ptr::null_mut();

    fn raw(self) -> Self::Raw {
        Self::OTHERWISE
    }
}
/// A list of names, with a null pointer at its end, that httpd keeps.
struct Names<const N: usize>([*const c_char; N]);

// SAFETY: the pointers are those of constants, which nobody writes to (invariant 4).
unsafe impl<const N: usize> Sync for Names<N> {}

/// The MPMs' files, as hooks are sorted by them.
static MPMS: Names<4> = Names([c"event.c".as_ptr(), c"worker.c".as_ptr(), c"prefork.c".as_ptr(), std::ptr::null()]);

/// As `ap_hook_open_logs`, before the MPMs' own.
///
/// # Safety
///
/// As for that.
unsafe fn open_logs_before_mpm(
    function: sys::ap_HOOK_open_logs_t,
    predecessors: *const *const c_char,
    _successors: *const *const c_char,
    order: c_int,
) {
    // SAFETY: the caller's promise; the list is a static that ends in a null pointer. Hooks are sorted after this call has returned: httpd
    // reads the list then.
    unsafe { sys::ap_hook_open_logs(function, predecessors, MPMS.0.as_ptr(), order) }
}

/// Does what `APR_OPTIONAL_HOOK` does for `status_hook`.
///
/// # Safety
///
/// As for `ap_hook_open_logs`.
unsafe fn add_status_hook(
    function: Option<unsafe extern "C" fn(*mut sys::request_rec, c_int) -> c_int>,
    predecessors: *const *const c_char,
    successors: *const *const c_char,
    order: c_int,
) {
    // SAFETY: the caller's promise. APR keeps the name's address too. mod_status casts the function back to the type that its header
    // declares, which is this one.
    unsafe {
        let function = std::mem::transmute::<
            Option<unsafe extern "C" fn(*mut sys::request_rec, c_int) -> c_int>,
            Option<unsafe extern "C" fn()>,
        >(function);
        sys::apr_optional_hook_add(c"status_hook".as_ptr(), function, predecessors, successors, order);
    }
}

/// A function that other modules may look up by name, and call with a request: `apr_optional.h`.
pub trait OptionalFunction: 'static {
    /// Its name.
    const NAME: &'static CStr;

    /// Is called with messages logged about the request.
    ///
    /// # Errors
    ///
    /// The status that the caller gets.
    fn call(request: Request<'_>) -> Result;
}

/// As other modules call it.
type OptionalEntry = unsafe extern "C" fn(*mut sys::request_rec) -> sys::apr_status_t;

impl Hooks {
    /// Makes a function known, as `APR_REGISTER_OPTIONAL_FN` does.
    pub fn optional_function<F: OptionalFunction>(&self) {
        unsafe extern "C" fn call<F: OptionalFunction>(request: *mut sys::request_rec) -> sys::apr_status_t {
            guard(Status::code(Err(Status::GENERAL)), || {
                // SAFETY: the caller gives a live request that its thread works on, or null: the header says so (invariant 9).
                let Some(request) = (unsafe { Request::from_raw(request) }) else {
                    return Status::code(Err(Status::INVALID));
                };
                with_context(request, || Status::code(F::call(request)))
            })
        }
        // SAFETY: APR keeps both addresses, which stay valid (invariant 4). Who looks it up casts it back
        // to the type that the header declares, which is OptionalEntry.
        unsafe {
            let function = std::mem::transmute::<OptionalEntry, unsafe extern "C" fn()>(call::<F>);
            sys::apr_dynamic_fn_register(F::NAME.as_ptr(), Some(function));
        }
    }
}

/// Another module's optional function; null where none has this name. What it is, its module's header says.
pub fn retrieve_optional(name: &CStr) -> *mut c_void {
    // SAFETY: looks up a name (invariant 11); a function's address is no more than a number here.
    unsafe {
        sys::apr_dynamic_fn_retrieve(name.as_ptr()).map_or(std::ptr::null_mut(), |function| function as *mut c_void)
    }
}

/// Returns true if the configuration is read for the first time, to see whether it is right: httpd then reads it once more, and starts.
pub fn is_rehearsal() -> bool {
    // SAFETY: asks for a number (invariant 11).
    unsafe { sys::ap_state_query(sys::AP_SQ_MAIN_STATE as c_int) == sys::AP_SQ_MS_CREATE_PRE_CONFIG as c_int }
}

/// Returns true if the MPM serves several requests in a process at once.
pub fn is_threaded() -> bool {
    mpm_query(sys::AP_MPMQ_IS_THREADED) != sys::AP_MPMQ_NOT_SUPPORTED
}

/// Returns true if the MPM lets idle connections wait without a thread: event.
pub fn is_async() -> bool {
    mpm_query(sys::AP_MPMQ_IS_ASYNC) != 0
}

/// Returns true if this process has been told to end, in its own time or at once.
pub fn is_stopping() -> bool {
    mpm_query(sys::AP_MPMQ_MPM_STATE) == sys::AP_MPMQ_STOPPING
}

fn mpm_query(code: c_int) -> c_int {
    let mut answer = 0;
    // SAFETY: ap_mpm_query writes one number (invariant 11); the MPM is known when requests are served.
    unsafe { sys::ap_mpm_query(code, &raw mut answer) };
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_hook_says_after_a_panic() {
        assert_eq!(Reply::OTHERWISE, sys::DECLINED);
        assert_eq!(NetworkBucket::OTHERWISE, sys::AP_DECLINED);
        assert_eq!(<std::result::Result<(), String>>::OTHERWISE, sys::HTTP_INTERNAL_SERVER_ERROR);
        assert!(ByHttpd::OTHERWISE.is_null());
    }
}
