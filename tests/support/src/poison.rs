//! A library to be preloaded into httpd: memory that is given back is overwritten at once.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crate::programs;
use crate::tools;

/// The library, built once for this process.
///
/// # Panics
///
/// When it cannot be built.
pub(crate) fn library() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        // Another run of the tests may be building it as well.
        let folder = env::current_exe().expect("a program knows where it is");
        let (built, fresh) =
            (folder.with_file_name("poison.so"), folder.with_file_name(format!("poison-{}", std::process::id())));
        let mut build = Command::new(programs::program(&["cc", "gcc", "clang"]));
        build.args(["-shared", "-fPIC", "-O2", "-Wall", "-Wextra", "-Werror", "-o"]).arg(&fresh);
        build.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/poison/poison.c")).arg("-ldl");
        let output = tools::run(build);
        assert!(output.status.success(), "{}", output.stderr);
        fs::rename(&fresh, &built).expect("the library can be put into its place");
        built
    })
}
