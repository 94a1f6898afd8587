//! Asks apxs where httpd lives, generates the bindings in `sys`, compiles the C shim and links the module.

#[path = "apxs/apxs.rs"]
mod apxs;

use std::path::PathBuf;

/// What of httpd's and APR's headers the module uses. Types come along with what needs them.
const FUNCTIONS: &[&str] = &[
    "ap_(add|remove|register)_output_filter.*",
    "ap_(add|remove|register)_input_filter.*",
    "ap_get_brigade",
    "ap_get_output_filter_handle",
    "ap_get_protocol_upgrades",
    "ap_check_cmd_context",
    "ap_find_linked_module",
    "ap_die",
    "ap_get_module_config",
    "ap_get_conn_socket",
    "ap_get_(request|conn|server)_module_loglevel",
    "ap_hook_(child_init|child_status|child_stopping|insert_filter|insert_error_filter|log_transaction|monitor|quick_handler)",
    "ap_hook_(open_logs|post_config|pre_config)",
    "ap_hook_(create_connection|insert_network_bucket|pre_connection|process_connection)",
    "ap_log_(r|c)?error_",
    "ap_mpm_query",
    "ap_pass_brigade",
    "ap_run_(get_suexec_identity|log_transaction)",
    "ap_rwrite",
    "ap_set_content_length",
    "ap_set_module_config",
    "ap_shutdown_conn",
    "ap_state_query",
    "ap_update_child_status",
    "ap_bucket_error_create",
    "apr_brigade_(cleanup|create|length)",
    "apr_bucket_(eos|flush|heap|socket)_create",
    "apr_bucket_(alloc|free|immortal_make)",
    "apr_bucket_(copy|setaside|split)_notimpl",
    "apr_bucket_destroy_noop",
    "apr_dso_sym",
    "apr_dynamic_fn_(register|retrieve)",
    "apr_optional_hook_add",
    "apr_os_sock_(get|make|put)",
    "apr_sockaddr_info_get",
    "apr_socket_(addr_get|data_get|data_set|timeout_get|timeout_set)",
    "apr_strerror",
    "apr_palloc",
    "apr_pool_(cleanup_null|cleanup_register|pre_cleanup_register)",
    "apr_pstrmemdup",
    "apr_table_(do|elts|get|mergen|set|setn|unset)",
    "apr_time_now",
    "fr_.*",
];
const VARIABLES: &[&str] = &[
    "ap_bucket_type_(eoc|eor)",
    "ap_conftree",
    "ap_unixd_config",
    "core_module",
    "ap_listeners",
    "ap_num_listen_buckets",
    "apr_bucket_type_(eos|flush|heap)",
    "fr_.*",
    "APLOG_(ERR|WARNING|NOTICE|INFO|DEBUG|TRACE1|NO_MODULE)",
    "APR_HOOK_(REALLY_FIRST|MIDDLE|LAST)",
    "OR_FILEINFO",
    "RSRC_CONF",
    "M_CONNECT",
    "OK|DECLINED|DONE|AP_DECLINED",
    "MODULE_MAGIC_(COOKIE|NUMBER_MAJOR|NUMBER_MINOR)",
    "HTTP_(OK|NO_CONTENT|NOT_MODIFIED|INTERNAL_SERVER_ERROR|BAD_GATEWAY)",
    "ACCESS_CONF",
    "AP_MPMQ_(IS_ASYNC|STOPPING|MPM_STATE|IS_THREADED|NOT_SUPPORTED|(HARD_LIMIT|MAX)_(DAEMONS|THREADS))",
    "AP_SQ_(MAIN_STATE|MS_CREATE_PRE_CONFIG)",
    "AP_STATUS_(SHORT|NOTABLE|EXTENDED)",
    "NOT_IN_(DIR_CONTEXT|HTACCESS)",
    "SERVER_BUSY_KEEPALIVE",
];
const TYPES: &[&str] = &[
    "module",
    "command_rec",
    "request_rec",
    "conn_rec",
    "conn_state_t",
    "ap_filter_t",
    "ap_filter_type",
    "ap_listen_rec",
    "apr_table_entry_t",
];

fn main() {
    if let Err(sentence) = build() {
        println!("cargo::error={sentence}");
        std::process::exit(1);
    }
}

fn build() -> Result<(), String> {
    println!("cargo::rerun-if-changed=apxs");
    let apxs = apxs::Apxs::ask(env("APXS"), &std::env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default())?;
    // An upgrade of httpd brings new ones: what was built for the old must not stay.
    for file in &apxs.files {
        println!("cargo::rerun-if-changed={}", file.display());
    }
    let out = PathBuf::from(env("OUT_DIR").ok_or("OUT_DIR is not set: build with cargo")?);

    bindings(&apxs, &out)?;
    shim(&apxs)?;

    // httpd unloads and reloads its modules; a library with threads and thread-locals must stay mapped.
    println!("cargo::rustc-cdylib-link-arg=-Wl,-z,nodelete");
    Ok(())
}

/// Reads an environment variable, and has cargo build again when it changes.
fn env(name: &str) -> Option<String> {
    println!("cargo::rerun-if-env-changed={name}");
    std::env::var(name).ok()
}

fn bindings(apxs: &apxs::Apxs, out: &std::path::Path) -> Result<(), String> {
    let mut builder = bindgen::Builder::default()
        .header("apxs/httpd.h")
        .clang_args(apxs.cflags())
        .generate_comments(false)
        .derive_debug(false)
        .layout_tests(false)
        .merge_extern_blocks(true)
        // Each header that is read has the bindings made anew when it changes.
        .parse_callbacks(Box::new(bindgen::CargoCallbacks::new()))
        .default_macro_constant_type(bindgen::MacroTypeVariation::Signed);
    for pattern in FUNCTIONS {
        builder = builder.allowlist_function(pattern);
    }
    for pattern in VARIABLES {
        builder = builder.allowlist_var(pattern);
    }
    for pattern in TYPES {
        builder = builder.allowlist_type(pattern);
    }
    // Without libclang bindgen panics, with a page of text: one sentence is kinder.
    std::panic::set_hook(Box::new(|_| ()));
    let generated = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| builder.generate()));
    let _ = std::panic::take_hook();
    generated
        .map_err(
            |_| "libclang was not found: install the package libclang-dev (bindgen reads httpd's headers with it)",
        )?
        .map_err(|error| format!("bindgen could not read httpd's headers: {}", error.to_string().replace('\n', " ")))?
        .write_to_file(out.join("bindings.rs"))
        .map_err(|error| format!("the bindings cannot be written to {}: {error}", out.display()))
}

fn shim(apxs: &apxs::Apxs) -> Result<(), String> {
    let mut build = cc::Build::new();
    build.file("apxs/shim.c").warnings(true);
    for flag in apxs.cflags() {
        build.flag(flag);
    }
    build.try_compile("finish_request_shim").map_err(|error| {
        format!(
            "the C shim did not compile (is a C compiler installed? package gcc): {}",
            error.to_string().replace('\n', " ")
        )
    })
}
