//! `late`: a program outside httpd ends its response by digits that it was given, twice in a row. Until then, and without them, the response is
//! the ordinary one.

use std::collections::HashSet;
use std::fs;
use std::os::unix::fs::PermissionsExt;

use support::{Backend, Background, Builder, Client, Handler, Httpd, Mpm, Protocol, Response, Speaks, body, wait_for};

use crate::judge::{assert_body, ran_to_its_end, side_by_side, write};

const LATE: &str = "FinishRequest On\nSetEnv finish-request late";

fn builder(handler: Handler, mpm: Mpm) -> Builder {
    Httpd::builder(mpm).handler(handler).modules(&["env", "filter", "deflate"])
}

fn start(builder: Builder) -> Httpd {
    let httpd = builder.start();
    httpd.install("late.cgi", include_str!("late/app.cgi"));
    httpd.install("late.php", include_str!("late/app.php"));
    httpd
}

/// The handlers that run programs outside httpd, with each MPM.
macro_rules! on_every_program_and_mpm {
    ($check:ident) => {
        mod $check {
            on_every_handler_and_mpm! { super::$check;
                mod_fcgid_on_event: ModFcgid, Event;
                mod_fcgid_on_worker: ModFcgid, Worker;
                mod_fcgid_on_prefork: ModFcgid, Prefork;
                mod_cgid_on_event: Cgi, Event;
                mod_cgid_on_worker: Cgi, Worker;
                mod_cgi_on_prefork: Cgi, Prefork;
                php_fpm_on_event: PhpFpm, Event;
                php_fpm_on_worker: PhpFpm, Worker;
                php_fpm_on_prefork: PhpFpm, Prefork;
            }
        }
    };
}

fn page(handler: Handler) -> String {
    format!("late.{}", handler.extension())
}

on_every_program_and_mpm!(ends_at_the_digits);

fn ends_at_the_digits(handler: Handler, mpm: Mpm) {
    let httpd = start(builder(handler, mpm).config(LATE));
    for &protocol in mpm.protocols() {
        let background = httpd.background();
        let path = format!("{}&do=n1000.f.d0-64.f.w.tLATE", background.query(&page(handler)));
        let response = Client::connect(&httpd, protocol).get(&path, &[]).released();
        assert!(!background.is_done());
        assert_body(&response, &body(1000));
        ran_to_its_end(&background);
    }
    httpd.stop();
}

fn executable(httpd: &Httpd, path: &str) {
    support::permit_program(&httpd.root().join("www").join(path)).unwrap();
}

/// The path of the page that does this.
fn doing(background: &Background, handler: Handler, what: &str) -> String {
    format!("{}&do={what}", background.query(&page(handler)))
}

/// A request that is finished: the client has this body, and is let go, while the work goes on.
#[track_caller]
fn finished(httpd: &Httpd, handler: Handler, protocol: Protocol, what: &str, expected: &[u8]) -> Response {
    let background = httpd.background();
    let response = Client::connect(httpd, protocol).get(&doing(&background, handler, what), &[]).released();
    assert!(!background.is_done());
    assert_body(&response, expected);
    ran_to_its_end(&background);
    response
}

/// One that is not: it ends with its program. Gives it, and the digits that stand in it.
#[track_caller]
fn ordinary(httpd: &Httpd, handler: Handler, protocol: Protocol, what: &str) -> Response {
    let background = httpd.background();
    let client = Client::connect(httpd, protocol);
    let response = client.get(&doing(&background, handler, what), &[]).response();
    assert_eq!(client.get("/background.sh", &[]).response().status, 200, "its connection goes on");
    response
}

on_every_program_and_mpm!(what_is_cut_stays_whole);

/// Over all borders, and with text around it: under event each of them, that of the pair in the middle too. Where a flush parts them, fewer
/// than eight of the digits are shown.
fn what_is_cut_stays_whole(handler: Handler, mpm: Mpm) {
    let httpd = start(builder(handler, mpm).config(LATE));
    let (cuts, protocols): (Vec<usize>, _) = match mpm {
        Mpm::Event => ((1..64).collect(), vec![Protocol::Http1, Protocol::Http2]),
        _ => (vec![1, 7, 8, 31, 32, 33, 63], vec![mpm.protocols()[0]]),
    };
    for &protocol in &protocols {
        for some in cuts.chunks(7) {
            side_by_side(some.iter().copied(), |cut: usize| {
                let background = httpd.background();
                let what = format!("tstory.d0-{cut}.f.d{cut}-64.tafter.f.w");
                let response =
                    Client::connect(&httpd, protocol).get(&doing(&background, handler, &what), &[]).released();
                assert!(!background.is_done());
                let shown = response.body.strip_prefix(b"story").unwrap();
                assert!(shown.len() < 8 && shown.len() <= cut, "{cut}: {}", shown.escape_ascii());
                ran_to_its_end(&background);
            });
        }
    }
    let protocol = protocols[0];
    let letters: String = (0..64).map(|at| format!("d{at}-{}.f.", at + 1)).collect();
    let background = httpd.background();
    let path = doing(&background, handler, &format!("tstory.{letters}w"));
    let response = Client::connect(&httpd, protocol).get(&path, &[]).released();
    assert!(response.body.len() < 5 + 8, "{}", response.body.escape_ascii());
    ran_to_its_end(&background);
    httpd.stop();
}

