//! `FinishRequestConnection Keep` where nothing is handed over: the work ends before the client's next request, or the client goes, or says nothing.

use std::collections::HashMap;
use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::Duration;

use support::http1::{Connection, EndKind};
use support::machine::not_tried;
use support::{Background, DEADLINE, Fault, Handler, Httpd, Mpm, Signal, body, is_sanitized, wait_for};

use super::keep::{KEEP, is_closed, keeps};
use super::kept_bodies::post;
use super::listener::{listeners, restart};
use crate::administrator::restarts::{children, may_crash};
use crate::judge::{Application, assert_body, path, ran_to_its_end, side_by_side};

/// httpd's own name of each connection: one that was handed over has another.
const NAMES: &str = "LogFormat \"%{c}L %X %<q \" names\nCustomLog \"${ROOT}/names.log\" names\nFinishRequestLog End\n";

/// Answers, and fails when its work has ended.
const FAILS: Application = Application {
    php: "",
    sh: "",
    lua: "background.answer(r)
          background.run(r, query.id, 0)
          return 500",
};

/// The same without any work.
const FAILS_AT_ONCE: &str = "function handle(r)
    r.content_type = 'text/plain'
    r.headers_out['X-Finish-Request'] = 'length=2'
    r:write('ok')
    r:flush()
    r:write('what is written after the end')
    return 500
end
";

/// The names of the connections by which these requests came.
fn names(httpd: &Httpd, works: &[Background]) -> Vec<String> {
    let name = |work: &Background| {
        wait_for("the request in the log", || {
            let log = fs::read_to_string(httpd.root().join("names.log")).ok()?;
            let line = log.lines().find(|line| line.contains(&format!("id={}&", work.id())))?;
            let mut words = line.split(' ');
            let name = words.next().map(str::to_owned);
            assert_eq!(words.next(), Some("+"), "{line}");
            name
        })
    };
    let names: Vec<String> = works.iter().map(name).collect();
    assert!(names.iter().all(|name| name.len() > 4), "{names:?}");
    names
}

fn start(mpm: Mpm) -> Httpd {
    Httpd::builder(mpm).handler(Handler::Lua).workers(16).config(KEEP).config(NAMES).start()
}

/// Asks, and gives the work, which runs.
fn ask(httpd: &Httpd, connection: &Connection, page: &str) -> Background {
    ask_host(httpd, connection, "localhost", page)
}

/// The same of another host than the first.
fn ask_host(httpd: &Httpd, connection: &Connection, host: &str, page: &str) -> Background {
    let background = httpd.background();
    let target = path(&background, page, "mark=on");
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
    let response = connection.response();
    assert_body(&response, &body(4096));
    assert!(keeps(&response));
    background.wait_for_begin();
    background
}

/// The background work has ended, and httpd goes on with the connection.
fn end(httpd: &Httpd, background: &Background) {
    let goes_on = || httpd.log().matches("its connection goes on").count();
    let before = goes_on();
    ran_to_its_end(background);
    wait_for("httpd to go on with the connection", || (goes_on() > before).then_some(()));
}

/// These requests came by one connection of httpd's, which still answers, and closes when it is asked to.
fn came_by_the_same(httpd: &Httpd, connection: &Connection, works: &[Background]) {
    let names = names(httpd, works);
    assert!(names.iter().all(|name| *name == names[0]), "{names:?}");
    connection.get("/", &[("Connection", "close")]);
    connection.response();
    is_closed(connection);
}

/// The second of these requests was answered while the work of the first ran, by another connection of httpd's. The work of both ends.
fn came_by_another(httpd: &Httpd, works: [Background; 2]) {
    assert!(!works[0].is_done());
    ran_to_its_end(&works[0]);
    end(httpd, &works[1]);
    let names = names(httpd, &works);
    assert_ne!(names[0], names[1]);
}

