//! Responses that are made to deceive: the client gets what stock httpd lets through, and the next response on its connection is the next one.

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::thread;

use support::http1::Trouble;
use support::{Builder, Client, Handler, Httpd, Mpm, Protocol, Response};

use crate::judge::side_by_side;

/// What an application says, in the place of its header and behind it; and what it smuggles.
const TEXTS: [(&str, &str, &str); 20] = [
    ("two lengths", "Content-Length: 5\r\nContent-Length: 11\r\n", "hello world"),
    ("two lengths, the longer one first", "Content-Length: 11\r\nContent-Length: 5\r\n", "hello world"),
    ("a list of lengths", "Content-Length: 5, 11\r\n", "hello world"),
    ("a length with a sign", "Content-Length: +5\r\n", "hello world"),
    ("a length less than nothing", "Content-Length: -5\r\n", "hello world"),
    ("a length in another system", "Content-Length: 0x5\r\n", "hello world"),
    ("a length beyond all numbers", "Content-Length: 99999999999999999999\r\n", "hello world"),
    ("length and chunks", "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "5\r\nhello\r\n0\r\n\r\nSMUGGLED"),
    ("chunks and length", "Transfer-Encoding: chunked\r\nContent-Length: 200\r\n", "5\r\nhello\r\n0\r\n\r\nSMUGGLED"),
    ("an unknown coding", "Transfer-Encoding: xchunked\r\nContent-Length: 5\r\n", "5\r\nhello\r\n0\r\n\r\nSMUGGLED"),
    ("a coding twice", "Transfer-Encoding: chunked, chunked\r\n", "5\r\nhello\r\n0\r\n\r\nSMUGGLED"),
    ("a chunk without an end", "Transfer-Encoding: chunked\r\n", "ffffffffffffffff\r\nSMUGGLED"),
    ("a chunk of another size", "Transfer-Encoding: chunked\r\n", "3\r\nhello\r\n0\r\n\r\nSMUGGLED"),
    ("more than the length", "Content-Length: 5\r\n", "helloSMUGGLED"),
    ("less than the length", "Content-Length: 500\r\n", "helloSMUGGLED"),
    ("a folded line", "X-Folded: one\r\n two\r\nContent-Length: 5\r\n", "hello"),
    ("a CR in a value", "X-Value: one\rSet-Cookie: a=b\r\nContent-Length: 5\r\n", "hello"),
    ("a control byte in a value", "X-Value: one\x0b\x01two\r\nContent-Length: 5\r\n", "hello"),
    ("a space before the colon", "X-Value : one\r\nContent-Length: 5\r\n", "hello"),
    ("an interim status", "Status: 103 Early Hints\r\nLink: </a.css>\r\nContent-Length: 5\r\n", "helloSMUGGLED"),
];

/// Those in which nothing is wrong but what stands behind a body of one length, which the client gets in any case.
const HELLO: [&str; 1] = ["more than the length"];

/// A response that nobody has asked for.
const SMUGGLED: &str = "HTTP/1.1 200 OK\r\nX-Smuggled: yes\r\nContent-Length: 8\r\n\r\nsmuggled";

/// The marks, as they stand in the header.
const MARKS: [&str; 7] = [
    "",
    "X-Finish-Request: on\r\n",
    "X-Finish-Request: length=5\r\n",
    "X-Finish-Request: on\rSet-Cookie: a=b\r\n",
    "X-Finish-Request:\r\n on\r\n",
    "X-Finish-Request: on;\r\n length=5\r\n",
    "X-Finish-Request: length=5\r\nX-Finish-Request: length=11\r\n",
];

/// The text of a case, from its first line on.
fn text(case: usize, mark: usize) -> Vec<u8> {
    let (_, head, body) = TEXTS[case];
    let body = body.replace("SMUGGLED", SMUGGLED);
    format!("{head}Content-Type: text/plain\r\n{}\r\n{body}", MARKS[mark]).into_bytes()
}

/// An origin that answers `/CASE-MARK`, and closes its connection then. It ends with the process.
fn origin() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            let mut lines = BufReader::new(client.try_clone().unwrap()).lines().map_while(Result::ok);
            let first = lines.next().unwrap_or_default();
            while lines.next().is_some_and(|line| !line.is_empty()) {}
            let numbers = first.split(['/', '-', ' ']).filter_map(|part| part.parse().ok()).collect::<Vec<usize>>();
            let [case, mark, ..] = numbers[..] else { continue };
            let text = String::from_utf8_lossy(&text(case, mark)).replacen("Status: 103", "HTTP/1.1 103", 1);
            // An interim response, and no other behind it.
            let status = if text.starts_with("HTTP/1.1 103") { "" } else { "HTTP/1.1 200 OK\r\n" };
            // httpd may have gone.
            let _ = client.write_all(format!("{status}{text}").as_bytes());
        }
    });
    address
}

