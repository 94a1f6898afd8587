//! The end of a late mark: digits, twice in a row, that only the program and httpd know.

use super::digits::{Digits, LENGTH};
use super::mark::Token;
use super::search::{Search, Set, Step};

/// From how many matching bytes on they are not shown to a client before it is known what follows.
pub const SECRET: usize = 8;

const _: () = assert!(LENGTH == Set::PERIOD && 2 * LENGTH >= Set::LEAST);

/// The characters of digits.
static DIGITS: Set = Set::of(b"0123456789");

/// The parts of a piece of the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen<'s> {
    /// Bytes that were held, and are body after all: they come before the piece.
    pub restored: &'s [u8],
    /// So many bytes of the piece are body. Those behind them are held, or the digits.
    pub body: usize,
    /// Where the digits stand there, twice: so many bytes of the piece are before their end.
    pub found: Option<usize>,
}

/// Looks for the digits in a body that comes in pieces. What may be their beginning is held.
#[derive(Clone, Debug)]
pub struct Late {
    search: Search,
    /// How many bytes were given.
    given: u64,
    /// How many of the bytes that the search keeps were passed on: fewer than [`SECRET`].
    passed: usize,
}

impl Late {
    /// A search in a body of which nothing has come yet.
    pub fn new(digits: &Digits) -> Self {
        Self { search: Search::of_set(Token::twice(digits), &DIGITS), given: 0, passed: 0 }
    }

