//! The table of `docs/operations.md` that says what becomes of work when the server, or the child that it runs in, ends: each
//! cell, for each MPM that can run its handler.

use std::fs;
use std::net::TcpStream;

use support::{Background, Client, Handler, Httpd, Mpm, Protocol, Signal, body, kill, wait_for};

use super::restarts::{all_threads_sleep, children, finishers, is_running, may_crash, page_if_answered, restart};
use crate::judge::{assert_body, path, ran_to_its_end, side_by_side};

const START: &str = "| what happens | ";

/// The columns. `None`: another server, behind mod_proxy_http.
const COLUMNS: [(&str, Option<Handler>); 6] = [
    ("mod_lua, modules", Some(Handler::Lua)),
    ("mod_php", Some(Handler::ModPhp)),
    ("mod_cgi, mod_cgid", Some(Handler::Cgi)),
    ("mod_fcgid", Some(Handler::ModFcgid)),
    ("php-fpm", Some(Handler::PhpFpm)),
    ("mod_proxy_http", None),
];

/// What becomes of work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fate {
    /// httpd waits for it, and it runs to its end.
    Ends,
    /// It is ended.
    Cut,
    /// httpd has nothing to do with it any more, and it runs to its end.
    GoesOn,
}

/// The rows: what is done to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Deed {
    Graceful,
    GracefulStop,
    ShutdownTimeout,
    Restart,
    Stop,
    MaxConnections,
    Crash,
}

const DEEDS: [(&str, Deed); 7] = [
    ("`graceful` (reload)", Deed::Graceful),
    ("`graceful-stop`", Deed::GracefulStop),
    ("`GracefulShutdownTimeout` is over", Deed::ShutdownTimeout),
    ("`restart`", Deed::Restart),
    ("`stop`", Deed::Stop),
    ("`MaxConnectionsPerChild` is reached", Deed::MaxConnections),
    ("its child crashes, or is killed", Deed::Crash),
];

/// The cells of the table, row by row, with those of its head.
fn table() -> Vec<Vec<String>> {
    let text = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/operations.md")).unwrap();
    let lines = text.lines().skip_while(|line| !line.starts_with(START)).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    lines.enumerate().filter(|(number, _)| *number != 1).map(|(_, line)| cells(line)).collect()
}

/// What the table says of one cell: `WHAT`, or `prefork: WHAT; else WHAT`.
fn said(deed: Deed, handler: Option<Handler>, mpm: Mpm) -> Fate {
    let row = DEEDS.iter().position(|(_, of)| *of == deed).unwrap();
    let column = COLUMNS.iter().position(|(_, of)| *of == handler).unwrap();
    let table = table();
    let cell = &table[row + 1][column + 1];
    let word = match cell.strip_prefix("prefork: ").and_then(|rest| rest.split_once("; else ")) {
        Some((prefork, _)) if mpm == Mpm::Prefork => prefork,
        Some((_, other)) => other,
        None => cell,
    };
    match word {
        "ends well" => Fate::Ends,
        "cut" => Fate::Cut,
        "goes on" => Fate::GoesOn,
        _ => panic!("no such word: {word}"),
    }
}

#[test]
fn the_table_is_whole() {
    let table = table();
    let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
    assert_eq!(table[0][1..], names);
    let rows: Vec<&str> = table[1..].iter().map(|row| row[0].as_str()).collect();
    assert_eq!(rows, DEEDS.map(|(name, _)| name));
    for (_, deed) in DEEDS {
        for (_, handler) in COLUMNS {
            for mpm in Mpm::ALL {
                said(deed, handler, mpm);
            }
        }
    }
}

macro_rules! rows {
    ($($name:ident: $deed:ident;)*) => {
        $(
            #[test]
            #[ignore = "make check: minutes"]
            fn $name() {
                row(Deed::$deed);
            }
        )*
    };
}

rows! {
    graceful: Graceful;
    graceful_stop: GracefulStop;
    graceful_shutdown_timeout: ShutdownTimeout;
    restarted: Restart;
    stopped: Stop;
    max_connections_per_child: MaxConnections;
    crash: Crash;
}

fn row(deed: Deed) {
    let backend = Httpd::builder(Mpm::Event).handler(Handler::Cgi).without_module().start();
    let cases = COLUMNS.into_iter().flat_map(|(_, handler)| {
        let runs = move |mpm: &Mpm| handler.is_none_or(|handler| handler.runs_on(*mpm));
        Mpm::ALL.into_iter().filter(runs).map(move |mpm| (handler, mpm))
    });
    side_by_side(cases, |(handler, mpm)| cell(deed, handler, mpm, &backend));
    backend.stop();
}

