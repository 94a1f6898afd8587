//! The model that the machines are held against, in property tests and under the fuzzer: the same decisions
//! made plainly, on a body that is all there, without regard to time and memory.

// It is used in tests only, where a panic is a finding.
#![allow(clippy::indexing_slicing, clippy::panic)]

use super::{Ending, Fault, Verdict};

/// The part of a body that the client gets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// The bytes that are passed on.
    pub body: Vec<u8>,
    /// The end after them.
    pub close: Close,
}

/// The end of a body, for the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Close {
    /// The machine said that the response ends.
    Ended,
    /// The application's body ended first.
    Open,
    /// The machine said that the body is broken.
    Broken(Fault),
}

/// Drives a machine over `pieces` the way the output filter does, and checks what a caller may
/// rely on as it goes: counts are in range, nothing is kept for longer than it must be, and the
/// last word is repeated.
pub fn run<'a>(mut ending: Ending, pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    let mut body = Vec::new();
    for piece in pieces {
        let mut rest = piece;
        loop {
            let held = ending.held().len();
            let verdict = ending.next(rest);
            match verdict {
                Verdict::Pass(count) => {
                    assert!(count > 0 && held == 0, "{verdict:?} with {held} bytes kept");
                    body.extend(&rest[..count]);
                    rest = &rest[count..];
                }
                Verdict::Drop(count) => {
                    assert!(count > 0);
                    rest = &rest[count..];
                }
                Verdict::Restore(count) => {
                    assert!(count > 0 && ending.held().len() + count == held);
                    body.extend(&ending.token()[..count]);
                }
                Verdict::More => {
                    assert!(rest.is_empty());
                    break;
                }
                Verdict::End | Verdict::Broken(_) => {
                    assert!(ending.held().is_empty());
                    assert_eq!(ending.next(b""), verdict);
                    assert_eq!(ending.next(rest), verdict);
                    assert_eq!(ending.is_complete(), verdict == Verdict::End);
                    let close = match verdict {
                        Verdict::Broken(fault) => Close::Broken(fault),
                        _ => Close::Ended,
                    };
                    return Outcome { body, close };
                }
            }
            assert!(ending.held().len() <= ending.token().len().saturating_sub(1));
        }
    }
    body.extend(ending.held());
    Outcome { body, close: Close::Open }
}

/// Cuts `body` into pieces whose lengths are those of `cuts`, as often as needed; some are empty.
/// Without cuts it is one piece.
pub fn pieces<'a>(body: &'a [u8], cuts: &[u8]) -> Vec<&'a [u8]> {
    let mut pieces = Vec::new();
    let mut rest = body;
    // Zeros alone would never come to the end.
    while !rest.is_empty() && cuts.iter().any(|&cut| cut > 0) {
        for &cut in cuts {
            let (piece, after) = rest.split_at(rest.len().min(cut.into()));
            pieces.push(piece);
            rest = after;
        }
    }
    pieces.push(rest);
    pieces
}

/// A body that ends after `length` bytes.
pub fn length(length: u64, body: &[u8]) -> Outcome {
    match usize::try_from(length) {
        Ok(length) if length <= body.len() => Outcome { body: body[..length].to_vec(), close: Close::Ended },
        _ => Outcome { body: body.to_vec(), close: Close::Open },
    }
}

/// A body that ends before the first `token`.
pub fn boundary(token: &[u8], body: &[u8]) -> Outcome {
    match body.windows(token.len()).position(|window| window == token) {
        Some(at) => Outcome { body: body[..at].to_vec(), close: Close::Ended },
        None => Outcome { body: body.to_vec(), close: Close::Open },
    }
}

/// A body in chunks. A fault that the machine must report is told by its place only: any
/// [`Fault`] counts as the same, see [`Outcome::without_reason`].
pub fn chunks(body: &[u8]) -> Outcome {
    let mut content = Vec::new();
    let close = decode(body, &mut content).unwrap_or_else(|close| close);
    Outcome { body: content, close }
}

impl Outcome {
    /// The outcome with one [`Fault`] in place of all.
    pub fn without_reason(mut self) -> Self {
        if let Close::Broken(fault) = &mut self.close {
            *fault = Fault::Size;
        }
        self
    }
}

const BROKEN: Close = Close::Broken(Fault::Size);

/// Reads line by line; an `Err` is the outcome that comes before the last chunk's end.
fn decode(mut rest: &[u8], content: &mut Vec<u8>) -> Result<Close, Close> {
    loop {
        let size = size(line(&mut rest, 8190, is_size_line)?)?;
        if size == 0 {
            break;
        }
        let available = usize::try_from(size).unwrap_or(usize::MAX).min(rest.len());
        content.extend(&rest[..available]);
        rest = &rest[available..];
        if (available as u64) < size {
            return Err(Close::Open);
        }
        line(&mut rest, 2, |line, _| line.is_empty())?;
    }
    let mut left = 65_536;
    loop {
        let trailer = line(&mut rest, left, is_trailer)?;
        left -= trailer.len() + 2;
        if trailer.is_empty() {
            return Ok(Close::Ended);
        }
    }
}

/// Takes a line of at most `most` bytes, line end included, off `rest`, and gives it without its
/// line end. `valid` says whether a line may be this one or, where that is false, begin like this.
fn line<'a>(rest: &mut &'a [u8], most: usize, valid: fn(&[u8], bool) -> bool) -> Result<&'a [u8], Close> {
    let all = *rest;
    let end = all.iter().position(|&byte| byte == b'\r' || byte == b'\n').unwrap_or(all.len());
    let text = &all[..end];
    let after = &all[end..];
    if !valid(text, !after.is_empty()) || end > most {
        return Err(BROKEN);
    }
    match after {
        [] => Err(Close::Open),
        [b'\r'] if end < most => Err(Close::Open),
        [b'\r', b'\n', ..] if end + 2 <= most => {
            *rest = &after[2..];
            Ok(text)
        }
        _ => Err(BROKEN),
    }
}

/// Returns true if `text` is the line of a size, or may be its beginning.
fn is_size_line(text: &[u8], whole: bool) -> bool {
    let digits = text.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (number, behind) = text.split_at(digits);
    let spaces = behind.iter().take_while(|byte| b" \t".contains(byte)).count();
    let extension = &behind[spaces..];
    (digits > 0 || (text.is_empty() && !whole))
        && (number.is_empty() || size(number).is_ok())
        && (extension.is_empty() || extension[0] == b';')
        && extension.iter().all(|&byte| is_text(byte))
}

/// The size that a line begins with.
fn size(line: &[u8]) -> Result<u64, Close> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let text = std::str::from_utf8(&line[..digits]).map_err(|_| BROKEN)?;
    // Of a number with many zeros in front only the tail fits what parses it.
    let text = match text.trim_start_matches('0') {
        "" if digits > 0 => "0",
        text => text,
    };
    let size = u128::from_str_radix(text.get(..17).unwrap_or(text), 16).map_err(|_| BROKEN)?;
    u64::try_from(size).ok().filter(|&size| size <= i64::MAX as u64).ok_or(BROKEN)
}

/// Returns true if `text` is a trailer field or the empty line after them, or may be its beginning.
fn is_trailer(text: &[u8], whole: bool) -> bool {
    let name = text.iter().take_while(|&&byte| byte != b':').count();
    let (name, value) = text.split_at(name);
    let token = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    text.is_empty()
        || (!name.is_empty()
            && name.iter().all(token)
            && (!value.is_empty() || !whole)
            && value.iter().all(|&byte| is_text(byte)))
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}
