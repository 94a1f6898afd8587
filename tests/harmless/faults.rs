//! What breaks stays small: whoever dies, and whatever the kernel refuses, the other requests of the server go on, clients
//! get all of their responses, and the log says what happened.

use std::collections::HashSet;
use std::fs;
use support::http1::{Connection, EndKind};
use support::{
    Background, Builder, Client, Handler, Httpd, Limit, Mpm, Protocol, body, kill, limit, tcp_sockets, wait_for,
};

use crate::administrator::restarts::{all_threads_sleep, children};
use crate::administrator::status::{counts, wait_for_running, with_status};
use crate::judge::{Application, BYTES, assert_body, early, is_said_seldom, path, ran_to_its_end, side_by_side};

/// A marked response whose client has been let go, and whose work waits at its gate.
#[track_caller]
fn finished(httpd: &Httpd, protocol: Protocol, page: &str) -> Background {
    let background = httpd.background();
    let response = Client::connect(httpd, protocol).get(&path(&background, page, "mark=on"), &[]).released();
    assert_body(&response, &body(BYTES));
    background.wait_for_begin();
    assert!(!background.is_done());
    background
}

/// How many lines of the access log are about this work.
fn lines(httpd: &Httpd, background: &Background) -> usize {
    let id = format!("id={}&", background.id());
    httpd.access_log().iter().filter(|line| line.contains(&id)).count()
}

/// How often the error log says that some work has ended.
fn ends_of_work(httpd: &Httpd) -> usize {
    httpd.log().matches("the background work has ended").count()
}

/// The number that an application has left in the gates' folder.
fn pid(httpd: &Httpd, background: &Background) -> u32 {
    let file = httpd.root().join("gates").join(format!("{}.pid", background.id()));
    wait_for("the application to say who it is", || fs::read_to_string(&file).ok()?.trim().parse().ok())
}

/// Whether the process runs, and is not just waiting for its parent to look.
pub fn exists(process: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).unwrap_or_default();
    stat.rsplit_once(')').is_some_and(|(_, state)| !state.trim_start().starts_with('Z'))
}

mod a_child {
    use super::*;

    on_every_mpm!(is_killed);

    /// Its own requests end with it, and are in the access log all the same; the work of other processes goes on, and the
    /// parent starts another.
    fn is_killed(mpm: Mpm) {
        let config = match mpm {
            Mpm::Prefork => "ServerLimit 12\nMaxRequestWorkers 12\nStartServers 12\nMinSpareServers 12",
            _ => "ThreadsPerChild 2\nServerLimit 8\nStartServers 8\nMaxRequestWorkers 16\nMinSpareThreads 16",
        };
        let httpd = with_status(Httpd::builder(mpm).handler(Handler::Lua)).config(config).start();
        httpd.may_be_full();
        let works: Vec<_> = (0..6).map(|_| finished(&httpd, Protocol::Http1, "app.lua")).collect();
        let rows = crate::administrator::status::rows(&httpd);
        let owner = |work: &Background| {
            let row = rows.iter().find(|row| row[4].contains(work.id())).expect("a row for each");
            row[0].parse::<u32>().unwrap()
        };
        let victim = owner(&works[0]);
        let (gone, left): (Vec<_>, Vec<_>) = works.iter().partition(|work| owner(work) == victim);
        assert!(!left.is_empty(), "they are in several processes");
        if mpm == Mpm::Prefork {
            assert_eq!(gone.len(), 1, "each is in a process of its own");
        }
        kill(victim);

        // httpd itself has no word for SIGKILL.
        let count = gone.len();
        let said = httpd.wait_for_log(&format!("child process {victim} has ended"));
        assert!(said.ends_with(&format!(" and the background work of {count} requests with it")), "{said}");
        wait_for_running(&httpd, left.len() as u64);
        early(&httpd, Protocol::Http1, "app.lua", "mark=on", BYTES);
        let ended = ends_of_work(&httpd);
        left.iter().for_each(|work| _ = ran_to_its_end(work));
        wait_for("the end of all work in the log", || (ends_of_work(&httpd) >= ended + left.len()).then_some(()));
        assert!(works.iter().all(|work| lines(&httpd, work) == 1), "each is logged once");
        assert!(gone.iter().all(|work| !work.is_done()));
        wait_for("another child in its place", || {
            (crate::administrator::status::page(&httpd, "?auto").lines().any(|line| {
                let idle = line.strip_prefix("IdleWorkers: ").and_then(|count| count.parse::<usize>().ok());
                idle.is_some_and(|idle| idle >= if mpm == Mpm::Prefork { 11 } else { 15 })
            }))
            .then_some(())
        });
        httpd.stop();
    }
}