/// The work ends first: the connection stays where it is; whatever its handler returns, whatever error page that makes, and with empty lines meanwhile.
#[test]
fn the_work_ends_first() {
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = start(mpm);
        let fails = FAILS.install(&httpd, Handler::Lua, "fails");
        let pages = ["app.lua", &fails, "app.lua", &fails, &fails, "app.lua"];
        for lines in ["", "\r\n", "\n\r\n"] {
            let connection = httpd.connect();
            let mut works = Vec::new();
            for page in pages {
                works.push(ask(&httpd, &connection, page));
                connection.send(lines);
                end(&httpd, works.last().unwrap());
            }
            assert!(!connection.has_ended());
            came_by_the_same(&httpd, &connection, &works);
        }
        httpd.stop();
    });
}

/// mod_reqtimeout, whose time for a request's body is over by then, knows of the end of that request.
#[test]
fn the_time_of_a_body_has_passed() {
    const READS: Application = Application {
        php: "",
        sh: "",
        lua: "r:requestbody()
              r.usleep(1200000)
              if query.plain then
                  r:write('read')
                  return apache2.OK
              end
              background.answer(r)
              background.run(r, query.id, 0)",
    };
    side_by_side(Mpm::ALL, |mpm| {
        let builder = Httpd::builder(mpm).handler(Handler::Lua).workers(16).modules(&["reqtimeout"]);
        let httpd = builder.config(KEEP).config(NAMES).config("RequestReadTimeout body=1").start();
        let page = READS.install(&httpd, Handler::Lua, "reads");
        let connection = httpd.connect();
        let post = |target: &str| [post(target, "Content-Length: 300").into_bytes(), body(300)].concat();
        let background = httpd.background();
        connection.send(post(&path(&background, &page, "mark=on")));
        assert_body(&connection.response(), &body(4096));
        background.wait_for_begin();
        end(&httpd, &background);
        // Nor is it in the way of any other.
        connection.send(post(&format!("/{page}?plain=1")));
        assert_eq!(connection.response().body, b"read");
        let last = ask(&httpd, &connection, "app.lua");
        end(&httpd, &last);
        came_by_the_same(&httpd, &connection, &[background, last]);
        httpd.stop();
    });
}

/// A request's body that nobody has read is no next request.
#[test]
fn a_body_behind_the_header() {
    const LATE: Application = Application {
        php: "",
        sh: "",
        lua: "r.content_type = 'text/plain'
              r:write(background.body(4000))
              r:flush()
              r.subprocess_env['finish-request'] = 'flush'
              r:write(background.body(4096):sub(4001))
              r:flush()
              background.run(r, query.id, 0)",
    };
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = start(mpm);
        let page = LATE.install(&httpd, Handler::Lua, "later");
        let connection = httpd.connect();
        let mut works = Vec::new();
        for _ in 0..3 {
            let background = httpd.background();
            let target = path(&background, &page, "mark=on");
            connection.send([post(&target, "Content-Length: 300").into_bytes(), body(300)].concat());
            assert_body(&connection.response(), &body(4096));
            background.wait_for_begin();
            end(&httpd, &background);
            works.push(background);
        }
        came_by_the_same(&httpd, &connection, &works);
        httpd.stop();
    });
}

/// The same with an error document that is made for nobody.
#[test]
fn an_error_document_behind_the_end() {
    side_by_side(Mpm::ALL, |mpm| {
        let builder = Httpd::builder(mpm).handler(Handler::Lua).workers(16).config(KEEP).config(NAMES);
        let httpd = builder.config("ErrorDocument 500 /error.lua").start();
        httpd.install("error.lua", "function handle(r)\nr:write('an error document')\nreturn apache2.OK\nend\n");
        let fails = FAILS.install(&httpd, Handler::Lua, "fails");
        let connection = httpd.connect();
        let works: Vec<Background> = (0..4)
            .map(|_| {
                let background = ask(&httpd, &connection, &fails);
                end(&httpd, &background);
                background
            })
            .collect();
        came_by_the_same(&httpd, &connection, &works);
        httpd.stop();
    });
}

