//! `FinishRequestMax`: so many requests run on after their clients were released, and not one more; all others are
//! ordinary ones.

use std::collections::HashSet;
use std::fs;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use support::http1::{Connection, EndKind};
use support::{
    Background, Builder, Client, Frame, Frames, Handler, Held, Httpd, Mpm, Protocol, Signal, body, kill, wait_for,
};

use crate::administrator::restarts::may_crash;
use crate::administrator::status::{counts, host_counts, page, rows, wait_for_running, wait_for_started, with_status};
use crate::directives::listener::restart;
use crate::judge::{BYTES, assert_body, early, is_said_seldom, path, ran_to_its_end, side_by_side};

/// The one warning.
const WARNING: &str = "finish_request:warn.*as many as FinishRequestMax allows";
const FULL: &str = "as many as FinishRequestMax allows";

/// A request that is finished, and works in the background.
#[track_caller]
fn finished(httpd: &Httpd) -> Background {
    let background = httpd.background();
    let client = Client::connect(httpd, Protocol::Http1);
    assert_body(&client.get(&path(&background, "app.lua", "mark=on"), &[]).released(), &body(BYTES));
    background.wait_for_begin();
    assert!(!background.is_done());
    background
}

/// The same request over the limit: the client gets what was promised and nothing more, when the work is done its
/// connection goes on, and the work sees no error.
#[track_caller]
fn ordinary(httpd: &Httpd, protocol: Protocol, page: &str, query: &str, expected: &[u8]) {
    let background = httpd.background();
    let client = Client::connect(httpd, protocol);
    let exchange = client.get(&path(&background, page, query), &[]);
    background.wait_for_begin();
    wait_for("its body, though the handler goes on", || exchange.so_far().filter(|response| response.body == expected));
    let next = (protocol != Protocol::Http2).then(|| client.get("/background.sh", &[]));
    ran_to_its_end(&background);
    let response = exchange.response();
    assert_body(&response, expected);
    assert_eq!(response.header("X-Finish-Request"), None);
    let connection = response.header("Connection").unwrap_or_default();
    assert!(!connection.contains("close"), "{protocol:?} {page}: {connection}");
    assert_eq!(next.unwrap_or_else(|| client.get("/background.sh", &[])).response().status, 200);
}

/// A server with several processes of a few threads each, 16 workers in all.
fn several_processes(mpm: Mpm) -> Builder {
    with_status(Httpd::builder(mpm).handler(Handler::Lua)).config(match mpm {
        Mpm::Prefork => "ServerLimit 16\nMaxRequestWorkers 16\nStartServers 16\nMinSpareServers 1\nMaxSpareServers 16",
        _ => "ThreadsPerChild 4\nServerLimit 8\nStartServers 4\nMaxRequestWorkers 16\nMaxSpareThreads 32",
    })
}

on_every_handler_and_mpm!(over_the_limit_a_marked_response_is_ordinary);

/// With 0 each is over the limit, as the administrator wants it: nothing is said about it.
fn over_the_limit_a_marked_response_is_ordinary(handler: Handler, mpm: Mpm) {
    let httpd = Httpd::builder(mpm)
        .handler(handler)
        .config(
            "FinishRequest On
             FinishRequestMax 0
             CustomLog \"${ROOT}/notes.log\" \"%{finish-request}n %{finish-request-us}n %U\"",
        )
        .start();
    for &protocol in mpm.protocols() {
        ordinary(&httpd, protocol, handler.page(), "mark=on", &body(BYTES));
        ordinary(&httpd, protocol, handler.page(), "mark=length%3D4000&length=none", &body(4000));
        ordinary(&httpd, protocol, handler.page(), "mark=on&bytes=100", &body(100));
    }
    let notes = wait_for("all requests in the log", || {
        let log = fs::read_to_string(httpd.root().join("notes.log")).unwrap_or_default();
        (log.lines().count() == mpm.protocols().len() * 6).then_some(log)
    });
    assert!(notes.lines().all(|line| line.starts_with("- - /")), "{notes}");
    assert!(!httpd.log().contains("finished early"));
    httpd.stop();
}

on_every_mpm!(full_and_free_again);

