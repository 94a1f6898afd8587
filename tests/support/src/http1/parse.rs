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

/// What comes is no HTTP/1 response: why.
type Nonsense = String;

/// Reads the response that `bytes` begin with; `None` while it is incomplete. `to_head` if it
/// answers a HEAD request, `at_end` if no more bytes will come.
///
/// # Errors
///
/// When the bytes are no HTTP/1 response.
pub(super) fn parse(bytes: &[u8], to_head: bool, at_end: bool) -> Result<Option<Parsed>, Nonsense> {
    let so_far = parse_so_far(bytes, to_head)?;
    Ok(so_far
        .filter(|(parsed, complete)| *complete || (at_end && parsed.framing == Framing::Close))
        .map(|(parsed, _)| parsed))
}

/// As [`parse`] where the body may be incomplete; whether it is complete by its own framing.
///
/// # Errors
///
/// When the bytes are no HTTP/1 response.
pub(super) fn parse_so_far(bytes: &[u8], to_head: bool) -> Result<Option<(Parsed, bool)>, Nonsense> {
    let mut start = 0;
    loop {
        let Some((status, headers, head)) = parse_head(&bytes[start..])? else { return Ok(None) };
        start += head;
        if (100..200).contains(&status) {
            continue;
        }
        let framing = framing(status, &headers, to_head)?;
        let mut body = Vec::new();
        let taken = take_body(&bytes[start..], framing, &mut body)?;
        let length = start + taken.unwrap_or(bytes.len() - start);
        return Ok(Some((Parsed { status, headers, body, framing, length }, taken.is_some())));
    }
}

/// Status, headers, and the head's length in bytes.
fn parse_head(bytes: &[u8]) -> Result<Option<(u16, Headers, usize)>, Nonsense> {
    let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { return Ok(None) };
    let head = String::from_utf8_lossy(&bytes[..end]);
    let mut lines = head.split("\r\n");
    let first = lines.next().unwrap_or_default();
    let status = first
        .strip_prefix("HTTP/1.")
        .and_then(|rest| rest.split(' ').nth(1))
        .and_then(|status| status.parse().ok())
        .ok_or_else(|| format!("no HTTP/1 response: it begins with {first:?}"))?;
    let header = |line: &str| match line.split_once(':') {
        Some((name, value)) => Ok((name.to_owned(), value.trim().to_owned())),
        None => Err(format!("no header: {line:?}")),
    };
    Ok(Some((status, lines.map(header).collect::<Result<_, _>>()?, end + 4)))
}

fn framing(status: u16, headers: &[(String, String)], to_head: bool) -> Result<Framing, Nonsense> {
    if to_head || status == 204 || status == 304 {
        Ok(Framing::NoBody)
    } else if find(headers, "Transfer-Encoding").is_some_and(|value| value.ends_with("chunked")) {
        Ok(Framing::Chunked)
    } else if let Some(length) = find(headers, "Content-Length") {
        length.parse().map(Framing::Length).map_err(|_| format!("Content-Length: {length:?}"))
    } else {
        Ok(Framing::Close)
    }
}

/// Puts what there is of the body into `body`. How many bytes it took, if it is complete.
fn take_body(bytes: &[u8], framing: Framing, body: &mut Vec<u8>) -> Result<Option<usize>, Nonsense> {
    match framing {
        Framing::NoBody | Framing::EndStream => Ok(Some(0)),
        Framing::Chunked => take_chunks(bytes, body),
        Framing::Close => {
            body.extend_from_slice(bytes);
            Ok(None)
        }
        Framing::Length(length) => {
            let length = usize::try_from(length).unwrap_or(usize::MAX);
            body.extend_from_slice(&bytes[..length.min(bytes.len())]);
            Ok((length <= bytes.len()).then_some(length))
        }
    }
}

fn take_chunks(bytes: &[u8], body: &mut Vec<u8>) -> Result<Option<usize>, Nonsense> {
    let mut position = 0;
    loop {
        let Some(line) = take_line(&bytes[position..]) else { return Ok(None) };
        position += line.len() + 2;
        let text = String::from_utf8_lossy(line);
        let size = text.split(';').next().unwrap_or_default().trim();
        let size = usize::from_str_radix(size, 16).map_err(|_| format!("chunk: {text:?}"))?;
        if size == 0 {
            break;
        }
        let Some(chunk) = bytes[position..].get(..size) else { return Ok(None) };
        body.extend_from_slice(chunk);
        position += size;
        match bytes.get(position..position + 2) {
            Some(b"\r\n") => position += 2,
            Some(_) => return Err(format!("a chunk of {size} bytes has no end")),
            None => return Ok(None),
        }
    }
    // Trailers, up to an empty line.
    loop {
        let Some(line) = take_line(&bytes[position..]) else { return Ok(None) };
        position += line.len() + 2;
        if line.is_empty() {
            return Ok(Some(position));
        }
    }
}

/// The bytes before the first CRLF.
fn take_line(bytes: &[u8]) -> Option<&[u8]> {
    bytes.windows(2).position(|window| window == b"\r\n").map(|end| &bytes[..end])
}

#[cfg(test)]
mod tests {
    use super::{Framing, Parsed, parse_so_far};

    fn parse(bytes: &[u8], to_head: bool, at_end: bool) -> Option<Parsed> {
        super::parse(bytes, to_head, at_end).unwrap()
    }

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
    fn nonsense() {
        let head = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n".to_vec();
        for bytes in [&b"220 mail\r\n\r\n"[..], &[&head[..], b"x\r\n"].concat(), &[&head[..], b"1\r\nabc"].concat()] {
            assert!(super::parse(bytes, false, false).is_err());
        }
    }

    #[test]
    fn so_far() {
        let bytes = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nhi\r\n5\r\nth";
        let (response, complete) = parse_so_far(bytes, false).unwrap().unwrap();
        assert_eq!((response.body, complete), (b"hi".to_vec(), false));
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
