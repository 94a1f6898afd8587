//! `boundary="TOKEN"`: the response ends where the token stands, however the body is cut into pieces.

use support::{Background, Client, Handler, Httpd, Mpm, Protocol, body, wait_for};

const TOKEN: &str = "--end-of-the-answer";

/// Writes the pieces of its query, with points between them; a flush follows each unless `flush=no`. Waits at the
/// gate `hold` before the last one, if there is that gate, and then works in the background.
const PIECES: &str = r#"
function handle(r)
    local background = dofile(r.filename:match("^(.*)/") .. "/background.lua")
    local query = r:parseargs()
    r.content_type = "text/plain"
    r.headers_out["X-Finish-Request"] = 'boundary="' .. query.token .. '"'
    if query.length then
        r.headers_out["Content-Length"] = query.length
    end
    local pieces = {}
    for piece in query.pieces:gmatch("[^.]+") do
        table.insert(pieces, piece)
    end
    for index, piece in ipairs(pieces) do
        if query.hold and index == #pieces then
            background.run(r, query.hold, 0)
        end
        r:write(piece)
        if query.flush ~= "no" then
            r:flush()
        end
    end
    if query.id then
        background.run(r, query.id, 200)
    end
    return apache2.OK
end
"#;

fn start(mpm: Mpm, config: &str) -> Httpd {
    let httpd = Httpd::builder(mpm)
        .handler(Handler::Lua)
        .handler(Handler::Cgi)
        .modules(&["filter", "deflate"])
        .config("FinishRequest On\nAddOutputFilterByType DEFLATE text/plain")
        .config(config)
        .start();
    httpd.install("pieces.lua", PIECES);
    httpd
}

fn path(pieces: &[&str], background: &Background) -> String {
    format!("{}&token={TOKEN}&pieces={}", background.query("pieces.lua"), pieces.join("."))
}

fn finishes(client: &Client, httpd: &Httpd, pieces: &[&str], more: &str, expected: &str) {
    let background = httpd.background();
    let response = client.get(&(path(pieces, &background) + more), &[]).released();
    assert_eq!(response.body.escape_ascii().to_string(), expected, "{pieces:?}{more}");
    // What is known when the header goes, at the end of a small body, httpd says; the application's word is void.
    let length = response.header("Content-Length").map(str::to_owned);
    assert!(length.is_none_or(|length| length == expected.len().to_string()), "{pieces:?}{more}");
    background.open_gate();
    assert_eq!(background.wait_for_done().errors, "");
}

#[test]
fn found_wherever_it_is_cut() {
    let httpd = start(Mpm::Event, "");
    let client = Client::connect(&httpd, Protocol::Http2);
    for cut in 1..TOKEN.len() {
        let (head, tail) = TOKEN.split_at(cut);
        finishes(&client, &httpd, &["before", head, tail, "after"], "", "before");
    }
    let letters: Vec<String> = format!("before{TOKEN}after").chars().map(String::from).collect();
    let letters: Vec<&str> = letters.iter().map(String::as_str).collect();
    finishes(&client, &httpd, &letters, "", "before");
    httpd.stop();
}

#[test]
fn found_among_its_own_beginnings() {
    let httpd = start(Mpm::Event, "");
    let client = Client::connect(&httpd, Protocol::Http2);
    let end = &TOKEN[..TOKEN.len() - 1];
    let doubled = format!("{end}{TOKEN}{TOKEN}");
    finishes(&client, &httpd, &["x", &doubled], "", &format!("x{end}"));
    finishes(&client, &httpd, &["-", end, &TOKEN[end.len()..]], "", "-");
    finishes(&client, &httpd, &["--end-of-", "--end-of-", TOKEN], "", "--end-of---end-of-");
    // At the very beginning, and with an application that names another length.
    finishes(&client, &httpd, &[TOKEN, "after"], "", "");
    finishes(&client, &httpd, &["before", TOKEN], "&length=5000", "before");
    httpd.stop();
}

#[test]
fn nothing_behind_it_leaves_on_any_protocol() {
    for mpm in [Mpm::Event, Mpm::Prefork] {
        let httpd = start(mpm, "");
        for &protocol in mpm.protocols() {
            for pieces in [&["before", TOKEN, "after"][..], &[&format!("before{TOKEN}after")]] {
                let client = Client::connect(&httpd, protocol);
                finishes(&client, &httpd, pieces, "", "before");
            }
        }
        httpd.stop();
    }
}

/// What stands before it goes out at a flush, but for the beginning of a token.
#[test]
fn streams_on_what_is_before_it() {
    let httpd = start(Mpm::Event, "");
    for protocol in [Protocol::Http1, Protocol::Http1Tls, Protocol::Http2] {
        let (hold, background) = (httpd.background(), httpd.background());
        let client = Client::connect(&httpd, protocol);
        let (head, tail) = TOKEN.split_at(7);
        let path = path(&["first", head, tail], &background) + "&hold=" + hold.id();
        let exchange = client.get(&path, &[]);
        hold.wait_for_begin();
        wait_for("the first part", || exchange.so_far().filter(|response| !response.body.is_empty()));
        assert_eq!(exchange.so_far().unwrap().body, b"first", "no more of it");
        hold.open_gate();
        assert_eq!(exchange.released().body, b"first");
        background.open_gate();
        assert_eq!(background.wait_for_done().errors, "");
    }
    httpd.stop();
}