fn full_and_free_again(mpm: Mpm) {
    let httpd = with_status(Httpd::builder(mpm).handler(Handler::Lua)).config("FinishRequestMax 2").start();
    httpd.expect_log(WARNING);
    let works = [finished(&httpd), finished(&httpd)];
    for &protocol in mpm.protocols() {
        ordinary(&httpd, protocol, "app.lua", "mark=on", &body(BYTES));
        ordinary(&httpd, protocol, "app.lua", "mark=length%3D4000&length=none", &body(4000));
    }
    let over = mpm.protocols().len() as u64 * 2;
    assert_eq!((counts(&httpd)["Running"], counts(&httpd)["OverLimit"]), (2, over));
    // For the whole server.
    is_said_seldom(&httpd, FULL);

    ran_to_its_end(&works[0]);
    wait_for_running(&httpd, 1);
    let third = finished(&httpd);
    ordinary(&httpd, Protocol::Http1, "app.lua", "mark=on", &body(BYTES));
    [&works[1], &third].into_iter().for_each(|work| _ = ran_to_its_end(work));
    wait_for_running(&httpd, 0);
    assert_eq!((counts(&httpd)["Finished"], counts(&httpd)["OverLimit"]), (3, over + 1));
    is_said_seldom(&httpd, FULL);
    httpd.stop();
}

on_every_mpm!(a_virtual_host_has_its_part);

/// A host has no more than its part, the others have what is left, none has more than the server; and all of it is counted by host.
fn a_virtual_host_has_its_part(mpm: Mpm) {
    let httpd = with_status(Httpd::builder(mpm).handler(Handler::Lua))
        .config(
            "FinishRequestMax 4
            <VirtualHost 127.0.0.1:${PORT}>
              ServerName small.test
              FinishRequestMax 1
            </VirtualHost>
            <VirtualHost 127.0.0.1:${PORT}>
              ServerName large.test
              FinishRequestMax none
            </VirtualHost>
            <VirtualHost 127.0.0.1:${PORT}>
              ServerName never.test
              FinishRequestMax 0
            </VirtualHost>",
        )
        .start();
    httpd.expect_log(WARNING);
    httpd.expect_log(
        "finish_request:warn.*1 requests of small.test are in background work, as many as FinishRequestMax allows this",
    );
    let ask = |host: &str| {
        let background = httpd.background();
        let connection = httpd.connect();
        let target = path(&background, "app.lua", "mark=on");
        connection.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        background.wait_for_begin();
        (background, connection)
    };
    let early = |host| {
        let (background, connection) = ask(host);
        assert_body(&connection.response(), &body(BYTES));
        connection.end();
        assert!(!background.is_done(), "{host}");
        background
    };
    let ordinary = |host| {
        let (background, connection) = ask(host);
        ran_to_its_end(&background);
        let response = connection.response();
        assert_body(&response, &body(BYTES));
        assert!(!response.header("Connection").unwrap_or_default().contains("close"), "{host}");
    };
    let small = early("small.test");
    ordinary("small.test");
    ordinary("never.test");
    let large = [early("large.test"), early("large.test"), early("large.test")];
    // The server's limit, not the host's: it has none of its own.
    ordinary("large.test");
    ran_to_its_end(&small);
    wait_for_running(&httpd, 3);
    let again = early("small.test");
    ordinary("small.test");

    let host = |name: &str| ["Finished", "Running", "Max", "OverLimit"].map(|number| host_counts(&httpd, name)[number]);
    assert_eq!(host("small.test"), [2, 1, 1, 2]);
    assert_eq!(host("large.test"), [3, 3, 4, 1]);
    assert_eq!(host("never.test"), [0, 0, 0, 1]);
    assert!(page(&httpd, "").contains(">small.test</td><td>2</td><td>1</td><td>1</td><td>0</td><td>2</td>"));
    large.iter().chain([&again]).for_each(|work| _ = ran_to_its_end(work));
    wait_for_running(&httpd, 0);
    assert_eq!(host("large.test"), [3, 0, 4, 1]);
    httpd.stop();
}

on_every_mpm!(exact_over_processes);

