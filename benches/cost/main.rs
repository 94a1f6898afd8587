//! What the module costs and what it gains, beside what others cost and gain: `make bench`. `ONLY=release,kept` has only these parts.
//!
//! What is compared takes turns, so that whatever else the machine does meets all of it; the same subject measured twice (A/A) shows
//! how much is noise. A part goes on for a fixed time, so a slow machine measures fewer rounds, not longer.
//!
//! The report is `target/bench/performance.md`, with its plots and `raw.csv` in `target/bench/performance/`. `OUT=docs` puts it into the manual.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod clients;
mod link;
mod machine;
mod measure;
mod pages;
mod parts;
mod processes;
mod report;
mod svg;

use std::env;
use std::path::PathBuf;
use std::process::ExitCode;

use report::Report;

fn main() -> ExitCode {
    let only = env::var("ONLY").unwrap_or_default();
    let wanted: Vec<&str> = only.split([',', ' ']).filter(|name| !name.is_empty()).collect();
    let known = |name: &&str| parts::PARTS.iter().any(|part| part.name == *name);
    if let Some(name) = wanted.iter().find(|name| !known(name)) {
        let names: Vec<_> = parts::PARTS.iter().map(|part| part.name).collect();
        eprintln!("There is no part '{name}' of the bench; ONLY may name {}.", names.join(", "));
        return ExitCode::from(2);
    }
    let folder = env::var_os("OUT").filter(|out| !out.is_empty()).map_or_else(
        || env::var_os("CARGO_TARGET_DIR").map_or_else(|| PathBuf::from("target"), PathBuf::from).join("bench"),
        PathBuf::from,
    );
    let mut report = Report::new();
    for part in parts::PARTS {
        if wanted.is_empty() || wanted.contains(&part.name) {
            report.begin(part);
            (part.measure)(&mut report);
            report.end();
        }
    }
    report.write(&folder);
    ExitCode::SUCCESS
}
