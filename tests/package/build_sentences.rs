//! Who cannot build is told why, and what to install, in one sentence.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

#[allow(dead_code, reason = "the test needs the questions, not the compiler's flags")]
#[path = "../../apxs/apxs.rs"]
mod apxs;

const ARCH: &str = std::env::consts::ARCH;

/// What the build says when `program` is the apxs.
fn sentence(program: &Path) -> String {
    let answer = apxs::Apxs::ask(Some(program.display().to_string()), ARCH);
    let sentence = answer.map(|_| ()).expect_err("it should not build with this");
    assert!(!sentence.contains('\n'), "{sentence}");
    sentence
}

/// An installation with headers of this version, and this minor number of the module interface, that trusts an application's length.
fn httpd(version: [u32; 3], interface: u32) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let [major, minor, patch] = version;
    symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/package/build_sentences/apxs"), folder.path().join("apxs"))
        .unwrap();
    let include = folder.path().join("include");
    fs::create_dir(&include).unwrap();
    fs::write(
        include.join("ap_release.h"),
        format!(
            "#define AP_SERVER_MAJORVERSION_NUMBER {major}\n\
             #define AP_SERVER_MINORVERSION_NUMBER {minor}\n\
             #define AP_SERVER_PATCHLEVEL_NUMBER   {patch}\n"
        ),
    )
    .unwrap();
    fs::write(include.join("ap_mmn.h"), format!("#define MODULE_MAGIC_NUMBER_MINOR {interface}   /* 0...n */\n"))
        .unwrap();
    fs::write(include.join("util_script.h"), "#define AP_TRUST_CGILIKE_CL_ENVVAR \"ap_trust_cgilike_cl\"\n").unwrap();
    folder
}

/// The same, with a program of httpd's: a script, or an object file.
fn with_program(program: &[u8]) -> TempDir {
    let httpd = httpd([2, 4, 66], 140);
    let name = httpd.path().join("httpd");
    support::write_program(&name, program).unwrap();
    fs::write(httpd.path().join("SBINDIR"), httpd.path().display().to_string()).unwrap();
    fs::write(httpd.path().join("PROGNAME"), "httpd").unwrap();
    httpd
}

fn builds_with(httpd: &TempDir) -> Result<(), String> {
    apxs::Apxs::ask(Some(httpd.path().join("apxs").display().to_string()), ARCH).map(|_| ())
}

#[test]
fn no_apxs() {
    let sentence = sentence(Path::new("/nonexistent/apxs"));
    assert!(sentence.contains("apache2-dev") && sentence.contains("APXS="), "{sentence}");
}

#[test]
fn some_other_program() {
    for program in ["/bin/false", "/bin/true", "/bin/echo", "/bin/sh", "/usr", "/etc/passwd"] {
        let sentence = sentence(Path::new(program));
        assert!(sentence.contains("apxs of httpd 2.4") || sentence.contains("apache2-dev"), "{sentence}");
    }
}

#[test]
fn no_headers() {
    for name in ["ap_release.h", "ap_mmn.h", "util_script.h"] {
        let httpd = httpd([2, 4, 59], 131);
        fs::remove_file(httpd.path().join("include").join(name)).unwrap();
        let sentence = sentence(&httpd.path().join("apxs"));
        assert!(sentence.contains(name) && sentence.contains("apache2-dev"), "{sentence}");
    }
}

#[test]
fn an_httpd_that_is_too_old() {
    let httpd = httpd([2, 4, 48], 109);
    let sentence = sentence(&httpd.path().join("apxs"));
    assert!(
        sentence.contains("2.4.48") && sentence.contains("2.4.49") && sentence.contains("apache2-dev"),
        "{sentence}"
    );
}

#[test]
fn an_httpd_of_another_kind() {
    for version in [[2, 5, 0], [2, 2, 99], [1, 3, 60], [3, 4, 0]] {
        let httpd = httpd(version, 200);
        let sentence = sentence(&httpd.path().join("apxs"));
        let [major, minor, patch] = version;
        assert!(sentence.contains(&format!("{major}.{minor}.{patch}")) && sentence.contains("httpd 2.4"), "{sentence}");
    }
}

/// What counts is the feature, not the version: distributions bring it to older ones with their patches.
#[test]
fn an_httpd_without_trust_in_lengths() {
    let has_it = httpd([2, 4, 49], 110);
    assert_eq!(builds_with(&has_it), Ok(()));

    let without = httpd([2, 4, 66], 140);
    fs::write(without.path().join("include/util_script.h"), "/* nothing */\n").unwrap();
    let sentence = sentence(&without.path().join("apxs"));
    assert!(sentence.contains("ap_trust_cgilike_cl") && sentence.contains("2.4.59"), "{sentence}");

    fs::write(without.path().join("include/mod_cgi.so"), b"\0\x01ap_trust_cgilike_cl\0").unwrap();
    assert_eq!(builds_with(&without), Ok(()));
}

