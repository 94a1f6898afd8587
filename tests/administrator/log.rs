//! One line in the access log for each request, at the right time, with what the client waited for.

use std::fs::{self, File};
use std::io::Read;
use std::time::{Duration, Instant};

use support::{Background, Client, Handler, Httpd, Mpm, Protocol, body, wait_for};

use crate::judge::{Application, assert_body, path, ran_to_its_end};

const FORMAT: &str = "LogFormat \"%>s %D %{finish-request}n %{finish-request-us}n %B %{SSL_PROTOCOL}x %q\" finish\n\
                      CustomLog \"${ROOT}/finish.log\" finish\n";

on_every_handler_and_mpm!(logged_once_when_the_client_is_released);

fn logged_once_when_the_client_is_released(handler: Handler, mpm: Mpm) {
    let httpd = start(handler, mpm, "FinishRequest On");
    for &protocol in mpm.protocols() {
        let background = httpd.background();
        let client = Client::connect(&httpd, protocol);
        let sent = Instant::now();
        client.get(&background.query(handler.page()), &[]).released();
        // A plain connection's FIN goes first: on a busy machine the client is at its end before the line is written.
        let line = line(&httpd, &background);
        let waited = sent.elapsed().as_micros();
        assert!(!background.is_done(), "logged before the background work ended");
        let [status, us, marked, released, bytes, tls, _] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        assert_eq!((status, marked, bytes), ("200", "header", "4096"));
        assert!(released.parse::<u64>().unwrap() <= us.parse().unwrap(), "{line}");
        assert!(us.parse::<u128>().unwrap() <= waited, "the line was there after {waited} us: {line}");
        assert_eq!(tls == "-", protocol == Protocol::Http1, "{protocol:?}: {line}");

        background.open_gate();
        assert_eq!(background.wait_for_done().errors, "");
    }
    // When the server has stopped all requests have ended: none is logged twice.
    let mut file = File::open(httpd.root().join("finish.log")).unwrap();
    httpd.stop();
    let mut lines = String::new();
    file.read_to_string(&mut lines).unwrap();
    assert_eq!(lines.lines().count(), mpm.protocols().len(), "{lines}");
}

mod with_end {
    use super::*;

    on_every_handler_and_mpm!(logged_once_when_the_work_ends);

    fn logged_once_when_the_work_ends(handler: Handler, mpm: Mpm) {
        for connection in ["Close", "Keep"] {
            let config = format!("FinishRequest On\nFinishRequestLog End\nFinishRequestConnection {connection}");
            let httpd = start(handler, mpm, &config);
            for &protocol in mpm.protocols() {
                let background = httpd.background();
                let client = Client::connect(&httpd, protocol);
                client.get(&background.query(handler.page()), &[]).response();
                background.wait_for_begin();
                assert!(!log(&httpd).contains(background.id()));
                let done = ran_to_its_end(&background);
                let line = line(&httpd, &background);
                let fields: Vec<_> = line.split(' ').collect();
                let (took, released): (u64, u64) = (fields[1].parse().unwrap(), fields[3].parse().unwrap());
                assert!(took >= done.ended - done.began && released < took, "{line}");
                assert_eq!([fields[0], fields[2], fields[4]], ["200", "header", "4096"], "{line}");
                drop(client);
            }
            let mut file = File::open(httpd.root().join("finish.log")).unwrap();
            httpd.stop();
            let mut lines = String::new();
            file.read_to_string(&mut lines).unwrap();
            assert_eq!(lines.lines().count(), mpm.protocols().len(), "{lines}");
        }
    }
}

