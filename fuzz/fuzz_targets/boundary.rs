//! The end where a token stands: any split finds what a plain search finds.
#![no_main]

use libfuzzer_sys::{arbitrary, arbitrary::Arbitrary, fuzz_target};
use mod_finish_request::rules::ending::{Boundary, Ending, model};
use mod_finish_request::rules::mark::Token;

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    /// What the token is made of, over and over.
    unit: &'a [u8],
    len: u8,
    cuts: [u8; 4],
    body: Vec<Part<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Part<'a> {
    Token { from: u8, to: u8 },
    Other(&'a [u8]),
}

fuzz_target!(|input: Input<'_>| {
    // Few letters, so that the token repeats itself in more than one way.
    let letters = input.unit.iter().map(|byte| b'a' + byte % 3).cycle();
    let len = Token::MIN + usize::from(input.len) % (Token::MAX - Token::MIN + 1);
    let token: Vec<u8> = letters.take(len).collect();
    let Ok(found) = Token::new(&token) else {
        return;
    };

    let mut body = Vec::new();
    for part in &input.body {
        match part {
            Part::Token { from, to } => {
                let to = usize::from(*to).min(token.len());
                body.extend(&token[usize::from(*from).min(to)..to]);
            }
            Part::Other(bytes) => body.extend(*bytes),
        }
    }

    let expected = model::boundary(&token, &body);
    let run = |pieces| model::run(Ending::Boundary(Boundary::new(found)), pieces);
    assert_eq!(run(vec![&body[..]]), expected);
    assert_eq!(run(body.chunks(1).collect()), expected);
    assert_eq!(run(model::pieces(&body, &input.cuts)), expected);
});