/// Where the handler ends as well there is nothing to gain, though something stands behind it: an ordinary response without that.
#[test]
fn together_with_the_handlers_end_the_response_is_ordinary() {
    for mpm in [Mpm::Event, Mpm::Prefork] {
        let httpd = start(mpm, "");
        for &protocol in mpm.protocols() {
            let client = Client::connect(&httpd, protocol);
            for _ in 0..2 {
                let path = format!("/pieces.lua?token={TOKEN}&flush=no&pieces=before.{TOKEN}.behind");
                assert_eq!(client.get(&path, &[]).response().body, b"before", "{mpm:?} {protocol:?}");
            }
        }
        assert!(!httpd.log().contains("finished early"));
        httpd.stop();
    }
}

/// A script's output goes out before the server waits for more of it, as without the module.
#[test]
fn a_script_streams() {
    let (head, tail) = TOKEN.split_at(7);
    for mpm in [Mpm::Event, Mpm::Prefork] {
        let httpd = start(mpm, "");
        httpd.install(
            "streams.cgi",
            &format!(
                "#!/bin/sh\n. ./background.sh\nquery id ''\nquery hold ''\n\
                 printf 'Content-Type: text/plain\\r\\nX-Finish-Request: boundary=\"{TOKEN}\"\\r\\n\\r\\nfirst%s' '{head}'\n\
                 background \"$hold\" 0\nprintf '%s' '{tail}'\nbackground \"$id\" 0\n"
            ),
        );
        for &protocol in mpm.protocols() {
            let (hold, background) = (httpd.background(), httpd.background());
            let client = Client::connect(&httpd, protocol);
            let exchange = client.get(&(background.query("streams.cgi") + "&hold=" + hold.id()), &[]);
            wait_for("the first part", || exchange.so_far().filter(|response| response.body == b"first"));
            hold.open_gate();
            assert_eq!(exchange.released().body, b"first");
            background.open_gate();
            assert_eq!(background.wait_for_done().errors, "", "{protocol:?}");
        }
        httpd.stop();
    }
}

/// A boundary that never comes makes an ordinary response, which ends with its handler and is whole. Over HTTP/1 its
/// connection ends as well where the header has gone with that word.
#[test]
fn without_it_the_response_is_ordinary() {
    // It ends in the beginning of a token, which was kept.
    let part = &TOKEN[..TOKEN.len() - 1];
    for mpm in [Mpm::Event, Mpm::Prefork] {
        let httpd = start(mpm, "");
        for &protocol in mpm.protocols() {
            for flush in ["yes", "no"] {
                let client = Client::connect(&httpd, protocol);
                let path = format!("/pieces.lua?token={TOKEN}&flush={flush}&pieces=before.{part}");
                let exchange = client.get(&path, &[]);
                let response = exchange.response();
                assert_eq!(response.body, format!("before{part}").as_bytes(), "{mpm:?} {protocol:?} {flush}");
                if response.header("Connection").is_some_and(|value| value.contains("close")) {
                    exchange.end_in_good_order();
                } else {
                    assert_eq!(client.get(&path, &[]).response().body, response.body);
                }
            }
        }
        assert!(!httpd.log().contains("finished early"));
        httpd.stop();
    }
}

/// Out of another process comes a stream of bytes; compressed on the way where that is wanted.
#[test]
fn ends_a_script_s_response() {
    let script = format!(
        "#!/bin/sh\n. ./background.sh\nquery id ''\n\
         printf 'Content-Type: text/plain\\r\\nX-Finish-Request: boundary=\"{TOKEN}\"\\r\\n\\r\\n'\n\
         body 100000\nprintf '%s' '{TOKEN}'\nbackground \"$id\" 200\n"
    );
    for mpm in [Mpm::Event, Mpm::Prefork] {
        let httpd = start(mpm, "FinishRequestBypass none");
        httpd.install("stream.cgi", &script);
        for &protocol in mpm.protocols() {
            for accept in [&[][..], &[("Accept-Encoding", "gzip")]] {
                let background = httpd.background();
                let client = Client::connect(&httpd, protocol);
                let response = client.get(&background.query("stream.cgi"), accept).released();
                assert_eq!(response.header("Content-Encoding").is_some(), !accept.is_empty());
                assert!(response.decoded() == body(100_000), "{mpm:?} {protocol:?} {accept:?}");
                background.open_gate();
                assert_eq!(background.wait_for_done().errors, "");
            }
        }
        httpd.stop();
    }
}