/// The next request comes first, wholly or in part, behind empty lines or not: then the connection is handed over.
#[test]
fn the_next_request_comes_first() {
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = start(mpm);
        for (lines, cut) in [("", 1), ("\r\n", 5), ("", 9999)] {
            let connection = httpd.connect();
            let first = ask(&httpd, &connection, "app.lua");
            let second = httpd.background();
            let target = path(&second, "app.lua", "mark=on");
            let request = format!("{lines}GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n");
            let (some, rest) = request.split_at(cut.min(request.len()));
            connection.send(some);
            connection.send(rest);
            assert_body(&connection.response(), &body(4096));
            second.wait_for_begin();
            came_by_another(&httpd, [first, second]);
            assert!(!connection.has_ended());
        }
        httpd.stop();
    });
}

/// The client closes its side, or goes, while the work runs: it gets FIN at once, and the work runs to its end.
#[test]
fn the_client_goes_first() {
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = start(mpm);
        let connection = httpd.connect();
        let background = ask(&httpd, &connection, "app.lua");
        connection.close_sending();
        is_closed(&connection);
        assert!(!background.is_done());
        ran_to_its_end(&background);

        let connection = httpd.connect();
        let background = ask(&httpd, &connection, "app.lua");
        connection.abort();
        ran_to_its_end(&background);

        let connection = httpd.connect();
        let background = ask(&httpd, &connection, "app.lua");
        drop(connection);
        ran_to_its_end(&background);
        // Its worker is free.
        let connection = httpd.connect();
        let background = ask(&httpd, &connection, "app.lua");
        ran_to_its_end(&background);
        httpd.stop();
    });
}

/// `KeepAliveTimeout` passes while the work runs, also where the client sends nothing but empty lines.
#[test]
fn nothing_comes() {
    side_by_side(Mpm::ALL, |mpm| {
        let builder = Httpd::builder(mpm).handler(Handler::Lua).workers(16).config(KEEP);
        let httpd = builder.config("KeepAliveTimeout 1").start();
        side_by_side(["", "\r\n"], |lines| {
            let connection = httpd.connect();
            let background = ask(&httpd, &connection, "app.lua");
            connection.send(lines);
            assert_eq!(connection.end().kind, EndKind::Fin);
            assert!(!background.is_done());
            ran_to_its_end(&background);
        });
        httpd.stop();
    });
}

/// The server is restarted while connections are watched: their next requests are answered by the new generation. It is stopped: nobody waits for them.
#[test]
fn over_a_graceful_restart() {
    // One is given up in this time, where its old child waits for a request; the other has as much time as the test.
    const HOSTS: &str = "<VirtualHost 127.0.0.1:${PORT}>\nServerName localhost\nKeepAliveTimeout 2\n</VirtualHost>\n\
         <VirtualHost 127.0.0.1:${PORT}>\nServerName patient\nKeepAliveTimeout 180\n</VirtualHost>";
    side_by_side(Mpm::ALL, |mpm| {
        let builder = Httpd::builder(mpm).handler(Handler::Lua).workers(16).generations(8);
        let httpd = builder.config(KEEP).config(HOSTS).start();
        let (first, second) = (httpd.connect(), httpd.connect());
        let works = [ask_host(&httpd, &first, "patient", "app.lua"), ask_host(&httpd, &second, "localhost", "app.lua")];
        restart(&httpd, Signal::USR1, |text| text);
        // The next request comes while the work of the old child runs.
        first.send("GET / HTTP/1.1\r\nHost: patient\r\n\r\n");
        first.response();
        assert!(works.iter().all(|work| !work.is_done()));
        works.iter().for_each(|work| {
            ran_to_its_end(work);
        });
        // A child that ends closes what it has.
        assert_eq!(second.end().kind, EndKind::Fin);
        let connection = httpd.connect();
        let work = ask(&httpd, &connection, "app.lua");
        let long = httpd.connect();
        let longer = ask(&httpd, &long, "app.lua");
        ran_to_its_end(&work);
        longer.open_gate();
        httpd.stop();
    });
}