mod the_disk {
    use super::*;

    on_every_handler_and_mpm!(is_full);

    /// Neither log can be written: nobody notices but who reads them.
    fn is_full(handler: Handler, mpm: Mpm) {
        for buffered in ["Off", "On"] {
            let logs = "ErrorLog /dev/full\nCustomLog /dev/full \"%h %r\"\nTransferLog /dev/full";
            let httpd = Httpd::builder(mpm)
                .handler(handler)
                .config(&format!(
                    "FinishRequest On\nBufferedLogs {buffered}\n\
                     <VirtualHost 127.0.0.1:${{PORT}}>\n{logs}\n</VirtualHost>"
                ))
                .start();
            // Where a program's words go that are not about a request.
            httpd.allow_log("(before|behind) the gate|No space left on device");
            let page = SPEAKS.install(&httpd, handler, "speaks");
            for _ in 0..2 {
                let work = httpd.background();
                let response = Client::connect(&httpd, Protocol::Http1).get(&work.query(&page), &[]).released();
                assert_body(&response, &body(BYTES));
                work.wait_for_begin();
                ran_to_its_end(&work);
            }
            early(&httpd, Protocol::Http1, handler.page(), "mark=on", BYTES);
            httpd.stop();
        }
    }

    const SPEAKS: Application = Application {
        php: r#"
            answer();
            error_log('before the gate');
            background($_GET['id']);
            error_log('behind the gate');
        "#,
        sh: r#"
            answer
            echo "before the gate" >&2
            background "$id" 200
            echo "behind the gate" >&2
        "#,
        lua: r#"
            background.answer(r)
            r:err("before the gate")
            background.run(r, query.id, 200)
            r:err("behind the gate")
            return apache2.OK
        "#,
    };
}

mod a_program {
    use super::*;

    #[test]
    fn of_mod_fcgid_is_killed() {
        for mpm in Mpm::ALL {
            is_killed(Handler::ModFcgid, mpm);
        }
    }

    #[test]
    fn of_mod_cgi_is_killed() {
        for mpm in Mpm::ALL {
            is_killed(Handler::Cgi, mpm);
        }
    }

    #[test]
    fn of_php_fpm_is_killed() {
        for mpm in Mpm::ALL {
            is_killed(Handler::PhpFpm, mpm);
        }
    }

    /// In the background, when its client has long been let go: its request ends, and the next one is served.
    fn is_killed(handler: Handler, mpm: Mpm) {
        let httpd = with_status(Httpd::builder(mpm).handler(handler)).start();
        httpd.allow_log(r"WARNING: \[pool www\] child \d+ exited on signal 9");
        httpd.allow_log("mod_fcgid: error reading data");
        // What a script has just started to look at the time.
        httpd.allow_log("write error: Broken pipe");
        httpd.allow_log("fcgid:warn.*mod_fcgid: ap_pass_brigade failed");
        httpd.allow_log("proxy_fcgi:error.*(AH01067|AH01075|AH01068)");
        let page = SAYS_WHO_IT_IS.install(&httpd, handler, "who");
        for (count, &protocol) in mpm.protocols().iter().enumerate() {
            let other = finished(&httpd, protocol, handler.page());
            let work = finished(&httpd, protocol, &page);
            assert_eq!(counts(&httpd)["Running"], 2);
            kill(pid(&httpd, &work));
            wait_for_running(&httpd, 1);
            assert!(!work.is_done() && !other.is_done());
            assert_eq!(lines(&httpd, &work), 1);
            wait_for("the end of the work in the log", || (ends_of_work(&httpd) > 3 * count).then_some(()));
            early(&httpd, protocol, handler.page(), "mark=on", BYTES);
            ran_to_its_end(&other);
            wait_for_running(&httpd, 0);
            wait_for("all ends in the log", || (ends_of_work(&httpd) == 3 * (count + 1)).then_some(()));
        }
        httpd.stop();
    }

