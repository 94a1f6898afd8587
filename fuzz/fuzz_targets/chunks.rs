//! The end of a body in chunks: any bytes decode as the plain reading does, and what was chunked
//! comes back.
#![no_main]

use libfuzzer_sys::fuzz_target;
use mod_finish_request::rules::ending::model::{self, Close};
use mod_finish_request::rules::ending::{Chunks, Ending};

fuzz_target!(|input: ([u8; 4], &[u8])| {
    let (cuts, body) = input;
    check(body, &cuts);

    // The same bytes as content, in chunks as long as the cuts say, and as what comes after it.
    let mut chunked = Vec::new();
    for chunk in model::pieces(body, &cuts) {
        if !chunk.is_empty() {
            chunked.extend(format!("{:x}\r\n", chunk.len()).bytes());
            chunked.extend(chunk);
            chunked.extend(b"\r\n");
        }
    }
    chunked.extend(b"0\r\n\r\n");
    chunked.extend(body);
    let outcome = check(&chunked, &cuts);
    assert!(outcome.body == body && outcome.close == Close::Ended);
});

fn check(body: &[u8], cuts: &[u8]) -> model::Outcome {
    let run = |pieces| model::run(Ending::Chunks(Chunks::new()), pieces);
    let outcome = run(vec![body]);
    assert_eq!(run(body.chunks(1).collect()), outcome);
    assert_eq!(run(model::pieces(body, cuts)), outcome);
    assert_eq!(outcome.clone().without_reason(), model::chunks(body).without_reason());
    outcome
}