/// The new generation expects something else at a connection's beginning: it does not believe a client that says it in the middle of one.
#[test]
fn over_a_restart_that_adds_a_filter() {
    side_by_side(Mpm::ALL, |mpm| {
        let builder = Httpd::builder(mpm).handler(Handler::Lua).modules(&["remoteip"]).workers(16).generations(8);
        let httpd = builder.config(KEEP).config("KeepAliveTimeout 180").start();
        let connection = httpd.connect();
        let work = ask(&httpd, &connection, "app.lua");
        let old = children(httpd.id());
        restart(&httpd, Signal::USR1, |text| format!("{text}\nRemoteIPProxyProtocol On\n"));
        connection.send("PROXY TCP4 192.0.2.7 192.0.2.8 1000 80\r\nGET /?believed HTTP/1.1\r\nHost: localhost\r\n\r\n");
        assert!(connection.response_or_end().is_err());
        assert!(!work.is_done());
        ran_to_its_end(&work);
        wait_for("the old generation to end", || children(httpd.id()).is_disjoint(&old).then_some(()));
        // Who begins so is believed.
        let other = httpd.connect();
        other.send("PROXY TCP4 192.0.2.7 192.0.2.8 1000 80\r\nGET /?begins HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        other.response();
        assert!(!httpd.access_log().iter().any(|line| line.contains("believed")));
        httpd.stop();
    });
}

/// The server is stopped gracefully while connections are watched. Who asks gets FIN at once, as nobody is left to take the request; who says nothing,
/// when the work has ended, which runs to its end.
#[test]
fn until_a_graceful_stop() {
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = start(mpm);
        let (silent, asks) = (httpd.connect(), httpd.connect());
        let works = [&silent, &asks].map(|connection| ask(&httpd, connection, "app.lua"));
        httpd.signal(Signal::WINCH);
        wait_for("the server to close its listeners", || TcpStream::connect(httpd.address()).err());
        wait_for("its own as well", || listeners(&httpd).is_empty().then_some(()));
        asks.get("/", &[]);
        assert!(asks.response_or_end().is_err());
        assert!(works.iter().all(|work| !work.is_done()));
        works.iter().for_each(|work| {
            ran_to_its_end(work);
        });
        assert_eq!(silent.end().kind, EndKind::Fin);
        httpd.stop();
    });
}

/// The server is stopped or restarted and cuts the work, while connections are watched: they end, nobody touches a number that is another's by then, and the
/// new generation keeps its own.
#[test]
fn until_a_stop_that_cuts_work() {
    let cases = Mpm::ALL.into_iter().flat_map(|mpm| [(mpm, Signal::TERM), (mpm, Signal::HUP)]);
    side_by_side(cases, |(mpm, signal)| {
        let httpd = start(mpm);
        may_crash(&httpd);
        let clients = [httpd.connect(), httpd.connect(), httpd.connect()];
        let works = clients.each_ref().map(|connection| ask(&httpd, connection, "app.lua"));
        let started = || httpd.log().matches("resuming normal operations").count();
        let (before, generations) = (children(httpd.id()), started());
        httpd.signal(signal);
        wait_for("the children to end", || children(httpd.id()).is_disjoint(&before).then_some(()));
        for connection in &clients {
            connection.end();
        }
        assert!(works.iter().all(|work| !work.is_done()));
        if signal == Signal::HUP {
            wait_for("the new generation", || (started() > generations).then_some(()));
            let connection = httpd.connect();
            let works = [ask(&httpd, &connection, "app.lua")];
            end(&httpd, &works[0]);
            came_by_the_same(&httpd, &connection, &works);
        }
        httpd.stop();
    });
}

/// The only worker that is free gets the next request: a connection whose request is there is not taken for an idle one, which httpd closes where
/// workers are few.
#[test]
fn by_the_last_free_worker() {
    side_by_side([Mpm::Event, Mpm::Worker], |mpm| {
        let builder = Httpd::builder(mpm).handler(Handler::Lua).workers(2);
        let httpd = builder.config(KEEP).config("FinishRequestMax 2").start();
        httpd.may_be_full();
        for _ in 0..100 {
            let connection = httpd.connect();
            let background = ask(&httpd, &connection, "app.lua");
            connection.get("/", &[("Connection", "close")]);
            connection.response();
            assert!(!background.is_done());
            ran_to_its_end(&background);
        }
        httpd.stop();
    });
}

