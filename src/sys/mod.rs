//! httpd's and APR's declarations, as bindgen read them from the installed headers, and the C shim's.

#![allow(
    dead_code,
    non_camel_case_types,
    non_snake_case,
    non_upper_case_globals,
    missing_docs,
    unreachable_pub,
    unsafe_op_in_unsafe_fn,
    clippy::all,
    clippy::restriction,
    rustdoc::all
)]

include!(concat!(env!("OUT_DIR"), "/bindings.rs"));
