//! A scripted visit of an application on two servers, one without the module: what differs, and when the clients were let go.
//!
//! Each request carries the name of a gate (`X-Gate`). The application's configuration has a piece of work in its own way of doing work
//! behind the response, which waits at that gate: a response that is complete before it opens was let go early.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use regex_lite::Regex;
use support::{Builder, Client, DEADLINE, Handler, Httpd, Mpm, Protocol};
use tempfile::TempDir;

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

/// What a stock server is given to complete a response whose work waits at its gate. It decides a cell of the table, and nothing else.
const STOCK: Duration = Duration::from_millis(100);

/// The scan folder for both servers: the system's own, and one that is not there; for php-cgi the module's takes its place.
const SCAN: &str = ":/nonexistent";

/// An application.
pub struct Application {
    /// Its name in the table.
    pub name: &'static str,
    /// Lines of configuration, besides those that the file for a2enconf has.
    pub config: String,
    /// Settings of PHP.
    pub php_ini: Vec<(&'static str, String)>,
    /// Makes its state in a folder, which is the server's user's afterwards; `gates` is where `background.php` is.
    pub install: Box<dyn Fn(&Place)>,
    /// The visit, the same on each server.
    pub visit: fn(&mut Visitor<'_>),
    /// What differs by chance: patterns, and what stands for them.
    pub random: &'static [(&'static str, &'static str)],
}

/// Where an application is installed.
pub struct Place {
    /// For the state. `${ROOT}/gates/state` in the configuration.
    pub state: PathBuf,
    /// `background.php`, for the work behind the gate.
    pub background: PathBuf,
}

impl Place {
    /// Writes a file of the state, in which `@STATE@` and `@BACKGROUND@` are what they are here.
    pub fn write(&self, name: &str, text: &str) {
        let text = text
            .replace("@STATE@", &self.state.display().to_string())
            .replace("@BACKGROUND@", &self.background.display().to_string());
        let file = self.state.join(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(file, text).unwrap();
    }
}

/// Runs a program that has to succeed.
pub fn run(command: &mut Command) {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = [output.stdout, output.stderr].concat();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&said));
}

/// What one request gave.
#[derive(PartialEq, Eq)]
struct Seen {
    what: String,
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
}

/// Somebody who visits the application on one server.
pub struct Visitor<'a> {
    httpd: &'a Httpd,
    protocol: Protocol,
    gzip: bool,
    patience: Duration,
    random: Vec<(Regex, &'static str)>,
    cookies: BTreeMap<String, String>,
    seen: Vec<Seen>,
    compressed: usize,
    /// For each request with work, whether its client was let go before that ended.
    early: Vec<(String, bool)>,
}

/// What is compared, besides status and body. A cookie's value is random.
const HEADERS: [&str; 9] = [
    "Location",
    "Content-Type",
    "Cache-Control",
    "Expires",
    "Vary",
    "Link",
    "Content-Disposition",
    "Content-Language",
    "X-Powered-By",
];

impl Visitor<'_> {
    /// A page, with work behind it. Gives its text.
    pub fn get(&mut self, path: &str) -> String {
        self.ask("GET", path, None, true)
    }

    /// A file, or a page without work.
    pub fn asset(&mut self, path: &str) -> String {
        self.ask("GET", path, None, false)
    }

    /// A form that is sent, with work behind it.
    pub fn post(&mut self, path: &str, fields: &[(&str, &str)]) -> String {
        self.send(path, fields, true)
    }

    /// A form without work behind it.
    pub fn form(&mut self, path: &str, fields: &[(&str, &str)]) -> String {
        self.send(path, fields, false)
    }

    fn send(&mut self, path: &str, fields: &[(&str, &str)], works: bool) -> String {
        let encode =
            |text: &str| -> String {
                text.bytes()
                    .map(|byte| {
                        if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") }
                    })
                    .collect()
            };
        let pairs: Vec<String> =
            fields.iter().map(|(name, value)| format!("{}={}", encode(name), encode(value))).collect();
        self.ask("POST", path, Some(pairs.join("&").as_bytes()), works)
    }

    /// Where the state is, to see that the work was done.
    pub fn state(&self) -> PathBuf {
        self.httpd.root().join("gates/state")
    }

