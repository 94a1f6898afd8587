//! Marks: how an application asks that its response be finished early.
//!
//! Here is the grammar that the response header `X-Finish-Request` and the environment variable `finish-request` share. So is what counts
//! as a mark without being one (`FinishRequest Auto`), and who wins where several have spoken. All of it works on bytes, and knows nothing
//! of httpd.

use std::ffi::CStr;
use std::fmt;

use super::declared::Declared;
use super::digits::{self, Digits};

/// The variable of the request's environment by which an application, or the configuration, marks a response.
pub const VARIABLE: &CStr = c"finish-request";
/// The variable's value for an end that only may come.
pub const LATE: &CStr = c"late";
/// The prefix that httpd puts before the name of a variable at each internal redirect (`rename_original_env`).
pub const REDIRECT: &[u8] = b"REDIRECT_";

/// The largest length of a body that httpd can count (`apr_off_t` has 64 bits, one for the sign).
pub const MAX_LENGTH: u64 = i64::MAX as u64;

/// The end that a mark asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// `on`: after the `Content-Length` that the application set, or after its own last chunk.
    On,
    /// `length=N`: after N bytes, 0 to [`MAX_LENGTH`].
    Length(u64),
    /// `boundary="TOKEN"`: before the first TOKEN in the body.
    Boundary(Token),
    /// `flush`: at the first flush after the mark is seen. The C function's mark too, which flushes.
    Flush,
    /// `off`: nowhere; the response is never finished early.
    Off,
    /// `late`, in the variable only: perhaps where the program says so, by digits that it is given.
    Late,
}

/// Who marked the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// The response header `X-Finish-Request`.
    Header,
    /// The environment variable `finish-request`.
    Env,
    /// An idiom that `FinishRequest Auto` recognised.
    Auto,
    /// The optional C function `ap_finish_request()`.
    Api,
}

impl Source {
    /// The source as the request note `finish-request` gives it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Header => "header",
            Self::Env => "env",
            Self::Auto => "auto",
            Self::Api => "api",
        }
    }
}

/// The token of a `boundary` mark: 16 to 70 characters of the boundary set of RFC 2046,
/// section 5.1.1, of which the last is no space.
///
/// 70 is that RFC's limit; 16 keeps a token from standing in a body by chance.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Token {
    /// The characters, and zeros after them.
    bytes: [u8; Self::MAX],
    len: u8,
}

impl Token {
    /// The shortest token, in bytes.
    pub const MIN: usize = 16;
    /// The longest token, in bytes.
    pub const MAX: usize = 70;

    /// Makes a token of `bytes`; [`Error::Boundary`] where they are too few, too many, or not of
    /// the boundary set.
    pub fn new(bytes: &[u8]) -> Result<Self, Error> {
        Self::collect(bytes.iter().copied())
    }

    /// The digits twice in a row.
    pub fn twice(digits: &Digits) -> Self {
        let mut bytes = [0; Self::MAX];
        for half in bytes.chunks_exact_mut(digits::LENGTH) {
            half.copy_from_slice(digits.as_bytes());
        }
        Self { bytes, len: 2 * digits::LENGTH as u8 }
    }

    fn collect(source: impl Iterator<Item = u8>) -> Result<Self, Error> {
        let mut bytes = [0; Self::MAX];
        let mut len = 0_u8;
        for byte in source {
            let place = bytes.get_mut(usize::from(len)).ok_or(Error::Boundary)?;
            if !is_boundary_char(byte) {
                return Err(Error::Boundary);
            }
            *place = byte;
            len += 1;
        }
        let token = Self { bytes, len };
        if token.as_bytes().len() < Self::MIN || token.as_bytes().ends_with(b" ") {
            return Err(Error::Boundary);
        }
        Ok(token)
    }

    /// The token's characters: [`Token::MIN`] to [`Token::MAX`] bytes of ASCII.
    pub fn as_bytes(&self) -> &[u8] {
        self.bytes.get(..usize::from(self.len)).unwrap_or_default()
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Token({})", self.as_bytes().escape_ascii())
    }
}

