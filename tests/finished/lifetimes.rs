//! What has been ended lives on until whoever still needs it has let go of it. The servers overwrite all memory as soon as it is
//! given back, so that a look at it later crashes them, or shows at the client.

use std::fs;

use support::http2::{Http2, Stream};
use support::machine::not_tried;
use support::{Background, Builder, Client, Handler, Httpd, Mpm, Protocol, Response, body, defect, wait_for};

use crate::administrator::status::{wait_for_running, with_status};
use crate::judge::{Application, BYTES, assert_body, early, path, ran_to_its_end, side_by_side, write};
use crate::marks::api::c_module;

/// More than the kernel takes for a client that does not read.
const LARGE: usize = 8_000_000;

/// It is so: what stands where a module has given something back, in a server that overwrites it and in one that does not.
#[test]
fn what_is_given_back_is_overwritten() {
    if defect().is_some() {
        not_tried("who watches the server has memory of its own, and sees for itself what is given back");
        return;
    }
    let said = |builder: Builder| {
        let module = c_module("mod_given_back");
        let config = format!(
            "LoadModule given_back_module \"{}\"
             <Location /look>
               SetHandler given-back
             </Location>",
            module.display()
        );
        let httpd = builder.config(&config).start();
        let response = Client::connect(&httpd, Protocol::Http1).get("/look", &[]).response();
        httpd.stop();
        String::from_utf8(response.body).unwrap()
    };
    for mpm in Mpm::ALL {
        assert_eq!(said(Httpd::builder(mpm)), "cleared 78\ndestroyed 78\nbucket 78\n", "{mpm:?}");
        let overwritten = said(Httpd::builder(mpm).poisoned()).replace("is not there", "a5");
        assert_eq!(overwritten, "cleared a5\ndestroyed a5\nbucket a5\n", "{mpm:?}");
    }
}

/// The client has sent its next request already, which begins before the end of the first has been sent: a response whose handler has written nothing, and
/// may have sent interim responses.
#[test]
fn the_next_request_is_there() {
    let pages = ["", "ErrorDocument 404 /off/app.lua\n<Location /off>\nFinishRequest Off\n</Location>"];
    side_by_side(Mpm::ALL.into_iter().flat_map(|mpm| pages.map(|page| (mpm, page))), |(mpm, page)| {
        let builder = Httpd::builder(mpm).handler(Handler::Lua).modules(&["alias"]).poisoned();
        let httpd = builder.config(&format!("FinishRequest On\nAliasMatch ^/off/(.*) \"${{WWW}}/$1\"\n{page}")).start();
        httpd.install("gone.lua", "function handle(r) return 404 end");
        httpd.install(
            "pieces.lua",
            "function handle(r)
             r.content_type = 'text/plain'
             for i = 1, 4 do r:write(('x'):rep(1000)) r:flush() end
             return apache2.OK
             end",
        );
        let connection = httpd.connect();
        let asks = |page: &str| format!("GET /{page}.lua HTTP/1.1\r\nHost: localhost\r\n\r\n");
        for _ in 0..3 {
            connection.send(asks("gone") + &asks("pieces"));
            // mod_lua gives its page a status of its own.
            assert!([200, 404].contains(&connection.response().status));
            assert_body(&connection.response(), "x".repeat(4000).as_bytes());
        }
        httpd.stop();
    });
}

const ON_STREAMS: [(Handler, Mpm); 8] = [
    (Handler::Lua, Mpm::Event),
    (Handler::Lua, Mpm::Worker),
    (Handler::Cgi, Mpm::Event),
    (Handler::Cgi, Mpm::Worker),
    (Handler::PhpFpm, Mpm::Event),
    (Handler::PhpFpm, Mpm::Worker),
    (Handler::ModFcgid, Mpm::Event),
    (Handler::ModFcgid, Mpm::Worker),
];

/// Answers when the file `ID.go` is there.
const WHEN_TOLD: Application = Application {
    php: r#"
        touch("@GATES@/{$_GET['id']}.came");
        while (!file_exists("@GATES@/{$_GET['id']}.go")) {
            usleep(5000);
            clearstatcache();
        }
        header('X-Part: weather');
        answer();
        background($_GET['id'], 200);
    "#,
    sh: r#"
        : >"@GATES@/$id.came"
        while [ ! -e "@GATES@/$id.go" ]; do sleep 0.01; done
        printf 'X-Part: weather\n'
        answer
        background "$id" 200
    "#,
    lua: r#"
        local function is_there(name)
            local file = io.open(name)
            return file and file:close()
        end
        assert(io.open("@GATES@/" .. query.id .. ".came", "w")):close()
        while not is_there("@GATES@/" .. query.id .. ".go") do r.usleep(5000) end
        r.headers_out["X-Part"] = "weather"
        background.answer(r)
        background.run(r, query.id, 200)
        return apache2.OK
    "#,
};