    fn ask(&mut self, method: &str, path: &str, body: Option<&[u8]>, works: bool) -> String {
        let what = format!("{method} {path}");
        let gate = self.httpd.background();
        let cookies: Vec<String> = self.cookies.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let cookies = cookies.join("; ");
        let mut headers = vec![("User-Agent", "Visitor")];
        if works {
            headers.push(("X-Gate", gate.id()));
        }
        if self.gzip {
            headers.push(("Accept-Encoding", "gzip"));
        }
        if !cookies.is_empty() {
            headers.push(("Cookie", &cookies));
        }
        if body.is_some() {
            headers.push(("Content-Type", "application/x-www-form-urlencoded"));
        }
        let client = Client::connect(self.httpd, self.protocol);
        let exchange = client.request(method, path, &headers, body);
        let mut response = None;
        let mut is_complete = || {
            if response.is_none() {
                response = exchange.response_now();
            }
            response.is_some()
        };
        if works {
            // An answer without work is an error page, which is to be seen.
            poll(DEADLINE, || gate.has_begun() || is_complete());
            let early = poll(self.patience, &mut is_complete);
            assert!(!gate.is_done(), "{what}: the gate was shut");
            self.early.push((what.clone(), early));
        }
        gate.open_gate();
        poll(DEADLINE, is_complete);
        let response = match response {
            Some(Ok(response)) => response,
            trouble => panic!("{what}: {trouble:?}"),
        };
        let text = String::from_utf8_lossy(&response.decoded()).into_owned();
        if works {
            poll(DEADLINE, || gate.has_begun());
            assert!(gate.has_begun(), "{what}: no work; {}: {text:.1000}", response.status);
            assert_eq!(gate.wait_for_done().errors, "", "{what}");
        }
        for (_, value) in response.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("Set-Cookie")) {
            let (name, value) = value.split(';').next().unwrap().split_once('=').unwrap();
            self.cookies.insert(name.to_owned(), value.to_owned());
        }
        self.compressed += usize::from(response.header("Content-Encoding").is_some());
        let mut kept: Vec<_> =
            HEADERS.iter().filter_map(|name| Some(((*name).to_owned(), self.plain(response.header(name)?)))).collect();
        let cookies = response.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case("Set-Cookie"));
        kept.extend(cookies.map(|(_, value)| ("Set-Cookie".to_owned(), value.split('=').next().unwrap().to_owned())));
        let body = self.plain(&text);
        self.seen.push(Seen { what, status: response.status, headers: kept, body });
        text
    }

    /// A text without what differs by chance.
    fn plain(&self, text: &str) -> String {
        self.random
            .iter()
            .fold(text.to_owned(), |text, (pattern, instead)| pattern.replace_all(&text, *instead).into_owned())
    }
}

