//! The end where a token stands.

use super::Verdict;
use crate::rules::mark::Token;
use crate::rules::search::Search;

/// Ends a body at the first place of a token.
#[derive(Clone, Debug)]
pub struct Boundary {
    /// The kept bytes were dropped.
    search: Box<Search>,
    found: bool,
}

impl Boundary {
    /// A search for `token`, in a body of which nothing has come yet.
    pub fn new(token: Token) -> Self {
        Self { search: Box::new(Search::new(token)), found: false }
    }

    /// The token.
    pub fn token(&self) -> &[u8] {
        self.search.token()
    }

    /// The bytes that are kept at the moment: the token's beginning, never all of it.
    pub fn held(&self) -> &[u8] {
        self.token().get(..self.search.kept()).unwrap_or_default()
    }

    /// The verdict on the next bytes of the body.
    pub fn next(&mut self, input: &[u8]) -> Verdict {
        if self.found {
            return Verdict::End;
        }
        if input.is_empty() {
            return Verdict::More;
        }
        let step = self.search.look(input);
        if step.restored > 0 {
            self.search.restore(step.restored);
            Verdict::Restore(step.restored)
        } else if step.body > 0 {
            // The bytes that follow are looked at by themselves: the end comes first in it, or is all of it.
            Verdict::Pass(step.body)
        } else {
            self.search.next(input);
            self.found = step.found;
            if step.found { Verdict::End } else { Verdict::Drop(input.len()) }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::super::Ending;
    use super::super::model::{self, Close, Outcome};
    use super::*;
    use proptest::prelude::*;

    const TOKEN: &[u8] = b"aaabaaabaaabaaac";

    fn boundary(token: &[u8]) -> Boundary {
        Boundary::new(Token::new(token).unwrap())
    }

    fn run<'a>(token: &[u8], pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
        model::run(Ending::Boundary(boundary(token)), pieces)
    }

    fn ended(body: &[u8]) -> Outcome {
        Outcome { body: body.to_vec(), close: Close::Ended }
    }

    fn open(body: &[u8]) -> Outcome {
        Outcome { body: body.to_vec(), close: Close::Open }
    }

    #[test]
    fn the_first_token_ends_the_body() {
        assert_eq!(run(TOKEN, [TOKEN]), ended(b""));
        assert_eq!(run(TOKEN, [&b"text aaabaaabaaabaaac more aaabaaabaaabaaac"[..]]), ended(b"text "));
        assert_eq!(run(TOKEN, [&b"aaabaaabaaabaaabaaac"[..]]), ended(b"aaab"));
    }

    #[test]
    fn without_the_token_all_is_body() {
        assert_eq!(run(TOKEN, []), open(b""));
        assert_eq!(run(TOKEN, [&b"aaabaaabaaabaaa"[..], b""]), open(b"aaabaaabaaabaaa"));
        assert_eq!(run(TOKEN, [&b"\0\xffaaab"[..]]), open(b"\0\xffaaab"));
    }

    #[test]
    fn the_token_is_found_across_every_split() {
        let body = [b"aab aaabaaabaaabaaab", TOKEN, b"after"].concat();
        for first in 0..=body.len() {
            for second in first..=body.len() {
                let pieces = [&body[..first], &body[first..second], &body[second..]];
                assert_eq!(run(TOKEN, pieces), ended(b"aab aaabaaabaaabaaab"));
            }
        }
    }

    #[test]
    fn kept_bytes_come_out_before_new_ones() {
        let mut boundary = boundary(TOKEN);
        assert_eq!(boundary.next(b"xyaaabaaab"), Verdict::Pass(2));
        assert_eq!(boundary.next(b"aaabaaab"), Verdict::Drop(8));
        assert_eq!(boundary.held(), b"aaabaaab");
        assert_eq!(boundary.next(b"aaabaaabx"), Verdict::Restore(8));
        assert_eq!(boundary.held(), b"");
        assert_eq!(boundary.next(b"aaabaaabx"), Verdict::Pass(9));
        assert_eq!(boundary.next(b""), Verdict::More);
    }

    #[test]
    fn part_of_the_kept_bytes_may_stay() {
        let mut boundary = boundary(TOKEN);
        assert_eq!(boundary.next(b"aaabaaabaaab"), Verdict::Drop(12));
        assert_eq!(boundary.next(b"aaab"), Verdict::Restore(4));
        assert_eq!(boundary.held(), b"aaabaaab");
        assert_eq!(boundary.next(b"aaab"), Verdict::Drop(4));
        assert_eq!(boundary.next(b"aaacrest"), Verdict::End);
        assert_eq!(boundary.held(), b"");
        assert_eq!(boundary.next(b"rest"), Verdict::End);
    }

    #[test]
    #[cfg_attr(miri, ignore = "too large for an interpreter")]
    fn the_longest_token_of_one_character_is_searched_in_linear_time() {
        let token = [b'a'; Token::MAX];
        let mut body = [&[b'a'; Token::MAX - 1][..], b"b"].concat().repeat(10_000);
        assert_eq!(run(&token, [&body[..]]), open(&body));
        assert_eq!(run(&token, body.chunks(1)), open(&body));
        let before = body.clone();
        body.extend(token);
        assert_eq!(run(&token, body.chunks(69)), ended(&before));
    }

    /// Tokens with much repetition in them, and bodies made of their pieces.
    fn case() -> impl Strategy<Value = (Vec<u8>, Vec<u8>)> {
        let token =
            prop_oneof![
                (prop::collection::vec(prop::sample::select(&b"ab"[..]), 1..6), 16_usize..=70)
                    .prop_map(|(unit, len)| unit.iter().copied().cycle().take(len).collect::<Vec<u8>>()),
                prop::collection::vec(prop::sample::select(&b"ab"[..]), 16..=70),
                prop::collection::vec(prop::sample::select(&b"0123456789abcdef"[..]), 16..=70),
            ];
        token.prop_flat_map(|token| {
            let len = token.len();
            let own = token.clone();
            let part = (0..=len, 0..=len).prop_map(move |(a, b)| own[a.min(b)..a.max(b)].to_vec());
            let other = prop::collection::vec(prop::sample::select(&b"ab\0\xff"[..]), 0..4);
            let body = prop::collection::vec(prop_oneof![4 => part, 1 => other], 0..20);
            (Just(token), body.prop_map(|parts| parts.concat()))
        })
    }

    proptest! {
        #[test]
        fn any_split_finds_what_a_plain_search_finds((token, body) in case(), cuts in any::<Vec<u8>>()) {
            let expected = model::boundary(&token, &body);
            prop_assert_eq!(run(&token, [&body[..]]), expected.clone());
            prop_assert_eq!(run(&token, model::pieces(&body, &cuts)), expected);
        }
    }
}
