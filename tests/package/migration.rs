//! What `docs/migration.md` tells to paste works as it stands.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use support::{Client, Handler, Httpd, Mpm, Protocol};

const PAGE: &str = include_str!("../../docs/migration.md");

/// The one fragment in this language of the section with this heading.
fn fragment(heading: &str, language: &str) -> String {
    let section =
        PAGE.split("\n## ").find(|section| section.starts_with(&format!("{heading}\n"))).expect("the section");
    let (_, rest) = section.split_once(&format!("\n```{language}\n")).expect("a fragment");
    rest.split_once("\n```").expect("its end").0.to_owned()
}

/// The PHP files, where httpd can read them.
fn files() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for name in ["prepend.php", "finish_request.php", "cgi.php"] {
        fs::copy(Path::new(env!("CARGO_MANIFEST_DIR")).join("php").join(name), folder.path().join(name)).unwrap();
        fs::set_permissions(folder.path().join(name), fs::Permissions::from_mode(0o644)).unwrap();
    }
    folder
}

fn finishes(httpd: &Httpd, page: &str) {
    let background = httpd.background();
    let response = Client::connect(httpd, Protocol::Http1).get(&background.query(page), &[]).released();
    assert_eq!((response.status, &response.body[..]), (200, &b"Thank you.\n"[..]));
    background.wait_for_begin();
    assert!(!background.is_done(), "the client had to wait for the work");
    background.open_gate();
    assert_eq!(background.wait_for_done().errors, "");
}

/// An application of php-fpm's, and one of LiteSpeed's, unmodified, and a recipe's page as it is written now.
#[test]
fn pages() {
    const WORK: &str = "require __DIR__ . '/background.php'; background($_GET['id']);";
    let files = files();
    let here = |text: &str| text.replace("/usr/share/php/finish_request", &files.path().display().to_string());
    let config = here(&fragment("From php-fpm", "apache")).replace("FinishRequestConnection Keep", "");
    let httpd = Httpd::builder(Mpm::Prefork).handler(Handler::ModPhp).config(&config).start();
    for function in ["fastcgi_finish_request", "litespeed_finish_request"] {
        let page = format!("<?php echo \"Thank you.\\n\"; {function}() || exit; {WORK}");
        httpd.install(&format!("{function}.php"), &page);
        finishes(&httpd, &format!("{function}.php"));
    }
    let recipe = here(&fragment("From recipes of the web", "php"));
    assert!(recipe.contains("work();"));
    httpd.install("recipe.php", &recipe.replace("work();", WORK));
    finishes(&httpd, "recipe.php");
    httpd.stop();
}

/// The lines for .htaccess.
#[test]
fn htaccess() {
    let lines = fragment("From LiteSpeed", "apache");
    let httpd = Httpd::builder(Mpm::Event)
        .handler(Handler::Lua)
        .config("FinishRequest Off\n<Directory \"${WWW}\">\nAllowOverride FileInfo\n</Directory>")
        .start();
    httpd.install(".htaccess", &lines);
    let background = httpd.background();
    let path = background.query("app.lua");
    let response = Client::connect(&httpd, Protocol::Http1).get(&path, &[]).released();
    assert_eq!(response.status, 200);
    assert!(!background.is_done(), "the client had to wait for the work");
    background.open_gate();
    assert_eq!(background.wait_for_done().errors, "");
    httpd.stop();
}
