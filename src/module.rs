//! The module record, the directives, the hooks and the filters: the contents page.

use std::ffi::{c_int, c_void};

use crate::connection::{buffer, detach, keep, stream};
use crate::directives::{self, COMMANDS, Settings};
use crate::filters::{body_end, fcgid, header, interim, output};
use crate::handlers::digits;
use crate::httpd::{
    BeforeListening, ChildInit, ChildState, ChildStatus, ChildStopping, Configured, Hooks, Module, OpenLogs, PerDir,
    Pool, PostConfig, PreConfig, Server, guard, install_log, is_rehearsal, notice, refusal, server_config,
    set_panic_hook, with_context,
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

        hooks.pre_config::<Start>();
        hooks.open_logs::<Start>();
        hooks.post_config::<Start>();
        hooks.child_status::<Children>();
        hooks.child_init::<Children>();
        hooks.child_stopping::<Children>();

        hooks.create_connection::<keep::Receive>();
        hooks.pre_connection::<keep::Receive>();
        hooks.process_connection::<keep::Receive>();
        hooks.insert_network_bucket::<keep::Receive>();

        hooks.insert_filter::<begin::Begin>();
        hooks.insert_error_filter::<begin::Begin>();
        hooks.log_transaction::<abort::LogAborted>();
        hooks.log_transaction::<report::LogOnce>();
        hooks.status_hook::<report::status::StatusPage>();
        hooks.optional_function::<api::FinishRequest>();
    });
}

/// httpd starts, or starts anew.
struct Start;

impl PreConfig for Start {
    fn pre_config() -> Result<(), String> {
        directives::forget();
        refusal().map_or(Ok(()), Err)
    }
}

impl OpenLogs for Start {
    fn open_logs(starting: BeforeListening<'_>) -> Result<(), String> {
        keep::open(&starting);
        Ok(())
    }
}

impl PostConfig for Start {
    fn post_config(configured: Configured<'_>) -> Result<(), String> {
        configured.replace::<fcgid::Fcgid>();
        configured.replace_read::<fcgid::NextRecord>();
        configured.replace::<header::Http1>();
        configured.replace::<header::Http2>();
        configured.find_byte_counter();
        keep::warn_if_unavailable();
        let server = configured.server();
        let settings = server_config::<Settings>(server);
        background::configure(settings.map_or_else(Default::default, Settings::max))?;
        if !is_rehearsal() {
            notice(server, &format!("{VERSION} configured"));
        }
        Ok(())
    }
}

/// Child processes begin and end.
struct Children;

impl ChildStatus for Children {
    fn child_status(server: Server<'_>, pid: c_int, state: ChildState) {
        if let (ChildState::Exited, Ok(pid)) = (state, pid.try_into()) {
            with_context(server, || background::child_ended(pid));
        }
    }
}

impl ChildInit for Children {
    fn child_init(pool: Pool<'_>) {
        connection::child_init(pool);
        digits::child_init();
    }
}

impl ChildStopping for Children {
    fn child_stopping(graceful: bool) {
        connection::child_stopping(graceful);
    }
}
