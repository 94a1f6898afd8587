//! What `docs/operations.md` says can be done as it stands there.

use std::collections::HashSet;
use std::fs;
use std::process::Command;

use support::tools::run;
use support::{Background, Client, Handler, Httpd, Mpm, Protocol, Signal, wait_for};

use crate::administrator::restarts::children;
use crate::administrator::status::{counts, page, wait_for_running, wait_for_started, with_status};
use crate::judge::{path, ran_to_its_end};

const PAGE: &str = include_str!("../../docs/operations.md");

/// The page's blocks in this language.
fn blocks(language: &str) -> Vec<&'static str> {
    let start = format!("```{language}\n");
    let blocks: Vec<_> = PAGE.split(&start).skip(1).map(|rest| rest.split_once("```").unwrap().0).collect();
    assert!(!blocks.is_empty(), "{language}");
    blocks
}

/// A request whose client was released, and whose work waits at its gate.
#[track_caller]
fn finished(httpd: &Httpd) -> Background {
    let background = httpd.background();
    Client::connect(httpd, Protocol::Http1).get(&path(&background, "app.lua", "mark=on"), &[]).released();
    background.wait_for_begin();
    background
}

/// All of the configuration at once. The access log has what the page says it has.
#[test]
fn its_configuration() {
    for (at_end, log) in [(false, ""), (true, "FinishRequestLog End")] {
        let httpd = Httpd::builder(Mpm::Event)
            .handler(Handler::Lua)
            .modules(&["status", "authz_host"])
            .config("Define APACHE_LOG_DIR \"${ROOT}\"\nFinishRequest On")
            .config(&blocks("apache").concat())
            .config(log)
            .start();
        assert!(page(&httpd, "").contains("in background work now: 0 of at most 187<"));
        let background = httpd.background();
        background.open_gate();
        Client::connect(&httpd, Protocol::Http1).get(&path(&background, "app.lua", "mark=none"), &[]).response();
        let background = finished(&httpd);
        let lines = |name| fs::read_to_string(httpd.root().join(name)).unwrap_or_default();
        assert_eq!(lines("finished.log").contains(background.id()), !at_end);
        let done = ran_to_its_end(&background);

        let line = wait_for("a line in the log", || lines("finished.log").lines().next().map(str::to_owned));
        let number = |name| {
            let (_, rest) = line.split_once(name).expect("a field");
            rest.split(' ').next().unwrap().parse::<u64>().expect("a number")
        };
        assert!(line.contains(background.id()) && line.contains(" marked=header "), "{line}");
        let (released, total) = (number(" released="), number(" total="));
        assert!(!at_end || total - released >= done.ended - done.began, "{line}");
        wait_for("the lines of the others", || {
            (lines("finish.log").matches(" marked=- released=- total=").count() == 2).then_some(())
        });
        assert_eq!(lines("finished.log").lines().count(), 1);
        httpd.stop();
    }
}

/// The check is silent as long as nothing has grown, says what has, and says it once.
#[test]
fn its_check() {
    let httpd = with_status(Httpd::builder(Mpm::Event).handler(Handler::Lua)).config("FinishRequestMax 1").start();
    httpd.expect_log("as many as FinishRequestMax allows");
    let script = httpd.root().join("check");
    fs::write(&script, blocks("sh").concat()).unwrap();
    let check = |url: &str| {
        let mut command = Command::new("/bin/sh");
        command.arg(&script).arg(url).arg(httpd.root().join("check.last"));
        let output = run(command);
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let url = httpd.url("/server-status?auto");
    assert_eq!(check(&url), (Some(0), String::new()));
    let work = finished(&httpd);
    assert_eq!(check(&url), (Some(0), String::new()));
    for _ in 0..2 {
        let waits = httpd.background();
        waits.open_gate();
        Client::connect(&httpd, Protocol::Http1).get(&path(&waits, "app.lua", "mark=on"), &[]).response();
    }
    assert_eq!(check(&url), (Some(1), "FinishRequestOverLimit: 2 more\n".to_owned()));
    assert_eq!(check(&url), (Some(0), String::new()));
    assert_eq!(check(&httpd.url("/nothing-there")).0, Some(2));
    // The server was stopped and started: its numbers begin anew.
    fs::write(httpd.root().join("check.last"), "FinishRequestOverLimit: 50\nFinishRequestTimedOut: 3\n").unwrap();
    assert_eq!(check(&url), (Some(1), "FinishRequestOverLimit: 2 more\n".to_owned()));
    ran_to_its_end(&work);
    httpd.stop();
}

#[test]
fn its_php() {
    let folder = tempfile::tempdir().unwrap();
    for block in blocks("php") {
        let file = folder.path().join("example.php");
        fs::write(&file, block).unwrap();
        let mut command = Command::new("php");
        command.arg("-l").arg(&file);
        let output = run(command);
        assert!(output.status.success(), "{output:?}");
    }
}

/// In the scoreboard a worker with work shows as `W`, besides the one that answers for the page.
#[test]
fn work_in_the_scoreboard() {
    for mpm in Mpm::ALL {
        let httpd = with_status(Httpd::builder(mpm).handler(Handler::Lua)).start();
        let works = [finished(&httpd), finished(&httpd), finished(&httpd)];
        let page = page(&httpd, "?auto");
        let scoreboard = page.lines().find_map(|line| line.strip_prefix("Scoreboard: ")).unwrap();
        assert_eq!(scoreboard.matches('W').count(), 1 + works.len(), "{mpm:?}: {scoreboard}");
        works.iter().for_each(|work| _ = ran_to_its_end(work));
        httpd.stop();
    }
}

/// Under event children with work in them keep their slots after a graceful restart: with none to spare nobody is served
/// until one of them ends, with one to spare there is a new child at once.
#[test]
fn event_needs_slots_for_children_that_end() {
    for (slots, spare) in [(2, false), (3, true)] {
        let config = format!(
            "ThreadsPerChild 4\nServerLimit {slots}\nMaxRequestWorkers 8\nStartServers 2\nMinSpareThreads 4\n\
             MaxSpareThreads 8"
        );
        let httpd = with_status(Httpd::builder(Mpm::Event).handler(Handler::Lua)).config(&config).start();
        // Both children get some: one alone has too few threads.
        let works: Vec<_> = (0..6).map(|_| finished(&httpd)).collect();
        wait_for_running(&httpd, 6);
        let before = children(httpd.id());
        if !spare {
            httpd.expect_log("AH03490: scoreboard is full");
        }
        httpd.allow_log("AH(03490|00484|10159)");
        httpd.signal(Signal::USR1);
        wait_for_started(&httpd, 2);
        if spare {
            assert_eq!(counts(&httpd)["Running"], 6);
        } else {
            httpd.wait_for_log("AH03490");
            assert_eq!(children(httpd.id()), before, "there is no new child");
        }
        assert!(works.iter().all(|work| !work.is_done()));
        works.iter().for_each(|work| _ = ran_to_its_end(work));
        wait_for_running(&httpd, 0);
        httpd.stop();
    }
}

#[test]
fn its_directives_exist() {
    let known: HashSet<_> =
        mod_finish_request::directives::MANUAL.iter().map(|directive| directive.name.to_str().unwrap()).collect();
    let counts = ["FinishRequestFinished", "FinishRequestRunning", "FinishRequestOverLimit", "FinishRequestTimedOut"];
    for word in PAGE.split(|character: char| !character.is_ascii_alphanumeric()) {
        let own = word.starts_with("FinishRequest") && !counts.contains(&word);
        assert!(!own || known.contains(word), "{word}");
    }
}
