//! Configuring and starting a server.

use std::fmt;
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex};

use rustix::mount::{MountFlags, MountPropagationFlags, mount, mount_change};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, move_into_link_name_space, unshare_unsafe};
use tempfile::TempDir;

use super::{Httpd, Mpm, config};
use crate::application;
use crate::certificate::Certificate;
use crate::deadline::{DEADLINE, poll};
use crate::error_log::{ErrorLog, READY, is_complaint};
use crate::handler::Handler;
use crate::machine;
use crate::php_fpm::PhpFpm;
use crate::ports::free_port;
use crate::preloaded::{self, CONTROL, Fault, Faults};
use crate::process::Process;
use crate::under;
use crate::user::User;

/// How often a server is started anew, on other ports, because someone took the first ones.
const TRIES: usize = 10;

/// What a server is to be like.
#[derive(Clone)]
pub struct Builder {
    pub(crate) mpm: Mpm,
    pub(super) with_module: bool,
    pub(super) modules: Vec<String>,
    pub(super) handlers: Vec<Handler>,
    pub(super) config: String,
    pub(super) workers: usize,
    pub(super) generations: usize,
    pub(super) environment: Vec<(String, String)>,
    php_ini: String,
    network: Option<Arc<OwnedFd>>,
    with_proc: bool,
    faults: Option<Option<(Fault, u32)>>,
    pub(crate) counted: bool,
}

/// Why a server did not start: all that it said.
#[derive(Clone, Debug)]
pub struct NotStarted(pub String);

impl NotStarted {
    /// The same as one sentence, without its full stop: what it complained of first.
    pub fn sentence(&self) -> String {
        match self.0.lines().find(|line| is_complaint(line)) {
            Some(complaint) => format!("httpd does not start, mend what it tells and try again: {complaint}"),
            None => "httpd does not start and says nothing: see whether `apachectl configtest` tells more".to_owned(),
        }
    }
}

impl fmt::Display for NotStarted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "httpd did not start:\n{}", self.0)
    }
}

impl Builder {
    pub(super) fn new(mpm: Mpm) -> Builder {
        Builder {
            mpm,
            with_module: true,
            modules: Vec::new(),
            handlers: Vec::new(),
            config: String::new(),
            workers: 64,
            generations: 1,
            environment: Vec::new(),
            php_ini: "output_buffering = 0\nhtml_errors = 0\ndisplay_errors = 0\n\
                      log_errors = 1\nerror_reporting = -1\n"
                .to_owned(),
            network: None,
            with_proc: true,
            faults: None,
            counted: false,
        }
    }

    /// Leaves `mod_finish_request` out.
    pub fn without_module(mut self) -> Builder {
        self.with_module = false;
        self
    }

    /// Loads httpd's modules `names`, for example `deflate`. What the server, TLS, HTTP/2 and the
    /// handlers need is loaded anyway.
    pub fn modules(mut self, names: &[&str]) -> Builder {
        self.modules.extend(names.iter().map(|&name| name.to_owned()));
        self
    }

    /// Sets `handler` up. A server can have several, but only one that runs PHP.
    ///
    /// # Panics
    ///
    /// For a handler that cannot run under this MPM, and for a second one for PHP.
    #[track_caller]
    pub fn handler(mut self, handler: Handler) -> Builder {
        let mpm = self.mpm;
        assert!(handler.runs_on(mpm), "{handler:?} cannot run under {mpm:?}");
        let taken = handler.is_php() && self.handlers.iter().any(|other| other.is_php());
        assert!(!taken, "only one handler can run PHP");
        self.handlers.push(handler);
        self
    }

    /// Adds `text` to the end of the server's configuration.
    pub fn config(mut self, text: &str) -> Builder {
        self.config += text;
        self.config += "\n";
        self
    }

    /// Adds a setting to php.ini, whichever handler runs PHP. `output_buffering` is 0 if unset.
    pub fn php_ini(mut self, name: &str, value: &str) -> Builder {
        self.php_ini += &format!("{name} = {value}\n");
        self
    }

    /// How many requests the server can process at once, 64 if unset; php-fpm too.
    pub fn workers(mut self, workers: usize) -> Builder {
        self.workers = workers;
        self
    }

