//! Modules written in C finish a response with the optional function `ap_finish_request()`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Mutex;

use support::{Client, Httpd, Mpm, Protocol, tools, wait_for};

const BODY: &[u8] = b"first half, second half";

on_every_mpm!(finishes);

fn finishes(mpm: Mpm) {
    let httpd = start(mpm, "FinishRequest On\nCustomLog \"${ROOT}/notes.log\" \"%{finish-request}n %q\"");
    for &protocol in mpm.protocols() {
        for how in [
            "how=collected",
            "how=flushed",
            "mark=length=23",
            "mark=flush",
            "how=flushed&mark=boundary=0123456789abcdef",
            // The last of the body may be the beginning of that.
            "how=flushed&mark=boundary=half-and-much-more",
        ] {
            let background = httpd.background();
            let path = format!("{}&{how}", background.query("test"));
            let response = Client::connect(&httpd, protocol).get(&path, &[]).released();
            assert_eq!(response.body, BODY, "{protocol:?} {how}");
            assert_eq!(response.header("X-Finish-Request"), None);
            background.wait_for_begin();
            if how.starts_with("how") {
                wait_for("a line in the access log", || {
                    let log = std::fs::read_to_string(httpd.root().join("notes.log")).unwrap();
                    log.contains(&format!("api ?id={}&{how}\n", background.id())).then_some(())
                });
            }
            assert!(!background.is_done());
            background.open_gate();
            assert_eq!(background.wait_for_done().errors, "", "{protocol:?} {how}");
        }
    }
    httpd.stop();
}

on_every_mpm!(a_handler_that_ends_its_response_by_itself_and_works_on);

/// Whatever the mark was: one that has come to nothing by then, or one of a length that was not reached by a flush.
fn a_handler_that_ends_its_response_by_itself_and_works_on(mpm: Mpm) {
    for config in ["FinishRequest On", "FinishRequest On\nFinishRequestConnection Keep"] {
        let httpd = start(mpm, config);
        for &protocol in mpm.protocols() {
            for mark in ["flush", "boundary=0123456789abcdef", "length=23"] {
                for how in ["own-end", "own-end-alone"] {
                    if mark == "flush" && how == "own-end-alone" {
                        // It ends at the flush, before the handler says so.
                        continue;
                    }
                    let background = httpd.background();
                    let path = format!("{}&how={how}&mark={mark}", background.query("test"));
                    let client = Client::connect(&httpd, protocol);
                    let response = client.get(&path, &[]).response();
                    assert_eq!(response.body, BODY, "{protocol:?} {how} {mark}");
                    background.wait_for_begin();
                    assert!(!background.is_done());
                    background.open_gate();
                    assert_eq!(background.wait_for_done().errors, "", "{protocol:?} {how} {mark}");
                }
            }
        }
        httpd.stop();
    }
}

on_every_mpm!(behind_its_own_end_over_the_limit);

/// Nothing that it writes then stands before the next response.
fn behind_its_own_end_over_the_limit(mpm: Mpm) {
    for config in ["FinishRequest On", "FinishRequest On\nFinishRequestConnection Keep"] {
        let httpd = start(mpm, &format!("{config}\nFinishRequestMax 0"));
        httpd.allow_log("finish_request:warn.*FinishRequestMax");
        for &protocol in mpm.protocols() {
            for mark in ["boundary=0123456789abcdef", "length=23"] {
                for how in ["own-end", "own-end-alone"] {
                    let client = Client::connect(&httpd, protocol);
                    for _ in 0..2 {
                        let background = httpd.background();
                        background.open_gate();
                        let path = format!("{}&how={how}&mark={mark}", background.query("test"));
                        assert_eq!(client.get(&path, &[]).response().body, BODY, "{protocol:?} {how} {mark}");
                        let errors = background.wait_for_done().errors;
                        // mod_http2 says that who has all has gone.
                        let may_fail = protocol == Protocol::Http2 && errors == "could not write after the end;";
                        assert!(errors.is_empty() || may_fail, "{protocol:?} {how} {mark}: {errors}");
                    }
                }
            }
        }
        httpd.stop();
    }
}

on_every_mpm!(a_handler_that_passes_all_at_once_with_its_end_and_works_on);

/// The client has all before the work ends, and FIN where its connection is closed, however much it is; under the event MPM, which sends the rest
/// without the handler, as much as the kernel takes.
fn a_handler_that_passes_all_at_once_with_its_end_and_works_on(mpm: Mpm) {
    let bytes = if mpm == Mpm::Event { [70_000, 100_000] } else { [100_000, 5_000_000] };
    let httpd = start(mpm, "FinishRequest On");
    for &protocol in mpm.protocols() {
        for bytes in bytes {
            for mark in ["boundary=0123456789abcdef", &format!("length={bytes}")] {
                let background = httpd.background();
                let path = format!("{}&how=own-end-at-once&bytes={bytes}&mark={mark}", background.query("test"));
                let client = Client::connect(&httpd, protocol);
                let headers: &[_] = if client.http1().is_some() { &[("Connection", "close")] } else { &[] };
                let exchange = client.get(&path, headers);
                let is_plain = protocol == Protocol::Http1;
                let response = if is_plain { exchange.released() } else { exchange.response() };
                assert_eq!(response.body.len(), bytes, "{protocol:?} {mark}");
                background.wait_for_begin();
                assert!(!background.is_done(), "{protocol:?} {bytes} {mark}");
                background.open_gate();
                assert_eq!(background.wait_for_done().errors, "", "{protocol:?} {mark}");
            }
        }
    }
    httpd.stop();
}

