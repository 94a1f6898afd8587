//! What an application does after the end of its response: it reaches nobody, and nothing stops it.

use std::fs;
use std::time::{Duration, Instant};

use support::http1::EndKind;
use support::{Client, Handler, Httpd, Mpm, Protocol, Signal, body, kill, wait_for};

use crate::administrator::restarts::all_threads_sleep;
use crate::judge::{Application, assert_body, early, path, ran_to_its_end, side_by_side};

on_every_handler_and_mpm!(prints_ten_megabytes);

fn prints_ten_megabytes(handler: Handler, mpm: Mpm) {
    let httpd = Httpd::builder(mpm).handler(handler).config("FinishRequest On").start();
    for &protocol in mpm.protocols() {
        early(&httpd, protocol, handler.page(), "mark=on&after=10000000", 4096);
    }
    httpd.stop();
}

mod client_leaves {
    use super::*;

    on_every_handler_and_mpm!(and_the_work_goes_on);

    /// The client has all it wanted, and closes its connection; the application prints and flushes on.
    fn and_the_work_goes_on(handler: Handler, mpm: Mpm) {
        let httpd = Httpd::builder(mpm).handler(handler).config("FinishRequest On").start();
        let page = FLUSHES.install(&httpd, handler, "flushes");
        for &protocol in mpm.protocols() {
            let background = httpd.background();
            let client = Client::connect(&httpd, protocol);
            let response = client.get(&path(&background, &page, ""), &[]).released();
            assert_body(&response, &body(4096));
            assert!(!background.is_done());
            drop(client);
            ran_to_its_end(&background);
        }
        httpd.stop();
    }

    /// Prints and flushes before the gate and behind it. PHP does not ask to ignore that the client leaves.
    const FLUSHES: Application = Application {
        php: r#"
            answer();
            if (ini_get('ignore_user_abort')) {
                exit;
            }
            register_shutdown_function(function () {
                for ($i = 0; $i < 100; $i++) {
                    echo 'L';
                    flush();
                }
                if (connection_aborted()) {
                    error_log('the client is missed');
                }
            });
            for ($i = 0; $i < 100; $i++) {
                echo 'L';
                flush();
            }
            background($_GET['id']);
            for ($i = 0; $i < 100; $i++) {
                echo 'L';
                flush();
            }
        "#,
        sh: r#"
            answer
            i=0
            while [ $i -lt 100 ]; do
                echo L || exit 1
                i=$((i + 1))
            done
            background "$id" 200
            while [ $i -lt 200 ]; do
                echo L || exit 1
                i=$((i + 1))
            done
        "#,
        lua: r#"
            background.answer(r)
            for i = 1, 100 do
                r:write("L")
                r:flush()
            end
            background.run(r, query.id, 200)
            for i = 1, 100 do
                r:write("L")
                r:flush()
            end
            return apache2.OK
        "#,
    };
}

mod failure {
    use super::*;

    on_every_handler_and_mpm!(reaches_nobody);

    /// The application fails after the end, each in its worst way: no error page comes to the client.
    fn reaches_nobody(handler: Handler, mpm: Mpm) {
        let httpd = Httpd::builder(mpm)
            .handler(handler)
            .config("FinishRequest On\nErrorDocument 500 \"the page of an error\"")
            .start();
        for (name, complaint) in complaints(handler) {
            let page = FAILS.install(&httpd, handler, "fails");
            if let Some(complaint) = complaint {
                httpd.expect_log(complaint);
                // mod_fcgid makes a complaint of each line.
                httpd.allow_log("mod_fcgid: stderr: (Stack trace:|#0|  thrown in)");
            }
            for &protocol in mpm.protocols() {
                let background = httpd.background();
                let client = Client::connect(&httpd, protocol);
                let target = format!("{}&how={name}", path(&background, &page, ""));
                let response = client.get(&target, &[]).released();
                assert_eq!(response.status, 200);
                assert_body(&response, &body(4096));
                assert!(!background.is_done(), "the client had to wait for the background work");
                background.open_gate();
                background.wait_for_done();
                let Some(connection) = client.http1() else {
                    // The connection is as good as ever.
                    let response = client.get(&format!("/{}?mark=none", handler.page()), &[]).response();
                    assert_body(&response, &body(4096));
                    continue;
                };
                assert!(connection.rest().is_empty());
            }
        }
        // All threads and processes are there for others.
        early(&httpd, Protocol::Http1, handler.page(), "mark=on", 4096);
        httpd.stop();
    }

