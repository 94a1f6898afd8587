//! What the README tells to paste works as it stands: each way's lines of configuration and its application, on real servers.
//! Only the places of files and ports are another machine's; what the applications call `work` waits at the test's gate.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use support::{Background, Builder, Client, Handler, Httpd, Mpm, Process, Protocol, tools, wait_for};
use tempfile::TempDir;

const README: &str = include_str!("../../README.md");

/// What each application answers.
const BODY: &str = "Thank you.\n";

/// Where `make install` puts the PHP function.
const PHP: &str = "/usr/share/php/finish_request/finish_request.php";

/// The fragment in this language below this heading: there is one.
fn fragment(heading: &str, language: &str) -> String {
    let section = README.split("\n### ").find_map(|section| section.strip_prefix(&format!("{heading}\n")));
    let section = section.unwrap_or_else(|| panic!("the README has no heading {heading:?}"));
    let section = section.split("\n## ").next().unwrap();
    let fence = format!("\n```{language}\n");
    let mut found = section.split(&fence).skip(1);
    let text = found.next().unwrap_or_else(|| panic!("{heading} has no fragment in {language}"));
    assert!(found.next().is_none(), "{heading} has several fragments in {language}");
    format!("{}\n", text.split("\n```").next().unwrap())
}

/// A folder with `work`, as a command and as a PHP function.
fn workshop() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| {
        support::write_program(&folder.path().join(name), text).unwrap();
    };
    fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    write("work", "#!/bin/sh\ncd \"$DOCUMENT_ROOT\"\n. ./background.sh\nquery id ''\nbackground \"$id\" 200\n");
    write(
        "work.php",
        "<?php function work() { require $_SERVER['DOCUMENT_ROOT'] . '/background.php'; background($_GET['id']); }\n",
    );
    folder
}

/// The PATH of a server whose scripts find `work`.
fn path(workshop: &TempDir) -> String {
    format!("{}:{}", workshop.path().display(), std::env::var("PATH").unwrap())
}

/// The client has the whole answer while the work still waits; the work is done.
fn finishes(httpd: &Httpd, background: &Background, page: &str, protocol: Protocol, errors: &str) {
    let client = Client::connect(httpd, protocol);
    let exchange = client.get(&background.query(page), &[]);
    // fastcgi_finish_request() ends the request as such: its connection is kept.
    let response = if errors.is_empty() { exchange.released() } else { exchange.response() };
    assert_eq!((response.status, String::from_utf8_lossy(&response.body).as_ref()), (200, BODY), "{protocol:?}");
    background.wait_for_begin();
    assert!(!background.is_done(), "the client had to wait for the work");
    background.open_gate();
    assert_eq!(background.wait_for_done().errors, errors, "{protocol:?}");
}

fn on_all_protocols(httpd: &Httpd, mpm: Mpm, page: &str, errors: &str) {
    for &protocol in mpm.protocols() {
        finishes(httpd, &httpd.background(), page, protocol, errors);
    }
}

/// The same page under each handler of PHP, with Debian's buffering and without.
fn php(heading: &str, handler: Handler, mpms: &[Mpm], errors: &str) {
    let workshop = workshop();
    let config = fragment(heading, "apache").replace("/run/php/php-fpm.sock", "${ROOT}/run/php-fpm.sock");
    // The php-cgi of the README reads the machine's php.ini.
    let ini = if handler == Handler::ModFcgid { "FcgidInitialEnv PHPRC \"${ROOT}/php\"" } else { "" };
    for &mpm in mpms {
        for buffering in ["0", "4096"] {
            let httpd = Httpd::builder(mpm)
                .handler(handler)
                .php_ini("auto_prepend_file", &workshop.path().join("work.php").display().to_string())
                .php_ini("output_buffering", buffering)
                .config(&config)
                .config(ini)
                .start();
            httpd.install("finish_request.php", include_str!("../../php/finish_request.php"));
            let installed = httpd.root().join("www/finish_request.php").display().to_string();
            let page = fragment("The PHP page", "php");
            assert!(page.contains(PHP), "{page}");
            httpd.install("thanks.php", &page.replace(PHP, &installed));
            on_all_protocols(&httpd, mpm, "thanks.php", errors);
            httpd.stop();
        }
    }
}

#[test]
fn mod_php() {
    php("mod_php", Handler::ModPhp, &[Mpm::Prefork], "");
}

#[test]
fn mod_fcgid() {
    php("mod_fcgid", Handler::ModFcgid, &Mpm::ALL, "");
}

#[test]
fn php_fpm() {
    php("php-fpm", Handler::PhpFpm, &Mpm::ALL, "connection_status() is 1");
}

/// A script in this language, with the lines for CGI.
fn cgi(heading: &str, language: &str) {
    let workshop = workshop();
    let config = fragment("CGI", "apache").replace("/usr/lib/cgi-bin", "${WWW}");
    for mpm in Mpm::ALL {
        let httpd = Httpd::builder(mpm)
            .modules(&["alias"])
            .handler(Handler::Cgi)
            .env("PATH", &path(&workshop))
            .config(&config)
            .start();
        httpd.install("thanks", &fragment(heading, language));
        on_all_protocols(&httpd, mpm, "cgi-bin/thanks", "");
        httpd.stop();
    }
}

