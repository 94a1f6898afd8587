//! What carries no mark costs next to nothing: how many instructions of httpd's process the module adds to a request. Deterministic, so
//! that a change that costs more is seen.

use std::env;
use std::fs;
use std::path::PathBuf;

use support::{Handler, Httpd, Instructions, Mpm, can_count};

const PHP: &str = "<?php header('Content-Type: text/plain'); echo str_repeat(\"small\\n\", 100);";

const CGI: &str = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n%0600d' 0\n";

/// The mark that programs have which may finish, and do not.
const LATE: &str = "FinishRequest On\nSetEnv finish-request late";

/// Configurations, and how many instructions each may add.
type Limits = &'static [(&'static str, i64)];

/// Each page, its handler if that is not httpd's own, and what each configuration may add: what it does, and a margin. That is large for a
/// script: whether httpd waits for its output once or twice is a matter of some 2,200 instructions. Some 6,600 of what a late mark adds are httpd's own,
/// for any variable of `SetEnv`: it makes the environment of a request that has one in a table of its own, and merges the two.
const PAGES: [(&str, Option<Handler>, Limits); 4] = [
    ("/small.txt", None, &[("FinishRequest Off", 100), ("FinishRequest On", 500), ("FinishRequest Auto", 500)]),
    (
        "/small.php",
        Some(Handler::ModPhp),
        &[("FinishRequest Off", 180), ("FinishRequest On", 2_300), ("FinishRequest Auto", 2_800)],
    ),
    (
        "/small.cgi",
        Some(Handler::Cgi),
        &[("FinishRequest Off", 2_500), ("FinishRequest On", 5_500), ("FinishRequest Auto", 6_000), (LATE, 18_500)],
    ),
    ("/small.php", Some(Handler::ModFcgid), &[("FinishRequest On", 4_500), (LATE, 17_500)]),
];

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
        let name = handler.map_or_else(|| page.to_owned(), |handler| format!("{page} ({handler:?})"));
        if let Some(missing) = handler.and_then(|handler| handler.missing(Mpm::Prefork)) {
            println!("not tried: {name}: {missing}");
            continue;
        }
        let without = count(&format!("{name}.without"), page, start(handler, None));
        println!("{name}: {} (± {}) without the module", without.median, without.spread);
        for (config, limit) in limits {
            let setting = config.replace('\n', ", ");
            let with = count(&format!("{name}.{setting}"), page, start(handler, Some(config)));
            let added = with.median.cast_signed() - without.median.cast_signed();
            println!("{name}, {setting}: {added:+} (± {}), of {limit}", with.spread);
            if added > *limit {
                exceeded.push(format!("{name} with '{setting}' takes {added} more, and may take {limit}"));
            }
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
    httpd
}
