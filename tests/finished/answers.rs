//! A filter that answers in the application's stead, or fails, has its say: the client gets that one answer, the log its status, and the
//! background work goes on.

use support::{Builder, Client, Handler, Httpd, Mpm, Protocol, Response, wait_for};

use crate::administrator::status::{counts, wait_for_running};
use crate::judge::{Application, path, ran_to_its_end, side_by_side, write};
use crate::marks::api::c_module;

/// Asks for the page, and expects an answer before the background work ends, which then ends well. Gives the answer and its line in the
/// access log.
#[track_caller]
fn answered(httpd: &Httpd, protocol: Protocol, page: &str, query: &str, kept: bool) -> (Response, String) {
    let background = httpd.background();
    let client = support::Client::connect(httpd, protocol);
    let exchange = client.get(&path(&background, page, query), &[]);
    let response = exchange.response();
    assert!(!background.is_done(), "the client had to wait for the background work");
    assert_eq!(response.header("X-Finish-Request"), None);
    if !kept {
        exchange.end_in_good_order();
    }
    ran_to_its_end(&background);
    let id = format!("id={}&", background.id());
    let lines = || httpd.access_log().into_iter().filter(|line| line.contains(&id)).collect::<Vec<_>>();
    let line = wait_for("its line in the access log", || lines().pop());
    assert_eq!(lines().len(), 1, "logged once");
    (response, line)
}

/// One error page, and nothing else.
#[track_caller]
fn is_error_page(response: &Response, line: &str, status: u16, what: &str) {
    assert_eq!(response.status, status, "{what}");
    assert!(line.contains(&format!("\" {status} ")), "{what}: {line}");
    let body = String::from_utf8_lossy(&response.body);
    assert_eq!(body.matches("<html>").count(), 1, "{what}: {body}");
    assert!(!body.contains("answer to your request"), "{what}: {body}");
}

const MARKS: [&str; 3] = ["mark=length=4096", "mark=on", "mark=flush"];

on_every_handler_and_mpm!(filters_of_all_kinds);

fn filters_of_all_kinds(handler: Handler, mpm: Mpm) {
    for config in ["FinishRequest On", "FinishRequest On\nFinishRequestConnection Keep"] {
        let builder = Httpd::builder(mpm).handler(handler);
        let httpd = with_answers(builder).config(config).config("FinishRequestMax none").start();
        // What stock httpd says of a filter's failure, or of the module's own.
        httpd.allow_log("AH\\d+: .*(ap_pass_brigade|filter)");
        let marks: Vec<_> = MARKS
            .into_iter()
            .filter(|mark| !mark.ends_with("flush") || matches!(handler, Handler::ModPhp | Handler::Lua))
            .collect();
        let ways = ["fail-first", "fail-end", "deny-first", "deny-end", "swap", "swap-leave"];
        let cases = mpm.protocols().iter().flat_map(|protocol| {
            let marks = &marks;
            ways.iter().flat_map(move |way| marks.iter().map(move |mark| (*protocol, *way, *mark)))
        });
        side_by_side(cases, |(protocol, way, mark)| {
            let kept = config.contains("Keep") && protocol == Protocol::Http1;
            check(&httpd, protocol, handler.page(), way, mark, kept);
        });
        httpd.stop();
    }
}

fn with_answers(builder: Builder) -> Builder {
    builder.config(&format!(
        "LoadModule answers_module \"{}\"\nSetOutputFilter ANSWERS",
        c_module("mod_answers").display()
    ))
}

fn check(httpd: &Httpd, protocol: Protocol, page: &str, way: &str, mark: &str, kept: bool) {
    let what = format!("{way} {mark}");
    let (response, line) = answered(httpd, protocol, page, &format!("{mark}&{way}"), kept);
    match way {
        "fail-first" | "fail-end" => is_error_page(&response, &line, 500, &what),
        "deny-first" | "deny-end" => is_error_page(&response, &line, 403, &what),
        _ => {
            assert_eq!((response.status, &response.body[..]), (200, &b"swapped"[..]), "{what}");
            assert!(line.contains("\" 200 7 "), "{what}: {line}");
        }
    }
}

on_every_mpm!(without_a_place);