fn file(httpd: &Httpd, work: &Background, name: &str) -> std::path::PathBuf {
    httpd.root().join("gates").join(format!("{}.{name}", work.id()))
}

fn assert_weather(response: &Response) {
    assert_body(response, &body(BYTES));
    assert_eq!(response.header("X-Part"), Some("weather"));
    assert_eq!(response.header("X-Finish-Request"), None);
}

/// Four responses have come to their end, and so has their work, before the client reads the first byte of their headers: these wait in
/// mod_http2, in memory of the requests. The places of the work have been given back meanwhile, and it has been logged.
#[test]
fn a_client_of_streams_reads_late() {
    let logs = ["Client", "End", "End", "Client"].into_iter().cycle();
    let mut cases: Vec<_> = ON_STREAMS.into_iter().zip(logs).collect();
    // Half of them at a time: each server has much to send, and the applications wait for that without a word.
    let later = cases.split_off(ON_STREAMS.len() / 2);
    for cases in [cases, later] {
        side_by_side(cases, reads_late);
    }
}

fn reads_late(((handler, mpm), log): ((Handler, Mpm), &'static str)) {
    let config = format!(
        "FinishRequest On\nFinishRequestMax 4\nTimeout 300\n<IfModule fcgid_module>\nFcgidIOTimeout 300\n</IfModule>\nFinishRequestLog {log}\nSendBufferSize 16384\n\
             CustomLog \"${{ROOT}}/parts.log\" \"%{{finish-request}}n %>s %B\" env=!ordinary\n\
             SetEnvIf Request_URI large|server-status ordinary"
    );
    let builder = Httpd::builder(mpm).handler(handler).modules(&["setenvif"]).poisoned().config(&config);
    let httpd = with_status(builder).start();
    let page = WHEN_TOLD.install(&httpd, handler, "told");
    let large = body(LARGE);
    write(&httpd, "large.txt", &large);
    let connect = if log == "Client" { Httpd::connect_wide_http2 } else { Httpd::connect_wide_h2c };
    let connection: Http2 = connect(&httpd);
    let works: Vec<Background> = (0..4).map(|_| httpd.background()).collect();
    let streams: Vec<Stream> = works.iter().map(|work| connection.get(&path(work, &page, ""), &[])).collect();
    for work in &works {
        wait_for("the application", || file(&httpd, work, "came").exists().then_some(()));
    }
    connection.stop_reading();
    let filling = connection.get("/large.txt", &[]);
    httpd.wait_for_full_socket();

    for work in &works {
        fs::write(file(&httpd, work, "go"), "").unwrap();
        work.wait_for_begin();
        ran_to_its_end(work);
    }
    let ended = || httpd.log().matches("the background work has ended").count();
    wait_for("the end of the works", || (ended() == works.len()).then_some(()));
    let logged = || fs::read_to_string(httpd.root().join("parts.log")).unwrap_or_default();
    wait_for("the lines in the log", || (logged().lines().count() == works.len()).then_some(()));
    assert!(logged().lines().all(|line| line == "header 200 4096"), "{}", logged());
    assert!(streams.iter().all(|stream| stream.so_far().is_none()));
    // There are four places.
    wait_for_running(&httpd, 0);
    early(&httpd, Protocol::Http2, handler.page(), "mark=on", BYTES);

    connection.read_on();
    streams.iter().for_each(|stream| assert_weather(&stream.response()));
    assert_body(&filling.response(), &large);
    assert!(connection.is_open());
    drop(connection);
    wait_for("all lines in the log", || (logged().lines().count() == works.len() + 1).then_some(()));
    httpd.stop();
}

/// The same, but the client goes without having read anything: it resets its streams, or closes its connection.
#[test]
fn a_client_of_streams_goes_before_it_has_read() {
    side_by_side([Mpm::Event, Mpm::Worker], |mpm| {
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .poisoned()
            .config("FinishRequest On\nSendBufferSize 16384")
            .start();
        let page = WHEN_TOLD.install(&httpd, Handler::Lua, "told");
        write(&httpd, "large.txt", body(LARGE));
        for resets in [true, false] {
            for work_first in [true, false] {
                let connection = httpd.connect_wide_http2();
                let works: Vec<Background> = (0..4).map(|_| httpd.background()).collect();
                let streams: Vec<Stream> =
                    works.iter().map(|work| connection.get(&path(work, &page, ""), &[])).collect();
                for work in &works {
                    wait_for("the application", || file(&httpd, work, "came").exists().then_some(()));
                }
                connection.stop_reading();
                let _filling = connection.get("/large.txt", &[]);
                httpd.wait_for_full_socket();
                for work in &works {
                    fs::write(file(&httpd, work, "go"), "").unwrap();
                    work.wait_for_begin();
                    if work_first {
                        ran_to_its_end(work);
                    }
                }
                if resets {
                    streams.into_iter().for_each(Stream::cancel);
                    connection.read_on();
                    if work_first {
                        connection.is_seen("/large.txt");
                    }
                }
                drop(connection);
                if !work_first {
                    works.iter().for_each(|work| _ = ran_to_its_end(work));
                }
            }
        }
        let ended = || httpd.log().matches("the background work has ended").count();
        wait_for("the end of the works", || (ended() == 16).then_some(()));
        early(&httpd, Protocol::Http2, "app.lua", "mark=on", BYTES);
        httpd.stop();
    });
}

on_every_handler_and_mpm!(main_ways);

/// The ways in which a response is finished, several at a time in one child, one after the other on one connection.
fn main_ways(handler: Handler, mpm: Mpm) {
    let httpd = Httpd::builder(mpm)
        .handler(handler)
        .poisoned()
        .config(
            "FinishRequest On
             SendBufferSize 16384
             <If \"%{QUERY_STRING} =~ /keep/\">
               FinishRequestConnection Keep
             </If>
             <If \"%{QUERY_STRING} =~ /continue/\">
               FinishRequestOnAbort Continue
             </If>
             <If \"%{QUERY_STRING} =~ /end/\">
               FinishRequestLog End
             </If>",
        )
        .start();
    for &protocol in mpm.protocols() {
        for query in ["mark=on", "mark=on&end", "mark=length%3D4096&length=none&keep", "mark=on&after=4000000"] {
            early_or_kept(&httpd, handler, protocol, query);
        }
        // A client that reads late, and one that goes.
        let (background, client) = (httpd.background(), Client::connect(&httpd, protocol));
        let large = "mark=on&length=400000&bytes=400000";
        let exchange = client.get(&path(&background, handler.page(), large), &[]);
        background.wait_for_begin();
        ran_to_its_end(&background);
        assert_body(&exchange.response(), &body(400_000));
        let (background, client) = (httpd.background(), Client::connect(&httpd, protocol));
        let exchange = client.get(&path(&background, handler.page(), "mark=on&continue&after=4000000"), &[]);
        background.wait_for_begin();
        drop(exchange);
        client.abort();
        ran_to_its_end(&background);
    }
    kept_one_after_the_other(&httpd, handler);
    httpd.stop();
}

fn early_or_kept(httpd: &Httpd, handler: Handler, protocol: Protocol, query: &str) {
    let background = httpd.background();
    let client = Client::connect(httpd, protocol);
    let exchange = client.get(&path(&background, handler.page(), query), &[]);
    let response = exchange.response();
    background.wait_for_begin();
    assert!(!background.is_done());
    assert_body(&response, &body(BYTES));
    if protocol == Protocol::Http2 {
        assert_body(&client.get(&format!("/{}?mark=none", handler.page()), &[]).response(), &body(BYTES));
    }
    ran_to_its_end(&background);
}

/// The connection goes on, with bodies that the application does not read, and with what the client sends ahead.
fn kept_one_after_the_other(httpd: &Httpd, handler: Handler) {
    let connection = httpd.connect();
    let works: Vec<Background> = (0..4).map(|_| httpd.background()).collect();
    for pair in works.chunks(2) {
        // All of it is there when the first of them is finished.
        let requests = pair.iter().map(|work| {
            let (target, unread) = (path(work, handler.page(), "mark=on&keep"), "S".repeat(1000));
            format!("POST {target} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000\r\n\r\n{unread}")
        });
        connection.send(requests.collect::<String>());
        for work in pair {
            assert_body(&connection.response(), &body(BYTES));
            work.wait_for_begin();
        }
    }
    assert!(works.iter().all(|work| !work.is_done()));
    works.iter().for_each(|work| _ = ran_to_its_end(work));
    connection.get(&format!("/{}?mark=none", handler.page()), &[]);
    assert_body(&connection.response(), &body(BYTES));
}
