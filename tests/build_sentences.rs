//! Who cannot build is told why, and what to install, in one sentence.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use tempfile::TempDir;

#[allow(dead_code, reason = "the test needs the questions, not the compiler's flags")]
#[path = "../apxs/apxs.rs"]
mod apxs;

/// What the build says when `program` is the apxs.
fn sentence(program: &Path) -> String {
    let answer = apxs::Apxs::ask(Some(program.display().to_string()));
    let sentence = answer.map(|_| ()).expect_err("it should not build with this");
    assert!(!sentence.contains('\n'), "{sentence}");
    sentence
}

/// An installation with headers of this version.
fn httpd(version: [u32; 3]) -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let [major, minor, patch] = version;
    symlink(concat!(env!("CARGO_MANIFEST_DIR"), "/tests/build_sentences/apxs"), folder.path().join("apxs")).unwrap();
    fs::create_dir(folder.path().join("include")).unwrap();
    fs::write(
        folder.path().join("include/ap_release.h"),
        format!(
            "#define AP_SERVER_MAJORVERSION_NUMBER {major}\n\
             #define AP_SERVER_MINORVERSION_NUMBER {minor}\n\
             #define AP_SERVER_PATCHLEVEL_NUMBER   {patch}\n"
        ),
    )
    .unwrap();
    folder
}

#[test]
fn no_apxs() {
    let sentence = sentence(Path::new("/nonexistent/apxs"));
    assert!(sentence.contains("apache2-dev") && sentence.contains("APXS="), "{sentence}");
}

#[test]
fn some_other_program() {
    let sentence = sentence(Path::new("/bin/false"));
    assert!(sentence.contains("/bin/false") && sentence.contains("apache2-dev"), "{sentence}");
}

#[test]
fn no_headers() {
    let httpd = httpd([2, 4, 59]);
    fs::remove_file(httpd.path().join("include/ap_release.h")).unwrap();
    let sentence = sentence(&httpd.path().join("apxs"));
    assert!(sentence.contains("ap_release.h") && sentence.contains("apache2-dev"), "{sentence}");
}

#[test]
fn an_httpd_that_is_too_old() {
    for version in [[2, 4, 58], [2, 2, 99], [1, 3, 60]] {
        let httpd = httpd(version);
        let sentence = sentence(&httpd.path().join("apxs"));
        let [major, minor, patch] = version;
        assert!(sentence.contains(&format!("{major}.{minor}.{patch}")), "{sentence}");
        assert!(sentence.contains("2.4.59") && sentence.contains("apache2-dev"), "{sentence}");
    }
}

#[test]
fn an_httpd_of_another_kind() {
    let httpd = httpd([2, 5, 0]);
    let sentence = sentence(&httpd.path().join("apxs"));
    assert!(sentence.contains("2.5.0") && sentence.contains("2.4"), "{sentence}");
}

#[test]
fn the_oldest_that_will_do() {
    let httpd = httpd([2, 4, 59]);
    let program = httpd.path().join("apxs").display().to_string();
    assert!(apxs::Apxs::ask(Some(program)).is_ok());
}
