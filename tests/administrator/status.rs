//! What mod_status and mod_info show of background work.

use std::collections::HashMap;

use support::{Background, Builder, Client, Handler, Httpd, Mpm, Protocol, Signal, kill, wait_for};

use crate::judge::{Application, path, ran_to_its_end};

/// Adds mod_status to a server that finishes requests.
pub fn with_status(builder: Builder) -> Builder {
    builder.modules(&["status"]).config(
        "FinishRequest On
        <LocationMatch ^/server-status>
          SetHandler server-status
        </LocationMatch>",
    )
}

/// The page with this query.
#[track_caller]
pub fn page(httpd: &Httpd, query: &str) -> String {
    let connection = httpd.connect();
    connection.get(&format!("/server-status{query}"), &[("Connection", "close")]);
    let response = connection.response();
    assert_eq!(response.status, 200);
    String::from_utf8(response.body).expect("ASCII")
}

/// The module's counts: `Finished`, `Running`, `Kept`, `OverLimit`, `TimedOut`.
#[track_caller]
pub fn counts(httpd: &Httpd) -> HashMap<String, u64> {
    let page = page(httpd, "?auto");
    page.lines()
        .filter_map(|line| line.strip_prefix("FinishRequest")?.split_once(": "))
        .filter(|(name, _)| !["Version", "Max"].contains(name) && !name.starts_with("Host["))
        .map(|(name, count)| (name.to_owned(), count.parse().unwrap()))
        .collect()
}

/// The counts of the virtual host of this name: those of the server, by the same names, and `Max`.
#[track_caller]
pub fn host_counts(httpd: &Httpd, name: &str) -> HashMap<String, u64> {
    let page = page(httpd, "?auto");
    let line = page.lines().find(|line| line.ends_with(&format!("Name: {name}"))).expect("the host");
    let prefix = line.split_once("Name").unwrap().0;
    let lines = page.lines().filter_map(|line| line.strip_prefix(prefix)?.split_once(": "));
    lines.filter(|(name, _)| *name != "Name").map(|(name, count)| (name.to_owned(), count.parse().unwrap())).collect()
}

/// Waits until so many requests are in background work.
#[track_caller]
pub fn wait_for_running(httpd: &Httpd, running: u64) {
    wait_for(&format!("{running} requests in background work"), || (counts(httpd)["Running"] == running).then_some(()));
}

/// The fields of each row of the module's table: process id, seconds, marked by, virtual host, request line.
#[track_caller]
pub fn rows(httpd: &Httpd) -> Vec<[String; 5]> {
    let page = page(httpd, "");
    let section = page.split("Requests finished early").nth(1).expect("the module's section");
    let rows = section.lines().filter_map(|line| line.strip_prefix("<tr><td>")?.strip_suffix("</td></tr>"));
    rows.map(|row| {
        let fields = row.replace("<td nowrap>", "<td>");
        fields.split("</td><td>").map(str::to_owned).collect::<Vec<_>>().try_into().expect("five fields")
    })
    .collect()
}

/// A request that is finished, and works in the background.
#[track_caller]
fn finished(httpd: &Httpd, protocol: Protocol, page: &str, query: &str) -> Background {
    let background = httpd.background();
    Client::connect(httpd, protocol).get(&path(&background, page, query), &[]).released();
    background.wait_for_begin();
    background
}

on_every_mpm!(requests_and_counts);

