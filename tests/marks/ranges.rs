//! A marked response is sent whole, whatever ranges of it the client asks for, as it is without a mark; what httpd cuts into ranges
//! without the module, it cuts with it.

use support::{Client, Handler, Httpd, Mpm, Protocol, body};

use crate::finished::compression::with_compressions;
use crate::judge::{Application, assert_body, path, ran_to_its_end};

/// Within the response, in several pieces, at its end, behind it, and one that nobody understands.
const RANGES: [&str; 6] = ["bytes=10-19", "bytes=0-0,990-999", "bytes=4095-", "bytes=-1", "bytes=5000-", "lines=1-2"];

on_every_handler_and_mpm!(of_marked_responses);

fn of_marked_responses(handler: Handler, mpm: Mpm) {
    let httpd = with_compressions(Httpd::builder(mpm).handler(handler).config("FinishRequest On"), &["a"]).start();
    let page = handler.page();
    let marks = ["mark=on", "mark=length%3D4096&length=none"];
    for &protocol in mpm.protocols() {
        for (index, range) in RANGES.into_iter().enumerate() {
            let folder = ["", "a/plain/", "a/deflate/"][index % 3];
            let headers = [("Range", range), ("Accept-Encoding", "gzip")];
            // With a date httpd may take it for a range of what the client has already.
            let headers = &headers[..1 + index % 2];
            sent_whole(&httpd, protocol, &format!("{folder}{page}"), marks[index % 2], headers);
        }
    }
    httpd.stop();
}

#[track_caller]
fn sent_whole(httpd: &Httpd, protocol: Protocol, page: &str, query: &str, headers: &[(&str, &str)]) {
    let background = httpd.background();
    let client = Client::connect(httpd, protocol);
    let response = client.get(&path(&background, page, query), headers).released();
    assert!(!background.is_done());
    assert_eq!((response.status, response.header("Content-Range")), (200, None), "{page} {query} {headers:?}");
    assert_body(&response, &body(4096));
    ran_to_its_end(&background);
}

/// What says where it ends by itself, and what marks late.
const OTHER: Application = Application {
    php: r#"
        header('Content-Type: text/plain');
        header('X-Finish-Request: ' . ($_GET['mark'] ?? 'boundary="=_end_of_the_page_="'));
        echo body(4096), $_GET['tail'] ?? '=_end_of_the_page_=';
        while (ob_get_level()) ob_end_flush();
        flush();
        run_background($_GET['id'], 0);
    "#,
    sh: "",
    lua: r#"
        r.content_type = "text/plain"
        r.headers_out["X-Finish-Request"] = query.mark or 'boundary="=_end_of_the_page_="'
        r:write(background.body(4096) .. (query.tail or "=_end_of_the_page_="))
        r:flush()
        background.run(r, query.id, 0)
        return apache2.OK
    "#,
};

on_every_mpm!(of_a_body_of_unknown_length);

fn of_a_body_of_unknown_length(mpm: Mpm) {
    let httpd = Httpd::builder(mpm).handler(Handler::Lua).config("FinishRequest On").start();
    let page = OTHER.install(&httpd, Handler::Lua, "other");
    for &protocol in mpm.protocols() {
        for range in RANGES {
            sent_whole(&httpd, protocol, &page, "a=b", &[("Range", range)]);
            sent_whole(&httpd, protocol, &page, "mark=flush&tail=", &[("Range", range)]);
        }
    }
    httpd.stop();
}

on_every_mpm!(of_what_auto_recognises);

fn of_what_auto_recognises(mpm: Mpm) {
    const CLOSES: &str = r#"
        function handle(r)
            local background = dofile(r.filename:match("^(.*)/") .. "/background.lua")
            r.content_type = "text/plain"
            r.headers_out["Connection"] = "close"
            r.headers_out["Content-Length"] = "4096"
            r:write(background.body(4096))
            r:flush()
            background.run(r, r:parseargs().id, 0)
            return apache2.OK
        end
    "#;
    let httpd = Httpd::builder(mpm).handler(Handler::Lua).config("FinishRequest Auto").start();
    httpd.install("closes.lua", CLOSES);
    for &protocol in mpm.protocols() {
        for range in RANGES {
            sent_whole(&httpd, protocol, "closes.lua", "a=b", &[("Range", range)]);
        }
    }
    httpd.stop();
}

/// Where the end of the handler comes with the body there is nothing to gain: files, and scripts whose own ranges these are. httpd
/// cuts out ranges of what it has whole and knows the length of, which is not so for a script's pipe.
#[test]
fn as_without_the_module() {
    const RANGE_OF_ITS_OWN: &str = "#!/bin/sh\n\
        printf 'Status: 206 Partial Content\\r\\nContent-Range: bytes 0-4/10\\r\\nX-Finish-Request: length=5\\r\\n'\n\
        printf 'Content-Type: text/plain\\r\\n\\r\\nhello'\n";
    const PIPE: &str = "#!/bin/sh\n\
        printf 'Content-Type: text/plain\\r\\nX-Finish-Request: length=10\\r\\n\\r\\nhello'\nsleep 0.1\nprintf world\n";
    let server = |mpm, with_module| {
        let builder = Httpd::builder(mpm).handler(Handler::Cgi).modules(&["env"]);
        let httpd = if with_module {
            builder.config("FinishRequest On\nSetEnv finish-request on").start()
        } else {
            builder.without_module().start()
        };
        httpd.install("small.txt", "a static file\n");
        httpd.install("own.cgi", RANGE_OF_ITS_OWN);
        httpd.install("pipe.cgi", PIPE);
        httpd
    };
    for mpm in Mpm::ALL {
        let [stock, ours] = [false, true].map(|with_module| server(mpm, with_module));
        for &protocol in mpm.protocols() {
            for (page, range, status) in [
                ("small.txt", "bytes=2-7", 206),
                ("small.txt", "bytes=0-0,4-", 206),
                ("small.txt", "bytes=100-", 416),
                ("own.cgi", "bytes=0-1", 206),
                ("pipe.cgi", "bytes=2-7", 200),
            ] {
                let [stock, ours] = [&stock, &ours].map(|httpd| {
                    let headers = [("Range", range), ("If-Range", "\"another\"")];
                    // A file's own tag is another one: then it is sent whole.
                    let whole = Client::connect(httpd, protocol).get(&format!("/{page}"), &headers).response();
                    let part = Client::connect(httpd, protocol).get(&format!("/{page}"), &headers[..1]).response();
                    assert_eq!(part.status, status, "{page} {range}");
                    let shown = |name| part.header(name).map(str::to_owned);
                    let mut shown = ["Content-Range", "Accept-Ranges", "Content-Length"].map(shown).to_vec();
                    if page.ends_with("cgi") {
                        // The mark gives it its length.
                        shown[2] = None;
                    }
                    // The pieces of several ranges have a boundary between them, which is another one each time, and not always as long.
                    let piece = match part.body.strip_prefix(b"\r\n--") {
                        Some(pieces) => {
                            let boundary = pieces.split(|byte| *byte == b'\r').next().unwrap();
                            shown[2] = shown[2].as_ref().map(|_| "known".to_owned());
                            String::from_utf8_lossy(&part.body)
                                .replace(&*String::from_utf8_lossy(boundary), "boundary")
                                .into_bytes()
                        }
                        None => part.body,
                    };
                    (whole.status, whole.body, piece, shown)
                });
                assert_eq!(ours, stock, "{page} {range} {protocol:?}");
            }
        }
        stock.stop();
        ours.stop();
    }
}
