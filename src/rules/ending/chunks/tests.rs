#![allow(clippy::indexing_slicing)]

use super::*;
use crate::rules::ending::Ending;
use crate::rules::ending::model::{self, Close, Outcome};
use proptest::prelude::*;

fn run<'a>(pieces: impl IntoIterator<Item = &'a [u8]>) -> Outcome {
    model::run(Ending::Chunks(Chunks::new()), pieces)
}

/// Checks the outcome of a body, in one piece and in pieces of one byte.
fn decode(body: &[u8]) -> (Vec<u8>, Close) {
    let outcome = run([body]);
    assert_eq!(run(body.chunks(1)), outcome);
    assert_eq!(model::chunks(body).without_reason(), outcome.clone().without_reason());
    (outcome.body, outcome.close)
}

fn ended(content: &[u8]) -> (Vec<u8>, Close) {
    (content.to_vec(), Close::Ended)
}

fn open(content: &[u8]) -> (Vec<u8>, Close) {
    (content.to_vec(), Close::Open)
}

fn broken(content: &[u8], fault: Fault) -> (Vec<u8>, Close) {
    (content.to_vec(), Close::Broken(fault))
}

#[test]
fn content_comes_out_without_its_framing() {
    assert_eq!(decode(b"0\r\n\r\n"), ended(b""));
    assert_eq!(decode(b"5\r\nhello\r\n0\r\n\r\n"), ended(b"hello"));
    assert_eq!(
        decode(b"1\r\na\r\nB\r\n0123456789a\r\nb\r\n0123456789b\r\n0\r\n\r\n"),
        ended(b"a0123456789a0123456789b")
    );
    assert_eq!(decode(b"4\r\n\r\n0\r\r\n0\r\n\r\n"), ended(b"\r\n0\r"));
    assert_eq!(decode(b"00000000000000000000002\r\nab\r\n00000000000000000000\r\n\r\n"), ended(b"ab"));
}

#[test]
fn what_follows_the_last_chunk_is_no_part_of_it() {
    assert_eq!(decode(b"1\r\na\r\n0\r\n\r\nlate"), ended(b"a"));
    assert_eq!(decode(b"0\r\n\r\n5\r\nhello\r\n0\r\n\r\n"), ended(b""));
}

#[test]
fn extensions_and_trailer_fields_are_dropped() {
    assert_eq!(decode(b"1;a\r\na\r\n1 ; b=c;d\r\nb\r\n0;e=\"f;\\\"\t g\"\r\n\r\n"), ended(b"ab"));
    assert_eq!(decode(b"1 \t\r\na\r\n1;\r\nb\r\n0 \r\n\r\n"), ended(b"ab"));
    assert_eq!(decode(b"1;\xe9\r\na\r\n0\r\nX-Sum: \xe9 1\r\nEmpty:\r\n\r\nlate"), ended(b"a"));
}

#[test]
fn a_body_cut_short_stays_open() {
    let body = b"A;x\r\n0123456789\r\n0\r\nName: value\r\n\r\n";
    for len in 0..body.len() {
        let content = &body[..len.min(15)];
        assert_eq!(decode(&body[..len]), open(content.get(5..).unwrap_or_default()), "{len} bytes");
    }
    assert_eq!(decode(body), ended(b"0123456789"));
}

#[test]
fn what_is_no_size_breaks_the_body() {
    for body in [&b"<html>"[..], b"\r\n", b" 1\r\n", b"-1\r\n", b"+1\r\n", b";a\r\n", b"\0", b"\xff", b"\n"] {
        assert_eq!(decode(body), broken(b"", Fault::Size), "{}", body.escape_ascii());
    }
    assert_eq!(decode(b"1\r\na\r\n\r\n0\r\n\r\n"), broken(b"a", Fault::Size));
    for body in [&b"0x1\r\n"[..], b"1g", b"1 2\r\n", b"1\0", b"1;\0", b"1;\x7f", b"1.0", b"1,"] {
        assert_eq!(decode(body), broken(b"", Fault::Extension), "{}", body.escape_ascii());
    }
}

#[test]
fn lines_end_in_cr_lf() {
    for body in [&b"1\na"[..], b"1 \n", b"1;x\n", b"1\r\r\n", b"1\ra", b"0\r\n\n", b"0\r\n\rx", b"0\r\na: b\n"] {
        assert_eq!(decode(body), broken(b"", Fault::LineEnd), "{}", body.escape_ascii());
    }
    assert_eq!(decode(b"0\r\na: b\rc"), broken(b"", Fault::LineEnd));
    assert_eq!(decode(b"1\r\na\n"), broken(b"a", Fault::LineEnd));
    assert_eq!(decode(b"1\r\na\rx"), broken(b"a", Fault::LineEnd));
}

#[test]
fn a_chunk_is_as_long_as_it_says() {
    assert_eq!(decode(b"1\r\nab\r\n0\r\n\r\n"), broken(b"a", Fault::Data));
    assert_eq!(decode(b"1\r\na0\r\n\r\n"), broken(b"a", Fault::Data));
}