    /// How an application can fail, and what the log says then.
    fn complaints(handler: Handler) -> Vec<(&'static str, Option<&'static str>)> {
        match handler {
            Handler::Lua => vec![("error", Some("on purpose")), ("status", None)],
            Handler::Cgi => vec![("exit", None), ("kill", None)],
            _ => vec![("error", Some("Uncaught Error: on purpose")), ("exit", None)],
        }
    }

    const FAILS: Application = Application {
        php: r#"
            answer();
            background($_GET['id']);
            if ($_GET['how'] === 'error') {
                throw new Error('on purpose');
            }
            exit(3);
        "#,
        sh: r#"
            query how ''
            answer
            background "$id" 200
            if [ "$how" = kill ]; then
                leave
                kill -9 $$
            fi
            exit 3
        "#,
        lua: r#"
            background.answer(r)
            background.run(r, query.id, 200)
            if query.how == "error" then
                error("on purpose")
            end
            r.status = 500
            return 500
        "#,
    };
}

mod request_body {
    use super::*;

    on_every_handler_and_mpm!(read_after_the_end);

    /// The application answers before it reads what the client sent: it gets its bytes, or a plain end.
    fn read_after_the_end(handler: Handler, mpm: Mpm) {
        let httpd = Httpd::builder(mpm)
            .handler(handler)
            .config("FinishRequest On\n<IfModule fcgid_module>\nFcgidMaxRequestLen 2000000\n</IfModule>")
            .start();
        let page = READS_LATE.install(&httpd, handler, "reads");
        for size in [10, 20_000, 1_000_000] {
            for &protocol in mpm.protocols() {
                let background = httpd.background();
                let client = Client::connect(&httpd, protocol);
                let sent = body(size);
                let response = client.request("POST", &path(&background, &page, ""), &[], Some(&sent)).released();
                assert_body(&response, &body(4096));
                assert!(!background.is_done(), "the client had to wait for the background work");
                ran_to_its_end(&background);
                let report = httpd.root().join("gates").join(format!("{}.read", background.id()));
                let read = support::wait_for("what was read", || std::fs::read(&report).ok());
                let differs = || sent.iter().zip(&read).position(|(sent, read)| sent != read);
                assert!(sent.starts_with(&read), "{protocol:?}: {} bytes, others from {:?} on", read.len(), differs());
            }
        }
        httpd.stop();
    }

