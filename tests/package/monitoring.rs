//! What `monitoring/` has for the usual tools reads a real server's page, and is of the form that each tool takes.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use support::tools::{self, run};
use support::{Background, Client, Handler, Httpd, Mpm, Protocol};

use crate::administrator::status::{wait_for_running, with_status};
use crate::judge::ran_to_its_end;

fn shipped(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("monitoring").join(name)
}

/// A server that may have two requests in background work.
fn server() -> Httpd {
    with_status(Httpd::builder(Mpm::Event).handler(Handler::Lua)).config("FinishRequestMax 2").start()
}

fn url(httpd: &Httpd) -> String {
    format!("http://{}/server-status?auto", httpd.address())
}

fn finished(httpd: &Httpd) -> Background {
    let background = httpd.background();
    Client::connect(httpd, Protocol::Http1).get(&background.query("app.lua"), &[]).released();
    background.wait_for_begin();
    background
}

/// What the program prints, and how it ends.
fn output(mut command: Command) -> (String, Option<i32>) {
    command.env("LC_ALL", "C");
    let tools::Output { stdout, stderr, status, .. } = run(command);
    assert_eq!(stderr, "");
    (String::from_utf8(stdout).unwrap(), status.code())
}

/// The samples of Prometheus' text format: name with labels, and value. Every line is one, or says the type of those that follow.
fn samples(text: &str) -> Vec<(String, f64)> {
    let mut family = String::new();
    let mut samples = Vec::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert!(kind == "gauge" || kind == "counter" && name.ends_with("_total"), "{line}");
            family = name.to_owned();
        } else if !line.starts_with("# HELP ") {
            let (name, value) = line.rsplit_once(' ').unwrap();
            assert_eq!(name.split('{').next().unwrap(), family, "{line}");
            samples.push((name.to_owned(), value.parse().unwrap_or_else(|_| panic!("{line}"))));
        }
    }
    samples
}

fn metrics(url: &str) -> Vec<(String, f64)> {
    let mut command = Command::new(shipped("finish-request-metrics"));
    command.arg(url);
    let (text, status) = output(command);
    assert_eq!(status, Some(0));
    samples(&text)
}

#[test]
fn prometheus() {
    let httpd = server();
    let background = finished(&httpd);
    wait_for_running(&httpd, 1);
    let found = metrics(&url(&httpd));
    let value =
        |name: &str| found.iter().find(|(each, _)| each == name).unwrap_or_else(|| panic!("{name}: {found:?}")).1;
    assert_eq!((value("finish_request_up"), value("finish_request_running")), (1.0, 1.0));
    assert_eq!((value("finish_request_max"), value("finish_request_finished_total")), (2.0, 1.0));
    assert_eq!(value("finish_request_host_running{host=\"localhost\"}"), 1.0);
    // Each number of the server's is there for the host, too.
    for (name, number) in found.iter().filter(|(name, _)| !name.contains('{') && name != "finish_request_up") {
        let of_host = name.replace("finish_request_", "finish_request_host_") + "{host=\"localhost\"}";
        assert_eq!(value(&of_host), *number, "{of_host}");
    }
    assert_eq!(value(concat!("finish_request_info{version=\"", env!("CARGO_PKG_VERSION"), "\"}")), 1.0);

    // What the rules and the panels ask for is there.
    let names: BTreeSet<_> = found.iter().map(|(name, _)| name.split('{').next().unwrap()).collect();
    for file in ["alerts.yml", "grafana.json"] {
        let text = fs::read_to_string(shipped(file)).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let asked: BTreeSet<_> = words.filter(|word| word.starts_with("finish_request_")).collect();
        assert!(asked.len() > 4 && asked.is_subset(&names), "{file}: {asked:?} {names:?}");
    }
    ran_to_its_end(&background);
    httpd.stop();
    assert_eq!(metrics("http://127.0.0.1:1/"), [("finish_request_up".to_owned(), 0.0)]);
}

#[test]
fn nagios() {
    let httpd = server();
    let check = |url: &str| {
        let mut command = Command::new(shipped("check_finish_request"));
        command.args(["-u", url, "-w", "50", "-c", "100"]);
        output(command)
    };
    let (text, status) = check(&url(&httpd));
    assert_eq!((status, text.lines().count()), (Some(0), 1), "{text}");
    assert!(
        text.starts_with("FINISH_REQUEST OK: 0 of at most 2 requests in background work|running=0;1;2;0;2 "),
        "{text}"
    );
    let mut works = vec![finished(&httpd)];
    wait_for_running(&httpd, 1);
    let (text, status) = check(&url(&httpd));
    assert!(status == Some(1) && text.starts_with("FINISH_REQUEST WARNING: 1 of"), "{text}");
    works.push(finished(&httpd));
    wait_for_running(&httpd, 2);
    let (text, status) = check(&url(&httpd));
    assert!(status == Some(2) && text.starts_with("FINISH_REQUEST CRITICAL: 2 of"), "{text}");
    assert!(text.ends_with(" finished=2c over_limit=0c timed_out=0c kept=0c\n"), "{text}");
    works.iter().for_each(|work| _ = ran_to_its_end(work));
    let (text, status) = check(&format!("http://{}/background.sh", httpd.address()));
    assert!(status == Some(3) && text.starts_with("FINISH_REQUEST UNKNOWN"), "{text}");
    httpd.stop();
    let (text, status) = check("http://127.0.0.1:1/");
    assert!(status == Some(2) && text.starts_with("FINISH_REQUEST CRITICAL"), "{text}");
}