/// Many at once: just so many clients are released while the gates are shut.
fn exact_over_processes(mpm: Mpm) {
    const MAX: usize = 5;
    const REQUESTS: usize = 12;
    let httpd = several_processes(mpm).config(&format!("FinishRequestMax {MAX}")).start();
    httpd.expect_log(WARNING);
    httpd.may_be_full();
    for round in 1..=3 {
        let requests: Vec<_> = (0..REQUESTS).map(|_| (httpd.background(), httpd.connect())).collect();
        side_by_side(0..REQUESTS, |index| {
            let (background, connection) = &requests[index];
            connection.get(&background.query("app.lua"), &[]);
        });
        for (background, connection) in &requests {
            background.wait_for_begin();
            assert_body(&connection.response(), &body(BYTES));
        }
        let counts = counts(&httpd);
        assert_eq!(counts["Running"], MAX as u64, "{mpm:?}");
        assert_eq!(counts["Finished"], (MAX * round) as u64);
        assert_eq!(counts["OverLimit"], ((REQUESTS - MAX) * round) as u64);
        let pids: HashSet<String> = rows(&httpd).into_iter().map(|[pid, ..]| pid).collect();
        assert!(pids.len() > 1, "more than a process has threads: {pids:?}");
        let released = || requests.iter().filter(|(_, connection)| connection.has_ended()).count();
        wait_for("the clients that are let go", || (released() >= MAX).then_some(()));

        requests.iter().for_each(|(background, _)| _ = ran_to_its_end(background));
        wait_for_running(&httpd, 0);
        assert_eq!(released(), MAX, "the connections of the others go on");
        for (_, connection) in requests.iter().filter(|(_, connection)| !connection.has_ended()) {
            connection.get("/background.sh", &[("Connection", "close")]);
            assert_eq!(connection.response().status, 200);
        }
    }
    is_said_seldom(&httpd, FULL);
    httpd.stop();
}

on_every_mpm!(a_child_that_is_killed);

/// Its places are free again, those of others are not, and their work goes on.
fn a_child_that_is_killed(mpm: Mpm) {
    const MAX: usize = 6;
    // Few threads, so that the requests are in several processes.
    let threads = if mpm == Mpm::Prefork { "" } else { "\nThreadsPerChild 2\nMaxRequestWorkers 16" };
    let httpd = several_processes(mpm).config(&format!("FinishRequestMax {MAX}{threads}")).start();
    let works: Vec<_> = (0..MAX).map(|_| finished(&httpd)).collect();
    let rows = rows(&httpd);
    assert_eq!(rows.len(), MAX);
    let victim = &rows[0][0];
    let (gone, left): (Vec<_>, Vec<_>) = works.iter().partition(|work| {
        let row = rows.iter().find(|row| row[4].contains(work.id())).expect("a row for each");
        row[0] == *victim
    });
    assert!(!left.is_empty(), "they are in several processes");
    kill(victim.parse().unwrap());

    wait_for_running(&httpd, left.len() as u64);
    assert!(crate::administrator::status::rows(&httpd).iter().all(|row| row[0] != *victim));
    let more: Vec<_> = gone.iter().map(|_| finished(&httpd)).collect();
    assert_eq!(counts(&httpd)["Running"], MAX as u64);
    httpd.expect_log(WARNING);
    ordinary(&httpd, Protocol::Http1, "app.lua", "mark=on", &body(BYTES));
    left.into_iter().chain(&more).for_each(|work| _ = ran_to_its_end(work));
    wait_for_running(&httpd, 0);
    assert!(gone.iter().all(|work| !work.is_done()));
    httpd.stop();
}

on_every_mpm!(restarts);

