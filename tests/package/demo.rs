//! The demo where it cannot run, and where it is ended: one sentence in the one case, nothing left behind in both.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::panic;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use support::{DEADLINE, kill, wait_for};
use tempfile::TempDir;

use crate::judge::side_by_side;

/// Ctrl-C takes less than a second, and on a busy machine longer. That the demo has been ended, and has not come to its own end, its status says.
const SOON: Duration = Duration::from_secs(30);

/// How far the demo is when it is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    /// It has its folder.
    AtOnce,
    /// The first server has its configuration.
    SetUp,
    /// The first application works.
    WarmUp,
    /// A line of the table is filling.
    Table,
    /// With `KEEP=1`, when all has been shown.
    Kept,
}

/// How it is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum How {
    /// Ctrl-C, which all programs of the terminal get.
    CtrlC,
    /// An impatient one.
    CtrlCTwice,
    /// Ctrl-\.
    CtrlBackslash,
    /// The terminal is closed.
    Closed,
    /// So is it for a demo that a program has started which keeps the signal to itself and waits, as make does.
    ClosedUnderMake,
    /// A signal to the demo alone.
    Signal(i32),
}

/// The demo with a terminal and a folder for temporary files of its own.
struct Demo {
    /// Until it is closed.
    terminal: Arc<Mutex<Option<File>>>,
    shown: Arc<Mutex<String>>,
    child: Child,
    folder: TempDir,
}

fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().unwrap();
    let program = test.parent().and_then(Path::parent).unwrap().join("examples").join(name);
    assert!(program.is_file(), "there is no {}: cargo build --example {name}", program.display());
    program
}

fn command(name: &str, folder: &Path) -> Command {
    let mut command = Command::new(program(name));
    command.env("TMPDIR", folder).env("MOD_FINISH_REQUEST_SO", support::finish_request_module());
    command.stdin(Stdio::null());
    command
}

fn folder() -> TempDir {
    tempfile::Builder::new().prefix("demo-test-").permissions(open()).tempdir().unwrap()
}

fn open() -> fs::Permissions {
    std::os::unix::fs::PermissionsExt::from_mode(0o755)
}

/// A new terminal: its own side, and that of the program.
fn terminal() -> (File, OwnedFd) {
    let (mut own, mut other) = (0, 0);
    // SAFETY: the numbers are stored in ours; the other pointers may be null.
    let made = unsafe {
        libc::openpty(&raw mut own, &raw mut other, std::ptr::null_mut(), std::ptr::null(), std::ptr::null())
    };
    assert_eq!(made, 0, "{}", io::Error::last_os_error());
    // SAFETY: both have just been opened for us.
    let (own, other) = unsafe { (File::from_raw_fd(own), OwnedFd::from_raw_fd(other)) };
    // SAFETY: the calls take numbers only. Nobody but this process is to have it, and nobody waits in a read.
    unsafe {
        libc::fcntl(own.as_raw_fd(), libc::F_SETFD, libc::FD_CLOEXEC);
        libc::fcntl(own.as_raw_fd(), libc::F_SETFL, libc::O_RDWR | libc::O_NONBLOCK);
    }
    (own, other)
}

