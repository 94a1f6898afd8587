//! What `Auto` is known to get wrong, by kind. All of it stands here, nothing else may differ, and a kind that does not differ any
//! more is to be taken out: `known_kinds` says so.

use super::case::{App, Case, Piece, Step, Way};
use super::observe::{Bytes, Observation, Seen};

/// A kind of fault.
pub struct Kind {
    pub name: &'static str,
    /// Whether a difference is of this kind: the case, the first thing that the client saw otherwise, and what it was with stock httpd.
    pub is: fn(&Case, &Seen, &Seen) -> bool,
    /// A case that shows it, under any MPM with HTTP/2, PHP by mod_fcgid.
    pub example: fn() -> Case,
}

impl Kind {
    /// Whether it explains the difference to one of stock httpd's observations.
    pub fn explains(&self, case: &Case, seen: &Observation, stock: &[Observation]) -> bool {
        stock.iter().any(|stock| {
            let first = seen.0.iter().zip(&stock.0).find(|(seen, stock)| seen != stock);
            first.is_some_and(|(seen, stock)| (self.is)(case, seen, stock))
        })
    }
}

pub const KINDS: [Kind; 9] = [
    Kind {
        name: "a length that is short cuts the body, where more was at hand",
        is: |case, seen, stock| {
            counts(case)
                && wrong_length(case)
                && case.declared.is_some_and(|length| case.written() > length)
                && (cut(seen, stock) || case.asks("Range"))
        },
        example: || short(App::Lua),
    },
    Kind {
        name: "a length that is long is told and not kept",
        is: |case, seen, _| counts(case) && case.declared.is_none_or(|length| case.written() < length) && broken(seen),
        example: || {
            Case::get(App::Cgi, Way::Close, vec![text_plain(), close(), length(132), data(100), Step::Pause(20)])
        },
    },
    Kind {
        name: "a length that stock httpd does not tell is told, and the other way round",
        is: |case, seen, stock| counts(case) && same_body(seen, stock),
        example: || {
            Case::get(App::Cgi, Way::H2, vec![text_plain(), length(100), data(100), Step::Flush, Step::Pause(40)])
        },
    },
    Kind {
        name: "of two lengths one counts, and the body is cut there",
        is: |case, seen, stock| counts(case) && case.declared.is_none() && cut(seen, stock),
        example: || {
            let steps =
                vec![text_plain(), close(), length(40), length(40), data(40), Step::Flush, Step::Pause(40), data(100)];
            Case::get(App::Php, Way::Close, steps)
        },
    },
    Kind {
        name: "own chunks are read, and what is none is lost, where stock httpd sends it all as it is",
        is: |case, seen, stock| case.chunked && !same_body(seen, stock),
        example: || Case::get(App::Php, Way::H2, vec![text_plain(), own_chunks(), data(280), Step::Flush]),
    },
    Kind {
        name: "a connection is closed that stock httpd keeps: own chunks",
        is: |case, seen, stock| case.chunked && same_body(seen, stock),
        example: || {
            let body = raw("4\r\nlast\r\n0\r\n\r\n");
            Case::get(App::Php, Way::Kept, vec![text_plain(), own_chunks(), body, Step::Flush, Step::Pause(40)])
        },
    },
    Kind {
        name: "no range, where the end comes together with the body in stock httpd",
        is: |case, seen, stock| counts(case) && case.asks("Range") && status(seen) != status(stock),
        example: || {
            let steps = vec![text_plain(), close(), length(1507), data(7), Step::Pause(30), data(1500), Step::Pause(5)];
            Case::get(App::Php, Way::Close, steps).with("Accept-Encoding", "gzip").with("Range", "bytes=10-24")
        },
    },
    Kind {
        name: "HEAD over HTTP/2 passes a static file's filters by",
        is: |case, _, _| case.app == App::File && case.method == "HEAD" && case.way.is_http2(),
        example: || {
            let mut case = Case::get(App::File, Way::H2, Vec::new()).with("Accept-Encoding", "gzip");
            case.method = "HEAD";
            case
        },
    },
    Kind {
        name: "HEAD of an application has other headers, or an answer where stock httpd resets the stream",
        is: |case, _, _| counts(case) && case.app != App::File && case.method == "HEAD",
        example: || {
            let mut case = Case::get(App::Cgi, Way::H2, vec![text_plain(), length(100), Step::Flush, Step::Pause(40)]);
            case.method = "HEAD";
            case
        },
    },
];

/// Whether a difference is of one of the kinds.
pub fn is_known(case: &Case, mode: &str, seen: &Observation, stock: &[Observation]) -> bool {
    mode != "on" && mode != super::LATE && KINDS.iter().any(|kind| kind.explains(case, seen, stock))
}

/// Whether `Auto` takes a length for a mark there, as it is today.
fn counts(case: &Case) -> bool {
    case.has_length() && (case.way.is_http2() || case.says("Connection: close"))
}

fn wrong_length(case: &Case) -> bool {
    case.declared != Some(case.written())
}

fn broken(seen: &Seen) -> bool {
    matches!(seen, Seen::Broken { .. } | Seen::Reset { .. })
}

fn status(seen: &Seen) -> Option<u16> {
    match seen {
        Seen::Response { status, .. } => Some(*status),
        _ => None,
    }
}

/// Whether the one's body is the beginning of the other's, or stock httpd could not send it.
fn cut(seen: &Seen, stock: &Seen) -> bool {
    match (seen, stock) {
        (Seen::Response { body: Bytes(seen), .. }, Seen::Response { body: Bytes(stock), .. }) => {
            stock.starts_with(seen)
        }
        (Seen::Response { .. }, _) => broken(stock),
        (Seen::End { rest: Bytes(seen), .. }, Seen::End { rest: Bytes(stock), .. }) => {
            seen.is_empty() && !stock.is_empty()
        }
        _ => false,
    }
}

fn same_body(seen: &Seen, stock: &Seen) -> bool {
    match (seen, stock) {
        (Seen::Response { status: a, body: seen, .. }, Seen::Response { status: b, body: stock, .. }) => {
            a == b && seen == stock
        }
        _ => false,
    }
}

pub fn text_plain() -> Step {
    Step::Header("Content-Type: text/plain".to_owned())
}

pub fn close() -> Step {
    Step::Header("Connection: close".to_owned())
}

pub fn own_chunks() -> Step {
    Step::Header("Transfer-Encoding: chunked".to_owned())
}

pub fn length(bytes: usize) -> Step {
    Step::Header(format!("Content-Length: {bytes}"))
}

pub fn data(bytes: usize) -> Step {
    Step::Write(vec![Piece::Data('T', 0, bytes)])
}

pub fn raw(text: &str) -> Step {
    Step::Write(vec![Piece::Raw(text.to_owned())])
}

fn short(app: App) -> Case {
    let steps = vec![text_plain(), close(), length(245), data(256), Step::Flush, Step::Pause(20)];
    Case::get(app, Way::Close, steps).with("Accept-Encoding", "gzip")
}
