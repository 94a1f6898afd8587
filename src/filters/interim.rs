//! Interim responses (1xx): none of them shows the mark.
//!
//! `ap_send_interim_response` writes the application's headers to the connection as text, past the request's filters. So a filter
//! stands before the connection's own until the response itself begins.

use std::cell::Cell;
use std::ffi::CStr;

use crate::handlers;
use crate::httpd::{Block, Brigade, Filter, FilterHandle, FilterType, Foremost, Kind, OutputFilter, Request, Result};
use crate::response::{MARK, Response};

/// The beginning of an interim response.
const BEGIN: &[u8] = b"HTTP/1.1 1";
/// The beginning of the last one: behind it another protocol is spoken.
const SWITCH: &[u8] = b"HTTP/1.1 101";

/// The filter that reads interim responses.
pub struct Interim;

/// Where in the text of interim responses a connection is.
#[derive(Default)]
pub struct Head {
    at: Cell<At>,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Debug)]
enum At {
    /// Before one, if another comes.
    #[default]
    Before,
    /// In its header.
    In,
    /// In the header of the last one.
    InLast,
    /// Behind the last one.
    Behind,
}

/// The handler is about to run: if it is one that may send interim responses, they are watched until [`Response::end_interim`], [`end`] or the end
/// of the request.
pub fn watch(request: Request<'_>, response: &Response) {
    if handlers::may_send_interim(request, response.handler) {
        response.drop_at_end(request);
        response.begin_interim(Foremost::add::<Interim>(request.connection(), Head::default()));
    }
}

/// A handler that has made an internal redirect of its request, as mod_actions' does, or has failed, sends none any more. A filter that stands
/// before the connection's own would keep others from being added there for the new request.
pub fn end(request: Request<'_>) {
    Response::chain(request).for_each(|(_, response)| response.end_interim());
}

impl OutputFilter for Interim {
    const NAME: &'static CStr = c"FINISH_REQUEST_INTERIM";
    const TYPE: FilterType = FilterType::CONNECTION;
    type Context = Head;

    fn handle() -> &'static FilterHandle {
        static HANDLE: FilterHandle = FilterHandle::new();
        &HANDLE
    }

    fn pass(filter: Filter<'_>, brigade: &mut Brigade<'_>) -> Result {
        let Some(head) = filter.context::<Self>() else { return filter.pass_on(brigade) };
        let begins = match brigade.first() {
            Some(Kind::Data(_)) if head.at.get() == At::Before => brigade.read_first(Block::Yes)?.starts_with(BEGIN),
            Some(Kind::Flush | Kind::Eos | Kind::Metadata) | None => return filter.pass_on(brigade),
            // The request's memory, and this filter with it, may go when the next request on the connection has its chain already, which begins where
            // the connection's does now.
            Some(Kind::Eor) => false,
            Some(Kind::Data(_)) => head.at.get() != At::Behind,
        };
        if !begins {
            filter.remove();
            return filter.pass_on(brigade);
        }
        // httpd writes it into memory, and flushes it.
        let (mut text, mut flushed) = (Vec::new(), false);
        while let Some(kind) = brigade.first() {
            match kind {
                Kind::Data(_) => text.extend_from_slice(brigade.read_first(Block::Yes)?),
                Kind::Flush => flushed = true,
                Kind::Eos | Kind::Eor | Kind::Metadata => break,
            }
            brigade.delete_first();
        }
        let (text, at) = without_mark(&text, head.at.get());
        head.at.set(at);
        brigade.push_bytes(&text);
        if flushed {
            brigade.push_flush();
        }
        filter.pass_on(brigade)
    }
}

/// The text of interim responses, or a part of whole lines, without the lines of the mark; and where it ends.
fn without_mark(text: &[u8], mut at: At) -> (Vec<u8>, At) {
    let mut kept = Vec::with_capacity(text.len());
    for line in text.split_inclusive(|byte| *byte == b'\n') {
        let name = line.split(|byte| *byte == b':').next().unwrap_or_default();
        let is_mark = matches!(at, At::In | At::InLast) && name.eq_ignore_ascii_case(MARK.to_bytes());
        at = match at {
            At::Before if line.starts_with(SWITCH) => At::InLast,
            At::Before if line.starts_with(BEGIN) => At::In,
            At::In if line == b"\r\n" => At::Before,
            At::InLast if line == b"\r\n" => At::Behind,
            at => at,
        };
        if !is_mark {
            kept.extend_from_slice(line);
        }
    }
    (kept, at)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str, at: At) -> (String, At) {
        let (kept, at) = without_mark(text.as_bytes(), at);
        (String::from_utf8_lossy(&kept).into_owned(), at)
    }

    #[test]
    fn the_lines_of_the_mark_are_dropped() {
        let hint = "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\nX-Finish-Request: on\r\nx-finish-REQUEST:on\r\nA: x-finish-request: on\r\n\r\n";
        let kept = "HTTP/1.1 103 Early Hints\r\nLink: <a>\r\nA: x-finish-request: on\r\n\r\n";
        assert_eq!(shown(hint, At::Before), (kept.to_owned(), At::Before));
        assert_eq!(shown(&hint.repeat(2), At::Before), (kept.repeat(2), At::Before));
        for (place, _) in hint.match_indices('\n') {
            let (first, at) = shown(&hint[..=place], At::Before);
            let (second, at) = shown(&hint[place + 1..], at);
            assert_eq!((first + &second, at), (kept.to_owned(), At::Before));
        }
    }

    #[test]
    fn what_follows_a_switch_is_not_looked_at() {
        let switch =
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\nX-Finish-Request: on\r\n\r\nX-Finish-Request: on\r\n";
        let kept = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: a\r\n\r\nX-Finish-Request: on\r\n";
        assert_eq!(shown(switch, At::Before), (kept.to_owned(), At::Behind));
    }
}