    const SAYS_WHO_IT_IS: Application = Application {
        php: r#"
            answer();
            file_put_contents("@GATES@/{$_GET['id']}.pid", getmypid());
            background($_GET['id']);
        "#,
        sh: r#"
            answer
            echo $$ >"@GATES@/$id.pid"
            background "$id" 200
        "#,
        lua: "",
    };

    /// A program leaves a child behind that lives on: the request ends, and nobody holds the client's connection.
    #[test]
    fn leaves_a_daemon_behind() {
        for (handler, mpm) in [
            (Handler::ModPhp, Mpm::Prefork),
            (Handler::ModFcgid, Mpm::Event),
            (Handler::PhpFpm, Mpm::Worker),
            (Handler::Cgi, Mpm::Event),
            (Handler::Cgi, Mpm::Prefork),
        ] {
            let httpd = with_status(Httpd::builder(mpm).handler(handler)).start();
            httpd.install("daemon.sh", DAEMON);
            let page = STARTS_A_DAEMON.install(&httpd, handler, "starts");
            leaves(&httpd, &page, 0);
            httpd.stop();
        }
    }

    /// The same without a word to the shell about the daemon's output: it has its parent's, which is the script's. So the
    /// request goes on until the daemon ends, and then its place is free.
    #[test]
    fn leaves_a_daemon_behind_that_holds_its_output() {
        for mpm in Mpm::ALL {
            let httpd = with_status(Httpd::builder(mpm).handler(Handler::Cgi)).start();
            httpd.install(
                "holds.cgi",
                "#!/bin/sh\n. ./background.sh\nquery id ''\n\
                 printf 'Content-Type: text/plain\\r\\nContent-Length: 4096\\r\\nX-Finish-Request: on\\r\\n\\r\\n'\n\
                 body 4096\n\
                 setsid sh -c '\n\
                   echo $$ >@GATES@/'$id'.pid\n\
                   : >@GATES@/'$id'.began\n\
                   while [ ! -e @GATES@/'$id'.gate ]; do sleep 0.05; done' &\n\
                 exit 0\n",
            );
            leaves(&httpd, "holds.cgi", 1);
            httpd.stop();
        }
    }

    /// PHP forks by itself: the child has copies of all that its parent has.
    #[test]
    fn forks() {
        for mpm in Mpm::ALL {
            let httpd = with_status(Httpd::builder(mpm).handler(Handler::ModFcgid)).start();
            httpd.install("daemon.sh", DAEMON);
            httpd.install(
                "forks.php",
                "<?php require __DIR__ . '/background.php';
                answer();
                if (pcntl_fork() === 0) {
                    pcntl_exec('./daemon.sh', [$_GET['id']]);
                }
                while (!file_exists(\"@GATES@/{$_GET['id']}.released\")) {
                    usleep(10_000);
                    clearstatcache();
                }",
            );
            leaves(&httpd, "forks.php", 0);
            httpd.stop();
        }
    }

    /// Requests the page, whose program leaves a daemon behind, while which lives so many requests run on.
    fn leaves(httpd: &Httpd, page: &str, running: u64) {
        let work = httpd.background();
        let client = Client::connect(httpd, Protocol::Http1);
        let response = client.get(&work.query(page), &[]).released();
        assert_body(&response, &body(BYTES));
        // Not before: a program that ends together with its response is not finished early.
        fs::write(httpd.root().join("gates").join(format!("{}.released", work.id())), "").unwrap();
        work.wait_for_begin();
        let daemon = pid(httpd, &work);
        drop(client);
        wait_for_running(httpd, running);
        assert!(exists(daemon), "the daemon lives on");
        wait_for("nobody to hold a connection", || connections(httpd).is_empty().then_some(()));
        work.open_gate();
        wait_for("the daemon to end", || (!exists(daemon)).then_some(()));
        wait_for_running(httpd, 0);
    }

    /// Connections to the server's port that some process holds at the server's side, the test's own aside.
    fn connections(httpd: &Httpd) -> HashSet<u64> {
        let address = httpd.address();
        let sockets = tcp_sockets([address.port()]).into_iter();
        let held = sockets.filter(|socket| socket.is_of(&[address]) && !socket.listens && socket.inode != 0);
        held.map(|socket| socket.inode).collect()
    }

    const STARTS_A_DAEMON: Application = Application {
        php: r#"
            answer();
            exec("./daemon.sh {$_GET['id']} >/dev/null 2>&1 &");
            while (!file_exists("@GATES@/{$_GET['id']}.released")) {
                usleep(10_000);
                clearstatcache();
            }
        "#,
        sh: r#"
            answer
            setsid ./daemon.sh "$id" >/dev/null 2>&1 </dev/null &
            while [ ! -e "@GATES@/$id.released" ]; do
                sleep 0.05
            done
        "#,
        lua: "",
    };

    const DAEMON: &str = "#!/bin/sh\necho $$ >@GATES@/$1.pid\n: >@GATES@/$1.began\n\
                              while [ ! -e @GATES@/$1.gate ]; do sleep 0.05; done\n";
}

/// What the kernel does not give, at the very end of a response or all the time.
mod out_of {
    use super::*;

