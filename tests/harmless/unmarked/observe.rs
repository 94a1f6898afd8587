//! What a client sees of a server in one field of the matrix.

use std::hash::{DefaultHasher, Hash, Hasher};

use support::http1::{Connection, End, EndKind};
use support::http2::Http2;
use support::{Background, Client, Framing, Handler, Httpd, Protocol, Response};

use crate::finished::compression::{ACCEPT, Compression};

/// One field of the matrix.
#[derive(Clone, Copy, Debug)]
pub struct Field {
    pub handler: Handler,
    pub protocol: Protocol,
    pub compression: Compression,
    /// What `FinishRequest` is there, in small letters.
    pub setting: &'static str,
}

/// What came for a request.
#[derive(Debug, PartialEq, Eq)]
pub struct Observation {
    request: String,
    seen: Seen,
}

#[derive(Debug, PartialEq, Eq)]
enum Seen {
    /// A response, and how it ended; what followed it on a connection that was closed.
    Response { status: u16, headers: Vec<String>, end: String, body: String, rest: String },
    /// The connection had ended when the request was sent.
    Closed,
    /// The end of the connection in the middle of a response.
    Broken { bytes: String },
    /// HTTP/2: the stream was reset, with this code.
    Reset { code: Option<u32> },
    /// The end of the connection.
    End { kind: EndKind, close_notify: bool },
}

/// A request: its method and the query for the application.
#[derive(Clone, Copy)]
struct Case {
    method: &'static str,
    query: &'static str,
}

const fn case(method: &'static str, query: &'static str) -> Case {
    Case { method, query }
}

const UNMARKED: [Case; 8] = [
    case("GET", "mark=none"),
    case("GET", "mark=none&length=none"),
    case("GET", "mark=none&bytes=100000"),
    case("GET", "mark=none&bytes=0"),
    case("GET", "mark=none&status=404"),
    case("GET", "mark=none&status=304&bytes=0&length=none"),
    case("HEAD", "mark=none"),
    case("POST", "mark=none"),
];

/// Only where the module is off.
const MARKED: [Case; 4] = [
    case("GET", "mark=on"),
    case("GET", "mark=length=100"),
    case("GET", "mark=on&length=none"),
    case("HEAD", "mark=on"),
];

/// The application does not keep its word; each has a connection of its own.
const WRONG_LENGTH: [Case; 2] = [case("GET", "mark=none&length=1000"), case("GET", "mark=none&length=5000")];

const FORM: &str = "the body that the application does not read";

impl Field {
    /// Sends all requests and notes what comes.
    pub fn observe(self, httpd: &Httpd) -> Vec<Observation> {
        let mut cases = UNMARKED.to_vec();
        if self.setting == "off" {
            cases.extend(MARKED);
        }
        if self.protocol == Protocol::Http2 {
            cases.extend(WRONG_LENGTH);
            // HEAD of a script that still runs: httpd answers with a stream error or with a response, as it happens.
            cases.retain(|case| self.handler != Handler::Cgi || case.method != "HEAD");
            return self.over_http2(httpd, &cases);
        }
        let mut seen = self.over_http1(httpd, &cases);
        if self.compression == Compression::None {
            for case in WRONG_LENGTH {
                seen.extend(self.over_http1(httpd, &[case]));
            }
            seen.extend(self.over_http10(httpd));
        }
        seen
    }

    /// All requests on one connection, as far as the server keeps it; the last asks to close it.
    fn over_http1(self, httpd: &Httpd, cases: &[Case]) -> Vec<Observation> {
        let mut seen = Vec::new();
        let mut client = Client::connect(httpd, self.protocol);
        for (index, case) in cases.iter().enumerate() {
            let last = index + 1 == cases.len();
            let gate = self.gate(httpd, *case);
            let request = self.request(*case, gate.as_ref(), last);
            let name = format!("{} {}", case.method, case.query);
            let mut connection = client.http1().unwrap();

            let mut answer = ask(connection, *case, &request, gate.as_ref());
            if answer.is_err() && connection.rest().is_empty() {
                seen.push(Observation { request: name.clone(), seen: Seen::Closed });
                client = Client::connect(httpd, self.protocol);
                connection = client.http1().unwrap();
                answer = ask(connection, *case, &request, gate.as_ref());
            }
            let end = last.then(|| connection.end());
            let answer = match answer {
                Ok(response) => self.seen(*case, &response, &connection.rest()),
                Err(_) => Seen::Broken { bytes: text(&undated(&connection.rest())) },
            };
            seen.push(Observation { request: name.clone(), seen: answer });
            if let Some(End { kind, close_notify, .. }) = end {
                let seen_end = Seen::End { kind, close_notify: close_notify.is_some() };
                seen.push(Observation { request: name, seen: seen_end });
            }
        }
        seen
    }

