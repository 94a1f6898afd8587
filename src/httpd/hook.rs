//! Hooks: where httpd calls the module.

use std::ffi::{CStr, c_char, c_int, c_long, c_void};

use crate::sys;

/// What `child_status` calls: the server, a child's process id, its generation, its slot, what has become of it.
pub type ChildStatus =
    unsafe extern "C" fn(*mut sys::server_rec, sys::pid_t, sys::ap_generation_t, c_int, sys::mpm_child_status);

/// What may become of a child process.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChildState {
    /// It is no more.
    Exited,
    /// Something else: it runs, though it may have lost its place in the scoreboard.
    Runs,
}

impl From<sys::mpm_child_status> for ChildState {
    fn from(status: sys::mpm_child_status) -> Self {
        if status == sys::mpm_child_status_MPM_CHILD_EXITED { Self::Exited } else { Self::Runs }
    }
}

/// A list of names, with a null pointer at its end, that httpd keeps.
struct Names<const N: usize>([*const c_char; N]);

// SAFETY: the pointers are those of constants, which nobody writes to.
unsafe impl<const N: usize> Sync for Names<N> {}

/// The MPMs' files, as hooks are sorted by them.
static MPMS: Names<4> = Names([c"event.c".as_ptr(), c"worker.c".as_ptr(), c"prefork.c".as_ptr(), std::ptr::null()]);

/// The time of `register_hooks`, when hooks can be added.
pub struct Hooks(());

impl Hooks {
    /// # Safety
    ///
    /// To be called from `register_hooks` only.
    pub unsafe fn registering() -> Self {
        Self(())
    }

    /// Before the configuration is read.
    pub fn pre_config(
        &self,
        function: unsafe extern "C" fn(*mut sys::apr_pool_t, *mut sys::apr_pool_t, *mut sys::apr_pool_t) -> c_int,
    ) {
        let none = std::ptr::null();
        // SAFETY: as for post_config.
        unsafe { sys::ap_hook_pre_config(Some(function), none, none, sys::APR_HOOK_REALLY_FIRST) }
    }

    /// After the configuration has been read, and before the MPM opens its listeners.
    pub fn open_logs_before_mpm(
        &self,
        function: unsafe extern "C" fn(
            *mut sys::apr_pool_t,
            *mut sys::apr_pool_t,
            *mut sys::apr_pool_t,
            *mut sys::server_rec,
        ) -> c_int,
    ) {
        // Hooks are sorted after this call has returned: httpd reads the list then.
        let successors = MPMS.0.as_ptr();
        // SAFETY: as for post_config; the list is a static that ends in a null pointer.
        unsafe { sys::ap_hook_open_logs(Some(function), std::ptr::null(), successors, sys::APR_HOOK_REALLY_FIRST) }
    }

    /// In a child process that is going to exit: gracefully or not.
    pub fn child_stopping(&self, function: unsafe extern "C" fn(*mut sys::apr_pool_t, c_int)) {
        let none = std::ptr::null();
        // SAFETY: as for post_config.
        unsafe { sys::ap_hook_child_stopping(Some(function), none, none, sys::APR_HOOK_MIDDLE) }
    }

    /// When the MPM has accepted a socket, before httpd has a record of its connection.
    pub fn create_connection_first(
        &self,
        function: unsafe extern "C" fn(
            *mut sys::apr_pool_t,
            *mut sys::server_rec,
            *mut sys::apr_socket_t,
            c_long,
            *mut c_void,
            *mut sys::apr_bucket_alloc_t,
        ) -> *mut sys::conn_rec,
    ) {
        let none = std::ptr::null();
        // SAFETY: as for post_config.
        unsafe { sys::ap_hook_create_connection(Some(function), none, none, sys::APR_HOOK_REALLY_FIRST) }
    }

    /// When the record is there, before other modules see it.
    pub fn pre_connection_first(&self, function: unsafe extern "C" fn(*mut sys::conn_rec, *mut c_void) -> c_int) {
        let none = std::ptr::null();
        // SAFETY: as for post_config.
        unsafe { sys::ap_hook_pre_connection(Some(function), none, none, sys::APR_HOOK_REALLY_FIRST) }
    }

    /// Each time that the MPM has a connection worked on, before any protocol.
    pub fn process_connection_first(&self, function: unsafe extern "C" fn(*mut sys::conn_rec) -> c_int) {
        let none = std::ptr::null();
        // SAFETY: as for post_config.
        unsafe { sys::ap_hook_process_connection(Some(function), none, none, sys::APR_HOOK_REALLY_FIRST) }
    }

    /// When a connection is first read from: what it reads.
    pub fn insert_network_bucket(
        &self,
        function: unsafe extern "C" fn(
            *mut sys::conn_rec,
            *mut sys::apr_bucket_brigade,
            *mut sys::apr_socket_t,
        ) -> sys::apr_status_t,
    ) {
        let none = std::ptr::null();
        // SAFETY: as for post_config.
        unsafe { sys::ap_hook_insert_network_bucket(Some(function), none, none, sys::APR_HOOK_MIDDLE) }
    }