    const OPEN_FILES: &str = r"finish_request:warn.*Too many open files.*raise .* \(ulimit -n, LimitNOFILE\)";
    const THREADS: &str = r"finish_request:warn.*has no thread.*raise .* \(ulimit -u, LimitNPROC, TasksMax\)";

    /// Waits for its gate `hold` before the last of its body, and for its gate `id` behind it.
    const HOLDS: &str = "#!/bin/sh\n. ./background.sh\nquery id ''\nquery hold ''\nquery bytes 4096\n\
        printf 'Content-Type: text/plain\\r\\nContent-Length: %s\\r\\nX-Finish-Request: on\\r\\n\\r\\n' $((bytes + 4))\n\
        body \"$bytes\"\n\
        : >\"@GATES@/$hold.began\"\n\
        while [ ! -e \"@GATES@/$hold.gate\" ]; do sleep 0.05; done\n\
        printf last\n\
        background \"$id\" 200\n";

    /// The same, with all of its body behind its first gate: what the kernel refuses, it refuses before anything waits for the client.
    const HOLDS_ALL: &str = "#!/bin/sh\n. ./background.sh\nquery id ''\nquery hold ''\nquery bytes 4096\n\
        printf 'Content-Type: text/plain\\r\\nContent-Length: %s\\r\\nX-Finish-Request: on\\r\\n\\r\\n' $((bytes + 4))\n\
        : >\"@GATES@/$hold.began\"\n\
        while [ ! -e \"@GATES@/$hold.gate\" ]; do sleep 0.05; done\n\
        body \"$bytes\"\n\
        printf last\n\
        background \"$id\" 200\n";

    fn server(mpm: Mpm) -> Builder {
        with_status(Httpd::builder(mpm).handler(Handler::Cgi))
            .config("CustomLog \"${ROOT}/pids.log\" \"%P %q \"\n<Directory />\nAllowOverride None\n</Directory>")
    }

    /// The process that serves this client, whose connection it keeps.
    fn process_of(httpd: &Httpd, client: &Client) -> u32 {
        let name = httpd.background();
        assert_eq!(client.get(&name.query("background.sh"), &[]).response().status, 200);
        wait_for("the process in the log", || {
            let log = fs::read_to_string(httpd.root().join("pids.log")).unwrap();
            let line = log.lines().find(|line| line.contains(&format!("id={} ", name.id())))?;
            line.split(' ').next()?.parse().ok()
        })
    }

    /// Sends the client's request for [`HOLDS`]; when all but the last bytes of the response have been written, its process
    /// gets no more of `what`, and the response ends.
    fn refuse(httpd: &Httpd, client: &Client, what: Limit, bytes: usize, behind: &[u8]) -> (Background, u32) {
        let (hold, work) = (httpd.background(), httpd.background());
        let process = process_of(httpd, client);
        let target = path(&work, "holds.cgi", &format!("hold={}&bytes={bytes}", hold.id()));
        let connection = client.http1().expect("a stream needs nothing of the kernel at its end");
        if bytes > BYTES {
            // A slow client.
            connection.pause();
        }
        let head = format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        connection.send([head.as_bytes(), behind].concat());
        hold.wait_for_begin();
        // Numbers below 3 are taken, and the server's user has at least this process.
        limit(process, what, Some(if what == Limit::Files { 3 } else { 1 }));
        hold.open_gate();
        (work, process)
    }

