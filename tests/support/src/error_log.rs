//! The server's error log as an oracle: what it complains of and the test did not announce fails
//! the test, and so does what the test announced and the server did not say.

use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock, Mutex};

use regex_lite::Regex;

use crate::httpd::Complaints;
use crate::tcp::tcp_sockets;

/// `[time] [module:level] …`
static LINE: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"^\[[^\]]*\] \[[^:\]]*:(\w+)\]").expect("a valid pattern"));

/// A disaster, at whatever level it is said. No pattern announces it that does not name it.
const DISASTERS: [&str; 3] = ["exit signal", "panicked at", "internal error, please report it"];

/// The one that a line tells of.
fn disaster(line: &str) -> Option<&'static str> {
    DISASTERS.into_iter().find(|words| line.contains(words))
}

/// What the event and worker MPMs may say when they are told to stop while connections are open: the listener's pollset
/// is gone before its threads are, and the main thread may close a socket that another thread closes or has just freed
/// (`close_worker_sockets`), which may end the child that was to end. Before that a crash counts as everywhere. A child says it.
static STOPPED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"mpm_event:error.*Bad file descriptor.*(apr_pollset_\w+ failure|AH00468: )").expect("a valid pattern")
});

/// What their parent says of that.
static CRASHED: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"exit signal Segmentation fault").expect("a valid pattern"));

/// What mod_fcgid's manager of programs says when it notices only after a while, on a busy machine, that its server has been stopped.
static LEFT: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"fcgid:emerg.*server is restarted, pid \d+ must exit").expect("a valid pattern"));

/// What any parent may say after that: of a child that has not ended within three seconds, on a busy machine.
static SLOW: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"core:warn.*AH00045: child process \d+ still did not exit").expect("a valid pattern"));

/// What it says of one that has not ended within nine seconds, and a second later. That counts, but where stock httpd's own are slow.
static KILLED: LazyLock<Regex> = LazyLock::new(|| {
    Regex::new(r"core:error.*(AH00046: child process \d+ still did not exit|AH00047: could not make child process)")
        .expect("a valid pattern")
});

/// `[pid 1:tid 2]`, or without the thread.
static PID: LazyLock<Regex> = LazyLock::new(|| Regex::new(r"\[pid (\d+)(?::tid \d+)?\]").expect("a valid pattern"));

/// What a parent says last when it starts or restarts, in any MPM.
pub(crate) const READY: &str = "resuming normal operations";

/// What it says first when it restarts.
static RESTARTS: LazyLock<Regex> =
    LazyLock::new(|| Regex::new(r"Attempting to restart|[Dd]oing (?:graceful )?restart$").expect("a valid pattern"));

/// The files that a server writes its complaints to, and the ones that the test waits for.
pub(crate) struct ErrorLog {
    /// What httpd logs.
    pub(crate) path: PathBuf,
    /// What it says before it has opened its log.
    pub(crate) stderr: PathBuf,
    /// The server's ports.
    pub(crate) ports: [u16; 2],
    announced: Mutex<Vec<Announced>>,
    stops: Mutex<Vec<Stop>>,
}

/// A parent has been told to stop.
struct Stop {
    parent: u32,
    /// The lines that the log had.
    said: usize,
    /// Whether it had connections: without one no child crashes.
    served: bool,
}

struct Announced {
    pattern: Regex,
    must_come: bool,
}

impl Announced {
    fn excuses(&self, line: &str) -> bool {
        disaster(line).is_none_or(|words| self.pattern.as_str().contains(words)) && self.pattern.is_match(line)
    }
}

