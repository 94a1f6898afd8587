//! A kept connection is its client's in all that depends on who that is: addresses, virtual hosts, access control, time limits,
//! the scoreboard; on the second and third request as on the first.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use support::http1::{Connection, EndKind};
use support::{Background, Handler, Httpd, Mpm, wait_for};

use crate::judge::{path, ran_to_its_end, side_by_side};

const KEEP: &str = "FinishRequest On\nFinishRequestConnection Keep\n";

/// Says which virtual host it is, and what it knows of the addresses, and works on.
const WHO: &str = "function handle(r)
    local background = dofile('${WWW}/background.lua')
    local query = r:parseargs()
    local text = r.server_name .. ' ' .. r.useragent_ip
    r.content_type = 'text/plain'
    r.headers_out['X-Finish-Request'] = 'length=' .. #text
    r:write(text)
    r:flush()
    background.run(r, query.id, 0)
    return apache2.OK
end";

fn install(httpd: &Httpd) {
    httpd.install("who.lua", &WHO.replace("${WWW}", &httpd.root().join("www").to_string_lossy()));
}

/// Sends three requests over each connection, each with work that waits; gives what the responses say.
fn ask(httpd: &Httpd, connection: &Connection, host: &str) -> Vec<String> {
    let works: Vec<Background> = (0..3).map(|_| httpd.background()).collect();
    let answers = works.iter().map(|background| {
        connection.send(format!("GET {} HTTP/1.1\r\nHost: {host}\r\n\r\n", background.query("who.lua")));
        String::from_utf8(connection.response().body).unwrap()
    });
    let answers = answers.collect();
    works.iter().for_each(Background::wait_for_begin);
    assert!(works.iter().all(|background| !background.is_done()));
    works.iter().for_each(|background| {
        ran_to_its_end(background);
    });
    answers
}

/// Several addresses, IPv4 and IPv6, with virtual hosts by address and by name; what is logged is the client's and the server's.
#[test]
fn addresses_and_virtual_hosts() {
    side_by_side(Mpm::ALL, |mpm| {
        let hosts = "Listen 127.0.0.2:${PORT}\nListen [::1]:${PORT}\nUseCanonicalName On
            <VirtualHost 127.0.0.1:${PORT}>\nServerName first.test\n</VirtualHost>
            <VirtualHost 127.0.0.1:${PORT}>\nServerName second.test\n</VirtualHost>
            <VirtualHost 127.0.0.2:${PORT}>\nServerName other.test\n</VirtualHost>
            <VirtualHost [::1]:${PORT}>\nServerName six.test\n</VirtualHost>
            CustomLog \"${ROOT}/kept.log\" \"%h %{remote}p %A %{local}p %v\"\n";
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).workers(32).config(KEEP).config(hosts).start();
        install(&httpd);
        let port = httpd.address().port();
        let cases: [(IpAddr, &str, &str); 5] = [
            (Ipv4Addr::LOCALHOST.into(), "first.test", "first.test"),
            (Ipv4Addr::LOCALHOST.into(), "second.test", "second.test"),
            (Ipv4Addr::LOCALHOST.into(), "unknown.test", "first.test"),
            (Ipv4Addr::new(127, 0, 0, 2).into(), "second.test", "other.test"),
            (Ipv6Addr::LOCALHOST.into(), "second.test", "six.test"),
        ];
        for (address, host, expected) in cases {
            let connection = Connection::plain(SocketAddr::new(address, port));
            let client = connection.local_address();
            let answers = ask(&httpd, &connection, host);
            assert_eq!(answers, vec![format!("{expected} {}", client.ip()); 3], "{address} {host}");
            let line = format!("{} {} {address} {port} {expected}", client.ip(), client.port());
            wait_for(&format!("three lines '{line}'"), || {
                let log = fs::read_to_string(httpd.root().join("kept.log")).unwrap_or_default();
                let count = log.lines().filter(|logged| logged.starts_with(&line)).count();
                (count == 3).then_some(())
            });
            assert!(!connection.has_ended());
        }
        httpd.stop();
    });
}