/// Why a value is no mark. Displayed it is a sentence that says so and names what is accepted;
/// it never repeats the value (see [`escaped`](super::quote::escaped)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Error {
    /// There is no parameter in it.
    Empty,
    /// A parameter that is not known.
    Unknown,
    /// Something stands beside a parameter that should stand alone.
    Several,
    /// `on`, `flush`, `off` or `late` with a value.
    Value,
    /// `length` without a value, or one that is no number from 0 to [`MAX_LENGTH`].
    Length,
    /// `boundary` without a value, or one that is no [`Token`].
    Boundary,
    /// The response has the header more than once.
    Repeated,
    /// `late` in the header: its program has run without digits.
    Late,
}

impl std::error::Error for Error {}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Empty => "the value is empty",
            Self::Unknown => "the value has a parameter that is not known",
            Self::Several => "the value has more than the one parameter that it may have",
            Self::Value => "on, flush, off and late take no value",
            Self::Length => "length takes a number of bytes, in digits, that fits 63 bits",
            Self::Boundary => {
                "boundary takes 16 to 70 of the characters that RFC 2046 allows in a boundary, in \
                 double quotes, the last of them no space"
            }
            Self::Repeated => "the header is there more than once",
            Self::Late => "late is for the variable, which httpd looks at before the program runs",
        })?;
        f.write_str("; accepted is one of: on, length=N, boundary=\"TOKEN\", flush, off; and late in the variable")
    }
}

/// Parses the value of one header line or environment variable.
///
/// The form is that of a parameter list (RFC 9110, section 5.6.6): names in any case, values bare
/// or quoted, spaces and tabs allowed around a parameter but not around its `=`, empty parameters
/// ignored. Exactly one parameter must be left: a known one after which an unknown one stands is
/// half understood, and an application that repeats itself may mean two things.
///
/// N is digits only, leading zeros allowed, no sign. A value of any length takes linear time and
/// no memory.
pub fn parse(value: &[u8]) -> Result<Mark, Error> {
    let value = trim(value, |byte| is_space(byte) || byte == b';');
    if value.is_empty() {
        return Err(Error::Empty);
    }
    let (name, rest) = split(value, is_token_char);
    let Some((&b'=', rest)) = rest.split_first() else {
        return match (keyword(name), Valued::of(name), rest) {
            (Some(mark), _, []) => Ok(mark),
            (Some(_), ..) => Err(Error::Several),
            (None, Some(valued), _) => Err(valued.error()),
            (None, None, _) => Err(Error::Unknown),
        };
    };
    let valued = match (Valued::of(name), keyword(name)) {
        (Some(valued), _) => valued,
        (None, Some(_)) => return Err(Error::Value),
        (None, None) => return Err(Error::Unknown),
    };
    let (content, rest) = argument(rest).ok_or(valued.error())?;
    let mark = match valued {
        Valued::Length => Mark::Length(number(unescape(content)).ok_or(Error::Length)?),
        Valued::Boundary => Mark::Boundary(Token::collect(unescape(content))?),
    };
    match rest.first() {
        None => Ok(mark),
        Some(&byte) if is_space(byte) || byte == b';' => Err(Error::Several),
        Some(_) => Err(valued.error()),
    }
}

/// A parameter that takes a value.
#[derive(Clone, Copy)]
enum Valued {
    Length,
    Boundary,
}

impl Valued {
    fn of(name: &[u8]) -> Option<Self> {
        [(&b"length"[..], Self::Length), (b"boundary", Self::Boundary)]
            .into_iter()
            .find_map(|(known, valued)| name.eq_ignore_ascii_case(known).then_some(valued))
    }

    /// What is said where the value is not as it must be.
    const fn error(self) -> Error {
        match self {
            Self::Length => Error::Length,
            Self::Boundary => Error::Boundary,
        }
    }
}

/// The mark of a parameter that takes no value.
fn keyword(name: &[u8]) -> Option<Mark> {
    [(&b"on"[..], Mark::On), (b"flush", Mark::Flush), (b"off", Mark::Off), (b"late", Mark::Late)]
        .into_iter()
        .find_map(|(known, mark)| name.eq_ignore_ascii_case(known).then_some(mark))
}

/// Parses the value behind `=`: a token or a quoted-string (RFC 9110, sections 5.6.2 and 5.6.4) without
/// its quotes but with its backslashes, and what follows it.
fn argument(input: &[u8]) -> Option<(&[u8], &[u8])> {
    let Some((&b'"', quoted)) = input.split_first() else {
        return Some(split(input, is_token_char));
    };
    let mut escape = false;
    let (content, rest) = split(quoted, |byte| {
        let ends = byte == b'"' && !escape;
        escape = byte == b'\\' && !escape;
        !ends
    });
    let (_quote, rest) = rest.split_first()?;
    Some((content, rest))
}

