//! `FinishRequestConnection Keep` and the bodies of requests: what has come of one is there for the application, and is never taken
//! for the client's next request.

use std::fs;

use support::{Handler, Httpd, Mpm, body, wait_for};

use crate::directives::keep::{KEEP, is_closed, keeps, request};
use crate::judge::{Application, assert_body, path, ran_to_its_end, side_by_side};

/// Sends its header and half of its text, then reads the request's body where it is asked to, then sends the other half.
pub const BETWEEN: Application = Application {
    php: "header('Content-Length: 4000');
          header('X-Finish-Request: on');
          echo substr(body(4000), 0, 2000);
          flush();
          $got = isset($_GET['read']) ? file_get_contents('php://input') : '';
          file_put_contents('@GATES@/' . $_GET['id'] . '.body', $got);
          echo substr(body(4000), 2000);
          flush();
          background($_GET['id']);",
    sh: "",
    lua: "r.content_type = 'text/plain'
          r.headers_out['Content-Length'] = '4000'
          r.headers_out['X-Finish-Request'] = 'on'
          r:write(background.body(4000):sub(1, 2000))
          r:flush()
          local got = query.read and r:requestbody() or ''
          local file = io.open('@GATES@/' .. query.id .. '.body', 'w')
          file:write(got or 'nothing')
          file:close()
          r:write(background.body(4000):sub(2001))
          r:flush()
          background.run(r, query.id, 200)
          return apache2.OK",
};

/// As [`BETWEEN`], when the test says that it may read.
const WHEN_TOLD: &str = "header('Content-Length: 4000');
          header('X-Finish-Request: on');
          echo substr(body(4000), 0, 2000);
          flush();
          for ($try = 0; $try < 2500 && !file_exists('@GATES@/' . $_GET['id'] . '.told'); $try++) {
              usleep(10000);
              clearstatcache();
          }
          file_put_contents('@GATES@/' . $_GET['id'] . '.body', file_get_contents('php://input'));
          echo substr(body(4000), 2000);
          flush();
          background($_GET['id']);";

const IN_PROCESS: [(Handler, Mpm); 4] = [
    (Handler::Lua, Mpm::Event),
    (Handler::Lua, Mpm::Worker),
    (Handler::Lua, Mpm::Prefork),
    (Handler::ModPhp, Mpm::Prefork),
];

/// In one chunk of so many bytes each.
fn chunked(bytes: &[u8], each: usize) -> Vec<u8> {
    let mut text = Vec::new();
    for chunk in bytes.chunks(each) {
        text.extend(format!("{:x}\r\n", chunk.len()).as_bytes());
        text.extend(chunk);
        text.extend(b"\r\n");
    }
    text.extend(b"0\r\n\r\n");
    text
}

pub fn post(target: &str, framing: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/octet-stream\r\n{framing}\r\n\r\n")
}

/// A body that has come with its header: the connection is kept, and the application can still read it between its own
/// header and its end; if it does not, the next request is found behind it.
#[test]
fn a_body_that_the_application_has_not_read() {
    side_by_side(IN_PROCESS, |(handler, mpm)| {
        let httpd = Httpd::builder(mpm)
            .handler(handler)
            .workers(32)
            .config(KEEP)
            .php_ini("enable_post_data_reading", "0")
            .start();
        let page = BETWEEN.install(&httpd, handler, "between");
        for (size, each) in [
            (1, None),
            (5000, None),
            (5000, Some(700)),
            (5000, Some(1)),
            (60_000, None),
            (60_000, Some(9000)),
            (100_000, None),
        ] {
            for read in ["", "&read=1"] {
                // r:requestbody() refuses chunks.
                if handler == Handler::Lua && each.is_some() && !read.is_empty() {
                    continue;
                }
                let (background, next) = (httpd.background(), httpd.background());
                let connection = httpd.connect();
                let target = path(&background, &page, read);
                let text = body(size);
                let sent = match each {
                    None => [post(&target, &format!("Content-Length: {size}")).as_bytes(), &text].concat(),
                    Some(each) => {
                        [post(&target, "Transfer-Encoding: chunked").into_bytes(), chunked(&text, each)].concat()
                    }
                };
                // All of it is there before the server looks: what is sent later may come too late to be kept.
                connection.send(sent);
                let response = connection.response();
                assert_body(&response, &body(4000));
                background.wait_for_begin();
                let got = fs::read(httpd.root().join(format!("gates/{}.body", background.id()))).unwrap();
                assert!(read.is_empty() || got == text, "{handler:?} got {} bytes of {size}, {each:?}", got.len());
                if size <= 5000 {
                    assert!(keeps(&response), "{handler:?} {size} {each:?}");
                }
                assert!(
                    size <= 65_536 || !read.is_empty() || !keeps(&response),
                    "more than 64 KB are kept for {handler:?}"
                );
                if keeps(&response) {
                    connection.get(&path(&next, handler.page(), "mark=on&bytes=123"), &[]);
                    assert_body(&connection.response(), &body(123));
                    assert!(!background.is_done());
                    ran_to_its_end(&next);
                } else {
                    is_closed(&connection);
                }
                ran_to_its_end(&background);
            }
        }
        httpd.stop();
    });
}

