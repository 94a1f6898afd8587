//! `FinishRequestOnAbort`: what becomes of the application when its client goes away before the response is complete.

use std::collections::HashSet;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use support::{Background, Builder, Client, Handler, Httpd, Mpm, Protocol, wait_for};

use crate::finished::released::{connections_to, sockets_of};
use crate::judge::{Application, path, side_by_side, write};

/// More than the applications print: the response is never complete.
const LENGTH: usize = 17_000_000;

/// More than the kernel, TLS and HTTP/2 take for a client that reads nothing.
const AFTER: usize = 16_000_000;

/// How a client goes away.
#[derive(Clone, Copy, Debug)]
enum Leaves {
    /// With an RST; over HTTP/2 without its connection: the stream is reset.
    Aborts,
    /// With a FIN, and RST for what comes later; over HTTP/2 with all streams.
    Closes,
    /// It is there, but takes nothing more.
    Vanishes,
}

fn server(handler: Handler, mpm: Mpm, config: &str) -> Builder {
    Httpd::builder(mpm).handler(handler).modules(&["env"]).config(config)
}

/// Has the client of `page` leave while the application prints the first half; the second half comes after that.
#[track_caller]
fn left_in_the_middle(httpd: &Httpd, protocol: Protocol, page: &str, query: &str, leaves: Leaves) -> Background {
    let background = httpd.background();
    left_at(httpd, protocol, &background, page, query, leaves);
    background
}

/// The same, with background work that may be another server's.
#[track_caller]
fn left_at(httpd: &Httpd, protocol: Protocol, background: &Background, page: &str, query: &str, leaves: Leaves) {
    let target = path(background, page, query);
    match protocol {
        Protocol::Http2 => {
            let connection = httpd.connect_http2();
            let stream = connection.get(&target, &[]);
            background.wait_for_begin();
            wait_for("something of the body", || (!stream.data().is_empty()).then_some(()));
            match leaves {
                Leaves::Closes => drop(connection),
                Leaves::Vanishes => {
                    connection.freeze();
                    background.open_gate();
                    is_over(httpd, background);
                }
                Leaves::Aborts => {
                    stream.cancel();
                    connection.is_seen("/static.txt");
                }
            }
        }
        _ => {
            let client = Client::connect(httpd, protocol);
            let connection = client.http1().unwrap();
            if let Leaves::Vanishes = leaves {
                // Before anything comes: the kernel takes the more for a client the more it has read.
                connection.pause();
            }
            connection.get(&target, &[]);
            background.wait_for_begin();
            match leaves {
                Leaves::Aborts => {
                    connection.next_begins();
                    let port = HashSet::from([connection.local_address().port()]);
                    client.abort();
                    // On a busy machine it takes the kernel a while to tell the server.
                    wait_for("the RST to come", || {
                        let sockets = sockets_of(httpd.id());
                        (!connections_to(&port).iter().any(|inode| sockets.contains(inode))).then_some(())
                    });
                }
                Leaves::Closes => {
                    connection.next_begins();
                    drop(client);
                }
                Leaves::Vanishes => {
                    background.open_gate();
                    is_over(httpd, background);
                }
            }
        }
    }
    background.open_gate();
}

/// Waits until the request has been logged: its handler has ended.
#[track_caller]
fn is_over(httpd: &Httpd, background: &Background) {
    let id = format!("id={}&", background.id());
    wait_for("the request to end", || httpd.access_log().iter().any(|line| line.contains(&id)).then_some(()));
}

mod goes_on {
    use super::*;

    on_every_handler_and_mpm!(to_its_end);

    fn to_its_end(handler: Handler, mpm: Mpm) {
        let httpd = server(handler, mpm, "FinishRequest On\nFinishRequestOnAbort Continue").start();
        httpd.install("static.txt", "a static file\n");
        for mark in ["mark=on", "mark=length%3D17000000", "mark=boundary%3D%220123456789abcdef%22&length=none"] {
            let query = format!("{mark}&length={LENGTH}&after={AFTER}");
            let cases = mpm
                .protocols()
                .iter()
                .flat_map(|&protocol| [Leaves::Aborts, Leaves::Closes].map(|leaves| (protocol, leaves)));
            side_by_side(cases, |(protocol, leaves)| {
                let background = left_in_the_middle(&httpd, protocol, handler.page(), &query, leaves);
                let done = background.wait_for_done();
                assert_eq!(done.errors, "");
                assert!(done.gate > 0 && done.gate <= done.ended, "{done:?}");
            });
        }
        logged_as_aborted(&httpd, 3 * 2 * mpm.protocols().len());
        // All threads and processes are there for others.
        let response = Client::connect(&httpd, Protocol::Http1).get("/static.txt", &[]).response();
        assert_eq!(response.body, b"a static file\n");
        httpd.stop();
    }
}