impl ErrorLog {
    /// The log in the server's folder `root`, of a server that has no ports yet.
    pub(crate) fn new(root: &Path) -> ErrorLog {
        ErrorLog {
            path: root.join("error.log"),
            stderr: root.join("stderr.log"),
            ports: [0, 0],
            announced: Mutex::default(),
            stops: Mutex::default(),
        }
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

    /// Notes that the process `parent` is told to stop.
    pub(crate) fn stops(&self, parent: u32) {
        let said = self.text().lines().count();
        let addresses = self.ports.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)));
        let mut sockets = tcp_sockets(self.ports).into_iter();
        let served = sockets.any(|socket| socket.is_of(&addresses) && !socket.listens && socket.inode != 0);
        self.stops.lock().unwrap().push(Stop { parent, said, served });
    }

    /// Whether a line is what httpd may say when it has been told to stop.
    fn is_of_a_stop(&self, index: usize, line: &str, threaded: bool) -> bool {
        if SLOW.is_match(line) {
            self.is_by_the_stopped(index, line, |_| true)
        } else if threaded && CRASHED.is_match(line) {
            self.is_by_the_stopped(index, line, |stop| stop.served)
        } else {
            (threaded && STOPPED.is_match(line) || LEFT.is_match(line))
                && self.stops.lock().unwrap().iter().any(|stop| index >= stop.said)
        }
    }

    /// Whether a parent says it that had been told to stop, in such a stop.
    fn is_by_the_stopped(&self, index: usize, line: &str, may: impl Fn(&Stop) -> bool) -> bool {
        let speaker = PID.captures(line).and_then(|pid| pid[1].parse().ok());
        let is_its = |stop: &Stop| index >= stop.said && speaker == Some(stop.parent);
        self.stops.lock().unwrap().iter().any(|stop| is_its(stop) && may(stop))
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
        complaints.retain(|line| !announced.iter().any(|one| one.excuses(line)));
        complaints
    }

    /// What the server complained of when it started or restarted, as [`ErrorLog::normal`], and whether its children were slow to stop.
    pub(crate) fn complaints(&self) -> Complaints {
        let text = self.text();
        let starting = said_at_start(&text);
        let at_start = text.lines().zip(starting).filter(|(line, starting)| *starting && is_complaint(line));
        let at_start = at_start.map(|(line, _)| self.normal(line)).collect();
        let slow_to_stop = text
            .lines()
            .enumerate()
            .any(|(index, line)| SLOW.is_match(line) && self.is_by_the_stopped(index, line, |_| true));
        Complaints { at_start, slow_to_stop }
    }

    /// A line without what differs between servers that are alike: time, process and thread, folder, ports.
    fn normal(&self, line: &str) -> String {
        let line = match LINE.is_match(line) {
            true => line.split_once("] ").map_or(line, |(_, rest)| rest),
            false => line,
        };
        let mut line = PID.replace(line, "[pid]").into_owned();
        if let Some(root) = self.path.parent() {
            line = line.replace(&*root.to_string_lossy(), "${ROOT}");
        }
        let [port, tls_port] = self.ports.map(|port| Regex::new(&format!(r"\b{port}\b")).expect("a valid pattern"));
        let line = port.replace_all(&line, "$${PORT}");
        tls_port.replace_all(&line, "$${TLS_PORT}").into_owned()
    }

    /// What is wrong: unannounced complaints, and announced ones that did not come. What `stock` says as well is
    /// nobody's fault: `stock` is asked only where something is left.
    pub(crate) fn trouble(&self, stock: impl FnOnce() -> Arc<Complaints>) -> Vec<String> {
        let text = self.text();
        let starting = said_at_start(&text);
        let stock = LazyLock::new(stock);
        let threaded = !text.contains("[mpm_prefork:");
        let announced = self.announced.lock().unwrap();
        let unannounced = text
            .lines()
            .enumerate()
            .filter(|(_, line)| is_complaint(line))
            .filter(|(index, line)| !self.is_of_a_stop(*index, line, threaded))
            .filter(|(_, line)| !announced.iter().any(|one| one.excuses(line)))
            .filter(|(index, line)| !starting[*index] || !stock.at_start.contains(&self.normal(line)))
            .filter(|(index, line)| {
                !KILLED.is_match(line) || !self.is_by_the_stopped(*index, line, |_| true) || !stock.slow_to_stop
            })
            .map(|(_, line)| line.to_owned());
        let missing = announced
            .iter()
            .filter(|one| one.must_come && !text.lines().any(|line| one.pattern.is_match(line)))
            .map(|one| format!("announced, but not in the log: {}", one.pattern));
        unannounced.chain(missing).collect()
    }
}

/// Whether a line says that something went wrong. A line that httpd did not write itself, with
/// its time and level, came from some program's standard error and is one too.
pub(crate) fn is_complaint(line: &str) -> bool {
    match LINE.captures(line) {
        Some(parts) => matches!(&parts[1], "warn" | "error" | "crit" | "alert" | "emerg") || disaster(line).is_some(),
        None => !line.trim().is_empty(),
    }
}

