//! The grammar of marks against a regular expression, and the precedence of several against its
//! wording.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mod_finish_request::rules::mark::{self, Choice, Mark, Said, Source, Token};
use mod_finish_request::rules::quote;
use regex::bytes::Regex;
use std::sync::LazyLock;

static GRAMMAR: LazyLock<Regex> = LazyLock::new(|| {
    let argument = r#"(?:([0-9a-z!#$%&'*+.^_`|~-]+)|"((?s:[^"\\]|\\.)*)")"#;
    let expression = format!(r"(?i-u)\A[ \t;]*(?:(on)|(off)|(flush)|(late)|length={argument}|boundary={argument})[ \t;]*\z");
    Regex::new(&expression).unwrap()
});

/// What a value means; `None` where it does not parse.
fn model(value: &[u8]) -> Option<Mark> {
    let found = GRAMMAR.captures(value)?;
    let argument = |bare, quoted| {
        let mut bytes = found.get(bare).or(found.get(quoted))?.as_bytes().to_vec();
        let mut at = 0;
        while at < bytes.len() {
            if bytes[at] == b'\\' {
                bytes.remove(at);
            }
            at += 1;
        }
        Some(bytes)
    };
    if found.get(1).is_some() {
        Some(Mark::On)
    } else if found.get(2).is_some() {
        Some(Mark::Off)
    } else if found.get(3).is_some() {
        Some(Mark::Flush)
    } else if found.get(4).is_some() {
        Some(Mark::Late)
    } else if let Some(number) = argument(5, 6) {
        let digits = number.iter().all(u8::is_ascii_digit);
        let number: i64 = std::str::from_utf8(&number).ok()?.parse().ok()?;
        digits.then_some(Mark::Length(number as u64))
    } else {
        let token = argument(7, 8)?;
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(byte);
        let fits = (16..=70).contains(&token.len()) && token.iter().all(allowed);
        (fits && *token.last()? != b' ').then(|| Mark::Boundary(Token::new(&token).unwrap()))
    }
}

fuzz_target!(|input: (u8, &[u8])| {
    let (flags, text) = input;
    let (mut header, mut env) = (Vec::new(), Vec::new());
    for (at, value) in text.split(|&byte| byte == b'\n').enumerate() {
        assert_eq!(mark::parse(value).ok(), model(value), "{}", value.escape_ascii());
        let shown = quote::escaped(value);
        assert!(shown.len() <= 4 * 96 + 3 && shown.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        if (flags >> (at % 4)) & 1 == 0 { &mut header } else { &mut env }.push(value);
    }

    let api = flags & 0x10 != 0;
    let auto = flags & 0x20 != 0;
    let said = Said { api, header: &header, env: &env, auto };
    let (choice, rejected) = mark::choose(&said);

    let marks: Vec<_> = header.iter().chain(&env).map(|value| model(value)).collect();
    let first = |values: &[&[u8]]| values.first().and_then(|value| model(value));
    let expected = if marks.contains(&Some(Mark::Off)) {
        Choice::Off
    } else if marks.contains(&None) || header.len() > 1 || first(&header) == Some(Mark::Late) {
        Choice::Unmarked
    } else if api {
        Choice::Marked(Mark::Flush, Source::Api)
    } else if let Some(mark) = first(&header) {
        Choice::Marked(mark, Source::Header)
    } else if let Some(mark) = first(&env).filter(|mark| *mark != Mark::Late) {
        Choice::Marked(mark, Source::Env)
    } else if auto {
        Choice::Declared
    } else {
        Choice::Unmarked
    };
    assert_eq!(choice, expected);
    let all_parse = !marks.contains(&None) && !header.iter().any(|value| model(value) == Some(Mark::Late));
    let repeated = header.len() > 1 && choice != Choice::Off;
    assert_eq!(rejected.is_empty(), all_parse && !repeated);
    for value in rejected {
        assert!(value.error.to_string().is_ascii());
    }
});