/// The application needs no place among those in background work.
mod over_the_limit {
    use super::*;

    on_every_handler_and_mpm!(goes_on);

    fn goes_on(handler: Handler, mpm: Mpm) {
        let config = "FinishRequest On\nFinishRequestOnAbort Continue\nFinishRequestMax 0";
        let httpd = server(handler, mpm, config).start();
        httpd.install("static.txt", "a static file\n");
        let query = format!("mark=on&length={LENGTH}&after={AFTER}");
        side_by_side(mpm.protocols(), |&protocol| {
            let background = left_in_the_middle(&httpd, protocol, handler.page(), &query, Leaves::Aborts);
            assert_eq!(background.wait_for_done().errors, "", "{protocol:?}");
        });
        logged_as_aborted(&httpd, mpm.protocols().len());
        httpd.stop();
    }
}

/// The client is there, and takes nothing more: writing to it fails when `Timeout` has passed.
mod vanished {
    use super::*;

    on_every_handler_and_mpm! { goes_on;
        mod_php_on_prefork: ModPhp, Prefork;
        mod_fcgid_on_event: ModFcgid, Event;
        mod_cgid_on_worker: Cgi, Worker;
        mod_cgi_on_prefork: Cgi, Prefork;
        php_fpm_on_event: PhpFpm, Event;
        mod_lua_on_worker: Lua, Worker;
    }

    /// For clients, which may be slow to connect. A program may be slow to begin, or between its writes.
    const TIMEOUT: &str = "Timeout 4
        <IfDirective CGIScriptTimeout>
          CGIScriptTimeout 60
        </IfDirective>
        <IfDirective CGIDScriptTimeout>
          CGIDScriptTimeout 60
        </IfDirective>
        <IfModule proxy_module>
          ProxyTimeout 60
        </IfModule>";

    fn goes_on(handler: Handler, mpm: Mpm) {
        let config = format!("FinishRequest On\nFinishRequestOnAbort Continue\n{TIMEOUT}");
        let httpd = server(handler, mpm, &config).start();
        let query = format!("length={LENGTH}&after={AFTER}");
        side_by_side(mpm.protocols(), |&protocol| {
            let background = left_in_the_middle(&httpd, protocol, handler.page(), &query, Leaves::Vanishes);
            assert_eq!(background.wait_for_done().errors, "", "{protocol:?}");
        });
        logged_as_aborted(&httpd, mpm.protocols().len());
        httpd.stop();
    }

    mod with_stop {
        use super::*;

        // A script that does not end at once is killed by mod_cgi and mod_cgid, in their own time, and says nothing.
        on_every_handler_and_mpm! { ends_as_on_stock_httpd;
            mod_php_on_prefork: ModPhp, Prefork;
            mod_fcgid_on_event: ModFcgid, Event;
            php_fpm_on_event: PhpFpm, Event;
            mod_lua_on_worker: Lua, Worker;
        }

        fn ends_as_on_stock_httpd(handler: Handler, mpm: Mpm) {
            let servers = [
                server(handler, mpm, TIMEOUT).without_module(),
                server(handler, mpm, &format!("FinishRequest On\n{TIMEOUT}")),
            ];
            let [stock, ours] = servers.map(|builder| {
                let httpd = builder.start();
                httpd.allow_log("mod_fcgid: ap_pass_brigade failed");
                let query = format!("length={LENGTH}&after={AFTER}");
                let logged = left_in_each_way(&httpd, handler, mpm, &query, &[Leaves::Vanishes]);
                httpd.stop();
                logged
            });
            assert_eq!(stock, ours);
        }
    }
}

/// What is not to go on ends as on a server without the module.
mod as_on_stock_httpd {
    use super::*;

    on_every_handler_and_mpm!(with_stop_and_what_is_not_marked);

    fn with_stop_and_what_is_not_marked(handler: Handler, mpm: Mpm) {
        let on = "FinishRequest On\nFinishRequestOnAbort";
        let servers = [
            (server(handler, mpm, "").without_module(), "mark=none"),
            (server(handler, mpm, "FinishRequest On"), "mark=on"),
            (server(handler, mpm, &format!("{on} Stop")), "mark=length%3D17000000"),
            (server(handler, mpm, &format!("{on} Continue")), "mark=none"),
            (server(handler, mpm, &format!("{on} Continue")), "mark=off"),
        ];
        let mut stock = None;
        for (builder, mark) in servers {
            let httpd = builder.start();
            httpd.install("static.txt", "a static file\n");
            // That it could not pass on the rest.
            httpd.allow_log("mod_fcgid: ap_pass_brigade failed");
            let query = format!("{mark}&length={LENGTH}&after={AFTER}");
            let logged = left_in_each_way(&httpd, handler, mpm, &query, &[Leaves::Aborts, Leaves::Closes]);
            assert_eq!(stock.get_or_insert_with(|| logged.clone()), &logged, "{mark}");
            httpd.stop();
        }
    }
}

