//! What was once wrong, each named after how it was found.

use std::fs::{self, File};

use support::{Client, Handler, Httpd, Mpm, Protocol, body};

use crate::judge::side_by_side;

/// mod_cache, as a handler that keeps what it has in files.
const CACHE: &str = "CacheEnable disk /\nCacheRoot \"${ROOT}/run\"\nCacheQuickHandler off\nCacheHeader on\n";

/// A backend's page that came out of mod_cache ended the client's connection, as the record of it that mod_proxy would have seen stayed in its place.
#[test]
fn a_cached_response_of_a_backend_keeps_the_connection() {
    side_by_side(Mpm::ALL, |mpm| {
        let origin = Httpd::builder(Mpm::Event).handler(Handler::Lua).start();
        origin.install(
            "page.lua",
            r#"
            function handle(r)
                r.content_type = "text/plain"
                r.headers_out["Cache-Control"] = "max-age=1000"
                r.headers_out["Content-Length"] = "5"
                r:write("hello")
                return apache2.OK
            end"#,
        );
        for mode in ["On", "Auto"] {
            let httpd = Httpd::builder(mpm)
                .modules(&["proxy", "proxy_http", "cache", "cache_disk"])
                .config(CACHE)
                .config(&format!("FinishRequest {mode}\nFinishRequestOnAbort Continue\nProxyPass / {}", origin.url("")))
                .start();
            let mut hits = 0;
            let connection = httpd.connect();
            for _ in 0..4 {
                connection.get("/page.lua", &[]);
                let response = connection.response();
                assert_eq!((response.body.as_slice(), response.header("Connection")), (&b"hello"[..], None));
                hits += usize::from(response.header("X-Cache").is_some_and(|cache| cache.starts_with("HIT")));
            }
            assert!(hits > 0 && !connection.has_ended());
            connection.get("/page.lua", &[("Connection", "close")]);
            assert_eq!(connection.response().header("Connection"), Some("close"));
            httpd.stop();
        }
        origin.stop();
    });
}

/// A response that was cut short came out of mod_cache as a whole one.
#[test]
fn a_cut_response_is_not_cached() {
    let httpd = Httpd::builder(Mpm::Event)
        .handler(Handler::Lua)
        .modules(&["cache", "cache_disk"])
        .config(CACHE)
        .config("FinishRequest On")
        .start();
    httpd.install(
        "broken.lua",
        r#"
        function handle(r)
            r.content_type = "text/plain"
            r.headers_out["Transfer-Encoding"] = "chunked"
            r.headers_out["Cache-Control"] = "max-age=1000"
            r.headers_out["X-Finish-Request"] = "on"
            r:write("5\r\nhello\r\n")
            r:flush()
            r:write("no chunk")
            r:flush()
            return apache2.OK
        end"#,
    );
    httpd.expect_log("finish_request:warn.*not what it claims to be");
    for _ in 0..2 {
        let connection = httpd.connect();
        connection.get("/broken.lua", &[]);
        assert!(connection.response_or_end().is_err(), "each client sees that the body is cut");
    }
    httpd.stop();
}

/// FinishRequestBypass took the filter away that writes the status line.
#[test]
fn only_filters_of_the_content_are_skipped() {
    let httpd = Httpd::builder(Mpm::Event)
        .handler(Handler::Lua)
        .config(
            "FinishRequest On
             FinishRequestBypass HTTP_HEADER CONTENT_LENGTH FINISH_REQUEST_HEADER H2_C2_RESPONSE_OUT CORE NO_SUCH_FILTER",
        )
        .start();
    for &protocol in Mpm::Event.protocols() {
        let background = httpd.background();
        let response = Client::connect(&httpd, protocol).get(&background.query("app.lua"), &[]).released();
        assert_eq!((response.status, response.header("X-Finish-Request")), (200, None));
        assert_eq!(response.body, body(4096));
        background.open_gate();
        assert_eq!(background.wait_for_done().errors, "");
    }
    httpd.stop();
}

