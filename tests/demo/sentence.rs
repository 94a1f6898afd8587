//! What the demo says, and how it says why it cannot go on: in one sentence, once.

use std::fmt::{Arguments, Display};
use std::io::{ErrorKind, Write, stderr, stdout};
use std::panic::PanicHookInfo;
use std::process::{ExitCode, exit};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use crate::measure::message;
use crate::supervisor;

/// Prints a line. Where nobody reads any more the demo is over.
macro_rules! say {
    ($($text:tt)*) => { crate::sentence::print(format_args!("{}\n", format_args!($($text)*))) };
}

pub(crate) use say;

/// Prints a text on standard output, as [`say`].
pub fn print(text: Arguments<'_>) {
    let printed = stdout().write_fmt(text).and_then(|()| stdout().flush());
    match printed {
        Ok(()) => {}
        // The terminal was closed, or the pipe.
        Err(error) if error.kind() == ErrorKind::BrokenPipe || error.raw_os_error() == Some(libc::EIO) => exit(1),
        Err(error) => fail(&format!("its words cannot be written to standard output ({error})")),
    }
}

/// Says why the demo cannot run: `trouble` is the rest of the sentence.
pub fn cannot_run(trouble: &dyn Display) -> ExitCode {
    // A server may have said several things.
    let trouble = trouble.to_string();
    let trouble: Vec<&str> = trouble.lines().map(|line| line.trim().trim_end_matches('.')).collect();
    let _ = writeln!(stderr(), "The demo cannot run: {}.", trouble.join("; ").trim_end_matches([';', ' ']));
    ExitCode::FAILURE
}

/// Says it, and ends this process. Whoever comes second, in another thread, says nothing; nor does who is to end: a Ctrl-C goes to all
/// programs, and one that has been ended by it has given no answer.
pub fn fail(trouble: &dyn Display) -> ! {
    static FAILED: AtomicBool = AtomicBool::new(false);
    if FAILED.swap(true, Ordering::Relaxed) {
        loop {
            thread::sleep(Duration::from_secs(1));
        }
    }
    if !supervisor::is_to_end() {
        cannot_run(trouble);
    }
    exit(1)
}

/// From now on a panic, which is a check of the tests' servers that failed, is such an end.
pub fn instead_of_panics() {
    std::panic::set_hook(Box::new(|panic: &PanicHookInfo<'_>| fail(&message(panic.payload()))));
}
