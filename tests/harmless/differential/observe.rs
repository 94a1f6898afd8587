//! What a client sees of a case.

use std::fmt;
use std::hash::{DefaultHasher, Hash, Hasher};

use support::http1::{Connection, EndKind, Trouble};
use support::http2::{Http2, Stream};
use support::{Framing, Httpd, Response};

use super::case::{Case, Way};

/// All that a client saw, in order.
#[derive(Clone, PartialEq, Eq)]
pub struct Observation(pub Vec<Seen>);

#[derive(Clone, PartialEq, Eq)]
pub enum Seen {
    Response {
        interim: Vec<String>,
        status: u16,
        headers: Vec<String>,
        /// How its end was told.
        framing: String,
        body: Bytes,
        trailers: Vec<String>,
    },
    /// A response that did not end by its framing, or bytes that are none.
    Broken { why: String, headers: Vec<String>, body: Bytes },
    /// HTTP/2: the stream was reset.
    Reset { code: Option<u32> },
    /// No end of it all before the deadline.
    Hangs,
    /// The end of the connection, and the bytes behind the last response.
    End { kind: EndKind, close_notify: bool, rest: Bytes },
}

/// Bytes to compare; of long ones only the beginning is shown.
#[derive(Clone, PartialEq, Eq)]
pub struct Bytes(pub Vec<u8>);

impl fmt::Debug for Bytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Bytes(bytes) = self;
        if bytes.len() <= 200 {
            return write!(f, "\"{}\"", bytes.escape_ascii());
        }
        let mut hasher = DefaultHasher::new();
        bytes.hash(&mut hasher);
        let (from, to) = (bytes[..60].escape_ascii(), bytes[bytes.len() - 20..].escape_ascii());
        write!(f, "{} bytes with hash {:x}: \"{from} … {to}\"", bytes.len(), hasher.finish())
    }
}

impl fmt::Debug for Observation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|seen| write!(f, "\n    {seen:?}"))
    }
}

impl fmt::Debug for Seen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Seen::Response { interim, status, headers, framing, body, trailers } => {
                write!(f, "{interim:?} {status} {headers:?} {framing} {body:?} {trailers:?}")
            }
            Seen::Broken { why, headers, body } => write!(f, "broken, {why}: {headers:?} {body:?}"),
            Seen::Hangs => write!(f, "it does not end"),
            Seen::Reset { code } => write!(f, "reset by {code:?}"),
            Seen::End { kind, close_notify, rest } => write!(f, "{kind:?}, close_notify {close_notify}, then {rest:?}"),
        }
    }
}

impl Observation {
    /// Whether each thing that the client saw is what it saw in one of `others`: chance is another for each request.
    pub fn is_among(&self, others: &[Observation]) -> bool {
        let Observation(seen) = self;
        let at_its_place = |at: usize, seen: &Seen| others.iter().any(|Observation(other)| other.get(at) == Some(seen));
        // The same request comes twice on a connection that is kept, the first time with an offer of other protocols.
        let elsewhere = |seen: &Seen| {
            let seen = seen.without_offer();
            others.iter().flat_map(|Observation(other)| other).any(|other| other.without_offer() == seen)
        };
        let ends_so = |Observation(other): &Observation| {
            other.len() == seen.len() || matches!(seen.last(), Some(Seen::Broken { .. })) && other.last() == seen.last()
        };
        others.iter().any(ends_so)
            && seen.iter().enumerate().all(|(at, seen)| at_its_place(at, seen) || elsewhere(seen))
    }
}

impl Observation {
    /// The same but for how the end of each body was told: what depends on whether the end comes in the same moment.
    pub fn without_framing(&self) -> Observation {
        Observation(self.0.iter().map(Seen::without_framing).collect())
    }
}

impl Observation {
    /// The response alone, without what it says of its connection, which a finished one does not have go on as an ordinary one has.
    fn response_alone(&self) -> Observation {
        let mut first: Vec<Seen> = self.0.first().map(Seen::without_offer).into_iter().collect();
        for seen in &mut first {
            if let Seen::Response { headers, .. } = seen {
                headers.retain(|line| !(line.starts_with("Connection:") || line.starts_with("Keep-Alive:")));
            }
        }
        Observation(first)
    }
}

