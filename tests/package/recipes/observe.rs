//! What a client sees of a recipe.

use std::fmt;
use std::time::{Duration, Instant};

use support::http1::EndKind;
use support::{Background, Client, Exchange, Httpd, Protocol, Response, body, wait_for};

use super::recipe::{Platform, Promise, Recipe};

/// How long a response that is not expected before the gate opens may take to come all the same,
/// from when the application says that it has begun its background work.
pub const SHORT: Duration = Duration::from_millis(700);
/// How long one that is expected may take.
pub const LONG: Duration = Duration::from_secs(15);

/// How long after the application's end a response may be incomplete before it counts as broken.
const LATE: Duration = Duration::from_secs(8);

/// What only the background work prints.
const LEAKS: [&[u8]; 2] = [b"LEAK", b"LLLLLLLL"];

/// One request.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub platform: Platform,
    pub recipe: &'static Recipe,
    pub protocol: Protocol,
    pub gzip: bool,
    /// What the module promises; `None` where it is not loaded.
    pub promise: Option<Promise>,
    /// How long the client waits for its response before the gate is opened.
    pub patience: Duration,
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub what: What,
    /// What the background work printed reached the client.
    pub leaks: bool,
    /// The background work did not come to its end.
    pub killed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// The client had all before the background work ended.
    Released,
    /// It had to wait for the work.
    Held,
    /// It had the first part of a body that is in parts by intent.
    Streams,
    /// What it got in the end is not what the application wrote.
    Broken,
    /// The application did not run.
    Missing,
}

impl fmt::Display for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let word = match self.what {
            What::Released => "yes",
            What::Held => "no",
            What::Streams => "streams",
            What::Broken => "broken",
            What::Missing => "–",
        };
        f.write_str(word)?;
        f.write_str(if self.leaks { ", leaks" } else { "" })?;
        f.write_str(if self.killed { ", killed" } else { "" })
    }
}

/// A response, or why there is none.
type Came = Result<Response, String>;

impl Field {
    pub fn observe(self, httpd: &Httpd) -> Seen {
        let background = httpd.background();
        let client = Client::connect(httpd, self.protocol);
        let exchange = client.get(&background.query(&self.recipe.page(self.platform)), self.accept());

        let early = self.before_the_gate(&exchange, &background);
        if self.recipe.name == "fpm-finish" && !self.runs(httpd, &background) {
            return Seen { what: What::Missing, leaks: false, killed: false };
        }
        if let (Some(Ok(response)), Some(promise)) = (&early, self.promise) {
            self.check_header(response);
            // A connection that httpd keeps is not closed: the last chunk is the end.
            if promise == Promise::Released && self.recipe.name != "own-chunks" {
                exchange.end_in_good_order();
            }
        }
        let was_early = matches!(early, Some(Ok(_)));
        let streamed = early.is_none() && self.recipe.streams() && self.first_part_comes(&exchange);
        if self.recipe.redirects() {
            return self.follow(httpd, &client, &exchange, early, &background);
        }

        assert!(!background.is_done() || self.promise.is_none(), "the work ended before its gate was opened");
        background.open_gate();
        let killed = self.ends_early(&background);
        let came = early.unwrap_or_else(|| came(&exchange));
        let (right, in_body) = self.judge(&came);
        let on_the_wire = was_early && self.leaks_behind(&client);
        let what = match (right, was_early) {
            (false, _) => What::Broken,
            (true, true) => What::Released,
            (true, false) if streamed => What::Streams,
            (true, false) => What::Held,
        };
        Seen { what, leaks: in_body || on_the_wire, killed }
    }