/// For each line of a server's words, whether its parent said it while it started or restarted: before it was ready, or after it was
/// told to restart and before it was ready again. What it said before it had a log has no process, and counts as such.
fn said_at_start(text: &str) -> Vec<bool> {
    let pid = |line| PID.captures(line).map(|parts| parts.get(1).map_or("", |pid| pid.as_str()));
    let mut starting: HashMap<&str, bool> =
        text.lines().filter(|line| line.contains(READY)).filter_map(pid).map(|parent| (parent, true)).collect();
    let said = |line| {
        let Some(pid) = pid(line) else { return !LINE.is_match(line) };
        let Some(starting) = starting.get_mut(pid) else { return false };
        let now = *starting;
        *starting = RESTARTS.is_match(line) || now && !line.contains(READY);
        now
    };
    text.lines().map(said).collect()
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::collections::HashSet;
    use std::fs;
    use std::sync::Arc;

    use super::{Complaints, ErrorLog, is_complaint};

    const READY: &str = "[Sun Nov 22 2026] [mpm_event:notice] [pid 1:tid 1] AH00489: x -- resuming normal operations\n";

    /// What is wrong with this log where the stock server says `stock` at its start, and how often that was asked for.
    fn trouble(log: &str, stock: &str) -> (Vec<String>, usize) {
        let folder = tempfile::tempdir().unwrap();
        let with_ports = |root: &str, ports| {
            let root = folder.path().join(root);
            fs::create_dir(&root).unwrap();
            ErrorLog { ports, ..ErrorLog::new(&root) }
        };
        let write = |error_log: &ErrorLog, text: &str| {
            let root = error_log.path.parent().unwrap().to_str().unwrap();
            let [port, _] = error_log.ports;
            fs::write(&error_log.path, text.replace("ROOT", root).replace("PORT", &port.to_string())).unwrap();
        };
        let (ours, theirs) = (with_ports("ours", [1234, 1235]), with_ports("theirs", [4321, 4322]));
        write(&ours, log);
        write(&theirs, &stock.replace("pid 1:tid 1", "pid 7:tid 8").replace("2026", "2027"));
        let asked = Cell::new(0);
        let ask = || {
            asked.set(asked.get() + 1);
            Arc::new(theirs.complaints())
        };
        (ours.trouble(ask), asked.get())
    }

    fn warning(text: &str) -> String {
        format!("[Sun Nov 22 2026] [ssl:warn] [pid 1:tid 1] {text}\n")
    }

    #[test]
    fn what_stock_says_at_its_start_is_forgiven_at_ours() {
        let old = warning("AH01882: compiled against a newer library, ROOT:PORT");
        assert_eq!(trouble(&(old.clone() + READY), &(old.clone() + READY)), (vec![], 1));
        assert_eq!(trouble(&[&old, READY, &old].concat(), &(old.clone() + READY)).0.len(), 1, "said later");
        assert_eq!(trouble(&(old.clone() + READY), READY).0.len(), 1, "stock does not say it");
        assert_eq!(trouble(&(old.clone() + READY), &[READY, &old].concat()).0.len(), 1, "stock says it later");
        assert_eq!(trouble(READY, &(old + READY)), (vec![], 0), "nobody is asked in vain");
    }

    #[test]
    fn stock_is_slow_to_stop() {
        let folder = tempfile::tempdir().unwrap();
        let log = ErrorLog::new(folder.path());
        let slow = warning("AH00045: child process 7 still did not exit, sending a SIGTERM").replace("ssl:", "core:");
        fs::write(&log.path, READY).unwrap();
        log.stops(1);
        assert!(!log.complaints().slow_to_stop);
        fs::write(&log.path, READY.to_owned() + &slow).unwrap();
        assert!(log.complaints().slow_to_stop);
    }

    #[test]
    fn nothing_but_the_same_is_forgiven() {
        let stock = warning("AH01882: compiled against 3.0.1") + READY;
        assert_eq!(trouble(&(warning("AH01882: compiled against 3.0.2") + READY), &stock).0.len(), 1, "another text");
        let error = warning("AH01882: compiled against 3.0.1").replace("warn", "error");
        assert_eq!(trouble(&(error + READY), &stock).0.len(), 1, "another level");
        let child = warning("AH01882: compiled against 3.0.1").replace("pid 1:", "pid 2:");
        assert_eq!(trouble(&(child + READY), &stock).0.len(), 1, "another process");
    }

    #[test]
    fn a_restart_is_a_start() {
        let old = warning("AH01882: old");
        for restarts in
            ["AH00493: SIGUSR1 received.  Doing graceful restart", "AH00494: SIGHUP received.  Attempting to restart"]
        {
            let notice = warning(restarts).replace("ssl:warn", "mpm_event:notice");
            let log = [&old, READY, &notice, &old, READY].concat();
            assert_eq!(trouble(&log, &(old.clone() + READY)).0, [""; 0]);
            assert_eq!(trouble(&(log + &old), &(old.clone() + READY)).0.len(), 1);
        }
    }

    #[test]
    fn what_the_stopped_may_say() {
        let folder = tempfile::tempdir().unwrap();
        let log = ErrorLog::new(folder.path());
        let slow = |pid| {
            warning("AH00045: child process 7 still did not exit, sending a SIGTERM")
                .replace("ssl:", "core:")
                .replace("pid 1:", &format!("pid {pid}:"))
        };
        let trouble = |text: &str| {
            fs::write(&log.path, text).unwrap();
            log.trouble(Default::default).len()
        };
        assert_eq!(trouble(READY), 0);
        log.stops(1);
        assert_eq!(trouble(&[READY, &slow(1)].concat()), 0);
        assert_eq!(trouble(&[&slow(1), READY].concat()), 1, "before it was told");
        assert_eq!(trouble(&[READY, READY, &slow(2)].concat()), 1, "its successor");
        assert_eq!(trouble(&[READY, READY, &slow(1)].concat()), 0, "while its successor runs");
        let killed = |pid| slow(pid).replace(":warn", ":error").replace("AH00045", "AH00046");
        assert_eq!(trouble(&[READY, &slow(1), &killed(1)].concat()), 1, "nobody may have to be killed");
        let where_stock_is_slow = |text: &str| {
            fs::write(&log.path, text).unwrap();
            log.trouble(|| Complaints { slow_to_stop: true, ..Complaints::default() }.into()).len()
        };
        assert_eq!(
            where_stock_is_slow(&[READY, &slow(1), &killed(1)].concat()),
            0,
            "but by a busy machine, where stock is slow"
        );
        assert_eq!(where_stock_is_slow(&[READY, READY, &killed(2)].concat()), 1, "its successor");
        let crash = slow(2).replace("AH00045: child process 7", "child pid 7 exit signal Segmentation fault");
        assert_eq!(trouble(&[READY, &crash].concat()), 1, "its successor's child");
    }

    #[test]
    fn what_is_said_before_there_is_a_log() {
        let log = |words: &str| format!("{words}\n{READY}");
        assert_eq!(
            trouble(&log("AH00558: could not tell the name"), &log("AH00558: could not tell the name")).0,
            [""; 0]
        );
        assert_eq!(trouble(&log("free(): invalid pointer"), &log("AH00558: could not tell the name")).0.len(), 1);
        assert_eq!(
            trouble("AH00526: Syntax error\n", READY).0,
            HashSet::from(["AH00526: Syntax error".to_owned()]).into_iter().collect::<Vec<_>>()
        );
    }

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
    fn a_disaster_is_announced_by_its_name() {
        let folder = tempfile::tempdir().unwrap();
        let log = ErrorLog::new(folder.path());
        log.announce("finish_request:(warn|error)", false);
        let panic =
            warning("internal error, please report it: oh (src/lib.rs:1)").replace("ssl:warn", "finish_request:error");
        fs::write(&log.path, &panic).unwrap();
        assert_eq!(log.trouble(Default::default).len(), 1);
        fs::write(&log.path, panic.replace("internal error", "an error")).unwrap();
        assert_eq!(log.trouble(Default::default).len(), 0);
        log.announce("exit signal Killed", false);
        let killed = warning("AH00052: child pid 7 exit signal Killed (9)");
        fs::write(&log.path, &killed).unwrap();
        assert_eq!(log.trouble(Default::default).len(), 0);
        fs::write(&log.path, killed.replace("Killed (9)", "Abort (6)")).unwrap();
        assert_eq!(log.trouble(Default::default).len(), 1);
    }

    #[test]
    fn foreign_lines_count() {
        assert!(is_complaint("free(): invalid pointer"));
        assert!(!is_complaint(""));
    }
}