    /// Leaves room for children of so many generations at a time, 1 if unset: for servers that restart, or replace a child, while
    /// requests are under way. Under event and worker a child with a request in it keeps its place among the others (under
    /// worker it may give it away to a new one, but it does not have to: its threads that end at once do not count as ended).
    /// Worker can process as many requests more at once.
    pub fn generations(mut self, generations: usize) -> Builder {
        self.generations = generations;
        self
    }

    /// Starts the server with `name=value` in its environment.
    pub fn env(mut self, name: &str, value: &str) -> Builder {
        self.environment.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Has the server overwrite all memory of pools and buckets as soon as it is given back: whoever looks at it later crashes, or
    /// sends something else than he should.
    ///
    /// # Panics
    ///
    /// When the library that does so cannot be built.
    #[track_caller]
    pub fn poisoned(self) -> Builder {
        self.preloaded("poison").config("MaxMemFree 1")
    }

    /// Has calls of the module fail, as [`Httpd::faults`] says then; when the server starts, this one at this occurrence, or none.
    ///
    /// # Panics
    ///
    /// When the library that does so cannot be built.
    #[track_caller]
    pub fn with_faults(mut self, first: Option<(Fault, u32)>) -> Builder {
        self.faults = Some(first);
        self.preloaded("faults")
    }

    /// Has a call of the module's do what whoever watches the server finds: [`defect`](crate::defect) says how he calls it.
    ///
    /// # Panics
    ///
    /// When the library that does so cannot be built.
    #[track_caller]
    pub fn with_defect(self) -> Builder {
        self.env("LD_PRELOAD", &under::defective().display().to_string())
    }

    #[track_caller]
    fn preloaded(self, name: &'static str) -> Builder {
        let library = preloaded::library(name).display().to_string();
        self.env("LD_PRELOAD", &library)
    }

    /// The same httpd, as far as the machine matters: without our module and without configuration of its own.
    pub(super) fn stock(&self) -> Builder {
        let mut stock = Builder::new(self.mpm).without_module();
        stock.modules = self.modules.clone();
        stock.handlers = self.handlers.clone();
        stock.environment = self.environment.clone();
        stock
    }

    /// Has the server run in the network namespace of the calling thread, whatever that of the process is.
    ///
    /// # Panics
    ///
    /// When the kernel does not tell.
    pub fn in_network_of_this_thread(mut self) -> Builder {
        let namespace = fs::File::open("/proc/thread-self/ns/net").expect("the thread's network namespace");
        self.network = Some(Arc::new(namespace.into()));
        self
    }

    /// Has the server see nothing in `/proc`, as after `ChrootDir`, which takes root.
    pub fn without_proc(mut self) -> Builder {
        self.with_proc = false;
        self
    }

    /// Starts the server and waits until it is ready.
    ///
    /// # Panics
    ///
    /// When it does not start: with all that it said.
    #[track_caller]
    pub fn start(self) -> Httpd {
        match self.try_start() {
            Ok(httpd) => httpd,
            Err(error) => panic!("{error}"),
        }
    }

    /// As [`Builder::start`] for a server whose configuration may be wrong.
    ///
    /// # Errors
    ///
    /// What the server said when it refused to start.
    ///
    /// # Panics
    ///
    /// When there is something wrong with the machine rather than the server: no such program,
    /// no folder, no port.
    #[track_caller]
    pub fn try_start(mut self) -> Result<Httpd, NotStarted> {
        if under::sees_what_is_freed() && !self.environment.iter().any(|(name, _)| name == "LD_PRELOAD") {
            self = self.poisoned();
        }
        let root = machine::folder("httpd-test-").unwrap_or_else(|trouble| panic!("{trouble}"));
        let user = User::for_servers();
        self.furnish(root.path(), user.as_ref())
            .unwrap_or_else(|error| panic!("the folder {} cannot be written to: {error}", root.path().display()));
        let fpm =
            self.handlers.contains(&Handler::PhpFpm).then(|| PhpFpm::start(root.path(), user.as_ref(), self.workers));
        self.run(root, fpm, user.as_ref())
    }

    /// Makes the files and folders that the server and its applications want to find.
    fn furnish(&self, root: &Path, user: Option<&User>) -> io::Result<()> {
        for folder in ["www", "php", "run", "gates", "fcgid"] {
            fs::create_dir(root.join(folder))?;
        }
        if let Some(user) = user {
            for folder in ["run", "gates", "fcgid"] {
                user.own(&root.join(folder))?;
            }
        }
        fs::write(root.join("php/php.ini"), &self.php_ini)?;
        if let Some(first) = self.faults {
            fs::write(root.join(CONTROL), Faults::initial(first))?;
        }
        fs::write(root.join("server.pem"), &Certificate::get().certificate_pem)?;
        fs::write(root.join("server.key"), &Certificate::get().key_pem)?;
        application::install_all(&root.join("www"), &root.join("gates"))
    }

    fn run(self, root: TempDir, fpm: Option<PhpFpm>, user: Option<&User>) -> Result<Httpd, NotStarted> {
        let mut log = ErrorLog::new(root.path());
        let mut said = String::new();
        for _ in 0..TRIES {
            let (port, tls_port) = (free_port(), free_port());
            log.ports = [port, tls_port];
            let place = config::Place { root: root.path(), port, tls_port, user };
            fs::write(root.path().join("httpd.conf"), config::render(&self, &place))
                .expect("the configuration can be written");
            let _ = fs::remove_file(&log.path);
            let _ = fs::remove_file(&log.stderr);

            let command = self.command(root.path(), &log);
            let process = Process::spawn(command).unwrap_or_else(|error| panic!("httpd cannot be run: {error}"));
            if is_ready(&process, &log) && self.scripts_can_run(root.path(), user) {
                let process = Mutex::new(process);
                return Ok(Httpd { process, fpm, log, port, tls_port, stopped: false, builder: self, root });
            }
            drop(process);
            said = log.text();
            if !said.contains("could not bind to address") {
                break;
            }
        }
        Err(NotStarted(said))
    }

    /// mod_cgid's daemon gives its socket to the server's user only after it has begun to listen: waits for that.
    fn scripts_can_run(&self, root: &Path, user: Option<&User>) -> bool {
        let (true, Some(user)) = (self.handlers.contains(&Handler::Cgi) && self.mpm != Mpm::Prefork, user) else {
            return true;
        };
        let owned = || -> io::Result<bool> {
            for file in fs::read_dir(root.join("run"))? {
                let file = file?;
                if file.file_name().to_string_lossy().starts_with("cgisock") && user.owns(&file.path())? {
                    return Ok(true);
                }
            }
            Ok(false)
        };
        poll(DEADLINE, || owned().unwrap_or(false).then_some(())).is_some()
    }

    pub(super) fn command(&self, root: &Path, log: &ErrorLog) -> Command {
        let preload = self.environment.iter().rev().find(|(name, _)| name == "LD_PRELOAD").map(|(_, value)| &**value);
        let mut command = self.program(root, preload);
        let environment = self.environment.iter().filter(|(name, _)| name != "LD_PRELOAD");
        command
            .arg("-DFOREGROUND")
            .arg("-d")
            .arg(root)
            .arg("-f")
            .arg(root.join("httpd.conf"))
            .env("PHP_INI_SCAN_DIR", "")
            .envs(environment.map(|(name, value)| (name, value)))
            .current_dir(root)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::options().create(true).append(true).open(&log.stderr).expect("a file"));
        if self.faults.is_some() {
            command.env("FAULTS", root.join(CONTROL));
        }
        if let Some(network) = self.network.clone() {
            let enter = move || {
                let kind = Some(LinkNameSpaceType::Network);
                Ok(move_into_link_name_space(network.as_fd(), kind)?)
            };
            // SAFETY: between fork and exec it makes one system call, and allocates nothing.
            unsafe { command.pre_exec(enter) };
        }
        if !self.with_proc {
            // SAFETY: between fork and exec it makes system calls, and allocates nothing.
            unsafe { command.pre_exec(cover_proc) };
        }
        command
    }
}

/// Gives the process a view of the file system of its own, in which `/proc` is empty. An ordinary user may do that in a user
/// namespace.
fn cover_proc() -> io::Result<()> {
    // SAFETY: this process has one thread, and no memory that it shares.
    unsafe {
        unshare_unsafe(UnshareFlags::NEWNS).or_else(|_| unshare_unsafe(UnshareFlags::NEWUSER | UnshareFlags::NEWNS))?;
    }
    mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    Ok(mount(c"none", c"/proc", c"tmpfs", MountFlags::empty(), None)?)
}

/// Waits until the server listens (true) or has ended (false).
fn is_ready(process: &Process, log: &ErrorLog) -> bool {
    let ready = poll(DEADLINE, || {
        if log.text().contains(READY) {
            return Some(true);
        }
        process.has_ended().then_some(false)
    });
    ready.unwrap_or(false)
}