    /// php-fpm has answered before it was sent all of the body, and reads that afterwards. Told of the body's end too early, PHP
    /// would wait for the bytes that are missing until `Timeout`.
    ///
    /// PHP takes a part before it answers: mod_proxy_fcgi, which asks the client before it looks for an answer, waits for more by
    /// then. The rest comes in one segment, of which it passes two pieces of 8192 bytes on before it sees the answer.
    #[test]
    fn that_php_fpm_has_not_been_sent() {
        const BEFORE: usize = 16_384;
        const BEHIND: usize = 24_576;
        side_by_side(Mpm::ALL, |mpm| {
            let httpd = Httpd::builder(mpm)
                .handler(Handler::PhpFpm)
                .modules(&["filter", "deflate"])
                .config(
                    "FinishRequest On
                     AddOutputFilterByType DEFLATE text/plain
                     <If \"%{QUERY_STRING} =~ /keep/\">
                       FinishRequestConnection Keep
                     </If>",
                )
                .start();
            let page = READS_LATE.install(&httpd, Handler::PhpFpm, "reads");
            for query in ["mark=on", "mark=on&keep"] {
                let (background, connection) = (httpd.background(), httpd.connect());
                let file = |name| httpd.root().join("gates").join(format!("{}.{name}", background.id()));
                connection.send(format!(
                    "PUT {}&before={BEFORE}&after=0 HTTP/1.1\r\nHost: localhost\r\nAccept-Encoding: gzip\r\n\
                     Content-Length: {}\r\n\r\n",
                    path(&background, &page, query),
                    BEFORE + BEHIND
                ));
                connection.send("S".repeat(BEFORE));
                support::wait_for("the answer", || file("answered").exists().then_some(()));
                connection.send("S".repeat(BEHIND));
                let response = connection.response();
                assert_body(&response, &body(4096));
                assert_eq!(response.header("Content-Encoding"), None);
                if query.contains("keep") {
                    connection.get("/app.php?mark=none&length=100&bytes=100", &[]);
                    assert_body(&connection.response(), &body(100));
                } else {
                    assert_eq!((connection.end().kind, connection.rest().len()), (EndKind::Fin, 0));
                }
                assert!(!background.is_done(), "the client had to wait for the background work");
                let read = support::wait_for("what was read", || std::fs::read(file("read")).ok());
                assert_eq!(read.len(), BEFORE + BEHIND);
                ran_to_its_end(&background);
            }
            httpd.stop();
        });
    }

    /// Leaves the bytes that it got in a file.
    const READS_LATE: Application = Application {
        php: r#"
            if (isset($_GET['before'])) {
                stream_get_contents(fopen('php://input', 'r'), (int) $_GET['before']);
            }
            answer();
            touch("@GATES@/{$_GET['id']}.answered");
            $read = file_get_contents('php://input');
            file_put_contents("@GATES@/{$_GET['id']}.reading", $read);
            rename("@GATES@/{$_GET['id']}.reading", "@GATES@/{$_GET['id']}.read");
            background($_GET['id'], (int) ($_GET['after'] ?? 200));
        "#,
        sh: r#"
            answer
            cat >"@GATES@/$id.reading"
            mv "@GATES@/$id.reading" "@GATES@/$id.read"
            background "$id" 200
        "#,
        lua: r#"
            background.answer(r)
            local read = r:requestbody() or ""
            r:parsebody()
            local name = "@GATES@/" .. query.id
            local file = assert(io.open(name .. ".reading", "w"))
            file:write(read)
            file:close()
            os.rename(name .. ".reading", name .. ".read")
            background.run(r, query.id, 200)
            return apache2.OK
        "#,
    };
}

on_every_mpm!(of_a_script_by_the_old_media_type);

/// A CGI script that is one by `AddType` closes its output, and works on: httpd knows by then only the media type of what it has said.
fn of_a_script_by_the_old_media_type(mpm: Mpm) {
    for config in ["FinishRequestConnection Close", "FinishRequestConnection Keep", "FinishRequestMax 0"] {
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Cgi)
            .modules(&["mime"])
            .config(&format!(
                "FinishRequest On
                {config}
                TypesConfig /dev/null
                AddType application/x-httpd-cgi .script
                <FilesMatch \\.script$>
                  Options +ExecCGI
                </FilesMatch>"
            ))
            .start();
        httpd.install(
            "closes.script",
            "#!/bin/sh\n. ./background.sh\nquery id ''\nprepare \"$id\"\n\
             printf 'Content-Type: text/plain\\r\\nContent-Length: 5\\r\\nX-Finish-Request: on\\r\\n\\r\\nhello'\n\
             exec >/dev/null 2>&1\nbackground \"$id\" 0\n",
        );
        support::permit_program(&httpd.root().join("www/closes.script")).unwrap();
        for &protocol in mpm.protocols() {
            let background = httpd.background();
            let client = Client::connect(&httpd, protocol);
            let exchange = client.get(&path(&background, "closes.script", ""), &[]);
            let response = if config == "FinishRequestMax 0" {
                background.wait_for_begin();
                ran_to_its_end(&background);
                exchange.response()
            } else {
                let response = exchange.response();
                assert!(!background.is_done());
                ran_to_its_end(&background);
                response
            };
            assert_body(&response, b"hello");
        }
        httpd.stop();
    }
}