fn cell(deed: Deed, handler: Option<Handler>, mpm: Mpm, backend: &Httpd) {
    let mut config = match deed {
        Deed::ShutdownTimeout => "FinishRequest On\nGracefulShutdownTimeout 1".to_owned(),
        Deed::MaxConnections => "FinishRequest On\nMaxConnectionsPerChild 1".to_owned(),
        _ => "FinishRequest On".to_owned(),
    };
    let builder = Httpd::builder(mpm).workers(16).generations(16);
    let httpd = match handler {
        Some(handler) => builder.handler(handler).config(&config).start(),
        None => {
            config += &format!("\nProxyPass /app.cgi http://{}/app.cgi disablereuse=on", backend.address());
            builder.modules(&["proxy", "proxy_http"]).config(&config).start()
        }
    };
    let fate = said(deed, handler, mpm);
    if fate != Fate::Ends {
        may_crash(&httpd);
        httpd.allow_log("exit signal Killed|fcgid:|cgid:|cgi:|proxy_fcgi:|proxy_http:|proxy:|AH00050");
    }

    if deed == Deed::MaxConnections {
        // A child of event that has had its last connection wakes itself by a signal, which is lost where it has not come so far yet: then it stays until
        // the server ends, without the module as well. The others that answer below may be such.
        all_threads_sleep(&httpd);
        httpd.allow_log("AH0004[5-7]: ");
    }
    // Work that writes nothing: a program that writes to a server that is gone may end by that.
    let background = if handler.is_some() { httpd.background() } else { backend.background() };
    let page = handler.map_or("app.cgi", Handler::page);
    let query = "mark=length%3D4096&length=none&after=0";
    let response = Client::connect(&httpd, Protocol::Http1).get(&path(&background, page, query), &[]).released();
    assert_body(&response, &body(4096));
    background.wait_for_begin();
    let process = wait_for("the log to say who finished it", || finishers(&httpd.log()).into_iter().next());

    let before = children(httpd.id());
    let end_of_before =
        || wait_for("the old children to end", || children(httpd.id()).is_disjoint(&before).then_some(()));
    let end = || wait_for("the server to end", || (!is_running(&httpd)).then_some(()));
    match deed {
        Deed::Graceful => {
            restart(&httpd, Signal::USR1);
            wait_for("an answer of the new generation", || page_if_answered(&httpd));
        }
        Deed::GracefulStop => {
            httpd.signal(Signal::WINCH);
            wait_for("nobody to listen", || TcpStream::connect(httpd.address()).is_err().then_some(()));
        }
        Deed::ShutdownTimeout => {
            httpd.signal(Signal::WINCH);
            end();
        }
        Deed::Restart => {
            restart(&httpd, Signal::HUP);
            end_of_before();
        }
        Deed::Stop => {
            httpd.signal(Signal::TERM);
            end();
        }
        Deed::MaxConnections => wait_for("another child to answer", || {
            let _ = page_if_answered(&httpd);
            children(httpd.id()).difference(&before).next().map(|_| ())
        }),
        Deed::Crash => {
            kill(process);
            wait_for("the child to be gone", || (!children(httpd.id()).contains(&process)).then_some(()));
        }
    }
    match fate {
        Fate::Ends => {
            assert!(!background.is_done(), "it was ended");
            assert!(children(httpd.id()).contains(&process), "httpd did not wait for it");
            ran_to_its_end(&background);
            wait_for("its child to end", || (!children(httpd.id()).contains(&process)).then_some(()));
        }
        Fate::Cut => {
            wait_for("the work to be ended", || (!works(&httpd, handler, process, &background)).then_some(()));
        }
        Fate::GoesOn => {
            if !matches!(deed, Deed::Graceful | Deed::GracefulStop) {
                assert!(!children(httpd.id()).contains(&process));
            }
            ran_to_its_end(&background);
        }
    }
    httpd.stop();
}

/// Whether what does the work is there, while its gate is shut: a child of httpd, or a program, which may say so when it is ended.
fn works(httpd: &Httpd, handler: Option<Handler>, process: u32, background: &Background) -> bool {
    let root = httpd.root().display().to_string();
    match handler {
        Some(Handler::Cgi) => !background.is_done() && some_process("environ", &[background.id()]),
        Some(Handler::ModFcgid) => !background.is_done() && some_process("cmdline", &["php-cgi", &root]),
        _ => !background.is_done() && fs::exists(format!("/proc/{process}/task")).unwrap(),
    }
}

/// Whether there is a process that has all of these words in this file of its folder in /proc.
fn some_process(file: &str, words: &[&str]) -> bool {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| fs::read(entry.unwrap().path().join(file)).ok());
    processes.into_iter().any(|text| words.iter().all(|word| String::from_utf8_lossy(&text).contains(word)))
}