/// `Require ip` holds for the client, on a kept connection too.
#[test]
fn access_by_address() {
    side_by_side(Mpm::ALL, |mpm| {
        let rules = "Listen [::1]:${PORT}\n<Location /four>\nRequire ip 127.0.0.1\n</Location>\n\
                     <Location /six>\nRequire ip ::1\n</Location>\n<Location /other>\nRequire ip 192.0.2.1\n</Location>\n";
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .modules(&["authz_host", "authn_core"])
            .config(KEEP)
            .config(rules)
            .start();
        httpd.allow_log("AH01630");
        install(&httpd);
        for place in ["four", "six", "other"] {
            fs::create_dir(httpd.root().join("www").join(place)).unwrap();
            fs::write(httpd.root().join("www").join(place).join("page.txt"), place).unwrap();
        }
        for (address, expected) in
            [(IpAddr::from(Ipv4Addr::LOCALHOST), [200, 403, 403]), (Ipv6Addr::LOCALHOST.into(), [403, 200, 403])]
        {
            let connection = Connection::plain(SocketAddr::new(address, httpd.address().port()));
            ask(&httpd, &connection, "localhost");
            let got = ["four", "six", "other"].map(|place| {
                connection.get(&format!("/{place}/page.txt"), &[]);
                let status = connection.response().status;
                ask(&httpd, &connection, "localhost");
                status
            });
            assert_eq!(got, expected, "{address}");
        }
        httpd.stop();
    });
}

/// mod_reqtimeout: the header of the second request never comes to its end. The client gets 408 in the time that is set for
/// a header, not in `Timeout`; and not before a byte of it has come, though the connection is idle for longer.
#[test]
fn a_header_that_does_not_end() {
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .modules(&["reqtimeout"])
            .config(KEEP)
            .config("RequestReadTimeout header=8 body=8")
            .start();
        // In the packet of the first request, and after it; and not marked, for what stock httpd does.
        let cases = [("", "GET /never HTTP/1.1\r\nHost:"), ("GET /never HTTP/1.1\r\n", "Host:"), ("GET /ne", "ver")];
        side_by_side(cases, |(together, later)| {
            let [ordinary, kept] = ["none", "on"].map(|mark| {
                let background = httpd.background();
                let connection = httpd.connect();
                let target = path(&background, "app.lua", &format!("mark={mark}&after=0"));
                connection.send(format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n{together}"));
                background.wait_for_begin();
                if mark == "none" {
                    background.open_gate();
                }
                assert_eq!(connection.response().status, 200);
                connection.send(later);
                let status = connection.response_or_end().map(|response| response.status).map_err(|end| end.kind);
                assert_eq!(connection.end().kind, EndKind::Fin);
                if mark == "on" {
                    assert!(!background.is_done());
                }
                ran_to_its_end(&background);
                status
            });

            assert_eq!(ordinary, kept, "{together} {later}");
            assert!(later == "ver" || kept == Ok(408));
        });
        httpd.stop();
    });
}

/// mod_status: the scoreboard has the client, the virtual host and the request of a kept connection.
#[test]
fn the_scoreboard() {
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .modules(&["status"])
            .config(KEEP)
            .config(
                "ExtendedStatus On\nListen 127.0.0.2:${PORT}\nListen [::1]:${PORT}\n\
                 <Location /server-status>\nSetHandler server-status\n</Location>\n\
                 <VirtualHost 127.0.0.2:${PORT} [::1]:${PORT}>\nServerName board.test\n</VirtualHost>",
            )
            .start();
        install(&httpd);
        let port = httpd.address().port();
        for address in [IpAddr::from(Ipv4Addr::new(127, 0, 0, 2)), Ipv6Addr::LOCALHOST.into()] {
            let connection = Connection::plain(SocketAddr::new(address, port));
            let client = connection.local_address().ip();
            let works: Vec<Background> = (0..3).map(|_| httpd.background()).collect();
            for background in &works {
                connection.send(format!("GET {} HTTP/1.1\r\nHost: board.test\r\n\r\n", background.query("who.lua")));
                connection.response();
                background.wait_for_begin();
            }
            let status = httpd.connect();
            status.get("/server-status", &[]);
            let page = String::from_utf8(status.response().body).unwrap();
            for background in &works {
                let row = page
                    .split("<tr>")
                    .find(|row| row.contains(&background.query("who.lua")))
                    .unwrap_or_else(|| panic!("{page}"));
                assert!(row.contains(&format!("<td>{client}</td>")), "{row}");
                assert!(row.contains(&format!("board.test:{port}")), "{row}");
            }
            works.iter().for_each(|background| {
                ran_to_its_end(background);
            });
            // Now it is its worker's again. Under event it waits without a thread, and has no place of its own.
            if mpm != Mpm::Event {
                wait_for("the connection to be shown as one that waits for its next request", || {
                    status.get("/server-status?auto", &[]);
                    let lines = String::from_utf8(status.response().body).unwrap();
                    let scoreboard = lines.lines().find_map(|line| line.strip_prefix("Scoreboard: ")).unwrap();
                    scoreboard.contains('K').then_some(())
                });
            }
        }
        httpd.stop();
    });
}
