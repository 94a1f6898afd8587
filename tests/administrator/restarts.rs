//! Restarts and stops: to them, work in background is a request like any other.

use std::collections::HashSet;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use support::http1::{Connection, EndKind};
use support::{Background, Client, Handler, Httpd, Mpm, Protocol, Signal, body, modules_dir, tcp_sockets, wait_for};

use crate::judge::{assert_body, path, ran_to_its_end, side_by_side};

/// The shortest time in which httpd itself ends processes that do not end by themselves is some ten seconds.
const KILLED: &str = "AH0004[5-7]: ";

on_every_handler_and_mpm!(a_graceful_restart_lets_work_finish);

fn a_graceful_restart_lets_work_finish(handler: Handler, mpm: Mpm) {
    let httpd = Httpd::builder(mpm).handler(handler).generations(4).config("FinishRequest On").start();
    let background = released(&httpd, mpm.protocols()[0], handler.page());
    let before = children(httpd.id());
    restart(&httpd, Signal::USR1);
    let after = wait_for("an answer of the new generation", || page_if_answered(&httpd));
    assert_eq!(after, b"plain\n");
    if handler == Handler::ModFcgid {
        // mod_fcgid ends its programs with each restart, whatever they do.
        httpd.allow_log("fcgid:(warn|error).*(terminating forcefully|error reading data|ap_pass_brigade failed)");
        httpd.wait_for_log("terminating forcefully");
        wait_for("the old children to end", || children(httpd.id()).is_disjoint(&before).then_some(()));
        return httpd.stop();
    }
    assert!(!background.is_done());
    ran_to_its_end(&background);
    wait_for("the old children to end", || children(httpd.id()).is_disjoint(&before).then_some(()));
    assert_eq!(lines(&httpd, &background), 1, "logged once");
    httpd.stop();
}

/// What was upgraded is what runs after a restart: the module keeps hold of no other's file.
#[test]
fn a_restart_loads_a_new_mod_fcgid() {
    side_by_side(Mpm::ALL, |mpm| {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("mod_fcgid.so");
        let put = || {
            let new = folder.path().join("new");
            fs::copy(modules_dir().join("mod_fcgid.so"), &new).unwrap();
            fs::rename(new, &file).unwrap();
        };
        put();
        let load = format!(
            "LoadModule fcgid_module {}\nFcgidIPCDir ${{ROOT}}/run\nFcgidProcessTableFile ${{ROOT}}/run/fcgid_shm",
            file.display()
        );
        let httpd = Httpd::builder(mpm).generations(4).config(&load).config("FinishRequest On").start();
        // Old children that have not ended yet when they are told to.
        may_crash(&httpd);
        for signal in [Signal::USR1, Signal::HUP] {
            put();
            restart(&httpd, signal);
            let maps = fs::read_to_string(format!("/proc/{}/maps", httpd.id())).unwrap();
            let files: Vec<_> = maps.lines().filter(|line| line.contains("mod_fcgid")).collect();
            assert!(!files.is_empty() && files.iter().all(|line| !line.contains("deleted")), "{files:#?}");
        }
        httpd.stop();
    });
}

/// `graceful-stop` waits for the work, and no longer than `GracefulShutdownTimeout`.
#[test]
fn a_graceful_stop_waits() {
    for mpm in Mpm::ALL {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).config("FinishRequest On").start();
        let background = released(&httpd, Protocol::Http1, "app.lua");
        httpd.signal(Signal::WINCH);
        httpd.wait_for_log("caught SIGWINCH, shutting down gracefully");
        wait_for("nobody to listen any more", || TcpStream::connect(httpd.address()).is_err().then_some(()));
        assert!(is_running(&httpd) && !background.is_done());
        ran_to_its_end(&background);
        wait_for("the server to end", || (!is_running(&httpd)).then_some(()));
        assert_eq!(lines(&httpd, &background), 1, "logged once");
        httpd.stop();
    }
}

#[test]
fn a_graceful_stop_does_not_wait_for_ever() {
    for mpm in Mpm::ALL {
        let config = "FinishRequest On\nGracefulShutdownTimeout 1";
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).config(config).start();
        httpd.allow_log(KILLED);
        let background = released(&httpd, Protocol::Http1, "app.lua");
        httpd.signal(Signal::WINCH);
        wait_for("the server to end", || (!is_running(&httpd)).then_some(()));
        assert!(!background.is_done());
        // It was logged when the client was released, though its end never came.
        assert_eq!(lines(&httpd, &background), 1, "logged once");
        httpd.stop();
    }
}