/// The kernel refuses to watch one, once: that is handed over at once, and those after it are watched.
#[test]
fn after_one_that_cannot_be_watched() {
    side_by_side([Mpm::Event, Mpm::Worker], |mpm| {
        let builder = Httpd::builder(mpm).handler(Handler::Lua).workers(16).with_faults(None);
        let httpd = builder.config(KEEP).config("KeepAliveTimeout 8").start();
        let is_closed_after = |background: Background, connection: Connection| {
            assert_eq!(connection.end().kind, EndKind::Fin);
            ran_to_its_end(&background);
        };
        // The thread has nothing to do, and no time at which it wakes.
        let connection = httpd.connect();
        is_closed_after(ask(&httpd, &connection, "app.lua"), connection);

        const REFUSED: &str = "a kept connection cannot be watched";
        httpd.expect_log(&format!("finish_request:warn.*{REFUSED}"));
        let refuses = Fault::all().into_iter().find(|fault| fault.call == "epoll_ctl").unwrap();
        wait_for("the kernel to refuse that, and not to forget the last one", || {
            httpd.faults().set(Some((refuses, 1)));
            let connection = httpd.connect();
            is_closed_after(ask(&httpd, &connection, "app.lua"), connection);
            httpd.log().contains(REFUSED).then_some(())
        });

        let connection = httpd.connect();
        let background = ask(&httpd, &connection, "app.lua");
        connection.get("/", &[]);
        connection.response();
        assert!(!background.is_done());
        ran_to_its_end(&background);
        httpd.stop();
    });
}

/// PHP forks while its connection is watched: a process that knows nothing of all this has the socket for as long as it lives.
#[test]
fn while_a_fork_has_the_socket() {
    const FORKS: Application = Application {
        php: "answer();
            $libc = FFI::cdef('int fork(void); void _exit(int status);');
            if ($libc->fork() === 0) {
                for ($turn = 0; $turn < 7500 && !file_exists('@GATES@/forked'); $turn++) {
                    usleep(10_000);
                    clearstatcache();
                }
                $libc->_exit(0);
            }
            background($_GET['id'], 0);",
        sh: "",
        lua: "",
    };
    let missing = Handler::ModPhp.missing(Mpm::Prefork);
    let sanitizer = is_sanitized().then(|| "a sanitizer does not let PHP load an extension".to_owned());
    if let Some(missing) = missing.or(sanitizer) {
        not_tried(&missing);
        return;
    }
    let builder = Httpd::builder(Mpm::Prefork).handler(Handler::ModPhp).workers(16).config(KEEP).config(NAMES);
    let httpd = builder.php_ini("extension", "ffi").php_ini("ffi.enable", "1").start();
    let forks = FORKS.install(&httpd, Handler::ModPhp, "forks");

    // The work ends first.
    let connection = httpd.connect();
    let works = [0; 2].map(|_| {
        let background = ask(&httpd, &connection, &forks);
        end(&httpd, &background);
        background
    });
    came_by_the_same(&httpd, &connection, &works);

    // The next request comes first.
    let connection = httpd.connect();
    let first = ask(&httpd, &connection, &forks);
    let second = ask(&httpd, &connection, &forks);
    came_by_another(&httpd, [first, second]);
    connection.get("/", &[("Connection", "close")]);
    connection.response();
    is_closed(&connection);

    // The client goes first.
    let connection = httpd.connect();
    let background = ask(&httpd, &connection, &forks);
    connection.close_sending();
    is_closed(&connection);
    assert!(!background.is_done());
    ran_to_its_end(&background);

    fs::write(httpd.root().join("gates/forked"), "").unwrap();
    httpd.stop();
}

/// The memory of each of the server's children, in kilobytes.
fn memory(httpd: &Httpd) -> HashMap<String, usize> {
    let id = httpd.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let of = |child: &str| {
        let status = fs::read_to_string(format!("/proc/{child}/status")).ok()?;
        let anonymous = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        Some((child.to_owned(), anonymous.trim().strip_suffix(" kB")?.parse().ok()?))
    };
    children.split_whitespace().filter_map(of).collect()
}

