//! The bridge from the `log` crate to httpd's error log, with the module's own `LogLevel`.

use std::cell::Cell;
use std::ffi::{CString, c_int};
use std::sync::atomic::{AtomicPtr, Ordering};

use log::{Level, LevelFilter, Log, Metadata, Record};

use super::{Connection, Request, Server};
use crate::sys;

/// The main server of a child process, which lives as long as the process; null elsewhere.
static MAIN: AtomicPtr<sys::server_rec> = AtomicPtr::new(std::ptr::null_mut());

/// A child process has begun: what is about nothing in particular is about this server, whose log and `LogLevel` hold for it. Without a server httpd
/// writes to what its standard error was, which nobody reads where `ErrorLog` is a program or syslog.
pub fn log_about(server: Server<'_>) {
    MAIN.store(server.raw(), Ordering::Release);
}

/// The object that a message is about: httpd prefixes it accordingly, and takes the level from its configuration.
#[derive(Clone, Copy)]
pub enum About {
    /// Nothing in particular: a server, or null for the main one.
    Server(*const sys::server_rec),
    /// A request.
    Request(*mut sys::request_rec),
    /// A connection.
    Connection(*mut sys::conn_rec),
}

impl From<Server<'_>> for About {
    fn from(server: Server<'_>) -> Self {
        Self::Server(server.raw())
    }
}

impl From<Request<'_>> for About {
    fn from(request: Request<'_>) -> Self {
        Self::Request(request.raw())
    }
}

impl From<Connection<'_>> for About {
    fn from(connection: Connection<'_>) -> Self {
        Self::Connection(connection.raw())
    }
}

thread_local! {
    static ABOUT: Cell<About> = const { Cell::new(About::Server(std::ptr::null())) };
}

/// Runs `body` with its messages logged about this request or connection, which must live until it returns.
pub fn with_context<T>(about: impl Into<About>, body: impl FnOnce() -> T) -> T {
    struct Restore<'a>(&'a Cell<About>, About);
    impl Drop for Restore<'_> {
        fn drop(&mut self) {
            self.0.set(self.1);
        }
    }
    ABOUT.with(|place| {
        let _restore = Restore(place, place.replace(about.into()));
        body()
    })
}

/// Makes httpd's error log the place where this library's messages go. May be called at each load of the module.
pub fn install() {
    struct Bridge;
    impl Log for Bridge {
        fn enabled(&self, metadata: &Metadata<'_>) -> bool {
            enabled(metadata.level())
        }
        fn log(&self, record: &Record<'_>) {
            if enabled(record.level()) {
                write(aplog(record.level()), record.line().unwrap_or(0), &record.args().to_string());
            }
        }
        fn flush(&self) {}
    }
    // An error says that it is installed already, which is as well.
    let _ = log::set_logger(&Bridge);
    log::set_max_level(LevelFilter::Trace);
}

fn aplog(level: Level) -> c_int {
    match level {
        Level::Error => sys::APLOG_ERR,
        Level::Warn => sys::APLOG_WARNING,
        Level::Info => sys::APLOG_INFO,
        Level::Debug => sys::APLOG_DEBUG,
        Level::Trace => sys::APLOG_TRACE1,
    }
}

fn enabled(level: Level) -> bool {
    let index = super::Module::index();
    // SAFETY: what messages are about lives while with_context runs (invariant 1); the functions only read.
    let configured = unsafe {
        match ABOUT.get() {
            // httpd looks itself.
            About::Server(_) => return true,
            About::Request(r) => sys::ap_get_request_module_loglevel(r, index),
            About::Connection(c) => sys::ap_get_conn_module_loglevel(c, index),
        }
    };
    aplog(level) <= configured
}

/// Logs at `notice`, a level that the `log` crate does not have, about the server.
pub fn notice(server: Server<'_>, text: &str) {
    with_context(server, || write(sys::APLOG_NOTICE, 0, text));
}

fn write(level: c_int, line: u32, text: &str) {
    let Ok(text) = CString::new(text.replace('\0', "\\0")) else { return };
    let (file, line) = (c"mod_finish_request".as_ptr(), line.cast_signed());
    let index = super::Module::index();
    let format = c"%s".as_ptr();
    let about = match ABOUT.get() {
        About::Server(server) if server.is_null() => About::Server(MAIN.load(Ordering::Acquire)),
        about => about,
    };
    // SAFETY: as for enabled, and the main server lives as long as the process; the format takes one string, and one ends in NUL. With a null server
    // httpd logs at notice and above only.
    unsafe {
        match about {
            About::Server(s) => sys::ap_log_error_(file, line, index, level, 0, s, format, text.as_ptr()),
            About::Request(r) => sys::ap_log_rerror_(file, line, index, level, 0, r, format, text.as_ptr()),
            About::Connection(c) => sys::ap_log_cerror_(file, line, index, level, 0, c, format, text.as_ptr()),
        }
    }
}
