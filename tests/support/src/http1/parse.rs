//! Reading HTTP/1 responses.

use crate::response::{Framing, Headers, find};

/// A response that is complete by its own framing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Parsed {
    pub(super) status: u16,
    pub(super) headers: Headers,
    pub(super) body: Vec<u8>,
    pub(super) framing: Framing,
    /// How many of the bytes it took, those of 1xx responses before it included.
    pub(super) length: usize,
}

/// Reads the response that `bytes` begin with; `None` while it is incomplete. `to_head` if it
/// answers a HEAD request, `at_end` if no more bytes will come.
///
/// # Panics
///
/// When the bytes are no HTTP/1 response.
pub(super) fn parse(bytes: &[u8], to_head: bool, at_end: bool) -> Option<Parsed> {
    let mut start = 0;
    loop {
        let (status, headers, head) = parse_head(&bytes[start..])?;
        start += head;
        if (100..200).contains(&status) {
            continue;
        }
        let framing = framing(status, &headers, to_head);
        let (body, taken) = take_body(&bytes[start..], framing, at_end)?;
        return Some(Parsed { status, headers, body, framing, length: start + taken });
    }
}

/// Status, headers, and the head's length in bytes.
fn parse_head(bytes: &[u8]) -> Option<(u16, Headers, usize)> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|status| status.parse().ok())
        .unwrap_or_else(|| panic!("no HTTP/1 response: it begins with {first:?}"));
    let headers = lines
        .map(|line| match line.split_once(':') {
            Some((name, value)) => (name.to_owned(), value.trim().to_owned()),
            None => panic!("no header: {line:?}"),
        })
        .collect();
    Some((status, headers, end + 4))
}

fn framing(status: u16, headers: &[(String, String)], to_head: bool) -> Framing {
    if to_head || status == 204 || status == 304 {
        Framing::NoBody
    } else if find(headers, "Transfer-Encoding").is_some_and(|value| value.ends_with("chunked")) {
        Framing::Chunked
    } else if let Some(length) = find(headers, "Content-Length") {
        let length = length.parse().unwrap_or_else(|_| panic!("Content-Length: {length:?}"));
        Framing::Length(length)
    } else {
        Framing::Close
    }
}

/// The body, and how many bytes it took.
fn take_body(bytes: &[u8], framing: Framing, at_end: bool) -> Option<(Vec<u8>, usize)> {
    match framing {
        Framing::NoBody | Framing::EndStream => Some((Vec::new(), 0)),
        Framing::Chunked => take_chunks(bytes),
        Framing::Close => at_end.then(|| (bytes.to_vec(), bytes.len())),
        Framing::Length(length) => {
            let length = usize::try_from(length).ok()?;
            bytes.get(..length).map(|body| (body.to_vec(), length))
        }
    }
}

fn take_chunks(bytes: &[u8]) -> Option<(Vec<u8>, usize)> {
    let mut body = Vec::new();
    let mut position = 0;
    loop {
        let line = take_line(&bytes[position..])?;
        position += line.len() + 2;
        let text = String::from_utf8_lossy(line);
        let size = text.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).unwrap_or_else(|_| panic!("chunk: {text:?}"));
        if size == 0 {
            break;
        }
        body.extend_from_slice(bytes.get(position..position + size)?);
        position += size;
        let end = bytes.get(position..position + 2)?;
        assert_eq!(end, b"\r\n", "a chunk of {size} bytes has no end");
        position += 2;
    }
    // Trailers, up to an empty line.
    loop {
        let line = take_line(&bytes[position..])?;
        position += line.len() + 2;
        if line.is_empty() {
            return Some((body, position));
        }
    }
}

/// The bytes before the first CRLF.
fn take_line(bytes: &[u8]) -> Option<&[u8]> {
    bytes.windows(2).position(|window| window == b"\r\n").map(|end| &bytes[..end])
}

#[cfg(test)]
mod tests {
    use super::{Framing, parse};

    #[test]
    fn length() {
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhiHTTP";
        let response = parse(bytes, false, false).unwrap();
        assert_eq!((response.status, response.body), (200, b"hi".to_vec()));
        assert_eq!((response.framing, response.length), (Framing::Length(2), bytes.len() - 4));
        assert_eq!(parse(&bytes[..bytes.len() - 5], false, false), None);
    }

    #[test]
    fn chunks() {
        let bytes = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n1;x\r\n!\r\n0\r\n\r\n";
        let response = parse(bytes, false, false).unwrap();
        assert_eq!((response.body, response.length), (b"hi!".to_vec(), bytes.len()));
        for cut in 1..30 {
            assert_eq!(parse(&bytes[..bytes.len() - cut], false, true), None);
        }
    }

    #[test]
    fn until_close() {
        let bytes = b"HTTP/1.0 200 OK\r\n\r\nhi";
        assert_eq!(parse(bytes, false, false), None);
        assert_eq!(parse(bytes, false, true).unwrap().body, b"hi");
    }

    #[test]
    fn no_body() {
        let head = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n";
        assert_eq!(parse(head, true, false).unwrap().framing, Framing::NoBody);
        let after_continue = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n";
        let response = parse(after_continue, false, false).unwrap();
        assert_eq!((response.status, response.length), (204, after_continue.len()));
    }
}