/// The clients leave, and the application ends by that where the handler looks. Gives what is logged.
fn left_in_each_way(httpd: &Httpd, handler: Handler, mpm: Mpm, query: &str, ways: &[Leaves]) -> Vec<String> {
    let cases = mpm.protocols().iter().flat_map(|&protocol| ways.iter().map(move |&leaves| (protocol, leaves)));
    side_by_side(cases, |(protocol, leaves)| {
        let background = left_in_the_middle(httpd, protocol, handler.page(), query, leaves);
        let done = background.wait_for_done();
        let ran_to_its_end = done.errors.is_empty() && done.ended > 0;
        // mod_lua does not look whether anybody gets what it writes.
        assert_eq!(ran_to_its_end, handler == Handler::Lua, "{query}: {done:?}");
    });
    logged(httpd, ways.len() * mpm.protocols().len())
}

/// mod_http2 says that the client has gone before the application writes anything.
mod before_anything_is_written {
    use super::*;

    on_every_handler_and_mpm! { goes_on_if_it_is_marked;
        mod_fcgid_on_event: ModFcgid, Event;
        mod_cgid_on_worker: Cgi, Worker;
        php_fpm_on_event: PhpFpm, Event;
        mod_lua_on_worker: Lua, Worker;
    }

    fn goes_on_if_it_is_marked(handler: Handler, mpm: Mpm) {
        let httpd = server(handler, mpm, "FinishRequest On\nFinishRequestOnAbort Continue").start();
        httpd.install("static.txt", "a static file\n");
        let page = LATE.install(&httpd, handler, "late");
        for mark in ["on", "off"] {
            let background = httpd.background();
            let connection = httpd.connect_http2();
            let stream = connection.get(&path(&background, &page, &format!("mark={mark}")), &[]);
            background.wait_for_begin();
            stream.cancel();
            connection.is_seen("/static.txt");
            background.open_gate();
            let written = httpd.root().join("gates").join(format!("{}.written", background.id()));
            if mark == "on" {
                let said = wait_for("the application to write", || std::fs::read_to_string(&written).ok());
                assert_eq!(said, "well\n");
            } else {
                wait_for("the request to be logged", || {
                    httpd
                        .access_log()
                        .iter()
                        .any(|line| line.contains("mark=off") && line.ends_with(" X"))
                        .then_some(())
                });
                let said = std::fs::read_to_string(&written).unwrap_or_default();
                assert_ne!(said, "well\n");
            }
        }
        httpd.allow_log("mod_fcgid: ap_pass_brigade failed");
        httpd.stop();
    }
}

/// The application says `off` when part of its response has gone, and then its client goes: it is told of that, as on stock httpd.
mod off_said_late {
    use super::*;

    on_every_handler_and_mpm! { sees_the_client_go;
        mod_php_on_prefork: ModPhp, Prefork;
        mod_lua_on_event: Lua, Event;
        mod_lua_on_worker: Lua, Worker;
        mod_lua_on_prefork: Lua, Prefork;
    }

    fn sees_the_client_go(handler: Handler, mpm: Mpm) {
        let httpd = server(handler, mpm, "FinishRequest On\nFinishRequestOnAbort Continue").start();
        httpd.install("static.txt", "a static file\n");
        let page = LATE.install(&httpd, handler, "late");
        for (off, said) in [("on", "well\n"), ("off", "badly\n")] {
            side_by_side(mpm.protocols(), |&protocol| {
                let background =
                    left_in_the_middle(&httpd, protocol, &page, &format!("mark=on&off={off}"), Leaves::Aborts);
                let written = httpd.root().join("gates").join(format!("{}.written", background.id()));
                let what = wait_for("the application to write", || std::fs::read_to_string(&written).ok());
                assert_eq!(what, said, "{protocol:?}");
            });
        }
        httpd.stop();
    }
}