/// Nobody reads the body of a marked response's request, whose end comes with its handler's: there is no place for its work, or no end where its late mark
/// has it. It is as without the module: the body is thrown away, and the next request found behind it.
#[test]
fn a_body_that_nobody_reads() {
    const UNREAD: &str = "GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n";
    side_by_side(Mpm::ALL, |mpm| {
        for config in [
            "FinishRequestMax 0",
            "FinishRequestMax 0\nFinishRequestConnection Keep",
            "",
            "FinishRequestConnection Keep",
        ] {
            let httpd =
                Httpd::builder(mpm).handler(Handler::Lua).config(&format!("FinishRequest On\n{config}")).start();
            httpd.allow_log("finish_request:warn.*FinishRequestMax");
            httpd.install(
                "early.lua",
                "function handle(r)
                 r.content_type = 'text/plain'
                 r.headers_out['Content-Length'] = '4000'
                 r.headers_out['X-Finish-Request'] = 'on'
                 for i = 1, 4 do r:write(('x'):rep(1000)) r:flush() end
                 return apache2.OK
                 end",
            );
            httpd.install(
                "late.lua",
                "function handle(r)
                 r.content_type = 'text/plain'
                 r:write(('x'):rep(1000))
                 r:flush()
                 r.subprocess_env['finish-request'] = 'boundary=\"0123456789abcdef\"'
                 for i = 1, 3 do r:write(('x'):rep(1000)) r:flush() end
                 return apache2.OK
                 end",
            );
            let connection = httpd.connect();
            // Where there is a place for its work, the connection of the other is closed, or kept.
            let pages = if config.contains("Max") { &["early.lua", "late.lua"][..] } else { &["late.lua"] };
            for page in pages.iter().cycle().take(4) {
                let next = "GET /app.lua?mark=none HTTP/1.1\r\nHost: localhost\r\n\r\n";
                let first = post(&format!("/{page}"), &format!("Content-Length: {}", UNREAD.len()));
                connection.send(first + UNREAD + next);
                assert_body(&connection.response(), "x".repeat(4000).as_bytes());
                assert_body(&connection.response(), &body(4096));
            }
            assert!(!httpd.access_log().iter().any(|line| line.contains("smuggled")));
            httpd.stop();
        }
    });
}

