//! A page in a real browser has its answers at once and sees live when its jobs end: six at once, by fetch and by jQuery, over each protocol,
//! past mod_deflate and through it. It is the demo's page, which tells what it has seen.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use support::{Background, Client, Handler, Httpd, Mpm, Process, Protocol, wait_for};

/// Debian's jQuery.
const JQUERY: &str = "/usr/share/javascript/jquery/jquery.min.js";

/// Where a browser is looked for.
const BROWSERS: [&str; 3] = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"];

const JOBS: usize = 6;

/// A browser without a window, which shows one page until this is dropped.
fn browser(program: &str, folder: &Path, protocol: Protocol, url: &str) -> Process {
    let mut command = Command::new(program);
    command.args([
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--ignore-certificate-errors",
        "--remote-debugging-port=0",
    ]);
    if protocol != Protocol::Http2 {
        command.arg("--disable-http2");
    }
    let profile = format!("--user-data-dir={}", folder.join("profile").display());
    command.arg(profile).arg(url).env("HOME", folder);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    Process::spawn(command).expect("the browser can be run")
}

/// What the page has told, as soon as it does: for each job its lane, id, protocol, status, length and coding, and whether it has ended.
fn told(httpd: &Httpd, name: &str, what: &str) -> Vec<String> {
    let file = httpd.root().join(format!("gates/{name}-{what}.report"));
    let text = wait_for(&format!("the page to tell of {what}"), || fs::read_to_string(&file).ok());
    text.lines().map(str::to_owned).collect()
}

fn six_at_once(program: &str, httpd: &Httpd, protocol: Protocol, by: &str, folder: &str) {
    let case = format!("{protocol:?} by {by} {folder}");
    let jobs: Vec<Background> = (0..JOBS).map(|_| httpd.background()).collect();
    let ids: Vec<&str> = jobs.iter().map(Background::id).collect();
    let page =
        format!("index.html?gate&ids={}&report={}&by={by}&folder={folder}&to={}", ids.join(","), ids[0], httpd.url(""));
    let url = if protocol == Protocol::Http1 { httpd.url(&page) } else { httpd.tls_url(&page) };
    let home = tempfile::tempdir().unwrap();
    let browser = browser(program, home.path(), protocol, &url);

    let over = if protocol == Protocol::Http2 { "h2" } else { "http/1.1" };
    let coding = if folder.is_empty() { "plain" } else { "gzip" };
    let expected = |ended: &[&str]| {
        let mut lines: Vec<_> = ids
            .iter()
            .map(|id| {
                let length = format!("Job {id} has been taken.\n").len() + 3600;
                let state = if ended.contains(id) { "ended" } else { "open" };
                format!("with {id} {over} 200 {length} {coding} {state}")
            })
            .collect();
        lines.sort();
        lines
    };
    // All gates are shut: no answer waited for a job.
    assert_eq!(told(httpd, ids[0], "answered"), expected(&[]), "{case}");
    assert!(!jobs.iter().any(Background::is_done), "{case}");
    // The page sees live that one has ended, and the others not.
    jobs[2].open_gate();
    assert_eq!(told(httpd, ids[0], "first"), expected(&[ids[2]]), "{case}");
    jobs.iter().for_each(Background::open_gate);
    assert_eq!(told(httpd, ids[0], "ended"), expected(&ids), "{case}");
    for job in &jobs {
        assert_eq!(job.wait_for_done().errors, "", "{case}");
    }
    drop(browser);
}

fn server(handler: Handler, mpm: Mpm) -> Httpd {
    let httpd = Httpd::builder(mpm)
        .handler(handler)
        .modules(&["alias", "filter", "deflate"])
        .config(
            "FinishRequest On
             AddOutputFilterByType DEFLATE text/html application/json
             Alias /gzip \"${WWW}\"
             <Location /gzip/>
                 FinishRequestBypass none
             </Location>",
        )
        .start();
    for (name, text) in [
        // There is one lane only.
        (
            "index.html",
            include_str!("../demo/apps/index.html").replace("@WITHOUT@", "").replace("@WITHOUT_TLS@", "").as_str(),
        ),
        ("job.php", include_str!("../demo/apps/job.php")),
        ("jobs.php", include_str!("../demo/apps/jobs.php")),
        ("report.php", include_str!("../demo/apps/report.php")),
        ("finish_request.php", include_str!("../../php/finish_request.php")),
    ] {
        httpd.install(name, text);
    }
    httpd
}

fn has_its_answers_at_once(handler: Handler, mpm: Mpm) {
    let Some(program) = BROWSERS.into_iter().find(|path| Path::new(path).is_file()) else {
        println!("not tried: a page in a browser, as there is no chromium");
        return;
    };
    let httpd = server(handler, mpm);
    let jquery = fs::read_to_string(JQUERY);
    match &jquery {
        Ok(text) => httpd.install("jquery.js", text),
        Err(_) => println!("not tried: a page with jQuery, as there is no {JQUERY}"),
    }
    for &protocol in mpm.protocols() {
        for by in ["fetch", "jquery"] {
            for folder in ["", "gzip/"] {
                if by == "fetch" || jquery.is_ok() {
                    six_at_once(program, &httpd, protocol, by, folder);
                }
            }
        }
    }
    httpd.stop();
}

/// What the page asks for, without a browser.
#[test]
fn its_answers_by_themselves() {
    let httpd = server(Handler::ModFcgid, Mpm::Event);
    for &protocol in Mpm::Event.protocols() {
        let job = httpd.background();
        let response = Client::connect(&httpd, protocol).get(&(job.query("job.php") + "&gate"), &[]).released();
        assert!(response.body.starts_with(format!("Job {} has been taken.\n", job.id()).as_bytes()), "{response:?}");
        let ended = || {
            let path = format!("/jobs.php?ids=none,{}", job.id());
            String::from_utf8(Client::connect(&httpd, protocol).get(&path, &[]).response().body).unwrap()
        };
        assert_eq!(ended(), "[]");
        job.open_gate();
        assert_eq!(job.wait_for_done().errors, "");
        assert_eq!(ended(), format!("[\"{}\"]", job.id()));
    }
    httpd.stop();
}

#[test]
#[ignore = "make apps"]
fn mod_fcgid_on_event() {
    has_its_answers_at_once(Handler::ModFcgid, Mpm::Event);
}

#[test]
#[ignore = "make apps"]
fn mod_php_on_prefork() {
    has_its_answers_at_once(Handler::ModPhp, Mpm::Prefork);
}