impl Demo {
    fn start(how: How) -> Demo {
        let folder = folder();
        let (own, other) = terminal();
        let mut command = command("demo", folder.path());
        if how == How::ClosedUnderMake {
            let mut shell = Command::new("/bin/sh");
            shell.args(["-c", "trap : HUP; \"$1\"; exit $?", "sh"]).arg(command.get_program());
            shell.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
            command = shell;
        }
        command.env("KEEP", "1").env("TERM", "xterm");
        for put in [Command::stdin, Command::stdout, Command::stderr] {
            put(&mut command, Stdio::from(other.try_clone().unwrap()));
        }
        // SAFETY: between fork and exec three system calls are made, and no memory is allocated.
        unsafe {
            command.pre_exec(|| {
                // Whoever started the tests may have it ignored (nohup), which the demo would respect.
                libc::signal(libc::SIGHUP, libc::SIG_DFL);
                match libc::setsid() >= 0 && libc::ioctl(0, libc::TIOCSCTTY, 0) == 0 {
                    true => Ok(()),
                    false => Err(io::Error::last_os_error()),
                }
            });
        }
        let child = command.spawn().unwrap();
        drop((command, other));
        let shown = Arc::new(Mutex::new(String::new()));
        let terminal = Arc::new(Mutex::new(Some(own)));
        let (reads, text) = (terminal.clone(), shown.clone());
        thread::spawn(move || {
            let mut bytes = [0; 4096];
            // A thread that waited in a read would keep the terminal open.
            while let Some(terminal) = reads.lock().unwrap().as_mut() {
                match terminal.read(&mut bytes) {
                    Ok(count @ 1..) => text.lock().unwrap().push_str(&String::from_utf8_lossy(&bytes[..count])),
                    Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                    _ => break,
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
        Demo { terminal, shown, child, folder }
    }

    fn shown(&self) -> String {
        self.shown.lock().unwrap().clone()
    }

    fn is_at(&self, when: When) -> bool {
        let below = |pattern: &[&str]| !find(self.folder.path(), pattern).is_empty();
        match when {
            When::AtOnce => below(&["finish-request-demo-"]),
            When::SetUp => below(&["finish-request-demo-", "httpd-test-", "httpd.conf"]),
            When::WarmUp => {
                let gates = find(self.folder.path(), &["finish-request-demo-", "httpd-test-", "gates"]);
                gates.iter().any(|gates| fs::read_dir(gates).is_ok_and(|mut files| files.next().is_some()))
            }
            When::Table => self.shown().contains("ms"),
            When::Kept => self.shown().contains("until you press Ctrl-C"),
        }
    }

    fn end(&mut self, how: How) {
        let typed = |bytes: &[u8]| self.terminal.lock().unwrap().as_mut().unwrap().write_all(bytes).unwrap();
        match how {
            How::CtrlC => typed(b"\x03"),
            How::CtrlCTwice => {
                typed(b"\x03");
                thread::sleep(Duration::from_millis(50));
                typed(b"\x03");
            }
            How::CtrlBackslash => typed(b"\x1c"),
            How::Closed | How::ClosedUnderMake => drop(self.terminal.lock().unwrap().take()),
            How::Signal(signal) => {
                let pid = i32::try_from(self.child.id()).unwrap();
                // SAFETY: it is our child, which has not been waited for.
                unsafe { libc::kill(pid, signal) };
            }
        }
    }
}

/// The files and folders below `folder` whose path's parts begin so.
fn find(folder: &Path, parts: &[&str]) -> Vec<PathBuf> {
    let Some((first, rest)) = parts.split_first() else { return vec![folder.to_owned()] };
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let matching = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(first));
    matching.flat_map(|entry| find(&entry.path(), rest)).collect()
}

/// The processes that have to do with this folder: by their arguments, environment or working directory.
fn processes(folder: &Path) -> Vec<u32> {
    let name = folder.as_os_str().as_bytes();
    let has = |bytes: Vec<u8>| bytes.windows(name.len()).any(|window| window == name);
    let concerned = |pid: &u32| {
        let own = PathBuf::from(format!("/proc/{pid}"));
        let folder = fs::read_link(own.join("cwd")).map(|path| path.as_os_str().as_bytes().to_owned());
        let files = [fs::read(own.join("cmdline")), fs::read(own.join("environ")), folder];
        files.into_iter().flatten().any(has)
    };
    let entries = fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).filter(concerned).collect()
}

fn ends_and_leaves_nothing((when, how): (When, How)) {
    let mut demo = Demo::start(how);
    wait_for(&format!("{when:?}: {:?}", demo.shown()), || {
        assert!(demo.child.try_wait().unwrap().is_none(), "{}", demo.shown());
        demo.is_at(when).then_some(())
    });
    let start = Instant::now();
    demo.end(how);
    let status = wait_for("the demo's end", || demo.child.try_wait().unwrap());
    let took = start.elapsed();
    assert!(took < SOON, "the end took {took:?}");
    assert!(!status.success(), "{status}");
    let killed = how == How::Signal(libc::SIGKILL);
    let left = || processes(demo.folder.path());
    if killed {
        // Scripts of mod_cgid wait at their gates for longer than that: its daemon leaves them behind.
        let open_gates = || {
            for gates in find(demo.folder.path(), &["finish-request-demo-", "httpd-test-", "gates"]) {
                for began in find(&gates, &[""]).iter().filter(|file| file.extension().is_some_and(|is| is == "began"))
                {
                    let _ = fs::write(began.with_extension("gate"), "");
                }
            }
        };
        let ended = panic::catch_unwind(|| {
            wait_for("the servers to end by themselves", || {
                open_gates();
                left().is_empty().then_some(())
            })
        });
        // Which of them it is must be known, where it is seen again.
        let files = ["cmdline", "status", "wchan"];
        let said = |pid: u32| files.map(|file| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default());
        assert!(ended.is_ok(), "{:#?}", left().into_iter().map(said).collect::<Vec<_>>());
    } else {
        assert_eq!(left(), [0; 0], "processes");
        assert_eq!(find(demo.folder.path(), &[""]), [""; 0].map(PathBuf::from), "folders");
    }
    let shown = demo.shown();
    assert!(!shown.contains("panicked") && !shown.contains("cannot run"), "{shown}");
    println!("{when:?}, {how:?}: {took:?}");
}

#[test]
fn it_can_be_ended_at_any_moment() {
    use How::{Closed, ClosedUnderMake, CtrlBackslash, CtrlC, CtrlCTwice, Signal};
    use When::{AtOnce, Kept, SetUp, Table, WarmUp};
    let endings = [
        (AtOnce, CtrlC),
        (SetUp, CtrlCTwice),
        (WarmUp, CtrlC),
        (WarmUp, Signal(libc::SIGTERM)),
        (WarmUp, Signal(libc::SIGKILL)),
        (Table, CtrlC),
        (Table, Closed),
        (Table, CtrlBackslash),
        (Table, Signal(libc::SIGHUP)),
        (Kept, CtrlCTwice),
        (Kept, Closed),
        (Kept, ClosedUnderMake),
        (Kept, Signal(libc::SIGQUIT)),
        (Kept, Signal(libc::SIGKILL)),
    ];
    // Each has six servers.
    for some in endings.chunks(4) {
        side_by_side(some.iter().copied(), ends_and_leaves_nothing);
    }
}

/// A reader that has seen enough ends it.
#[test]
fn it_ends_with_its_reader() {
    let folder = folder();
    let mut child = command("demo", folder.path()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    child.stdout.take().unwrap().read_exact(&mut [0; 20]).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(processes(folder.path()), [0; 0]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

/// Runs the demo on a machine that `change` has made a bad one, and expects one sentence that says `words`.
#[track_caller]
fn cannot_run(change: impl FnOnce(&mut Command), words: &[&str]) {
    cannot("demo", "The demo cannot run: ", change, words);
}

#[track_caller]
fn cannot(name: &str, begins: &str, change: impl FnOnce(&mut Command), words: &[&str]) {
    let folder = folder();
    let mut command = command(name, folder.path());
    change(&mut command);
    let start = Instant::now();
    let output = command.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.starts_with(begins) && said.ends_with(".\n") && said.lines().count() == 1, "{said:?}");
    for word in words {
        assert!(said.contains(word), "{said:?} does not say {word:?}");
    }
    assert!(start.elapsed() < DEADLINE, "it said so after {:?}", start.elapsed());
    assert_eq!(processes(folder.path()), [0; 0]);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

fn with_limit(command: &mut Command, limit: libc::__rlimit_resource_t, to: libc::rlim_t) {
    let to = libc::rlimit { rlim_cur: to, rlim_max: to };
    // SAFETY: between fork and exec one system call is made, and no memory is allocated.
    unsafe {
        command.pre_exec(move || match libc::setrlimit(limit, &raw const to) {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        });
    }
}

#[test]
fn where_it_cannot_run_one_sentence_says_why() {
    let is = |name: &'static str, value: &'static str| move |command: &mut Command| _ = command.env(name, value);
    cannot_run(is("TMPDIR", "/nowhere/at/all"), &["/nowhere/at/all", "No such file", "TMPDIR=/var/tmp"]);
    cannot_run(is("APXS", "/nowhere/apxs"), &["/nowhere/apxs", "set APXS"]);
    cannot_run(is("APXS", "/bin/true"), &["/bin/true is no apxs", "set APXS"]);
    cannot_run(is("PATH", "/nowhere"), &["no apxs", "make packages"]);
    cannot_run(is("MOD_FINISH_REQUEST_SO", "/dev/null"), &["httpd does not start", "/dev/null"]);
    cannot_run(|command| with_limit(command, libc::RLIMIT_NOFILE, 64), &["64 files", "ulimit -n 1024"]);
    cannot_run(|command| with_limit(command, libc::RLIMIT_FSIZE, 4096), &["File too large", "TMPDIR=/var/tmp"]);
    cannot_run(|command| _ = command.stdout(File::create("/dev/full").unwrap()), &["standard output", "No space left"]);

    let folder = folder();
    let long = folder.path().join("x".repeat(80));
    fs::create_dir(&long).unwrap();
    cannot_run(|command| _ = command.env("TMPDIR", &long), &["too long", "TMPDIR=/var/tmp"]);

    let apxs = folder.path().join("apxs");
    fs::write(&apxs, "#!/bin/sh\necho /nowhere\n").unwrap();
    fs::set_permissions(&apxs, open()).unwrap();
    cannot_run(|command| _ = command.env("APXS", &apxs), &["no handler is there", "mod_fcgid", "make packages"]);

    fs::remove_file(&apxs).unwrap();
    let httpd = folder.path().join("apache2");
    fs::write(&httpd, "#!/bin/sh\necho 'oh dear' >&2\nexit 1\n").unwrap();
    fs::set_permissions(&httpd, open()).unwrap();
    let path = format!("{}:{}", folder.path().display(), std::env::var("PATH").unwrap());
    cannot_run(|command| _ = command.env("PATH", &path), &["httpd does not start", "oh dear"]);
}

/// What comes before the tests says so too, and does not let hundreds of them fail.
#[test]
fn where_tests_cannot_run_one_sentence_says_why() {
    let cannot = |name: &str, value: &str, words: &[&str]| {
        cannot("machine", "The tests cannot run: ", |command| _ = command.env(name, value), words);
    };
    cannot("TMPDIR", "/nowhere/at/all", &["/nowhere/at/all", "No such file", "TMPDIR=/var/tmp"]);
    cannot("APXS", "/nowhere/apxs", &["/nowhere/apxs", "set APXS"]);
    cannot("MOD_FINISH_REQUEST_SO", "/dev/null", &["with the module, httpd does not start", "/dev/null"]);
    let folder = folder();
    let machine = command("machine", folder.path());
    let mut shell = Command::new("sh");
    shell.args(["-c", r#"umask 077; unset HOME; exec "$0""#]).arg(machine.get_program());
    shell.envs(machine.get_envs().filter_map(|(name, value)| Some((name, value?))));
    let output = shell.output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}

/// What a shell does to file systems and networks, in namespaces of its own.
#[test]
fn where_its_folder_or_the_network_is_bad_one_sentence_says_why() {
    if !support::machine::may_unshare(&["--mount", "--net"]) {
        return;
    }
    let inside = |namespace: &'static str, script: &'static str| {
        move |command: &mut Command| {
            let mut unshare = support::machine::unshare(&[namespace]);
            let mut script = script.to_owned();
            if !is_root() {
                // To mount something takes root; the demo's user is an ordinary one again.
                script = script.replace(r#"exec "$1""#, r#"exec unshare --user --map-user=1000 "$1""#);
            }
            unshare.args(["sh", "-c", &script]).arg("sh").arg(command.get_program());
            unshare.stdin(Stdio::null());
            unshare.envs(command.get_envs().filter_map(|(name, value)| Some((name, value?))));
            *command = unshare;
        }
    };
    let noexec = r#"mount -t tmpfs -o noexec,mode=755 none "$TMPDIR" && exec "$1""#;
    cannot_run(inside("--mount", noexec), &["noexec", "TMPDIR=/var/tmp"]);
    let small = r#"mount -t tmpfs -o size=1M,mode=755 none "$TMPDIR" && exec "$1""#;
    cannot_run(inside("--mount", small), &["No space left on device", "TMPDIR=/var/tmp"]);
    let few = r#"mount -t tmpfs -o nr_inodes=20,mode=755 none "$TMPDIR" && exec "$1""#;
    cannot_run(inside("--mount", few), &["cannot be written to", "No space left on device"]);
    cannot_run(inside("--net", r#"exec "$1""#), &["127.0.0.1", "loopback interface"]);
    // The ports are for root alone, and so not for the demo's user.
    let taken =
        r#"echo 30000 >/proc/sys/net/ipv4/ip_unprivileged_port_start && exec unshare --user --map-user=1000 "$1""#;
    cannot_run(inside("--net", taken), &["no port of 127.0.0.1 from 10000 to 29999 is free", "end what listens there"]);
    let only_root = r#"exec unshare --user --map-root-user "$1""#;
    cannot_run(inside("--mount", only_root), &["www-data", "user namespace", "ordinary user"]);
}

fn is_root() -> bool {
    // SAFETY: the call takes nothing.
    unsafe { libc::geteuid() == 0 }
}

/// What the tests here rely on.
#[test]
fn processes_are_found_by_their_folder() {
    let folder = folder();
    let mut sleeper = Command::new("sleep").arg("60").current_dir(folder.path()).spawn().unwrap();
    wait_for("the process to be found", || (processes(folder.path()) == [sleeper.id()]).then_some(()));
    kill(sleeper.id());
    sleeper.wait().unwrap();
    assert_eq!(processes(folder.path()), [0; 0]);
}