#[test]
fn an_httpd_for_another_processor() {
    let mut program = b"\x7fELF\x02\x01\x01\0\0\0\0\0\0\0\0\0\x03\0".to_vec();
    let other: u16 = if ARCH == "s390x" { 62 } else { 22 };
    program.extend(other.to_le_bytes());
    let httpd = with_program(&program);
    let sentence = sentence(&httpd.path().join("apxs"));
    assert!(sentence.contains("another processor") && sentence.contains(ARCH), "{sentence}");
}

#[test]
fn an_httpd_that_cannot_load_modules() {
    let list = |modules: &str| format!("#!/bin/sh\necho 'Compiled in modules:\n{modules}'\n");
    let without = with_program(list("  core.c\n  http_core.c\n  prefork.c").as_bytes());
    let sentence = sentence(&without.path().join("apxs"));
    assert!(sentence.contains("mod_so"), "{sentence}");
    let with = with_program(list("  core.c\n  mod_so.c\n  http_core.c").as_bytes());
    assert_eq!(builds_with(&with), Ok(()));
}

/// What cargo makes of such a sentence is said once, without cargo's words around it; all else as it is.
#[test]
fn it_is_said_once() {
    const CARGO: &str = r"#!/bin/sh
echo on standard output
cat >&2 <<'END'
   Compiling mod_finish_request v0.1.0 (/somewhere)
error: mod_finish_request@0.1.0: httpd 2.4.48 is too old: install a newer one
error: failed to run custom build command for `mod_finish_request v0.1.0 (/somewhere)`
note: To improve backtraces for build dependencies, set something

Caused by:
  process didn't exit successfully: `/somewhere/build-script-build` (exit status: 1)
  --- stdout
  cargo::rerun-if-changed=apxs
  cargo::error=httpd 2.4.48 is too old: install a newer one
END
exit 101
";
    let folder = tempfile::tempdir().unwrap();
    let cargo = folder.path().join("cargo");
    support::write_program(&cargo, CARGO).unwrap();
    let mut build = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/apxs/build.sh"));
    let output = support::tools::run({
        build.env("CARGO", &cargo).env("CARGO_TARGET_DIR", folder.path()).arg("build");
        build
    });
    assert_eq!(output.status.code(), Some(101));
    assert_eq!(output.stdout, b"on standard output\n");
    assert_eq!(
        output.stderr,
        "   Compiling mod_finish_request v0.1.0 (/somewhere)\nhttpd 2.4.48 is too old: install a newer one\n"
    );
}

#[test]
fn nowhere_to_build() {
    let mut build = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/apxs/build.sh"));
    build.env("CARGO_TARGET_DIR", "/proc/target").arg("--version");
    let output = support::tools::run(build);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.contains("/proc/target cannot be written to"), "{}", output.stderr);
    assert_eq!(output.stderr.lines().count(), 1);
}

#[test]
fn nothing_to_link_with() {
    let folder = tempfile::tempdir().unwrap();
    for tool in ["bash", "dirname", "mkdir", "rm", "chmod"] {
        let output = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap();
        symlink(String::from_utf8(output.stdout).unwrap().trim(), folder.path().join(tool)).unwrap();
    }
    let mut build = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/apxs/build.sh"));
    build.env("PATH", folder.path()).env("CARGO_TARGET_DIR", folder.path()).env_remove("CC").arg("--version");
    let output = support::tools::run(build);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.contains("cc") && output.stderr.contains("gcc"), "{}", output.stderr);
    assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
}