fn requests_and_counts(mpm: Mpm) {
    let httpd = with_status(Httpd::builder(mpm).handler(Handler::Lua)).generations(4).start();
    let none = ["Finished", "Running", "Kept", "OverLimit", "TimedOut"].map(|name| (name.to_owned(), 0));
    assert_eq!(counts(&httpd), HashMap::from(none));

    let backgrounds: Vec<_> =
        mpm.protocols().iter().map(|&protocol| finished(&httpd, protocol, "app.lua", "mark=on")).collect();
    let count = backgrounds.len() as u64;
    wait_for_running(&httpd, count);
    assert_eq!(counts(&httpd)["Finished"], count);
    let rows = rows(&httpd);
    assert_eq!(rows.len(), backgrounds.len());
    for background in &backgrounds {
        let [pid, seconds, marked, vhost, request] =
            rows.iter().find(|row| row[4].contains(background.id())).expect("a row for each request");
        assert_ne!(pid.parse(), Ok(httpd.id()));
        assert!(seconds.parse::<u64>().unwrap() < 60);
        assert_eq!(marked, "header");
        assert!(request.starts_with(&format!("GET /app.lua?id={}&amp;mark=on HTTP/", background.id())), "{request}");
        let ports = [httpd.address().port(), httpd.tls_address().port()];
        assert!(ports.iter().any(|port| *vhost == format!("localhost:{port}")), "{vhost}");
    }
    let notable = page(&httpd, "?notable");
    assert!(!notable.contains("<th>Marked by") && notable.contains(", marked by header, <i>localhost:"), "{notable}");

    backgrounds.iter().for_each(|background| _ = ran_to_its_end(background));
    wait_for_running(&httpd, 0);
    assert_eq!(counts(&httpd)["Finished"], count);
    assert!(!page(&httpd, "").contains("<th>Marked by"));

    // httpd forgets its hooks at each restart; the counts stay.
    for restart in 2..4 {
        httpd.signal(Signal::USR1);
        wait_for_started(&httpd, restart);
        assert_eq!(page(&httpd, "?auto").matches("FinishRequestFinished").count(), 1);
        assert_eq!(counts(&httpd)["Finished"], count);
    }
    httpd.stop();
}

on_every_mpm!(kept_and_timed_out);

/// Connections that went on are counted, and works that were ended for having taken too long: for the server, and for the virtual host.
fn kept_and_timed_out(mpm: Mpm) {
    const ENDLESS: Application = Application {
        php: "",
        sh: "",
        lua: "background.answer(r)
              while r:write('L') >= 0 do
                  r:flush()
                  r.usleep(20000)
              end
              return apache2.OK",
    };
    let httpd = with_status(Httpd::builder(mpm).handler(Handler::Lua))
        .config(
            "FinishRequestConnection Keep
            <VirtualHost 127.0.0.1:${PORT}>
              ServerName ends.test
              FinishRequestTimeout 1
            </VirtualHost>
            <VirtualHost 127.0.0.1:${PORT}>
              ServerName goes-on.test
              FinishRequestConnection Close
            </VirtualHost>",
        )
        .start();
    httpd.expect_log("finish_request:warn.*has reached the \\d+ seconds of FinishRequestTimeout");
    let page_name = ENDLESS.install(&httpd, Handler::Lua, "endless");
    let connection = httpd.connect();
    for count in 1..=3 {
        connection.send(format!("GET /{page_name} HTTP/1.1\r\nHost: ends.test\r\n\r\n"));
        assert_eq!(connection.response().status, 200);
        wait_for("the connection to be counted", || (counts(&httpd)["Kept"] == count).then_some(()));
    }
    wait_for("the works to be ended", || (counts(&httpd)["TimedOut"] == 3).then_some(()));
    wait_for_running(&httpd, 0);
    let background = httpd.background();
    let connection = httpd.connect();
    let target = path(&background, "app.lua", "mark=on");
    connection.send(format!("GET {target} HTTP/1.1\r\nHost: goes-on.test\r\n\r\n"));
    assert_eq!(connection.response().status, 200);
    background.wait_for_begin();
    let numbers = ["Finished", "Running", "Kept", "OverLimit", "TimedOut"];
    assert_eq!(numbers.map(|number| counts(&httpd)[number]), [4, 1, 3, 0, 3]);
    let of_host = |name| numbers.map(|number| host_counts(&httpd, name)[number]);
    assert_eq!(of_host("ends.test"), [3, 0, 3, 0, 3]);
    assert_eq!(of_host("goes-on.test"), [1, 1, 0, 0, 0]);
    let text = page(&httpd, "");
    assert!(text.contains("Connections kept: 3, over the limit: 0, timed out: 3<"), "{text}");
    let limit = host_counts(&httpd, "ends.test")["Max"];
    let row = format!(">ends.test</td><td>3</td><td>0</td><td>{limit}</td><td>3</td><td>0</td><td>3</td>");
    assert!(text.contains(&row), "{text}");
    ran_to_its_end(&background);
    httpd.stop();
}