    /// The response of a client whose process was refused something, up to the connection's end.
    fn assert_whole(connection: &Connection, bytes: usize) {
        assert_body(&connection.response(), &[body(bytes), b"last".to_vec()].concat());
        assert_eq!((connection.end().kind, connection.rest().len()), (EndKind::Fin, 0));
    }

    fn warnings(httpd: &Httpd) -> usize {
        httpd.log().matches("finish_request:warn").count()
    }

    /// The client gets its response at once, and its process serves others. Then all is as ever. Nothing is asked of the kernel for a client whose
    /// connection is closed.
    fn at_the_end_of_a_response(mpm: Mpm, what: Limit) {
        for connection in ["Close", "Keep"] {
            let httpd = server(mpm).config(&format!("FinishRequestConnection {connection}")).start();
            httpd.install("holds.cgi", HOLDS);
            for protocol in [Protocol::Http1Tls, Protocol::Http1] {
                if connection == "Keep" && protocol == Protocol::Http1 {
                    // It does not end.
                    continue;
                }
                let client = Client::connect(&httpd, protocol);
                let other = Client::connect(&httpd, Protocol::Http1);
                process_of(&httpd, &other);
                let (work, process) = refuse(&httpd, &client, what, BYTES, b"");
                assert_whole(client.http1().unwrap(), BYTES);
                work.wait_for_begin();
                assert!(!work.is_done());
                assert_eq!(other.get("/server-status?auto", &[]).response().status, 200);
                limit(process, what, None);
                early(&httpd, Protocol::Http1Tls, "app.cgi", "mark=on", BYTES);
                ran_to_its_end(&work);
                drop((client, other));
                wait_for_running(&httpd, 0);
            }
            assert_eq!(warnings(&httpd), 0);
            httpd.stop();
        }
    }

    /// Nothing is asked of the kernel for a connection that is kept, where the child has its thread. The next request waits where there is no descriptor
    /// for handing it over.
    #[test]
    fn for_a_connection_that_is_watched() {
        for mpm in Mpm::ALL {
            for what in [Limit::Files, Limit::Processes] {
                let httpd = server(mpm)
                    .workers(16)
                    .config("FinishRequestConnection Keep\nLogLevel finish_request:debug")
                    .start();
                httpd.install("holds.cgi", HOLDS);
                let client = Client::connect(&httpd, Protocol::Http1);
                let first = httpd.background();
                assert_eq!(client.get(&path(&first, "app.cgi", "mark=on"), &[]).response().status, 200);
                ran_to_its_end(&first);
                // Its process has it again.
                httpd.wait_for_log("its connection goes on");
                let (work, process) = refuse(&httpd, &client, what, BYTES, b"");
                let connection = client.http1().unwrap();
                assert_body(&connection.response(), &[body(BYTES), b"last".to_vec()].concat());
                work.wait_for_begin();
                assert_eq!(warnings(&httpd), 0);
                connection.get("/", &[]);
                if what == Limit::Files {
                    const WAITS: &str = "the next request on a kept connection waits";
                    httpd.expect_log(&format!("finish_request:warn.*{WAITS}.*Too many open files.*raise"));
                    httpd.wait_for_log(WAITS);
                    limit(process, what, None);
                }
                connection.response();
                assert!(!work.is_done());
                limit(process, what, None);
                ran_to_its_end(&work);
                httpd.stop();
            }
        }
    }

    /// Where the child has no thread, and gets none, a kept connection is handed over at once.
    #[test]
    fn for_the_first_connection_that_would_be_watched() {
        for mpm in Mpm::ALL {
            let httpd = server(mpm).workers(16).config("FinishRequestConnection Keep").start();
            httpd.install("holds.cgi", HOLDS);
            // Root may have as many as it likes, but for the server's own user.
            if mpm != Mpm::Event {
                httpd.expect_log(THREADS);
            } else {
                httpd.allow_log(THREADS);
            }
            let client = Client::connect(&httpd, Protocol::Http1);
            let (work, process) = refuse(&httpd, &client, Limit::Processes, BYTES, b"");
            let connection = client.http1().unwrap();
            assert_body(&connection.response(), &[body(BYTES), b"last".to_vec()].concat());
            work.wait_for_begin();
            connection.get("/", &[]);
            connection.response();
            assert!(!work.is_done());
            limit(process, Limit::Processes, None);
            ran_to_its_end(&work);
            httpd.stop();
        }
    }

