//! What carries no mark costs next to nothing: how many instructions of httpd's process the module adds to a request. Deterministic, so
//! that a change that costs more is seen.

use std::env;
use std::fs;
use std::path::PathBuf;

use support::{Handler, Httpd, Instructions, Mpm, can_count};

const PHP: &str = "<?php header('Content-Type: text/plain'); echo str_repeat(\"small\\n\", 100);";

const CGI: &str = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n%0600d' 0\n";

/// Each page, its handler if that is not httpd's own, and what `Off`, `On` and `Auto` may add: what they do, and a margin. That is large for a
/// script: whether httpd waits for its output once or twice is a matter of some 2,200 instructions.
const PAGES: [(&str, Option<Handler>, [i64; 3]); 3] = [
    ("/small.txt", None, [100, 500, 500]),
    ("/small.php", Some(Handler::ModPhp), [180, 2_300, 2_800]),
    ("/small.cgi", Some(Handler::Cgi), [2_500, 5_500, 6_000]),
];

const SETTINGS: [&str; 3] = ["Off", "On", "Auto"];

/// Of the module as it is built for use: the tests' own has not been optimised.
#[test]
#[ignore = "make check: minutes"]
fn of_an_unmarked_request() {
    if !can_count() || env::var_os("MOD_FINISH_REQUEST_SO").is_none() {
        println!(
            "not tried: how many instructions a request takes; it needs valgrind, and MOD_FINISH_REQUEST_SO, an optimised module"
        );
        return;
    }
    let mut exceeded = Vec::new();
    for (page, handler, limits) in PAGES {
        if let Some(missing) = handler.and_then(|handler| handler.missing(Mpm::Prefork)) {
            println!("not tried: {page}: {missing}");
            continue;
        }
        let without = count("without", page, start(handler, None));
        println!("{page}: {} (± {}) without the module", without.median, without.spread);
        for (setting, limit) in SETTINGS.into_iter().zip(limits) {
            let with = count(setting, page, start(handler, Some(setting)));
            let added = with.median.cast_signed() - without.median.cast_signed();
            println!("{page}, {setting}: {added:+} (± {}), of {limit}", with.spread);
            if added > limit {
                exceeded
                    .push(format!("{page} with 'FinishRequest {setting}' takes {added} more, and may take {limit}"));
            }
        }
    }
    assert!(exceeded.is_empty(), "{exceeded:#?}");
}

/// With `PROFILES=folder` callgrind's files are kept there.
fn count(setting: &str, page: &str, httpd: Httpd) -> Instructions {
    let counted = httpd.instructions(page);
    if let Some(folder) = env::var_os("PROFILES") {
        fs::copy(&counted.profile, PathBuf::from(folder).join(format!("{}.{setting}", &page[1..])))
            .expect("the folder");
    }
    httpd.stop();
    counted
}

fn start(handler: Option<Handler>, mode: Option<&str>) -> Httpd {
    // All responses have the same length: no header counts down, and no ETag is weak while its file is new.
    let builder = Httpd::builder(Mpm::Prefork).config("MaxKeepAliveRequests 0\nFileETag None\nLogLevel warn").counted();
    let builder = handler.into_iter().fold(builder, support::Builder::handler);
    let httpd = match mode {
        Some(mode) => builder.config(&format!("FinishRequest {mode}")).start(),
        None => builder.without_module().start(),
    };
    httpd.install("small.txt", &"small\n".repeat(100));
    httpd.install("small.php", PHP);
    httpd.install("small.cgi", CGI);
    httpd
}