/// Of the body half has come: the response says `Connection: close`, and what comes later is never taken for a request.
#[test]
fn half_of_a_body() {
    side_by_side(IN_PROCESS, |(handler, mpm)| {
        let httpd = Httpd::builder(mpm)
            .handler(handler)
            .workers(32)
            .config(KEEP)
            .php_ini("enable_post_data_reading", "0")
            .start();
        let page = BETWEEN.install(&httpd, handler, "between");
        for framing in ["Content-Length: 5000", "Transfer-Encoding: chunked"] {
            let background = httpd.background();
            let connection = httpd.connect();
            let half =
                if framing.contains("chunked") { [b"9c4\r\n".as_slice(), &body(2500)].concat() } else { body(2500) };
            connection.send([post(&path(&background, &page, ""), framing).as_bytes(), &half].concat());
            let response = connection.response();
            assert_body(&response, &body(4000));
            assert!(!keeps(&response));
            let _ = connection.try_send("GET /smuggled HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(10));
            is_closed(&connection);
            assert!(!background.is_done());
            ran_to_its_end(&background);
        }
        assert!(!httpd.access_log().iter().any(|line| line.contains("smuggled")));
        httpd.stop();
    });
}

/// The last chunk has come, and the line that ends the body has not: the response does not wait for it.
#[test]
fn the_end_of_a_chunked_body_is_missing() {
    side_by_side(IN_PROCESS, |(handler, mpm)| {
        let httpd = Httpd::builder(mpm)
            .handler(handler)
            .modules(&["reqtimeout"])
            .config(KEEP)
            .php_ini("enable_post_data_reading", "0")
            .start();
        let page = BETWEEN.install(&httpd, handler, "between");
        for end in
            ["4\r\nbody\r\n0\r\n", "4\r\nbody\r\n0\r\nX-Trailer: some", "4\r\nbody\r\n0", "4\r\nbo", "4\r", "4", ""]
        {
            let background = httpd.background();
            let connection = httpd.connect();
            connection.send(post(&path(&background, &page, ""), "Transfer-Encoding: chunked") + end);
            let response = connection.response();
            assert_eq!(response.status, 200, "{end:?}");
            assert_body(&response, &body(4000));
            assert!(!keeps(&response));
            assert!(!background.is_done());
            is_closed(&connection);
            ran_to_its_end(&background);
        }
        httpd.stop();
    });
}

/// The same, and it comes before the application reads the body: that is all there, and nothing else.
#[test]
fn the_end_of_a_chunked_body_comes_later() {
    let httpd = Httpd::builder(Mpm::Prefork)
        .handler(Handler::ModPhp)
        .config(KEEP)
        .php_ini("enable_post_data_reading", "0")
        .start();
    let page = Application { php: WHEN_TOLD, ..BETWEEN }.install(&httpd, Handler::ModPhp, "told");
    let whole = "4\r\nbody\r\n0\r\nX-Trailer: some\r\n\r\n";
    for at in 0..=whole.len() {
        let background = httpd.background();
        let connection = httpd.connect();
        let (first, later) = whole.split_at(at);
        connection.send(post(&path(&background, &page, ""), "Transfer-Encoding: chunked") + first);
        wait_for("half of the response", || connection.so_far().filter(|response| response.body.len() == 2000));
        connection.send(later);
        fs::write(httpd.root().join("gates").join(format!("{}.told", background.id())), "").unwrap();
        background.wait_for_begin();
        let got = fs::read_to_string(httpd.root().join("gates").join(format!("{}.body", background.id()))).unwrap();
        assert_eq!(got, "body", "after {first:?}");
        assert_body(&connection.response(), &body(4000));
        ran_to_its_end(&background);
    }
    httpd.stop();
}

/// Much has come behind a body in chunks: the look for its end loses nothing of that.
#[test]
fn many_requests_behind_a_chunked_body() {
    const PATIENT: Application = Application {
        lua: "r.content_type = 'text/plain'
              while not io.open('@GATES@/' .. query.id .. '.told') do r.usleep(10000) end
              background.answer(r)
              background.run(r, query.id, 200)
              return apache2.OK",
        ..BETWEEN
    };
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).config(KEEP).start();
        let page = PATIENT.install(&httpd, Handler::Lua, "patient");
        let background = httpd.background();
        let connection = httpd.connect();
        let first = post(&path(&background, &page, ""), "Transfer-Encoding: chunked") + "4\r\nbody\r\n0\r\n\r\n";
        let long = "x".repeat(7000);
        let next = format!("GET /app.lua?mark=none&bytes=50 HTTP/1.1\r\nHost: localhost\r\nX-Long: {long}\r\n\r\n");
        connection.send(first + &next.repeat(14));
        fs::write(httpd.root().join("gates").join(format!("{}.told", background.id())), "").unwrap();
        assert_body(&connection.response(), &body(4096));
        for _ in 0..14 {
            assert_body(&connection.response(), &body(50));
        }
        ran_to_its_end(&background);
        drop(connection);
        httpd.stop();
    });
}

/// A body that httpd would refuse, if the application read it: the application does not, so its response is what the client gets.
#[test]
fn a_body_that_nobody_would_accept() {
    side_by_side(IN_PROCESS, |(handler, mpm)| {
        let httpd = Httpd::builder(mpm)
            .handler(handler)
            .config(KEEP)
            .config("LimitRequestBody 100")
            .php_ini("enable_post_data_reading", "0")
            .start();
        let page = BETWEEN.install(&httpd, handler, "between");
        for (framing, text) in [
            ("Content-Length: 1000", body(1000)),
            ("Transfer-Encoding: chunked", chunked(&body(1000), 500)),
            ("Transfer-Encoding: chunked", b"nonsense\r\n0\r\n\r\n".to_vec()),
        ] {
            let background = httpd.background();
            let connection = httpd.connect();
            connection.send([post(&path(&background, &page, ""), framing).as_bytes(), &text].concat());
            let response = connection.response();
            assert_eq!(response.status, 200);
            assert_body(&response, &body(4000));
            assert!(!keeps(&response));
            is_closed(&connection);
            ran_to_its_end(&background);
        }
        httpd.stop();
    });
}