on_every_program_and_mpm!(what_is_cut_off_is_not_shown);

fn what_is_cut_off_is_not_shown(handler: Handler, mpm: Mpm) {
    let httpd = start(builder(handler, mpm).config(LATE));
    for &protocol in mpm.protocols() {
        for (what, shown) in [("d0-63", 0), ("d0-8", 0), ("d0-40", 0), ("d0-7", 7), ("d1-64", 31)] {
            let response = ordinary(&httpd, handler, protocol, &format!("tstory.f.{what}"));
            assert_eq!(response.body.len(), 5 + shown, "{what}: {}", response.body.escape_ascii());
            let response = ordinary(&httpd, handler, protocol, &format!("tstory.{what}"));
            assert_eq!(response.body.len(), 5 + shown, "{what}: {}", response.body.escape_ascii());
        }
        // Others follow: it was a number.
        let response = ordinary(&httpd, handler, protocol, "tstory.f.d0-40.f.tafter");
        assert_eq!((response.body.len(), response.body.ends_with(b"after")), (5 + 40 + 5, true));
    }
    httpd.stop();
}

on_every_program_and_mpm!(digits_that_stand_once_are_ordinary_output);

/// As of a page that shows its environment: only the pair ends a response, and nothing else is taken out of one.
fn digits_that_stand_once_are_ordinary_output(handler: Handler, mpm: Mpm) {
    let httpd = start(builder(handler, mpm).config(LATE));
    for &protocol in mpm.protocols() {
        for what in ["tstory.d0-32.tafter", "tstory.f.d0-32.f.tafter", "tstory.d0-10.f.d10-32.tafter"] {
            let response = ordinary(&httpd, handler, protocol, what);
            let shown = response.body.strip_prefix(b"story").and_then(|rest| rest.strip_suffix(b"after")).unwrap();
            assert_eq!((shown.len(), shown.iter().all(u8::is_ascii_hexdigit)), (32, true), "{what}");
        }
        let response = ordinary(&httpd, handler, protocol, "d0-32.t-.d0-32.t-");
        assert_eq!((response.body.len(), response.body[..33] == response.body[33..]), (66, true));
        finished(&httpd, handler, protocol, "tstory.f.d0-64.f.w", b"story");
    }
    httpd.stop();
}

on_every_program_and_mpm!(its_length_is_told_as_if_there_were_no_digits);

/// Also where the end is seen in the same moment as the last bytes, or what may be a part of the digits is all that there is: nobody knows
/// the length when the header goes.
fn its_length_is_told_as_if_there_were_no_digits(handler: Handler, mpm: Mpm) {
    let httpd = start(builder(handler, mpm).config(LATE));
    for &protocol in mpm.protocols() {
        let response = finished(&httpd, handler, protocol, "n1000.d0-64.f.w.tLATE", &body(1000));
        assert_eq!(response.header("Content-Length"), None);
        if handler == Handler::PhpFpm {
            let response = ordinary(&httpd, handler, protocol, "d0-1");
            assert_eq!((response.body.len(), response.header("Content-Length")), (1, None));
        }
    }
    httpd.stop();
}

on_every_mpm!(few_digits_are_sent_and_many_wait);

/// mod_fcgid collects, and mod_proxy_fcgi flushes nothing: a CGI program alone is seen at once.
fn few_digits_are_sent_and_many_wait(mpm: Mpm) {
    let httpd = start(builder(Handler::Cgi, mpm).config(LATE));
    for &protocol in mpm.protocols() {
        for (digits, shown) in [(7, 7), (8, 0)] {
            let (hold, client) = (httpd.background(), Client::connect(&httpd, protocol));
            let what = format!("tstory.f.d0-{digits}.f.p{}.tafter", hold.id());
            let exchange = client.get(&doing(&httpd.background(), Handler::Cgi, &what), &[]);
            let waits = httpd.root().join(format!("gates/{}.waits", hold.id()));
            wait_for("the program to wait", || waits.exists().then_some(()));
            if shown > 0 {
                wait_for("few digits", || exchange.so_far().filter(|response| response.body.len() == 5 + shown));
            } else {
                wait_for("the page", || exchange.so_far().filter(|response| response.body.len() >= 5));
            }
            assert_eq!(exchange.so_far().unwrap().body.len(), 5 + shown);
            hold.open_gate();
            assert_eq!(exchange.response().body.len(), 5 + digits + 5);
        }
    }
    httpd.stop();
}