/// Requests of processes that are about to end are counted, and a new limit holds with them.
fn restarts(mpm: Mpm) {
    const GENERATIONS: u64 = 8;
    let httpd = Httpd::builder(mpm).handler(Handler::Lua).generations(GENERATIONS as usize);
    let httpd = with_status(httpd).config("FinishRequestMax 3").start();
    httpd.expect_log(WARNING);
    let over = |httpd: &Httpd| ordinary(httpd, Protocol::Http1, "app.lua", "mark=on", &body(BYTES));
    let old = [(); 3].map(|()| finished(&httpd));
    let old_pids: HashSet<String> = rows(&httpd).into_iter().map(|[pid, ..]| pid).collect();

    configure(&httpd, "FinishRequestMax 3", "FinishRequestMax 1");
    assert!(page(&httpd, "").contains("now: 3 of at most 1<"));
    for work in &old {
        let row = rows(&httpd).into_iter().find(|row| row[4].contains(work.id())).expect("a row for each");
        assert!(old_pids.contains(&row[0]), "{row:?}");
    }
    for (index, work) in old.iter().enumerate() {
        over(&httpd);
        ran_to_its_end(work);
        wait_for_running(&httpd, 2 - index as u64);
    }
    let first = finished(&httpd);
    over(&httpd);

    configure(&httpd, "FinishRequestMax 1", "FinishRequestMax 2");
    let second = finished(&httpd);
    over(&httpd);

    // Without the directive the default holds.
    configure(&httpd, "FinishRequestMax 2", "");
    let workers = match mpm {
        Mpm::Event => 64,
        Mpm::Worker => 64 * GENERATIONS,
        Mpm::Prefork => 88,
    };
    assert!(page(&httpd, "").contains(&format!("now: 2 of at most {}<", workers * 3 / 4)));
    let third = finished(&httpd);
    assert_eq!(counts(&httpd)["Running"], 3);

    // A restart that is not graceful ends them all; the table knows it.
    [&first, &second, &third].into_iter().for_each(|work| _ = ran_to_its_end(work));
    let cut = finished(&httpd);
    may_crash(&httpd);
    httpd.signal(Signal::HUP);
    wait_for_started(&httpd, 5);
    wait_for_running(&httpd, 0);
    assert!(!cut.is_done());
    httpd.stop();
}

/// httpd gives a child up that it has killed and that does not end, and does not say later that it has.
#[test]
fn a_child_that_was_given_up() {
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = with_status(Httpd::builder(mpm).handler(Handler::Lua).generations(2)).start();
        let work = finished(&httpd);
        let [[pid, ..]] = <[_; 1]>::try_from(rows(&httpd)).expect("one row");
        let held = match Held::new(pid.parse().unwrap()) {
            Ok(held) => held,
            Err(error) => {
                ran_to_its_end(&work);
                return support::machine::not_tried(&format!("no process can be traced here: {error}"));
            }
        };
        httpd.expect_log("AH00047: could not make child process [0-9]+ exit, attempting to continue anyway");
        httpd.allow_log("AH0004[56]: child process [0-9]+ still did not exit");
        httpd.allow_log("long lost child came home");
        httpd.signal(Signal::HUP);
        wait_for_started(&httpd, 2);
        assert_eq!(counts(&httpd)["Running"], 1);
        held.let_go();
        wait_for_running(&httpd, 0);
        assert!(!work.is_done());
        httpd.stop();
    });
}

/// Children that end while the configuration is one without the module, and are killed: nobody hears of it.
#[test]
fn killed_while_the_module_is_not_loaded() {
    // Event starts one child too many for an old one that is killed, which then misses the stop.
    for mpm in [Mpm::Worker, Mpm::Prefork] {
        let httpd = with_status(Httpd::builder(mpm).handler(Handler::Lua)).generations(4);
        let httpd = httpd.config("FinishRequestMax 2").start();
        let works = [(); 2].map(|()| finished(&httpd));
        let pids: HashSet<String> = rows(&httpd).into_iter().map(|[pid, ..]| pid).collect();
        let file = httpd.root().join("httpd.conf");
        let with = fs::read_to_string(&file).unwrap();
        let without: Vec<_> = with
            .lines()
            .filter(|line| !line.contains("mod_finish_request") && !line.contains("FinishRequest"))
            .collect();
        fs::write(&file, without.join("\n")).unwrap();
        httpd.signal(Signal::USR1);
        wait_for_started(&httpd, 2);
        pids.iter().for_each(|pid| kill(pid.parse().unwrap()));
        wait_for("the children's end", || {
            pids.iter().all(|pid| !fs::exists(format!("/proc/{pid}")).unwrap()).then_some(())
        });
        restart(&httpd, Signal::USR1, |_| with);
        wait_for_running(&httpd, 0);
        let more = [(); 2].map(|()| finished(&httpd));
        more.iter().for_each(|work| _ = ran_to_its_end(work));
        assert!(works.iter().all(|work| !work.is_done()));
        httpd.stop();
    }
}

/// Changes the configuration, and restarts the server gracefully.
#[track_caller]
fn configure(httpd: &Httpd, from: &str, to: &str) {
    restart(httpd, Signal::USR1, |text| {
        assert_eq!(text.matches(from).count(), 1);
        text.replace(from, to)
    });
}

