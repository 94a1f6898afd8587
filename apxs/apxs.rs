//! What apxs knows of the httpd that the module is built for: headers, flags, version.
//!
//! Used by `build.rs` only, so that no other part of the build has an opinion on where httpd lives.

use std::path::{Path, PathBuf};
use std::process::Command;

/// The oldest httpd that the module supports: 2.4.59 brought `ap_trust_cgilike_cl`.
const OLDEST: (u32, u32, u32) = (2, 4, 59);

/// What a compiler needs to build against the installed httpd.
pub struct Apxs {
    /// Directories with the headers of httpd, APR and APR-util.
    pub include_dirs: Vec<PathBuf>,
    /// Definitions such as `-D_GNU_SOURCE` that APR was built with.
    pub definitions: Vec<String>,
}

impl Apxs {
    /// Asks the apxs named by `APXS`, else the one on the path, else those in the usual places.
    ///
    /// # Errors
    ///
    /// A sentence for the person who builds: no apxs, no headers, or an httpd that is too old.
    pub fn ask(named: Option<String>) -> Result<Self, String> {
        let program = match named {
            Some(program) => program,
            None => find().ok_or(
                "apxs was not found: install the package apache2-dev (Debian, Ubuntu) or httpd-devel \
                 (Fedora, RHEL), or name it with APXS=/path/to/apxs",
            )?,
        };
        let query = |name: &str| query(&program, name);

        let httpd = PathBuf::from(query("INCLUDEDIR")?);
        check_version(&httpd)?;

        let mut include_dirs = vec![httpd];
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
        Ok(Self { include_dirs, definitions })
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

fn query(program: &str, name: &str) -> Result<String, String> {
    let output = Command::new(program).args(["-q", name]).output().map_err(|error| {
        format!(
            "{program} could not be run ({error}): install the package apache2-dev, or name it with APXS=/path/to/apxs"
        )
    })?;
    if !output.status.success() {
        return Err(format!("`{program} -q {name}` failed: is it the apxs of httpd 2.4 (package apache2-dev)?"));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn check_version(include_dir: &Path) -> Result<(), String> {
    let header = include_dir.join("ap_release.h");
    let text = std::fs::read_to_string(&header).map_err(|error| {
        format!("httpd's header {} cannot be read ({error}): install the package apache2-dev", header.display())
    })?;
    let number = |name: &str| -> Option<u32> {
        let line = text.lines().find(|line| line.starts_with("#define") && line.contains(name))?;
        line.split_whitespace().nth(2)?.parse().ok()
    };
    let version = (|| {
        Some((
            number("AP_SERVER_MAJORVERSION_NUMBER")?,
            number("AP_SERVER_MINORVERSION_NUMBER")?,
            number("AP_SERVER_PATCHLEVEL_NUMBER")?,
        ))
    })()
    .ok_or_else(|| format!("{} does not say which version of httpd it belongs to", header.display()))?;
    if version < OLDEST {
        let (major, minor, patch) = version;
        return Err(format!(
            "httpd {major}.{minor}.{patch} is too old: mod_finish_request needs 2.4.59 or later, so install a newer apache2 and apache2-dev"
        ));
    }
    if (version.0, version.1) != (2, 4) {
        let (major, minor, patch) = version;
        return Err(format!(
            "httpd {major}.{minor}.{patch} is not supported: mod_finish_request is written for httpd 2.4, so name the apxs of one with APXS=/path/to/apxs"
        ));
    }
    Ok(())
}