    #[test]
    fn descriptors() {
        for mpm in Mpm::ALL {
            at_the_end_of_a_response(mpm, Limit::Files);
        }
    }

    #[test]
    fn threads() {
        for mpm in Mpm::ALL {
            at_the_end_of_a_response(mpm, Limit::Processes);
        }
    }

    /// What waits in memory for a slow client is sent all the same.
    #[test]
    fn with_a_slow_client() {
        const LARGE: usize = 5_000_000;
        side_by_side(Mpm::ALL, |mpm| {
            for (what, warning) in [(Limit::Files, OPEN_FILES), (Limit::Processes, THREADS)] {
                let httpd = server(mpm).config("FinishRequestBuffer 10M").start();
                httpd.install("holds.cgi", HOLDS_ALL);
                httpd.expect_log(warning);
                let client = Client::connect(&httpd, Protocol::Http1);
                let connection = client.http1().unwrap();
                let (work, process) = refuse(&httpd, &client, what, LARGE, b"");
                // It says so, and then it waits.
                httpd.wait_for_log("finish_request:warn");
                connection.resume();
                assert_whole(connection, LARGE);
                limit(process, what, None);
                work.wait_for_begin();
                ran_to_its_end(&work);
                drop(client);
                wait_for_running(&httpd, 0);
                httpd.stop();
            }
        });
    }

    /// A client that reads slowly and sends more than is read: what is still in the kernel is not lost by a reset. Where httpd's thread would be
    /// spared its client, and cannot be, it waits.
    #[test]
    fn with_a_client_that_sends_on() {
        const LARGE: usize = 1_000_000;
        side_by_side(Mpm::ALL, |mpm| {
            for what in [Limit::Files, Limit::Processes] {
                let httpd = server(mpm).start();
                httpd.install("holds.cgi", HOLDS);
                if what == Limit::Processes && mpm != Mpm::Event {
                    httpd.expect_log(THREADS);
                }
                let client = Client::connect(&httpd, Protocol::Http1);
                let connection = client.http1().unwrap();
                let (work, process) = refuse(&httpd, &client, what, LARGE, &b"S".repeat(1_000_000));
                // By now all is with the kernel.
                httpd.wait_for_log("finished early");
                work.wait_for_begin();
                ran_to_its_end(&work);
                httpd.wait_for_log("the background work has ended");
                connection.resume();
                assert_whole(connection, LARGE);
                limit(process, what, None);
                drop(client);
                wait_for_running(&httpd, 0);
                httpd.stop();
            }
        });
    }

    /// The process that accepts a kept connection has no descriptor for it: the client, which has all of its response, connects anew.
    #[test]
    fn for_a_kept_connection() {
        // No process comes later.
        let processes = "ServerLimit 3\nMaxRequestWorkers 3\nStartServers 3\nMinSpareServers 1\nMaxSpareServers 4";
        let httpd = server(Mpm::Prefork).config(processes).config("FinishRequestConnection Keep").start();
        httpd.install("holds.cgi", HOLDS);
        httpd.expect_log("finish_request:warn.*a kept connection is closed.*raise .* \\(ulimit -n, LimitNOFILE\\)");
        httpd.may_be_full();
        let client = Client::connect(&httpd, Protocol::Http1);
        let process = process_of(&httpd, &client);
        let others = wait_for("all processes", || {
            let children = children(httpd.id());
            (children.len() == 3).then(|| children.into_iter().filter(|child| *child != process).collect::<Vec<_>>())
        });
        let (hold, work) = (httpd.background(), httpd.background());
        client.get(&path(&work, "holds.cgi", &format!("hold={}", hold.id())), &[]);
        hold.wait_for_begin();
        // They wait for connections.
        all_threads_sleep(&httpd);
        others.iter().for_each(|&other| limit(other, Limit::Files, Some(with_one_free(other))));
        hold.open_gate();
        let connection = client.http1().unwrap();
        let response = connection.response();
        assert_body(&response, &[body(BYTES), b"last".to_vec()].concat());
        assert_eq!(response.header("Connection"), None);
        connection.get("/", &[]);
        connection.end();
        others.iter().for_each(|&other| limit(other, Limit::Files, None));
        work.wait_for_begin();
        early(&httpd, Protocol::Http1Tls, "app.cgi", "mark=on", BYTES);
        ran_to_its_end(&work);
        wait_for_running(&httpd, 0);
        httpd.stop();
    }