on_every_program_and_mpm!(other_marks_decide_and_the_digits_are_not_shown);

fn other_marks_decide_and_the_digits_are_not_shown(handler: Handler, mpm: Mpm) {
    let httpd = start(builder(handler, mpm).config(LATE));
    let mark = |value: &str| format!("&header=X-Finish-Request:{value}");
    for &protocol in mpm.protocols() {
        finished(&httpd, handler, protocol, &format!("tstory.f.d0-64.f.w.tLATE{}", mark("length%3D5")), b"story");
        finished(&httpd, handler, protocol, &format!("tsto.d0-64.try.f.w.tLATE{}", mark("length%3D5")), b"story");
        let boundary = mark("boundary%3D%220123456789ABCDEFGH%22");
        finished(&httpd, handler, protocol, &format!("tsto.d0-64.try0123456789ABCDEFGH.f.w{boundary}"), b"story");
        for what in ["tsto.d0-64.try", "tsto.f.d0-64.f.try", "tsto.d0-30.f.d30-64.try", "tstory.f.d0-50"] {
            let response = ordinary(&httpd, handler, protocol, &format!("{what}{}", mark("off")));
            assert_body(&response, b"story");
            assert_eq!(response.header("X-Finish-Request"), None);
        }
    }
    httpd.stop();
}

on_every_program_and_mpm!(beside_a_header_mark_digits_that_are_split);

/// At a flush fewer than eight of them are shown, and never more, wherever it is.
fn beside_a_header_mark_digits_that_are_split(handler: Handler, mpm: Mpm) {
    let httpd = start(builder(handler, mpm).config(LATE));
    let cuts: &[usize] = if mpm == Mpm::Event { &[1, 2, 3, 4, 5, 6, 7, 8, 9, 31, 32, 33, 40, 62, 63] } else { &[7, 8] };
    for cut in cuts {
        let (background, protocol) = (httpd.background(), mpm.protocols()[cut % mpm.protocols().len()]);
        let mark = "header=X-Finish-Request:boundary%3D%22END-OF-THE-ANSWER%22";
        let what = format!("tsto.d0-{cut}.f.d{cut}-64.tryEND-OF-THE-ANSWER.f.w.tLATE&{mark}");
        let response = Client::connect(&httpd, protocol).get(&doing(&background, handler, &what), &[]).released();
        assert!(!background.is_done());
        let shown = response.body.strip_prefix(b"sto").and_then(|rest| rest.strip_suffix(b"ry")).unwrap();
        assert!(shown.len() < 8 && (*cut < 8 || shown.is_empty()), "{cut}: {}", shown.escape_ascii());
        ran_to_its_end(&background);
    }
    httpd.stop();
}

on_every_mpm!(a_marked_response_of_mod_fcgid_streams);

/// What is before a pause of its program is with the client, though the response goes on: also little of it, and all but what may be a part of the
/// digits.
fn a_marked_response_of_mod_fcgid_streams(mpm: Mpm) {
    let httpd = start(builder(Handler::ModFcgid, mpm).config(LATE));
    let mark = "header=X-Finish-Request:boundary%3D%22END-OF-THE-ANSWER%22";
    for &protocol in mpm.protocols() {
        for (before, shown) in [("tstory", 5), ("n100000", 100_000), ("tstory.d0-7", 12), ("tstory.d0-8", 5)] {
            let (hold, background, client) =
                (httpd.background(), httpd.background(), Client::connect(&httpd, protocol));
            let what = format!("{before}.f.p{}.tEND-OF-THE-ANSWER.f.w&{mark}", hold.id());
            let exchange = client.get(&doing(&background, Handler::ModFcgid, &what), &[]);
            let waits = httpd.root().join(format!("gates/{}.waits", hold.id()));
            wait_for("the program to wait", || waits.exists().then_some(()));
            wait_for(before, || exchange.so_far().filter(|response| response.body.len() >= shown));
            let so_far = exchange.so_far().unwrap();
            assert_eq!(so_far.body.len(), shown, "{before}: {}", so_far.body.escape_ascii());
            hold.open_gate();
            // It was another number.
            let all = if before.ends_with("d0-8") { shown + 8 } else { shown };
            assert_eq!(exchange.released().body.len(), all);
            assert!(!background.is_done());
            ran_to_its_end(&background);
        }
    }
    httpd.stop();
}

on_every_program_and_mpm!(over_the_limit_the_client_waits);