    /// After the configuration has been read.
    pub fn post_config(
        &self,
        function: unsafe extern "C" fn(
            *mut sys::apr_pool_t,
            *mut sys::apr_pool_t,
            *mut sys::apr_pool_t,
            *mut sys::server_rec,
        ) -> c_int,
    ) {
        let none = std::ptr::null();
        // SAFETY: httpd keeps the function's address; the module is never unmapped. No predecessors or successors.
        unsafe { sys::ap_hook_post_config(Some(function), none, none, sys::APR_HOOK_LAST) }
    }

    /// In each child process, before it serves requests.
    pub fn child_init(&self, function: unsafe extern "C" fn(*mut sys::apr_pool_t, *mut sys::server_rec)) {
        let none = std::ptr::null();
        // SAFETY: as for post_config.
        unsafe { sys::ap_hook_child_init(Some(function), none, none, sys::APR_HOOK_LAST) }
    }

    /// Before a handler runs: time to add filters. After other modules', which may set what is looked at.
    pub fn insert_filter(&self, function: unsafe extern "C" fn(*mut sys::request_rec)) {
        let none = std::ptr::null();
        // SAFETY: as for post_config.
        unsafe { sys::ap_hook_insert_filter(Some(function), none, none, sys::APR_HOOK_LAST) }
    }

    /// At the end of a request, before any module logs it.
    pub fn log_transaction_first(&self, function: unsafe extern "C" fn(*mut sys::request_rec) -> c_int) {
        let none = std::ptr::null();
        // SAFETY: as for post_config.
        unsafe { sys::ap_hook_log_transaction(Some(function), none, none, sys::APR_HOOK_REALLY_FIRST) }
    }

    /// In the parent, when a child process has begun or ended.
    pub fn child_status(&self, function: ChildStatus) {
        let none = std::ptr::null();
        // SAFETY: as for post_config.
        unsafe { sys::ap_hook_child_status(Some(function), none, none, sys::APR_HOOK_MIDDLE) }
    }

    /// At the end of mod_status's page: `mod_status.h`. Never, where that is not loaded.
    pub fn status(&self, function: unsafe extern "C" fn(*mut sys::request_rec, c_int) -> c_int) {
        let none = std::ptr::null();
        // SAFETY: as for post_config. APR keeps the name's address too. mod_status casts the function back to the type
        // that its header declares, which is this one.
        unsafe {
            let function = std::mem::transmute::<
                unsafe extern "C" fn(*mut sys::request_rec, c_int) -> c_int,
                unsafe extern "C" fn(),
            >(function);
            sys::apr_optional_hook_add(c"status_hook".as_ptr(), Some(function), none, none, sys::APR_HOOK_MIDDLE);
        }
    }

    /// Before httpd sends an error page of its own.
    pub fn insert_error_filter(&self, function: unsafe extern "C" fn(*mut sys::request_rec)) {
        let none = std::ptr::null();
        // SAFETY: as for post_config.
        unsafe { sys::ap_hook_insert_error_filter(Some(function), none, none, sys::APR_HOOK_LAST) }
    }
}

/// A function that other modules may look up by name: `apr_optional.h`.
pub type OptionalFunction = unsafe extern "C" fn(*mut sys::request_rec) -> sys::apr_status_t;

/// Makes a function known by its name, as `APR_REGISTER_OPTIONAL_FN` does.
pub fn register_optional(name: &'static CStr, function: OptionalFunction) {
    // SAFETY: APR keeps both addresses, which stay valid: the module is never unmapped. Who looks it up casts it back
    // to the type that the header declares, which is OptionalFunction.
    unsafe {
        let function = std::mem::transmute::<OptionalFunction, unsafe extern "C" fn()>(function);
        sys::apr_dynamic_fn_register(name.as_ptr(), Some(function));
    }
}

/// Another module's optional function; null where none has this name. What it is, its module's header says.
pub fn retrieve_optional(name: &CStr) -> *mut c_void {
    // SAFETY: looks up a name; a function's address is no more than a number here.
    unsafe {
        sys::apr_dynamic_fn_retrieve(name.as_ptr()).map_or(std::ptr::null_mut(), |function| function as *mut c_void)
    }
}

/// Whether the configuration is read for the first time, to see whether it is right: httpd then reads it once more, and starts.
pub fn is_rehearsal() -> bool {
    // SAFETY: asks for a number.
    unsafe { sys::ap_state_query(sys::AP_SQ_MAIN_STATE as c_int) == sys::AP_SQ_MS_CREATE_PRE_CONFIG as c_int }
}

/// Whether the MPM serves several requests in a process at once.
pub fn is_threaded() -> bool {
    mpm_query(sys::AP_MPMQ_IS_THREADED) != sys::AP_MPMQ_NOT_SUPPORTED
}

/// Whether the MPM lets idle connections wait without a thread: event.
pub fn is_async() -> bool {
    mpm_query(sys::AP_MPMQ_IS_ASYNC) != 0
}

fn mpm_query(code: c_int) -> c_int {
    let mut answer = 0;
    // SAFETY: ap_mpm_query writes one number; the MPM is known when requests are served.
    unsafe { sys::ap_mpm_query(code, &raw mut answer) };
    answer
}
