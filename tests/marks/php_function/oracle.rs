//! Scripts that call php-fpm's function, or never do: what the client gets, and what the script sees, is the same under php-fpm and under
//! httpd's other handlers of PHP, with the prepended file. Where it is not, the difference stands in [`differs`], and in
//! docs/applications.md with its reason.

use std::collections::BTreeMap;
use std::fs;
use std::thread;

use support::{Builder, Client, Handler, Httpd, Mpm, Protocol, wait_for};

use super::installed;
use super::scripts::{FRAME, SCRIPTS, Script};

/// A way of running PHP that is compared with php-fpm.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Way {
    ModPhp,
    ModFcgid,
    /// php-cgi by mod_actions, one process for each request.
    Cgi,
}

impl Way {
    /// Another PHP than the system's need not have mod_php.
    fn is_there(self) -> bool {
        self != Way::ModPhp || Handler::ModPhp.missing(Mpm::Prefork).is_none()
    }
}

/// Settings of php.ini.
type Ini<'a> = &'a [(&'a str, &'a str)];

/// What a client asks: the method, and whether it takes gzip.
const ASKED: [(&str, bool); 3] = [("GET", false), ("GET", true), ("HEAD", true)];

/// What was seen of one request.
#[derive(PartialEq, Eq, Clone)]
struct Seen {
    status: u16,
    headers: BTreeMap<String, String>,
    body: Vec<u8>,
    /// What the script has said of the function, as JSON.
    report: String,
}

impl Seen {
    /// What the client has got.
    fn report_free(&self) -> Seen {
        Seen { report: String::new(), ..self.clone() }
    }
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const SHOWN: usize = 60;
        let Seen { status, headers, body, report } = self;
        let (begin, end) = (&body[..body.len().min(SHOWN)], &body[body.len().saturating_sub(SHOWN)..]);
        let (begin, end) = (begin.escape_ascii(), end.escape_ascii());
        write!(f, "{status} {headers:?} {} bytes \"{begin}\"…\"{end}\" {report}", body.len())
    }
}

fn server(builder: Builder, ini: Ini<'_>) -> Httpd {
    let builder = builder.php_ini("auto_prepend_file", &installed().join("prepend.php").display().to_string());
    let builder = ini.iter().fold(builder, |builder, (name, value)| builder.php_ini(name, value));
    let httpd = builder.config("FinishRequest On").start();
    // One that `ini_set()` says to scripts with other settings, under each handler.
    httpd.allow_log("Cannot use both zlib.output_compression and output_handler together");
    for script in SCRIPTS {
        httpd.install(&format!("{}.php", script.name), &format!("{FRAME}{}\n", script.text));
    }
    httpd
}

fn start(way: Way, ini: Ini<'_>) -> Httpd {
    match way {
        Way::ModPhp => server(Httpd::builder(Mpm::Prefork).handler(Handler::ModPhp), ini),
        Way::ModFcgid => {
            let builder = Httpd::builder(Mpm::Event).handler(Handler::ModFcgid).modules(&["env"]);
            server(builder.config("SetEnv finish-request late"), ini)
        }
        Way::Cgi => {
            let config = "<FilesMatch \"\\.php$\">\nSetHandler php-script\nSetEnv finish-request late\n</FilesMatch>\n\
                          Action php-script /php.cgi";
            let builder = Httpd::builder(Mpm::Event).handler(Handler::Cgi).modules(&["env", "actions"]);
            let httpd = server(builder.config(config), ini);
            let program = support::php_cgi();
            let wrapper = "#!/bin/sh\nPHP_INI_SCAN_DIR= exec PROGRAM -c \"$DOCUMENT_ROOT/../php\"\n";
            httpd.install("php.cgi", &wrapper.replace("PROGRAM", &program.display().to_string()));
            httpd
        }
    }
}

fn observe(httpd: &Httpd, script: &Script, method: &str, gzip: bool) -> Seen {
    let background = httpd.background();
    let client = Client::connect(httpd, Protocol::Http1);
    let accept: &[(&str, &str)] = if gzip { &[("Accept-Encoding", "gzip")] } else { &[] };
    let exchange = client.request(method, &background.query(&format!("{}.php", script.name)), accept, None);
    let file = |kind: &str| httpd.root().join("gates").join(format!("{}.{kind}", background.id()));
    let report = wait_for(&format!("a word of {}", script.name), || {
        let ended = file("ended").exists() && !script.text.contains("finish(false)") || !script.reports;
        fs::read_to_string(file("report")).ok().or(ended.then(String::new))
    });
    let finished = report.contains("\"result\":true");
    if !finished {
        background.open_gate();
    }
    let response = exchange.response();
    if !report.is_empty() && !script.text.contains("finish(false)") {
        assert!(!finished || !background.is_done(), "{}: the client waited for the work", script.name);
        background.open_gate();
        assert_eq!(background.wait_for_done().errors, "", "{}", script.name);
    }
    const HTTPD: [&str; 7] =
        ["date", "server", "upgrade", "connection", "keep-alive", "transfer-encoding", "content-length"];
    // mod_proxy_fcgi makes one of several headers of a name.
    let mut headers: BTreeMap<String, String> = BTreeMap::new();
    for (name, value) in &response.headers {
        let name = name.to_ascii_lowercase();
        if !HTTPD.contains(&name.as_str()) {
            let value = value.replace(background.id(), "ID");
            headers.entry(name).and_modify(|values| *values += &format!(", {value}")).or_insert(value);
        }
    }
    let body = match method {
        "HEAD" => Vec::new(),
        _ => response.try_decoded().unwrap_or_else(|problem| problem.into_bytes()),
    };
    let report = report.replace(background.id(), "ID");
    Seen { status: response.status, headers, body, report }
}

