//! The digits of a late mark: any split finds what a plain search finds, and flushes show fewer than eight of them.
#![no_main]

use libfuzzer_sys::{arbitrary, arbitrary::Arbitrary, fuzz_target};
use mod_finish_request::rules::digits::Digits;
use mod_finish_request::rules::ending::model;
use mod_finish_request::rules::late::{Late, SECRET};

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    /// What the digits are made of, over and over.
    unit: &'a [u8],
    cuts: [u8; 4],
    flushed: bool,
    body: Vec<Part<'a>>,
}

#[derive(Arbitrary, Debug)]
enum Part<'a> {
    Digits { from: u8, to: u8 },
    Other(&'a [u8]),
}

fuzz_target!(|input: Input<'_>| {
    // Few of them, so that they repeat themselves in more than one way.
    let unit = if input.unit.is_empty() { &[0][..] } else { input.unit };
    let text: String = unit.iter().cycle().take(32).map(|byte| char::from(b'0' + byte % 3)).collect();
    let digits = Digits::from_text(&text).unwrap();
    let token = text.repeat(2).into_bytes();

    let mut body = Vec::new();
    for part in &input.body {
        match part {
            Part::Digits { from, to } => {
                let to = usize::from(*to).min(token.len());
                body.extend(&token[usize::from(*from).min(to)..to]);
            }
            Part::Other(bytes) => body.extend(*bytes),
        }
    }
    let place = body.windows(token.len()).position(|window| window == token);
    let cut = (SECRET..token.len()).rev().find(|length| body.ends_with(&token[..*length]));
    let expected = &body[..place.unwrap_or(body.len() - cut.unwrap_or(0))];

    let (mut late, mut out, mut found) = (Late::new(&digits), Vec::new(), false);
    for piece in model::pieces(&body, &input.cuts) {
        let seen = late.next(piece);
        out.extend(seen.restored);
        out.extend(&piece[..seen.body]);
        found = seen.found.is_some();
        if found {
            break;
        }
        if input.flushed {
            out.extend(late.pass());
        }
    }
    if !found {
        out.extend(late.end());
    }
    assert_eq!(found, place.is_some());
    let more = out.strip_prefix(expected).expect("what comes out begins with the body");
    assert!(if input.flushed { more.len() < SECRET && token.starts_with(more) } else { more.is_empty() });
});
