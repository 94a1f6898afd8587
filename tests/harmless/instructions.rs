//! What carries no mark costs next to nothing: how many instructions of httpd's process the module adds to a request. Deterministic, so
//! that a change that costs more is seen.

use std::env;
use std::fs;
use std::path::PathBuf;

use support::machine::not_tried;
use support::{Handler, Httpd, Instructions, Mpm, can_count};

const PHP: &str = "<?php header('Content-Type: text/plain'); echo str_repeat(\"small\\n\", 100);";

const CGI: &str = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n%s' \"$(printf 'small %.0s' $(seq 100))\"\n";

/// The search for the digits of a late mark looks more closely at such a page.
const ZEROS: &str = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n%0600d' 0\n";

/// The mark that programs have which may finish, and do not.
const LATE: &str = "FinishRequest On\nSetEnv finish-request late";

/// What that is compared with. Some 6,600 instructions are httpd's own, for any variable of `SetEnv`: it makes the environment of a request that has
/// one in a table of its own, and merges the two.
const NOT_LATE: &str = "FinishRequest On\nSetEnv finish-at-once late";

/// Configurations, and how many instructions each may add to those of httpd without the module.
type Limits = &'static [(&'static str, i64)];

/// Each page, its handler if that is not httpd's own, what each configuration may add, which is what it does, and a margin, and how many thousandths of
/// the same page with [`NOT_LATE`] the mark may add. The margin is large for a script: whether httpd waits for its output once or twice is a matter of
/// some 2,200 instructions. And whether a string of httpd's just fits into its pool's block, or is copied to the next, is one of a hundred: each record of a
/// connection or request that a module keeps moves that.
const PAGES: [(&str, Option<Handler>, Limits, Option<i64>); 5] = [
    ("/small.txt", None, &[("FinishRequest Off", 200), ("FinishRequest On", 550), ("FinishRequest Auto", 550)], None),
    (
        "/small.php",
        Some(Handler::ModPhp),
        &[("FinishRequest Off", 250), ("FinishRequest On", 1_550), ("FinishRequest Auto", 2_050)],
        None,
    ),
    (
        "/small.cgi",
        Some(Handler::Cgi),
        &[("FinishRequest Off", 2_500), ("FinishRequest On", 4_500), ("FinishRequest Auto", 5_000)],
        Some(52),
    ),
    ("/digits.cgi", Some(Handler::Cgi), &[], Some(70)),
    ("/small.php", Some(Handler::ModFcgid), &[("FinishRequest On", 3_400)], Some(42)),
];

/// Of the module as it is built for use: the tests' own has not been optimised.
#[test]
#[ignore = "make check: minutes"]
fn of_an_unmarked_request() {
    if !can_count() || env::var_os("MOD_FINISH_REQUEST_SO").is_none() {
        not_tried(
            "how many instructions a request takes; it needs valgrind, and MOD_FINISH_REQUEST_SO, an optimised module",
        );
        return;
    }
    let mut exceeded = Vec::new();
    for (page, handler, limits, late) in PAGES {
        let name = handler.map_or_else(|| page.to_owned(), |handler| format!("{page} ({handler:?})"));
        if let Some(missing) = handler.and_then(|handler| handler.missing(Mpm::Prefork)) {
            not_tried(&format!("{name}: {missing}"));
            continue;
        }
        let of = |config: Option<&str>| {
            let setting = config.unwrap_or("without the module").replace('\n', ", ");
            let counted = count(&format!("{name}.{setting}"), page, start(handler, config));
            println!("{name}, {setting}: {} (± {}), at least {}", counted.median, counted.spread, counted.least);
            (counted, format!("{name} with '{setting}'"))
        };
        let mut check = |added: i64, name: String, limit: i64| {
            println!("{name}: {added:+}, of {limit}");
            if added > limit {
                exceeded.push(format!("{name} takes {added} more, and may take {limit}"));
            }
        };
        if !limits.is_empty() {
            let without = of(None);
            for (config, limit) in limits {
                let (counted, name) = of(Some(config));
                check(counted.median.cast_signed() - without.0.median.cast_signed(), name, *limit);
            }
        }
        if let Some(thousandths) = late {
            let ((not_late, _), (counted, name)) = (of(Some(NOT_LATE)), of(Some(LATE)));
            let not_late = not_late.least.cast_signed();
            check(counted.least.cast_signed() - not_late, name, not_late * thousandths / 1000);
        }
    }
    assert!(exceeded.is_empty(), "{exceeded:#?}");
}

/// With `PROFILES=folder` callgrind's files are kept there.
fn count(name: &str, page: &str, httpd: Httpd) -> Instructions {
    let counted = httpd.instructions(page);
    if let Some(folder) = env::var_os("PROFILES") {
        let name = name.trim_start_matches('/').replace([' ', ','], "_");
        fs::copy(&counted.profile, PathBuf::from(folder).join(name)).expect("the folder");
    }
    httpd.stop();
    counted
}

fn start(handler: Option<Handler>, config: Option<&str>) -> Httpd {
    // All responses have the same length: no header counts down, and no ETag is weak while its file is new.
    let builder = Httpd::builder(Mpm::Prefork)
        .modules(&["env"])
        .config("MaxKeepAliveRequests 0\nFileETag None\nLogLevel warn")
        .counted();
    let builder = handler.into_iter().fold(builder, support::Builder::handler);
    let httpd = match config {
        Some(config) => builder.config(config).start(),
        None => builder.without_module().start(),
    };
    httpd.install("small.txt", &"small\n".repeat(100));
    httpd.install("small.php", PHP);
    httpd.install("small.cgi", CGI);
    httpd.install("digits.cgi", ZEROS);
    httpd
}