/// mod_reqtimeout's time for a request's body has passed when the response ends: what has come behind the body is answered.
#[test]
fn a_request_behind_a_body_whose_time_has_passed() {
    const SLOW: Application = Application {
        php: "",
        sh: "",
        lua: "local text = r:requestbody()
              r.usleep(1200000)
              r.content_type = 'text/plain'
              r.headers_out['X-Finish-Request'] = 'length=' .. #text
              r:write(text)
              r:flush()
              background.run(r, query.id, 0)
              return apache2.OK",
    };
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .modules(&["reqtimeout"])
            .config(KEEP)
            .config("RequestReadTimeout body=1")
            .start();
        let page = SLOW.install(&httpd, Handler::Lua, "slow");
        let (connection, background) = (httpd.connect(), httpd.background());
        let mut works = Vec::new();
        let next = request(&httpd, true, 100, &mut works);
        let first = post(&background.query(&page), "Content-Length: 300");
        connection.send([first.as_bytes(), &body(300), next.as_bytes()].concat());
        assert_body(&connection.response(), &body(300));
        assert_body(&connection.response(), &body(100));
        assert!(!background.is_done());
        ran_to_its_end(&background);
        ran_to_its_end(&works[0]);
        httpd.stop();
    });
}

/// An input filter takes the header away by which httpd has known of a body, as soon as it reads: what is left of that is no next request.
#[test]
fn a_body_that_a_filter_inflates() {
    const READS: &str = "<?php
        require 'background.php';
        fread(fopen('php://input', 'r'), 10);
        header('Content-Length: 4096');
        header('X-Finish-Request: on');
        echo body(4096);
        flush();
        background($_GET['id']);";
    let httpd = Httpd::builder(Mpm::Prefork)
        .handler(Handler::ModPhp)
        .modules(&["filter", "deflate"])
        .config(KEEP)
        .config("SetInputFilter DEFLATE\n<Location /close>\nFinishRequestConnection Close\n</Location>\nAliasMatch ^/close/(.*) ${WWW}/$1")
        .modules(&["alias"])
        .php_ini("enable_post_data_reading", "0")
        .start();
    httpd.install("reads.php", READS);
    // Stored, not compressed: it says what it likes to whoever takes it for a request.
    let next = b"\r\n\r\nGET /background.php HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(4000);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::none());
    std::io::Write::write_all(&mut gzip, &next).unwrap();
    let text = gzip.finish().unwrap();
    for page in ["/reads.php", "/close/reads.php"] {
        let (background, connection) = (httpd.background(), httpd.connect());
        let framing = format!("Content-Encoding: gzip\r\nContent-Length: {}", text.len());
        let head = post(&format!("{page}?id={}", background.id()), &framing);
        // All of it is taken, whatever becomes of it, while the work runs.
        connection.send([head.as_bytes(), &text].concat());
        let response = connection.response();
        assert_body(&response, &body(4096));
        background.wait_for_begin();
        assert!(!keeps(&response) && !background.is_done());
        is_closed(&connection);
        ran_to_its_end(&background);
    }
    httpd.stop();
}

/// Of a body more is missing than is read ahead: the response does not wait for that, however much has come.
#[test]
fn more_than_is_read_ahead_and_not_all() {
    side_by_side(IN_PROCESS, |(handler, mpm)| {
        let httpd = Httpd::builder(mpm)
            .handler(handler)
            .workers(32)
            .config(KEEP)
            .php_ini("enable_post_data_reading", "0")
            .start();
        let page = BETWEEN.install(&httpd, handler, "between");
        for there in [65_535, 65_536, 65_537, 69_000, 73_727, 73_728, 73_729, 81_920] {
            for each in [None, Some(1000), Some(8192), Some(65_536), Some(200_000)] {
                let background = httpd.background();
                let connection = httpd.connect();
                let (framing, text) = match each {
                    None => ("Content-Length: 200000", body(200_000)),
                    Some(each) => ("Transfer-Encoding: chunked", chunked(&body(200_000), each)),
                };
                connection.send([post(&path(&background, &page, ""), framing).as_bytes(), &text[..there]].concat());
                let response = connection.response();
                assert_body(&response, &body(4000));
                assert!(!keeps(&response));
                is_closed(&connection);
                assert!(!background.is_done());
                ran_to_its_end(&background);
            }
        }
        httpd.stop();
    });
}