/// What `Auto` recognises, over TLS and without: nothing is logged before the work ends, and then with both times.
#[test]
fn a_declared_end_is_logged_when_the_work_ends() {
    /// Longer than what is taken for a handler's own end.
    const WORKS_ON: Duration = Duration::from_millis(100);
    for mpm in Mpm::ALL {
        let httpd = start(Handler::Lua, mpm, "FinishRequest Auto\nFinishRequestLog End");
        for &protocol in mpm.protocols() {
            let background = httpd.background();
            let client = Client::connect(&httpd, protocol);
            let target = path(&background, "app.lua", "mark=none");
            let headers: &[_] = if client.http1().is_some() { &[("Connection", "close")] } else { &[] };
            assert_body(&client.get(&target, headers).response(), &body(4096));
            background.wait_for_begin();
            let begun = Instant::now();
            wait_for("work that is more than a handler's end", || {
                assert_eq!(
                    log(&httpd).matches(background.id()).count(),
                    0,
                    "{protocol:?}: logged before the work ended"
                );
                (begun.elapsed() > WORKS_ON).then_some(())
            });
            let done = ran_to_its_end(&background);
            let line = line(&httpd, &background);
            let fields: Vec<_> = line.split(' ').collect();
            let (took, released): (u64, u64) = (fields[1].parse().unwrap(), fields[3].parse().unwrap());
            assert!(took >= done.ended - done.began && released < took, "{protocol:?}: {line}");
            assert_eq!([fields[0], fields[2], fields[4]], ["200", "auto", "4096"], "{protocol:?}: {line}");
        }
        let mut file = File::open(httpd.root().join("finish.log")).unwrap();
        httpd.stop();
        let mut lines = String::new();
        file.read_to_string(&mut lines).unwrap();
        assert_eq!(lines.lines().count(), mpm.protocols().len(), "{lines}");
    }
}

/// On a kept connection each request has its line when its response has come, or its work has ended; `%I` and `%O` are its own bytes,
/// to the last one, and `%X` says that the connection goes on.
#[test]
fn bytes_in_and_out() {
    for (handler, mpm) in [
        (Handler::Lua, Mpm::Event),
        (Handler::Cgi, Mpm::Worker),
        (Handler::ModFcgid, Mpm::Worker),
        (Handler::ModPhp, Mpm::Prefork),
    ] {
        for log in ["Client", "End"] {
            let config = format!(
                // mod_http2 looks at the first bytes of a connection, and mod_logio counts them twice.
                "<IfModule http2_module>\nH2Direct off\n</IfModule>\nFinishRequest On\nFinishRequestConnection Keep\nFinishRequestLog {log}\n\
                 CustomLog \"${{ROOT}}/bytes.log\" \"%I %O %k %X %q\""
            );
            let httpd = Httpd::builder(mpm).handler(handler).config(&config).start();
            let connection = httpd.connect();
            let works: Vec<_> = (0..4).map(|_| httpd.background()).collect();
            let head = |work: &Background, index: usize| {
                // One of them is larger than what is passed on in one piece, and one has a body.
                let bytes = if index == 1 { 300_000 } else { 4096 };
                let target = path(work, handler.page(), &format!("mark=on&bytes={bytes}"));
                match index {
                    2 => format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\n\r\nhello"),
                    _ => format!("GET {target} HTTP/1.1\r\nHost: localhost\r\nX-Number: {index}\r\n\r\n"),
                }
            };
            let requests: Vec<_> = works.iter().enumerate().map(|(index, work)| head(work, index)).collect();
            // The last two come in one packet.
            connection.send(&requests[0]);
            let mut responses = vec![connection.response()];
            connection.send(&requests[1]);
            responses.push(connection.response());
            connection.send(requests[2..].concat());
            responses.extend([connection.response(), connection.response()]);
            for (index, ((work, request), response)) in works.iter().zip(&requests).zip(&responses).enumerate() {
                if log == "End" {
                    ran_to_its_end(work);
                }
                let line = line_of(&httpd, "bytes.log", work);
                let (request, response) = (request.len(), response.raw.len());
                assert!(
                    line.starts_with(&format!("{request} {response} {index} + ")),
                    "{handler:?} {log} {request} {response} {index}: {line}"
                );
                assert_eq!(work.is_done(), log == "End");
            }
            drop(connection);
            works.iter().for_each(|work| _ = ran_to_its_end(work));
            let mut file = File::open(httpd.root().join("bytes.log")).unwrap();
            httpd.stop();
            let mut lines = String::new();
            file.read_to_string(&mut lines).unwrap();
            assert_eq!(lines.lines().count(), works.len(), "{lines}");
        }
    }
}

