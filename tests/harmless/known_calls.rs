//! Each call that the module makes is one that the tests of its faults know, or that cannot fail.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::{Fault, finish_request_module, is_sanitized};

/// What cannot fail, or what nobody has to look at when it does: httpd ends a process that has no memory, and so does Rust.
const NEVER: [&str; 48] = [
    // They register, at the start.
    "ap_hook_child_init",
    "ap_hook_child_status",
    "ap_hook_child_stopping",
    "ap_hook_create_connection",
    "ap_hook_insert_error_filter",
    "ap_hook_insert_filter",
    "ap_hook_insert_network_bucket",
    "ap_hook_log_transaction",
    "ap_hook_monitor",
    "ap_hook_open_logs",
    "ap_hook_post_config",
    "ap_hook_pre_config",
    "ap_hook_pre_connection",
    "ap_hook_process_connection",
    "ap_hook_quick_handler",
    "ap_register_input_filter",
    "ap_register_output_filter",
    "apr_dynamic_fn_register",
    "apr_optional_hook_add",
    "apr_pool_cleanup_register",
    "apr_pool_pre_cleanup_register",
    // They have an answer for everything, and "none" is a common one.
    "ap_check_cmd_context",
    "ap_find_linked_module",
    "ap_get_conn_module_loglevel",
    "ap_get_module_config",
    "ap_get_output_filter_handle",
    "ap_get_request_module_loglevel",
    "ap_run_get_suexec_identity",
    "ap_state_query",
    "ap_update_child_status",
    "apr_dynamic_fn_retrieve",
    "apr_strerror",
    "apr_table_do",
    "apr_table_elts",
    "apr_table_get",
    "apr_time_now",
    // They say nothing.
    "ap_add_input_filter_handle",
    "ap_add_output_filter_handle",
    "ap_die",
    "ap_log_cerror_",
    "ap_log_error_",
    "ap_log_rerror_",
    "ap_remove_input_filter",
    "ap_remove_output_filter",
    "ap_set_content_length",
    "ap_set_module_config",
    "apr_pool_cleanup_null",
    "apr_brigade_cleanup",
];

/// What Rust's library imports: it tries again, asks for what any answer will do, or ends the process.
const RUST: [&str; 39] = [
    "abort",
    "bcmp",
    "calloc",
    "clock_nanosleep",
    "close",
    "dl_iterate_phdr",
    "fstat64",
    "getauxval",
    "getcwd",
    "getenv",
    "getpid",
    "getppid",
    "gettid",
    "lseek64",
    "memcmp",
    "memcpy",
    "memmove",
    "memset",
    "munmap",
    "pause",
    "posix_memalign",
    "pthread_attr_destroy",
    "pthread_attr_getguardsize",
    "pthread_attr_getstack",
    "pthread_attr_init",
    "pthread_attr_setstacksize",
    "pthread_detach",
    "pthread_getattr_np",
    "pthread_join",
    "pthread_self",
    "pthread_setname_np",
    "readlink",
    "realloc",
    "realpath",
    "sched_yield",
    "sigaltstack",
    "stat64",
    "strlen",
    "writev",
];
/// The same of the compiler's and the C library's own, and a variable of httpd's.
const RUNTIME: [&str; 8] =
    ["core_module", "syscall", "_Unwind_", "_ITM_", "__", "pthread_key_", "pthread_getspecific", "pthread_setspecific"];

/// They fail only for want of memory, or are no calls.
const MEMORY: [&str; 6] =
    ["ap_bucket_", "apr_bucket_", "apr_palloc", "apr_pstrmemdup", "apr_table_", "apr_brigade_create"];

/// Those of the kernel's that cannot fail, that are asked where any answer will do, or that end the process.
const SURE: [&str; 13] = [
    "_exit",
    "clock_gettime",
    "dlsym",
    "free",
    "geteuid",
    "malloc",
    "pthread_atfork",
    "pthread_sigmask",
    "sigfillset",
    "sigismember",
    "signal",
    "strcasecmp",
    "sysconf",
];

/// What the module imports.
fn imports() -> Vec<String> {
    let mut nm = Command::new("nm");
    nm.args(["-D", "--undefined-only"]).arg(finish_request_module());
    let output = support::tools::run(nm);
    assert!(output.status.success(), "{}", output.stderr);
    let text = String::from_utf8(output.stdout).unwrap();
    let names = text.lines().filter_map(|line| line.split_whitespace().nth(1)?.split('@').next());
    names.map(str::to_owned).collect()
}

/// Nobody adds a call that this test does not know.
#[test]
fn is_known() {
    let known: Vec<&str> = Fault::all().iter().map(|fault| fault.call).collect();
    // Variables have no call's name.
    let variables = ["ap_bucket_type_eor", "ap_conftree", "ap_listeners", "ap_num_listen_buckets", "ap_unixd_config"];
    let imports = imports();
    let httpd: Vec<_> =
        imports.iter().map(String::as_str).filter(|name| name.starts_with("ap_") || name.starts_with("apr_")).collect();
    assert!(httpd.len() > 50, "{httpd:?}");
    for name in httpd {
        let sure =
            NEVER.contains(&name) || variables.contains(&name) || MEMORY.iter().any(|call| name.starts_with(call));
        assert!(known.contains(&name) || sure, "how can {name} fail? See tests/support/src/preloaded/faults.c");
    }
    let mut asked = 0;
    for (file, text) in sources(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src")) {
        let text = text.split("#[cfg(test)]").next().unwrap_or_default();
        for part in text.split("libc::").skip(1) {
            let end = part.find(|letter: char| !letter.is_alphanumeric() && letter != '_').unwrap_or(part.len());
            let (name, rest) = part.split_at(end);
            if rest.starts_with('(') && name.chars().all(|letter| !letter.is_uppercase()) {
                asked += 1;
                let sure = known.contains(&name) || SURE.contains(&name);
                assert!(sure, "how can {name} of {} fail? See tests/support/src/preloaded/faults.c", file.display());
            }
        }
    }
    assert!(asked > 20, "{asked} calls of the kernel");
}

/// The same of what Rust's library calls, which another release of it may do otherwise.
#[test]
#[ignore = "make check"]
fn is_known_of_rust() {
    let known: Vec<&str> = Fault::all().iter().map(|fault| fault.call).collect();
    for name in imports().iter().map(String::as_str).filter(|name| !name.starts_with("ap") && !is_sanitized()) {
        let sure = known.contains(&name) || SURE.contains(&name) || RUST.contains(&name);
        let sure = sure || RUNTIME.iter().any(|call| name.starts_with(call));
        assert!(sure, "how can {name} fail? See tests/support/src/preloaded/faults.c");
    }
}

/// The module's files, and what is in them.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let read = |path: PathBuf| match path.is_dir() {
        true => sources(&path),
        false => vec![(path.clone(), fs::read_to_string(path).unwrap())],
    };
    entries.flat_map(read).collect()
}
