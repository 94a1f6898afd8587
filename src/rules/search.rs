//! The search for a token in a body that comes in pieces.

use memchr::memmem::Finder;

use super::mark::Token;

/// Looks for the first place of a token in a body.
///
/// However the body is cut into pieces, the answer is the same. Bytes are kept only while they may be the token's beginning: always
/// fewer than the token has, and as they are its beginning they need no room.
#[derive(Clone, Debug)]
pub struct Search {
    token: Token,
    finder: Box<Finder<'static>>,
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
        Self { token, finder: Box::new(Finder::new(token.as_bytes()).into_owned()), kept: 0 }
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
        match self.finder.find(piece) {
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

    /// Returns how many bytes of the token the piece ends in, less than all.
    fn tail(&self, piece: &[u8]) -> usize {
        let token = self.token();
        let Some((first, longest)) = token.first().zip(token.len().checked_sub(1)) else { return 0 };
        let end = piece.get(piece.len().saturating_sub(longest)..).unwrap_or(piece);
        memchr::memchr_iter(*first, end)
            .find(|at| end.get(*at..).is_some_and(|rest| token.starts_with(rest)))
            .map_or(0, |at| end.len() - at)
    }
}