/// A child that has had its share of connections ends when the work has ended.
#[test]
fn a_child_that_has_had_its_share() {
    for mpm in Mpm::ALL {
        let config = "FinishRequest On\nMaxConnectionsPerChild 3";
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).workers(16).generations(16).config(config).start();
        // A child of event that has had its last connection before it listens to its parent stays until the server ends, without the module as well.
        all_threads_sleep(&httpd);
        httpd.allow_log("AH0004[5-7]: ");
        let works: Vec<Background> = (0..5).map(|_| released(&httpd, Protocol::Http1, "app.lua")).collect();
        let mut seen = children(httpd.id());
        let before = seen.len();
        wait_for("children to have had their share", || {
            let _ = page_if_answered(&httpd);
            seen.extend(children(httpd.id()));
            (seen.len() >= before + 3).then_some(())
        });
        for background in &works {
            assert!(!background.is_done());
            ran_to_its_end(background);
            assert_eq!(lines(&httpd, background), 1, "logged once");
        }
        httpd.stop();
    }
}

/// A child that the MPM does not need any more ends when the work has ended.
#[test]
fn a_child_that_is_not_needed() {
    for mpm in [Mpm::Event, Mpm::Worker] {
        let config = "FinishRequest On\nThreadsPerChild 4\nServerLimit 8\nMaxRequestWorkers 16\nStartServers 4\n\
                      MinSpareThreads 1\nMaxSpareThreads 5";
        let config = format!("{config}\n<Location /server-status>\nSetHandler server-status\n</Location>");
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).modules(&["status"]).config(&config).start();
        let works: Vec<Background> = (0..6).map(|_| released(&httpd, Protocol::Http1, "app.lua")).collect();
        let busy: HashSet<u32> = finishers(&httpd.log());
        // The MPM ends one each second until no more are spare than it wants; one with work in it stays until that ends: under
        // event it is shown as finishing gracefully, under worker its other threads have ended.
        wait_for("the MPM to have told some child to end", || {
            // Looking keeps a thread busy, too.
            thread::sleep(Duration::from_millis(300));
            let connection = httpd.connect();
            connection.get("/server-status?auto", &[("Connection", "close")]);
            let status = String::from_utf8(connection.response().body).unwrap();
            let scoreboard = status.lines().find_map(|line| line.strip_prefix("Scoreboard: ")).unwrap().to_owned();
            (scoreboard.contains(['G', '.']) || children(httpd.id()).len() < 4).then_some(())
        });
        assert!(works.iter().all(|background| !background.is_done()));
        assert!(busy.is_subset(&children(httpd.id())), "a child with work in it has ended");
        for background in &works {
            ran_to_its_end(background);
        }
        wait_for("the end of all work", || {
            (httpd.log().matches("the background work has ended").count() == works.len()).then_some(())
        });
        assert!(works.iter().all(|background| lines(&httpd, background) == 1), "logged once");
        httpd.stop();
    }
}

/// A child of prefork is told to stop while it asks for memory all the time: it ends at once, though the module has a
/// thread in it, for a client that still sends its request.
#[test]
fn a_busy_prefork_child_stops_at_once() {
    const CHILDREN: usize = 12;
    let httpd = Httpd::builder(Mpm::Prefork).handler(Handler::Lua).workers(CHILDREN).config("FinishRequest On").start();
    httpd.install(
        "busy.lua",
        "function handle(r)\n\
           r.headers_out['X-Finish-Request'] = 'length=2'\n\
           r:write('ok')\n\
           r:flush()\n\
           local kept = {}\n\
           for i = 1, 1e12 do kept[i % 100] = string.rep('x', 2000 + i % 3000) end\n\
         end\n",
    );
    let sending = || {
        let client = httpd.connect();
        client.send("POST /busy.lua HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\nhalf");
        assert_eq!(client.response().body, b"ok");
        assert_eq!(client.end().kind, EndKind::Fin);
        client
    };
    let clients: Vec<_> = (0..CHILDREN).map(|_| sending()).collect();
    httpd.signal(Signal::TERM);
    wait_for("the server to end", || (!is_running(&httpd)).then_some(()));
    drop(clients);
    // The log would say so, had httpd had to help.
    httpd.stop();
}