impl Observation {
    /// Whether the response alone is among those of `others`.
    pub fn is_response_of(&self, others: &[Observation]) -> bool {
        let others: Vec<Observation> = others.iter().map(Observation::response_alone).collect();
        self.response_alone().is_among(&others)
    }
}

impl Seen {
    fn without_framing(&self) -> Seen {
        let mut seen = self.without_offer();
        if let Seen::Response { headers, framing, .. } = &mut seen {
            headers.retain(|line| {
                let name = line.split(':').next().unwrap_or_default().to_ascii_lowercase();
                name != "content-length" && name != "transfer-encoding"
            });
            framing.clear();
        }
        seen
    }

    fn without_offer(&self) -> Seen {
        let mut seen = self.clone();
        if let Seen::Response { headers, .. } = &mut seen {
            headers.retain(|line| !(line.starts_with("Upgrade:") || line == "Connection: Upgrade"));
        }
        seen
    }
}

/// The page that is asked for behind the case, where the connection goes on.
const NEXT: &str = "file.txt";

/// Sends the case to the folder `mode` of `httpd`.
pub fn observe(httpd: &Httpd, mode: &str, case: &Case) -> Observation {
    match case.way {
        Way::H2 => over_http2(&httpd.connect_h2c(), mode, case),
        Way::H2Tls => over_http2(&httpd.connect_http2(), mode, case),
        Way::Tls => over_http1(&httpd.connect_tls(), mode, case),
        Way::Http10 | Way::Close | Way::Kept => over_http1(&httpd.connect(), mode, case),
    }
}

fn over_http1(connection: &Connection, mode: &str, case: &Case) -> Observation {
    let kept = matches!(case.way, Way::Kept | Way::Tls);
    let version = if case.way == Way::Http10 { "1.0" } else { "1.1" };
    let request = |method: &str, path: &str, headers: &[(&str, &str)], body: Option<usize>, close: bool| -> Vec<u8> {
        let mut head = format!("{method} {path} HTTP/{version}\r\nHost: localhost\r\n");
        headers.iter().for_each(|(name, value)| head += &format!("{name}: {value}\r\n"));
        body.iter().for_each(|body| head += &format!("Content-Length: {body}\r\n"));
        if close && version == "1.1" {
            head += "Connection: close\r\n";
        }
        [format!("{head}\r\n").into_bytes(), upload(body.unwrap_or(0))].concat()
    };
    let the_case = request(case.method, &case.path(mode), &case.headers, case.upload, !kept);
    let again = request(case.method, &case.path(mode), &case.headers, case.upload, false);
    let next = request("GET", &format!("/{mode}/{NEXT}"), &[], None, true);
    let requests = if kept {
        vec![(again, case.method), (the_case, case.method), (next, "GET")]
    } else {
        vec![(the_case, case.method)]
    };

    let mut seen = Vec::new();
    for (request, method) in requests {
        // A connection that the server has closed shows it when it is read.
        let _ = connection.try_send(&request);
        match connection.response_or_trouble(method == "HEAD") {
            Ok(response) => {
                let goes_on = response.framing != Framing::Close
                    && !response.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close"));
                seen.push(of_response(case, &response, &[]));
                if !goes_on {
                    break;
                }
            }
            Err(Trouble::Nonsense(_)) => {
                connection.close_sending();
                connection.end();
                seen.push(Seen::Broken {
                    why: "nonsense".to_owned(),
                    headers: Vec::new(),
                    body: undated(&connection.rest()),
                });
                return Observation(seen);
            }
            Err(Trouble::End(end)) => {
                if connection.rest().is_empty() {
                    break;
                }
                let so_far = connection.so_far();
                seen.push(match so_far {
                    Some(response) => Seen::Broken {
                        why: format!("{:?} after {}", end.kind, response.status),
                        headers: lines(&response.headers, None),
                        body: Bytes(response.decoded_so_far()),
                    },
                    None => Seen::Broken {
                        why: format!("{:?}", end.kind),
                        headers: Vec::new(),
                        body: undated(&connection.rest()),
                    },
                });
                return Observation(seen);
            }
        }
    }
    let end = connection.end();
    seen.push(Seen::End {
        kind: end.kind,
        close_notify: end.close_notify.is_some(),
        rest: undated(&connection.rest()),
    });
    Observation(seen)
}