#[test]
fn shell() {
    cgi("CGI", "sh");
}

#[test]
fn python() {
    cgi("Python", "python");
}

#[test]
fn perl() {
    cgi("Perl", "perl");
}

#[test]
fn ruby() {
    cgi("Ruby", "ruby");
}

/// A script in this language that says late that its response ends; without the digits it answers all the same.
fn late(language: &str) {
    const HEADING: &str = "Programs that cannot say yet";
    let workshop = workshop();
    let config =
        [fragment("CGI", "apache"), fragment(HEADING, "apache")].concat().replace("/usr/lib/cgi-bin", "${WWW}");
    for mpm in Mpm::ALL {
        let httpd = Httpd::builder(mpm)
            .modules(&["alias", "env"])
            .handler(Handler::Cgi)
            .env("PATH", &path(&workshop))
            .config(&config)
            .config("ScriptAliasMatch ^/off/(.*) ${WWW}/$1\n<Location /off/>\nFinishRequest Off\n</Location>")
            .start();
        httpd.install("thanks", &fragment(HEADING, language));
        on_all_protocols(&httpd, mpm, "cgi-bin/thanks", "");
        let background = httpd.background();
        background.open_gate();
        let response = Client::connect(&httpd, Protocol::Http1).get(&background.query("off/thanks"), &[]).response();
        let expected = format!("{BODY}{}", "L".repeat(200));
        assert_eq!(String::from_utf8_lossy(&response.body), expected);
        httpd.stop();
    }
}

#[test]
fn late_in_shell() {
    late("sh");
}

#[test]
fn late_in_python() {
    late("python");
}

#[test]
fn late_in_perl() {
    late("perl");
}

#[test]
fn lua() {
    for mpm in Mpm::ALL {
        let httpd = Httpd::builder(mpm)
            .modules(&["lua"])
            .config(&format!("LuaPackagePath \"${{WWW}}/?.lua\"\n{}", fragment("Lua", "apache")))
            .start();
        httpd.install(
            "work.lua",
            "local background = require 'background'\n\
             return function(r) background.run(r, r:parseargs().id, 200) end\n",
        );
        httpd.install("thanks.lua", &fragment("Lua", "lua"));
        on_all_protocols(&httpd, mpm, "thanks.lua", "");
        httpd.stop();
    }
}

/// Builds the module with apxs, as the README says, with the work in a file of its own.
fn module(folder: &Path) -> PathBuf {
    fs::write(folder.join("mod_thanks.c"), fragment("C", "c")).unwrap();
    let work = "#include <stdlib.h>\n#include \"http_core.h\"\n#include \"apr_strings.h\"\n\
                void work(request_rec *r);\n\
                void work(request_rec *r)\n{\n\
                    const char *root = ap_document_root(r);\n\
                    if (system(apr_psprintf(r->pool, \"DOCUMENT_ROOT='%s' QUERY_STRING='%s' work\", root, r->args))) {}\n}\n";
    fs::write(folder.join("work.c"), work).unwrap();
    let mut build = Command::new(std::env::var("APXS").unwrap_or_else(|_| "apxs".to_owned()));
    build.current_dir(folder).arg("-I").arg(concat!(env!("CARGO_MANIFEST_DIR"), "/apxs"));
    build.args(["-Wc,-Wall", "-Wc,-Werror", "-c", "mod_thanks.c", "work.c"]);
    let output = tools::run(build);
    assert!(output.status.success(), "{}", output.stderr);
    folder.join(".libs/mod_thanks.so")
}

#[test]
fn c() {
    let workshop = workshop();
    let module = module(workshop.path());
    for mpm in Mpm::ALL {
        let httpd = Httpd::builder(mpm)
            .env("PATH", &path(&workshop))
            .config(&format!("LoadModule thanks_module \"{}\"\n{}", module.display(), fragment("C", "apache")))
            .start();
        on_all_protocols(&httpd, mpm, "thanks", "");
        httpd.stop();
    }
}

/// The application's own server answers one request: it hears of no query, so its work gets the id at its start.
#[test]
fn a_proxied_backend() {
    const PORT: &str = "8000";
    let workshop = workshop();
    let program = fragment("A proxied backend", "python");
    let config = fragment("A proxied backend", "apache");
    assert!(program.contains(PORT) && config.contains(PORT));
    let server = |mpm, port: &str| -> Builder {
        Httpd::builder(mpm).modules(&["proxy", "proxy_http"]).config(&config.replace(PORT, port))
    };
    for mpm in Mpm::ALL {
        for &protocol in mpm.protocols() {
            let port = support::free_port();
            let httpd = server(mpm, &port.to_string()).start();
            let background = httpd.background();
            let mut command = Command::new("python3");
            command
                .args(["-c", &program.replace(PORT, &port.to_string())])
                .env("PATH", path(&workshop))
                .env("DOCUMENT_ROOT", httpd.root().join("www"))
                .env("QUERY_STRING", format!("id={}", background.id()))
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null());
            let backend = Process::spawn(command).unwrap();
            wait_for("the backend to listen", || TcpStream::connect(("127.0.0.1", port)).ok());
            finishes(&httpd, &background, "app/thanks", protocol, "");
            drop(backend);
            httpd.stop();
        }
    }
}