/// Waits until `done`, at most so long. Gives whether it is.
fn poll(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        let is_done = done();
        if is_done || Instant::now() > end {
            return is_done;
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Where two texts begin to differ.
fn difference(one: &str, other: &str) -> String {
    let at = one.bytes().zip(other.bytes()).take_while(|(a, b)| a == b).count();
    let around = |text: &str| {
        let bytes = text.as_bytes();
        String::from_utf8_lossy(&bytes[at.saturating_sub(60).min(bytes.len())..(at + 100).min(bytes.len())])
            .into_owned()
    };
    format!("at byte {at} of {} and {}:\n  {:?}\n  {:?}", one.len(), other.len(), around(one), around(other))
}

/// The module's PHP files in a folder that servers may read, and the file for a2enconf that names it.
fn php() -> (TempDir, String) {
    let folder = tempfile::tempdir().unwrap();
    let here = |name: &str| {
        let text = fs::read_to_string(Path::new(ROOT).join(name)).unwrap();
        text.replace("/usr/share/php/finish_request", &folder.path().display().to_string())
    };
    fs::create_dir(folder.path().join("php.d")).unwrap();
    for name in ["prepend.php", "finish_request.php", "cgi.php", "php.d/finish_request.ini"] {
        fs::write(folder.path().join(name), here(&format!("php/{name}"))).unwrap();
    }
    open(folder.path());
    let config = here("httpd-conf/finish_request_php.conf");
    (folder, config)
}

/// Lets everybody read a folder.
pub fn open(folder: &Path) {
    fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    run(Command::new("chmod").arg("-R").arg("a+rX").arg(folder));
}

thread_local! {
    static ROWS: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
}

/// Visits the application under each handler, protocol and coding, tells the rows of the table, and fails where the module makes a difference
/// but that of the time.
pub fn visit(application: &Application) {
    let (_folder, shipped) = php();
    let mut troubles = Vec::new();
    for (handler, mpm, protocols) in [
        (Handler::ModPhp, Mpm::Prefork, &[Protocol::Http1][..]),
        (Handler::ModFcgid, Mpm::Event, &[Protocol::Http1, Protocol::Http2][..]),
    ] {
        let builder = || -> Builder {
            let builder = Httpd::builder(mpm)
                .handler(handler)
                .modules(&["env", "setenvif", "filter", "deflate", "alias", "dir", "mime", "rewrite"])
                .env("PHP_INI_SCAN_DIR", SCAN)
                // As in Debian; what an application says of itself is its own.
                .php_ini("output_buffering", "4096")
                .php_ini("error_reporting", "E_ALL & ~E_DEPRECATED")
                .php_ini("log_errors", "0")
                .config("TypesConfig /etc/mime.types\nDirectoryIndex index.php index.html")
                .config("AddOutputFilterByType DEFLATE text/html text/plain text/css text/xml application/json application/javascript text/javascript");
            let builder = match handler {
                Handler::ModFcgid => builder.config(&format!("FcgidInitialEnv PHP_INI_SCAN_DIR \"{SCAN}\"")),
                _ => builder,
            };
            let builder =
                application.php_ini.iter().fold(builder, |builder, (name, value)| builder.php_ini(name, value));
            builder.config(&shipped).config(&application.config)
        };
        let (stock, module) = (builder().without_module().start(), builder().start());
        for httpd in [&stock, &module] {
            let gates = httpd.root().join("gates");
            let place = Place { state: gates.join("state"), background: httpd.root().join("www/background.php") };
            fs::create_dir(&place.state).unwrap();
            (application.install)(&place);
            run(Command::new("chown").arg("-R").arg(format!("--reference={}", gates.display())).arg(&place.state));
        }
        for &protocol in protocols {
            for gzip in [false, true] {
                let visitor = |httpd, patience| {
                    let pattern = |(pattern, instead): &(&str, &'static str)| (Regex::new(pattern).unwrap(), *instead);
                    let mut visitor = Visitor {
                        httpd,
                        protocol,
                        gzip,
                        patience,
                        random: application.random.iter().map(pattern).collect(),
                        cookies: BTreeMap::new(),
                        seen: Vec::new(),
                        compressed: 0,
                        early: Vec::new(),
                    };
                    (application.visit)(&mut visitor);
                    visitor
                };
                let (without, with) = (visitor(&stock, STOCK), visitor(&module, DEADLINE));
                let over = if protocol == Protocol::Http2 { "HTTP/2" } else { "HTTP/1.1" };
                let handler = if handler == Handler::ModPhp { "mod_php" } else { "mod_fcgid" };
                let case = format!("{}, {handler}, {over}, {}", application.name, if gzip { "gzip" } else { "plain" });
                let mut same = 0;
                for (one, other) in without.seen.iter().zip(&with.seen) {
                    if one == other {
                        same += 1;
                    } else if (one.status, &one.headers) == (other.status, &other.headers) {
                        troubles.push(format!("{case}: {}: {}", one.what, difference(&one.body, &other.body)));
                    } else {
                        let head = |seen: &Seen| format!("{} {:?}", seen.status, seen.headers);
                        troubles.push(format!("{case}: {}:\n  {}\n  {}", one.what, head(one), head(other)));
                    }
                }
                if without.seen.len() != with.seen.len() {
                    troubles.push(format!("{case}: {} requests and {}", without.seen.len(), with.seen.len()));
                }
                if without.compressed != with.compressed {
                    troubles.push(format!("{case}: {} compressed and {}", without.compressed, with.compressed));
                }
                let early = |visitor: &Visitor<'_>| visitor.early.iter().filter(|(_, early)| *early).count();
                for (what, _) in with.early.iter().filter(|(_, early)| !early) {
                    troubles.push(format!("{case}: {what}: the client waited for the work"));
                }
                let row = format!(
                    "| {} | {handler} | {over} | {} | {same} of {} | {} of {} | {} of {} |",
                    application.name,
                    if gzip { "gzip" } else { "plain" },
                    without.seen.len(),
                    early(&with),
                    with.early.len(),
                    early(&without),
                    without.early.len()
                );
                println!("{row}");
                ROWS.with_borrow_mut(|rows| rows.push(row));
            }
        }
        module.stop();
        stock.stop();
    }
    let rows = ROWS.take();
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("apps");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(application.name), rows.join("\n") + "\n").unwrap();
    assert!(troubles.is_empty(), "{}", troubles.join("\n"));
}

/// Whether the machine has what the application needs; says so where not.
pub fn has(what: &str, files: &[&str]) -> bool {
    let missing = files.iter().find(|file| !Path::new(file).exists());
    if let Some(file) = missing {
        println!("not tried: {what}, as there is no {file}");
    }
    missing.is_none()
}