/// A large file with a boundary mark was read into memory as a whole.
#[test]
fn a_file_that_is_searched_is_not_read_into_memory() {
    const BYTES: u64 = 80_000_000;
    let httpd = Httpd::builder(Mpm::Prefork)
        .modules(&["env"])
        .workers(1)
        .config(
            "FinishRequest On
             EnableMMAP Off
             SetEnv finish-request boundary=\"0123456789abcdef\"",
        )
        .start();
    let file = File::create(httpd.root().join("www/large")).unwrap();
    file.set_len(BYTES).unwrap();
    let url = httpd.url("large");
    let output = support::tools::curl(&["-o", "/dev/null", "-w", "%{size_download}", &url]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), BYTES.to_string());

    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", httpd.id())).unwrap();
    for child in children.split_whitespace() {
        let status = fs::read_to_string(format!("/proc/{child}/status")).unwrap();
        let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        let kilobytes: u64 = most.trim().trim_end_matches(" kB").parse().unwrap();
        assert!(kilobytes < BYTES / 1024 / 2, "a child had {kilobytes} kB in memory");
    }
    httpd.stop();
}

/// A child that exited after the request reset the connection of a client that had not read all of the response, as the
/// request's body had not been read.
#[test]
fn a_child_that_exits_sees_its_clients_out() {
    const BYTES: usize = 400_000;
    let httpd =
        Httpd::builder(Mpm::Prefork).handler(Handler::Lua).config("FinishRequest On\nMaxConnectionsPerChild 1").start();
    let connection = httpd.connect();
    connection.pause();
    let unread = "S".repeat(20_000);
    connection.send(format!(
        "POST /app.lua?bytes={BYTES} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {}\r\n\r\n{unread}",
        unread.len()
    ));
    httpd.wait_for_log("finished early");
    connection.resume();
    assert_eq!(connection.response().body, body(BYTES));
    httpd.stop();
}

/// Above FinishRequestMax a response without a body had not been begun when its program's pipe broke behind the end, as that of a
/// script does which does not read its request: the client got nothing.
#[test]
fn a_script_that_fails_behind_an_empty_response() {
    let httpd = Httpd::builder(Mpm::Event).handler(Handler::Cgi).config("FinishRequest On\nFinishRequestMax 1").start();
    httpd.install(
        "empty.cgi",
        "#!/bin/sh\nprintf 'Content-Type: text/plain\\nX-Finish-Request: length=0\\n\\n'\n\
         while [ ! -e @GATES@/empty.gate ]; do sleep 0.05; done\n",
    );
    const NO_PLACE: &str = "as many as FinishRequestMax allows";
    httpd.expect_log(&format!("finish_request:warn.*{NO_PLACE}"));
    let background = httpd.background();
    let first = httpd.connect();
    first.get(&background.query(Handler::Cgi.page()), &[]);
    assert_eq!(first.response().body, body(4096));
    let second = httpd.connect();
    second.send("POST /empty.cgi HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody");
    httpd.wait_for_log(NO_PLACE);
    fs::write(httpd.root().join("gates/empty.gate"), "").unwrap();
    let response = second.response();
    assert_eq!((response.status, response.body.len()), (200, 0));
    background.open_gate();
    background.wait_for_done();
    httpd.stop();
}

/// Each flush behind the end of a response whose client waits, as it still sends its request's body, took memory of the request.
#[test]
fn flushes_behind_the_end_take_no_memory() {
    const FLUSHES: usize = 200_000;
    let httpd = Httpd::builder(Mpm::Event).handler(Handler::Lua).config("FinishRequest On\nFinishRequestMax 0").start();
    httpd.allow_log("as many as FinishRequestMax allows");
    httpd.install(
        "flushes.lua",
        &format!(
            r#"
        local function kilobytes()
            for line in io.lines("/proc/self/status") do
                local rss = line:match("^VmRSS:%s*(%d+)")
                if rss then return tonumber(rss) end
            end
        end
        function handle(r)
            r.content_type = "text/plain"
            r.headers_out["X-Finish-Request"] = "length=5"
            local before
            for count = 1, {FLUSHES} do
                r:write("hello")
                r:flush()
                if count == 100 then before = kilobytes() end
            end
            local file = io.open("@GATES@/grown", "w")
            file:write(kilobytes() - before)
            file:close()
            return apache2.OK
        end"#
        ),
    );
    let client = Client::connect(&httpd, Protocol::Http2);
    let response = client.request("POST", "/flushes.lua", &[], Some(b"a body that is not read")).response();
    assert_eq!(response.body, b"hello");
    let grown: i64 = fs::read_to_string(httpd.root().join("gates/grown")).unwrap().parse().unwrap();
    assert!(grown < 4_096, "{FLUSHES} flushes have taken {grown} kB");
    httpd.stop();
}
