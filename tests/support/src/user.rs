//! As whom the servers run.

use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

/// The account that httpd's children and php-fpm's run as when the tests run as root.
pub(crate) const ACCOUNT: &str = "www-data";

/// A user that a server started by root gives its rights up for.
#[derive(Clone, Debug)]
pub(crate) struct User {
    /// Its name, which is its group's name too.
    pub(crate) name: String,
    uid: u32,
    gid: u32,
}

impl User {
    /// The user to run servers as: `None` for an ordinary user, who runs them as himself.
    ///
    /// # Panics
    ///
    /// As root where there is no account `www-data`.
    pub(crate) fn for_servers() -> Option<User> {
        if !rustix::process::geteuid().is_root() {
            return None;
        }
        let accounts = fs::read_to_string("/etc/passwd").unwrap_or_default();
        let user = accounts.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next().filter(|name| *name == ACCOUNT)?.to_owned();
            let uid = fields.nth(1)?.parse().ok()?;
            let gid = fields.next()?.parse().ok()?;
            Some(User { name, uid, gid })
        });
        Some(user.unwrap_or_else(|| panic!("run as root, the tests need a user {ACCOUNT}")))
    }

    /// Whether a file belongs to it.
    ///
    /// # Errors
    ///
    /// When the file cannot be looked at.
    pub(crate) fn owns(&self, path: &Path) -> io::Result<bool> {
        Ok(fs::metadata(path)?.uid() == self.uid)
    }

    /// Has a program run as this user.
    pub(crate) fn runs(&self, command: &mut Command) {
        command.uid(self.uid).gid(self.gid);
    }

    /// Makes this user the owner of the file or folder `path`.
    ///
    /// # Errors
    ///
    /// What the operating system says.
    pub(crate) fn own(&self, path: &Path) -> io::Result<()> {
        chown(path, Some(self.uid), Some(self.gid))
    }
}
