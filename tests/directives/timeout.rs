//! `FinishRequestTimeout`: how long background work may run, and be silent.

use std::path::Path;
use std::time::{Duration, Instant};

use support::{Background, Builder, Client, Done, Handler, Httpd, Mpm, Protocol, body, wait_for};

use crate::administrator::status::{counts, with_status};
use crate::judge::{Application, assert_body, is_said_seldom, path, ran_to_its_end, side_by_side, write};

/// The time limit that each handler has of its own in these tests. A program must be able to start within it on a busy machine.
const HANDLERS_OWN: Duration = Duration::from_secs(6);

/// What mod_fcgid says when that has passed: once each time.
const FCGID_SILENCE: &str = "mod_fcgid: read data timeout in 6 seconds";

/// What it says of a PHP that goes on when it is told to end.
const FCGID_KILLS: &str = "mod_fcgid: process [0-9]+ graceful kill fail, sending SIGKILL";

/// What the module says at the limit.
const AT_THE_LIMIT: &str =
    r"finish_request:warn.*background work of /\w+\.\w+ has reached the \d+ seconds of FinishRequestTimeout";

fn server(handler: Handler, mpm: Mpm, config: &str) -> Builder {
    Httpd::builder(mpm).handler(handler).config(&format!(
        "FinishRequest On
         Timeout 6
         <IfModule fcgid_module>
           FcgidIOTimeout 6
           FcgidErrorScanInterval 1
           FcgidZombieScanInterval 1
         </IfModule>
         {config}"
    ))
}

/// Sends a request for `page`, whose client is released at once; gives when it was sent.
#[track_caller]
fn released(httpd: &Httpd, protocol: Protocol, background: &Background, page: &str, query: &str) -> Instant {
    let sent = Instant::now();
    let client = Client::connect(httpd, protocol);
    assert_body(&client.get(&path(background, page, query), &[]).released(), &body(4096));
    assert!(!background.is_done(), "the client had to wait for the background work");
    sent
}

/// Waits until more than the handler's own time limit has passed.
fn outlast(sent: Instant) {
    wait_for("the handler's own time limit to pass", || (sent.elapsed() > HANDLERS_OWN * 5 / 3).then_some(()));
}

/// Waits until the work has been ended before its time, and gives what it says of that, if it can say anything.
#[track_caller]
fn ended_too_early(httpd: &Httpd, background: &Background, handler: Handler) {
    if handler == Handler::ModFcgid {
        // PHP goes on when it is told to end; mod_fcgid then kills it.
        let process = httpd.root().join("gates").join(format!("{}.pid", background.id()));
        let process = wait_for("the process id", || std::fs::read_to_string(&process).ok().filter(|id| !id.is_empty()));
        wait_for("the process to be gone", || (!Path::new("/proc").join(&process).exists()).then_some(()));
        background.open_gate();
        assert!(!background.is_done());
    } else {
        let Done { gate, ended, errors, .. } = background.wait_for_done();
        assert_eq!((gate, ended, errors.as_str()), (0, 0, "ended too early"));
    }
}

mod silence {
    use super::*;

    macro_rules! on_programs {
        ($check:path) => {
            on_every_handler_and_mpm! { $check;
                mod_fcgid_on_event: ModFcgid, Event;
                mod_fcgid_on_worker: ModFcgid, Worker;
                mod_fcgid_on_prefork: ModFcgid, Prefork;
                mod_cgid_on_event: Cgi, Event;
                mod_cgid_on_worker: Cgi, Worker;
                mod_cgi_on_prefork: Cgi, Prefork;
            }
        };
    }

    mod unset {
        use super::*;

        on_programs!(ends_at_the_handlers_own_limit);

        fn ends_at_the_handlers_own_limit(handler: Handler, mpm: Mpm) {
            let httpd = server(handler, mpm, "").start();
            allow_own_complaints(&httpd, handler, mpm);
            let page = SILENT.install(&httpd, handler, "silent");
            let background = httpd.background();
            released(&httpd, Protocol::Http1, &background, &page, "");
            ended_too_early(&httpd, &background, handler);
            httpd.stop();
        }
    }