fn over_http2(connection: &Http2, mode: &str, case: &Case) -> Observation {
    let body = case.upload.map(upload);
    let stream = connection.request(case.method, &case.path(mode), &case.headers, body.as_deref());
    let mut seen = vec![of_stream(case, &stream)];
    if connection.is_open() {
        seen.push(of_stream(case, &connection.get(&format!("/{mode}/{NEXT}"), &[])));
    }
    Observation(seen)
}

fn of_stream(case: &Case, stream: &Stream) -> Seen {
    match stream.response_or_failure() {
        Ok(response) => of_response(case, &response, &stream.trailers()),
        Err(failure) => Seen::Reset { code: failure.code },
    }
}

fn upload(bytes: usize) -> Vec<u8> {
    b"a body for the application\n".iter().copied().cycle().take(bytes).collect()
}

fn of_response(case: &Case, response: &Response, trailers: &[(String, String)]) -> Seen {
    let (interim, mut told) = (interim(&response.raw), lines(trailers, None));
    if response.framing == Framing::Chunked {
        let last = response.raw.windows(3).rposition(|bytes| bytes == b"0\r\n").map_or(0, |at| at + 3);
        let rest = String::from_utf8_lossy(&response.raw[last..]).into_owned();
        told.extend(rest.lines().filter(|line| !line.is_empty()).map(str::to_owned));
    }
    // How deflate cuts its pieces depends on flushes, and so does its length: the text counts, where httpd has compressed it.
    let as_it_is = response.header("Content-Encoding").is_none() || response.body.is_empty();
    let (body, packed) = match response.try_decoded() {
        _ if as_it_is || case.says("Content-Encoding: gzip") => (response.body.clone(), false),
        Ok(text) => (text, true),
        Err(problem) => (problem.into_bytes(), true),
    };
    // The boundary of a multipart response is another one each time, now and then of another length.
    let boundary =
        response.header("Content-Type").and_then(|kind| kind.split_once("boundary=")).map(|(_, value)| value);
    let body = match boundary {
        Some(boundary) => String::from_utf8_lossy(&body).replace(boundary, "BOUNDARY").into_bytes(),
        None => body,
    };
    let declared = || response.header("Content-Length").and_then(|length| length.parse().ok());
    let length = match boundary {
        Some(_) if case.method == "HEAD" => declared(),
        boundary => (packed || boundary.is_some()).then_some(response.body.len()),
    };
    let framing = match response.framing {
        Framing::Length(bytes) if length == usize::try_from(bytes).ok() => "Length".to_owned(),
        framing => format!("{framing:?}"),
    };
    let headers = lines(&response.headers, length);
    Seen::Response { interim, status: response.status, headers, framing, body: Bytes(body), trailers: told }
}

/// The heads of the interim responses before the final one.
fn interim(raw: &[u8]) -> Vec<String> {
    let mut heads = Vec::new();
    let mut rest = raw;
    while rest.starts_with(b"HTTP/1.1 1") {
        let end = rest.windows(4).position(|bytes| bytes == b"\r\n\r\n").map_or(rest.len(), |end| end + 4);
        heads.push(undated_text(&rest[..end]));
        rest = &rest[end..];
    }
    heads
}

/// The headers without the date; a `Content-Length` of `right` bytes is told as right.
fn lines(headers: &[(String, String)], right: Option<usize>) -> Vec<String> {
    let right = right.map(|right| right.to_string());
    headers
        .iter()
        .map(|(name, value)| match name.to_ascii_lowercase().as_str() {
            "date" | "expires" => format!("{name}: now"),
            "content-type" => format!("{name}: {}", value.split("boundary=").next().unwrap_or_default()),
            "content-length" if right.as_ref() == Some(value) => format!("{name}: right"),
            _ => format!("{name}: {value}"),
        })
        .collect()
}

fn undated(bytes: &[u8]) -> Bytes {
    let dated = |line: &&[u8]| !line.starts_with(b"Date: ");
    let bytes = bytes.split_inclusive(|byte| *byte == b'\n').filter(dated).collect::<Vec<_>>().concat();
    let text = String::from_utf8_lossy(&bytes);
    match text.split_once("; boundary=").and_then(|(_, rest)| rest.split_once("\r\n")) {
        Some((boundary, _)) => Bytes(text.replace(boundary, "BOUNDARY").into_bytes()),
        None => Bytes(bytes),
    }
}

fn undated_text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&undated(bytes).0).into_owned()
}