/// The same over TLS, where the bytes of the handshake and of the records come on top: as for a request without a mark.
#[test]
fn bytes_over_tls() {
    const BYTES: usize = 300_000;
    const MOST_ON_TOP: usize = 20_000;
    let config = "CustomLog \"${ROOT}/bytes.log\" \"%I %O %{finish-request}n %q\"";
    for mpm in Mpm::ALL {
        for log in ["Client", "End"] {
            let httpd = start(Handler::Lua, mpm, &format!("FinishRequest On\nFinishRequestLog {log}\n{config}"));
            for (mark, note) in [("none", "-"), ("on", "header")] {
                let work = httpd.background();
                work.open_gate();
                let query = path(&work, "app.lua", &format!("mark={mark}&bytes={BYTES}&after=0"));
                let client = Client::connect(&httpd, Protocol::Http1Tls);
                let response = client.get(&query, &[("Connection", "close")]).released();
                assert_body(&response, &body(BYTES));
                let line = line_of(&httpd, "bytes.log", &work);
                let [bytes_in, bytes_out, marked, _] = line.split(' ').collect::<Vec<_>>()[..] else {
                    panic!("{line}")
                };
                assert_eq!(marked, note, "{line}");
                let [bytes_in, bytes_out] = [bytes_in, bytes_out].map(|bytes| bytes.parse::<usize>().unwrap());
                assert!((query.len()..MOST_ON_TOP).contains(&bytes_in), "{line}");
                let sent = response.raw.len();
                assert!((sent..sent + MOST_ON_TOP).contains(&bytes_out), "{sent}: {line}");
            }
            httpd.stop();
        }
    }
}

/// Whichever way the administrator logs: conditions see what is known when the client is released, and each log has one
/// line.
#[test]
fn every_kind_of_log() {
    for mpm in Mpm::ALL {
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .modules(&["setenvif", "log_forensic"])
            .config(
                "FinishRequest On
                SetEnvIf Request_URI ^/app wanted
                LogFormat \"%>s %{finish-request}n %q %{forensic-id}n\" kinds
                CustomLog \"${ROOT}/env.log\" kinds env=wanted
                CustomLog \"${ROOT}/env-not.log\" kinds env=!wanted
                CustomLog \"${ROOT}/marked.log\" kinds \"expr=note('finish-request') == 'header'\"
                CustomLog \"${ROOT}/unmarked.log\" kinds \"expr=-z note('finish-request')\"
                CustomLog \"|/usr/bin/tee -a ${ROOT}/piped.log\" kinds
                ForensicLog \"${ROOT}/forensic.log\"",
            )
            .start();
        let works: Vec<_> = mpm.protocols().iter().map(|protocol| (protocol, httpd.background())).collect();
        for (protocol, work) in &works {
            Client::connect(&httpd, **protocol).get(&work.query("app.lua"), &[]).released();
            work.wait_for_begin();
            for name in ["env.log", "marked.log", "piped.log"] {
                let line = line_of(&httpd, name, work);
                assert!(line.starts_with("200 header "), "{name}: {line}");
                let id = line.rsplit(' ').next().unwrap();
                let marks = forensic_marks(&httpd, id);
                assert_eq!(marks, ["+", "-"], "{mpm:?} {protocol:?}: begin and end of {id}");
            }
            assert!(!work.is_done());
        }
        let mut logs = ["env", "env-not", "marked", "unmarked", "forensic"]
            .map(|name| File::open(httpd.root().join(name).with_extension("log")).unwrap());
        let mut piped = File::open(httpd.root().join("piped.log")).unwrap();
        works.iter().for_each(|(_, work)| _ = ran_to_its_end(work));
        httpd.stop();
        let count = |log: &mut File| {
            let mut lines = String::new();
            log.read_to_string(&mut lines).unwrap();
            lines.lines().filter(|line| !line.is_empty()).count()
        };
        let requests = works.len();
        assert_eq!(logs.each_mut().map(count), [requests, 0, requests, 0, 2 * requests], "{mpm:?}");
        assert_eq!(count(&mut piped), requests);
    }
}

