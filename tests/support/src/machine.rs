//! Whether this machine lets servers run at all, asked before the first is started: what is wrong with it is told in one sentence
//! that says what, where, and the way out.

use std::fs;
use std::io::{self, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tempfile::TempDir;

use crate::client::{Client, Protocol};
use crate::handler::Handler;
use crate::httpd::{Httpd, Mpm};
use crate::ports;
use crate::programs;
use crate::user::{ACCOUNT, User};

/// The longest path of a socket in a server's folder, from the folder for temporary files on.
const SOCKET: &str = "/httpd-test-123456/run/cgisock.1234567890";

/// How long a socket's path may be, its last byte not counted.
const SOCKET_BYTES: usize = 107;

/// A new folder for temporary files, in the one that `TMPDIR` names. The servers' user may look into it.
///
/// # Errors
///
/// One sentence, where there can be none.
pub fn folder(prefix: &str) -> Result<TempDir, String> {
    // The servers' user reads what is written there, also where other users are not to read what this one writes.
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o022));
    let open = fs::Permissions::from_mode(0o755);
    tempfile::Builder::new().prefix(prefix).permissions(open).tempdir().map_err(|error| {
        format!(
            "no folder can be made in {} ({}): name one that is there and can be written to, for example TMPDIR=/var/tmp",
            std::env::temp_dir().display(),
            reason(&error)
        )
    })
}

/// Looks whether servers can run with their files in `folder`, which takes `room` bytes, and with `files` files open in a process. As
/// many as may be are allowed to be open from now on.
///
/// # Errors
///
/// The first thing that is in the way, in one sentence.
///
/// # Panics
///
/// As root where there is no user for the servers.
pub fn check(folder: &Path, room: usize, files: u64) -> Result<(), String> {
    let way_out = "name another folder, for example TMPDIR=/var/tmp";
    let place = folder.display();
    programs_are_there()?;
    files_can_be_open(files)?;

    if folder.as_os_str().as_bytes().iter().any(|byte| b" \t\n\"'\\$%*?[".contains(byte)) {
        return Err(format!("httpd's configuration cannot name the folder {place}: {way_out}"));
    }
    if folder.as_os_str().len() + SOCKET.len() > SOCKET_BYTES {
        return Err(format!("the path {place} is too long for the sockets in it: {way_out}"));
    }
    let file = folder.join("room");
    fill(&file, room).map_err(|error| {
        let (error, megabytes) = (reason(&error), room >> 20);
        format!("no {megabytes} MB can be written to {place} ({error}): make room there, or {way_out}")
    })?;
    let script = folder.join("script");
    run_script(&script).map_err(|error| match error.kind() {
        io::ErrorKind::PermissionDenied => format!(
            "scripts cannot be run in {place}: it is on a file system that is mounted noexec, or the servers' user may not \
             look into it; {way_out}"
        ),
        // The kernel's word for a number that nobody has.
        io::ErrorKind::InvalidInput if rustix::process::geteuid().is_root() => format!(
            "root's servers run scripts as {ACCOUNT}, who is nobody in this user namespace: run this as an ordinary user, or map more users"
        ),
        _ => format!("a script cannot be run in {place} ({}): {way_out}", reason(&error)),
    })?;
    let port = ports::find_port().map_err(|error| {
        let (first, last) = (ports::FIRST, ports::FIRST + ports::COUNT - 1);
        format!("no port of 127.0.0.1 from {first} to {last} is free ({}): end what listens there", reason(&error))
    })?;
    talk(port).map_err(|error| {
        let error = reason(&error);
        format!("no connection can be made to 127.0.0.1 ({error}): see to it that the loopback interface is up")
    })
}

