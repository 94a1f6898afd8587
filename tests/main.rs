//! The promises that the module makes, each tested against a running httpd.
//!
//! One program, so that all tests run side by side; one file for each promise.

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

mod after_the_end;
mod answers;
mod api;
mod auto;
mod backends;
mod bad_marks;
mod boundary;
mod build_sentences;
mod cgi_length;
mod compression;
mod configuration;
mod demo;
mod differential;
mod docs;
mod elsewhere;
mod ending;
mod endurance;
mod faults;
mod fcgid;
mod flush;
mod header_only;
mod hidden_mark;
mod house;
mod httpd_conf;
mod install;
mod judge;
mod keep;
mod kept_bodies;
mod kept_clients;
mod late;
mod leaks;
mod lifetimes;
mod limit;
mod listener;
mod log;
mod marks;
mod matrix;
mod on_abort;
mod operations;
mod own_chunks;
mod php_function;
mod proxies;
mod ranges;
mod readme;
mod recipes;
mod regressions;
mod released;
mod restarts;
mod slow_clients;
mod status;
mod streams;
mod switches;
mod timeout;
mod unmarked;
mod uploads;
mod version;
