//! The configuration files that an administrator gets work as they are: those for a2enmod, and the
//! examples. Only the places of files are another machine's.

use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

use support::tools::run;
use support::{Builder, Client, Handler, Httpd, Mpm, Protocol, body, finish_request_module};

/// Where Debian has its modules, and so the .load file has ours.
const LOADED_FROM: &str = "/usr/lib/apache2/modules/mod_finish_request.so";

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("httpd-conf").join(name);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The .load file, for the module that the tests use.
fn load() -> String {
    let text = shipped("finish_request.load");
    assert!(text.contains(LOADED_FROM), "{text}");
    text.replace(LOADED_FROM, &finish_request_module().display().to_string())
}

/// As `a2enmod finish_request`, by the real one where there is one.
fn enable(config: &Path) {
    for folder in ["mods-available", "mods-enabled", "state"] {
        fs::create_dir(config.join(folder)).unwrap();
    }
    fs::write(config.join("envvars"), "").unwrap();
    fs::write(config.join("mods-available/finish_request.load"), load()).unwrap();
    fs::write(config.join("mods-available/finish_request.conf"), shipped("finish_request.conf")).unwrap();

    let a2enmod = PathBuf::from("/usr/sbin/a2enmod");
    if a2enmod.is_file() {
        let mut command = Command::new(a2enmod);
        command.arg("finish_request").env("APACHE_CONFDIR", config).env("APACHE_STATE_DIRECTORY", config.join("state"));
        let output = run(command);
        assert!(output.status.success(), "{output:?}");
    } else {
        eprintln!("There is no a2enmod (package apache2): its links are made by hand.");
        for name in ["finish_request.load", "finish_request.conf"] {
            symlink(format!("../mods-available/{name}"), config.join("mods-enabled").join(name)).unwrap();
        }
    }
}

fn finishes_early(httpd: &Httpd, page: &str) {
    let background = httpd.background();
    let response = Client::connect(httpd, Protocol::Http1).get(&background.query(page), &[]).released();
    assert_eq!(response.status, 200);
    assert!(!background.is_done(), "the client had to wait for the background work");
    background.open_gate();
    assert_eq!(background.wait_for_done().errors, "");
}

#[test]
fn enabled_by_a2enmod() {
    let folder = tempfile::tempdir().unwrap();
    enable(folder.path());
    let enabled = folder.path().join("mods-enabled").display().to_string();
    let httpd = Httpd::builder(Mpm::Event)
        .without_module()
        .handler(Handler::Lua)
        .config(&format!("IncludeOptional {enabled}/*.load\nIncludeOptional {enabled}/*.conf"))
        .start();
    finishes_early(&httpd, "app.lua");
    httpd.stop();
}

/// Each directive is in the file, and right when its comment sign is taken away.
#[test]
fn what_is_commented_out() {
    let file = shipped("finish_request.conf").replace('#', "");
    let lines: Vec<_> = file.lines().map(str::trim).filter(|line| line.starts_with("FinishRequest")).collect();
    for directive in mod_finish_request::directives::MANUAL {
        let name = directive.name.to_str().unwrap();
        let count = lines.iter().filter(|line| line.split(' ').next() == Some(name)).count();
        assert_eq!(count, 1, "{name}");
    }
    let directives = lines.join("\n");
    let httpd = Httpd::builder(Mpm::Event).handler(Handler::Lua).config(&directives).start();
    finishes_early(&httpd, "app.lua");
    httpd.stop();
}

/// A server with an example's lines, after what `handler` needs besides.
fn with_example(mpm: Mpm, handler: Handler, example: &str) -> Builder {
    Httpd::builder(mpm).without_module().handler(handler).modules(&["alias"]).config(&load()).config(example)
}

#[test]
fn example_for_mod_php() {
    let httpd = with_example(Mpm::Prefork, Handler::ModPhp, &shipped("examples/mod_php.conf")).start();
    finishes_early(&httpd, "app.php");
    httpd.stop();
}

#[test]
fn example_for_mod_fcgid() {
    let example = shipped("examples/mod_fcgid.conf");
    for mpm in [Mpm::Event, Mpm::Prefork] {
        let httpd = with_example(mpm, Handler::ModFcgid, &example).start();
        finishes_early(&httpd, "app.php");
        httpd.stop();
    }
}