/// The bytes that `content` stands for: a backslash gives way to the byte after it. A bare token
/// has no backslash.
fn unescape(content: &[u8]) -> impl Iterator<Item = u8> {
    let mut bytes = content.iter().copied();
    std::iter::from_fn(move || match bytes.next() {
        Some(b'\\') => bytes.next(),
        other => other,
    })
}

/// All that was said about one response.
#[derive(Clone, Copy, Debug, Default)]
pub struct Said<'a> {
    /// True if the C function was called.
    pub api: bool,
    /// The value of each header line, of both of httpd's tables of response headers.
    pub header: &'a [&'a [u8]],
    /// The values of the environment variable, that of the request itself before those from before
    /// its internal redirects.
    pub env: &'a [&'a [u8]],
    /// Whether [`recognise`] found a declared end, where the configuration says `Auto`.
    pub auto: bool,
}

/// The decision about a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Choice {
    /// It is finished early, where the mark says (never [`Mark::Off`] or [`Mark::Late`]).
    Marked(Mark, Source),
    /// Nobody marked it, and it is believed to end where it was declared to.
    Declared,
    /// Nobody marked it but perhaps by `late`, or somebody did in words that do not parse.
    Unmarked,
    /// Somebody said `off`: it is not finished early, whatever may be said later.
    Off,
}

/// A value that does not parse, for the error log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected<'a> {
    /// [`Source::Header`] or [`Source::Env`].
    pub source: Source,
    /// The value, as it came; see [`escaped`](super::quote::escaped).
    pub value: &'a [u8],
    /// The fault in it.
    pub error: Error,
}

/// Decides who wins: `off` anywhere; then the C function, the header, the variable (of its values
/// the first), and last what `Auto` recognised. Behind that comes `late` ([`is_late`]), which marks nothing before the program says so.
///
/// A value that does not parse makes the response unmarked, whatever else was said, `off` apart: nobody knows whether `off` was meant, and
/// an ordinary response is always right. The header is allowed once. Several lines do not parse together, even if they are equal: some
/// handlers pass them on as one value with commas. Each value that does not parse is handed back for the log.
pub fn choose<'a>(said: &Said<'a>) -> (Choice, Vec<Rejected<'a>>) {
    let mut off = false;
    let mut rejected = Vec::new();
    // The last mark that is put in here has the best claim.
    let mut marked = None;
    let values = said.env.iter().rev().map(|&value| (value, Source::Env));
    for (value, source) in values.chain(said.header.iter().map(|&value| (value, Source::Header))) {
        match parse(value) {
            Ok(Mark::Off) => off = true,
            Ok(Mark::Late) if source == Source::Header => {
                rejected.push(Rejected { source, value, error: Error::Late });
            }
            // It goes before what stands behind it, as any value does.
            Ok(Mark::Late) => marked = None,
            Ok(mark) => marked = Some((mark, source)),
            Err(error) => rejected.push(Rejected { source, value, error }),
        }
    }
    if let (false, [_, value, ..]) = (off, said.header) {
        rejected.retain(|other| other.source != Source::Header);
        rejected.push(Rejected { source: Source::Header, value, error: Error::Repeated });
    }
    if said.api {
        marked = Some((Mark::Flush, Source::Api));
    }
    let choice = match marked {
        _ if off => Choice::Off,
        Some((mark, source)) if rejected.is_empty() => Choice::Marked(mark, source),
        None if said.auto && rejected.is_empty() => Choice::Declared,
        _ => Choice::Unmarked,
    };
    (choice, rejected)
}

/// True if these values of the variable mean `late`: the first of them says it, and all parse, and none says `off`.
pub fn is_late<'a>(env: impl IntoIterator<Item = &'a [u8]>) -> bool {
    // As it is written most often.
    let parse = |value: &'a [u8]| if value == b"late" { Ok(Mark::Late) } else { parse(value) };
    let mut values = env.into_iter().map(parse);
    values.next() == Some(Ok(Mark::Late)) && values.all(|value| value.is_ok_and(|mark| mark != Mark::Off))
}