/// As [`WHEN_TOLD`], but it reads the body behind the end of the response.
const READS_BEHIND: &str = "header('Content-Length: 4000');
          header('X-Finish-Request: on');
          echo substr(body(4000), 0, 2000);
          flush();
          for ($try = 0; $try < 2500 && !file_exists('@GATES@/' . $_GET['id'] . '.told'); $try++) {
              usleep(10000);
              clearstatcache();
          }
          echo substr(body(4000), 2000);
          flush();
          file_put_contents('@GATES@/' . $_GET['id'] . '.body', file_get_contents('php://input'));
          background($_GET['id']);";

/// Half of a chunk has come when the header goes, and more at the end of the response: it looks like a chunk, like the last one, or like the
/// lines behind it. What the application reads is the body, from its beginning on.
#[test]
fn content_that_looks_like_chunks() {
    let httpd = Httpd::builder(Mpm::Prefork)
        .handler(Handler::ModPhp)
        .config(KEEP)
        .php_ini("enable_post_data_reading", "0")
        .start();
    let page = Application { php: READS_BEHIND, ..BETWEEN }.install(&httpd, Handler::ModPhp, "behind");
    for lure in ["1000\r\n", "64\r\n", "0\r\n\r\n", "0\r\n", "\r\n64\r\n", "zzz"] {
        let content = [&body(5000)[..], lure.as_bytes(), &vec![b'z'; 5000 - lure.len()]].concat();
        let background = httpd.background();
        let connection = httpd.connect();
        let head = post(&path(&background, &page, ""), "Transfer-Encoding: chunked") + "2710\r\n";
        connection.send([head.as_bytes(), &content[..5000]].concat());
        wait_for("half of the response", || connection.so_far().filter(|response| response.body.len() == 2000));
        connection.send(&content[5000..9000]);
        fs::write(httpd.root().join("gates").join(format!("{}.told", background.id())), "").unwrap();
        background.wait_for_begin();
        let got = fs::read(httpd.root().join("gates").join(format!("{}.body", background.id()))).unwrap();
        assert!(got.len() >= 5000 && content.starts_with(&got), "after {lure:?}: {} bytes", got.len());
        assert_body(&connection.response(), &body(4000));
        is_closed(&connection);
        ran_to_its_end(&background);
    }
    httpd.stop();
}

/// The application has read some of a body in chunks before its header goes, and the last chunk has come without the line that ends the
/// body: that comes before the application reads on. It gets all of the body, and its plain end.
#[test]
fn some_of_a_chunked_body_has_been_read() {
    const READS_SOME: &str = "$input = fopen('php://input', 'r');
          $got = stream_get_contents($input, 16384);
          header('Content-Length: 4000');
          header('X-Finish-Request: on');
          echo substr(body(4000), 0, 2000);
          flush();
          for ($try = 0; $try < 2500 && !file_exists('@GATES@/' . $_GET['id'] . '.told'); $try++) {
              usleep(10000);
              clearstatcache();
          }
          file_put_contents('@GATES@/' . $_GET['id'] . '.body', $got . stream_get_contents($input));
          echo substr(body(4000), 2000);
          flush();
          background($_GET['id']);";
    let httpd = Httpd::builder(Mpm::Prefork)
        .handler(Handler::ModPhp)
        .config(KEEP)
        .php_ini("enable_post_data_reading", "0")
        .start();
    let page = Application { php: READS_SOME, ..BETWEEN }.install(&httpd, Handler::ModPhp, "some");
    let whole = chunked(&body(20_000), 18_000);
    for missing in [0, 1, 2, 3, 4, 5, 100] {
        let background = httpd.background();
        let connection = httpd.connect();
        let (first, later) = whole.split_at(whole.len() - missing);
        let head = post(&path(&background, &page, ""), "Transfer-Encoding: chunked");
        connection.send([head.as_bytes(), first].concat());
        wait_for("half of the response", || connection.so_far().filter(|response| response.body.len() == 2000));
        connection.send(later);
        fs::write(httpd.root().join("gates").join(format!("{}.told", background.id())), "").unwrap();
        background.wait_for_begin();
        let got = fs::read(httpd.root().join("gates").join(format!("{}.body", background.id()))).unwrap();
        assert!(got == body(20_000), "{missing} bytes missing: {} bytes", got.len());
        assert_body(&connection.response(), &body(4000));
        ran_to_its_end(&background);
    }
    httpd.stop();
}
