//! `make install` puts all that belongs to the module where it is looked for, and `make uninstall` takes it away.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use support::machine::not_tried;
use support::{Client, Handler, Httpd, Mpm, Protocol, Signal, tools, wait_for};
use tempfile::TempDir;

/// The module to install.
fn module() -> &'static Path {
    static MODULE: OnceLock<PathBuf> = OnceLock::new();
    MODULE.get_or_init(support::finish_request_module)
}

/// Runs the script for a folder, as somebody whose new files nobody else may read.
fn run(what: &str, root: &Path, module: &Path) -> tools::Output {
    let mut command = Command::new("sh");
    command.arg("-c").arg("umask 077; exec \"$0\" \"$@\"");
    command.arg(concat!(env!("CARGO_MANIFEST_DIR"), "/apxs/install.sh")).arg(what).arg(module);
    command.env("DESTDIR", root).env_remove("PHPDIR").env_remove("DOCDIR").env_remove("SYMBOLS");
    tools::run(command)
}

fn install(root: &Path) -> String {
    let output = run("install", root, module());
    assert!(output.status.success(), "{}", output.stderr);
    assert_eq!(output.stderr, "");
    String::from_utf8(output.stdout).unwrap()
}

/// All files and folders below one, with their modes.
fn tree(root: &Path) -> BTreeMap<PathBuf, u32> {
    let mut all = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let metadata = fs::symlink_metadata(&path).unwrap();
            all.insert(path.strip_prefix(root).unwrap().to_owned(), metadata.permissions().mode() & 0o7777);
            if metadata.is_dir() {
                folders.push(path);
            }
        }
    }
    all
}

/// The one file of this name.
fn find(root: &Path, name: &str) -> PathBuf {
    let found: Vec<_> = tree(root).into_keys().filter(|path| path.ends_with(name)).collect();
    assert_eq!(found.len(), 1, "{name}: {found:?}");
    root.join(&found[0])
}

#[test]
fn brings_all_that_belongs_to_the_module() {
    let folder = tempfile::tempdir().unwrap();
    let said = install(folder.path());
    for (path, mode) in tree(folder.path()) {
        let is_folder = folder.path().join(&path).is_dir();
        let is_program = path.parent().is_some_and(|parent| parent.ends_with("monitoring"))
            && !path.extension().is_some_and(|kind| kind == "yml" || kind == "json");
        assert_eq!(mode, if is_folder || is_program { 0o755 } else { 0o644 }, "{}", path.display());
    }
    for name in [
        "mod_finish_request.h",
        "php/finish_request/finish_request.php",
        "php/finish_request/prepend.php",
        "php/finish_request/cgi.php",
        "php/finish_request/php.d/finish_request.ini",
        "libapache2-mod-finish-request/finish_request_php.conf",
        "php/finish_request/stubs/finish_request.php",
        "docs/applications.md",
        "docs/directives.md",
        "docs/operations.md",
        "docs/recipes.md",
        "examples/mod_php.conf",
        "libapache2-mod-finish-request/README.md",
        "LICENSE",
    ] {
        find(folder.path(), name);
    }
    let installed = find(folder.path(), module().file_name().unwrap().to_str().unwrap());
    let size = |path: &Path| fs::metadata(path).unwrap().len();
    assert!(size(&installed) < size(module()) / 2, "it is stripped");
    assert!(!said.contains(".new."), "{said}");

    // Once more, and all is as it was.
    let before = tree(folder.path());
    install(folder.path());
    assert_eq!(tree(folder.path()), before);
    let output = run("uninstall", folder.path(), module());
    assert!(output.status.success() && output.stderr.is_empty(), "{}", output.stderr);
    let left: Vec<_> = tree(folder.path()).into_keys().filter(|path| folder.path().join(path).is_file()).collect();
    assert_eq!(left, Vec::<PathBuf>::new());
}

/// Where a2enmod looks, on Debian and Ubuntu.
fn available() -> Option<PathBuf> {
    let output = tools::run({
        let mut apxs = Command::new(std::env::var("APXS").unwrap_or_else(|_| "apxs".to_owned()));
        apxs.args(["-q", "SYSCONFDIR"]);
        apxs
    });
    let config = PathBuf::from(String::from_utf8(output.stdout).unwrap().trim());
    (config == Path::new("/etc/apache2")).then(|| config.join("mods-available"))
}

