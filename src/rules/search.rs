//! The search for a token in a body that comes in pieces.

use std::cell::OnceCell;

use memchr::memmem::Finder;

use super::mark::Token;

/// How many bytes in a row are looked at, from place to place, where a token is of few characters.
const SAMPLE: usize = 8;

/// How far these places are apart: a token of [`Set::LEAST`] bytes has one of them in it, wherever it stands.
const STEP: usize = Set::LEAST + 1 - SAMPLE;

/// How many bytes four steps take.
const STEPS: usize = 4 * STEP;

/// A set of bytes: for each, whether it is in it.
#[derive(Debug)]
pub struct Set([bool; 256]);

impl Set {
    /// The least length of a token that is looked for where its characters stand.
    pub const LEAST: usize = 64;

    /// After so many bytes such a token repeats itself.
    pub const PERIOD: usize = 32;

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

/// Looks for the first place of a token in a body.
///
/// However the body is cut into pieces, the answer is the same. Bytes are kept only while they may be the token's beginning: always
/// fewer than the token has, and as they are its beginning they need no room.
#[derive(Clone, Debug)]
pub struct Search {
    token: Token,
    /// The characters that it is of, where they are few, and others are most of a body.
    set: Option<&'static Set>,
    /// Made where the token may stand.
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
        Self { token, set: None, finder: OnceCell::new(), kept: 0 }
    }

    /// The same, for a token of [`Set::LEAST`] bytes or more that are all in `set`, and that repeats itself after [`Set::PERIOD`].
    pub const fn of_set(token: Token, set: &'static Set) -> Self {
        Self { token, set: Some(set), finder: OnceCell::new(), kept: 0 }
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

    /// Returns the place of the token in the piece.
    fn find(&self, piece: &[u8]) -> Option<usize> {
        match self.set {
            Some(set) => self.find_in_set(set, piece),
            None => self.find_in(piece),
        }
    }

    fn find_in(&self, piece: &[u8]) -> Option<usize> {
        self.finder.get_or_init(|| Box::new(Finder::new(self.token()).into_owned())).find(piece)
    }

    /// Looks where enough of the token's characters stand in a row. Of all else [`SAMPLE`] bytes are looked at, in most cases one.
    fn find_in_set(&self, set: &Set, piece: &[u8]) -> Option<usize> {
        let mut at = 0;
        loop {
            at += self.skip(set, piece.get(at..)?);
            piece.get(at..)?.first_chunk::<SAMPLE>()?;
            let is_in_set = |byte: &&u8| set.has(**byte);
            // No more than a step: the place before this has another byte in it, or stands behind one.
            let before = piece.get(..at)?.iter().rev().take_while(is_in_set).count();
            let row = piece.get(at - before..)?;
            let row = row.get(..row.iter().take_while(is_in_set).count())?;
            if row.len() >= self.token().len()
                && let Some(found) = self.find_in(row)
            {
                return Some(at - before + found);
            }
            at += row.len() - before;
        }
    }

    /// Returns how far the first of the places is where a sample is a part of the token: past the end where there is none.
    fn skip(&self, set: &Set, piece: &[u8]) -> usize {
        let mut rest = piece;
        loop {
            while let Some((steps, behind)) = rest.split_first_chunk::<STEPS>() {
                if set.has(steps[0]) | set.has(steps[STEP]) | set.has(steps[2 * STEP]) | set.has(steps[3 * STEP]) {
                    break;
                }
                rest = behind;
            }
            match rest.first_chunk::<SAMPLE>() {
                Some(sample) if set.has(sample[0]) && self.has(sample) => {
                    return piece.len() - rest.len();
                }
                Some(_) => rest = rest.get(STEP..).unwrap_or_default(),
                None => return piece.len(),
            }
        }
    }

    /// True if the sample is a part of the token. All places are compared at once, with half of the sample first: most differ there.
    fn has(&self, sample: &[u8; SAMPLE]) -> bool {
        let mut fits = [u8::MAX; Set::PERIOD];
        let mut bytes = sample.iter().enumerate();
        for _ in 0..2 {
            for (at, byte) in bytes.by_ref().take(SAMPLE / 2) {
                let Some(own) = self.token().get(at..).and_then(<[u8]>::first_chunk::<{ Set::PERIOD }>) else {
                    return false;
                };
                for (fits, own) in fits.iter_mut().zip(own) {
                    *fits &= if own == byte { u8::MAX } else { 0 };
                }
            }
            if fits.iter().fold(0, |any, fits| any | fits) == 0 {
                return false;
            }
        }
        true
    }

    /// Returns how many bytes of the token the piece ends in, less than all.
    fn tail(&self, piece: &[u8]) -> usize {
        let token = self.token();
        let is_in_token = |last: &u8| self.set.map_or_else(|| token.contains(last), |set| set.has(*last));
        if !piece.last().is_some_and(is_in_token) {
            return 0;
        }
        let Some((first, longest)) = token.first().zip(token.len().checked_sub(1)) else { return 0 };
        let end = piece.get(piece.len().saturating_sub(longest)..).unwrap_or(piece);
        memchr::memchr_iter(*first, end)
            .find(|at| end.get(*at..).is_some_and(|rest| token.starts_with(rest)))
            .map_or(0, |at| end.len() - at)
    }
}
