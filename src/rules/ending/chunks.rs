//! The end of a body that the application chunks by itself.

use super::Verdict;
use crate::rules::mark::is_token_char;
use std::fmt;

/// How long a chunk's first line may be, in bytes with its line end: httpd's own default for a
/// line of a header (`LimitRequestFieldSize`).
const MAX_LINE: u32 = 8190;

/// How long all trailer fields together may be, in bytes with the empty line that ends them.
const MAX_TRAILERS: u32 = 65_536;

/// Takes the chunks off a body (RFC 9112, section 7.1): what is left is the content; extensions
/// and trailer fields are dropped. The body ends with the line end of the empty line after the
/// last chunk and its trailer fields.
///
/// It is as strict as httpd is about request bodies by default (modules/http/http_filters.c): each line ends in CR LF, never LF alone. A
/// size is hexadecimal digits without sign or space before them, leading zeros allowed, and fits 63 bits. Spaces and tabs may follow it.
/// Control characters have no place in an extension. A trailer line must be a field.
#[derive(Clone, Debug)]
pub struct Chunks {
    state: State,
    /// The chunk's size as read so far, then how many of its bytes are still to come: zero where
    /// the next size begins.
    remaining: u64,
    /// How many bytes the present line has, or the trailer fields all together.
    line: u32,
}

/// The place in the grammar where the next byte stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// The first digit of a size.
    Size,
    /// A further digit, or what comes after the size.
    Digits,
    /// After spaces behind the size: an extension, the line end.
    Space,
    Extension,
    SizeLf,
    /// Content, of which at least one byte is missing.
    Data,
    DataCr,
    DataLf,
    /// The first byte of a trailer line.
    Trailer,
    TrailerName,
    TrailerValue,
    TrailerLf,
    LastLf,
    Ended,
    Broken(Fault),
}

/// Why a body is not in chunks as it claims to be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No size where one must be.
    Size,
    /// A size that does not fit 63 bits.
    TooLarge,
    /// The line of a size goes on with something that is no extension.
    Extension,
    /// A line end that is not CR LF.
    LineEnd,
    /// The content of a chunk is longer than its size.
    Data,
    /// A line after the last chunk that is no trailer field.
    Trailer,
    /// A line, or the trailer fields, longer than any that makes sense.
    TooLong,
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Size => "a chunk does not begin with its size in hexadecimal digits",
            Self::TooLarge => "the size of a chunk does not fit 63 bits",
            Self::Extension => "the size of a chunk is followed by something that is no chunk extension",
            Self::LineEnd => "a line of the chunked coding does not end in CR LF",
            Self::Data => "a chunk is longer than its size says",
            Self::Trailer => "a line after the last chunk is no trailer field",
            Self::TooLong => "a line of the chunked coding is too long",
        })
    }
}

impl std::error::Error for Fault {}

impl Default for Chunks {
    fn default() -> Self {
        Self::new()
    }
}

impl Chunks {
    /// A body of which nothing has come yet.
    pub const fn new() -> Self {
        Self { state: State::Size, remaining: 0, line: 0 }
    }

    /// Returns true if the last chunk has come, trailer fields and all.
    pub const fn is_complete(&self) -> bool {
        matches!(self.state, State::Ended)
    }

    /// True if it is not in chunks, as it turned out.
    pub const fn is_broken(&self) -> bool {
        matches!(self.state, State::Broken(_))
    }

    /// The verdict on the next bytes of the body.
    pub fn next(&mut self, input: &[u8]) -> Verdict {
        if self.state == State::Data && !input.is_empty() {
            return Verdict::Pass(self.data(input));
        }
        let taken = self.frame(input);
        match self.state {
            State::Ended => Verdict::End,
            State::Broken(fault) => Verdict::Broken(fault),
            _ if taken == 0 => Verdict::More,
            _ => Verdict::Drop(taken),
        }
    }

    /// Takes what `input` begins with of the body, content or framing: so many bytes. None where it has ended, or is broken.
    pub fn take(&mut self, input: &[u8]) -> usize {
        if self.state == State::Data { self.data(input) } else { self.frame(input) }
    }