fn over_the_limit_the_client_waits(handler: Handler, mpm: Mpm) {
    let httpd = start(builder(handler, mpm).config(LATE).config("FinishRequestMax 0"));
    for &protocol in mpm.protocols() {
        let (background, client) = (httpd.background(), Client::connect(&httpd, protocol));
        let exchange = client.get(&doing(&background, handler, "tstory.f.d0-64.f.w.tLATE"), &[]);
        background.wait_for_begin();
        assert!(exchange.response_now().is_none());
        ran_to_its_end(&background);
        assert_body(&exchange.response(), b"story");
        assert_eq!(client.get("/background.sh", &[]).response().status, 200, "its connection goes on");
    }
    assert!(!httpd.log().contains("finished early"));
    httpd.stop();
}

on_every_program_and_mpm!(nothing_is_gained_where_the_program_ends);

/// The connection goes on, as of an ordinary response. mod_fcgid's records cannot be looked at without waiting.
fn nothing_is_gained_where_the_program_ends(handler: Handler, mpm: Mpm) {
    if handler != Handler::Cgi {
        return;
    }
    let httpd = start(builder(handler, mpm).config(LATE));
    let background = httpd.background();
    let client = Client::connect(&httpd, Protocol::Http1);
    // The last is written when the script has ended: by a process of its own, that httpd waits for.
    let response = client.get(&doing(&background, handler, "tstory.d0-64.tafter"), &[]).response();
    assert_body(&response, b"story");
    httpd.stop();
}

on_every_program_and_mpm!(a_child_process_may_write_the_digits);

fn a_child_process_may_write_the_digits(handler: Handler, mpm: Mpm) {
    if handler != Handler::Cgi {
        return;
    }
    let httpd = start(builder(handler, mpm).config(LATE));
    for &protocol in mpm.protocols() {
        finished(&httpd, handler, protocol, "tstory.f.c.w.tLATE", b"story");
    }
    httpd.stop();
}

on_every_program_and_mpm!(a_response_without_a_body_ends_with_its_header);

/// Its connection stays as it is: the next request on it waits for the work.
fn a_response_without_a_body_ends_with_its_header(handler: Handler, mpm: Mpm) {
    if handler == Handler::PhpFpm {
        // mod_proxy_fcgi passes no header on before its body.
        return;
    }
    let program = "<Files header.fcgi>\nSetHandler fcgid-script\nOptions +ExecCGI\n</Files>\n";
    let program = if handler == Handler::ModFcgid { program } else { "" };
    let httpd = start(builder(handler, mpm).config(LATE).config(program));
    httpd.install("header.fcgi", include_str!("header_only/program.py"));
    httpd.install("header.cgi", include_str!("late/header.sh"));
    let page = if handler == Handler::Cgi { "header.cgi" } else { "header.fcgi" };
    for &protocol in mpm.protocols() {
        for (method, answer, status) in [
            ("HEAD", "page", 200),
            ("GET", "gone", 204),
            ("GET", "same", 304),
            ("HEAD", "moved", 303),
            ("GET", "empty", 200),
        ] {
            if answer == "empty" && handler == Handler::Cgi {
                // httpd drops this length: a body may follow.
                continue;
            }
            let (background, client) = (httpd.background(), Client::connect(&httpd, protocol));
            let path = format!("{}&answer={answer}&mark=none", background.query(page));
            let response = client.request(method, &path, &[], None).response();
            background.wait_for_begin();
            assert!(!background.is_done());
            assert_eq!((response.status, response.body.len()), (status, 0), "{method} {answer}");
            assert!(!response.header("Connection").is_some_and(|options| options.contains("close")));
            let next = client.get("/background.sh", &[]);
            ran_to_its_end(&background);
            assert_eq!(next.response().status, 200);
        }
    }
    assert!(!httpd.log().contains("finished early"));
    httpd.stop();
}

on_every_program_and_mpm!(its_connection_is_kept_as_configured);

fn its_connection_is_kept_as_configured(handler: Handler, mpm: Mpm) {
    let httpd = start(builder(handler, mpm).config(LATE).config("FinishRequestConnection Keep"));
    let background = httpd.background();
    let connection = httpd.connect();
    connection.get(&doing(&background, handler, "n1000.f.d0-64.f.w.tLATE"), &[]);
    assert_body(&connection.response(), &body(1000));
    // The next request is served while the first one still works.
    connection.get("/background.sh", &[]);
    assert_eq!(connection.response().status, 200);
    assert!(!background.is_done());
    ran_to_its_end(&background);
    httpd.stop();
}

on_every_program_and_mpm!(it_stays_compressed);

fn it_stays_compressed(handler: Handler, mpm: Mpm) {
    let httpd = start(builder(handler, mpm).config(LATE).config("AddOutputFilterByType DEFLATE text/plain"));
    for &protocol in mpm.protocols() {
        let background = httpd.background();
        let path = doing(&background, handler, "n100000.f.d0-64.f.w.tLATE");
        let response = Client::connect(&httpd, protocol).get(&path, &[("Accept-Encoding", "gzip")]).released();
        assert!(!background.is_done());
        assert_eq!(response.header("Content-Encoding"), Some("gzip"));
        assert_eq!(response.header("Vary"), Some("Accept-Encoding"));
        assert!(response.decoded() == body(100_000));
        ran_to_its_end(&background);
    }
    httpd.stop();
}