on_every_mpm!(a_storm_leaves_the_server_answering);

/// Clients that come back as soon as they are let go. By default they get three quarters of the workers for background
/// work, and then they wait.
fn a_storm_leaves_the_server_answering(mpm: Mpm) {
    const CLIENTS: usize = 2;
    const MAX: u64 = 12;
    let httpd = several_processes(mpm).start();
    httpd.expect_log(WARNING);
    httpd.may_be_full();
    let works = Mutex::new(Vec::new());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..CLIENTS {
            scope.spawn(|| while !come_back(&httpd, &works) {});
        }
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                static_page(&httpd);
            }
        });
        let full = || counts(&httpd)["OverLimit"] == CLIENTS as u64;
        wait_for("the clients to wait", || full().then_some(()));
        for _ in 0..20 {
            static_page(&httpd);
        }
        over.store(true, Ordering::Relaxed);
        let counts = counts(&httpd);
        assert_eq!((counts["Running"], counts["Finished"]), (MAX, MAX));
        works.lock().unwrap().iter().for_each(Background::open_gate);
    });
    let works = works.into_inner().unwrap();
    assert_eq!(works.len(), MAX as usize + CLIENTS);
    works.iter().for_each(|work| assert_eq!(work.wait_for_done().errors, ""));
    wait_for_running(&httpd, 0);
    is_said_seldom(&httpd, FULL);
    httpd.stop();
}

on_every_mpm!(clients_that_leave_take_no_more);

/// A flood of clients that ask and leave, so that none of them waits: they get the places that there are for background work, and others are
/// answered.
fn clients_that_leave_take_no_more(mpm: Mpm) {
    const MAX: usize = 12;
    // One process under event and worker: none is full while another is not.
    let builder = with_status(Httpd::builder(mpm).handler(Handler::Lua)).workers(24);
    let httpd = builder.config(&format!("FinishRequestMax {MAX}")).start();
    httpd.expect_log(WARNING);
    httpd.may_be_full();
    let works: Vec<Background> = (0..MAX + 2)
        .map(|_| {
            let (background, connection) = (httpd.background(), httpd.connect());
            connection.get(&background.query("app.lua"), &[]);
            background.wait_for_begin();
            connection.abort();
            static_page(&httpd);
            background
        })
        .collect();
    for _ in 0..20 {
        static_page(&httpd);
    }
    let all = counts(&httpd);
    assert_eq!((all["Running"], all["Finished"], all["OverLimit"]), (MAX as u64, MAX as u64, 2));
    works.iter().for_each(|work| _ = ran_to_its_end(work));
    wait_for_running(&httpd, 0);
    ran_to_its_end(&finished(&httpd));
    httpd.stop();
}

/// One request of the storm: true if its client had to wait for the work, which is when its connection goes on.
fn come_back(httpd: &Httpd, works: &Mutex<Vec<Background>>) -> bool {
    let background = httpd.background();
    let connection = httpd.connect();
    connection.get(&background.query("app.lua"), &[]);
    works.lock().unwrap().push(background);
    let response = connection.response();
    assert_body(&response, &body(BYTES));
    if response.header("Connection").unwrap_or_default().contains("close") {
        assert_eq!(connection.end().kind, EndKind::Fin);
        return false;
    }
    connection.get("/background.sh", &[("Connection", "close")]);
    assert_eq!(connection.response().status, 200);
    true
}

#[track_caller]
fn static_page(httpd: &Httpd) {
    let connection = httpd.connect();
    connection.get("/background.sh", &[("Connection", "close")]);
    assert_eq!(connection.response().status, 200);
}

/// Writes a part, waits at the gate `hold`, writes the end of the response and more, then works in the background, which
/// prints and flushes.
const PARTS: &str = r#"
function handle(r)
    local background = dofile(r.filename:match("^(.*)/") .. "/background.lua")
    local query = r:parseargs()
    r.content_type = "text/plain"
    r.headers_out["X-Finish-Request"] = query.mark
    if query.length then
        r.headers_out["Content-Length"] = query.length
    end
    if query.coding then
        r.headers_out["Transfer-Encoding"] = query.coding
    end
    r:write(query.coding and "6\r\nfirst \r\n" or "first ")
    if query.hold then
        r:flush()
        background.run(r, query.hold, 0)
    end
    if query.late then
        r.subprocess_env["finish-request"] = query.late
    end
    r:write(query.coding and "4\r\nlast\r\n0\r\n\r\n" or "last")
    r:write(query.token or "")
    r:flush()
    background.run(r, query.id, 200)
    return apache2.OK