/// What a client gets for one request, and behind it for the next one.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    status: u16,
    headers: Vec<(String, String)>,
    body: String,
    is_whole: bool,
    next: Next,
}

/// How a connection goes on.
#[derive(Debug, PartialEq, Eq)]
enum Next {
    /// With the next response, as it is to be.
    Right,
    /// It ends.
    End,
    /// With something else.
    Wrong,
}

impl Next {
    fn of(response: &Response) -> Next {
        if response.status == 200 && response.body == NEXT.as_bytes() { Next::Right } else { Next::Wrong }
    }
}

impl Seen {
    fn of(response: Option<Response>, is_whole: bool, next: Next) -> Seen {
        const NOT_ABOUT_THE_RESPONSE: [&str; 8] = [
            "connection",
            "keep-alive",
            "content-length",
            "transfer-encoding",
            "date",
            "expires",
            "x-finish-request",
            "upgrade",
        ];
        let (status, headers, body) =
            response.map_or_else(Default::default, |response| (response.status, response.headers, response.body));
        let tells = |(name, _): &(String, String)| !NOT_ABOUT_THE_RESPONSE.contains(&&*name.to_ascii_lowercase());
        let headers = headers.into_iter().filter(tells).collect();
        Seen { status, headers, body: body.escape_ascii().to_string(), is_whole, next }
    }

    /// Whether this may come where stock httpd answers like that. A marked response may be shorter, its connection may end, and where its body is
    /// not what it said it may be seen to be broken. How much comes of a broken one is chance: over HTTP/2 the reset may overtake all of it.
    fn is_right(&self, stock: &Seen, is_marked: bool, protocol: Protocol) -> bool {
        let is_told = stock.status != 0 && (self.status != 0 || protocol != Protocol::Http2);
        let same = !is_told || (self.status, &self.headers) == (stock.status, &stock.headers);
        let body = self.body.starts_with(&stock.body) || stock.body.starts_with(&self.body);
        let as_long = is_marked || !stock.is_whole || self.body.len() == stock.body.len();
        let whole = is_marked || self.is_whole == stock.is_whole;
        let next = self.next == Next::Right || self.next == stock.next || is_marked && self.next == Next::End;
        same && body && as_long && whole && next
    }
}

/// How often stock httpd is asked again, where another answer comes than it gave.
const SAMPLES: usize = 30;

const NEXT: &str = "a static file\n";

fn ask(httpd: &Httpd, protocol: Protocol, target: &str) -> Seen {
    let client = Client::connect(httpd, protocol);
    if protocol == Protocol::Http2 {
        let (first, second) = (client.get(target, &[]), client.get("/next.txt", &[]));
        let next = second.failure().map_or(Next::End, |response| Next::of(&response));
        return match first.failure() {
            Ok(response) => Seen::of(Some(response), true, next),
            Err(_) => Seen::of(first.so_far(), false, next),
        };
    }
    let connection = client.http1().unwrap();
    let head = |target: &str| format!("GET {target} HTTP/1.1\r\nHost: localhost\r\n");
    connection.send(format!("{}\r\n{}Connection: close\r\n\r\n", head(target), head("/next.txt")));
    let next = || match connection.response_or_trouble(false) {
        Ok(response) => Next::of(&response),
        Err(Trouble::End(_)) if connection.rest().is_empty() => Next::End,
        Err(_) => Next::Wrong,
    };
    match connection.response_or_trouble(false) {
        Ok(response) => Seen::of(Some(response), true, next()),
        Err(Trouble::End(_)) => Seen::of(connection.so_far(), false, Next::End),
        Err(Trouble::Nonsense(_)) => Seen::of(None, false, Next::Wrong),
    }
}