/// With `BufferedLogs` the lines come in their own time; each of them once.
#[test]
fn buffered_logs() {
    for mpm in Mpm::ALL {
        let httpd = start(Handler::Lua, mpm, "FinishRequest On\nBufferedLogs On");
        let works: Vec<_> = mpm.protocols().iter().map(|protocol| (protocol, httpd.background())).collect();
        for (protocol, work) in &works {
            Client::connect(&httpd, **protocol).get(&work.query("app.lua"), &[]).released();
        }
        works.iter().for_each(|(_, work)| _ = ran_to_its_end(work));
        let mut file = File::open(httpd.root().join("finish.log")).unwrap();
        httpd.stop();
        let mut lines = String::new();
        file.read_to_string(&mut lines).unwrap();
        assert_eq!(lines.lines().count(), works.len(), "{lines}");
        assert!(works.iter().all(|(_, work)| lines.contains(work.id())), "{lines}");
    }
}

/// How the marks of a request in the forensic log begin.
fn forensic_marks(httpd: &Httpd, id: &str) -> Vec<String> {
    let log = fs::read_to_string(httpd.root().join("forensic.log")).unwrap_or_default();
    let lines = log.lines().filter(|line| line.get(1..).is_some_and(|rest| rest.split('|').next() == Some(id)));
    lines.map(|line| line[..1].to_owned()).collect()
}

/// A handler that fails when its client has long gone: the error document in its place is for nobody, and neither is its line.
#[test]
fn logged_once_where_the_handler_fails_after_the_end() {
    for mpm in Mpm::ALL {
        for (log, line) in [("Client", ["200 header"]), ("End", ["500 header"])] {
            let config = format!(
                "FinishRequest On\nFinishRequestLog {log}\nErrorDocument 500 /sorry.lua\n\
                 ForensicLog \"${{ROOT}}/forensic.log\"\n\
                 LogFormat \"%>s %{{finish-request}}n\" short\nCustomLog \"${{ROOT}}/short.log\" short"
            );
            let httpd = Httpd::builder(mpm).handler(Handler::Lua).modules(&["log_forensic"]).config(&config).start();
            httpd.install(
                "fails.lua",
                r#"function handle(r)
                    local background = dofile(r.filename:match("^(.*)/") .. "/background.lua")
                    r.content_type = "text/plain"
                    r.headers_out["X-Finish-Request"] = "length=4096"
                    r:write(background.body(4096))
                    r:flush()
                    background.run(r, r:parseargs().id, 200)
                    return 500
                end"#,
            );
            // Nobody is there to be released once more.
            httpd.install(
                "sorry.lua",
                r#"function handle(r)
                    r.content_type = "text/plain"
                    r.headers_out["X-Finish-Request"] = "length=5"
                    r:write("sorry")
                    r:flush()
                    r:write("more")
                    return apache2.OK
                end"#,
            );
            for (count, &protocol) in mpm.protocols().iter().enumerate() {
                let work = httpd.background();
                let response = Client::connect(&httpd, protocol).get(&work.query("fails.lua"), &[]).released();
                assert_body(&response, &body(4096));
                ran_to_its_end(&work);
                wait_for("the end of the work in the log", || ended(&httpd).get(count).copied());
            }
            let requests = mpm.protocols().len();
            assert_eq!(httpd.log().matches("finished early").count(), requests, "{mpm:?} {log}");
            let mut files = ["short.log", "forensic.log"].map(|name| File::open(httpd.root().join(name)).unwrap());
            httpd.stop();
            let [short, forensic] = files.each_mut().map(|file| {
                let mut text = String::new();
                file.read_to_string(&mut text).unwrap();
                text
            });
            assert_eq!(short.lines().collect::<Vec<_>>(), line.repeat(requests), "{mpm:?} {log}");
            assert_eq!(forensic.lines().filter(|line| line.starts_with('-')).count(), requests, "{mpm:?} {log}");
        }
    }
}

mod error_log {
    use super::*;

    on_every_handler_and_mpm!(has_what_the_application_says_after_the_end);

