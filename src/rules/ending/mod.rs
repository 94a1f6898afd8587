//! Where the body of a marked response ends.
//!
//! The output filter hands each machine here the bytes of the body as they come, in pieces of any
//! size, and does what the [`Verdict`] says. However the bytes are cut into pieces, the outcome is
//! the same. A machine keeps no more of the body than a [`Boundary`] must, and takes linear time.

mod boundary;
mod chunks;
mod length;
#[cfg(any(test, fuzzing))]
pub mod model;

pub use boundary::Boundary;
pub use chunks::{Chunks, Fault};
pub use length::Length;

use crate::rules::mark::Mark;

/// The verdict on the next bytes of the application's body.
///
/// The caller asks again, with what is left of the input, until it gets [`Verdict::More`],
/// [`Verdict::End`] or [`Verdict::Broken`]. It asks once more when nothing is left: the end may be
/// right there, and the client should not have to wait for bytes that are not for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The first so many bytes of the input (at least one) are body: pass them on.
    Pass(usize),
    /// The first so many bytes of the input (at least one) are not to be passed on now: they are
    /// framing, or the machine keeps them because they may be the beginning of the boundary.
    Drop(usize),
    /// Before anything else: bytes that were kept are body after all. Pass on the first so many
    /// bytes (at least one) of [`Ending::token`], whose beginning they are. No input is used up.
    Restore(usize),
    /// Nothing is left to say about the input, which is empty: the body goes on.
    More,
    /// The response ends here. All that follows, the rest of this input too, is dropped; the
    /// machine says the same from now on.
    End,
    /// The body is not what it claims to be: what follows has no meaning. The machine says the
    /// same from now on.
    Broken(Fault),
}

/// The rule by which one response ends.
#[derive(Clone, Debug)]
pub enum Ending {
    /// After so many bytes.
    Length(Length),
    /// After the last of the application's own chunks.
    Chunks(Chunks),
    /// Where a token stands.
    Boundary(Boundary),
    /// At the next flush, which the caller sees.
    Flush,
    /// With the handler, as an ordinary response.
    Never,
}

impl Ending {
    /// The rule for a mark, with what the application's own headers say: its `Content-Length` in
    /// bytes, and whether it chunks the body by itself. They matter to [`Mark::On`] only; chunks
    /// then go before a length (RFC 9112, section 6.3, item 3), and with neither the response ends
    /// with its handler.
    pub fn new(mark: &Mark, content_length: Option<u64>, chunked: bool) -> Self {
        match (*mark, content_length) {
            (Mark::On, _) if chunked => Self::Chunks(Chunks::new()),
            (Mark::On, Some(length)) | (Mark::Length(length), _) => Self::Length(Length::new(length)),
            (Mark::Boundary(token), _) => Self::Boundary(Boundary::new(token)),
            (Mark::Flush, _) => Self::Flush,
            (Mark::On, None) | (Mark::Off | Mark::Late, _) => Self::Never,
        }
    }

    /// The verdict on the next bytes of the body.
    pub fn next(&mut self, input: &[u8]) -> Verdict {
        match self {
            Self::Length(length) => length.next(input),
            Self::Chunks(chunks) => chunks.next(input),
            Self::Boundary(boundary) => boundary.next(input),
            Self::Flush | Self::Never if input.is_empty() => Verdict::More,
            Self::Flush | Self::Never => Verdict::Pass(input.len()),
        }
    }

    /// Returns true if the verdict depends on what the bytes are. Where it does not, a bucket need not be
    /// read: [`Length::take`] goes by its size, and the others pass it as it is.
    pub const fn reads(&self) -> bool {
        matches!(self, Self::Chunks(_) | Self::Boundary(_))
    }

    /// Returns true if a flush ends the response.
    pub const fn ends_at_flush(&self) -> bool {
        matches!(self, Self::Flush)
    }

    /// Returns true if the body may end here without being cut short. A body of a given length, or in
    /// chunks, must have come to its end; a boundary or flush that never comes makes an ordinary
    /// response.
    pub const fn is_complete(&self) -> bool {
        match self {
            Self::Length(length) => length.is_complete(),
            Self::Chunks(chunks) => chunks.is_complete(),
            Self::Boundary(_) | Self::Flush | Self::Never => true,
        }
    }

    /// The token that a [`Boundary`] looks for, which [`Verdict::Restore`] refers to; else empty.
    pub fn token(&self) -> &[u8] {
        match self {
            Self::Boundary(boundary) => boundary.token(),
            _ => &[],
        }
    }

    /// The bytes that are kept at the moment, fewer than the token has. Where the body ends
    /// without the boundary they are the last of it.
    pub fn held(&self) -> &[u8] {
        match self {
            Self::Boundary(boundary) => boundary.held(),
            _ => &[],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::model::{self, Close};
    use super::*;
    use crate::rules::mark::Token;

    #[test]
    fn a_mark_and_the_headers_choose_the_ending() -> Result<(), crate::rules::mark::Error> {
        let ending = |mark, length, chunked| Ending::new(&mark, length, chunked);
        assert!(matches!(ending(Mark::On, Some(5), false), Ending::Length(l) if l.remaining() == 5));
        assert!(matches!(ending(Mark::On, None, true), Ending::Chunks(_)));
        assert!(matches!(ending(Mark::On, Some(5), true), Ending::Chunks(_)));
        assert!(matches!(ending(Mark::On, None, false), Ending::Never));
        assert!(matches!(ending(Mark::Length(7), Some(5), true), Ending::Length(l) if l.remaining() == 7));
        let token = Token::new(b"0123456789abcdef")?;
        let found = ending(Mark::Boundary(token), Some(5), true);
        assert_eq!(found.token(), token.as_bytes());
        assert!(found.held().is_empty());
        assert!(matches!(ending(Mark::Flush, Some(5), false), Ending::Flush));
        assert!(matches!(ending(Mark::Off, Some(5), true), Ending::Never));
        Ok(())
    }

    #[test]
    fn a_flush_and_never_pass_everything() {
        for ending in [Ending::Flush, Ending::Never] {
            let outcome = model::run(ending.clone(), [&b"ab"[..], b"", b"c"]);
            assert_eq!(outcome, model::Outcome { body: b"abc".to_vec(), close: Close::Open });
            assert!(ending.is_complete() && !ending.reads());
        }
        assert!(Ending::Flush.ends_at_flush() && !Ending::Never.ends_at_flush());
    }
}
