//! The module record, the directives, the hooks and the filters: the contents page.

use std::ffi::{c_int, c_long, c_void};

use crate::connection::{buffer, detach, keep, stream};
use crate::directives::{self, COMMANDS, Settings};
use crate::filters::{body_end, fcgid, header, interim, output};
use crate::httpd::{
    Accepted, Brigade, ChildState, Connection, Hooks, Module, PerDir, Pool, Server, find_byte_counter, guard,
    install_log, is_rehearsal, notice, refusal, replace, replace_read, server_config, set_panic_hook, with_context,
};
use crate::rules::VERSION;
use crate::{abort, api, background, begin, connection, report, sys};

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

        api::register();
        // SAFETY: this is register_hooks.
        let hooks = unsafe { Hooks::registering() };
        hooks.output_filter::<output::FinishRequest>();
        hooks.output_filter::<interim::Interim>();
        hooks.output_filter::<stream::StreamEnd>();
        hooks.output_filter::<detach::Sink>();
        hooks.output_filter::<buffer::BufferFilter>();
        hooks.input_filter::<keep::ReadAhead>();
        hooks.input_filter::<body_end::BodyEnd>();
        hooks.input_filter::<detach::Empty>();
        hooks.pre_config(pre_config);
        hooks.open_logs_before_mpm(open_logs);
        hooks.post_config(post_config);
        hooks.child_init(child_init);
        hooks.child_status(child_status);
        hooks.child_stopping(child_stopping);
        hooks.create_connection_first(create_connection);
        hooks.pre_connection_first(pre_connection);
        hooks.process_connection_first(process_connection);
        hooks.insert_network_bucket(insert_network_bucket);
        hooks.insert_filter(begin::insert_filter);
        hooks.insert_error_filter(begin::insert_error_filter);
        hooks.log_transaction_first(abort::log_transaction);
        hooks.log_transaction_first(report::log_transaction);
        hooks.status(report::status::status);
    });
}

/// The configuration is going to be read.
unsafe extern "C" fn pre_config(
    _config: *mut sys::apr_pool_t,
    _log: *mut sys::apr_pool_t,
    _temp: *mut sys::apr_pool_t,
) -> c_int {
    guard(sys::HTTP_INTERNAL_SERVER_ERROR, || {
        directives::forget();
        match refusal() {
            None => sys::OK,
            Some(sentence) => {
                log::error!("{sentence}");
                sys::HTTP_INTERNAL_SERVER_ERROR
            }
        }
    })
}

/// The configuration has been read, and the MPM has not opened its listeners yet.
unsafe extern "C" fn open_logs(
    _config: *mut sys::apr_pool_t,
    _log: *mut sys::apr_pool_t,
    _temp: *mut sys::apr_pool_t,
    server: *mut sys::server_rec,
) -> c_int {
    guard(sys::HTTP_INTERNAL_SERVER_ERROR, || {
        // SAFETY: this is open_logs, before the MPM's, with the main server.
        unsafe { keep::open_logs(server) };
        sys::OK
    })
}

/// The configuration has been read, and mod_fcgid and mod_http2 have registered their filters, if they are there.
unsafe extern "C" fn post_config(
    _config: *mut sys::apr_pool_t,
    _log: *mut sys::apr_pool_t,
    _temp: *mut sys::apr_pool_t,
    server: *mut sys::server_rec,
) -> c_int {
    guard(sys::HTTP_INTERNAL_SERVER_ERROR, || {
        replace::<fcgid::Fcgid>();
        replace_read::<fcgid::NextRecord>();
        replace::<header::Http1>();
        replace::<header::Http2>();
        find_byte_counter();
        keep::warn_if_unavailable();
        // SAFETY: httpd gives the main server of the configuration.
        let server = unsafe { Server::from_raw(server) };
        let settings = server.and_then(server_config::<Settings>);
        match background::configure(settings.map_or_else(Default::default, Settings::max)) {
            Ok(()) => {
                if let Some(server) = server.filter(|_| !is_rehearsal()) {
                    notice(server, &format!("{VERSION} configured"));
                }
                sys::OK
            }
            Err(sentence) => {
                log::error!("{sentence}");
                sys::HTTP_INTERNAL_SERVER_ERROR
            }
        }
    })
}

/// In the parent: a child process has begun, or ended.
unsafe extern "C" fn child_status(
    server: *mut sys::server_rec,
    pid: sys::pid_t,
    _generation: sys::ap_generation_t,
    _slot: c_int,
    state: sys::mpm_child_status,
) {
    guard((), || {
        if let (ChildState::Exited, Ok(pid)) = (state.into(), pid.try_into()) {
            // SAFETY: httpd gives the main server.
            match unsafe { Server::from_raw(server) } {
                Some(server) => with_context(server, || background::child_ended(pid)),
                None => background::child_ended(pid),
            }
        }
    });
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

/// A child process is going to exit.
unsafe extern "C" fn child_stopping(_pool: *mut sys::apr_pool_t, graceful: c_int) {
    guard((), || connection::child_stopping(graceful != 0));
}

/// The MPM has accepted a socket.
unsafe extern "C" fn create_connection(
    pool: *mut sys::apr_pool_t,
    _server: *mut sys::server_rec,
    socket: *mut sys::apr_socket_t,
    _id: c_long,
    _scoreboard: *mut c_void,
    _buckets: *mut sys::apr_bucket_alloc_t,
) -> *mut sys::conn_rec {
    guard((), || {
        // SAFETY: httpd gives the connection's pool and its socket, in the thread that works on it.
        if let (Some(pool), Some(socket)) = unsafe { (Pool::from_raw(pool), Accepted::from_raw(socket.cast())) } {
            keep::create_connection(pool, socket);
        }
    });
    // httpd makes the record.
    std::ptr::null_mut()
}

/// A connection has a record.
unsafe extern "C" fn pre_connection(connection: *mut sys::conn_rec, socket: *mut c_void) -> c_int {
    guard(sys::OK, || {
        // SAFETY: httpd gives a live connection, in the thread that works on it, with the socket that the MPM accepted:
        // for an HTTP/2 stream none, or its connection's.
        unsafe {
            let connection = Connection::from_raw(connection);
            if let (false, Some(socket)) = (connection.is_stream(), Accepted::from_raw(socket)) {
                keep::pre_connection(connection, socket);
            }
        }
        sys::OK
    })
}

/// The MPM has a connection worked on.
unsafe extern "C" fn process_connection(connection: *mut sys::conn_rec) -> c_int {
    guard(sys::DECLINED, || {
        // SAFETY: httpd gives a live connection, in the thread that works on it.
        let connection = unsafe { Connection::from_raw(connection) };
        if keep::process_connection(connection) { sys::OK } else { sys::DECLINED }
    })
}

/// A connection is about to be read from.
unsafe extern "C" fn insert_network_bucket(
    connection: *mut sys::conn_rec,
    brigade: *mut sys::apr_bucket_brigade,
    socket: *mut sys::apr_socket_t,
) -> sys::apr_status_t {
    guard(sys::AP_DECLINED, || {
        // SAFETY: httpd gives a live connection with its brigade and its socket, in the thread that works on it.
        unsafe {
            let mut brigade = Brigade::from_raw(brigade);
            if !keep::insert_network_bucket(Connection::from_raw(connection), &mut brigade) {
                return sys::AP_DECLINED;
            }
            brigade.push_socket(socket);
        }
        0
    })
}