    /// Takes the next piece of the body.
    pub fn next(&mut self, piece: &[u8]) -> Seen<'_> {
        let kept = self.search.kept();
        let Step { restored, body, found } = self.search.next(piece);
        let from = self.passed.min(restored);
        self.passed = if found { 0 } else { self.passed - from };
        let token = self.search.token();
        let found = found.then(|| body + token.len() - (kept - restored));
        let restored = token.get(from..restored).unwrap_or_default();
        self.given += (restored.len() + body) as u64;
        Seen { restored, body, found }
    }

    /// The bytes that are held at the moment.
    pub fn held(&self) -> &[u8] {
        self.search.token().get(self.passed..self.search.kept()).unwrap_or_default()
    }

    /// How many bytes of the body have been given: those that are held, and the digits, are none of it.
    pub fn given(&self) -> u64 {
        self.given
    }

    /// True if the piece, when it comes next, may be a part of the digits with what is held.
    pub fn goes_on_with(&self, piece: &[u8]) -> bool {
        self.search.begun(piece).is_some()
    }

    /// True if the held bytes may be passed on at a flush.
    pub fn may_be_passed(&self) -> bool {
        self.search.kept() < SECRET
    }

    /// The held bytes, where they may be passed on: they are held no more.
    pub fn pass(&mut self) -> &[u8] {
        let held = if self.may_be_passed() { self.passed..self.search.kept() } else { 0..0 };
        self.passed += held.len();
        self.given += held.len() as u64;
        self.search.token().get(held).unwrap_or_default()
    }

    /// The body has ended: the last of it. Digits that were cut off are dropped.
    pub fn end(&mut self) -> &[u8] {
        let (last, kept) =
            (if self.may_be_passed() { self.passed..self.search.kept() } else { 0..0 }, self.search.kept());
        self.search.restore(kept);
        self.passed = 0;
        self.given += last.len() as u64;
        self.search.token().get(last).unwrap_or_default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OWN: &str = "01234567899876540123456789987657";

    fn late(digits: &str) -> Late {
        Late::new(&Digits::from_text(digits).unwrap())
    }

    /// Returns the output of a body that comes in pieces, with a flush behind each if `flushed`; and whether the digits were found.
    fn run<'p>(digits: &str, pieces: impl IntoIterator<Item = &'p [u8]>, flushed: bool) -> (Vec<u8>, bool) {
        let (mut late, mut out) = (late(digits), Vec::new());
        for piece in pieces {
            let seen = late.next(piece);
            out.extend_from_slice(seen.restored);
            out.extend_from_slice(&piece[..seen.body]);
            if let Some(after) = seen.found {
                let token = digits.repeat(2);
                assert!(piece[..after].ends_with(&token.as_bytes()[token.len() - (after - seen.body)..]));
                assert_eq!(late.given(), out.len() as u64);
                return (out, true);
            }
            if flushed {
                out.extend_from_slice(late.pass());
            }
            assert_eq!(late.given(), out.len() as u64);
        }
        out.extend_from_slice(late.end());
        assert_eq!(late.given(), out.len() as u64);
        (out, false)
    }

    /// The same, of a body that is there as a whole.
    fn model(digits: &str, body: &[u8]) -> (Vec<u8>, bool) {
        let token = digits.repeat(2).into_bytes();
        if let Some(at) = body.windows(token.len()).position(|window| window == token) {
            return (body[..at].to_vec(), true);
        }
        let cut = (SECRET..token.len()).rev().find(|length| body.ends_with(&token[..*length]));
        (body[..body.len() - cut.unwrap_or(0)].to_vec(), false)
    }

    #[test]
    fn the_digits_end_the_body_where_they_stand_twice() {
        let twice = OWN.repeat(2);
        for (body, expected, found) in [
            (twice.clone(), String::new(), true),
            (format!("page{twice}rest"), "page".to_owned(), true),
            (format!("{OWN} {OWN}"), format!("{OWN} "), false),
            (format!("{OWN}{twice}"), String::new(), true),
            (format!("page{OWN} and more"), format!("page{OWN} and more"), false),
            (format!("page{}", &twice[..63]), "page".to_owned(), false),
            (format!("page{}", &twice[..8]), "page".to_owned(), false),
            (format!("page{}", &twice[..7]), format!("page{}", &twice[..7]), false),
        ] {
            let all = run(OWN, [body.as_bytes()], false);
            assert_eq!(all, (expected.into_bytes(), found), "{body}");
            for flushed in [false, true] {
                assert_eq!(run(OWN, body.as_bytes().chunks(8), flushed).1, found, "{body}");
            }
            assert_eq!(run(OWN, body.as_bytes().chunks(1), false), all, "{body}");
        }
    }

    #[test]
    fn few_matching_bytes_are_passed_on_at_a_flush_and_many_are_not() {
        let mut late = late(OWN);
        assert_eq!(late.next(b"x0123456").body, 1);
        assert_eq!(late.held(), b"0123456");
        assert!(late.goes_on_with(b"789") && !late.goes_on_with(b"78x"));
        assert_eq!(late.pass(), b"0123456");
        assert_eq!(late.held(), b"");
        assert_eq!(late.pass(), b"");
        assert_eq!(late.next(b"789").body, 0);
        assert_eq!((late.held(), late.may_be_passed()), (&b"789"[..], false));
        assert_eq!(late.pass(), b"");
        // It was another number.
        assert_eq!(late.next(b"x01"), Seen { restored: b"789", body: 1, found: None });
        assert_eq!(late.held(), b"01");
        assert_eq!(late.end(), b"01");
    }

    #[test]
    fn what_was_passed_on_does_not_come_twice() {
        let mut late = late("12121212121212121212121212121213");
        assert_eq!(late.next(b"121212").body, 0);
        assert_eq!(late.pass(), b"121212");
        assert_eq!(late.next(b"12").body, 0);
        assert_eq!(late.pass(), b"");
        assert_eq!(late.next(b"x"), Seen { restored: b"12", body: 1, found: None });
        // Of what was passed on a part may yet be the beginning.
        assert_eq!(late.next(b"1212").body, 0);
        assert_eq!(late.pass(), b"1212");
        assert_eq!(late.next(b"2"), Seen { restored: b"", body: 1, found: None });
        assert_eq!(late.end(), b"");
    }

    /// Digits with much repetition in them, and bodies made of their pieces.
    fn case() -> impl Strategy<Value = (String, Vec<u8>)> {
        let digits = prop_oneof!["[01]{32}", "[0-9]{32}", "(01){15}0[01]"];
        digits.prop_flat_map(|digits| {
            let twice = digits.repeat(2).into_bytes();
            let part = (0..=64_usize, 0..=64_usize).prop_map(move |(a, b)| twice[a.min(b)..a.max(b)].to_vec());
            let other = prop::collection::vec(prop::sample::select(&b"01\0\xff"[..]), 0..4);
            let body = prop::collection::vec(prop_oneof![4 => part, 1 => other], 0..12);
            (Just(digits), body.prop_map(|parts| parts.concat()))
        })
    }

    fn pieces<'b>(mut body: &'b [u8], cuts: &[u8]) -> Vec<&'b [u8]> {
        let mut pieces = Vec::new();
        for cut in cuts {
            let (piece, rest) = body.split_at(usize::from(*cut).min(body.len()));
            pieces.push(piece);
            body = rest;
        }
        pieces.push(body);
        pieces
    }

    proptest! {
        #[test]
        fn any_split_gives_what_a_plain_search_gives((digits, body) in case(), cuts in any::<Vec<u8>>()) {
            let expected = model(&digits, &body);
            prop_assert_eq!(run(&digits, [&body[..]], false), expected.clone());
            prop_assert_eq!(run(&digits, pieces(&body, &cuts), false), expected);
        }

        #[test]
        fn flushes_show_less_than_eight_bytes((digits, body) in case(), cuts in any::<Vec<u8>>()) {
            let (expected, found) = model(&digits, &body);
            let (flushed, same) = run(&digits, pieces(&body, &cuts), true);
            prop_assert_eq!(same, found);
            let more = flushed.strip_prefix(&expected[..]);
            prop_assert!(more.is_some_and(|more| more.len() < SECRET && digits.as_bytes().starts_with(more)), "{:?}", more);
        }
    }
}
