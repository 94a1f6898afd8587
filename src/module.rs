//! The module record, the directives, the hooks and the filters: the contents page.

use std::ffi::{c_int, c_void};

use crate::directives::{COMMANDS, Settings};
use crate::httpd::{Hooks, Module, PerDir, Pool, guard, install_log, set_panic_hook};
use crate::{api, connection, fcgid, output_filter, report, response, response_headers, sys};

/// The record that `LoadModule finish_request_module` looks for.
#[unsafe(no_mangle)]
pub static finish_request_module: Module = Module::new(sys::module {
    version: sys::MODULE_MAGIC_NUMBER_MAJOR,
    minor_version: sys::MODULE_MAGIC_NUMBER_MINOR,
    module_index: -1,
    name: c"mod_finish_request.c".as_ptr(),
    dynamic_load_handle: std::ptr::null_mut::<c_void>(),
    next: std::ptr::null_mut(),
    magic: sys::MODULE_MAGIC_COOKIE as std::ffi::c_ulong,
    rewrite_args: None,
    create_dir_config: Some(Settings::create),
    merge_dir_config: Some(Settings::merge_raw),
    create_server_config: None,
    merge_server_config: None,
    cmds: COMMANDS.as_ptr(),
    register_hooks: Some(register_hooks),
    flags: 0,
});

/// Called by httpd each time it loads the module: at start, once more at start, and at each restart.
unsafe extern "C" fn register_hooks(_pool: *mut sys::apr_pool_t) {
    guard((), || {
        finish_request_module.loaded();
        install_log();
        set_panic_hook();

        response_headers::register();
        output_filter::register();
        connection::register();
        api::register();

        // SAFETY: this is register_hooks.
        let hooks = unsafe { Hooks::registering() };
        hooks.post_config(post_config);
        hooks.child_init(child_init);
        hooks.insert_filter(response::insert_filter);
        hooks.insert_error_filter(response_headers::insert_error_filter);
        hooks.log_transaction_first(report::log_transaction);
    });
}

/// The configuration has been read, and mod_fcgid has registered its filter, if it is there.
unsafe extern "C" fn post_config(
    _config: *mut sys::apr_pool_t,
    _log: *mut sys::apr_pool_t,
    _temp: *mut sys::apr_pool_t,
    _server: *mut sys::server_rec,
) -> c_int {
    guard(sys::HTTP_INTERNAL_SERVER_ERROR, || {
        fcgid::take_over();
        sys::OK
    })
}

/// A child process has begun.
unsafe extern "C" fn child_init(pool: *mut sys::apr_pool_t, _server: *mut sys::server_rec) {
    guard((), || {
        // SAFETY: httpd gives the pool that lives as long as the child, in its main thread.
        if let Some(pool) = unsafe { Pool::from_raw(pool) } {
            connection::child_init(pool);
        }
    });
}