end
"#;

/// Whichever way the end is marked, what comes after it reaches nobody.
#[test]
fn nothing_leaks_after_the_end() {
    for mpm in Mpm::ALL {
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .modules(&["filter", "deflate"])
            .config("FinishRequest On\nFinishRequestMax 0\nAddOutputFilterByType DEFLATE text/plain")
            .start();
        httpd.install("parts.lua", PARTS);
        for &protocol in mpm.protocols() {
            side_by_side(
                [
                    "mark=boundary%3D%220123456789abcdef%22&token=0123456789abcdef",
                    "mark=on&coding=chunked",
                    "mark=flush",
                    "late=flush",
                    "mark=length%3D10",
                    "late=length%3D10",
                ],
                |query| {
                    ordinary(&httpd, protocol, "parts.lua", query, b"first last");
                    let compressed = format!("{query}&compressed");
                    let background = httpd.background();
                    background.open_gate();
                    let client = Client::connect(&httpd, protocol);
                    let target = path(&background, "parts.lua", &compressed);
                    let response = client.get(&target, &[("Accept-Encoding", "gzip")]).response();
                    assert_eq!(response.decoded(), b"first last", "{protocol:?} {query}");
                    assert_eq!(response.header("Content-Encoding"), Some("gzip"), "as without the module");
                    assert_eq!(background.wait_for_done().errors, "");
                },
            );
        }
        httpd.stop();
    }
}

/// Where there is no place when the header goes, it announces no close, and no filter is skipped.
#[test]
fn the_header_of_a_response_that_is_over_the_limit() {
    for mpm in Mpm::ALL {
        let httpd = with_status(Httpd::builder(mpm).handler(Handler::Lua))
            .modules(&["filter", "deflate"])
            .config("FinishRequestMax 0\nAddOutputFilterByType DEFLATE text/plain")
            .start();
        httpd.install("parts.lua", PARTS);
        for &protocol in mpm.protocols() {
            for mark in ["length%3D10", "flush", "boundary%3D%220123456789abcdef%22&token=0123456789abcdef"] {
                let (hold, background) = (httpd.background(), httpd.background());
                // The first flush is the end of a response that is marked 'flush': it is the one that is late.
                let mark = if mark == "flush" { "late=flush".to_owned() } else { format!("mark={mark}") };
                let client = Client::connect(&httpd, protocol);
                let target = path(&background, "parts.lua", &format!("{mark}&hold={}", hold.id()));
                let exchange = client.get(&target, &[("Accept-Encoding", "gzip")]);
                hold.wait_for_begin();
                ran_to_its_end(&hold);
                background.wait_for_begin();
                ran_to_its_end(&background);
                let response = exchange.response();
                assert_eq!(response.decoded(), b"first last", "{protocol:?} {mark}");
                assert_eq!(response.header("Content-Encoding"), Some("gzip"), "{protocol:?} {mark}");
                assert!(!response.header("Connection").unwrap_or_default().contains("close"), "{protocol:?} {mark}");
                assert_eq!(client.get("/background.sh", &[]).response().status, 200);
            }
        }
        assert_eq!(counts(&httpd)["OverLimit"], mpm.protocols().len() as u64 * 3);
        httpd.stop();
    }
}

/// The header has announced the close already when the last place is taken by another: the response ends with its handler
/// all the same, and then its connection is closed.
#[test]
fn the_last_place_is_taken_between_the_header_and_the_end() {
    for mpm in Mpm::ALL {
        let httpd = with_status(Httpd::builder(mpm).handler(Handler::Lua)).config("FinishRequestMax 1").start();
        httpd.install("parts.lua", PARTS);
        httpd.expect_log(WARNING);
        for &protocol in mpm.protocols() {
            let (hold, background) = (httpd.background(), httpd.background());
            let client = Client::connect(&httpd, protocol);
            let query = format!("mark=length%3D10&hold={}", hold.id());
            let exchange = client.get(&path(&background, "parts.lua", &query), &[]);
            hold.wait_for_begin();
            let other = finished(&httpd);
            ran_to_its_end(&hold);
            background.wait_for_begin();
            assert_eq!(counts(&httpd)["Running"], 1);
            ran_to_its_end(&background);
            assert_body(&exchange.released(), b"first last");
            ran_to_its_end(&other);
            wait_for_running(&httpd, 0);
        }
        is_said_seldom(&httpd, FULL);
        httpd.stop();
    }
}