/// Scripts whose buffers PHP code cannot end, so that php-cgi's function gives `false`, with some of the settings.
const REFUSED: [&str; 11] = [
    "no-flags",
    "no-flags-empty",
    "no-flags-chunks",
    "no-flags-outside",
    "no-flags-inside",
    "only-flushable",
    "only-cleanable",
    "gz-flushed",
    "gz-chunks",
    "zlib-mended",
    "callback-flushes",
];

/// True if this difference is one of those that the manual tells.
fn is_known(way: Way, script: &Script, ini: Ini<'_>, seen: &Seen, oracle: &Seen) -> bool {
    let gz_handler = ini.iter().any(|(name, _)| *name == "output_handler");
    let refused = seen.report.contains("\"result\":false");
    if way != Way::ModPhp
        && refused
        && (REFUSED.contains(&script.name) || gz_handler && script.text.contains("ob_flush()"))
    {
        // Of what HEAD asks for, PHP before 8.1 drops the output at the script's end, and what compression would have said of it.
        let dropped =
            support::php_cgi_version() < (8, 1) && (seen.status, seen.body.is_empty()) == (oracle.status, true);
        return seen.report_free() == oracle.report_free() || dropped;
    }
    // Whether flush() sends the header before the compression that would be in it has begun depends on how PHP is run: under mod_php it does, by
    // FastCGI from PHP 8.4 on, by CGI never.
    if way != Way::ModFcgid && script.name == "like-symfony-streamed" {
        return (seen.status, &seen.body) == (oracle.status, &oracle.body);
    }
    // PHP refuses to start ob_gzhandler beside its own compression; beside the prepended file's it starts it.
    let compressed = ini.iter().any(|(name, _)| *name == "zlib.output_compression");
    if way != Way::ModPhp && compressed && ["gz-below", "gz-thrown-away"].contains(&script.name) {
        return seen.status == oracle.status && seen.report.contains("\"result\":true");
    }
    // Where a callback has thrown, php-fpm calls none of those below it.
    if way != Way::ModPhp && script.name == "callback-throws-below" {
        return seen.body.eq_ignore_ascii_case(&oracle.body);
    }
    // php-fpm has ended the script, at its first output after the response.
    oracle.report.is_empty() && seen.report_free() == *oracle
}

fn compare(ways: &[Way], ini: Ini<'_>) {
    let oracle = server(Httpd::builder(Mpm::Event).handler(Handler::PhpFpm), ini);
    let others: Vec<_> = ways.iter().filter(|way| way.is_there()).map(|way| (*way, start(*way, ini))).collect();
    let problems: Vec<String> = thread::scope(|scope| {
        let threads: Vec<_> = SCRIPTS
            .chunks(SCRIPTS.len().div_ceil(4))
            .map(|scripts| {
                let (oracle, others) = (&oracle, &others);
                scope.spawn(move || judge(oracle, others, scripts, ini))
            })
            .collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert!(problems.is_empty(), "with {ini:?}:\n{}", problems.join("\n"));
    others.into_iter().for_each(|(_, httpd)| httpd.stop());
    oracle.stop();
}

fn judge(oracle: &Httpd, others: &[(Way, Httpd)], scripts: &[Script], ini: Ini<'_>) -> Vec<String> {
    let mut problems = Vec::new();
    for script in scripts {
        for (method, gzip) in ASKED {
            let right = observe(oracle, script, method, gzip);
            for (way, httpd) in others {
                let seen = observe(httpd, script, method, gzip);
                if seen != right && !is_known(*way, script, ini, &seen, &right) {
                    let name = script.name;
                    if let Some(at) = seen.body.iter().zip(&right.body).position(|(a, b)| a != b) {
                        problems.push(format!(
                            "from byte {at}: \"{}\"",
                            seen.body[at..(at + 200).min(seen.body.len())].escape_ascii()
                        ));
                    }
                    problems.push(format!("{name}, {method}, gzip {gzip}, {way:?}: {seen:?}\n    php-fpm: {right:?}"));
                }
            }
        }
    }
    problems
}

const WAYS: &[Way] = &[Way::ModPhp, Way::ModFcgid, Way::Cgi];

#[test]
fn without_buffering() {
    compare(WAYS, &[("output_buffering", "0")]);
}

#[test]
fn with_debian_s_buffering() {
    compare(WAYS, &[("output_buffering", "4096")]);
}

#[test]
fn with_unlimited_buffering() {
    compare(WAYS, &[("output_buffering", "On")]);
}

#[test]
fn with_compression() {
    compare(WAYS, &[("output_buffering", "0"), ("zlib.output_compression", "On")]);
}

#[test]
fn with_compression_and_debian_s_buffering() {
    compare(WAYS, &[("output_buffering", "4096"), ("zlib.output_compression", "4096")]);
}

#[test]
fn with_implicit_flushes() {
    compare(WAYS, &[("output_buffering", "0"), ("implicit_flush", "On")]);
}

#[test]
fn with_a_compressing_handler() {
    compare(WAYS, &[("output_handler", "ob_gzhandler")]);
}
