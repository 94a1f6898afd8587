//! An end that an application has declared, without having marked its response (`FinishRequest Auto`).
//!
//! It is only believed: what the handler writes goes to the client as it is, all of it, and is counted here on its way. Where the
//! declaration turns out wrong, nothing has happened.

use super::ending::Chunks;

/// A body that is watched on its way to its declared end.
#[derive(Clone, Debug)]
pub struct Declared {
    end: End,
    wrong: bool,
}

#[derive(Clone, Debug)]
enum End {
    /// So many bytes are still to come.
    Length(u64),
    /// The last of the application's own chunks.
    Chunks(Chunks),
}

/// A response that may turn out to have ended before its handler.
#[derive(Clone, Debug)]
pub struct Watched {
    /// What has been declared, and how the body stands to it.
    pub declared: Declared,
    /// When that is believed.
    pub pause: Pause,
    /// How it came last.
    pub pieces: Pieces,
}

impl Watched {
    /// Whether what has come last may be a part of what was one text. The last chunk is the last, whatever its size.
    pub const fn may_be_cut(&self) -> bool {
        matches!(self.declared.end, End::Length(_)) && self.pieces.may_be_cut()
    }
}

/// The pieces in which a FastCGI program's output comes, as far as they say whether another one is on its way.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pieces {
    before: u64,
    last: u64,
    all: u64,
}

impl Pieces {
    /// What mod_proxy_fcgi reads at once (`AP_IOBUFSIZE`); and PHP has no larger text in one record than its buffer holds without the record's head
    /// (`fcgi_write`), but for a multiple of eight bytes, with the rest behind it in another record.
    const LARGE: u64 = 8192 - 16;
    const UNIT: u64 = 8;

    /// So many bytes have come at once.
    pub const fn note(&mut self, bytes: u64) {
        (self.before, self.last) = (self.last, bytes);
        self.all = self.all.saturating_add(bytes);
    }

    /// Whether the program, or who reads from it, may have cut what was one text behind the last of them: then its end is no pause of the program's.
    pub const fn may_be_cut(self) -> bool {
        let is_large = self.last >= Self::LARGE || self.before >= Self::LARGE;
        // What came over a network may have come in pieces of any length.
        is_large && self.last.is_multiple_of(Self::UNIT)
            || self.all >= Self::LARGE && self.all.is_multiple_of(Self::UNIT)
    }
}

/// When a body that has come to its declared end is believed to have ended.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Pause {
    /// At a flush: of a handler inside httpd, or of one that flushes where its backend has no more at hand.
    Flush,
    /// As soon as a brigade ends there, unless it may be [cut](Watched::may_be_cut): it has what the backend had at hand.
    Brigade,
}

/// How a body stands to its declaration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// More is to come.
    Open,
    /// It is where it was declared to end.
    AtEnd,
    /// It is not what was declared, and never will be.
    Wrong,
}

impl Declared {
    /// A body of so many bytes.
    pub const fn length(bytes: u64) -> Self {
        Self { end: End::Length(bytes), wrong: false }
    }

    /// A body that the application chunks by itself. The chunks are looked at, and stay what they are.
    pub const fn chunks() -> Self {
        Self { end: End::Chunks(Chunks::new()), wrong: false }
    }

    /// True if the bytes must be seen, and not only their number.
    pub const fn reads(&self) -> bool {
        matches!((&self.end, self.standing()), (End::Chunks(_), Standing::Open | Standing::AtEnd))
    }

    /// Nobody knows how much comes.
    pub fn give_up(&mut self) {
        self.wrong = true;
    }

    /// So many bytes have come, which nobody has looked at: for a declared length.
    pub fn count(&mut self, bytes: u64) {
        match &mut self.end {
            End::Length(left) => match left.checked_sub(bytes) {
                Some(less) => *left = less,
                None => self.wrong = true,
            },
            End::Chunks(_) => self.wrong |= bytes > 0,
        }
    }

    /// These bytes have come.
    pub fn take(&mut self, mut bytes: &[u8]) {
        let End::Chunks(chunks) = &mut self.end else { return self.count(bytes.len() as u64) };
        while !bytes.is_empty() && !self.wrong {
            match chunks.take(bytes) {
                0 => self.wrong = true,
                taken => bytes = bytes.get(taken..).unwrap_or_default(),
            }
        }
    }

