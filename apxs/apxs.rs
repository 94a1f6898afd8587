//! What apxs knows of the httpd that the module is built for: headers, flags, what it can do.
//!
//! Used by `build.rs` only, so that no other part of the build has an opinion on where httpd lives.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The least minor number of httpd's module interface (`ap_mmn.h`): 2.4.49 brought the hook `child_stopping`.
const LEAST_MINOR: u32 = 110;

/// The variable by which an application's `Content-Length` is trusted. 2.4.59 brought it, and distributions brought it to older ones with
/// their security patches.
const TRUST: &[u8] = b"ap_trust_cgilike_cl";

/// What a compiler needs to build against the installed httpd.
pub struct Apxs {
    /// Directories with the headers of httpd, APR and APR-util.
    pub include_dirs: Vec<PathBuf>,
    /// Definitions such as `-D_GNU_SOURCE` that APR was built with.
    pub definitions: Vec<String>,
    /// The files that this rests on: apxs itself, and httpd's program where it is there.
    pub files: Vec<PathBuf>,
}

impl Apxs {
    /// Asks the apxs named by `APXS`, else the one on the path, else those in the usual places. `arch` is the processor that the module is
    /// built for, by Rust's name.
    ///
    /// # Errors
    ///
    /// A sentence for the person who builds: no apxs, no headers, an httpd that is too old, that cannot load modules, or that is
    /// another processor's.
    pub fn ask(named: Option<String>, arch: &str) -> Result<Self, String> {
        let program = match named.filter(|named| !named.is_empty()) {
            Some(program) => program,
            None => find().ok_or(
                "apxs was not found: install the package apache2-dev (Debian, Ubuntu) or httpd-devel \
                 (Fedora, RHEL), or name it with APXS=/path/to/apxs",
            )?,
        };
        let query = |name: &str| query(&program, name);

        let include = PathBuf::from(query("INCLUDEDIR")?);
        let httpd = PathBuf::from(query("SBINDIR")?).join(query("PROGNAME")?);
        let modules = PathBuf::from(query("LIBEXECDIR")?);
        check_version(&include)?;
        check_processor(&httpd, arch)?;
        check_trust(&include, &modules, &httpd)?;
        check_loading(&httpd)?;

        let mut include_dirs = vec![include];
        for name in ["APR_INCLUDEDIR", "APU_INCLUDEDIR"] {
            let dir = PathBuf::from(query(name)?);
            if !include_dirs.contains(&dir) {
                include_dirs.push(dir);
            }
        }
        let definitions = query("EXTRA_CPPFLAGS")?
            .split_whitespace()
            .filter(|flag| flag.starts_with("-D"))
            .map(str::to_owned)
            .collect();
        let files = [on_path(&program), Some(httpd)].into_iter().flatten().filter(|file| file.is_file()).collect();
        Ok(Self { include_dirs, definitions, files })
    }

    /// The same as flags for a C compiler.
    pub fn cflags(&self) -> Vec<String> {
        let includes = self.include_dirs.iter().map(|dir| format!("-I{}", dir.display()));
        includes.chain(self.definitions.iter().cloned()).collect()
    }
}

fn find() -> Option<String> {
    ["apxs", "apxs2", "/usr/sbin/apxs", "/usr/local/apache2/bin/apxs"]
        .into_iter()
        .find(|program| Command::new(program).args(["-q", "INCLUDEDIR"]).output().is_ok())
        .map(str::to_owned)
}

/// Where a program is that is run by this name.
fn on_path(program: &str) -> Option<PathBuf> {
    if program.contains('/') {
        return Some(PathBuf::from(program));
    }
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(program)).find(|file| file.is_file())
}

fn query(program: &str, name: &str) -> Result<String, String> {
    let output = Command::new(program).args(["-q", name]).output().map_err(|error| {
        format!(
            "{program} could not be run ({error}): install the package apache2-dev, or name it with APXS=/path/to/apxs"
        )
    })?;
    if !output.status.success() {
        return Err(format!("`{program} -q {name}` failed: is it the apxs of httpd 2.4 (package apache2-dev)?"));
    }
    let value = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    if value.lines().count() > 1 || value.is_empty() && name != "EXTRA_CPPFLAGS" {
        return Err(format!(
            "`{program} -q {name}` does not answer with one line, as the apxs of httpd 2.4 does: name that with APXS=/path/to/apxs"
        ));
    }
    Ok(value)
}