#[test]
fn nowhere_to_run_what_is_built() {
    if !support::machine::may_unshare(&["--mount"]) {
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut unshare = support::machine::unshare(&["--mount"]);
    let script = r#"mount -t tmpfs -o noexec none "$CARGO_TARGET_DIR" && exec "$0" --version"#;
    unshare.args(["sh", "-c", script, concat!(env!("CARGO_MANIFEST_DIR"), "/apxs/build.sh")]);
    unshare.env("CARGO_TARGET_DIR", folder.path());
    let output = support::tools::run(unshare);
    assert_eq!(output.status.code(), Some(1));
    assert!(output.stderr.contains("noexec") && output.stderr.contains("CARGO_TARGET_DIR"), "{}", output.stderr);
    assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
}

/// An httpd that will not do is refused before anything is installed for it.
#[test]
fn before_anything_is_installed() {
    let check = |httpd: &TempDir| {
        let mut check = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/apxs/supported.sh"));
        check.env("APXS", httpd.path().join("apxs"));
        support::tools::run(check)
    };
    let will_do = httpd([2, 4, 58], 129);
    let output = check(&will_do);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", output.stderr);
    fs::write(will_do.path().join("include/util_script.h"), "/* nothing */\n").unwrap();
    let output = check(&will_do);
    assert!(!output.status.success());
    assert!(output.stderr.contains("ap_trust_cgilike_cl") && output.stderr.lines().count() == 1, "{}", output.stderr);
    fs::write(will_do.path().join("include/mod_cgid.so"), "ap_trust_cgilike_cl").unwrap();
    assert!(check(&will_do).status.success());
}

/// Writes a program that is this script.
fn program(folder: &Path, name: &str, script: &str) {
    support::write_program(&folder.join(name), format!("#!/bin/sh\n{script}\n")).unwrap();
}

/// Who has no toolchain that will do is told the package that has one, as far as the system's own lists know, and the way that is everywhere.
#[test]
fn no_toolchain() {
    let folder = tempfile::tempdir().unwrap();
    for tool in ["sh", "sed", "cut", "sort", "head", "printf", "dirname"] {
        let output = Command::new("sh").args(["-c", &format!("command -v {tool}")]).output().unwrap();
        let found = String::from_utf8(output.stdout).unwrap();
        if found.starts_with('/') {
            symlink(found.trim(), folder.path().join(tool)).unwrap();
        }
    }
    let check = |cargo: &str, has: &str| {
        program(folder.path(), "cargo", cargo);
        program(folder.path(), "apt-cache", has);
        let mut check = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/machine/toolchain.sh"));
        check.env("PATH", folder.path()).env_remove("CARGO").args(["fmt", "clippy"]);
        support::tools::run(check)
    };
    let says = |cargo: &str, has: &str, words: &[&str]| {
        let output = check(cargo, has);
        assert!(!output.status.success() && output.stdout.is_empty(), "{}", output.stderr);
        assert_eq!(output.stderr.lines().count(), 1, "{}", output.stderr);
        for word in words {
            assert!(output.stderr.contains(word), "{:?} does not say {word:?}", output.stderr);
        }
    };
    let none = "exit 127";
    let new = r#"[ "$2" != cargo ] || echo '  Candidate: 1.97.1+dfsg1-1'"#;
    says(none, new, &["There is no cargo", "1.88", "the package cargo,", "rustup"]);
    let aside = r#"case $2 in cargo) version=0.66.0+ds1-1 ;; *) version=1.96.0+dfsg1-1~deb12u2 ;; esac
        echo "  Installed: (none)"; echo "  Candidate: $version""#;
    says(none, aside, &["the package cargo-web,", "rustup"]);
    says("echo cargo 1.65.0", aside, &["Rust 1.65.0 is too old", "1.88", "the package cargo-web,"]);
    says(none, "echo '  Candidate: (none)'", &["There is no cargo", "rustup"]);
    says(none, "exit 100", &["There is no cargo", "rustup"]);
    let bare = r#"[ "$1" = --version ] && echo cargo 1.88.0"#;
    says(bare, new, &["rustfmt"]);
    says(r#"[ "$1" = clippy ] && exit 101; echo cargo 1.88.0"#, new, &["rust-clippy", "rustup component add clippy"]);
    let output = check("echo cargo 1.88.0", new);
    assert!(output.status.success() && output.stderr.is_empty(), "{}", output.stderr);

    program(folder.path(), "rustup", "exit 0");
    says(none, new, &["rustup default stable"]);
}

/// The last line of all tests counts those that this machine does not permit, and says before which they are.
#[test]
fn the_summary_counts_what_was_not_tried() {
    let folder = tempfile::tempdir().unwrap();
    let summary = |lines: &str, status: i32| {
        program(folder.path(), "cargo", &format!("[ \"$1\" != test ] || {{ printf '{lines}'; exit {status}; }}"));
        let mut all = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/machine/run.sh"));
        let output = support::tools::run({
            all.env("CARGO", folder.path().join("cargo"));
            all
        });
        assert_eq!(output.status.code(), Some(status));
        String::from_utf8(output.stdout).unwrap()
    };
    let results = "test result: ok. 5 passed; 0 failed; 0 ignored\\ntest result: ok. 2 passed; 0 failed; 0 ignored\\n";
    assert!(summary(results, 0).ends_with("\n\n7 passed, 0 failed\n"));
    let one = format!("test a::b ... not tried: a::b: it may not\\n{results}");
    assert!(summary(&one, 0).ends_with("\n\nnot tried: a::b: it may not\n6 passed, 0 failed, 1 skipped\n"));
    let failed = "test result: FAILED. 1 passed; 2 failed; 0 ignored\\n";
    assert!(summary(failed, 101).ends_with("\n\n1 passed, 2 failed\n"));
    assert!(summary("", 101).ends_with("see above.\n\n0 passed, 0 failed\n"));
}