/// What `Auto` has seen of a declared body is counted once, also behind what is yet to be read.
#[test]
fn declared_and_behind_a_pipe() {
    let httpd = start(Mpm::Event, "FinishRequest Auto");
    for &protocol in Mpm::Event.protocols() {
        let background = httpd.background();
        background.open_gate();
        let path = format!("{}&how=piped", background.query("test"));
        let headers: &[_] = if protocol == Protocol::Http2 { &[] } else { &[("Connection", "close")] };
        let response = Client::connect(&httpd, protocol).get(&path, headers).response();
        assert_eq!(response.body, BODY, "{protocol:?}");
        assert_eq!(background.wait_for_done().errors, "", "{protocol:?}");
    }
    httpd.stop();
}

#[test]
fn before_the_handler_it_is_refused_and_after_the_end_it_is_no_error() {
    let httpd = start(Mpm::Event, "FinishRequest On");
    for &protocol in Mpm::Event.protocols() {
        let background = httpd.background();
        background.open_gate();
        let path = format!("{}&how=late", background.query("test"));
        let response = Client::connect(&httpd, protocol).get(&path, &[]).response();
        assert_eq!(response.body, BODY);
        assert_eq!(response.header("X-Too-Early"), Some("not implemented"));
        assert_eq!(background.wait_for_done().errors, "", "{protocol:?}");
    }
    httpd.stop();
}

#[test]
fn where_the_module_is_off_or_the_mark_is_off_it_is_refused_and_the_response_goes_on() {
    let httpd = start(Mpm::Event, "FinishRequest On\n<Location /off/>\nFinishRequest Off\n</Location>");
    for path in ["off/test", "test"] {
        let background = httpd.background();
        background.open_gate();
        let mark = if path == "test" { "&mark=off" } else { "" };
        let path = format!("{}&how=refused{mark}", background.query(path));
        let response = Client::connect(&httpd, Protocol::Http1).get(&path, &[]).response();
        assert_eq!(response.body, [BODY, b"written after the end"].concat());
        assert_eq!(background.wait_for_done().errors, "");
    }
    httpd.stop();
}

/// FinishRequestMax holds for the function too: nothing has ended, and what is written belongs to the response.
#[test]
fn over_the_limit_it_says_so_and_the_response_goes_on() {
    let httpd = start(Mpm::Event, "FinishRequest On\nFinishRequestMax 1");
    httpd.expect_log("finish_request:warn.*1 requests are in background work, as many as FinishRequestMax allows");
    let first = httpd.background();
    let path = format!("{}&how=collected", first.query("test"));
    Client::connect(&httpd, Protocol::Http1).get(&path, &[]).released();
    first.wait_for_begin();
    for &protocol in Mpm::Event.protocols() {
        let background = httpd.background();
        background.open_gate();
        let path = format!("{}&how=full", background.query("test"));
        let response = Client::connect(&httpd, protocol).get(&path, &[]).response();
        assert_eq!(response.body, [BODY, b"written after the end"].concat(), "{protocol:?}");
        assert_eq!(background.wait_for_done().errors, "");
    }
    // A response that began with a mark, and had no place then, waits for its handler. It asks until that is said.
    let background = httpd.background();
    background.open_gate();
    let path = format!("{}&how=persistent-flushed&mark=boundary=0123456789abcdef", background.query("test"));
    let response = Client::connect(&httpd, Protocol::Http1).get(&path, &[]).response();
    assert_eq!(response.body, [BODY, b"written after the end"].concat());
    assert_eq!(background.wait_for_done().errors, "");
    // It asks again and again, until there is a place.
    let second = httpd.background();
    let client = Client::connect(&httpd, Protocol::Http1);
    let exchange = client.get(&format!("{}&how=persistent", second.query("test")), &[]);
    let refused = httpd.root().join(format!("gates/{}.refused", second.id()));
    wait_for("the function to be refused", || refused.exists().then_some(()));
    first.open_gate();
    assert_eq!(exchange.released().body, BODY);
    second.wait_for_begin();
    assert!(!second.is_done());
    second.open_gate();
    assert_eq!(second.wait_for_done().errors, "");
    httpd.stop();
}

fn start(mpm: Mpm, config: &str) -> Httpd {
    Httpd::builder(mpm)
        .modules(&["env"])
        .config(&format!(
            "LoadModule finish_test_module \"{}\"
             SetEnv GATES \"${{ROOT}}/gates\"
             <LocationMatch \"^/(off/)?test\">
               SetHandler finish-test
             </LocationMatch>
             {config}",
            test_module().display()
        ))
        .start()
}

/// The test module.
fn test_module() -> PathBuf {
    c_module("mod_finish_test")
}

/// A module in C, from `tests/api/`, built with apxs once for all tests.
pub fn c_module(name: &'static str) -> PathBuf {
    static BUILT: Mutex<BTreeMap<&str, PathBuf>> = Mutex::new(BTreeMap::new());
    let mut built = BUILT.lock().unwrap();
    let build = || {
        let project = Path::new(env!("CARGO_MANIFEST_DIR"));
        let source = format!("{name}.c");
        // Another run of the tests may be building it as well.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::copy(project.join("tests/marks/api").join(&source), folder.join(&source)).unwrap();
        let apxs = std::env::var("APXS").unwrap_or_else(|_| "apxs".to_owned());
        let mut build = Command::new(apxs);
        build.current_dir(&folder).arg("-I").arg(project.join("apxs"));
        build.args(["-Wc,-Wall", "-Wc,-Werror", "-c", &source]);
        let output = tools::run(build);
        assert!(output.status.success(), "{}", output.stderr);
        let built = folder.with_file_name(format!("{name}.so"));
        std::fs::rename(folder.join(format!(".libs/{name}.so")), &built).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
        built
    };
    built.entry(name).or_insert_with(build).clone()
}