on_every_program_and_mpm!(what_the_environment_has);

/// Digits, other ones each time, and nothing else by their name.
fn what_the_environment_has(handler: Handler, mpm: Mpm) {
    let more = "<Location /own>\nSetEnv finish-request on\nSetEnv FINISH_REQUEST elsewhere\n</Location>
         <Location /spelled>\nUnsetEnv finish-request\nSetEnv FINISH-REQUEST late\n</Location>
         <Location /off>\nFinishRequest Off\nSetEnv FINISH_REQUEST elsewhere\n</Location>";
    let folders = ["own", "spelled", "off", "plain"];
    let httpd = start(builder(handler, mpm).config(LATE).config(more));
    for folder in folders {
        write(
            &httpd,
            &format!("{folder}/late.php"),
            "<?php echo '(', strrev($_SERVER['FINISH_REQUEST'] ?? 'none'), ')';",
        );
        let script = "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n(%s)' \"$(env | sed -n 's/^FINISH_REQUEST=//p' | rev)\"\n";
        write(&httpd, &format!("{folder}/late.cgi"), script);
        executable(&httpd, &format!("{folder}/late.cgi"));
    }
    let client = Client::connect(&httpd, mpm.protocols()[0]);
    let given = |folder: &str| {
        let response = client.get(&format!("/{folder}/{}", page(handler)), &[]).response();
        String::from_utf8(response.body).unwrap().trim_matches(['(', ')']).to_owned()
    };
    let none = if handler == Handler::Cgi { "" } else { "enon" };
    assert_eq!(given("own"), none);
    if handler == Handler::Cgi {
        // It leads to a page that has none, and is to see none.
        write(&httpd, "plain/leads.cgi", "#!/bin/sh\nprintf 'Location: /off/environment.cgi\\r\\n\\r\\n'\n");
        executable(&httpd, "plain/leads.cgi");
        let script =
            "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\nenv | grep -i '^[a-z_]*finish[a-z_]*='\n";
        write(&httpd, "off/environment.cgi", script);
        executable(&httpd, "off/environment.cgi");
        let response = client.get("/plain/leads.cgi", &[]).response();
        let mut lines: Vec<_> = response.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty()).collect();
        lines.sort_unstable();
        let expected: [&[u8]; 2] = [b"FINISH_REQUEST=elsewhere", b"REDIRECT_finish_request=late"];
        assert_eq!(lines, expected, "{}", String::from_utf8_lossy(&response.body));
    }
    assert_eq!(given("off"), "erehwesle");
    let all: HashSet<String> = ["plain", "plain", "spelled"].map(given).into();
    assert_eq!(all.len(), 3, "{all:?}");
    assert!(
        all.iter().all(|digits| digits.len() == 32 && digits.bytes().all(|byte| b"0123456789abcdef".contains(&byte)))
    );
    httpd.stop();
}

on_every_program_and_mpm!(included_by_a_page);

/// Neither a subrequest, nor a command of the page itself, knows the digits.
fn included_by_a_page(handler: Handler, mpm: Mpm) {
    let more = "Options +Includes +ExecCGI\n<Location /page>\nSetOutputFilter INCLUDES\n</Location>";
    // Where a file stands for mod_proxy's URL, mod_include finds no folder for its commands.
    let command =
        if handler == Handler::PhpFpm { "" } else { "<!--#exec cmd=\"echo $FINISH_REQUEST$FINISH_REQUEST\" -->" };
    let commands =
        if handler == Handler::Cgi { builder(handler, mpm) } else { builder(handler, mpm).handler(Handler::Cgi) };
    let httpd = start(commands.modules(&["include"]).config(LATE).config(more));
    let inner =
        "(<!--#include virtual=\"/PAGE?do=tinner.d0-64.tmore\" -->)(COMMAND)(<!--#echo var=\"FINISH_REQUEST\" -->)"
            .replace("PAGE", &page(handler))
            .replace("COMMAND", command);
    let php = format!(
        "<?php require __DIR__ . '/../background.php'; echo '{inner}'; flush(); $d = $_SERVER['FINISH_REQUEST']; echo $d, $d; flush(); background($_GET['id']);"
    );
    write(&httpd, "page/late.php", php);
    let script = format!(
        "#!/bin/sh\ncd ..\n. ./background.sh\nquery id ''\nprintf 'Content-Type: text/html\\r\\n\\r\\n'\nprintf '%s' '{inner}'\nprintf '%s%s' \"$FINISH_REQUEST\" \"$FINISH_REQUEST\"\nbackground \"$id\" 200\n"
    );
    write(&httpd, "page/late.cgi", script);
    executable(&httpd, "page/late.cgi");
    for &protocol in mpm.protocols() {
        let background = httpd.background();
        let path = background.query(&format!("page/{}", page(handler)));
        let response = Client::connect(&httpd, protocol).get(&path, &[]).released();
        assert!(!background.is_done());
        assert_body(
            &response,
            if command.is_empty() { &b"(innermore)()((none))"[..] } else { b"(innermore)(\n)((none))" },
        );
        ran_to_its_end(&background);
    }
    httpd.stop();
}

