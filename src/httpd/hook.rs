//! Hooks: where httpd calls the module.

use std::ffi::{CStr, c_int};

use crate::sys;

/// The time of `register_hooks`, when hooks can be added.
pub struct Hooks(());

impl Hooks {
    /// # Safety
    ///
    /// To be called from `register_hooks` only.
    pub unsafe fn registering() -> Self {
        Self(())
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

/// Whether the MPM serves several requests in a process at once.
pub fn is_threaded() -> bool {
    let mut threaded = 0;
    // SAFETY: ap_mpm_query writes one number; the MPM is known when requests are served.
    unsafe { sys::ap_mpm_query(sys::AP_MPMQ_IS_THREADED, &raw mut threaded) };
    threaded != sys::AP_MPMQ_NOT_SUPPORTED
}
