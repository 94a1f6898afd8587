//! Servers that are watched, for `make check`: `$UNDER` says by whom, and what they find fails the test.
//!
//! * `asan`: by AddressSanitizer, which the module (`$MOD_FINISH_REQUEST_SO`) has been built with. Its own is preloaded: httpd does not have it.
//! * `tsan`: by ThreadSanitizer, in the same way.
//! * `memcheck`: by valgrind.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::{preloaded, programs};

/// Who watches.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Under {
    Asan,
    Tsan,
    Memcheck,
}

fn under() -> Option<Under> {
    match env::var("UNDER").ok()?.as_str() {
        "" => None,
        "asan" => Some(Under::Asan),
        "tsan" => Some(Under::Tsan),
        "memcheck" => Some(Under::Memcheck),
        other => panic!("UNDER is `asan`, `tsan` or `memcheck`, not `{other}`"),
    }
}

/// Whether whoever watches sees what is done with memory that was given back: then it is given back at once, and overwritten.
pub(crate) fn sees_what_is_freed() -> bool {
    matches!(under(), Some(Under::Asan | Under::Memcheck))
}

/// Whether that is a sanitizer's library, which refuses what PHP asks for when it loads an extension: symbols of its own (`RTLD_DEEPBIND`).
pub fn is_sanitized() -> bool {
    matches!(under(), Some(Under::Asan | Under::Tsan))
}

/// What a server's configuration needs.
pub(crate) fn config() -> &'static str {
    match under() {
        // Valgrind has no robust mutexes.
        Some(Under::Memcheck) => "Mutex fcntl default\n",
        _ => "",
    }
}

/// Where they write what they find.
const FOUND: &str = "run/found.";

/// httpd's program, as it is to be run in a folder; with these libraries preloaded.
pub(crate) fn httpd(root: &Path, preload: Option<&str>) -> Command {
    let found = root.join(FOUND).display().to_string();
    let mut libraries: Vec<String> = preload.map(str::to_owned).into_iter().collect();
    let mut command = match under() {
        None => Command::new(programs::httpd()),
        Some(Under::Asan) => {
            libraries.insert(0, sanitizer("libasan.so").display().to_string());
            let mut command = Command::new(programs::httpd());
            // httpd keeps much until its end on purpose.
            command.env("ASAN_OPTIONS", format!("detect_leaks=0:detect_stack_use_after_return=1:log_path={found}asan"));
            command
        }
        Some(Under::Tsan) => {
            libraries.insert(0, preloaded::library("tsan").display().to_string());
            libraries.insert(0, sanitizer("libtsan.so").display().to_string());
            let mut command = Command::new(programs::httpd());
            let others = suppressions("tsan.supp");
            // A child of a process with threads is one of httpd's ways; what it finds is in its file, and no reason to end otherwise.
            command.env(
                "TSAN_OPTIONS",
                format!(
                    "die_after_fork=0:exitcode=0:history_size=4:second_deadlock_stack=1:\
                     suppressions={}:log_path={found}tsan",
                    others.display()
                ),
            );
            command
        }
        Some(Under::Memcheck) => {
            let mut command = Command::new(programs::program(&["valgrind"]));
            let others = suppressions("memcheck.supp");
            command.args(["--quiet", "--num-callers=40", "--leak-check=no", "--child-silent-after-fork=no"]);
            command.arg(format!("--suppressions={}", others.display()));
            command.arg(format!("--log-file={found}%p")).arg(programs::httpd());
            command
        }
    };
    if !libraries.is_empty() {
        command.env("LD_PRELOAD", libraries.join(":"));
    }
    command
}

/// What whoever watches calls the defect of a server that was started [`with_defect`](crate::Builder::with_defect); `None` where nobody watches.
pub fn defect() -> Option<&'static str> {
    under().map(|under| match under {
        Under::Asan => "heap-use-after-free",
        Under::Tsan => "data race",
        Under::Memcheck => "Invalid read of size 1",
    })
}

/// The library that has it.
pub(crate) fn defective() -> PathBuf {
    let options: &[&str] = match under() {
        Some(Under::Asan) => &["-fsanitize=address"],
        Some(Under::Tsan) => &["-fsanitize=thread", "-DRACE"],
        _ => &[],
    };
    preloaded::built("defect", options)
}