/// A response that was to end at a flush, and then is not to end early: nothing is taken from it.
#[test]
fn off_after_the_mark_flush_makes_the_response_ordinary() {
    let httpd = Httpd::builder(Mpm::Event).handler(Handler::Lua).config("FinishRequest On").start();
    httpd.install(
        "off.lua",
        r#"
        function handle(r)
            local background = dofile(r.filename:match("^(.*)/") .. "/background.lua")
            r.content_type = "text/plain"
            r.headers_out["X-Finish-Request"] = "flush"
            r:write(background.body(20000))
            r.subprocess_env["finish-request"] = "off"
            r:flush()
            background.run(r, r:parseargs().id, 200)
            return apache2.OK
        end"#,
    );
    for &protocol in Mpm::Event.protocols() {
        let background = httpd.background();
        let client = Client::connect(&httpd, protocol);
        let exchange = client.get(&background.query("off.lua"), &[]);
        background.wait_for_begin();
        ran_to_its_end(&background);
        assert_body(&exchange.response(), &[body(20_000), b"L".repeat(200)].concat());
    }
    httpd.stop();
}

/// What is broken ends at once, as ever: its connection cannot go on.
#[test]
fn a_broken_response_needs_no_place() {
    for max in [0, 1] {
        let httpd = with_status(Httpd::builder(Mpm::Event).handler(Handler::Lua))
            .config(&format!("FinishRequestMax {max}"))
            .start();
        httpd.install(
            "broken.lua",
            r#"
        function handle(r)
            local background = dofile(r.filename:match("^(.*)/") .. "/background.lua")
            r.content_type = "text/plain"
            r.headers_out["Transfer-Encoding"] = "chunked"
            r.headers_out["X-Finish-Request"] = "on"
            r:write("5\r\nhello\r\nno chunk")
            r:flush()
            background.run(r, r:parseargs().id, 200)
            return apache2.OK
        end"#,
        );
        httpd.expect_log("finish_request:warn.*not what it claims to be");
        let background = httpd.background();
        let connection: Connection = httpd.connect();
        connection.get(&background.query("broken.lua"), &[]);
        assert!(connection.response_or_end().is_err());
        assert!(!background.is_done());
        // Where there is one, it has it.
        assert_eq!(counts(&httpd)["Running"], max);
        ran_to_its_end(&background);
        httpd.stop();
    }
}

/// Nor is a response made whole by waiting that ends before the length which its client was told.
#[test]
fn a_short_response_ends_its_connection() {
    let httpd = Httpd::builder(Mpm::Event).handler(Handler::Lua).config("FinishRequest On\nFinishRequestMax 0").start();
    httpd.install("parts.lua", PARTS);
    httpd.expect_log("finish_request:warn.*it ended before the end that it promised");
    let (hold, background) = (httpd.background(), httpd.background());
    let connection = httpd.connect();
    connection.get(&path(&background, "parts.lua", &format!("length=30&late=flush&hold={}", hold.id())), &[]);
    hold.wait_for_begin();
    ran_to_its_end(&hold);
    background.wait_for_begin();
    ran_to_its_end(&background);
    assert!(connection.response_or_end().is_err());
    assert!(connection.received().ends_with(b"\r\n\r\nfirst last"));
    httpd.stop();
}

