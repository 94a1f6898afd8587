//! The applications that the tests put into a server.

use std::io::{self, Write as _};
use std::path::Path;

use crate::programs;

/// The stock applications: file name, and text in which `@GATES@` stands for the gates' folder.
const FILES: [(&str, &str); 6] = [
    ("app.php", include_str!("apps/app.php")),
    ("background.php", include_str!("apps/background.php")),
    ("app.cgi", include_str!("apps/app.cgi")),
    ("background.sh", include_str!("apps/background.sh")),
    ("app.lua", include_str!("apps/app.lua")),
    ("background.lua", include_str!("apps/background.lua")),
];

/// How long a line of [`body`] is, its end included.
const LINE: usize = 38;

/// The first `bytes` bytes of the text that every stock application answers with.
pub fn body(bytes: usize) -> Vec<u8> {
    let mut text = Vec::with_capacity(bytes + LINE);
    for line in 1..=bytes.div_ceil(LINE) {
        writeln!(text, "{line:07} of the answer to your request").expect("memory takes all");
    }
    text.truncate(bytes);
    text
}

/// Puts the stock applications into the document root `www`; their gates are in `gates`.
///
/// # Errors
///
/// What the operating system says.
pub(crate) fn install_all(www: &Path, gates: &Path) -> io::Result<()> {
    FILES.iter().try_for_each(|(name, text)| install(www, gates, name, text))
}

/// Puts one application into `www` as `name`, executable; `@GATES@` in `text` becomes `gates`.
///
/// # Errors
///
/// What the operating system says.
pub(crate) fn install(www: &Path, gates: &Path, name: &str, text: &str) -> io::Result<()> {
    let path = www.join(name);
    programs::write(&path, text.replace("@GATES@", &gates.to_string_lossy()))
}