/// A process that a page leaves behind when it does not close it; says which. PHP would reap one that has ended by then.
const LEAVES: &str = "<?php
    $process = proc_open(['sh', '-c', 'while [ ! -e @GATES@/left.gate ]; do sleep 0.05; done'], [], $pipes);
    echo proc_get_status($process)['pid'];";

/// Closes its output, and works on.
const CLOSES: &str =
    "#!/bin/sh\n. ./background.sh\nquery id ''\nprepare \"$id\"\nanswer\nexec >/dev/null 2>&1\nbackground \"$id\" 0\n";

/// A page has left a process in the child that runs a CGI script then: it is not taken for that script, whether it has ended or not.
#[test]
fn of_a_script_beside_what_an_earlier_page_has_left() {
    side_by_side([true, false], |ends| {
        let builder = Httpd::builder(Mpm::Prefork).handler(Handler::ModPhp).handler(Handler::Cgi);
        // One child runs both.
        let httpd = builder.config("FinishRequest On\nServerLimit 1\nMaxRequestWorkers 1").start();
        httpd.may_be_full();
        httpd.install("leaves.php", LEAVES);
        let page = Client::connect(&httpd, Protocol::Http1).get("/leaves.php", &[]).response();
        let left = String::from_utf8_lossy(&page.body).parse().expect("a process");
        let has_ended = || fs::read_to_string(format!("/proc/{left}/stat")).expect("it is not reaped").contains(") Z ");
        if ends {
            fs::write(httpd.root().join("gates/left.gate"), "").unwrap();
            wait_for("what was left to end", || has_ended().then_some(()));
        }
        // The kernel counts hundredths of a second.
        let since = Instant::now();
        wait_for("it to be older than a request", || (since.elapsed() > Duration::from_millis(40)).then_some(()));
        closes_and_works_on(&httpd);
        closes_and_works_on(&httpd);
        assert_eq!(has_ended(), ends);
        if !ends {
            kill(left);
        }
        httpd.stop();
    });
}

/// Where `/proc` does not tell which children there are.
#[test]
fn of_a_script_without_proc() {
    if support::machine::may_unshare(&["--mount"]) {
        let builder = Httpd::builder(Mpm::Prefork).handler(Handler::Cgi).workers(1);
        let httpd = builder.config("FinishRequest On").without_proc().start();
        closes_and_works_on(&httpd);
        closes_and_works_on(&httpd);
        httpd.stop();
    }
}

/// A script whose client waits for it, as there is no place for its work, ends with a server that is stopped.
#[test]
fn of_a_script_that_is_kept_when_the_server_stops() {
    let httpd =
        Httpd::builder(Mpm::Prefork).handler(Handler::Cgi).config("FinishRequest On\nFinishRequestMax 0").start();
    httpd.allow_log("finish_request:warn.*FinishRequestMax");
    // mod_cgi waits for what it says of errors.
    httpd.install(
        "kept.cgi",
        "#!/bin/sh\n. ./background.sh\nquery id ''\nprepare \"$id\"\nanswer\nexec >/dev/null\nbackground \"$id\" 0\n",
    );
    let (background, client) = (httpd.background(), Client::connect(&httpd, Protocol::Http1));
    let _exchange = client.get(&path(&background, "kept.cgi", ""), &[]);
    background.wait_for_begin();
    // It is waited for.
    all_threads_sleep(&httpd);
    httpd.signal(Signal::TERM);
    let done = background.wait_for_done();
    assert_eq!((done.gate, done.errors.as_str()), (0, "ended too early"));
    httpd.stop();
}

fn closes_and_works_on(httpd: &Httpd) {
    httpd.install("closes.cgi", CLOSES);
    let (background, client) = (httpd.background(), Client::connect(httpd, Protocol::Http1));
    assert_body(&client.get(&path(&background, "closes.cgi", ""), &[]).released(), &body(4096));
    assert!(!background.is_done());
    ran_to_its_end(&background);
}