/// Names that no label can have, names that were cut, counts beyond 32 bits, limits as other checks take them.
#[test]
fn unusual_numbers() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("page");
    let mut page = String::from(
        "FinishRequestVersion: 0\nFinishRequestFinished: 5000000000\nFinishRequestRunning: 5\nFinishRequestMax: 100\n\
         FinishRequestKept: 1\nFinishRequestOverLimit: 2\nFinishRequestTimedOut: 3\n",
    );
    for (host, name) in ["b\\xc3\\xbccher.test", "a...", "a..."].into_iter().enumerate() {
        page += &format!("FinishRequestHost[{host}]Name: {name}\n");
        for number in ["Finished", "Running", "Max", "Kept", "OverLimit", "TimedOut"] {
            page += &format!("FinishRequestHost[{host}]{number}: {host}\n");
        }
    }
    fs::write(&file, &page).unwrap();
    let url = format!("file://{}", file.display());
    let found = metrics(&url);
    let names: BTreeSet<_> = found.iter().map(|(name, _)| name).collect();
    assert_eq!(names.len(), found.len(), "each once: {found:?}");
    for (name, value) in [
        ("finish_request_finished_total", 5e9),
        ("finish_request_host_kept_connections_total{host=\"b\\\\xc3\\\\xbccher.test\"}", 0.0),
        ("finish_request_host_running{host=\"a...\"}", 1.0),
    ] {
        assert!(found.contains(&(name.to_owned(), value)), "{name}: {found:?}");
    }

    let check = |running: u32, warn: &str, critical: &str| {
        fs::write(&file, page.replace("Running: 5\n", &format!("Running: {running}\n"))).unwrap();
        let mut command = Command::new(shipped("check_finish_request"));
        command.args(["-u", &url, "-w", warn, "-c", critical]);
        output(command)
    };
    let (text, status) = check(5, "80%", "100%");
    assert!(status == Some(0) && text.contains(" finished=5000000000c "), "{text}");
    assert_eq!(check(80, "80%", "100%").1, Some(1));
    assert_eq!(check(100, "80%", "100%").1, Some(2));
    for wrong in ["1O0", "", "%", "8,5", "1.2.3"] {
        let (text, status) = check(100, "80", wrong);
        assert!(
            status == Some(3) && text.starts_with("FINISH_REQUEST UNKNOWN: check_finish_request [-u URL]"),
            "{text}"
        );
    }
}

#[test]
fn munin() {
    let httpd = server();
    let plugin = |url: &str, argument: &[&str]| {
        let mut command = Command::new(shipped("finish_request.munin"));
        command.args(argument).env("url", url);
        output(command).0
    };
    let url = url(&httpd);
    assert_eq!(plugin(&url, &["autoconf"]), "yes\n");
    assert!(plugin("http://127.0.0.1:1/", &["autoconf"]).starts_with("no ("));
    let config = plugin(&url, &["config"]);
    let labels: Vec<_> = config.lines().filter_map(|line| line.split_once(".label ").map(|(name, _)| name)).collect();
    let values = plugin(&url, &[]);
    assert_eq!(values, "running.value 0\nmax.value 2\nfinished.value 0\nover_limit.value 0\ntimed_out.value 0\n");
    let fields: Vec<_> = values.lines().map(|line| line.split_once(".value ").unwrap().0).collect();
    assert_eq!(labels, fields);
    assert!(plugin("http://127.0.0.1:1/", &[]).lines().all(|line| line.ends_with(".value U")));
    httpd.stop();
}

/// Grafana takes JSON, with a panel for each target's expression.
#[test]
fn grafana() {
    const LOOK: &str = "import json, sys\nboard = json.load(open(sys.argv[1]))\n\
                        assert board['title'] and board['schemaVersion'] and board['uid']\n\
                        ids = [panel['id'] for panel in board['panels']]\nassert len(set(ids)) == len(ids) > 3\n\
                        for panel in board['panels']:\n    assert panel['type'] == 'timeseries' and panel['gridPos'] and panel['title']\n    \
                        assert all(target['expr'].count('(') == target['expr'].count(')') for target in panel['targets'])\n";
    let mut command = Command::new("python3");
    command.args(["-c", LOOK]).arg(shipped("grafana.json"));
    assert_eq!(output(command), (String::new(), Some(0)));
}