on_every_mpm!(no_count_falls_when_a_child_is_killed);

/// With `Auto` too, where an end of a work that does not come would have said that there was one.
fn no_count_falls_when_a_child_is_killed(mpm: Mpm) {
    let httpd = with_status(Httpd::builder(mpm).handler(Handler::Lua))
        .config("FinishRequest Auto\nServerName kills.test")
        .start();
    let background = finished(&httpd, Protocol::Http1, "app.lua", "mark=none&close=1");
    let row = wait_for("a row", || rows(&httpd).into_iter().next());
    assert_eq!(counts(&httpd)["Finished"], 1);
    kill(row[0].parse().unwrap());
    wait_for_running(&httpd, 0);
    let of_host = host_counts(&httpd, "kills.test")["Finished"];
    assert_eq!((counts(&httpd)["Finished"], of_host), (1, 1));
    drop(background);
    httpd.stop();
}

/// Waits until the server has been started or restarted so often.
#[track_caller]
pub fn wait_for_started(httpd: &Httpd, times: usize) {
    wait_for("a restart", || (httpd.log().matches("resuming normal operations").count() >= times).then_some(()));
}

#[test]
fn hostile_names_and_request_lines() {
    let long = "v".repeat(200);
    let httpd = with_status(Httpd::builder(Mpm::Event).handler(Handler::Lua))
        .config(&format!(
            "<VirtualHost 127.0.0.1:${{PORT}}>
              ServerName plain.test
            </VirtualHost>
            <VirtualHost 127.0.0.1:${{PORT}}>
              ServerName \"<script>alert('&\\\"')</script>\"
              ServerAlias script.test
            </VirtualHost>
            <VirtualHost 127.0.0.1:${{PORT}}>
              ServerName \u{e4}.test
              ServerAlias eight.test
            </VirtualHost>
            <VirtualHost 127.0.0.1:${{PORT}}>
              ServerName {long}.test
              ServerAlias long.test
            </VirtualHost>"
        ))
        .start();
    let cases: [(&str, &[u8]); 4] = [
        ("plain.test", b"<script>alert(1)</script>"),
        ("script.test", b"\"'><img/src=x>"),
        ("eight.test", b"\xe4\xff&lt;"),
        ("long.test", &[b'<'; 4000]),
    ];
    let backgrounds: Vec<_> = cases
        .iter()
        .map(|(host, text)| {
            let background = httpd.background();
            let connection = httpd.connect();
            let target = background.query("app.lua");
            let head = format!("\" HTTP/1.1\r\nHost: {host}\r\n\r\n");
            connection.send([format!("GET {target}&x=").as_bytes(), text, &head.as_bytes()[1..]].concat());
            assert_eq!(connection.response().status, 200, "{host}");
            background.wait_for_begin();
            background
        })
        .collect();
    wait_for_running(&httpd, 4);

    for query in ["", "?notable"] {
        let page = page(&httpd, query);
        let section = page.split("Requests finished early").nth(1).unwrap();
        for markup in ["<script", "<img", "alert('"] {
            assert!(!section.contains(markup), "{section}");
        }
        let port = httpd.address().port();
        for (text, background) in [
            "&lt;script&gt;alert(1)&lt;/script&gt;",
            "&quot;&#39;&gt;&lt;img/src=x&gt;",
            "\\xe4\\xff&amp;lt;",
            "&lt;&lt;&lt;...",
        ]
        .iter()
        .zip(&backgrounds)
        {
            let line = section.lines().find(|line| line.contains(background.id())).unwrap();
            assert!(line.contains(text), "{line}");
            assert!(line.len() < 2000, "{line}");
        }
        for host in [
            format!("plain.test:{port}"),
            format!("&lt;script&gt;alert(&#39;&amp;&quot;&#39;)&lt;/script&gt;:{port}"),
            format!("\\xc3\\xa4.test:{port}"),
            format!("{}...", "v".repeat(64)),
        ] {
            assert!(section.contains(&host), "{host} is not in {section}");
        }
    }
    assert_eq!(counts(&httpd)["Running"], 4);
    backgrounds.iter().for_each(|background| _ = ran_to_its_end(background));
    httpd.stop();
}

