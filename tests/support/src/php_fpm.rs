//! A php-fpm of one's own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::deadline::wait_for;
use crate::process::Process;
use crate::programs;
use crate::user::User;

/// A running php-fpm, listening on `run/php-fpm.sock` in the server's folder. Ends when dropped.
pub(crate) struct PhpFpm {
    _process: Process,
    log: PathBuf,
}

impl PhpFpm {
    /// Starts it with `children` processes, with the php.ini in `root/php`.
    ///
    /// # Panics
    ///
    /// When it does not start: with its log.
    pub(crate) fn start(root: &Path, user: Option<&User>, children: usize) -> PhpFpm {
        let log = root.join("php-fpm.log");
        let socket = root.join("run/php-fpm.sock");
        let config = root.join("php-fpm.conf");
        fs::write(&config, configuration(&log, &socket, user, children)).expect("a file");

        let mut command = Command::new(find().expect("the tests need php-fpm"));
        command
            .args(["--nodaemonize", "--fpm-config"])
            .arg(&config)
            .arg("-c")
            .arg(root.join("php"))
            .env("PHP_INI_SCAN_DIR", "")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(root.join("php-fpm.stderr")).expect("a file"));
        let process = Process::spawn(command).unwrap_or_else(|error| panic!("php-fpm cannot be run: {error}"));
        wait_for("php-fpm to be ready", || {
            let said = fs::read_to_string(&log).unwrap_or_default();
            assert!(!process.has_ended(), "php-fpm did not start: {said}");
            said.contains("ready to handle connections").then_some(())
        });
        PhpFpm { _process: process, log }
    }

    /// The lines of its log that say that something went wrong.
    pub(crate) fn complaints(&self) -> Vec<String> {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        log.lines().filter(|line| !line.contains("] NOTICE: ")).map(str::to_owned).collect()
    }
}

/// php-fpm's program, if there is one: Debian has the version in the name.
pub(crate) fn find() -> Option<PathBuf> {
    let versions: Vec<String> =
        (0..=9).rev().flat_map(|minor| [8, 7].map(|major| format!("php-fpm{major}.{minor}"))).collect();
    let names: Vec<&str> = ["php-fpm"].into_iter().chain(versions.iter().map(String::as_str)).collect();
    programs::find(&names)
}

fn configuration(log: &Path, socket: &Path, user: Option<&User>, children: usize) -> String {
    let owner = user.map_or_else(String::new, |user| {
        let name = &user.name;
        format!("user = {name}\ngroup = {name}\nlisten.owner = {name}\nlisten.group = {name}\n")
    });
    format!(
        "[global]\nerror_log = {}\ndaemonize = no\n[www]\n{owner}listen = {}\n\
         listen.mode = 0600\npm = static\npm.max_children = {children}\nclear_env = no\n",
        log.display(),
        socket.display()
    )
}