/// So many finished requests on one connection, each of which fails after its end, leave nothing behind.
fn leave_nothing_behind(mpm: Mpm, requests: usize) {
    let config = "FinishRequest On\nFinishRequestConnection Keep\nFinishRequestMax none\nMaxKeepAliveRequests 0\n\
                  LogLevel finish_request:warn";
    let workers = if mpm == Mpm::Prefork { 1 } else { 4 };
    let httpd = Httpd::builder(mpm).handler(Handler::Lua).workers(workers).config(config).start();
    httpd.may_be_full();
    httpd.install("fails.lua", FAILS_AT_ONCE);
    let mut client = TcpStream::connect(httpd.address()).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client.set_nodelay(true).unwrap();
    let mut ask = |requests: usize| {
        for _ in 0..requests {
            client.write_all(b"GET /fails.lua HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
            let mut answer = Vec::new();
            while !answer.ends_with(b"\r\n\r\nok") {
                let mut some = [0; 1024];
                let length = client.read(&mut some).unwrap();
                assert_ne!(length, 0, "{}", answer.escape_ascii());
                answer.extend(&some[..length]);
            }
            assert!(answer.starts_with(b"HTTP/1.1 200 OK\r\n"), "{}", answer.escape_ascii());
        }
    };
    ask(requests / 2);
    // What malloc keeps for each thread grows for a while. What is left behind would grow in every round: twenty
    // bytes for each request are seen.
    let mut rounds = Vec::new();
    let is_flat = (0..6).any(|_| {
        let before = memory(&httpd);
        ask(requests);
        let grown = |(child, after): (String, usize)| before.get(&child).map(|before| after.saturating_sub(*before));
        rounds.push(memory(&httpd).into_iter().filter_map(grown).max().unwrap_or(0));
        rounds.last().is_some_and(|grown| *grown <= 64)
    });
    assert!(is_flat, "{mpm:?}: {rounds:?} kB more after {requests} requests each");
    drop(client);
    httpd.stop();
}

#[test]
fn thousands_leave_nothing_behind() {
    side_by_side(Mpm::ALL, |mpm| leave_nothing_behind(mpm, 4_000));
}

#[test]
#[ignore = "make check: a minute"]
fn a_hundred_thousand_leave_nothing_behind() {
    side_by_side(Mpm::ALL, |mpm| leave_nothing_behind(mpm, 100_000));
}

/// Many clients at once, each with requests of short and of long work, that ask again sooner and later: each gets its own answers, in order, and no
/// request is lost.
#[test]
fn everyone_gets_its_own() {
    const WORK: &str = "function handle(r)
        local query = r:parseargs()
        local text = query.client .. ' ' .. query.number
        r.content_type = 'text/plain'
        r.headers_out['X-Finish-Request'] = 'length=' .. #text
        r:write(text)
        r:flush()
        r.usleep(1000 * tonumber(query.work))
        r:write('what is written after the end')
        return tonumber(query.number) % 3 == 0 and 500 or apache2.OK
    end
    ";
    side_by_side(Mpm::ALL, |mpm| {
        let config = "MaxKeepAliveRequests 0\nLogLevel finish_request:warn\nFinishRequestMax none";
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).workers(32).config(KEEP).config(config).start();
        httpd.may_be_full();
        httpd.install("work.lua", WORK);
        thread::scope(|scope| {
            for client in 0..6_u64 {
                let httpd = &httpd;
                scope.spawn(move || {
                    let connection = httpd.connect();
                    for number in 0..60_u64 {
                        // Around the time that the other side waits, and the work's end.
                        let work = [0, 0, 1, 3, 4, 8][((client + number) % 6) as usize];
                        connection.get(&format!("/work.lua?client={client}&number={number}&work={work}"), &[]);
                        let response = connection.response();
                        assert_eq!(String::from_utf8_lossy(&response.body), format!("{client} {number}"));
                        assert!(keeps(&response));
                        thread::sleep(Duration::from_micros(((client * 7 + number * 13) % 5) * 1000));
                    }
                });
            }
        });
        httpd.stop();
    });
}