/// `stop` and `restart` cut work as they cut any request, within httpd's own time.
#[test]
fn a_stop_cuts_work() {
    let cases = Mpm::ALL.into_iter().flat_map(|mpm| [(mpm, Signal::TERM), (mpm, Signal::HUP)]);
    side_by_side(cases, |(mpm, signal)| {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).config("FinishRequest On").start();
        may_crash(&httpd);
        let background = released(&httpd, Protocol::Http1, "app.lua");
        let before = children(httpd.id());
        httpd.signal(signal);
        wait_for("the children to end", || children(httpd.id()).is_disjoint(&before).then_some(()));
        assert!(!background.is_done());
        if signal == Signal::HUP {
            let response = wait_for("an answer of the new generation", || page_if_answered(&httpd));
            assert_eq!(response, b"plain\n");
        }
        // It was logged when the client was released, though its end never came.
        assert_eq!(lines(&httpd, &background), 1, "logged once");
        httpd.stop();
    });
}

/// Twenty restarts under load, with connections that are closed and such that are kept. With graceful ones each response
/// is whole, and each work runs to its end; others may cut both.
fn twenty_restarts_under_load(mpm: Mpm, signal: Signal) {
    const RESTARTS: usize = 20;
    const CLIENTS: usize = 4;
    let keep = "<Location /app.lua>\nFinishRequestConnection Keep\n</Location>\nLogLevel notice";
    let config = format!("FinishRequest On\n{keep}");
    let httpd = Httpd::builder(mpm).handler(Handler::Lua).workers(32).generations(16).config(&config).start();
    if signal == Signal::HUP {
        may_crash(&httpd);
    }
    httpd.install("close.lua", &fs::read_to_string(httpd.root().join("www/app.lua")).unwrap());
    let stop = AtomicBool::new(false);
    let served: Vec<usize> = thread::scope(|scope| {
        let clients: Vec<_> = (0..CLIENTS)
            .map(|number| {
                let page = if number % 2 == 0 { "app.lua" } else { "close.lua" };
                let (httpd, stop) = (&httpd, &stop);
                scope.spawn(move || {
                    let mut served = 0;
                    let mut connection = httpd.connect();
                    while !stop.load(Ordering::Relaxed) {
                        served += usize::from(one_request(httpd, &mut connection, page, signal));
                    }
                    served
                })
            })
            .collect();
        for _ in 0..RESTARTS {
            restart(&httpd, signal);
            // Some requests in between.
            for _ in 0..5 {
                wait_for("an answer", || page_if_answered(&httpd));
            }
        }
        stop.store(true, Ordering::Relaxed);
        clients.into_iter().map(|client| client.join().unwrap()).collect()
    });
    assert!(served.iter().all(|&served| served > RESTARTS / 4), "{served:?}");
    httpd.stop();
}

macro_rules! under_load {
    ($($name:ident: $mpm:ident, $signal:ident;)*) => {
        $(
            #[test]
            fn $name() {
                twenty_restarts_under_load(Mpm::$mpm, Signal::$signal);
            }
        )*
    };
}

under_load! {
    graceful_under_load_on_event: Event, USR1;
    graceful_under_load_on_worker: Worker, USR1;
    graceful_under_load_on_prefork: Prefork, USR1;
    restart_under_load_on_event: Event, HUP;
    restart_under_load_on_worker: Worker, HUP;
    restart_under_load_on_prefork: Prefork, HUP;
}

/// Has a new generation of children serve; with SIGUSR1 the old ones finish what they do, with SIGHUP they are ended.
pub fn restart(httpd: &Httpd, signal: Signal) {
    let running = || httpd.log().matches("resuming normal operations").count();
    let before = running();
    httpd.signal(signal);
    wait_for("the restart", || (running() > before).then_some(()));
}

/// One request with its work, on this connection if it is still there, else on a new one. False where the server had closed
/// the connection, which it may do while nothing is under way.
fn one_request(httpd: &Httpd, connection: &mut Connection, page: &str, signal: Signal) -> bool {
    let graceful = signal == Signal::USR1;
    let background = httpd.background();
    background.open_gate();
    let request = format!("GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n", path(&background, page, "mark=on"));
    let answered = connection.try_send(request).is_ok() && {
        let response = connection.response_or_end();
        if response.is_err() && graceful {
            assert_eq!(connection.rest(), b"", "a response was cut");
            assert!(!background.has_begun(), "a request was worked on, and its client got nothing");
        }
        match response {
            Ok(response) => {
                assert_body(&response, &body(4096));
                if graceful {
                    assert_eq!(background.wait_for_done().errors, "");
                }
                let close = response.header("Connection").is_some_and(|value| value.contains("close"));
                if close {
                    *connection = httpd.connect();
                }
                true
            }
            Err(_) => false,
        }
    };
    if !answered {
        *connection = httpd.connect();
    }
    answered
}