    /// Whose words the log says they are, where it says it: mod_cgid's scripts write to the log by themselves.
    fn has_what_the_application_says_after_the_end(handler: Handler, mpm: Mpm) {
        for log in ["Client", "End"] {
            let config = format!("FinishRequest On\nFinishRequestLog {log}");
            let httpd = Httpd::builder(mpm).handler(handler).config(&config).start();
            let page = SPEAKS.install(&httpd, handler, "speaks");
            let says = |words: &str, work: &Background| match (handler, mpm) {
                (Handler::Cgi, Mpm::Event | Mpm::Worker) => format!("^{words} {}", work.id()),
                _ => format!(r"\[(client|remote) 127\.0\.0\.1:\d+\] .*{words} {}", work.id()),
            };
            for &protocol in mpm.protocols() {
                let work = httpd.background();
                Client::connect(&httpd, protocol).get(&work.query(&page), &[]).released();
                work.wait_for_begin();
                httpd.expect_log(&says("before the gate", &work));
                httpd.expect_log(&says("behind the gate", &work));
                if handler == Handler::ModPhp || handler == Handler::ModFcgid || handler == Handler::PhpFpm {
                    httpd.expect_log(&says(".*Undefined variable .*", &work).replace(work.id(), ""));
                }
                // PHP under FastCGI sends them together.
                ran_to_its_end(&work);
                httpd.wait_for_log(&format!("before the gate {}", work.id()));
                httpd.wait_for_log(&format!("behind the gate {}", work.id()));
            }
            httpd.stop();
        }
    }

    const SPEAKS: Application = Application {
        php: r#"
            answer();
            error_log('before the gate ' . $_GET['id']);
            background($_GET['id']);
            $nothing = $undefined;
            error_log('behind the gate ' . $_GET['id']);
        "#,
        sh: r#"
            answer
            echo "before the gate $id" >&2
            background "$id" 200
            echo "behind the gate $id" >&2
        "#,
        lua: r#"
            background.answer(r)
            r:err("before the gate " .. query.id)
            background.run(r, query.id, 200)
            r:err("behind the gate " .. query.id)
            return apache2.OK
        "#,
    };
}

/// One line for each finished request, that says how it was marked, its bytes and its time.
#[test]
fn each_finished_request_is_in_the_error_log() {
    for mpm in Mpm::ALL {
        let httpd = start(Handler::Lua, mpm, "FinishRequest On");
        for (count, &protocol) in mpm.protocols().iter().enumerate() {
            let work = httpd.background();
            let sent = Instant::now();
            let query = format!("mark=on&bytes={}", 100 + count);
            let client = Client::connect(&httpd, protocol);
            assert_body(&client.get(&path(&work, "app.lua", &query), &[]).released(), &body(100 + count));
            let log = httpd.wait_for_log(&format!("finished early, marked by header: {} bytes of body, ", 100 + count));
            assert!(log.contains("[finish_request:info]") && log.contains(" 127.0.0.1:"), "{log}");
            let us: u128 = log.rsplit(", ").next().and_then(|rest| rest.split(' ').next()?.parse().ok()).unwrap();
            assert!(us > 0 && us <= sent.elapsed().as_micros(), "{log}");
            assert!(log.ends_with(" microseconds after the request came"), "{log}");
            ran_to_its_end(&work);
        }
        let log = httpd.log();
        assert_eq!(log.matches("finished early").count(), mpm.protocols().len());
        httpd.stop();
    }
}

