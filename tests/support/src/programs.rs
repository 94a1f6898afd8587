//! Where the programs and shared objects are that the tests start or load.

use std::env;
use std::fs;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::deadline::wait_for;

/// Where programs are when PATH does not say so: an ordinary user's PATH often has no sbin.
const MORE_FOLDERS: [&str; 2] = ["/usr/sbin", "/usr/local/sbin"];

/// What httpd's program is called.
pub(crate) const HTTPD: [&str; 2] = ["apache2", "httpd"];

/// What apxs is called.
pub(crate) const APXS: [&str; 2] = ["apxs", "apxs2"];

/// The folder with another PHP than the system's: `php-cgi`, `php-fpm`, and `libphp.so` if mod_php is to be there, too.
fn other_php() -> Option<PathBuf> {
    env::var_os("PHP_BIN").map(PathBuf::from)
}

/// The first of `names` that is an executable in the folder of another PHP, on PATH or in the sbin folders.
pub(crate) fn find(names: &[&str]) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    let folders: Vec<PathBuf> =
        other_php().into_iter().chain(env::split_paths(&path)).chain(MORE_FOLDERS.map(PathBuf::from)).collect();
    names
        .iter()
        .flat_map(|name| folders.iter().map(move |folder| folder.join(name)))
        .find(|candidate| candidate.is_file())
}

/// As [`find`].
///
/// # Panics
///
/// When there is none.
pub(crate) fn program(names: &[&str]) -> PathBuf {
    find(names).unwrap_or_else(|| panic!("the tests need one of these programs: {names:?}"))
}

/// httpd's program.
pub(crate) fn httpd() -> PathBuf {
    program(&HTTPD)
}

/// httpd's folder of loadable modules, as apxs says.
pub fn modules_dir() -> &'static Path {
    static DIR: OnceLock<PathBuf> = OnceLock::new();
    DIR.get_or_init(|| {
        let apxs = env::var_os("APXS").map_or_else(|| program(&APXS), PathBuf::from);
        let output = Command::new(&apxs).args(["-q", "LIBEXECDIR"]).output().unwrap_or_else(|error| {
            panic!("{} cannot be run ({}): set APXS to the path of httpd's apxs", apxs.display(), error.kind())
        });
        let dir = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        assert!(
            !dir.is_empty(),
            "{} is no apxs: it does not know LIBEXECDIR; set APXS to the path of httpd's",
            apxs.display()
        );
        PathBuf::from(dir)
    })
}

/// Whether httpd has this module, to be loaded.
pub fn has_module(name: &str) -> bool {
    modules_dir().join(format!("mod_{name}.so")).is_file()
}

/// mod_php's shared object, for example `libphp8.2.so`, if it is among httpd's modules, or beside another PHP.
pub(crate) fn find_mod_php() -> Option<PathBuf> {
    let folder = other_php().unwrap_or_else(|| modules_dir().to_owned());
    let entries = fs::read_dir(folder).into_iter().flatten().flatten();
    let mut found: Vec<PathBuf> = entries
        .map(|entry| entry.path())
        .filter(|path| {
            let name = path.file_name().unwrap_or_default().to_string_lossy();
            name.starts_with("libphp") && name.ends_with(".so")
        })
        .collect();
    found.sort();
    found.pop()
}

/// As [`find_mod_php`].
///
/// # Panics
///
/// When there is none.
pub(crate) fn mod_php() -> PathBuf {
    find_mod_php().unwrap_or_else(|| panic!("no libphp*.so in {}", modules_dir().display()))
}

/// php-cgi's program.
///
/// # Panics
///
/// When there is none.
pub fn php_cgi() -> PathBuf {
    program(&["php-cgi"])
}

/// The first two numbers of php-cgi's version.
///
/// # Panics
///
/// When there is none.
pub fn php_cgi_version() -> (u32, u32) {
    let output = Command::new(php_cgi()).args(["-n", "-v"]).output().expect("php-cgi runs");
    // PHP 8.4.28 (cgi-fcgi) …
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let mut numbers = said.split([' ', '.']).skip(1).map_while(|number| number.parse().ok());
    numbers.next().zip(numbers.next()).unwrap_or_else(|| panic!("php-cgi has no version: {said}"))
}

/// Our own module: `$MOD_FINISH_REQUEST_SO`, else what cargo built for this test's profile.
///
/// # Panics
///
/// When it has not been built.
pub fn finish_request_module() -> PathBuf {
    if let Some(path) = env::var_os("MOD_FINISH_REQUEST_SO") {
        return PathBuf::from(path);
    }
    // A test is in target/PROFILE/deps, an example in target/PROFILE/examples; cargo leaves the newest build in deps or one above.
    let test = env::current_exe().expect("a program knows where it is");
    let profile = test.ancestors().nth(2).expect("a program is in a folder of a profile's");
    let built = [profile.to_owned(), profile.join("deps")].map(|dir| dir.join("libmod_finish_request.so"));
    let modified = |path: &PathBuf| fs::metadata(path).and_then(|file| file.modified()).ok();
    built
        .into_iter()
        .filter(|path| path.is_file())
        .max_by_key(modified)
        .unwrap_or_else(|| panic!("no libmod_finish_request.so near {}: build it", test.display()))
}

/// Writes a program, for all to run.
///
/// # Errors
///
/// What the operating system says.
pub fn write(file: &Path, text: impl AsRef<[u8]>) -> io::Result<()> {
    fs::write(file, text)?;
    permit(file)
}

/// Lets all run a file that this process has written, and waits until they can: whom another thread forks meanwhile has it open for writing until it
/// becomes another program, and the kernel runs no such file (ETXTBSY).
///
/// # Errors
///
/// What the operating system says.
pub fn permit(file: &Path) -> io::Result<()> {
    fs::set_permissions(file, fs::Permissions::from_mode(0o755))?;
    let file = fs::File::open(file)?;
    wait_for("nobody to have the program open for writing", || {
        // SAFETY: the descriptor is open, and these requests take a number. A lease for reading is had where nobody writes; a file system without leases says
        // something else than EAGAIN. It is given back at once: to break one costs a signal.
        let had = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_RDLCK) } == 0;
        let busy = !had && io::Error::last_os_error().kind() == io::ErrorKind::WouldBlock;
        // SAFETY: as above.
        unsafe { libc::fcntl(file.as_raw_fd(), libc::F_SETLEASE, libc::F_UNLCK) };
        (!busy).then_some(())
    });
    Ok(())
}
