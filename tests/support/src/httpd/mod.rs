//! A private httpd for a test.

mod builder;
mod config;
mod stock;

use std::collections::HashMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::ExitStatus;
use std::sync::Mutex;
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

pub use builder::{Builder, NotStarted};

use crate::application;
use crate::background::Background;
use crate::certificate::Certificate;
use crate::deadline::{DEADLINE, wait_for};
use crate::error_log::{ErrorLog, READY};
use crate::http1::Connection;
use crate::http2::Http2;
use crate::php_fpm::PhpFpm;
use crate::preloaded::Faults;
use crate::process::Process;
use crate::tcp::tcp_sockets;
use crate::under;
pub(crate) use stock::Complaints;

/// How long a prefork server may take to stop gracefully.
const GRACE: Duration = Duration::from_secs(3);

/// The window of a client that is sent as much as there is.
const WIDE: u32 = 1 << 30;

/// How many lines of the log of a failed test's server are shown.
const SHOWN: usize = 50;

/// How httpd spreads requests over processes and threads.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mpm {
    /// Threads; idle connections cost none.
    Event,
    /// Threads, one for each connection.
    Worker,
    /// A process for each connection. No HTTP/2.
    Prefork,
}

impl Mpm {
    /// All of them.
    pub const ALL: [Mpm; 3] = [Mpm::Event, Mpm::Worker, Mpm::Prefork];

    /// Whether mod_http2 works with it.
    pub fn has_http2(self) -> bool {
        self != Mpm::Prefork
    }
}

/// A running httpd with a folder, ports, applications and an error log of its own.
///
/// Ends with the test. A test's last word is [`Httpd::stop`], or simply the end of its scope:
/// both fail the test when the error log has a warning, an error or a crash that was not
/// announced with [`Httpd::expect_log`].
///
/// In configuration texts `${ROOT}` is its folder, `${WWW}` the document root, `${PORT}` and
/// `${TLS_PORT}` are its ports.
pub struct Httpd {
    process: Mutex<Process>,
    fpm: Option<PhpFpm>,
    log: ErrorLog,
    port: u16,
    tls_port: u16,
    stopped: bool,
    builder: Builder,
    root: TempDir,
}

impl Httpd {
    /// A server with the MPM `mpm` that is still to be configured.
    pub fn builder(mpm: Mpm) -> Builder {
        Builder::new(mpm)
    }

    /// Its temporary folder, which has `www`, `gates`, `error.log`, `access.log`, `httpd.conf`.
    pub fn root(&self) -> &Path {
        self.root.path()
    }

