//! The server's error log as an oracle: what it complains of and the test did not announce fails
//! the test, and so does what the test announced and the server did not say.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{LazyLock, Mutex};

use regex_lite::Regex;

/// `[time] [module:level] …`
static LINE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\[[^\]]*\] \[[^:\]]*:(\w+)\]").expect("a valid pattern"));

/// Said at a low level, and yet a disaster.
static DISASTER: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"exit signal|panicked at").expect("a valid pattern"));

/// What the event and worker MPMs may say when they are told to stop while connections are open: the listener's pollset
/// is gone before its threads are, and the main thread may close a socket that another thread closes or has just freed
/// (`close_worker_sockets`), which may end the child that was to end. Before that a crash counts as everywhere.
static STOPPED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(
        r"mpm_event:error.*Bad file descriptor.*(apr_pollset_\w+ failure|AH00468: )|exit signal Segmentation fault",
    )
    .expect("a valid pattern")
});

/// What any of them may say after that: of a child that has not ended within three seconds, on a busy machine. One that has to be
/// killed counts.
static SLOW: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"core:warn.*AH00045: child process \d+ still did not exit").expect("a valid pattern"));

/// The files that a server writes its complaints to, and the ones that the test waits for.
pub(crate) struct ErrorLog {
    /// What httpd logs.
    pub(crate) path: PathBuf,
    /// What it says before it has opened its log.
    pub(crate) stderr: PathBuf,
    announced: Mutex<Vec<Announced>>,
}

struct Announced {
    pattern: Regex,
    must_come: bool,
}

impl ErrorLog {
    /// The log in the server's folder `root`.
    pub(crate) fn new(root: &Path) -> ErrorLog {
        ErrorLog { path: root.join("error.log"), stderr: root.join("stderr.log"), announced: Mutex::default() }
    }

    /// Announces complaints that match `pattern`; `must_come` if their absence is a failure.
    ///
    /// # Panics
    ///
    /// When the pattern is no regular expression.
    pub(crate) fn announce(&self, pattern: &str, must_come: bool) {
        let pattern = Regex::new(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
        self.announced.lock().unwrap().push(Announced { pattern, must_come });
    }

    /// All that the server said: its standard error, then its log.
    pub(crate) fn text(&self) -> String {
        let read = |path| fs::read(path).unwrap_or_default();
        let text = [read(&self.stderr), read(&self.path)].concat();
        String::from_utf8_lossy(&text).into_owned()
    }

    /// Those of some program's complaints that were not announced.
    pub(crate) fn unannounced(&self, complaints: Vec<String>) -> Vec<String> {
        let announced = self.announced.lock().unwrap();
        let mut complaints = complaints;
        complaints.retain(|line| !announced.iter().any(|one| one.pattern.is_match(line)));
        complaints
    }

    /// What is wrong: unannounced complaints, and announced ones that did not come. The server was
    /// told to stop when it had said `running` lines.
    pub(crate) fn trouble(&self, running: usize) -> Vec<String> {
        let text = self.text();
        let threaded = !text.contains("[mpm_prefork:");
        let announced = self.announced.lock().unwrap();
        let unannounced = text
            .lines()
            .enumerate()
            .filter(|(index, line)| *index < running || !(SLOW.is_match(line) || threaded && STOPPED.is_match(line)))
            .map(|(_, line)| line)
            .filter(|line| is_complaint(line))
            .filter(|line| !announced.iter().any(|one| one.pattern.is_match(line)))
            .map(str::to_owned);
        let missing = announced
            .iter()
            .filter(|one| one.must_come && !text.lines().any(|line| one.pattern.is_match(line)))
            .map(|one| format!("announced, but not in the log: {}", one.pattern));
        unannounced.chain(missing).collect()
    }
}

/// Whether a line says that something went wrong. A line that httpd did not write itself, with
/// its time and level, came from some program's standard error and is one too.
fn is_complaint(line: &str) -> bool {
    match LINE.captures(line) {
        Some(parts) => matches!(&parts[1], "warn" | "error" | "crit" | "alert" | "emerg") || DISASTER.is_match(line),
        None => !line.trim().is_empty(),
    }
}

#[cfg(test)]
mod tests {
    use super::is_complaint;

    #[test]
    fn level_decides() {
        assert!(!is_complaint("[Sun Nov 22 2026] [mpm_event:notice] [pid 1:tid 1] AH00489: ready"));
        assert!(is_complaint("[Sun Nov 22 2026] [core:warn] [pid 1:tid 1] AH00001: hm"));
        assert!(is_complaint("[Sun Nov 22 2026] [finish_request:error] [pid 1] oh"));
        assert!(is_complaint("[Sun Nov 22 2026] [php:warn] [pid 1] PHP Warning:  oh"));
    }

    #[test]
    fn disasters_count_at_any_level() {
        assert!(is_complaint("[Sun Nov 22 2026] [core:notice] [pid 1] AH00051: child pid 7 exit signal Abort (6)"));
    }

    #[test]
    fn foreign_lines_count() {
        assert!(is_complaint("free(): invalid pointer"));
        assert!(!is_complaint(""));
    }
}
