//! HTTP/2: a finished response ends its stream; the connection and its other streams stay.

use support::http2::{Http2, Stream};
use support::{Background, Builder, Frame, Frames, Handler, Httpd, Mpm, body, wait_for};

use crate::judge::{assert_body, path, ran_to_its_end, side_by_side};

/// How many requests of a connection mod_http2 works on at first.
const AT_FIRST: usize = 6;

/// Twenty streams of one connection, every second of them finished early with work that waits at its gate, the others
/// ordinary. The first are answered though the gates are shut, another connection is not held up, and in the end all are.
fn twenty(handler: Handler, mpm: Mpm, connect: fn(&Httpd) -> Http2) {
    let httpd = Httpd::builder(mpm).handler(handler).config("FinishRequest On").start();
    let connection = connect(&httpd);
    let works: Vec<Background> = (0..10).map(|_| httpd.background()).collect();
    let streams: Vec<(Stream, Option<&Background>)> = (0..20)
        .map(|index| match works.get(index / 2).filter(|_| index % 2 == 0) {
            Some(work) => (connection.get(&path(work, handler.page(), "mark=on"), &[]), Some(work)),
            None => (connection.get(&format!("/{}?mark=none", handler.page()), &[]), None),
        })
        .collect();

    // As many as are worked on at first, and those behind them that need no work.
    for (stream, work) in streams.iter().take(AT_FIRST) {
        assert_body(&stream.response(), &body(4096));
        assert!(work.is_none_or(|work| !work.is_done()));
    }
    let other = connect(&httpd);
    assert_body(&other.get(&format!("/{}?mark=none", handler.page()), &[]).response(), &body(4096));
    assert!(works.iter().all(|work| !work.is_done()));

    works.iter().for_each(Background::open_gate);
    for (stream, _) in &streams {
        assert_body(&stream.response(), &body(4096));
    }
    works.iter().for_each(|work| assert_eq!(work.wait_for_done().errors, ""));
    assert!(connection.is_open());
    httpd.stop();
}

macro_rules! twenty_streams {
    ($($name:ident: $handler:ident, $mpm:ident, $connect:ident;)*) => {
        $(
            #[test]
            fn $name() {
                twenty(Handler::$handler, Mpm::$mpm, Httpd::$connect);
            }
        )*
    };
}

twenty_streams! {
    twenty_of_mod_lua_on_event: Lua, Event, connect_http2;
    twenty_of_mod_lua_on_worker: Lua, Worker, connect_h2c;
    twenty_of_php_fpm_on_event: PhpFpm, Event, connect_h2c;
    twenty_of_mod_cgid_on_worker: Cgi, Worker, connect_http2;
    twenty_of_mod_fcgid_on_event: ModFcgid, Event, connect_http2;
}

/// Work on every stream that mod_http2 works on: the next ones wait, as for any requests, and are answered then.
#[test]
fn those_behind_wait_for_a_place() {
    for mpm in [Mpm::Event, Mpm::Worker] {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).config("FinishRequest On").start();
        let connection = httpd.connect_http2();
        let works: Vec<Background> = (0..20).map(|_| httpd.background()).collect();
        let streams: Vec<Stream> =
            works.iter().map(|work| connection.get(&path(work, "app.lua", "mark=on"), &[])).collect();
        // Which ones mod_http2 begins with is its affair.
        let answered = || streams.iter().filter(|stream| stream.response_now().is_some()).count();
        wait_for("as many as are worked on at first", || (answered() >= AT_FIRST).then_some(()));
        assert!(works.iter().all(|work| !work.is_done()));
        let other = httpd.connect_http2();
        assert_body(&other.get("/app.lua?mark=none", &[]).response(), &body(4096));

        works.iter().for_each(Background::open_gate);
        for (stream, work) in streams.iter().zip(&works) {
            assert_body(&stream.response(), &body(4096));
            assert_eq!(work.wait_for_done().errors, "");
        }
        httpd.stop();
    }
}

const SOME: [(Handler, Mpm); 4] = [
    (Handler::Lua, Mpm::Event),
    (Handler::PhpFpm, Mpm::Worker),
    (Handler::Cgi, Mpm::Event),
    (Handler::ModFcgid, Mpm::Worker),
];

/// A client that has sent a GET request on its first stream, and takes no more than a hundred bytes of the response.
fn with_a_small_window(httpd: &Httpd, target: &str) -> Frames {
    let mut client = Frames::connect(httpd.address(), &[(Frames::INITIAL_WINDOW_SIZE, 100)]);
    client.send(&Frame::get(1, target)).unwrap();
    client
}

