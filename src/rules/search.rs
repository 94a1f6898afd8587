//! The search for a token in a body that comes in pieces.

use std::cell::OnceCell;
use std::fmt;

use memchr::memmem::Finder;

use super::mark::Token;

/// How many bytes in a row are looked at, from place to place.
const SAMPLE: usize = 8;

/// A set of bytes: for each, whether it is in it.
#[derive(Clone, Copy)]
pub struct Set([bool; 256]);

impl Set {
    /// These bytes.
    pub const fn of(bytes: &[u8]) -> Self {
        let mut set = [false; 256];
        let mut rest = bytes;
        while let [byte, more @ ..] = rest {
            #[allow(clippy::indexing_slicing)] // There are 256 bytes.
            {
                set[*byte as usize] = true;
            }
            rest = more;
        }
        Self(set)
    }

    const fn has(&self, byte: u8) -> bool {
        #[allow(clippy::indexing_slicing)] // As above.
        self.0[byte as usize]
    }
}

impl fmt::Debug for Set {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries((0..=u8::MAX).filter(|byte| self.has(*byte))).finish()
    }
}

/// Looks for the first place of a token in a body.
///
/// However the body is cut into pieces, the answer is the same. Bytes are kept only while they may be the token's beginning: always
/// fewer than the token has, and as they are its beginning they need no room.
#[derive(Clone, Debug)]
pub struct Search {
    token: Token,
    /// The characters that are in it, or more.
    set: Set,
    /// Made where something looks like the token.
    finder: OnceCell<Box<Finder<'static>>>,
    /// How many bytes of the token the body ends in so far.
    kept: usize,
}

/// The knowledge after one more piece. The kept bytes and the piece are looked at as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Step {
    /// So many of the kept bytes, from the first on, are body for certain.
    pub restored: usize,
    /// Behind them so many bytes of the piece are body. None, where kept bytes stay.
    pub body: usize,
    /// True if the token stands behind these. Otherwise the rest of the piece is the token's beginning, with what stays of the kept bytes.
    pub found: bool,
}

impl Search {
    /// A search for `token`, in a body of which nothing has come yet.
    pub fn new(token: Token) -> Self {
        Self::of_set(token, Set::of(token.as_bytes()))
    }

    /// The same, for a token whose characters are all in `set`.
    pub const fn of_set(token: Token, set: Set) -> Self {
        Self { token, set, finder: OnceCell::new(), kept: 0 }
    }

    /// The token.
    pub fn token(&self) -> &[u8] {
        self.token.as_bytes()
    }

    /// Returns how many bytes are kept at the moment: the token's beginning, never all of it.
    pub fn kept(&self) -> usize {
        self.kept
    }

    /// The first `count` of the kept bytes are kept no more.
    pub fn restore(&mut self, count: usize) {
        self.kept -= count.min(self.kept);
    }

    /// Takes the next piece of the body.
    pub fn next(&mut self, piece: &[u8]) -> Step {
        let step = self.look(piece);
        self.kept = if step.found { 0 } else { self.kept - step.restored + piece.len() - step.body };
        step
    }

    /// The same, without taking it.
    pub fn look(&self, piece: &[u8]) -> Step {
        if let Some((restored, found)) = self.begun(piece) {
            return Step { restored, body: 0, found };
        }
        match self.find(piece) {
            Some(at) => Step { restored: self.kept, body: at, found: true },
            None => Step { restored: self.kept, body: piece.len() - self.tail(piece), found: false },
        }
    }

    /// Where the first token begins, among the kept bytes, that the piece goes on with, and whether it is complete.
    pub fn begun(&self, piece: &[u8]) -> Option<(usize, bool)> {
        let token = self.token();
        let kept = token.get(..self.kept)?;
        (0..kept.len()).find_map(|start| {
            let rest = token.strip_prefix(kept.get(start..)?)?;
            let found = piece.starts_with(rest);
            (found || rest.starts_with(piece)).then_some((start, found))
        })
    }

    /// Returns the place of the token in the piece. Wherever that stands it has [`SAMPLE`] bytes of its characters in a row at one of the places that are
    /// looked at; only from the first such place on all bytes are.
    fn find(&self, piece: &[u8]) -> Option<usize> {
        let length = self.token().len();
        let sample = match length {
            64.. => self.sample::<57>(piece),
            32.. => self.sample::<25>(piece),
            _ => self.sample::<9>(piece),
        };
        let at = sample?.saturating_sub(length - SAMPLE);
        let finder = self.finder.get_or_init(|| Box::new(Finder::new(self.token()).into_owned()));
        finder.find(piece.get(at..)?).map(|found| at + found)
    }

    /// Returns the first place, of those that are `STEP` bytes apart, where bytes of the token's set stand. A token of `STEP` + 7 bytes or more
    /// has one of these places in it.
    fn sample<const STEP: usize>(&self, piece: &[u8]) -> Option<usize> {
        let (steps, rest) = piece.as_chunks::<STEP>();
        let looks_like = |bytes: &[u8]| match bytes.first_chunk::<SAMPLE>() {
            Some(sample @ [first, ..]) => self.set.has(*first) && sample.iter().all(|byte| self.set.has(*byte)),
            None => false,
        };
        let found = steps.iter().position(|step| looks_like(step));
        found.or_else(|| looks_like(rest).then_some(steps.len())).map(|step| step * STEP)
    }

    /// Returns how many bytes of the token the piece ends in, less than all.
    fn tail(&self, piece: &[u8]) -> usize {
        let token = self.token();
        if piece.last().is_none_or(|last| !self.set.has(*last)) {
            return 0;
        }
        let Some((first, longest)) = token.first().zip(token.len().checked_sub(1)) else { return 0 };
        let end = piece.get(piece.len().saturating_sub(longest)..).unwrap_or(piece);
        memchr::memchr_iter(*first, end)
            .find(|at| end.get(*at..).is_some_and(|rest| token.starts_with(rest)))
            .map_or(0, |at| end.len() - at)
    }
}