#[test]
fn what_an_administrator_has_changed_stays() {
    let Some(available) = available() else {
        not_tried("httpd's configuration is not where Debian has it");
        return;
    };
    let folder = tempfile::tempdir().unwrap();
    install(folder.path());
    let place = folder.path().join(available.strip_prefix("/").unwrap());
    let (load, conf) = (place.join("finish_request.load"), place.join("finish_request.conf"));
    assert!(
        fs::read_to_string(&load).unwrap().starts_with("LoadModule finish_request_module /usr/lib/apache2/modules/")
    );

    // One that was installed by an older version, and not changed, is replaced.
    let shipped = find(folder.path(), "libapache2-mod-finish-request/finish_request.conf");
    let new = fs::read(&conf).unwrap();
    fs::write(&conf, "# older\n").unwrap();
    fs::write(&shipped, "# older\n").unwrap();
    install(folder.path());
    assert_eq!(fs::read(&conf).unwrap(), new);

    fs::write(&conf, "FinishRequest Auto\n").unwrap();
    assert!(install(folder.path()).contains("kept"));
    assert_eq!(fs::read(&conf).unwrap(), b"FinishRequest Auto\n");

    let enabled = place.with_file_name("mods-enabled");
    fs::create_dir(&enabled).unwrap();
    std::os::unix::fs::symlink("../mods-available/finish_request.load", enabled.join("finish_request.load")).unwrap();
    let output = run("uninstall", folder.path(), module());
    assert!(output.stderr.contains("still enabled") && output.stderr.contains("a2dismod"), "{}", output.stderr);
    assert!(String::from_utf8(output.stdout).unwrap().contains("kept"));
    assert!(conf.exists() && !load.exists());
}

#[test]
fn symbols_on_demand() {
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/apxs/install.sh"));
    command.arg("install").arg(module()).env("DESTDIR", folder.path()).env("SYMBOLS", "1");
    let output = tools::run(command);
    assert!(output.status.success(), "{}", output.stderr);
    let name = module().file_name().unwrap().to_str().unwrap();
    let symbols = find(folder.path(), &format!("{name}.debug"));
    let installed = fs::read(find(folder.path(), name)).unwrap();
    let link = format!("{name}.debug");
    assert!(installed.windows(link.len()).any(|bytes| bytes == link.as_bytes()));
    assert!(fs::metadata(symbols).unwrap().len() > installed.len() as u64);
}

#[test]
fn what_cannot_be_done_is_said_in_a_sentence() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "").unwrap();
    let output = run("install", &file, module());
    assert!(!output.status.success());
    assert!(output.stderr.contains("cannot be written to") && output.stderr.lines().count() == 1, "{}", output.stderr);
    let output = run("install", folder.path(), Path::new("/nonexistent/module.so"));
    assert!(output.stderr.contains("run make first") && output.stderr.lines().count() == 1, "{}", output.stderr);
    let mut wrong = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/apxs/install.sh"));
    wrong.arg("install").arg(module()).env("DESTDIR", folder.path()).env("APXS", "/bin/false");
    let output = tools::run(wrong);
    assert!(output.stderr.contains("is it the apxs") && output.stderr.lines().count() == 1, "{}", output.stderr);
}

/// A server that runs, and is restarted meanwhile, keeps the module that it has loaded, or loads a whole one.
#[test]
fn over_a_running_httpd() {
    let folder = TempDir::with_prefix("httpd-test-").unwrap();
    install(folder.path());
    let installed = find(folder.path(), module().file_name().unwrap().to_str().unwrap());
    let config = format!("LoadModule finish_request_module \"{}\"\nFinishRequest On", installed.display());
    let httpd =
        Httpd::builder(Mpm::Event).without_module().handler(Handler::Lua).generations(8).config(&config).start();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let requests = scope.spawn(|| {
            let mut answered = 0;
            while !over.load(Ordering::Relaxed) || answered == 0 {
                let background = httpd.background();
                let query = background.query("app.lua");
                let response = Client::connect(&httpd, Protocol::Http1).get(&query, &[]).released();
                assert_eq!(response.status, 200);
                background.open_gate();
                background.wait_for_done();
                answered += 1;
            }
        });
        for round in 1..=5 {
            install(folder.path());
            httpd.signal(Signal::USR1);
            wait_for("the server to be ready again", || {
                (httpd.log().matches("resuming normal operations").count() > round).then_some(())
            });
        }
        over.store(true, Ordering::Relaxed);
        requests.join().unwrap();
    });
    httpd.stop();
}
