//! The contents page: the record that httpd loads, with the directives, and every filter, hook and function of the module by name.

use std::ffi::{CStr, c_int};

use crate::connection::{break_off, buffer, detach, keep, stream};
use crate::directives::{self, COMMANDS, MANUAL, Settings};
use crate::filters::{body, fcgid, header, interim, output};
use crate::handlers::{self, digits};
use crate::httpd::{
    BeforeListening, ChildInit, ChildState, ChildStatus, ChildStopping, Configured, Hooks, Module, ModuleType, Monitor,
    OpenLogs, Pool, PostConfig, PreConfig, Reply, Server, is_rehearsal, log_about, notice, refusal, server_config,
    with_context,
};
use crate::rules::VERSION;
use crate::{api, background, begin, connection, report};

/// The record that `LoadModule finish_request_module` looks for.
#[unsafe(no_mangle)]
pub static finish_request_module: Module = Module::of::<FinishRequest, { MANUAL.len() }>(&COMMANDS);

/// The module.
pub struct FinishRequest;

impl ModuleType for FinishRequest {
    const NAME: &'static CStr = c"mod_finish_request.c";
    type Settings = Settings;

    fn record() -> &'static Module {
        &finish_request_module
    }

    fn register(hooks: &Hooks) {
        hooks.output_filter::<output::FinishRequest>();
        hooks.output_filter::<interim::Interim>();
        hooks.output_filter::<stream::StreamEnd>();
        hooks.output_filter::<break_off::BreakOff>();
        hooks.output_filter::<detach::Sink>();
        hooks.output_filter::<buffer::BufferFilter>();
        hooks.input_filter::<keep::ReadAhead>();
        hooks.input_filter::<body::BodyBegin>();
        hooks.input_filter::<body::BodyEnd>();
        hooks.input_filter::<detach::Empty>();

        hooks.pre_config::<Start>();
        hooks.open_logs::<Start>();
        hooks.post_config::<Start>();
        hooks.child_status::<Children>();
        hooks.monitor::<Children>();
        hooks.child_init::<Children>();
        hooks.child_stopping::<Children>();

        hooks.create_connection::<keep::Receive>();
        hooks.pre_connection::<keep::Receive>();
        hooks.process_connection::<keep::Receive>();
        hooks.insert_network_bucket::<keep::Receive>();

        hooks.quick_handler::<api::EmptySubrequest>();
        hooks.insert_filter::<begin::Begin>();
        hooks.insert_error_filter::<begin::Begin>();
        hooks.log_transaction::<report::LogOnce>();
        hooks.status_hook::<report::status::StatusPage>();
        hooks.optional_function::<api::FinishRequest>();
    }
}

/// The source of mpm-itk, which has prefork's children fork one more process for each connection, as another user.
const ITK: &CStr = c"mpm_itk.c";

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
        configured.replace_read::<handlers::fcgid::NextRecord>();
        configured.replace::<header::Http1>();
        configured.replace::<header::Http2>();
        configured.find_byte_counter();
        let server = configured.server();
        with_context(server, keep::warn_if_unavailable);
        if configured.has_module(ITK) && directives::is_used() {
            directives::act_as_off();
            if !is_rehearsal() {
                with_context(server, || {
                    log::warn!(
                        "mpm_itk ends the process that serves a connection together with that: beside it FinishRequest is Off"
                    );
                });
            }
        }
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

impl Monitor for Children {
    fn monitor(server: Server<'_>) -> Reply {
        with_context(server, background::look_after_children);
        Reply::Declined
    }
}

impl ChildInit for Children {
    fn child_init(pool: Pool<'_>, server: Server<'_>) {
        log_about(server);
        connection::child_init(pool);
        digits::child_init();
    }
}

impl ChildStopping for Children {
    fn child_stopping(graceful: bool) {
        connection::child_stopping(graceful);
    }
}