    /// A client of the last century.
    fn over_http10(self, httpd: &Httpd) -> Vec<Observation> {
        let case = UNMARKED[0];
        let gate = self.gate(httpd, case);
        let request = self.request(case, gate.as_ref(), true).replace("HTTP/1.1", "HTTP/1.0");
        let client = Client::connect(httpd, self.protocol);
        let connection = client.http1().unwrap();
        let response = ask(connection, case, &request, gate.as_ref()).unwrap();
        let End { kind, close_notify, .. } = connection.end();
        let seen = self.seen(case, &response, &connection.rest());
        let end = Seen::End { kind, close_notify: close_notify.is_some() };
        [seen, end].map(|seen| Observation { request: "HTTP/1.0".to_owned(), seen }).into()
    }

    fn over_http2(self, httpd: &Httpd, cases: &[Case]) -> Vec<Observation> {
        let connection = httpd.connect_http2();
        cases.iter().map(|case| self.on_a_stream(httpd, &connection, *case)).collect()
    }

    fn on_a_stream(self, httpd: &Httpd, connection: &Http2, case: Case) -> Observation {
        let gate = self.gate(httpd, case);
        let path = self.path(case, gate.as_ref());
        let form = (case.method == "POST").then_some(FORM.as_bytes());
        let stream = connection.request(case.method, &path, &ACCEPT, form);
        if let Some(gate) = gate {
            stream.status();
            gate.open_gate();
        }
        let seen = match stream.response_or_failure() {
            Ok(response) => self.seen(case, &response, b""),
            Err(failure) => Seen::Reset { code: failure.code },
        };
        Observation { request: format!("{} {}", case.method, case.query), seen }
    }

    /// A CGI script that is still running when httpd has sent what it had, and one that has ended
    /// by then, get different headers from httpd. A gate makes it always the same.
    fn gate(self, httpd: &Httpd, case: Case) -> Option<Background> {
        let body_comes = case.method == "GET" && !case.query.contains("bytes=0");
        let needed = self.handler == Handler::Cgi && self.compression == Compression::None;
        (needed && body_comes).then(|| httpd.background())
    }

    fn path(self, case: Case, gate: Option<&Background>) -> String {
        let gate = gate.map_or_else(String::new, |gate| format!("&after=0&id={}", gate.id()));
        let (folder, page) = (self.compression.folder(), self.handler.page());
        format!("/{}/{folder}/{page}?{}{gate}", self.setting, case.query)
    }

    fn request(self, case: Case, gate: Option<&Background>, close: bool) -> String {
        let path = self.path(case, gate);
        let mut request = format!("{} {path} HTTP/1.1\r\nHost: localhost\r\n", case.method);
        for (name, value) in ACCEPT {
            request += &format!("{name}: {value}\r\n");
        }
        if close {
            request += "Connection: close\r\n";
        }
        match case.method {
            "POST" => request + &format!("Content-Length: {}\r\n\r\n{FORM}", FORM.len()),
            _ => request + "\r\n",
        }
    }

    fn seen(self, case: Case, response: &Response, rest: &[u8]) -> Seen {
        // Where a response gets its length, or chunks, depends on time here; see `gate`.
        let by_chance = self.handler == Handler::Cgi
            && (self.compression != Compression::None || case.method != "GET" || case.query.contains("bytes=0"));
        let headers = response
            .headers
            .iter()
            .filter(|(name, _)| {
                let framing = ["content-length", "transfer-encoding"];
                !(by_chance && framing.contains(&name.to_lowercase().as_str()))
            })
            .map(|(name, value)| {
                let value = if name.eq_ignore_ascii_case("Date") { "now" } else { value };
                format!("{name}: {value}")
            })
            .collect();
        let end = match response.framing {
            Framing::Length(_) | Framing::Chunked if by_chance => "by chance".to_owned(),
            framing => format!("{framing:?}"),
        };
        let body = if response.body.is_empty() { Vec::new() } else { response.decoded() };
        Seen::Response { status: response.status, headers, end, body: text(&body), rest: text(rest) }
    }
}

/// Sends a request and gives its response, or the end of the connection if that comes first.
fn ask(connection: &Connection, case: Case, request: &str, gate: Option<&Background>) -> Result<Response, End> {
    // A connection that the server has closed shows it when it is read.
    let _ = connection.try_send(request);
    connection.next_begins();
    if let Some(gate) = gate {
        gate.open_gate();
    }
    match case.method {
        "HEAD" => connection.head_response_or_end(),
        _ => connection.response_or_end(),
    }
}

/// The bytes of a response without its date.
fn undated(bytes: &[u8]) -> Vec<u8> {
    let dated = |line: &&[u8]| !line.starts_with(b"Date: ");
    bytes.split_inclusive(|byte| *byte == b'\n').filter(dated).collect::<Vec<_>>().concat()
}

/// Bytes to compare and to show: of long ones only their beginning is shown.
fn text(bytes: &[u8]) -> String {
    if bytes.len() <= 500 {
        return bytes.escape_ascii().to_string();
    }
    let mut hasher = DefaultHasher::new();
    bytes.hash(&mut hasher);
    let (hash, begin) = (hasher.finish(), bytes[..100].escape_ascii());
    format!("{} bytes with hash {hash:x}: {begin}…", bytes.len())
}