/// The client resets a stream that has been finished, and of which it has read next to nothing: the work goes on.
#[test]
fn a_finished_stream_is_reset() {
    const CANCEL: [u8; 4] = [0, 0, 0, 8];
    side_by_side(SOME, |(handler, mpm)| {
        let httpd = Httpd::builder(mpm).handler(handler).config("FinishRequest On").start();
        let background = httpd.background();
        let target = path(&background, handler.page(), "mark=on&after=4000000");
        let mut client = with_a_small_window(&httpd, &target);
        httpd.wait_for_log("finished early");
        background.wait_for_begin();
        client.send(&Frame::bytes(Frame::RST_STREAM, 0, 1, &CANCEL)).unwrap();
        assert!(client.is_seen(), "the connection is closed");
        assert!(!background.is_done());
        ran_to_its_end(&background);
        httpd.stop();
    });
}

/// mod_logio's `%I` and `%O`: mod_http2 has not sent the response, let alone counted it, when the request is logged.
#[test]
fn bytes_are_logged_before_they_are_sent() {
    let cases = SOME.into_iter().flat_map(|(handler, mpm)| ["Client", "End"].map(|log| (handler, mpm, log)));
    side_by_side(cases, |(handler, mpm, log)| {
        let config = format!(
            "FinishRequest On\nFinishRequestLog {log}\nCustomLog \"${{ROOT}}/bytes.log\" \"%I %O %{{finish-request}}n %q\""
        );
        let httpd = Httpd::builder(mpm).handler(handler).config(&config).start();
        let background = httpd.background();
        let target = path(&background, handler.page(), "mark=on");
        let _client = with_a_small_window(&httpd, &target);
        background.wait_for_begin();
        if log == "End" {
            ran_to_its_end(&background);
        }
        let line = wait_for("the line in the log", || {
            let log = std::fs::read_to_string(httpd.root().join("bytes.log")).unwrap_or_default();
            log.lines().next().map(str::to_owned)
        });
        let (bytes_in, rest) = line.split_once(' ').unwrap();
        assert!(rest.starts_with("4096 header ?"), "{line}");
        // Its frame, which has its fields in it.
        assert!((target.len()..target.len() + 100).contains(&bytes_in.parse().unwrap()), "{line}");
        ran_to_its_end(&background);
        httpd.stop();
    });
}

/// The client gives a stream up whose response has come, or closes the connection: the work goes on.
#[test]
fn the_client_goes() {
    for (handler, mpm) in SOME {
        let httpd = Httpd::builder(mpm).handler(handler).config("FinishRequest On").start();
        for connection in [httpd.connect_http2(), httpd.connect_h2c()] {
            let reset = httpd.background();
            let stream = connection.get(&path(&reset, handler.page(), "mark=on"), &[]);
            assert_body(&stream.response(), &body(4096));
            reset.wait_for_begin();
            stream.cancel();
            let closed = httpd.background();
            assert_body(&connection.get(&path(&closed, handler.page(), "mark=on"), &[]).response(), &body(4096));
            closed.wait_for_begin();
            assert!(!reset.is_done() && !closed.is_done());
            drop(connection);
            ran_to_its_end(&reset);
            ran_to_its_end(&closed);
        }
        // These clients have all of their responses.
        assert_eq!(httpd.access_log().iter().filter(|line| line.ends_with(" X")).count(), 0);
        httpd.stop();
    }
}