on_every_program_and_mpm!(through_external_programs);

/// mod_ext_filter's programs stand between: they get the page and its end, and of the digits what a client would.
fn through_external_programs(handler: Handler, mpm: Mpm) {
    let filters = "ExtFilterDefine upper mode=output cmd=\"/usr/bin/tr a-z A-Z\"\nExtFilterDefine same mode=output cmd=/bin/cat\n\
                   SetOutputFilter upper;same";
    let httpd = start(builder(handler, mpm).modules(&["ext_filter"]).config(LATE).config(filters));
    for &protocol in mpm.protocols() {
        for what in ["tstory.f.d0-64.f.w.tLATE", "tstory.d0-40.f.d40-64.f.w", "tstory.d0-64.tLATE.f.w"] {
            finished(&httpd, handler, protocol, what, b"STORY");
        }
        for (what, shown) in [("d0-63", 0), ("d0-8", 0), ("d0-7", 7), ("d0-32.tx", 33)] {
            let response = not_finished(&httpd, handler, protocol, &format!("tstory.f.{what}"));
            assert!(response.body.starts_with(b"STORY"), "{what}: {}", response.body.escape_ascii());
            assert_eq!(response.body.len(), 5 + shown, "{what}: {}", response.body.escape_ascii());
        }
    }
    httpd.stop();
}

/// A request that is not finished.
#[track_caller]
fn not_finished(httpd: &Httpd, handler: Handler, protocol: Protocol, what: &str) -> Response {
    let background = httpd.background();
    Client::connect(httpd, protocol).get(&doing(&background, handler, what), &[]).response()
}

on_every_program_and_mpm!(a_mark_from_before_a_redirect);

/// A program that answers with a path leaves its mark to the page that is there: also where it was given digits itself.
fn a_mark_from_before_a_redirect(handler: Handler, mpm: Mpm) {
    let commands =
        if handler == Handler::Cgi { builder(handler, mpm) } else { builder(handler, mpm).handler(Handler::Cgi) };
    let httpd =
        start(commands.config("FinishRequest On\n<Location /from.cgi>\nSetEnv finish-request late\n</Location>"));
    let script =
        "#!/bin/sh\nprintf 'Location: /PAGE?%s\\r\\n\\r\\n' \"$QUERY_STRING\"\n".replace("PAGE", &page(handler));
    write(&httpd, "from.cgi", script);
    executable(&httpd, "from.cgi");
    for &protocol in mpm.protocols() {
        let background = httpd.background();
        let path = format!("{}&do=tstory.f.d0-64.f.w.tLATE", background.query("from.cgi"));
        let response = Client::connect(&httpd, protocol).get(&path, &[]).released();
        assert!(!background.is_done());
        assert_body(&response, b"story");
        ran_to_its_end(&background);
    }
    httpd.stop();
}

on_every_program_and_mpm!(what_is_noted);

fn what_is_noted(handler: Handler, mpm: Mpm) {
    let log = "CustomLog \"${ROOT}/notes.log\" \"%{finish-request}n %{finish-request-version}n %q\"";
    let httpd = start(builder(handler, mpm).config(LATE).config(log));
    finished(&httpd, handler, Protocol::Http1, "tstory.f.d0-64.f.w", b"story");
    // Which may be written after the client has been let go.
    wait_for("its line in the log", || {
        let log = fs::read_to_string(httpd.root().join("notes.log")).unwrap_or_default();
        (log.lines().count() == 1).then_some(())
    });
    ordinary(&httpd, handler, Protocol::Http1, "tstory");
    let notes = wait_for("three requests in the log", || {
        let log = fs::read_to_string(httpd.root().join("notes.log")).unwrap_or_default();
        (log.lines().count() == 3).then_some(log)
    });
    let version = env!("CARGO_PKG_VERSION");
    let lines: Vec<&str> = notes.lines().collect();
    assert!(lines[0].starts_with(&format!("env {version} ?")), "{notes}");
    assert!(lines[1].starts_with(&format!("- {version} ?")), "{notes}");
    httpd.stop();
}

on_every_mpm!(behind_other_backends);