/// The facts that [`recognise`] looks at. All headers are the application's own: httpd's defaults, and what
/// httpd makes of them later, say nothing about what the application wants.
#[derive(Clone, Copy, Debug, Default)]
pub struct Idiom {
    /// The client speaks HTTP/2.
    pub http2: bool,
    /// The connection is closed after the response anyway: the application's `Connection` header says so (see
    /// [`has_close`]), or the client's does, or its protocol.
    pub closes: bool,
    /// The application's `Content-Length`: see [`declared_length`].
    pub content_length: Option<u64>,
    /// The application chunks its body: see [`is_chunked`].
    pub chunked: bool,
    /// The response's status allows no body.
    pub bodiless: bool,
}

/// The end that the application has declared, of a response without a mark of its own
/// (`FinishRequest Auto`).
///
/// A body that the application chunks by itself ends with its last chunk. Where no connection is lost
/// by it, over HTTP/2 and where the connection is closed anyway, a `Content-Length` alone counts, and a status
/// without a body. `Connection: close` without a length is streaming.
pub fn recognise(idiom: &Idiom) -> Option<Declared> {
    match idiom.content_length {
        _ if idiom.chunked => Some(Declared::chunks()),
        _ if !(idiom.http2 || idiom.closes) => None,
        _ if idiom.bodiless => Some(Declared::length(0)),
        length => length.map(Declared::length),
    }
}

/// Returns true if a `Connection` header (RFC 9110, section 7.6.1: options with commas between them, in
/// any case) has the option `close`.
pub fn has_close(value: &[u8]) -> bool {
    value.split(|&byte| byte == b',').any(|option| trim(option, is_space).eq_ignore_ascii_case(b"close"))
}

/// Returns true if a `Transfer-Encoding` header says `chunked` and nothing else. A body with a further
/// coding under the chunks (`gzip, chunked`) is not one that can be passed on without them.
pub fn is_chunked(value: &[u8]) -> bool {
    trim(value, is_space).eq_ignore_ascii_case(b"chunked")
}

/// Parses a `Content-Length` header: digits, 0 to [`MAX_LENGTH`], spaces around allowed; anything
/// else, a list of equal lengths too, is `None` (RFC 9112, section 6.3, item 5).
pub fn parse_length(value: &[u8]) -> Option<u64> {
    number(trim(value, is_space).iter().copied())
}

/// The length that the values of all `Content-Length` headers declare: of two different ones none counts.
pub fn declared_length<'a>(values: impl IntoIterator<Item = &'a [u8]>) -> Option<u64> {
    let mut lengths = values.into_iter().map(parse_length);
    let first = lengths.next()??;
    lengths.all(|length| length == Some(first)).then_some(first)
}

/// A number from 0 to [`MAX_LENGTH`] in digits, of which there is at least one.
fn number(mut digits: impl Iterator<Item = u8>) -> Option<u64> {
    let digit = |byte: u8| byte.is_ascii_digit().then(|| u64::from(byte - b'0'));
    let first = digit(digits.next()?)?;
    digits.try_fold(first, |number, byte| {
        number.checked_mul(10)?.checked_add(digit(byte)?).filter(|&number| number <= MAX_LENGTH)
    })
}

/// Cuts off the bytes at both ends for which `unwanted` holds.
fn trim(mut bytes: &[u8], unwanted: impl Fn(u8) -> bool) -> &[u8] {
    loop {
        bytes = match bytes {
            [byte, rest @ ..] | [rest @ .., byte] if unwanted(*byte) => rest,
            _ => return bytes,
        };
    }
}

/// Splits before the first byte for which `belongs` does not hold.
fn split(bytes: &[u8], mut belongs: impl FnMut(u8) -> bool) -> (&[u8], &[u8]) {
    let at = bytes.iter().position(|&byte| !belongs(byte)).unwrap_or(bytes.len());
    bytes.split_at(at)
}

/// OWS of RFC 9110, section 5.6.3.
const fn is_space(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t')
}

/// tchar of RFC 9110, section 5.6.2.
pub(crate) fn is_token_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// bchars of RFC 2046, section 5.1.1.
fn is_boundary_char(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(&byte)
}

#[cfg(test)]
mod tests;