    mod borne {
        use super::*;

        on_programs!(as_long_as_the_limit_says);

        fn as_long_as_the_limit_says(handler: Handler, mpm: Mpm) {
            side_by_side(["60", "None"], |limit| {
                let httpd = server(handler, mpm, &format!("FinishRequestTimeout {limit}")).start();
                if handler == Handler::ModFcgid {
                    httpd.expect_log(FCGID_SILENCE);
                    httpd.allow_log(FCGID_KILLS);
                }
                let page = SILENT.install(&httpd, handler, "silent");
                let works: Vec<_> = mpm
                    .protocols()
                    .iter()
                    .map(|&protocol| {
                        let background = httpd.background();
                        let sent = released(&httpd, protocol, &background, &page, "");
                        (background, sent)
                    })
                    .collect();
                for (background, sent) in &works {
                    outlast(*sent);
                    ran_to_its_end(background);
                }
                httpd.stop();
            });
        }
    }

    mod too_long {
        use super::*;

        on_programs!(ends_at_the_limit);

        fn ends_at_the_limit(handler: Handler, mpm: Mpm) {
            let httpd = server(handler, mpm, "FinishRequestTimeout 9").start();
            httpd.expect_log(AT_THE_LIMIT);
            if handler == Handler::ModFcgid {
                httpd.expect_log(FCGID_SILENCE);
                httpd.allow_log(FCGID_KILLS);
            }
            let page = SILENT.install(&httpd, handler, "silent");
            let background = httpd.background();
            let sent = released(&httpd, Protocol::Http1, &background, &page, "");
            ended_too_early(&httpd, &background, handler);
            assert!(sent.elapsed() >= HANDLERS_OWN * 3 / 2, "ended after {:?}", sent.elapsed());
            httpd.stop();
        }
    }

    /// Under mod_cgi and mod_cgid the limit is seen although the handler's own is a longer one.
    mod shorter_than_the_handlers_own {
        use super::*;

        on_every_handler_and_mpm! { ends_at_the_limit;
            mod_cgid_on_event: Cgi, Event;
            mod_cgid_on_worker: Cgi, Worker;
            mod_cgi_on_prefork: Cgi, Prefork;
        }

        fn ends_at_the_limit(handler: Handler, mpm: Mpm) {
            let httpd = server(handler, mpm, "FinishRequestTimeout 3\nTimeout 300").start();
            httpd.expect_log(AT_THE_LIMIT);
            let page = SILENT.install(&httpd, handler, "silent");
            let background = httpd.background();
            released(&httpd, Protocol::Http1, &background, &page, "");
            ended_too_early(&httpd, &background, handler);
            httpd.stop();
        }
    }

    /// mod_fcgid's own limit, and that it could not pass on the rest; mod_cgi's. mod_cgid may say nothing.
    fn allow_own_complaints(httpd: &Httpd, handler: Handler, mpm: Mpm) {
        const CGI_SILENCE: &str = "AH01220: Timeout waiting for output from CGI script";
        match (handler, mpm) {
            (Handler::ModFcgid, _) => {
                httpd.expect_log(FCGID_SILENCE);
                httpd.expect_log("mod_fcgid: ap_pass_brigade failed");
                httpd.allow_log(FCGID_KILLS);
            }
            (_, Mpm::Prefork) => httpd.expect_log(CGI_SILENCE),
            _ => httpd.allow_log(CGI_SILENCE),
        }
    }

    /// Prints nothing while it waits for the gate.
    pub const SILENT: Application = Application {
        php: r#"
            file_put_contents("@GATES@/{$_GET['id']}.pid", getmypid());
            answer();
            background($_GET['id'], 0);
        "#,
        sh: r#"
            prepare "$id"
            answer
            background "$id" 0
        "#,
        lua: "",
    };
}