/// The answer is whole, and its connection goes on, as without the module.
fn without_a_place(mpm: Mpm) {
    let builder = with_answers(Httpd::builder(mpm).handler(Handler::Lua));
    let httpd = builder.config("FinishRequest On\nFinishRequestMax 0").start();
    httpd.allow_log("finish_request:warn.*FinishRequestMax");
    httpd.install(
        "pieces.lua",
        "function handle(r)
         r.content_type = 'text/plain'
         r.headers_out['X-Finish-Request'] = 'length=4000'
         r:write(('x'):rep(4000))
         r:flush()
         return apache2.OK
         end",
    );
    for &protocol in mpm.protocols() {
        let client = Client::connect(&httpd, protocol);
        for _ in 0..4 {
            let response = client.get("/pieces.lua?deny-first", &[]).response();
            assert_eq!(response.status, 403, "{protocol:?}");
            assert!(response.body.ends_with(b"</html>\n"), "{protocol:?}: {}", response.body.escape_ascii());
        }
    }
    httpd.stop();
}

on_every_mpm!(with_a_marked_page);

/// The page of the error is another application's, which finishes it early: the client is let go once.
fn with_a_marked_page(mpm: Mpm) {
    for connection in ["Close", "Keep"] {
        let builder = with_answers(Httpd::builder(mpm).handler(Handler::Lua));
        let config = format!("FinishRequest On\nFinishRequestConnection {connection}\nErrorDocument 403 /sorry.lua");
        let httpd = crate::administrator::status::with_status(builder).config(&config).start();
        let page = |then: &str| {
            format!(
                "function handle(r)
                 r.content_type = 'text/plain'
                 r.headers_out['X-Finish-Request'] = 'length=4000'
                 for i = 1, 4 do r:write(('s'):rep(1000)) r:flush() end
                 {then}
                 return apache2.OK
                 end"
            )
        };
        httpd.install("pieces.lua", &page(""));
        httpd.install("sorry.lua", &page("r.usleep(100000)"));
        let mut asked = 0;
        for &protocol in mpm.protocols() {
            let mut client = Client::connect(&httpd, protocol);
            for _ in 0..3 {
                let response = client.get("/pieces.lua?deny-first", &[]).response();
                assert_eq!((response.status, &response.body[..]), (403, "s".repeat(4000).as_bytes()), "{protocol:?}");
                asked += 1;
                if response.header("Connection").is_some_and(|value| value.eq_ignore_ascii_case("close")) {
                    client = Client::connect(&httpd, protocol);
                }
            }
        }
        let said = |what: &str| httpd.log().matches(what).count();
        wait_for("the work to end", || (said("the background work has ended") >= asked).then_some(()));
        assert_eq!((said("finished early"), said("the background work has ended")), (asked, asked));
        wait_for_running(&httpd, 0);
        assert_eq!(counts(&httpd)["Finished"], asked as u64);
        httpd.stop();
    }
}

/// mod_security judges the body at its end, and denies it in the application's stead.
mod denied_by_mod_security {
    use super::*;

    const CARD: Application = Application {
        php: "header('Content-Type: text/html');
            header('X-Finish-Request: length=20480');
            foreach (str_split(str_pad('', 20470, 'lorem ipsum ') . 'card=4111-', 4096) as $piece) { echo $piece; flush(); }
            background($_GET['id'], 20000);",
        sh: "printf 'Content-Type: text/html\\r\\nX-Finish-Request: length=20480\\r\\n\\r\\n'
            head -c 20470 /dev/zero | tr '\\0' x
            printf 'card=4111-'
            background \"$id\" 20000",
        lua: "r.content_type = 'text/html'
            r.headers_out['X-Finish-Request'] = 'length=20480'
            for i = 1, 5 do r:write(string.rep('lorem ipsum ', 341)) end
            r:write(string.rep('.', 10) .. 'card=4111-')
            r:flush()
            background.run(r, query.id, 20000)",
    };

    on_every_handler_and_mpm!(once);

    fn once(handler: Handler, mpm: Mpm) {
        let httpd = Httpd::builder(mpm)
            .handler(handler)
            .modules(&["unique_id", "security2"])
            .config(
                "FinishRequest On
                 SecRuleEngine On
                 SecResponseBodyAccess On
                 SecResponseBodyMimeType text/html
                 SecDataDir \"${ROOT}/run\"
                 SecTmpDir \"${ROOT}/run\"
                 SecRule RESPONSE_BODY \"@rx card=\\d\" \"id:1,phase:4,deny,status:403\"",
            )
            .start();
        // The denial itself, and what httpd says of the handler whose response it was.
        httpd.allow_log("ModSecurity|security2:|AH\\d+: .*ap_pass_brigade");
        let page = CARD.install(&httpd, handler, "card");
        side_by_side(mpm.protocols(), |&protocol| {
            let (response, line) = answered(&httpd, protocol, &page, "a=b", false);
            is_error_page(&response, &line, 403, "denied");
        });
        httpd.stop();
    }
}