    /// Takes the framing that `input` begins with: so many bytes.
    fn frame(&mut self, input: &[u8]) -> usize {
        for (at, &byte) in input.iter().enumerate() {
            if matches!(self.state, State::Data | State::Ended | State::Broken(_)) {
                return at;
            }
            self.state = self.framing(byte).unwrap_or_else(State::Broken);
        }
        input.len()
    }

    /// Takes the content that `input` begins with: so many bytes.
    fn data(&mut self, input: &[u8]) -> usize {
        let most = usize::try_from(self.remaining).unwrap_or(usize::MAX);
        let taken = most.min(input.len());
        self.remaining -= taken as u64;
        if self.remaining == 0 {
            self.state = State::DataCr;
        }
        taken
    }

    /// Takes one byte that is not content.
    fn framing(&mut self, byte: u8) -> Result<State, Fault> {
        self.count()?;
        match (self.state, byte) {
            (State::Size | State::Digits, _) if byte.is_ascii_hexdigit() => self.digit(byte),
            (State::Size, _) => Err(Fault::Size),
            (State::Digits | State::Space, b' ' | b'\t') => Ok(State::Space),
            (State::Digits | State::Space, b';') => Ok(State::Extension),
            (State::Digits | State::Space | State::Extension, b'\r') => Ok(State::SizeLf),
            (State::Digits | State::Space | State::Extension, b'\n') => Err(Fault::LineEnd),
            (State::Extension, _) if is_text(byte) => Ok(State::Extension),
            (State::Digits | State::Space | State::Extension, _) => Err(Fault::Extension),
            (State::SizeLf, b'\n') => {
                self.line = 0;
                Ok(if self.remaining > 0 { State::Data } else { State::Trailer })
            }

            (State::DataCr, b'\r') => Ok(State::DataLf),
            (State::DataCr, b'\n') => Err(Fault::LineEnd),
            (State::DataCr, _) => Err(Fault::Data),
            (State::DataLf, b'\n') => {
                self.line = 0;
                Ok(State::Size)
            }

            (State::Trailer, b'\r') => Ok(State::LastLf),
            (State::Trailer | State::TrailerValue, b'\n') => Err(Fault::LineEnd),
            (State::Trailer | State::TrailerName, _) if is_token_char(byte) => Ok(State::TrailerName),
            (State::TrailerName, b':') => Ok(State::TrailerValue),
            (State::TrailerValue, b'\r') => Ok(State::TrailerLf),
            (State::TrailerValue, _) if is_text(byte) => Ok(State::TrailerValue),
            (State::Trailer | State::TrailerName | State::TrailerValue, _) => Err(Fault::Trailer),
            (State::TrailerLf, b'\n') => Ok(State::Trailer),
            (State::LastLf, b'\n') => Ok(State::Ended),

            (State::SizeLf | State::DataLf | State::TrailerLf | State::LastLf, _) => Err(Fault::LineEnd),
            // Not framing: `next` sees to them.
            (state @ (State::Data | State::Ended | State::Broken(_)), _) => Ok(state),
        }
    }

    /// Takes one hexadecimal digit of a size.
    fn digit(&mut self, byte: u8) -> Result<State, Fault> {
        if self.remaining > (i64::MAX as u64) >> 4 {
            return Err(Fault::TooLarge);
        }
        let digit = char::from(byte).to_digit(16).ok_or(Fault::Size)?;
        self.remaining = self.remaining << 4 | u64::from(digit);
        Ok(State::Digits)
    }

    /// Counts one more byte of the present line.
    fn count(&mut self) -> Result<(), Fault> {
        let most = match self.state {
            State::Trailer | State::TrailerName | State::TrailerValue | State::TrailerLf | State::LastLf => {
                MAX_TRAILERS
            }
            State::Data | State::Ended | State::Broken(_) => return Ok(()),
            _ => MAX_LINE,
        };
        self.line += 1;
        if self.line > most { Err(Fault::TooLong) } else { Ok(()) }
    }
}

/// Returns true for a byte that a field's value and a chunk's extension may have (RFC 9110, section 5.5): no control
/// characters but the tab.
const fn is_text(byte: u8) -> bool {
    matches!(byte, b'\t' | b' '..=b'~' | 0x80..)
}

#[cfg(test)]
mod tests;
