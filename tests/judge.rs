//! The two ways in which a response can end, each proved by the order of events.

use std::fs;
use std::thread;

use support::{Background, Client, Done, Handler, Httpd, Protocol, Response, body};

/// The size of a stock application's answer.
pub const BYTES: usize = 4096;

/// What a stock application's background work prints.
pub const AFTER: usize = 200;

/// Requests `/PAGE?id=…&QUERY`, and expects that the client is released before the background work ends, with a body
/// of `bytes` bytes, and that the work runs to its end without an error.
#[track_caller]
pub fn early(httpd: &Httpd, protocol: Protocol, page: &str, query: &str, bytes: usize) -> Response {
    let background = httpd.background();
    let client = Client::connect(httpd, protocol);
    let response = client.get(&path(&background, page, query), &[]).released();
    assert!(!background.is_done(), "the client had to wait for the background work");
    assert_body(&response, &body(bytes));
    assert_eq!(response.header("X-Finish-Request"), None);
    ran_to_its_end(&background);
    response
}

/// The same request, and expects a response that ends when the handler does: with what the background work prints.
#[track_caller]
pub fn ordinary(httpd: &Httpd, protocol: Protocol, page: &str, query: &str) -> Response {
    let background = httpd.background();
    let client = Client::connect(httpd, protocol);
    let exchange = client.get(&path(&background, page, query), &[]);
    background.wait_for_begin();
    ran_to_its_end(&background);
    let response = exchange.response();
    assert_body(&response, &[body(BYTES), b"L".repeat(AFTER)].concat());
    assert_eq!(response.header("X-Finish-Request"), None);
    response
}

/// Path and query of a request for `page` with this background work.
pub fn path(background: &Background, page: &str, query: &str) -> String {
    format!("{}&{query}", background.query(page))
}

/// Opens the gate, and expects that the background work began before that, and ends without an error.
#[track_caller]
pub fn ran_to_its_end(background: &Background) -> Done {
    background.open_gate();
    let done = background.wait_for_done();
    assert_eq!(done.errors, "", "errors of the background work");
    assert!(done.began <= done.gate && done.gate <= done.ended, "{done:?}");
    done
}

/// Expects that the log has lines with this text, and no two of them within the minute in which the module says one of a kind.
#[track_caller]
pub fn is_said_seldom(httpd: &Httpd, text: &str) {
    let log = httpd.log();
    let lines: Vec<&str> = log.lines().filter(|line| line.contains(text)).collect();
    assert!(!lines.is_empty(), "nobody says \"{text}\"");
    // `[Wed Nov 18 12:34:56.123456 2026] …`
    let second = |line: &str| {
        let clock: Vec<f64> =
            line.split_whitespace().nth(3)?.split(':').map(str::parse).collect::<Result<_, _>>().ok()?;
        clock.into_iter().reduce(|higher, lower| higher * 60.0 + lower)
    };
    let times: Vec<f64> = lines.iter().map(|line| second(line).expect("a line has its time")).collect();
    // It counts whole seconds, and midnight may be between them.
    let is_seldom = times.windows(2).all(|pair| (pair[1] - pair[0]).rem_euclid(86_400.0) > 58.9);
    assert!(is_seldom, "{lines:#?}");
}

/// Compares a response's body, in a form in which a difference can be read.
#[track_caller]
pub fn assert_body(response: &Response, expected: &[u8]) {
    if response.body == expected {
        return;
    }
    let common = response.body.iter().zip(expected).take_while(|(a, b)| a == b).count();
    let show = |bytes: &[u8]| bytes[common..].iter().take(80).copied().collect::<Vec<_>>().escape_ascii().to_string();
    panic!(
        "status {}, {} bytes of body, not {}; from byte {common} on: \"{}\", not \"{}\"",
        response.status,
        response.body.len(),
        expected.len(),
        show(&response.body),
        show(expected)
    );
}

/// Runs `check` for all cases side by side; the case is part of the message of a failure.
pub fn side_by_side<T: std::fmt::Debug + Send>(cases: impl IntoIterator<Item = T>, check: impl Fn(T) + Sync) {
    thread::scope(|scope| {
        for case in cases {
            let check = &check;
            thread::Builder::new().name(format!("{case:?}")).spawn_scoped(scope, move || check(case)).unwrap();
        }
    });
}

/// Puts a file into the document root, in folders that are made for it.
pub fn write(httpd: &Httpd, path: &str, text: impl AsRef<[u8]>) {
    let path = httpd.root().join("www").join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

/// An application of the test's own, for each kind of handler; without the line that includes the stock functions.
#[derive(Clone, Copy)]
pub struct Application {
    pub php: &'static str,
    pub sh: &'static str,
    /// The body of `handle(r)`, with `background` and `query` at hand.
    pub lua: &'static str,
}

impl Application {
    /// Puts it into the document root for this handler, and gives its page.
    pub fn install(self, httpd: &Httpd, handler: Handler, name: &str) -> String {
        let page = format!("{name}.{}", handler.extension());
        let text = match handler {
            Handler::ModPhp | Handler::ModFcgid | Handler::PhpFpm => {
                format!("<?php\nrequire __DIR__ . '/background.php';\n{}", self.php)
            }
            Handler::Cgi => format!("#!/bin/sh\n. ./background.sh\nquery id ''\n{}", self.sh),
            Handler::Lua => format!(
                "function handle(r)\n\
                 local background = dofile(r.filename:match('^(.*)/') .. '/background.lua')\n\
                 local query = r:parseargs()\n{}\nend\n",
                self.lua
            ),
        };
        httpd.install(&page, &text);
        page
    }
}