/// A filter passes the end on by itself: a client that has all that it was told may be gone before it comes.
#[test]
fn the_client_goes_before_the_end_alone() {
    for (handler, mpm) in [(Handler::Lua, Mpm::Event), (Handler::Cgi, Mpm::Worker)] {
        let httpd = Httpd::builder(mpm)
            .handler(handler)
            .modules(&["lua"])
            .config(
                "FinishRequest On
                LuaOutputFilter LATE ${ROOT}/late.lua late
                <LocationMatch ^/app>
                  SetOutputFilter LATE
                </LocationMatch>",
            )
            .start();
        let folder = httpd.root().display().to_string();
        let script = r#"
            function late(r)
                coroutine.yield()
                while bucket do
                    r.headers_out["Content-Length"] = "4096"
                    coroutine.yield(bucket)
                end
                local gate
                repeat
                    r.usleep(1000)
                    gate = io.open("@ROOT@/end")
                until gate
                gate:close()
            end"#;
        std::fs::write(httpd.root().join("late.lua"), script.replace("@ROOT@", &folder)).unwrap();
        httpd.install("static.txt", "a static file\n");
        let connection = httpd.connect_http2();
        let background = httpd.background();
        let stream = connection.get(&path(&background, handler.page(), "mark=on"), &[]);
        let told = wait_for("the body", || stream.so_far().filter(|response| response.body.len() == 4096));
        assert_eq!(told.header("Content-Length"), Some("4096"));
        assert!(!stream.has_ended());
        stream.cancel();
        connection.is_seen("/static.txt");
        std::fs::write(httpd.root().join("end"), "").unwrap();
        background.wait_for_begin();
        ran_to_its_end(&background);
        wait_for("the work's end", || httpd.log().contains("the background work has ended").then_some(()));
        httpd.stop();
    }
}

/// Answers with a link to what is to be pushed, and then works.
const PAGE: &str = r#"
function handle(r)
    local background = dofile(r.document_root .. "/background.lua")
    local query = r:parseargs()
    r.content_type = "text/plain"
    if query.link then
        r.headers_out["Link"] = "</page.lua?id=" .. query.link .. "&kind=" .. query.pushed .. ">; rel=preload"
    end
    if query.kind ~= "unmarked" then
        r.headers_out["Content-Length"] = "4096"
    end
    if query.kind == "marked" then
        r.headers_out["X-Finish-Request"] = "on"
    end
    r:write(background.body(4096))
    r:flush()
    background.run(r, query.id, 0)
    return apache2.OK
end
"#;

/// mod_http2 pushes what a response names, as on stock httpd, whether that or what is pushed is marked, Auto's or unmarked. Both are finished
/// early where they are not unmarked, and the work of both is done.
#[test]
fn what_is_pushed() {
    side_by_side([Mpm::Event, Mpm::Worker], is_pushed);
}

fn is_pushed(mpm: Mpm) {
    let server = |configure: fn(Builder) -> Builder| {
        let httpd = configure(Httpd::builder(mpm).handler(Handler::Lua).config("H2Push on")).start();
        httpd.install("page.lua", PAGE);
        httpd
    };
    let stock = server(Builder::without_module);
    let httpd = server(|builder| builder.config("FinishRequest Auto"));
    const KINDS: [&str; 3] = ["marked", "Auto", "unmarked"];
    for kinds in KINDS.into_iter().flat_map(|outer| KINDS.map(|pushed| [outer, pushed])) {
        for (httpd, early) in [(&stock, [false; 2]), (&httpd, kinds.map(|kind| kind != "unmarked"))] {
            let works = [httpd.background(), httpd.background()];
            let mut client = Frames::connect(httpd.address(), &[(Frames::ENABLE_PUSH, 1)]);
            let query = format!("&kind={}&pushed={}&link={}", kinds[0], kinds[1], works[1].id());
            client.send(&Frame::get(1, &(works[0].query("page.lua") + &query))).unwrap();
            works.iter().for_each(Background::wait_for_begin);
            let mut seen = Seen::default();
            seen.until(&mut client, |seen| early.iter().zip(&seen.ended).all(|(early, ended)| ended >= early));
            assert!(works.iter().all(|work| !work.is_done()), "{kinds:?}");
            for work in &works {
                ran_to_its_end(work);
            }
            seen.until(&mut client, |seen| seen.ended == [true; 2]);
            assert!(seen.promised && seen.bodies.iter().all(|got| *got == body(4096)), "{kinds:?}");
        }
    }
    httpd.stop();
    stock.stop();
}

/// What has come of a response, and of what is pushed with it.
#[derive(Default)]
struct Seen {
    promised: bool,
    bodies: [Vec<u8>; 2],
    ended: [bool; 2],
}

impl Seen {
    fn until(&mut self, client: &mut Frames, is_enough: impl Fn(&Seen) -> bool) {
        while !is_enough(self) {
            let frame = client.frame().expect("the connection goes on");
            self.promised |= frame.kind == Frame::PUSH_PROMISE;
            // The client's first stream, and the server's.
            if let index @ (0 | 1) = (frame.stream as usize).wrapping_sub(1) {
                if frame.kind == Frame::DATA {
                    self.bodies[index].extend(&frame.payload);
                }
                self.ended[index] |= frame.is_last();
            }
        }
    }
}