#[test]
fn a_size_fits_63_bits() {
    assert_eq!(decode(b"7fffffffffffffff\r\nabc"), open(b"abc"));
    assert_eq!(decode(b"07FFFFFFFFFFFFFFF\r\nabc"), open(b"abc"));
    for body in [
        &b"8000000000000000\r\n"[..],
        b"ffffffffffffffff",
        b"10000000000000000",
        b"fffffffffffffffffffffffffffffffffffff",
    ] {
        assert_eq!(decode(body), broken(b"", Fault::TooLarge), "{}", body.escape_ascii());
    }
}

#[test]
fn a_trailer_line_is_a_field() {
    for body in
        [&b"0\r\nlate text"[..], b"0\r\n<html>", b"0\r\n: a", b"0\r\na: b\r\n c", b"0\r\nname\r\n", b"0\r\na:\0"]
    {
        assert_eq!(decode(body), broken(b"", Fault::Trailer), "{}", body.escape_ascii());
    }
}

#[test]
#[cfg_attr(miri, ignore = "too large for an interpreter")]
fn lines_are_bounded() {
    let line = |len: usize| [b"1;", &b"x".repeat(len - 4)[..], b"\r\na\r\n0\r\n\r\n"].concat();
    assert_eq!(decode(&line(8190)), ended(b"a"));
    assert_eq!(decode(&line(8191)), broken(b"", Fault::TooLong));
    let second = [b"1\r\nb\r\n", &line(8190)[..]].concat();
    assert_eq!(decode(&second), ended(b"ba"));
    assert_eq!(decode(&b"0".repeat(8190)), open(b""));
    assert_eq!(decode(&b"0".repeat(8191)), broken(b"", Fault::TooLong));

    let trailers = |len: usize| [b"0\r\na:", &b"x".repeat(len - 6)[..], b"\r\n\r\n"].concat();
    assert_eq!(decode(&trailers(65_536)), ended(b""));
    assert_eq!(decode(&trailers(65_537)), broken(b"", Fault::TooLong));
    let fields = [b"0\r\n", &b"a:\r\n".repeat(16_384)[..], b"\r\n"].concat();
    assert_eq!(decode(&fields), broken(b"", Fault::TooLong));
}

#[test]
fn the_content_is_passed_in_runs() {
    let mut chunks = Chunks::new();
    assert_eq!(chunks.next(b""), Verdict::More);
    assert_eq!(chunks.next(b"5\r\nhello\r\n2"), Verdict::Drop(3));
    assert_eq!(chunks.next(b"hello\r\n2"), Verdict::Pass(5));
    assert_eq!(chunks.next(b"\r\n2"), Verdict::Drop(3));
    assert_eq!(chunks.next(b"\r\nx"), Verdict::Drop(2));
    assert!(!chunks.is_complete());
    assert_eq!(chunks.next(b"xy"), Verdict::Pass(2));
    assert_eq!(chunks.next(b"\r\n0\r\n\r\nlate"), Verdict::End);
    assert!(chunks.is_complete());
    assert_eq!(chunks.next(b"late"), Verdict::End);
}

/// Bodies of sound parts, some with a fault in them.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let chunk = (
        "0{0,3}",
        prop::collection::vec(any::<u8>(), 1..40),
        any::<bool>(),
        prop_oneof![4 => Just(""), 1 => Just(" "), 1 => Just(";a=b"), 1 => Just(" ; a=\"\\\"\"")],
    )
        .prop_map(|(zeros, content, upper, extension)| {
            let size = content.len();
            let size = if upper { format!("{size:X}") } else { format!("{size:x}") };
            [zeros.as_bytes(), size.as_bytes(), extension.as_bytes(), b"\r\n", &content, b"\r\n"].concat()
        });
    let last = "0{1,3}( |;a)?\r\n([a-c]{1,3}:[ -~]{0,5}\r\n){0,2}\r\n".prop_map(String::into_bytes);
    let noise = prop::collection::vec(prop::sample::select(&b"\r\n0 ;:\"1af\tg\x00\x7f\xff"[..]), 0..6);
    let fault = prop::option::of((any::<prop::sample::Index>(), 0_usize..3, noise.clone()));
    (prop::collection::vec(chunk, 0..6), last, noise, fault).prop_map(|(chunks, last, late, fault)| {
        let mut body = [chunks.concat(), last, late].concat();
        if let Some((at, cut, noise)) = fault {
            let at = at.index(body.len());
            body.splice(at..body.len().min(at + cut), noise);
        }
        body
    })
}

proptest! {
    #[test]
    fn any_split_decodes_as_the_plain_reading(body in body(), cuts in any::<Vec<u8>>()) {
        let whole = run([&body[..]]);
        prop_assert_eq!(whole.clone().without_reason(), model::chunks(&body).without_reason());
        prop_assert_eq!(run(body.chunks(1)), whole.clone());
        prop_assert_eq!(run(model::pieces(&body, &cuts)), whole);
    }

    #[test]
    fn what_was_chunked_comes_back(content in prop::collection::vec(any::<u8>(), 0..300), sizes in prop::collection::vec(1_u8..50, 1..5)) {
        let mut body = Vec::new();
        for chunk in model::pieces(&content, &sizes).into_iter().filter(|chunk| !chunk.is_empty()) {
            body.extend(format!("{:x}\r\n", chunk.len()).bytes());
            body.extend(chunk);
            body.extend(b"\r\n");
        }
        body.extend(b"0\r\n\r\nlate");
        prop_assert_eq!(decode(&body), ended(&content));
    }
}