/// Waits for the gate; writes then, several times, and says whether that went well. With `off` in its query part of the response goes
/// before that, and what `off` is set to is said of it.
const LATE: Application = Application {
    php: r#"
        header('Content-Type: text/plain');
        header('Content-Length: 4000000');
        header("X-Finish-Request: {$_GET['mark']}");
        if (isset($_GET['off'])) {
            ignore_user_abort(true);
            echo str_repeat('W', 10_000);
            flush();
            apache_setenv('finish-request', $_GET['off']);
            echo 'W';
            flush();
        }
        touch("@GATES@/{$_GET['id']}.began");
        while (!file_exists("@GATES@/{$_GET['id']}.gate")) {
            usleep(10_000);
            clearstatcache();
        }
        for ($i = 0; $i < 20; $i++) {
            echo str_repeat('W', 100_000);
            flush();
        }
        $said = connection_status() === CONNECTION_NORMAL ? "well\n" : "badly\n";
        file_put_contents("@GATES@/{$_GET['id']}.writing", $said);
        rename("@GATES@/{$_GET['id']}.writing", "@GATES@/{$_GET['id']}.written");
    "#,
    sh: r#"
        query mark none
        trap '' PIPE
        gates='@GATES@'
        : >"$gates/$id.began"
        while [ ! -e "$gates/$id.gate" ]; do
            sleep 0.05
        done
        printf 'Content-Type: text/plain\r\nContent-Length: 4000000\r\nX-Finish-Request: %s\r\n\r\n' "$mark"
        said=well
        i=0
        while [ $i -lt 20 ]; do
            leak 100000 2>/dev/null || said=badly
            i=$((i + 1))
        done
        echo $said >"$gates/$id.writing"
        mv "$gates/$id.writing" "$gates/$id.written"
    "#,
    lua: r#"
        local gates = "@GATES@/" .. query.id
        r.content_type = "text/plain"
        r.headers_out["Content-Length"] = "4000000"
        r.headers_out["X-Finish-Request"] = query.mark
        if query.off then
            r:write(("W"):rep(10000))
            r:flush()
            r.subprocess_env["finish-request"] = query.off
            r:write("W")
            r:flush()
        end
        assert(io.open(gates .. ".began", "w")):close()
        local gate = nil
        while not gate do
            r.usleep(10000)
            gate = io.open(gates .. ".gate")
        end
        gate:close()
        local said = "well"
        for i = 1, 20 do
            if r:write(("W"):rep(100000)) < 0 then
                said = "badly"
            end
        end
        local file = assert(io.open(gates .. ".writing", "w"))
        file:write(said .. "\n")
        file:close()
        os.rename(gates .. ".writing", gates .. ".written")
        return apache2.OK
    "#,
};

/// The limit of background work holds for what goes on without its client too.
#[test]
fn the_time_limit_counts_from_the_abort() {
    let config = "FinishRequest On\nFinishRequestOnAbort Continue\nFinishRequestTimeout 1";
    let httpd = server(Handler::Cgi, Mpm::Event, config).start();
    httpd.expect_log("background work of /app.cgi has reached the 1 seconds of FinishRequestTimeout");
    let background = httpd.background();
    let client = Client::connect(&httpd, Protocol::Http1);
    // Half of what is printed before the gate is more than the client takes.
    let query = format!("length={LENGTH}&after={AFTER}");
    let connection = client.http1().unwrap();
    connection.pause();
    connection.get(&path(&background, "app.cgi", &query), &[]);
    background.wait_for_begin();
    client.abort();
    let done = background.wait_for_done();
    assert_eq!((done.gate, done.errors.as_str()), (0, "ended too early"));
    httpd.stop();
}

#[test]
fn htaccess() {
    let httpd = server(Handler::Cgi, Mpm::Event, "<Directory ${WWW}>\nAllowOverride FileInfo\n</Directory>").start();
    write(&httpd, ".htaccess", "FinishRequest On\nFinishRequestOnAbort Continue\n");
    let query = format!("length={LENGTH}&after={AFTER}");
    let background = left_in_the_middle(&httpd, Protocol::Http1, "app.cgi", &query, Leaves::Aborts);
    assert_eq!(background.wait_for_done().errors, "");
    httpd.stop();
}

/// All requests of a chain of internal redirects have the same client.
#[test]
fn after_an_internal_redirect() {
    let config = "FinishRequest On
        FinishRequestOnAbort Continue
        <Directory ${WWW}>
          RewriteEngine On
          RewriteRule ^front$ /app.cgi
        </Directory>";
    let httpd = server(Handler::Cgi, Mpm::Event, config).modules(&["rewrite"]).start();
    httpd.install("static.txt", "a static file\n");
    for &protocol in Mpm::Event.protocols() {
        for (mark, goes_on) in [("on", true), ("off", false)] {
            let query = format!("mark={mark}&length={LENGTH}&after={AFTER}");
            let background = left_in_the_middle(&httpd, protocol, "front", &query, Leaves::Aborts);
            let done = background.wait_for_done();
            assert_eq!(done.errors.is_empty() && done.ended > 0, goes_on, "{mark} {protocol:?}: {done:?}");
            let id = format!("id={}&", background.id());
            wait_for("the request to be logged as aborted", || {
                httpd.access_log().iter().any(|line| line.contains(&id) && line.ends_with(" X")).then_some(())
            });
        }
    }
    httpd.stop();
}