/// A warning is one for the whole server, however many processes it has.
#[test]
fn warnings_come_once_in_a_while() {
    for mpm in Mpm::ALL {
        let config = match mpm {
            Mpm::Prefork => "MaxConnectionsPerChild 1",
            _ => "ThreadsPerChild 2\nServerLimit 8\nStartServers 8\nMaxRequestWorkers 16\nMaxSpareThreads 16",
        };
        let config = format!("FinishRequest On\n{config}\n{PIDS}");
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).config(&config).start();
        httpd.expect_log("finish_request:warn.*for /app.lua the header X-Finish-Request is 'please'");
        // All at once, so that no process can have them all.
        let works: Vec<_> = (0..12).map(|_| httpd.background()).collect();
        let clients: Vec<_> = works.iter().map(|_| Client::connect(&httpd, Protocol::Http1)).collect();
        let ask = |(client, work): (_, &Background)| {
            Client::get(client, &format!("{}&mark=please", work.query("app.lua")), &[])
        };
        let exchanges: Vec<_> = clients.iter().zip(&works).map(ask).collect();
        works.iter().for_each(Background::wait_for_begin);
        works.iter().for_each(Background::open_gate);
        exchanges.iter().for_each(|exchange| assert_body(&exchange.response(), &body(4096)));
        let processes: Vec<_> = wait_for("all lines", || {
            let pids = fs::read_to_string(httpd.root().join("pids.log")).unwrap();
            (pids.lines().count() == 12).then(|| pids.lines().map(str::to_owned).collect())
        });
        assert!(processes.iter().any(|process| *process != processes[0]), "{mpm:?}: several processes");
        assert_eq!(httpd.log().matches("finish_request:warn").count(), 1, "{mpm:?}");
        httpd.stop();
    }
}

const PIDS: &str = "CustomLog \"${ROOT}/pids.log\" \"%P\"";

/// The error log says it when the work ends, and how long it took, wherever the request is logged.
#[test]
fn the_end_of_the_work_is_in_the_error_log() {
    const ENDED: &str = "finish_request:info";
    for (mpm, config) in [(Mpm::Event, ""), (Mpm::Worker, "\nFinishRequestLog End"), (Mpm::Prefork, "")] {
        let httpd = start(Handler::Lua, mpm, &format!("FinishRequest On{config}"));
        for (count, &protocol) in mpm.protocols().iter().enumerate() {
            let background = httpd.background();
            Client::connect(&httpd, protocol).get(&background.query("app.lua"), &[]).released();
            background.wait_for_begin();
            assert_eq!(ended(&httpd).len(), count, "{mpm:?} {protocol:?}: the work has not ended");
            background.open_gate();
            let done = background.wait_for_done();
            let took = wait_for("the end of the work in the log", || ended(&httpd).get(count).copied());
            assert!(took >= done.ended - done.began, "{took} us, {done:?}");
        }
        let log = httpd.log();
        assert!(log.lines().filter(|line| line.contains("background work has ended")).all(|line| line.contains(ENDED)));
        httpd.stop();
    }
}

/// An ordinary response has no background work, and no notes.
#[test]
fn an_ordinary_response_is_not_said_to_have_worked_on() {
    let httpd = start(Handler::Lua, Mpm::Event, "FinishRequest On");
    let background = httpd.background();
    background.open_gate();
    Client::connect(&httpd, Protocol::Http1).get(&(background.query("app.lua") + "&mark=none"), &[]).response();
    let line = line(&httpd, &background);
    assert_eq!(line.split(' ').skip(2).take(2).collect::<Vec<_>>(), ["-", "-"], "{line}");
    assert_eq!(ended(&httpd), []);
    httpd.stop();
}

/// How many microseconds the background work took that has ended, as the error log has it.
fn ended(httpd: &Httpd) -> Vec<u64> {
    const SAYS: &str = "the background work has ended, ";
    let log = httpd.log();
    let times = log.lines().filter_map(|line| line.split(SAYS).nth(1)?.split(' ').next()?.parse().ok());
    times.collect()
}

fn start(handler: Handler, mpm: Mpm, config: &str) -> Httpd {
    Httpd::builder(mpm).handler(handler).config(&format!("{config}\n{FORMAT}")).start()
}

fn log(httpd: &Httpd) -> String {
    fs::read_to_string(httpd.root().join("finish.log")).unwrap_or_default()
}

/// The line of this background work's request, as soon as it is there.
fn line(httpd: &Httpd, background: &Background) -> String {
    line_of(httpd, "finish.log", background)
}

/// The same in another log.
fn line_of(httpd: &Httpd, log: &str, background: &Background) -> String {
    wait_for(&format!("a line in {log}"), || {
        let log = fs::read_to_string(httpd.root().join(log)).unwrap_or_default();
        let mut lines = log.split_inclusive('\n').filter_map(|line| line.strip_suffix('\n'));
        lines.find(|line| line.contains(background.id())).map(str::to_owned)
    })
}