    /// How the body stands now.
    pub const fn standing(&self) -> Standing {
        match &self.end {
            _ if self.wrong => Standing::Wrong,
            End::Chunks(chunks) if chunks.is_broken() => Standing::Wrong,
            End::Length(0) => Standing::AtEnd,
            End::Chunks(chunks) if chunks.is_complete() => Standing::AtEnd,
            _ => Standing::Open,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::ending::{Ending, model};
    use super::*;
    use proptest::prelude::*;

    fn cut(declared: Declared, pieces: &[u64]) -> bool {
        let mut watched = Watched { declared, pause: Pause::Brigade, pieces: Pieces::default() };
        pieces.iter().for_each(|bytes| watched.pieces.note(*bytes));
        watched.may_be_cut()
    }

    #[test]
    fn what_may_be_half_of_a_text() {
        let cut_of_length = |pieces: &[u64]| cut(Declared::length(0), pieces);
        assert!(cut_of_length(&[8192]), "mod_proxy_fcgi's buffer was full");
        assert!(cut_of_length(&[8192, 8192, 3616]), "a record of 20,000 bytes");
        assert!(cut_of_length(&[8192, 5792, 6016]), "the same over a network");
        assert!(!cut_of_length(&[8192, 8192, 3617]), "PHP's second record is never longer than seven bytes");
        assert!(!cut_of_length(&[4096]), "what PHP's buffer holds is not cut");
        assert!(!cut_of_length(&[]));
        assert!(!cut(Declared::chunks(), &[8192]), "the last chunk says that it is the last");
    }

    fn standing(mut declared: Declared, pieces: &[&[u8]]) -> Standing {
        pieces.iter().for_each(|piece| declared.take(piece));
        declared.standing()
    }

    #[test]
    fn a_length_holds_or_does_not() {
        for (length, pieces, expected) in [
            (0, &[][..], Standing::AtEnd),
            (0, &[&b"a"[..]], Standing::Wrong),
            (3, &[], Standing::Open),
            (3, &[b"ab"], Standing::Open),
            (3, &[b"ab", b"", b"c"], Standing::AtEnd),
            (3, &[b"ab", b"cd"], Standing::Wrong),
            (3, &[b"abc", b"d"], Standing::Wrong),
            (3, &[b"abcd", b""], Standing::Wrong),
        ] {
            assert_eq!(standing(Declared::length(length), pieces), expected, "{length} {pieces:?}");
        }
        let mut declared = Declared::length(u64::MAX);
        declared.count(u64::MAX);
        assert_eq!(declared.standing(), Standing::AtEnd);
        declared.count(1);
        declared.count(u64::MAX);
        assert_eq!(declared.standing(), Standing::Wrong);
    }

    #[test]
    fn chunks_are_some_or_none() {
        for (pieces, expected) in [
            (&[][..], Standing::Open),
            (&[&b"1\r\na\r\n"[..]], Standing::Open),
            (&[b"1\r\na\r\n0\r\n\r\n"], Standing::AtEnd),
            (&[b"1\r\na\r\n0\r\nA: b\r\n", b"\r\n"], Standing::AtEnd),
            (&[b"1\r\na\r\n0\r\n\r\n", b"x"], Standing::Wrong),
            (&[b"1\r\na\r\n0\r\n\r\nx"], Standing::Wrong),
            (&[b"Opening hours\r\n"], Standing::Wrong),
            (&[b"face the wall\r\n"], Standing::Wrong),
            (&[b"1\r\nab"], Standing::Wrong),
        ] {
            assert_eq!(standing(Declared::chunks(), pieces), expected, "{pieces:?}");
        }
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(body in prop_oneof![any::<Vec<u8>>(), "(2\r\nab\r\n){0,3}0\r\n(A: b\r\n)?\r\nx?".prop_map(String::into_bytes)],
                                length in 0_u64..60, cuts in any::<Vec<u8>>()) {
            for declared in [Declared::length(length), Declared::chunks()] {
                let pieces: Vec<_> = model::pieces(&body, &cuts);
                prop_assert_eq!(standing(declared.clone(), &pieces), standing(declared, &[&body]));
            }
        }

        #[test]
        fn chunks_end_where_a_mark_would_end_them(body in "(2\r\nab\r\n){0,3}0\r\n(A: b\r\n)?\r\n", more in "x{0,2}") {
            let all = [body.as_bytes(), more.as_bytes()].concat();
            let marked = model::run(Ending::Chunks(Chunks::new()), [&all[..]]);
            prop_assert_eq!(marked.close, model::Close::Ended);
            let expected = if more.is_empty() { Standing::AtEnd } else { Standing::Wrong };
            prop_assert_eq!(standing(Declared::chunks(), &[&all]), expected);
        }
    }
}
