//! A handler that fails when a part of its marked response is out: the client sees that it is cut, and no error page is taken for the rest of it, or
//! for the next response.

use std::io::Read;

use support::http1::EndKind;
use support::{Client, Handler, Httpd, Mpm, Protocol, wait_for};

use crate::judge::{assert_body, side_by_side, write};

/// Sends so many bytes of a body, and gives a status that httpd makes an error page of.
const FAILS: &str = r#"
function handle(r)
    local query = r:parseargs()
    r.content_type = "text/plain"
    if query.chunks then
        r.headers_out["Transfer-Encoding"] = "chunked"
    elseif query.length then
        r.headers_out["Content-Length"] = query.length
    end
    r.headers_out["X-Finish-Request"] = query.mark
    local body = ("x"):rep(tonumber(query.bytes))
    if query.chunks then
        body = ("%x\r\n%s\r\n"):format(#body, body)
    end
    r:write(body .. (query.more or ""))
    if query.flush ~= "no" then
        r:flush()
    end
    return tonumber(query.status or "404")
end
"#;

/// Longer than what is left of the body that it stands behind.
const PAGE: &str =
    "the page of an error, which would fill up each of the bodies here, and begin the response after that";

const SHORT: &str = "finish_request:warn.*it ended before the end that it promised";

/// Where the error page comes from: httpd itself, another request, or another request that is not to be had.
const PAGES: [&str; 4] =
    ["", "ErrorDocument 404 /page.txt", "ErrorDocument 404 /app.lua", "ErrorDocument 404 /missing.txt"];

const CONNECTIONS: [&str; 4] = [
    "FinishRequestConnection Close",
    "FinishRequestConnection Keep",
    "FinishRequestMax 0",
    "FinishRequestConnection Keep\nFinishRequestMax 0",
];

fn start(mpm: Mpm, config: &str) -> Httpd {
    let httpd = Httpd::builder(mpm).handler(Handler::Lua).config(&format!("FinishRequest On\n{config}")).start();
    httpd.install("fails.lua", FAILS);
    write(&httpd, "page.txt", PAGE);
    httpd
}

/// What the client of this connection has got of the body, up to where the connection ends. A stream that is reset may lose what has come.
#[track_caller]
fn cut(client: &Client, target: &str) -> Vec<u8> {
    if let Some(connection) = client.http2() {
        let stream = connection.get(target, &[]);
        let failure = stream.response_or_failure().expect_err("not a whole response");
        assert!(failure.code.is_some(), "the stream is reset: {failure:?}");
        // Nothing but the stream is.
        assert_eq!(client.get("/page.txt", &[]).response().status, 200);
        return stream.data().into_iter().flat_map(|(_, bytes)| bytes).collect();
    }
    client.get(target, &[]);
    let connection = client.http1().unwrap();
    if let Ok(response) = connection.response_or_end() {
        panic!("not a whole response: {}", response.body.escape_ascii());
    }
    connection.end();
    let seen = connection.received();
    let head = seen.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
    seen[head..].to_vec()
}

/// That is all that was sent of it, and no more.
#[track_caller]
fn is_part(client: &Client, seen: &[u8], sent: &str) {
    let seen = seen.escape_ascii().to_string();
    let wanted = if client.http1().is_some() { seen == sent } else { sent.starts_with(&seen) };
    assert!(wanted, "{seen}, not {sent}");
}

on_every_mpm!(in_the_middle_of_a_length);

/// Fewer bytes than the client was told.
fn in_the_middle_of_a_length(mpm: Mpm) {
    let cases = CONNECTIONS
        .map(|connection| (connection, PAGES[1]))
        .into_iter()
        .chain(PAGES.map(|page| (CONNECTIONS[1], page)));
    side_by_side(cases, |(connection, page)| {
        let httpd = start(mpm, &format!("{connection}\n{page}"));
        httpd.expect_log(SHORT);
        for &protocol in mpm.protocols() {
            for query in ["mark=length%3D100", "mark=on&length=100"] {
                let client = Client::connect(&httpd, protocol);
                is_part(&client, &cut(&client, &format!("/fails.lua?bytes=50&{query}")), &"x".repeat(50));
            }
        }
        httpd.stop();
    });
}

/// A status without a body makes the body no longer.
#[test]
fn with_a_status_that_has_no_body() {
    let httpd = start(Mpm::Event, "FinishRequestConnection Keep");
    httpd.expect_log(SHORT);
    for &protocol in Mpm::Event.protocols() {
        for status in [204, 304] {
            let client = Client::connect(&httpd, protocol);
            let seen = cut(&client, &format!("/fails.lua?bytes=50&mark=length%3D100&status={status}"));
            is_part(&client, &seen, &"x".repeat(50));
        }
    }
    httpd.stop();
}

on_every_mpm!(without_a_page);

/// A handler that says that its client knows already, and one that says nothing that httpd knows.
fn without_a_page(mpm: Mpm) {
    side_by_side(CONNECTIONS, |connection| {
        let httpd = start(mpm, connection);
        httpd.expect_log(SHORT);
        httpd.expect_log("AH00524");
        for &protocol in mpm.protocols() {
            for (query, status) in ["mark=length%3D100", "mark=on&length=100", "mark=on&chunks=yes"]
                .into_iter()
                .flat_map(|query| ["-102", "42"].map(|status| (query, status)))
            {
                let client = Client::connect(&httpd, protocol);
                let seen = cut(&client, &format!("/fails.lua?bytes=50&{query}&status={status}"));
                let sent = if query.contains("chunks") && client.http1().is_some() {
                    "32\\r\\n".to_owned() + &"x".repeat(50) + "\\r\\n"
                } else {
                    "x".repeat(50)
                };
                is_part(&client, &seen, &sent);
            }
        }
        httpd.stop();
    });
}

on_every_mpm!(a_script_that_hangs);

/// A script that says no more until its time has passed, behind a part of its body.
fn a_script_that_hangs(mpm: Mpm) {
    const HANGS: &str = "#!/bin/sh\n\
                         printf 'Content-Type: text/plain\\nContent-Length: 100\\nX-Finish-Request: on\\n\\n'\n\
                         printf %050d 0\nexec sleep 60\n";
    side_by_side(CONNECTIONS, |connection| {
        let config = format!(
            "FinishRequest On\n{connection}\nTimeout 8\n\
             <IfDirective CGIScriptTimeout>\nCGIScriptTimeout 8\n</IfDirective>\n\
             <IfDirective CGIDScriptTimeout>\nCGIDScriptTimeout 8\n</IfDirective>"
        );
        let httpd = Httpd::builder(mpm).handler(Handler::Cgi).config(&config).start();
        httpd.install("hangs.cgi", HANGS);
        write(&httpd, "page.txt", PAGE);
        httpd.expect_log(SHORT);
        httpd.allow_log("cgi:|cgid:");
        side_by_side(mpm.protocols(), |protocol| {
            let client = Client::connect(&httpd, *protocol);
            is_part(&client, &cut(&client, "/hangs.cgi"), &"0".repeat(50));
        });
        httpd.stop();
    });
}

on_every_mpm!(before_a_boundary_or_a_last_chunk);

/// What has its end in itself, and has not come to it, has none.
fn before_a_boundary_or_a_last_chunk(mpm: Mpm) {
    const TOKEN: &str = "0123456789abcdef";
    side_by_side(["", "FinishRequestConnection Keep\nErrorDocument 404 /page.txt", "FinishRequestMax 0"], |config| {
        let httpd = start(mpm, config);
        httpd.expect_log(SHORT);
        for &protocol in mpm.protocols() {
            for query in [
                "mark=boundary%3D%220123456789abcdef%22&bytes=50",
                // The boundary's beginning.
                &format!("mark=boundary%3D%22{TOKEN}%22&bytes=40&more={}", &TOKEN[..10]),
                "mark=on&chunks=yes&bytes=50",
            ] {
                let client = Client::connect(&httpd, protocol);
                let mut seen = String::from_utf8(cut(&client, &format!("/fails.lua?{query}"))).unwrap();
                assert!(!seen.contains("0\r\n\r\n"), "{protocol:?} {query}: {seen}");
                if client.http1().is_some() {
                    ["32\r\n", "28\r\n", "a\r\n", "\r\n"].iter().for_each(|framing| seen = seen.replace(framing, ""));
                }
                let wanted = if query.contains("more") { "x".repeat(40) + &TOKEN[..10] } else { "x".repeat(50) };
                is_part(&client, seen.as_bytes(), &wanted);
            }
        }
        httpd.stop();
    });
}

on_every_mpm!(behind_the_whole_body);

/// The body is there, and the client waits for the handler, as there is no place for its work: nothing comes behind it.
fn behind_the_whole_body(mpm: Mpm) {
    side_by_side(PAGES.map(|page| (page, "Keep")).into_iter().chain([("", "Close")]), |(page, after)| {
        let httpd = start(mpm, &format!("FinishRequestMax 0\nFinishRequestConnection {after}\n{page}"));
        httpd.allow_log("finish_request:warn.*FinishRequestMax");
        for &protocol in mpm.protocols() {
            for query in ["mark=length%3D50", "mark=on&length=50", "mark=on&chunks=yes&more=0%0D%0A%0D%0A"] {
                let client = Client::connect(&httpd, protocol);
                assert_body(&client.get(&format!("/fails.lua?bytes=50&{query}"), &[]).released(), &b"x".repeat(50));
            }
        }
        httpd.stop();
    });
}

on_every_mpm!(behind_what_waits_for_a_slow_client);

/// A part of the body waits for the client when the page has second thoughts, and fails behind the whole.
fn behind_what_waits_for_a_slow_client(mpm: Mpm) {
    const BYTES: usize = 300_000;
    let httpd = start(mpm, "FinishRequestConnection Close\nSendBufferSize 16384");
    let written = httpd.root().join("gates/written");
    httpd.install(
        "thinks.lua",
        &format!(
            r#"function handle(r)
                r.content_type = "text/plain"
                r.headers_out["Content-Length"] = "{BYTES}"
                r.headers_out["X-Finish-Request"] = "on"
                r:write(("x"):rep({BYTES} - 50000))
                r:flush()
                r.subprocess_env["finish-request"] = "off"
                r:write(("x"):rep(50000))
                r:flush()
                io.open("{}", "w"):close()
                return 404
            end"#,
            written.display()
        ),
    );
    let client = httpd.connect_slow();
    client.get("/thinks.lua", &[]);
    wait_for("all of it to wait in memory", || written.exists().then_some(()));
    client.resume();
    let response = client.response();
    assert_body(&response, &b"x".repeat(BYTES));
    assert_eq!(client.end().kind, EndKind::Fin);
    assert_eq!(client.rest(), b"");
    httpd.stop();
}

/// Where a flush would have ended the response, and none has come, it is what it is without a mark.
#[test]
fn before_a_flush() {
    let [stock, httpd] = [true, false].map(|is_stock| {
        let builder = Httpd::builder(Mpm::Event).handler(Handler::Lua);
        let builder = if is_stock { builder.without_module() } else { builder.config("FinishRequest On") };
        let httpd = builder.start();
        httpd.install("fails.lua", FAILS);
        httpd
    });
    for &protocol in Mpm::Event.protocols() {
        let [expected, seen] = [&stock, &httpd].map(|server| {
            let client = Client::connect(server, protocol);
            client.get("/fails.lua?mark=flush&flush=no&bytes=100000", &[]).response()
        });
        assert_eq!(seen.status, 200);
        assert_body(&seen, &expected.body);
    }
    stock.stop();
    httpd.stop();
}

/// A program of mod_fcgid's that dies: mod_fcgid gives an error status.
#[test]
fn a_program_that_dies() {
    let configs = ["", "FinishRequestConnection Keep", "FinishRequestMax 0", "ErrorDocument 500 /page.txt"];
    side_by_side(Mpm::ALL.iter().flat_map(|mpm| configs.map(|config| (*mpm, config))), |(mpm, config)| {
        let httpd =
            Httpd::builder(mpm).handler(Handler::ModFcgid).config(&format!("FinishRequest On\n{config}")).start();
        write(&httpd, "page.txt", PAGE);
        httpd.install(
            "dies.php",
            "<?php\nheader('Content-Type: text/plain');\nheader('X-Finish-Request: length=100');\n\
             while (ob_get_level()) { ob_end_clean(); }\n\
             echo str_repeat('x', 50);\nflush();\n\
             while (!file_exists($_GET['till'])) { usleep(1000); clearstatcache(); }\n\
             exec('kill -9 ' . getmypid());\nsleep(60);\n",
        );
        httpd.expect_log(SHORT);
        httpd.allow_log("fcgid:");
        for (number, &protocol) in mpm.protocols().iter().enumerate() {
            let client = Client::connect(&httpd, protocol);
            let till = httpd.root().join(format!("till-{number}"));
            let exchange = client.get(&format!("/dies.php?till={}", till.display()), &[]);
            let part =
                wait_for("a part", || exchange.so_far().map(|response| response.body).filter(|body| body.len() == 50));
            assert_eq!(part, b"x".repeat(50));
            std::fs::write(till, "").unwrap();
            let Some(connection) = client.http1() else {
                let failure = exchange.failure().expect_err("not a whole response");
                assert!(failure.code.is_some(), "the stream is reset: {failure:?}");
                continue;
            };
            assert!(connection.response_or_end().is_err(), "not a whole response");
            connection.end();
            let seen = connection.received();
            assert!(seen.ends_with(&[&b"\r\n\r\n"[..], &part].concat()), "{}", seen.escape_ascii());
        }
        httpd.stop();
    });
}

/// It is logged once, with the status that the handler gave.
#[test]
fn is_logged_once() {
    for log in ["Client", "End"] {
        let config = format!("FinishRequestLog {log}\nCustomLog \"${{ROOT}}/statuses.log\" \"%>s %U\"");
        let httpd = start(Mpm::Event, &config);
        httpd.expect_log(SHORT);
        for _ in 0..2 {
            let client = Client::connect(&httpd, Protocol::Http1);
            cut(&client, "/fails.lua?bytes=50&mark=length%3D100");
            assert_eq!(client.http1().unwrap().end().kind, EndKind::Fin);
        }
        let mut file = std::fs::File::open(httpd.root().join("statuses.log")).unwrap();
        httpd.stop();
        let mut lines = String::new();
        file.read_to_string(&mut lines).unwrap();
        assert_eq!(lines, "404 /fails.lua\n".repeat(2));
    }
}

on_every_mpm!(an_error_document_that_fails);

/// It has a status of its own, and is no less cut than any page.
fn an_error_document_that_fails(mpm: Mpm) {
    let httpd = start(mpm, "ErrorDocument 404 /own.lua\nErrorDocument 500 /page.txt");
    httpd.install(
        "own.lua",
        r#"function handle(r)
            r.status = 200
            r.content_type = "text/plain"
            r.headers_out["Content-Length"] = "1000"
            r.headers_out["X-Finish-Request"] = "on"
            r:write(("x"):rep(400))
            r:flush()
            return 500
        end"#,
    );
    httpd.expect_log(SHORT);
    for &protocol in mpm.protocols() {
        let got = cut(&Client::connect(&httpd, protocol), "/nowhere");
        assert!(b"x".repeat(400).starts_with(&got), "{protocol:?}: {}", String::from_utf8_lossy(&got));
    }
    httpd.stop();
}
