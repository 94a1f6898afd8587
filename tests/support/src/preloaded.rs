//! Libraries to be preloaded into httpd: one that overwrites memory as soon as it is given back, one that has the module's calls fail, and one that
//! has a defect. And one for a client.

use std::env;
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use crate::programs;
use crate::tools;

/// The library whose source has this name, built once for this process.
///
/// # Panics
///
/// When it cannot be built.
pub(crate) fn library(name: &'static str) -> PathBuf {
    built(name, &[])
}

/// As [`library`], by a compiler that is told this too.
pub(crate) fn built(name: &'static str, options: &[&str]) -> PathBuf {
    static BUILT: Mutex<Vec<(&str, PathBuf)>> = Mutex::new(Vec::new());
    let mut built = BUILT.lock().unwrap();
    if let Some((_, library)) = built.iter().find(|(other, _)| *other == name) {
        return library.clone();
    }
    // Another run of the tests may be building it as well.
    let program = env::current_exe().expect("a program knows where it is");
    let library = program.with_file_name(format!("{name}.so"));
    let fresh = program.with_file_name(format!("{name}-{}", std::process::id()));
    let mut build = Command::new(programs::program(&["cc", "gcc", "clang"]));
    build.args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror"]).args(options).arg("-o").arg(&fresh);
    build.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("src/preloaded/{name}.c"))).arg("-ldl");
    let output = tools::run(build);
    assert!(output.status.success(), "{}", output.stderr);
    fs::rename(&fresh, &library).expect("the library can be put into its place");
    built.push((name, library.clone()));
    library
}

/// To be preloaded into OpenSSL's `s_client`: with `-sess_in` and `-early_data` it sends early data that the server has not offered to take.
///
/// # Panics
///
/// When it cannot be built.
pub fn early_data() -> PathBuf {
    library("early_data")
}

/// The file in a server's folder that says which call fails.
pub(crate) const CONTROL: &str = "faults";

/// How many places for counts it has.
const MOST: u64 = 100;

/// A way in which one of the module's calls can fail.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Fault {
    number: u64,
    /// The call.
    pub call: &'static str,
    /// How it fails, as the source says it.
    how: &'static str,
}

impl Fault {
    /// Its place among [`Fault::all`].
    pub fn number(self) -> u64 {
        self.number
    }

    /// All that there are.
    pub fn all() -> Vec<Fault> {
        let source = include_str!("preloaded/faults.c");
        let lines = source.lines().filter_map(|line| line.trim().strip_prefix("{ \"")?.strip_suffix(" },"));
        let split = lines.map(|line| line.split_once("\", ").expect("a name, and how it fails"));
        split.zip(0..).map(|((call, how), number)| Fault { number, call, how }).collect()
    }
}

impl Fault {
    /// Whoever makes the call tries again, so that nobody notices: it was interrupted, did a part of its work, or has to wait.
    pub fn is_mild(self) -> bool {
        let waits = self.call == "sendmsg" && self.how.contains("EAGAIN");
        waits || self.how.contains("EINTR") || self.how.contains("SHORT") || self.call == "ap_run_log_transaction"
    }
}

impl std::fmt::Debug for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.call, self.how)
    }
}

/// Which of the module's calls fails in a server that was started [`with_faults`](crate::Builder::with_faults). The server has the file mapped.
pub struct Faults(File);

impl Faults {
    /// Those of the server in this folder.
    ///
    /// # Panics
    ///
    /// When there is no such file.
    pub(crate) fn of(root: &Path) -> Faults {
        let file = File::options().read(true).write(true).open(root.join(CONTROL));
        Faults(file.expect("a server that was started with faults"))
    }

    /// The file's first content: this call fails, or none.
    pub(crate) fn initial(fault: Option<(Fault, u32)>) -> Vec<u8> {
        let (number, occurrence) = fault.map_or((0, 0), |(fault, occurrence)| (fault.number as u32 + 1, occurrence));
        let mut bytes = [number.to_ne_bytes(), occurrence.to_ne_bytes()].concat();
        bytes.resize(12 + 4 * MOST as usize, 0);
        bytes
    }

    /// From now on all calls are counted anew, and this one of them fails at this occurrence, counted from 1; `None` fails none.
    ///
    /// # Panics
    ///
    /// When the file cannot be written.
    pub fn set(&self, fault: Option<(Fault, u32)>) {
        // No call is to be counted twice, or fail that was counted before.
        self.0.write_all_at(&[0; 4], 0).expect("the file can be written");
        let bytes = Faults::initial(fault);
        self.0.write_all_at(&bytes[4..], 4).expect("the file can be written");
        self.0.write_all_at(&bytes[..4], 0).expect("the file can be written");
    }

    /// How often this call has been made.
    pub fn count(&self, fault: Fault) -> u32 {
        self.number_at(12 + 4 * fault.number)
    }

    /// Whether the one that was to fail has failed.
    pub fn has_failed(&self) -> bool {
        self.number_at(8) > 0
    }

    fn number_at(&self, at: u64) -> u32 {
        let mut number = [0; 4];
        self.0.read_exact_at(&mut number, at).expect("the file can be read");
        u32::from_ne_bytes(number)
    }
}