/// Looks whether an httpd starts, without the module and with it, and runs a script.
///
/// # Errors
///
/// Why not, in one sentence.
///
/// # Panics
///
/// With such a sentence where it does not even come to that.
pub fn serves() -> Result<(), String> {
    let stock = Httpd::builder(Mpm::Event).without_module().handler(Handler::Cgi);
    let ours = Httpd::builder(Mpm::Event).handler(Handler::Cgi).config("FinishRequest On");
    for (builder, module) in [(stock, "without the module"), (ours, "with the module")] {
        let httpd = builder.try_start().map_err(|error| format!("{module}, {}", error.sentence()))?;
        let client = Client::connect(&httpd, Protocol::Http1Tls);
        let response = client.get("/app.cgi", &[]).response();
        if response.status != 200 {
            let said = httpd.complaints();
            httpd.allow_log("");
            let said = said.first().map_or_else(String::new, |line| format!("; it says: {line}"));
            return Err(format!(
                "{module}, httpd answers a request for a script with status {}{said}",
                response.status
            ));
        }
        drop(client);
        httpd.stop();
    }
    Ok(())
}

/// Whether this user may have namespaces of its own, of the kinds that `unshare` makes with these arguments. Containers and some
/// distributions permit none. Says so where not: the test that asks is not tried.
#[must_use]
pub fn may_unshare(kinds: &[&str]) -> bool {
    let mut unshare = unshare(kinds);
    unshare.arg("true").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let may = unshare.status().is_ok_and(|status| status.success());
    if !may {
        not_tried(&format!("this user may not `unshare {}` here", kinds.join(" ")));
    }
    may
}

/// What runs a program, to be added with its arguments, in namespaces of these kinds. An ordinary user is root there.
#[must_use]
pub fn unshare(kinds: &[&str]) -> Command {
    let mut unshare = Command::new("unshare");
    if !rustix::process::geteuid().is_root() {
        unshare.args(["--user", "--map-root-user"]);
    }
    unshare.args(kinds);
    unshare
}

/// Says that the test that calls this is not tried on this machine, and why; the summary of all tests counts these.
pub fn not_tried(why: &str) {
    let test = thread::current();
    // What a test prints in the ordinary way is shown only where it fails.
    let _ = writeln!(io::stdout(), "not tried: {}: {why}", test.name().unwrap_or("a test"));
}

fn programs_are_there() -> Result<(), String> {
    let packages = "`make packages` installs what is needed on Debian";
    if programs::find(&programs::HTTPD).is_none() {
        return Err(format!("there is no httpd: no {} on PATH; {packages}", programs::HTTPD.join(" or ")));
    }
    if std::env::var_os("APXS").is_none() && programs::find(&programs::APXS).is_none() {
        return Err(format!("there is no {} on PATH: {packages}", programs::APXS.join(" or ")));
    }
    Ok(())
}

fn files_can_be_open(files: u64) -> Result<(), String> {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let unlimited = u64::MAX;
    if current.unwrap_or(unlimited) < maximum.unwrap_or(unlimited) {
        let _ = setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum });
    }
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < files => Err(format!(
            "a process may have {limit} files open at most (ulimit -n), and servers need {files}: set `ulimit -n 1024`, as root if \
             need be, and try again"
        )),
        _ => Ok(()),
    }
}

fn fill(file: &Path, room: usize) -> io::Result<()> {
    static PIECE: [u8; 1 << 16] = [0; 1 << 16];
    let written = fs::File::create(file).and_then(|mut open| {
        (0..room.div_ceil(PIECE.len())).try_for_each(|_| open.write_all(&PIECE))?;
        open.sync_data()
    });
    let removed = fs::remove_file(file);
    written.and(removed)
}

/// Runs a script as the servers' user does.
fn run_script(script: &Path) -> io::Result<()> {
    programs::write(script, "#!/bin/sh\nexit 0\n")?;
    let mut command = Command::new(script);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    if let Some(user) = User::for_servers() {
        user.runs(&mut command);
    }
    let status = command.status();
    fs::remove_file(script)?;
    match status? {
        status if status.success() => Ok(()),
        status => Err(io::Error::other(format!("it ended with {status}"))),
    }
}

fn talk(port: u16) -> io::Result<()> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
    TcpStream::connect(listener.local_addr()?).map(drop)
}

/// What the operating system says, without the number.
fn reason(error: &io::Error) -> String {
    let text = error.to_string();
    text.split(" (os error").next().unwrap_or(&text).to_owned()
}