/// A line that is too long for mod_substitute has it fail.
#[test]
fn a_filter_that_fails_by_itself() {
    for mpm in Mpm::ALL {
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .modules(&["substitute"])
            .config("FinishRequest On\nSetOutputFilter SUBSTITUTE\nSubstitute s/x/y/n\nSubstituteMaxLineLength 100")
            .start();
        httpd.expect_log("AH01328|Line too long|substitute:error");
        httpd.install(
            "long.lua",
            "function handle(r)
             local background = dofile(r.filename:match('^(.*)/') .. '/background.lua')
             r.headers_out['X-Finish-Request'] = 'length=10000'
             r:write(string.rep('x', 10000))
             background.run(r, r:parseargs().id, 20000)
             return apache2.OK
             end",
        );
        for &protocol in mpm.protocols() {
            let (response, line) = answered(&httpd, protocol, "long.lua", "a=b", false);
            is_error_page(&response, &line, 500, "too long");
        }
        httpd.stop();
    }
}

/// The same of a file that the configuration marks, whose handler ends with the body.
#[test]
fn a_filter_that_fails_with_a_marked_file() {
    side_by_side(Mpm::ALL, |mpm| {
        let httpd = Httpd::builder(mpm)
            .modules(&["substitute", "env"])
            .config(
                "FinishRequest On\nSetEnv finish-request on\nSetOutputFilter SUBSTITUTE\nSubstitute s/x/y/n\n\
                 SubstituteMaxLineLength 100",
            )
            .start();
        httpd.expect_log("AH01328|Line too long|substitute:error");
        write(&httpd, "long.txt", "x".repeat(10_000));
        for &protocol in mpm.protocols() {
            let response = Client::connect(&httpd, protocol).get("/long.txt", &[]).response();
            assert_eq!(response.status, 500, "{protocol:?}");
            assert!(String::from_utf8_lossy(&response.body).contains("Internal Server Error"), "{protocol:?}");
        }
        httpd.stop();
    });
}

/// mod_xsendfile puts a file in the place of the body: whatever length the application has said, nothing is wrong with it.
mod sent_by_mod_xsendfile {
    use super::*;

    const FILE: Application = Application {
        php: "header('Content-Type: text/plain');
            header('X-Sendfile: ' . __DIR__ . '/file.txt');
            header('X-Finish-Request: ' . $_GET['mark']);
            if (isset($_GET['length'])) { header('Content-Length: ' . $_GET['length']); }
            echo $_GET['body'];
            flush();
            background($_GET['id'], 20000);",
        sh: "query mark on; query length ''; query body ''
            printf 'Content-Type: text/plain\\r\\nX-Sendfile: %s/file.txt\\r\\nX-Finish-Request: %s\\r\\n' \"$PWD\" \"$mark\"
            [ -z \"$length\" ] || printf 'Content-Length: %s\\r\\n' \"$length\"
            printf '\\r\\n%s' \"$body\"
            background \"$id\" 20000",
        lua: "r.content_type = 'text/plain'
            r.headers_out['X-Sendfile'] = r.filename:match('^(.*)/') .. '/file.txt'
            r.headers_out['X-Finish-Request'] = query.mark
            if query.length then r.headers_out['Content-Length'] = query.length end
            r:write(query.body or '')
            r:flush()
            background.run(r, query.id, 20000)",
    };

    on_every_handler_and_mpm!(whole);

    fn whole(handler: Handler, mpm: Mpm) {
        let httpd = Httpd::builder(mpm)
            .handler(handler)
            .modules(&["xsendfile"])
            .config("FinishRequest On\nXSendFile on\nXSendFilePath \"${WWW}\"")
            .start();
        let page = FILE.install(&httpd, handler, "sends");
        crate::judge::write(&httpd, "file.txt", "the file itself\n");
        let queries =
            ["mark=on&length=16&body=.", "mark=length=16&body=.", "mark=on&length=3&body=abc", "mark=length=0&body=."];
        let cases = mpm.protocols().iter().flat_map(|protocol| queries.map(|query| (*protocol, query)));
        side_by_side(cases, |(protocol, query)| {
            let (response, line) = answered(&httpd, protocol, &page, query, false);
            assert_eq!((response.status, &response.body[..]), (200, &b"the file itself\n"[..]), "{query}");
            assert!(line.contains("\" 200 16 "), "{query}: {line}");
        });
        httpd.stop();
    }
}