    /// The limit of open files under which a process can open one more.
    fn with_one_free(process: u32) -> u32 {
        let names = fs::read_dir(format!("/proc/{process}/fd")).unwrap();
        let open: HashSet<u32> =
            names.map(|name| name.unwrap().file_name().to_str().unwrap().parse().unwrap()).collect();
        let mut free = (0..).filter(|number| !open.contains(number));
        free.nth(1).unwrap()
    }

    #[test]
    fn descriptors_all_the_time_on_event() {
        descriptors_all_the_time(Mpm::Event);
    }

    #[test]
    fn descriptors_all_the_time_on_worker() {
        descriptors_all_the_time(Mpm::Worker);
    }

    /// More clients than the server has descriptors for: some are sent away, by httpd and its handlers; a marked response
    /// that has begun comes to its end; and afterwards all is well.
    fn descriptors_all_the_time(mpm: Mpm) {
        const CLIENTS: usize = 120;
        const FILES: u32 = 36;
        let processes = "ThreadsPerChild 16\nServerLimit 16\nStartServers 4\nMaxRequestWorkers 64\nMaxSpareThreads 80";
        let httpd = server(mpm).config(processes).config("FinishRequestMax none").start();
        httpd.expect_log("Too many open files");
        // A process that cannot accept ends, and another takes its place.
        httpd.allow_log("MaxRequestWorkers|scoreboard is full");
        // Handlers cannot do their work.
        httpd.allow_log("cgid:error");
        httpd.allow_log("core:(error|crit).*Too many open files");
        let children = wait_for("all children", || Some(workers(&httpd)).filter(|children| children.len() == 4));
        // With none left httpd itself ends.
        children[1..].iter().for_each(|child| limit(*child, Limit::Files, Some(FILES)));
        let works: Vec<_> = (0..CLIENTS).map(|_| httpd.background()).collect();
        let clients: Vec<_> = works.iter().map(|_| httpd.connect()).collect();
        for (connection, work) in clients.iter().zip(&works) {
            // What does not come here is seen below.
            let _ = connection.try_send(format!(
                "GET {} HTTP/1.1\r\nHost: localhost\r\n\r\n",
                path(work, "app.cgi", "mark=on&bytes=30000")
            ));
        }
        wait_for("some work", || works.iter().any(Background::has_begun).then_some(()));
        httpd.wait_for_log("Too many open files");
        // Those that wait for a descriptor get one when some work has ended.
        works.iter().for_each(Background::open_gate);
        let mut whole = 0;
        for (connection, work) in clients.iter().zip(&works) {
            match connection.response_or_end() {
                Ok(response) if response.status == 200 => {
                    assert_body(&response, &body(30_000));
                    assert_eq!(work.wait_for_done().errors, "");
                    whole += 1;
                }
                Ok(response) => assert!(response.status >= 500, "{}", response.status),
                Err(_) => assert_eq!(connection.rest(), b"", "a response was cut"),
            }
        }
        assert!(whole > 0);
        drop(clients);
        wait_for_running(&httpd, 0);
        early(&httpd, Protocol::Http1, "app.cgi", "mark=on", BYTES);
        if httpd.log().contains("finish_request:warn") {
            is_said_seldom(&httpd, "finish_request:warn");
        }
        httpd.stop();
    }

    /// The server's children that have threads: mod_cgid's daemon has one.
    fn workers(httpd: &Httpd) -> Vec<u32> {
        let id = httpd.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        let threads = |child: &u32| fs::read_dir(format!("/proc/{child}/task")).map_or(0, Iterator::count);
        children.split_whitespace().filter_map(|child| child.parse().ok()).filter(|child| threads(child) > 16).collect()
    }
}