#[test]
fn is_the_administrators() {
    let httpd = server(Handler::Lua, Mpm::Event, "<Directory ${WWW}>\nAllowOverride FileInfo\n</Directory>").start();
    write(&httpd, ".htaccess", "FinishRequestTimeout 5\n");
    httpd.expect_log(".htaccess: FinishRequestTimeout not allowed here");
    let connection = httpd.connect();
    connection.get("/app.lua", &[]);
    assert_eq!(connection.response().status, 500);
    httpd.stop();
}

#[test]
fn holds_where_it_is_set() {
    let config = "FinishRequestTimeout 3\n<Files patient.cgi>\nFinishRequestTimeout none\n</Files>";
    let httpd = server(Handler::Cgi, Mpm::Worker, config).start();
    httpd.expect_log(AT_THE_LIMIT);
    let [patient, other] = ["patient", "other"].map(|name| {
        let page = silence::SILENT.install(&httpd, Handler::Cgi, name);
        let background = httpd.background();
        released(&httpd, Protocol::Http1, &background, &page, "");
        background
    });
    ended_too_early(&httpd, &other, Handler::Cgi);
    ran_to_its_end(&patient);
    httpd.stop();
}

mod closed_output {
    use super::*;

    /// Under mod_cgi the script is kept after it has closed its output: as long as the limit says.
    #[test]
    fn ends_at_the_limit() {
        let httpd = server(Handler::Cgi, Mpm::Prefork, "FinishRequestTimeout 9").start();
        httpd.expect_log(AT_THE_LIMIT);
        let page = CLOSES.install(&httpd, Handler::Cgi, "closes");
        let background = httpd.background();
        let sent = released(&httpd, Protocol::Http1, &background, &page, "");
        ended_too_early(&httpd, &background, Handler::Cgi);
        assert!(sent.elapsed() >= HANDLERS_OWN * 3 / 2, "ended after {:?}", sent.elapsed());
        httpd.stop();
    }

    #[test]
    fn runs_to_its_end_before_it() {
        side_by_side(["", "FinishRequestTimeout 60", "FinishRequestTimeout none"], |config| {
            let httpd = server(Handler::Cgi, Mpm::Prefork, config).start();
            let page = CLOSES.install(&httpd, Handler::Cgi, "closes");
            let background = httpd.background();
            let sent = released(&httpd, Protocol::Http1, &background, &page, "");
            outlast(sent);
            ran_to_its_end(&background);
            httpd.stop();
        });
    }

    const CLOSES: Application = Application {
        php: "",
        sh: r#"
            prepare "$id"
            answer
            exec >/dev/null 2>/dev/null </dev/null
            background "$id" 0
        "#,
        lua: "",
    };
}

mod writing {
    use super::*;

    on_every_handler_and_mpm!(fails_at_the_limit);

    /// Prints and flushes now and then, until it is ended. Lua goes on: its writes fail.
    fn fails_at_the_limit(handler: Handler, mpm: Mpm) {
        let httpd = with_status(server(handler, mpm, "FinishRequestTimeout 3")).start();
        httpd.expect_log(AT_THE_LIMIT);
        let page = WRITES.install(&httpd, handler, "writes");
        for &protocol in mpm.protocols() {
            let background = httpd.background();
            let sent = released(&httpd, protocol, &background, &page, "");
            let done = background.wait_for_done();
            assert_eq!((done.gate, done.errors.as_str()), (0, "ended too early"));
            assert!(sent.elapsed() >= Duration::from_secs(3), "ended after {:?}", sent.elapsed());
        }
        assert_eq!(counts(&httpd)["TimedOut"], mpm.protocols().len() as u64);
        is_said_seldom(&httpd, "has reached the");
        httpd.stop();
    }

