//! Other people's clients.

use std::fs::File;
use std::io::{Read, Seek};
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use crate::deadline::DEADLINE;
use crate::process::Process;
use crate::programs;

/// What a program that has ended left.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output.
    pub stdout: Vec<u8>,
    /// Its standard error, as text.
    pub stderr: String,
}

/// Runs curl with `args`, for example `["--http2", "--cacert", "…/server.pem", URL]`. It says
/// nothing but the response's body, and errors.
///
/// # Panics
///
/// When there is no curl, or it does not end before the deadline.
#[track_caller]
pub fn curl(args: &[&str]) -> Output {
    let mut command = Command::new(programs::program(&["curl"]));
    command.args(["--silent", "--show-error"]).args(args);
    run_within(DEADLINE, command)
}

/// Runs nghttp with `args`, for example `["-v", URL]`. It does not check certificates.
///
/// # Panics
///
/// When there is no nghttp, or it does not end before the deadline.
#[track_caller]
pub fn nghttp(args: &[&str]) -> Output {
    let mut command = Command::new(programs::program(&["nghttp"]));
    command.arg("--no-verify-peer").args(args);
    run_within(DEADLINE, command)
}

/// Runs a program to its end. It may need the processor for long, as compilers do.
///
/// # Panics
///
/// When it cannot be run, or does not end before five deadlines.
#[track_caller]
pub fn run(command: Command) -> Output {
    run_within(DEADLINE * 5, command)
}

#[track_caller]
fn run_within(limit: Duration, mut command: Command) -> Output {
    let mut stdout = tempfile::tempfile().expect("a file");
    let mut stderr = tempfile::tempfile().expect("a file");
    let to = |file: &File| Stdio::from(file.try_clone().expect("a descriptor"));
    command.stdin(Stdio::null()).stdout(to(&stdout)).stderr(to(&stderr));
    let what = format!("{command:?}");
    let mut process = Process::spawn(command).unwrap_or_else(|error| panic!("{what}: {error}"));
    let status = process.wait(limit);
    let stdout = contents(&mut stdout);
    let stderr = String::from_utf8_lossy(&contents(&mut stderr)).into_owned();
    let status = status.unwrap_or_else(|| panic!("{what} does not end; it said {stderr:?}"));
    Output { status, stdout, stderr }
}

fn contents(file: &mut File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.rewind().and_then(|()| file.read_to_end(&mut bytes)).expect("a file can be read");
    bytes
}