/// The text of one of httpd's headers.
fn header(include: &Path, name: &str) -> Result<String, String> {
    let header = include.join(name);
    std::fs::read_to_string(&header).map_err(|error| {
        format!("httpd's header {} cannot be read ({error}): install the package apache2-dev", header.display())
    })
}

/// The number that a header defines by this name.
fn number(text: &str, name: &str) -> Option<u32> {
    let lines = text.lines().filter(|line| line.starts_with("#define"));
    lines
        .map(str::split_whitespace)
        .find_map(|mut words| (words.nth(1)? == name).then(|| words.next()?.parse().ok())?)
}

fn check_version(include: &Path) -> Result<(), String> {
    let release = header(include, "ap_release.h")?;
    let version = (|| {
        Some((
            number(&release, "AP_SERVER_MAJORVERSION_NUMBER")?,
            number(&release, "AP_SERVER_MINORVERSION_NUMBER")?,
            number(&release, "AP_SERVER_PATCHLEVEL_NUMBER")?,
        ))
    })();
    let unknown =
        || format!("{} does not say which version of httpd it belongs to", include.join("ap_release.h").display());
    let (major, minor, patch) = version.ok_or_else(unknown)?;
    if (major, minor) != (2, 4) {
        return Err(format!(
            "httpd {major}.{minor}.{patch} is not supported: mod_finish_request is written for httpd 2.4, so name the apxs of one with APXS=/path/to/apxs"
        ));
    }
    let interface = number(&header(include, "ap_mmn.h")?, "MODULE_MAGIC_NUMBER_MINOR").ok_or_else(unknown)?;
    if interface < LEAST_MINOR {
        return Err(format!(
            "httpd {major}.{minor}.{patch} is too old: mod_finish_request needs the module interface of 2.4.49 or later, so install a newer apache2 and apache2-dev"
        ));
    }
    Ok(())
}

/// Whether httpd keeps an application's `Content-Length` where it is told to: a matter of its patches, not of its version.
fn check_trust(include: &Path, modules: &Path, httpd: &Path) -> Result<(), String> {
    if header(include, "util_script.h")?.contains("AP_TRUST_CGILIKE_CL_ENVVAR") {
        return Ok(());
    }
    let has =
        |file: PathBuf| std::fs::read(file).is_ok_and(|bytes| bytes.windows(TRUST.len()).any(|part| part == TRUST));
    if [modules.join("mod_cgi.so"), modules.join("mod_cgid.so"), httpd.to_owned()].into_iter().any(has) {
        return Ok(());
    }
    Err("this httpd does not know ap_trust_cgilike_cl, which mod_finish_request needs for CGI: install httpd 2.4.59 or later, or an \
         older one with the security patch for CVE-2024-24795, and its apache2-dev"
        .to_owned())
}

/// Whether httpd's program is for the processor that the module is built for: an ELF header says so.
fn check_processor(httpd: &Path, arch: &str) -> Result<(), String> {
    const MACHINES: [(&str, u16); 8] = [
        ("x86_64", 62),
        ("x86", 3),
        ("aarch64", 183),
        ("arm", 40),
        ("riscv64", 243),
        ("powerpc64", 21),
        ("s390x", 22),
        ("loongarch64", 258),
    ];
    let Ok(bytes) = std::fs::read(httpd) else { return Ok(()) };
    let machine = match bytes.get(..20) {
        Some([0x7f, b'E', b'L', b'F', _, 1, .., low, high]) => u16::from_le_bytes([*low, *high]),
        Some([0x7f, b'E', b'L', b'F', _, 2, .., high, low]) => u16::from_be_bytes([*high, *low]),
        _ => return Ok(()),
    };
    match MACHINES.iter().find(|(name, _)| *name == arch) {
        Some((_, own)) if *own != machine => Err(format!(
            "{} is a program for another processor than the {arch} that the module is built for: name the apxs of this machine's httpd with \
             APXS=/path/to/apxs, or build with --target",
            httpd.display()
        )),
        _ => Ok(()),
    }
}

/// Whether httpd can load modules. Where its program is not there, or cannot be run, nothing is known.
fn check_loading(httpd: &Path) -> Result<(), String> {
    let Ok(output) = Command::new(httpd).arg("-l").output() else { return Ok(()) };
    let list = String::from_utf8_lossy(&output.stdout);
    if list.contains("http_core.c") && !list.contains("mod_so.c") {
        return Err(format!(
            "{} cannot load modules, as it was built without mod_so: name the apxs of one that can with APXS=/path/to/apxs",
            httpd.display()
        ));
    }
    Ok(())
}