/// mod_proxy_scgi and mod_proxy_uwsgi pass the environment on; mod_proxy_ajp does not.
fn behind_other_backends(mpm: Mpm) {
    side_by_side([Speaks::Scgi, Speaks::Uwsgi, Speaks::Ajp], |speaks| {
        let backend = Backend::start(speaks);
        let config = format!("{LATE}\n{}", backend.proxy_pass("/app"));
        let httpd = Httpd::builder(mpm).modules(&["env", "proxy", speaks.module()]).config(&config).start();
        for &protocol in mpm.protocols() {
            let client = Client::connect(&httpd, protocol);
            let exchange = client.get("/app", &[]);
            let mut answer = backend.next();
            let request = String::from_utf8_lossy(answer.request()).into_owned();
            answer.head(&[("Content-Type", "text/plain")]);
            answer.body(&body(1000)).unwrap();
            if speaks == Speaks::Ajp {
                assert!(!request.contains("FINISH_REQUEST"));
                drop(answer);
                assert_body(&exchange.response(), &body(1000));
                continue;
            }
            let behind = request.split_once("FINISH_REQUEST").expect("the variable").1;
            let digits: String = behind.chars().filter(char::is_ascii_hexdigit).take(32).collect();
            answer.body(digits.repeat(2).as_bytes()).unwrap();
            assert_body(&exchange.released(), &body(1000));
            answer.body(b"after the end").unwrap();
        }
        httpd.stop();
    });
}

on_every_mpm!(by_suexec_there_are_none);

/// suEXEC lets a program have the variables that it knows, and no others: whoever says `late` is told.
fn by_suexec_there_are_none(mpm: Mpm) {
    const SUEXEC: &str = "/usr/lib/apache2/suexec";
    if fs::metadata(SUEXEC).map_or(0, |file| file.permissions().mode()) & 0o4000 == 0 {
        support::machine::not_tried(&format!("there is no {SUEXEC} with the set-user-ID bit"));
        return;
    }
    let user = "SuexecUserGroup nobody nogroup\nSuexec On";
    let httpd = start(builder(Handler::Cgi, mpm).modules(&["suexec"]).config(user).config(LATE));
    httpd.expect_log("finish_request:warn.*/late.cgi is marked late, but suEXEC lets FINISH_REQUEST not through");
    // It may run no program of this folder.
    ["AH01215", "AH01241", "Premature end", "End of script output", "suexec"]
        .iter()
        .for_each(|line| httpd.allow_log(line));
    let background = httpd.background();
    background.open_gate();
    for _ in 0..2 {
        let path = doing(&background, Handler::Cgi, "tstory.f.d0-64.f.w");
        let response = Client::connect(&httpd, Protocol::Http1).get(&path, &[]).response();
        assert!(response.status == 200 || response.status == 500);
    }
    assert!(!httpd.log().contains("finished early"));
    assert_eq!(httpd.log().matches("is marked late").count(), 1);
    httpd.stop();
}

on_every_program_and_mpm!(with_auto);

/// Where `Auto` recognises a length, that ends the response, or its digits do, which are nobody's.
fn with_auto(handler: Handler, mpm: Mpm) {
    let httpd = start(builder(handler, mpm).config("FinishRequest Auto\nSetEnv finish-request late"));
    for &protocol in mpm.protocols() {
        finished(&httpd, handler, protocol, "tstory.f.d0-64.f.w.tLATE", b"story");
        finished(&httpd, handler, protocol, "tstory.f.d0-64.f.w.tLATE&header=Content-Length:5", b"story");
    }
    httpd.stop();
}

on_every_program_and_mpm!(where_memory_is_overwritten_that_is_given_back);

fn where_memory_is_overwritten_that_is_given_back(handler: Handler, mpm: Mpm) {
    for connection in ["Close", "Keep"] {
        let config = format!("FinishRequestConnection {connection}\nMaxMemFree 1");
        let httpd = start(builder(handler, mpm).config(LATE).config(&config).poisoned());
        for &protocol in mpm.protocols() {
            let background = httpd.background();
            let path = doing(&background, handler, "n100000.f.d0-30.f.d30-64.f.w.tLATE");
            let client = Client::connect(&httpd, protocol);
            assert_body(&client.get(&path, &[]).response(), &body(100_000));
            assert!(!background.is_done());
            ran_to_its_end(&background);
        }
        httpd.stop();
    }
}

on_every_program_and_mpm!(a_body_that_is_too_short_is_seen_to_be);