#[test]
fn example_for_cgi() {
    let example = shipped("examples/cgi.conf");
    assert!(example.contains("/usr/lib/cgi-bin"), "{example}");
    for mpm in [Mpm::Event, Mpm::Prefork] {
        let httpd = with_example(mpm, Handler::Cgi, &example.replace("/usr/lib/cgi-bin", "${WWW}")).start();
        finishes_early(&httpd, "cgi-bin/app.cgi");
        httpd.stop();
    }
}

#[test]
fn example_for_php_fpm() {
    /// Debian's name for the socket of whichever version it has.
    const SOCKET: &str = "/run/php/php-fpm.sock";
    let example = shipped("examples/php-fpm.conf");
    assert!(example.contains(SOCKET), "{example}");
    for mpm in Mpm::ALL {
        let httpd = with_example(mpm, Handler::PhpFpm, &example.replace(SOCKET, "${ROOT}/run/php-fpm.sock")).start();
        finishes_early(&httpd, "app.php");
        httpd.stop();
    }
}

/// As `a2enconf finish_request_php`, with the PHP files where they are here. A page that only asks for php-fpm's function finishes early, but in a
/// virtual host that is left out.
#[test]
fn every_php_application() {
    const PLACE: &str = "/usr/share/php/finish_request/";
    let folder = tempfile::tempdir().unwrap();
    let readable = |path: &Path, mode| fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    let here = format!("{}/", folder.path().display());
    fs::create_dir(folder.path().join("php.d")).unwrap();
    for path in [folder.path(), &folder.path().join("php.d")] {
        readable(path, 0o755);
    }
    for name in ["prepend.php", "finish_request.php", "cgi.php", "php.d/finish_request.ini"] {
        let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("php").join(name)).unwrap();
        fs::write(folder.path().join(name), text.replace(PLACE, &here)).unwrap();
        readable(&folder.path().join(name), 0o644);
    }
    let config = shipped("finish_request_php.conf");
    assert!(config.contains(PLACE), "{config}");
    for (handler, mpm) in [
        (Handler::ModPhp, Mpm::Prefork),
        (Handler::ModFcgid, Mpm::Event),
        (Handler::ModFcgid, Mpm::Worker),
        (Handler::ModFcgid, Mpm::Prefork),
        (Handler::PhpFpm, Mpm::Event),
    ] {
        let builder = Httpd::builder(mpm).handler(handler).modules(&["env"]).php_ini("output_buffering", "4096");
        let httpd = builder
            .config(&config.replace(PLACE, &here))
            .config(
                "<VirtualHost 127.0.0.1:${PORT}>
                  ServerName localhost
                </VirtualHost>
                <VirtualHost 127.0.0.1:${PORT}>
                  ServerName left-out.test
                  <Location \"/\">
                    FinishRequest Off
                  </Location>
                </VirtualHost>",
            )
            .start();
        // php-fpm has its own.
        if handler != Handler::PhpFpm {
            httpd.install("asks.php", "<?php echo function_exists('fastcgi_finish_request') ? 'yes' : 'no';");
            for (host, answer) in [("localhost", "yes"), ("left-out.test", "no")] {
                let connection = httpd.connect();
                connection.send(format!("GET /asks.php HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
                assert_eq!(String::from_utf8_lossy(&connection.response().body), answer, "{handler:?} {mpm:?} {host}");
            }
        }
        httpd.install(
            "application.php",
            "<?php require __DIR__ . '/background.php'; ob_start(); echo body((int) $_GET['bytes']);\n\
             if (!function_exists('fastcgi_finish_request')) { exit; }\n\
             fastcgi_finish_request(); background($_GET['id'], PHP_SAPI === 'fpm-fcgi' ? 0 : 200);",
        );
        for &protocol in mpm.protocols() {
            for bytes in [0, 200, 30_000] {
                let background = httpd.background();
                let path = format!("{}&bytes={bytes}", background.query("application.php"));
                let response = Client::connect(&httpd, protocol).get(&path, &[]).response();
                assert_eq!(response.body, body(bytes), "{handler:?} {mpm:?} {protocol:?}");
                background.wait_for_begin();
                assert!(!background.is_done(), "the client had to wait: {handler:?} {mpm:?} {protocol:?} {bytes}");
                background.open_gate();
                assert_eq!(background.wait_for_done().errors, "", "{handler:?} {mpm:?} {protocol:?}");
            }
        }
        httpd.stop();
    }
}