    fn accept(self) -> &'static [(&'static str, &'static str)] {
        if self.gzip { &[("Accept-Encoding", "gzip")] } else { &[] }
    }

    /// What comes before the gate is opened.
    fn before_the_gate(self, exchange: &Exchange<'_>, background: &Background) -> Option<Came> {
        let mut begun = None;
        wait_for(&format!("{self:?} to begin its background work"), || {
            if let Some(came) = exchange.response_now() {
                return Some(Some(came));
            }
            begun = begun.or_else(|| background.has_begun().then(Instant::now));
            begun.filter(|begun| begun.elapsed() > self.patience).map(|_| None)
        })
    }

    /// Whether the application runs, and not into a function that PHP does not have there.
    fn runs(self, httpd: &Httpd, background: &Background) -> bool {
        wait_for("fastcgi_finish_request(), or an error", || {
            let missing = httpd.log().contains("undefined function fastcgi_finish_request");
            (missing || background.has_begun()).then_some(!missing)
        })
    }

    /// Whether the first part of the body is there, and no more than the application has written.
    fn first_part_comes(self, exchange: &Exchange<'_>) -> bool {
        let start = Instant::now();
        let is_there = || {
            let part = exchange.so_far().map(|response| response.decoded_so_far()).unwrap_or_default();
            !part.is_empty() && self.recipe.expected().starts_with(&part)
        };
        wait_for("the first part", || if is_there() { Some(true) } else { (start.elapsed() > LATE).then_some(false) })
    }

    /// Goes where a redirect leads to, as a browser does: at once. The client has what it wants with that page.
    fn follow(
        self,
        httpd: &Httpd,
        client: &Client,
        exchange: &Exchange<'_>,
        early: Option<Came>,
        background: &Background,
    ) -> Seen {
        let was_early = early.is_some();
        let redirect = match early {
            Some(came) => came,
            None => {
                background.open_gate();
                self.ends_early(background);
                came(exchange)
            }
        };
        let broken = Seen { what: What::Broken, leaks: false, killed: false };
        let Ok(redirect) = redirect else { return broken };
        assert_eq!((redirect.status, redirect.header("Location")), (302, Some("next.php")));
        let cookie = redirect.header("Set-Cookie").and_then(|value| value.split(';').next()).unwrap_or("none=0");

        let another = Client::connect(httpd, self.protocol);
        let client = if self.protocol == Protocol::Http2 { client } else { &another };
        let next = client.get("/next.php", &[&[("Cookie", cookie)], self.accept()].concat());
        let early = if was_early { self.before_the_gate(&next, background) } else { None };
        background.open_gate();
        let what = match early {
            Some(_) => What::Released,
            None => What::Held,
        };
        let came = early.unwrap_or_else(|| came(&next));
        let right = came.is_ok_and(|response| decoded(&response).is_ok_and(|text| text == body(1500)));
        let killed = self.ends_early(background);
        if right { Seen { what, leaks: false, killed } } else { broken }
    }

    /// What must hold for the header of a response of ours.
    fn check_header(self, response: &Response) {
        assert_eq!(response.header("X-Finish-Request"), None);
        let coding = response.header("Content-Encoding");
        if self.recipe.text.contains("Content-Encoding: none") {
            // As httpd sends it without the module.
            assert_eq!(coding, Some("none"));
            return;
        }
        // What is so short mod_deflate leaves alone.
        let long = response.body.len() > 1;
        assert_eq!(coding.is_some(), self.gzip && long, "compression: {:?}", response.headers);
    }

    /// Waits for the work to end. Whether something ended it before its time.
    fn ends_early(self, background: &Background) -> bool {
        if self.promise.is_none_or(|promise| promise == Promise::AsOnStock) {
            // Stock httpd may end a script, or tell it that its client has gone.
            let start = Instant::now();
            let done = || background.is_done() || start.elapsed() > LATE;
            wait_for("the background work to end", || done().then_some(()));
            return !background.is_done() || background.wait_for_done().errors.contains("ended too early");
        }
        let done = background.wait_for_done();
        assert_eq!(done.errors, "", "errors of the background work");
        assert!(done.began <= done.gate && done.gate <= done.ended, "{done:?}");
        false
    }

    /// Whether the body is right, and whether it has what only the background work prints.
    fn judge(self, came: &Came) -> (bool, bool) {
        let expected = self.recipe.expected();
        match came.as_ref().map_err(Clone::clone).and_then(decoded) {
            Ok(text) if text == expected => (true, false),
            Ok(text) if text.starts_with(&expected) && has_leak(&text) => (true, true),
            _ => (false, false),
        }
    }

    /// Whether what the background work prints follows the response on the connection.
    fn leaks_behind(self, client: &Client) -> bool {
        let Some(connection) = client.http1() else { return false };
        // A client that has a next request, where the server lets it.
        let _ = connection.try_send("GET /next.php HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
        let end = connection.end();
        let leaks = has_leak(&connection.rest());
        if self.promise.is_some() {
            assert!(!leaks, "behind the response: \"{}\"", connection.rest().escape_ascii());
            assert_eq!(end.kind, EndKind::Fin);
        }
        leaks
    }
}

/// Waits for what comes when the application has done its work: soon, or never.
fn came(exchange: &Exchange<'_>) -> Came {
    let start = Instant::now();
    let late = || (start.elapsed() > LATE).then(|| Err("it is never complete".to_owned()));
    wait_for("the response after the background work", || exchange.response_now().or_else(late))
}

fn decoded(response: &Response) -> Result<Vec<u8>, String> {
    match response.header("Content-Encoding") {
        // No content coding, but clients take it for none.
        Some("none") => Ok(response.body.clone()),
        _ => response.try_decoded(),
    }
}

fn has_leak(bytes: &[u8]) -> bool {
    LEAKS.iter().any(|leak| bytes.windows(leak.len()).any(|window| window == *leak))
}