/// Announces what a restart may bring that is not graceful: children that are ended in the middle of their work may crash, and
/// the parent has to help, without the module too. prefork's are ended by a signal's handler, and the C library may say that
/// memory was being taken when that gave all back.
pub fn may_crash(httpd: &Httpd) {
    httpd.allow_log("exit signal (Segmentation fault|Abort|Bus error)|mpm_(event|worker|prefork):error");
    httpd.allow_log(
        r"^(corrupted|double free|malloc|calloc|realloc|free|munmap_chunk|unaligned|invalid|Fatal glibc error)\b",
    );
    // The same of the dynamic linker's list.
    httpd.allow_log("^Inconsistency detected by ld.so: dl-fini");
    httpd.allow_log(KILLED);
}

/// Background work whose client has been released.
fn released(httpd: &Httpd, protocol: Protocol, page: &str) -> Background {
    let background = httpd.background();
    let response = Client::connect(httpd, protocol).get(&path(&background, page, "mark=on"), &[]).released();
    assert_body(&response, &body(4096));
    background.wait_for_begin();
    background
}

/// The body of a static page, if the server gives it soon: while it restarts, a connection may be closed, or wait for a child
/// that is about to end.
pub fn page_if_answered(httpd: &Httpd) -> Option<Vec<u8>> {
    fs::write(httpd.root().join("www/plain.txt"), "plain\n").unwrap();
    let mut socket = TcpStream::connect(httpd.address()).ok()?;
    socket.set_read_timeout(Some(Duration::from_secs(2))).unwrap();
    socket.write_all(b"GET /plain.txt HTTP/1.0\r\nHost: localhost\r\n\r\n").ok()?;
    let mut response = Vec::new();
    socket.read_to_end(&mut response).ok()?;
    let head = response.windows(4).position(|window| window == b"\r\n\r\n")?;
    response.starts_with(b"HTTP/1.1 200 ").then(|| response.split_off(head + 4))
}

/// How many lines of the access log are about this work.
fn lines(httpd: &Httpd, background: &Background) -> usize {
    let id = format!("id={}&", background.id());
    httpd.access_log().iter().filter(|line| line.contains(&id)).count()
}

/// The pids of children in which requests were finished.
pub fn finishers(log: &str) -> HashSet<u32> {
    log.lines()
        .filter(|line| line.contains("finished early"))
        .filter_map(|line| line.split_once("[pid ")?.1.split(':').next()?.parse().ok())
        .collect()
}

pub fn is_running(httpd: &Httpd) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", httpd.id())).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, rest)| !rest.trim_start().starts_with('Z'))
}

/// The inodes of the sockets at which the server waits for clients. Children keep them over a graceful restart; one that has closed
/// them ends with what it does.
pub fn listening(httpd: &Httpd) -> HashSet<u64> {
    let addresses = [httpd.address(), httpd.tls_address()];
    let sockets = tcp_sockets(addresses.map(|address| address.port())).into_iter();
    sockets.filter(|socket| socket.listens && socket.is_of(&addresses)).map(|socket| socket.inode).collect()
}

/// The children of a process.
pub fn children(process: u32) -> HashSet<u32> {
    let text = fs::read_to_string(format!("/proc/{process}/task/{process}/children")).unwrap_or_default();
    text.split_whitespace().filter_map(|child| child.parse().ok()).collect()
}

/// Waits until the threads of the server's children have nothing to do.
#[track_caller]
pub fn all_threads_sleep(httpd: &Httpd) {
    let sleeps = |task: fs::DirEntry| {
        let line = fs::read_to_string(task.path().join("stat")).unwrap_or_default();
        // `TID (NAME) STATE …`; nothing of a thread that has gone.
        line.rsplit(") ").next().is_none_or(|rest| rest.starts_with('S') || rest.is_empty())
    };
    wait_for("all threads to be asleep", || {
        let children = children(httpd.id());
        let mut tasks =
            children.iter().flat_map(|child| fs::read_dir(format!("/proc/{child}/task"))).flatten().flatten();
        (!children.is_empty() && tasks.all(sleeps)).then_some(())
    });
}