/// Without ExtendedStatus mod_status shows nobody's requests.
#[test]
fn without_extended_status_there_are_counts_alone() {
    let httpd = with_status(Httpd::builder(Mpm::Event).handler(Handler::Lua)).config("ExtendedStatus Off").start();
    let background = finished(&httpd, Protocol::Http1, "app.lua", "mark=on");
    for query in ["", "?notable"] {
        let page = page(&httpd, query);
        assert!(page.contains("in background work now: 1 of at most 48<"), "{page}");
        assert!(!page.contains(background.id()), "{page}");
    }
    assert_eq!(counts(&httpd)["Running"], 1);
    ran_to_its_end(&background);
    httpd.stop();
}

#[test]
fn how_it_was_marked() {
    let httpd = with_status(Httpd::builder(Mpm::Event).handler(Handler::Lua))
        .modules(&["alias", "env"])
        .config(
            "AliasMatch ^/(header|env|auto)/(.*)$ ${WWW}/$2
            <Location /env>
              SetEnv finish-request on
            </Location>
            <Location /auto>
              FinishRequest Auto
            </Location>
            CustomLog \"${ROOT}/notes.log\" \"%{finish-request}n %U%q\"",
        )
        .start();
    for (marked, mark) in [("header", "on"), ("env", "none"), ("auto", "none")] {
        let background = finished(&httpd, Protocol::Http2, &format!("{marked}/app.lua"), &format!("mark={mark}"));
        let row = wait_for("a row", || rows(&httpd).into_iter().find(|row| row[4].contains(background.id())));
        assert_eq!(row[2], marked);
        let is_noted = || {
            let log = std::fs::read_to_string(httpd.root().join("notes.log")).unwrap();
            let line = log.lines().find(|line| line.contains(background.id()))?;
            assert!(line.starts_with(&format!("{marked} ")), "{line}");
            Some(())
        };
        if marked != "auto" {
            wait_for("the note in the access log", is_noted);
        }
        ran_to_its_end(&background);
        // What is only believed to be complete is logged when it is known whether its handler worked on.
        wait_for("the note in the access log", is_noted);
    }
    httpd.stop();
}

#[test]
fn mod_status_is_optional() {
    for mpm in Mpm::ALL {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).generations(4).config("FinishRequest On").start();
        let background = finished(&httpd, Protocol::Http1, "app.lua", "mark=on");
        ran_to_its_end(&background);
        httpd.signal(Signal::USR1);
        wait_for_started(&httpd, 2);
        ran_to_its_end(&finished(&httpd, Protocol::Http1, "app.lua", "mark=on"));
        httpd.stop();
    }
}

#[test]
fn mod_info_shows_the_directives() {
    let httpd = Httpd::builder(Mpm::Event)
        .modules(&["info"])
        .config(
            "FinishRequestMax 7
            <Location /server-info>
              SetHandler server-info
              FinishRequest On
            </Location>",
        )
        .start();
    let connection = httpd.connect();
    connection.get("/server-info?mod_finish_request.c", &[]);
    let page = String::from_utf8(connection.response().body).unwrap();
    for directive in mod_finish_request::directives::MANUAL {
        assert!(page.contains(directive.name.to_str().unwrap()), "{page}");
    }
    connection.get("/server-info?config", &[]);
    let config = String::from_utf8(connection.response().body).unwrap();
    let words = config.replace("&nbsp;", " ");
    assert!(words.contains("FinishRequestMax <i>7</i>") && words.contains("FinishRequest <i>On</i>"), "{config}");
    httpd.stop();
}
