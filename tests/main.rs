//! The promises that the module makes, each tested against a running httpd. One program, so that all tests run side by side; a folder for
//! each chapter, and a file for each promise:
//!
//! * `marks`: how an application marks its response, and where that ends.
//! * `finished`: what a finished response is worth, on every handler, MPM and protocol.
//! * `directives`: what each directive does.
//! * `administrator`: the logs, the status page, restarts.
//! * `harmless`: what carries no mark is stock httpd's; what breaks stays small.
//! * `package`: building, installing, the demo, the documents, the order of the source.
//! * `apps`: applications as they are packaged, and a browser: `make apps`.
//!
//! Their `mod.rs` say what each file shows. `judge` has the two ways in which a response can end. What all stand on is the crate `support`.
//! Beside them: `machine`, which looks before the first test whether servers can run here, and `demo`, which `make demo` runs.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

/// One test for each handler under each MPM that it can run under: `$check(handler, mpm)`.
macro_rules! on_every_handler_and_mpm {
    ($check:path) => {
        on_every_handler_and_mpm! { $check;
            mod_php_on_prefork: ModPhp, Prefork;
            mod_fcgid_on_event: ModFcgid, Event;
            mod_fcgid_on_worker: ModFcgid, Worker;
            mod_fcgid_on_prefork: ModFcgid, Prefork;
            mod_cgid_on_event: Cgi, Event;
            mod_cgid_on_worker: Cgi, Worker;
            mod_cgi_on_prefork: Cgi, Prefork;
            php_fpm_on_event: PhpFpm, Event;
            php_fpm_on_worker: PhpFpm, Worker;
            php_fpm_on_prefork: PhpFpm, Prefork;
            mod_lua_on_event: Lua, Event;
            mod_lua_on_worker: Lua, Worker;
            mod_lua_on_prefork: Lua, Prefork;
        }
    };
    ($check:path; $($name:ident: $handler:ident, $mpm:ident;)*) => {
        $(
            #[test]
            fn $name() {
                $check(support::Handler::$handler, support::Mpm::$mpm);
            }
        )*
    };
}

/// One test for each MPM: `$check(mpm)`.
macro_rules! on_every_mpm {
    ($check:ident) => {
        mod $check {
            #[test]
            fn on_event() {
                super::$check(support::Mpm::Event);
            }

            #[test]
            fn on_worker() {
                super::$check(support::Mpm::Worker);
            }

            #[test]
            fn on_prefork() {
                super::$check(support::Mpm::Prefork);
            }
        }
    };
}

mod administrator;
mod apps;
mod directives;
mod finished;
mod harmless;
mod judge;
mod marks;
mod package;
