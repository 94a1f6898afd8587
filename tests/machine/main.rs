//! Whether the tests can run on this machine at all: one sentence where they cannot, instead of some hundred failures.

#![allow(missing_docs)]

use std::any::Any;
use std::panic::{catch_unwind, set_hook};
use std::process::ExitCode;

use support::machine;

/// What the tests' servers write at a time, and more.
const ROOM: usize = 64 << 20;

/// What the tests open at a time, and more.
const FILES: u64 = 1024;

fn main() -> ExitCode {
    // What is too large for `ulimit -f` is an error of the write, and not the end.
    // SAFETY: nothing is called for the signal.
    unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) };
    set_hook(Box::new(|_| ()));
    match catch_unwind(check).unwrap_or_else(|panic| Err(message(&*panic))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(trouble) => {
            eprintln!("The tests cannot run: {trouble}.");
            ExitCode::FAILURE
        }
    }
}

fn check() -> Result<(), String> {
    let folder = machine::folder("machine-test-")?;
    machine::check(folder.path(), ROOM, FILES)?;
    machine::serves()
}

fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref().copied()).unwrap_or("something failed").to_owned()
}