    /// The address of its port without TLS: HTTP/1, and HTTP/2 with prior knowledge (h2c).
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The address of its TLS port: HTTP/1 and HTTP/2.
    pub fn tls_address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.tls_port).into()
    }

    /// The URL of `path` without TLS.
    pub fn url(&self, path: &str) -> String {
        format!("http://localhost:{}/{}", self.port, path.trim_start_matches('/'))
    }

    /// The URL of `path` over TLS. Its certificate is `${ROOT}/server.pem`.
    pub fn tls_url(&self, path: &str) -> String {
        format!("https://localhost:{}/{}", self.tls_port, path.trim_start_matches('/'))
    }

    /// A new HTTP/1 connection without TLS.
    #[track_caller]
    pub fn connect(&self) -> Connection {
        Connection::plain(self.address())
    }

    /// A new HTTP/1 connection over TLS.
    #[track_caller]
    pub fn connect_tls(&self) -> Connection {
        Connection::tls(self.tls_address(), Certificate::get())
    }

    /// A new HTTP/1 connection whose client reads nothing before it is told to.
    #[track_caller]
    pub fn connect_slow(&self) -> Connection {
        Connection::slow(self.address())
    }

    /// The same over TLS.
    #[track_caller]
    pub fn connect_slow_tls(&self) -> Connection {
        Connection::slow_tls(self.tls_address(), Certificate::get())
    }

    /// A new HTTP/2 connection over TLS.
    #[track_caller]
    pub fn connect_http2(&self) -> Http2 {
        Http2::connect(self.tls_address(), Some(Certificate::get()))
    }

    /// A new HTTP/2 connection without TLS, with prior knowledge.
    #[track_caller]
    pub fn connect_h2c(&self) -> Http2 {
        Http2::connect(self.address(), None)
    }

    /// A new HTTP/2 connection over TLS, whose client lets the server send many megabytes ahead.
    #[track_caller]
    pub fn connect_wide_http2(&self) -> Http2 {
        Http2::connect_with_window(self.tls_address(), Some(Certificate::get()), Some(WIDE))
    }

    /// The same without TLS.
    #[track_caller]
    pub fn connect_wide_h2c(&self) -> Http2 {
        Http2::connect_with_window(self.address(), None, Some(WIDE))
    }

    /// Waits until the server's side of its clients' connections is stuck: bytes wait in the kernel for a client that does not read.
    ///
    /// # Panics
    ///
    /// After the deadline.
    #[track_caller]
    pub fn wait_for_full_socket(&self) {
        const LOOKS: usize = 20;
        let addresses = [self.address(), self.tls_address()];
        let (mut known, mut same) = (HashMap::new(), 0);
        wait_for("a connection that takes no more", || {
            let mut waits = false;
            for socket in tcp_sockets(addresses.map(|address| address.port())) {
                if socket.is_established && socket.is_of(&addresses) {
                    waits |= socket.unsent > 0;
                    if known.insert((socket.local, socket.remote), socket.unsent) != Some(socket.unsent) {
                        same = 0;
                    }
                }
            }
            same += usize::from(waits);
            (same >= LOOKS).then_some(())
        });
    }

    /// New background work for a request to this server.
    pub fn background(&self) -> Background {
        Background::new(&self.root().join("gates"))
    }

    /// Which call of the module fails, in a server [`with_faults`](Builder::with_faults).
    ///
    /// # Panics
    ///
    /// When it was started without.
    pub fn faults(&self) -> Faults {
        Faults::of(self.root())
    }

    /// Puts an application or a file into the document root. `name` may not be in a subfolder;
    /// `@GATES@` in `text` becomes the folder of [`Background`]'s files. Executable.
    ///
    /// # Panics
    ///
    /// When it cannot be written.
    #[track_caller]
    pub fn install(&self, name: &str, text: &str) {
        application::install(&self.root().join("www"), &self.root().join("gates"), name, text)
            .unwrap_or_else(|error| panic!("the folder {} cannot be written to: {error}", self.root().display()));
    }

    /// Announces a complaint: the log will have a line that matches the regular expression
    /// `pattern` (a plain text mostly matches itself). If it has none, the test fails.
    ///
    /// # Panics
    ///
    /// When the pattern is no regular expression.
    pub fn expect_log(&self, pattern: &str) {
        self.log.announce(pattern, true);
    }

    /// As [`Httpd::expect_log`] for a complaint that may come or not.
    pub fn allow_log(&self, pattern: &str) {
        self.log.announce(pattern, false);
    }

    /// As [`Httpd::allow_log`] for what httpd says when all of its workers are taken, or nearly.
    pub fn may_be_full(&self) {
        self.allow_log("AH00161|AH00286|AH00287|AH00484|AH00485|AH03490|AH10159");
    }

    /// All that the server has logged until now.
    pub fn log(&self) -> String {
        self.log.text()
    }

    /// What is wrong with its log until now: complaints that have not been announced.
    pub fn complaints(&self) -> Vec<String> {
        self.log.trouble(|| stock::complaints(&self.builder))
    }

    /// Waits until the log has a line that contains `text`, at any level, and gives that line.
    ///
    /// # Panics
    ///
    /// After the deadline.
    #[track_caller]
    pub fn wait_for_log(&self, text: &str) -> String {
        wait_for(&format!("the log to say {text:?}"), || {
            self.log().lines().find(|line| line.contains(text)).map(str::to_owned)
        })
    }

    /// The lines of its access log until now: `%h "%r" %>s %b %D %X`.
    pub fn access_log(&self) -> Vec<String> {
        let log = fs::read_to_string(self.root().join("access.log")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }

    /// Sends the server's parent process a signal: `Signal::USR1` restarts it gracefully.
    pub fn signal(&self, signal: Signal) {
        let process = self.process.lock().unwrap();
        if matches!(signal, Signal::TERM | Signal::WINCH) {
            self.log.stops(process.id());
        }
        process.signal(signal);
    }

    /// The parent's process id.
    pub fn id(&self) -> u32 {
        self.process.lock().unwrap().id()
    }

    /// Starts the server anew, as its folder and its configuration file are now, and waits until it is ready. Gives the process that
    /// was its parent before: it may still be about to end.
    ///
    /// # Panics
    ///
    /// When it cannot be started before the deadline.
    #[track_caller]
    pub fn start_again(&self) -> Process {
        let ready = || self.log().matches(READY).count();
        let before = ready();
        let process = Process::spawn(self.builder.command(self.root(), &self.log)).expect("httpd can be run");
        let before_it = std::mem::replace(&mut *self.process.lock().unwrap(), process);
        wait_for("the server to be ready again", || (ready() > before).then_some(()));
        before_it
    }

    /// Ends all of the server's processes at once, as a crash of the machine would.
    pub fn crash(&self) {
        self.process.lock().unwrap().crash();
    }

    /// Stops the server, waits until it has ended, and judges its log.
    ///
    /// # Panics
    ///
    /// When it does not end, and when the log has something that was not announced, or has not
    /// something that was.
    #[track_caller]
    pub fn stop(mut self) {
        self.stop_and_judge();
    }

    /// What it complains of from its start to its end, without what only this server can have said. Ends it unjudged.
    fn all_complaints(mut self) -> Complaints {
        self.terminate();
        self.log.complaints()
    }

    /// Has it end.
    fn terminate(&mut self) -> Option<ExitStatus> {
        self.stopped = true;
        let mut process = self.process.lock().unwrap();
        self.log.stops(process.id());
        // A prefork child that is told to stop exits in its signal handler, whatever it was just doing: first it may
        // end what it does. An idle connection would keep it longer.
        let text = self.log.text();
        let graceful = text.contains("[mpm_prefork:");
        if !graceful {
            come_to_rest(process.id());
        }
        let ended = graceful.then(|| process.signal(Signal::WINCH)).and_then(|()| process.wait(GRACE));
        ended.or_else(|| {
            process.signal(Signal::TERM);
            process.wait(DEADLINE)
        })
    }

    #[track_caller]
    fn stop_and_judge(&mut self) {
        let status = self.terminate();
        let mut trouble = self.log.trouble(|| stock::complaints(&self.builder));
        trouble.extend(self.log.unannounced(self.fpm.iter().flat_map(PhpFpm::complaints).collect()));
        trouble.extend(under::findings(self.root.path()));
        match status {
            Some(status) if status.success() => {}
            Some(status) => trouble.push(format!("httpd ended with {status}")),
            None => trouble.push("httpd did not end".to_owned()),
        }
        if !trouble.is_empty() {
            eprintln!("{}", self.end_of_log());
            panic!("the server's last word:\n{}\n", trouble.join("\n"));
        }
    }

    /// The last lines of its log, for a message.
    fn end_of_log(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        let end = lines[lines.len().saturating_sub(SHOWN)..].join("\n");
        format!("--- the end of the log of the failed test's server:\n{end}\n---")
    }
}

/// Waits for a moment in which no thread of the children is at work. Under worker one that is just about to wait for its client's next request misses
/// the stop: httpd closes its socket, signals it once, and the thread polls a descriptor of -1 for as long as `KeepAliveTimeout`. Under event one that has
/// just closed its client's socket gives back that memory, while httpd looks at it (`close_worker_sockets`).
fn come_to_rest(parent: u32) {
    let since = Instant::now();
    while since.elapsed() < GRACE && !is_at_rest(parent) {
        thread::sleep(Duration::from_millis(5));
    }
}

fn is_at_rest(parent: u32) -> bool {
    let children = fs::read_to_string(format!("/proc/{parent}/task/{parent}/children")).unwrap_or_default();
    let threads = children.split_whitespace().filter_map(|child| fs::read_dir(format!("/proc/{child}/task")).ok());
    threads.flatten().flatten().all(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        stat.rsplit_once(") ").is_none_or(|(_, rest)| rest.starts_with(['S', 'Z', 'X']))
    })
}

impl Drop for Httpd {
    fn drop(&mut self) {
        if self.stopped {
            return;
        }
        if thread::panicking() {
            eprintln!("{}", self.end_of_log());
        } else {
            self.stop_and_judge();
        }
    }
}