/// A CGI script that closes its output and works on is not ended for there being no place for it.
#[test]
fn a_cgi_script_that_closes_its_output_works_on() {
    let httpd =
        Httpd::builder(Mpm::Prefork).handler(Handler::Cgi).config("FinishRequest On\nFinishRequestMax 0").start();
    httpd.install(
        "closes.cgi",
        "#!/bin/sh\n. ./background.sh\nquery id ''\n\
         printf 'Content-Type: text/plain\\r\\nContent-Length: 5\\r\\nX-Finish-Request: on\\r\\n\\r\\nhello'\n\
         exec >/dev/null 2>&1\nbackground \"$id\" 0\n",
    );
    for &protocol in Mpm::Prefork.protocols() {
        ordinary(&httpd, protocol, "closes.cgi", "", b"hello");
    }
    httpd.stop();
}

#[test]
fn what_a_percentage_is_of() {
    for mpm in Mpm::ALL {
        let workers = if mpm == Mpm::Prefork { 88 } else { 64 };
        side_by_side(
            [
                ("", workers * 3 / 4),
                ("FinishRequestMax 100%", workers),
                ("FinishRequestMax 1%", 1),
                ("FinishRequestMax 7", 7),
                ("FinishRequestMax NONE", 1024),
                ("FinishRequestMax 4000000000", 1024),
            ],
            |(config, most)| {
                let httpd = with_status(Httpd::builder(mpm)).config(config).start();
                assert!(page(&httpd, "").contains(&format!("now: 0 of at most {most}<")), "{mpm:?} {config}");
                httpd.stop();
            },
        );
    }
}

#[test]
fn wrong_values_and_places() {
    const ACCEPTED: &str = "a number of requests, a percentage of the workers from 1% to 100%, or none";
    side_by_side(
        [
            ("FinishRequestMax many", "'many'", ACCEPTED),
            ("FinishRequestMax", "no value", ACCEPTED),
            ("FinishRequestMax 0%", "'0%'", ACCEPTED),
            ("FinishRequestMax 101%", "'101%'", ACCEPTED),
            ("FinishRequestMax -1", "'-1'", ACCEPTED),
            ("FinishRequestMax 4294967296", "'4294967296'", ACCEPTED),
            ("FinishRequestMax 5 %", "'5 %'", ACCEPTED),
            ("<VirtualHost *>\nFinishRequestMax many\n</VirtualHost>", "'many'", ACCEPTED),
            ("<Location />\nFinishRequestMax 5\n</Location>", "FinishRequestMax", "not allowed in <Location> context"),
            (
                "<Directory />\nFinishRequestMax 5\n</Directory>",
                "FinishRequestMax",
                "not allowed in <Directory> context",
            ),
            ("<If true>\nFinishRequestMax 5\n</If>", "FinishRequestMax", "not allowed in <If> context"),
        ],
        |(config, value, accepted)| {
            let said = Httpd::builder(Mpm::Event).config(config).try_start().err().expect("a refusal").to_string();
            let sentence = said.lines().find(|line| line.contains("FinishRequestMax")).unwrap_or(&said);
            assert!(sentence.contains(value) && sentence.contains(accepted), "{config}: {sentence}");
        },
    );

    let httpd = Httpd::builder(Mpm::Event).config("<Directory ${WWW}>\nAllowOverride All\n</Directory>").start();
    fs::write(httpd.root().join("www/.htaccess"), "FinishRequestMax 5\n").unwrap();
    httpd.expect_log("FinishRequestMax not allowed here");
    let connection = httpd.connect();
    connection.get("/background.sh", &[]);
    assert_eq!(connection.response().status, 500);
    httpd.stop();
}

/// A response that is cut has no background work once its handler has ended, though its client takes nothing of it.
#[test]
fn the_place_of_a_response_that_is_cut() {
    side_by_side([Mpm::Event, Mpm::Worker], |mpm| {
        let builder = Httpd::builder(mpm).handler(Handler::Lua).config("FinishRequest On\nFinishRequestMax 1");
        let httpd = with_status(builder).start();
        let cut = "ended before the end that it promised";
        httpd.expect_log(cut);
        const INITIAL_WINDOW_SIZE: u16 = 4;
        let mut client = Frames::connect(httpd.address(), &[(INITIAL_WINDOW_SIZE, 0)]);
        let background = httpd.background();
        background.open_gate();
        client.send(&Frame::get(1, &path(&background, "app.lua", "mark=on&length=5000"))).unwrap();
        httpd.wait_for_log(cut);
        wait_for_running(&httpd, 0);
        early(&httpd, Protocol::Http1, "app.lua", "mark=on", BYTES);
        httpd.stop();
    });
}