on_every_mpm!(deceptions);

/// Marked and unmarked, of a script and of a proxied origin, with each way of what becomes of the connection.
fn deceptions(mpm: Mpm) {
    let origin = origin();
    // Each of the odd marks with one text.
    let cases = || {
        let with_plain_marks = (0..TEXTS.len()).flat_map(|case| [0, 1, 2].map(|mark| (case, mark)));
        with_plain_marks.chain((3..MARKS.len()).map(|mark| (0, mark)))
    };
    let server = |configure: &dyn Fn(Builder) -> Builder| {
        let builder = Httpd::builder(mpm).handler(Handler::Cgi).modules(&["proxy", "proxy_http"]);
        let httpd = configure(builder.config(&format!("ProxyPass /origin http://{origin} disablereuse=on"))).start();
        httpd.install("next.txt", NEXT);
        for (case, mark) in cases() {
            let text = String::from_utf8(text(case, mark)).unwrap();
            httpd.install(&format!("{case}-{mark}.cgi"), &format!("#!/usr/bin/tail -n+2\n{text}"));
        }
        // What is no response is said to be none.
        httpd.allow_log("cgid?:error|proxy(_http)?:(error|warn)|http:error.*(AH02429|AH02430)|finish_request:warn");
        httpd
    };
    let stock = server(&|builder| builder.without_module());
    let ours = ["Close", "Keep"]
        .map(|keep| server(&|builder| builder.config(&format!("FinishRequest On\nFinishRequestConnection {keep}"))));
    let protocols = mpm.protocols().iter().copied().filter(|protocol| *protocol != Protocol::Http1Tls);
    side_by_side(protocols, |protocol| {
        let mut wrong = Vec::new();
        for (case, mark) in cases() {
            for (before, behind) in [("", ".cgi"), ("origin/", "")] {
                let target = |mark| format!("/{before}{case}-{mark}{behind}");
                // The mark itself, which httpd may refuse to send, does not reach a client of the module's.
                let marks = if mark == 3 { vec![mark, 0] } else { vec![mark] };
                let sample = || marks.iter().map(|mark| ask(&stock, protocol, &target(*mark))).collect::<Vec<_>>();
                let mut theirs = sample();
                for httpd in &ours[..if protocol == Protocol::Http1 { 2 } else { 1 }] {
                    let seen = ask(httpd, protocol, &target(mark));
                    // What stock httpd answers by chance is right, too.
                    let is_right =
                        |theirs: &[Seen]| theirs.iter().any(|theirs| seen.is_right(theirs, mark > 0, protocol));
                    for _ in 0..SAMPLES {
                        if !is_right(&theirs) {
                            theirs.extend(sample());
                        }
                    }
                    let is_hello = || seen.is_whole && seen.body == "hello";
                    let wants_hello = matches!(mark, 1 | 2) && HELLO.contains(&TEXTS[case].0);
                    if !is_right(&theirs) || wants_hello && !is_hello() {
                        let what = format!("{} at {}, {:?}", TEXTS[case].0, target(mark), MARKS[mark]);
                        wrong.push(format!("{what}\n    {seen:?}\n    {theirs:?}"));
                    }
                }
            }
        }
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    });
    assert!(ours.iter().all(|httpd| httpd.log().contains("finished early")));
    ours.into_iter().for_each(Httpd::stop);
    stock.stop();
}