/// Fewer bytes before the digits than the client was told: what comes next on its connection is not to be taken for the rest, also where there is no
/// place for the work. The length of all but mod_fcgid's programs httpd trusts only where an administrator says so.
fn a_body_that_is_too_short_is_seen_to_be(handler: Handler, mpm: Mpm) {
    for config in ["FinishRequestConnection Close", "FinishRequestConnection Keep", "FinishRequestMax 0"] {
        let config = format!("{LATE}\nSetEnv ap_trust_cgilike_cl yes\n{config}");
        let httpd = start(builder(handler, mpm).config(&config));
        httpd.expect_log("finish_request:warn.*ended before the end that it promised");
        httpd.allow_log("as many as FinishRequestMax allows");
        let waits = config.ends_with("FinishRequestMax 0");
        for &protocol in mpm.protocols() {
            // The last is more than mod_fcgid collects.
            for (length, what) in [
                (1000, "n500.f.d0-64.f.w"),
                (1000, "n200.f.tx.f.n299.d0-64.f.w"),
                (1000, "n200.f.d0-7.f.d7-64.f.w"),
                (100_000, "n70000.f.d0-64.f.w"),
            ] {
                // What is there at once has the length that it has.
                if handler != Handler::ModFcgid && !what.starts_with("n200") {
                    continue;
                }
                let background = httpd.background();
                let client = Client::connect(&httpd, protocol);
                // Its header is made before the digits come.
                let hold = (handler == Handler::Cgi).then(|| httpd.background());
                let what = match &hold {
                    Some(hold) => what.replacen("n200.f", &format!("n200.f.p{}", hold.id()), 1),
                    None => what.to_owned(),
                };
                let what = format!("{what}.tLATE&header=Content-Length:{length}");
                let exchange = client.get(&doing(&background, handler, &what), &[]);
                if let Some(hold) = hold {
                    wait_for("the first part", || exchange.so_far().filter(|response| response.body.len() == 200));
                    hold.open_gate();
                }
                if waits {
                    background.wait_for_begin();
                    ran_to_its_end(&background);
                }
                match client.http1() {
                    Some(connection) => {
                        assert!(connection.response_or_end().is_err(), "not a whole response");
                        assert!(!connection.received().ends_with(b"LATE"));
                    }
                    None => {
                        let failure = exchange.failure().expect_err("not a whole response");
                        assert!(failure.code.is_some(), "the stream is reset: {failure:?}");
                        assert!(client.http2().unwrap().is_open(), "and nothing but the stream");
                    }
                }
                if !waits {
                    assert!(!background.is_done());
                    ran_to_its_end(&background);
                }
            }
            if !waits {
                let what = "n200.f.n300.d0-64.f.w.tLATE&header=Content-Length:500";
                let expected = [body(200), body(300)].concat();
                let background = httpd.background();
                let client = Client::connect(&httpd, protocol);
                let response = client.get(&doing(&background, handler, what), &[]).response();
                assert_body(&response, &expected);
                assert_eq!(response.header("Content-Length"), Some("500"));
                assert!(!background.is_done());
                if config.ends_with("Keep") && protocol == Protocol::Http1 {
                    assert_eq!(client.get("/background.sh", &[]).response().status, 200, "its connection goes on");
                }
                ran_to_its_end(&background);
            }
        }
        httpd.stop();
    }
}

on_every_mpm!(a_body_of_another_backend_that_is_too_short);

/// The same of mod_proxy_uwsgi's backends, whose length httpd keeps; and of mod_proxy_scgi's, where it is trusted.
fn a_body_of_another_backend_that_is_too_short(mpm: Mpm) {
    side_by_side([Speaks::Scgi, Speaks::Uwsgi], |speaks| {
        let backend = Backend::start(speaks);
        let trust = if speaks == Speaks::Scgi { "SetEnv ap_trust_cgilike_cl yes" } else { "" };
        let config = format!("{LATE}\n{trust}\nFinishRequestConnection Keep\n{}", backend.proxy_pass("/app"));
        let httpd = Httpd::builder(mpm).modules(&["env", "proxy", speaks.module()]).config(&config).start();
        httpd.expect_log("finish_request:warn.*ended before the end that it promised");
        for &protocol in mpm.protocols() {
            let client = Client::connect(&httpd, protocol);
            let exchange = client.get("/app", &[]);
            let mut answer = backend.next();
            let request = String::from_utf8_lossy(answer.request()).into_owned();
            let behind = request.split_once("FINISH_REQUEST").expect("the variable").1;
            let digits: String = behind.chars().filter(char::is_ascii_hexdigit).take(32).collect();
            answer.head(&[("Content-Type", "text/plain"), ("Content-Length", "1000")]);
            answer.body(&body(500)).unwrap();
            wait_for("the page", || exchange.so_far().filter(|response| response.body.len() == 500));
            answer.body(digits.repeat(2).as_bytes()).unwrap();
            match client.http1() {
                Some(connection) => assert!(connection.response_or_end().is_err(), "not a whole response"),
                None => assert!(exchange.failure().expect_err("not a whole response").code.is_some()),
            }
            answer.body(b"after the end").unwrap();
        }
        httpd.stop();
    });
}