    /// The client has had its response: that its handler is told to end says nothing of it.
    #[test]
    fn no_client_is_logged_as_gone() {
        side_by_side(Mpm::ALL, |mpm| {
            let config = "FinishRequestTimeout 3\nFinishRequestLog End\nCustomLog \"${ROOT}/ends.log\" \"%X %q\"";
            let httpd = server(Handler::Lua, mpm, config).start();
            httpd.expect_log(AT_THE_LIMIT);
            let page = WRITES.install(&httpd, Handler::Lua, "writes");
            for &protocol in mpm.protocols() {
                let background = httpd.background();
                released(&httpd, protocol, &background, &page, "");
                let line = wait_for("the line in the access log", || {
                    let log = std::fs::read_to_string(httpd.root().join("ends.log")).unwrap_or_default();
                    log.lines().find(|line| line.contains(background.id())).map(str::to_owned)
                });
                assert!(!line.starts_with('X'), "{protocol:?}: {line}");
                assert_eq!(background.wait_for_done().errors, "ended too early");
            }
            httpd.stop();
        });
    }

    #[test]
    fn ignored_by_php_that_ignores_it() {
        let httpd = server(Handler::ModPhp, Mpm::Prefork, "FinishRequestTimeout 1").start();
        httpd.expect_log(AT_THE_LIMIT);
        let page = WRITES.install(&httpd, Handler::ModPhp, "writes");
        let background = httpd.background();
        released(&httpd, Protocol::Http1, &background, &page, "ignore=1");
        httpd.wait_for_log("has reached the");
        background.open_gate();
        let done = background.wait_for_done();
        assert!(done.gate > 0);
        assert_eq!(done.errors, "connection_status() is 1");
        httpd.stop();
    }

    mod goes_on {
        use super::*;

        on_every_handler_and_mpm!(without_a_limit_or_before_it);

        /// Handlers whose own limits are about silence have nothing against work that writes.
        fn without_a_limit_or_before_it(handler: Handler, mpm: Mpm) {
            side_by_side(["", "FinishRequestTimeout none", "FinishRequestTimeout 60"], |config| {
                let httpd = server(handler, mpm, config).start();
                let page = WRITES.install(&httpd, handler, "writes");
                // Whether PHP ignores that its client goes makes no difference: it does not hear of that.
                let works = ["", "ignore=1"].map(|query| {
                    let background = httpd.background();
                    (released(&httpd, Protocol::Http1, &background, &page, query), background)
                });
                for (sent, background) in works {
                    outlast(sent);
                    let done = ran_to_its_end(&background);
                    assert!(done.gate > 0);
                }
                httpd.stop();
            });
        }
    }

    const WRITES: Application = Application {
        php: r#"
            ignore_user_abort(isset($_GET['ignore']));
            register_shutdown_function(function () {
                if (!file_exists("@GATES@/{$_GET['id']}.gate")) {
                    $said = "began=0\ngate=0\nended=0\nerrors=ended too early\n";
                    file_put_contents("@GATES@/{$_GET['id']}.writing", $said);
                    rename("@GATES@/{$_GET['id']}.writing", "@GATES@/{$_GET['id']}.done");
                }
            });
            answer();
            while (!file_exists("@GATES@/{$_GET['id']}.gate")) {
                echo 'L';
                flush();
                usleep(50_000);
                clearstatcache();
            }
            background($_GET['id']);
        "#,
        sh: r#"
            prepare "$id"
            answer
            while [ ! -e "$gates/$id.gate" ]; do
                echo L || exit 1
                sleep 0.05
            done
            background "$id" 200
        "#,
        lua: r#"
            background.answer(r)
            local gates = "@GATES@/"
            while true do
                local gate = io.open(gates .. query.id .. ".gate")
                if gate then
                    gate:close()
                    break
                end
                if r:write("L") < 0 then
                    local file = assert(io.open(gates .. query.id .. ".writing", "w"))
                    file:write("began=0\ngate=0\nended=0\nerrors=ended too early\n")
                    file:close()
                    os.rename(gates .. query.id .. ".writing", gates .. query.id .. ".done")
                    return apache2.OK
                end
                r:flush()
                r.usleep(50000)
            end
            background.run(r, query.id, 200)
            return apache2.OK
        "#,
    };
}