/// What is others' matter, each with its reason.
fn suppressions(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../check").join(file)
}

/// A sanitizer's library, as the C compiler knows it.
fn sanitizer(name: &str) -> PathBuf {
    let output = Command::new("cc").arg(format!("-print-file-name={name}")).output().expect("cc runs");
    let library = PathBuf::from(String::from_utf8_lossy(&output.stdout).trim());
    // It may be a linker's script, or a link.
    library.canonicalize().unwrap_or_else(|_| panic!("the C compiler has no {name}"))
}

/// What they have found in a server that has ended.
pub(crate) fn findings(root: &Path) -> Vec<String> {
    let files = fs::read_dir(root.join("run")).into_iter().flatten().flatten().map(|file| file.path());
    let found = files.filter(|path| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("found.")));
    let mut texts: Vec<String> = found.filter_map(|path| fs::read_to_string(path).ok()).collect();
    // Others' code is others' matter.
    let ours = |text: &String| text.contains("finish_request");
    match under() {
        // They are told apart by lines that say nothing.
        Some(Under::Memcheck) => {
            let split = |text: &String| {
                let lines =
                    text.lines().map(|line| line.trim_start_matches(|letter: char| "=- 0123456789".contains(letter)));
                let text = lines.collect::<Vec<_>>().join("\n");
                text.split("\n\n").map(str::to_owned).collect::<Vec<_>>()
            };
            texts = texts.iter().flat_map(split).filter(ours).collect();
        }
        Some(Under::Tsan) => {
            let split = |text: &String| text.split("==================\n").map(str::to_owned).collect::<Vec<_>>();
            let log = fs::read_to_string(root.join("error.log")).unwrap_or_default();
            let is_race = |text: &String| !is_no_race(text, log.contains("[mpm_prefork:"));
            texts = texts.iter().flat_map(split).filter(ours).filter(is_race).collect();
        }
        _ => {}
    }
    texts.retain(|text| !text.trim().is_empty());
    texts
}

/// What ThreadSanitizer takes for a race of the module's, and is none. A suppression would hide all else in the functions that it names.
fn is_no_race(report: &str, prefork: bool) -> bool {
    let lines: Vec<&str> = report.lines().map(str::trim).collect();
    // With MSG_TRUNC the kernel drops a TCP socket's bytes, and writes none: there is no buffer that threads could share (tcp(7)).
    let discards = |two: &[&str]| two[0].starts_with("#0 recv ") && two[1].contains("client7discard");
    // httpd's worker and event, told to end at once, have their main thread close the connections under the threads that serve them
    // (close_worker_sockets), which see errors then, as they are meant to.
    let closes = |three: &[&str]| {
        three[0].contains("by main thread") && three[1].starts_with("#0 close") && three[2].contains("libapr-1.so")
    };
    // httpd's prefork ends a child in its signal's handler, whatever the child is about (just_die), and frees all there, from where the stack, of which APR's
    // part is not instrumented, often does not show it.
    let dies = prefork && report.contains("signal-unsafe call inside of a signal");
    lines.windows(2).any(discards) || !prefork && lines.windows(3).any(closes) || dies
}

/// Whether a server's processes are watched, and the module is among what they look at; true where nobody watches.
pub fn is_watched(process: u32) -> bool {
    let maps = fs::read_to_string(format!("/proc/{process}/maps")).unwrap_or_default();
    let module = programs::finish_request_module();
    let loaded = maps.contains(&*module.canonicalize().unwrap_or(module.clone()).to_string_lossy());
    let poisoned = !sees_what_is_freed() || maps.contains("poison.so");
    poisoned
        && match under() {
            None => true,
            Some(Under::Asan) => loaded && calls(&module, b"__asan_report_store8") && maps.contains("libasan.so"),
            Some(Under::Tsan) => loaded && calls(&module, b"__tsan_atomic64_load") && maps.contains("libtsan.so"),
            Some(Under::Memcheck) => loaded && maps.contains("vgpreload_memcheck"),
        }
}

/// Whether a module is instrumented: a function of the sanitizer's is among what it calls.
fn calls(module: &Path, function: &[u8]) -> bool {
    fs::read(module).unwrap_or_default().windows(function.len()).any(|bytes| bytes == function)
}