/// mod_proxy_http keeps the connection record that it saw first, and looks at it after each write.
#[test]
fn behind_mod_proxy_http() {
    let backend = server(Handler::Cgi, Mpm::Event, "").without_module().start();
    let address = backend.address();
    for mpm in Mpm::ALL {
        let front = Httpd::builder(mpm)
            .modules(&["proxy", "proxy_http"])
            .config(&format!(
                "FinishRequest On
                 FinishRequestOnAbort Continue
                 ProxyPass /static.txt !
                 ProxyErrorOverride On
                 ProxyPass / http://{address}/ disablereuse=on"
            ))
            .start();
        front.install("static.txt", "a static file\n");
        let query = format!("mark=length%3D{LENGTH}&after={AFTER}");
        for &protocol in mpm.protocols() {
            let background = backend.background();
            left_at(&front, protocol, &background, "app.cgi", &query, Leaves::Aborts);
            let done = background.wait_for_done();
            assert_eq!(done.errors, "", "{mpm:?} {protocol:?}");
        }
        logged_as_aborted(&front, mpm.protocols().len());
        // A connection that goes on is not lost to a page that is not marked, nor to an error page.
        let connection = front.connect();
        let unmarked = ("app.cgi?mark=none", 200);
        for (page, status) in [unmarked, ("nowhere", 404), unmarked] {
            connection.get(&format!("/{page}"), &[]);
            assert_eq!(connection.response().status, status);
        }
        assert!(!connection.has_ended());
        drop(connection);
        front.stop();
    }
    backend.stop();
}

/// A WebSocket may be silent for longer than a request's body: its tunnel has no filter of mod_reqtimeout's.
#[test]
fn a_tunnel_is_as_without_the_module() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for mpm in Mpm::ALL {
        let httpd = Httpd::builder(mpm)
            .modules(&["proxy", "proxy_http", "reqtimeout"])
            .config(&format!(
                "FinishRequest On
                 FinishRequestOnAbort Continue
                 RequestReadTimeout body=1
                 ProxyPass / http://{address}/ upgrade=websocket"
            ))
            .start();
        let mut client = TcpStream::connect(httpd.address()).unwrap();
        let head = "GET /socket HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        client.write_all(head.as_bytes()).unwrap();
        let (mut backend, _) = listener.accept().unwrap();
        head_of(&mut backend);
        let switched = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
        backend.write_all(switched.as_bytes()).unwrap();
        assert!(head_of(&mut client).starts_with("HTTP/1.1 101 "), "{mpm:?}");
        for word in [b"first", b"later"] {
            client.write_all(word).unwrap();
            let mut heard = [0; 5];
            backend.read_exact(&mut heard).unwrap();
            assert_eq!(&heard, word, "{mpm:?}");
            thread::sleep(Duration::from_millis(1500));
        }
        drop((client, backend));
        // A stop before the tunnel has seen that may leave a child of worker waiting for sockets that httpd has closed.
        wait_for("the end of the tunnel", || {
            httpd.access_log().iter().any(|line| line.contains("/socket")).then_some(())
        });
        httpd.stop();
    }
}

/// Reads the head of a request or a response, to the empty line.
fn head_of(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// Expects that so many requests were logged, each once, each as one whose client went away.
#[track_caller]
fn logged_as_aborted(httpd: &Httpd, count: usize) {
    assert_eq!(logged(httpd, count), vec!["200 X"; count]);
}

/// Waits until so many requests have been logged; gives the status and the connection's state of each.
#[track_caller]
fn logged(httpd: &Httpd, count: usize) -> Vec<String> {
    let lines = || httpd.access_log().into_iter().filter(|line| line.contains("/app.")).collect::<Vec<_>>();
    let lines = wait_for("the requests to be logged", || Some(lines()).filter(|lines| lines.len() >= count));
    let mut states: Vec<_> = lines
        .iter()
        .map(|line| {
            let fields: Vec<_> = line.rsplit(' ').collect();
            format!("{} {}", fields[3], fields[0])
        })
        .collect();
    states.sort();
    states
}
