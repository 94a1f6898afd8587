//! A mark is for the response that the client gets: not for what is included, redirected from, or failed.

use support::http1::EndKind;
use support::{Client, Handler, Httpd, Mpm, Protocol, body, wait_for};

use crate::judge::{assert_body, early, ordinary, path, ran_to_its_end, side_by_side, write};

/// What an included page says of itself says nothing of the page.
#[test]
fn included_pages() {
    for mpm in Mpm::ALL {
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .modules(&["include", "env", "alias"])
            .config(
                "FinishRequest On
                <FilesMatch \\.shtml$>
                  SetOutputFilter INCLUDES
                </FilesMatch>
                Alias /marked ${WWW}
                <Directory ${WWW}>
                  Options +Includes
                </Directory>
                <Location /marked/>
                  SetEnv finish-request length=3
                </Location>",
            )
            .start();
        write(
            &httpd,
            "page.shtml",
            "<!--#include virtual=\"/app.lua?mark=length=10\" -->, \
             <!--#include virtual=\"/app.lua?mark=on\" -->, \
             <!--#include virtual=\"/marked/file.txt\" -->.\n",
        );
        write(&httpd, "file.txt", "a static file");
        let expected = [&body(4096)[..], b", ", &body(4096), b", a static file.\n"].concat();
        for &protocol in mpm.protocols() {
            let client = Client::connect(&httpd, protocol);
            for _ in 0..2 {
                let response = client.get("/page.shtml", &[]).response();
                assert_body(&response, &expected);
                assert_eq!(response.header("X-Finish-Request"), None);
            }
        }
        assert!(!httpd.log().contains("finished early"));
        httpd.stop();
    }
}

/// A folder's index is the response: mod_dir finds it by a subrequest, and redirects internally.
#[test]
fn index_of_a_folder() {
    for (handler, mpm) in [
        (Handler::Lua, Mpm::Event),
        (Handler::Cgi, Mpm::Worker),
        (Handler::ModPhp, Mpm::Prefork),
        (Handler::ModFcgid, Mpm::Event),
    ] {
        let page = handler.page();
        let httpd = Httpd::builder(mpm)
            .handler(handler)
            .modules(&["dir"])
            .config(&format!("FinishRequest On\nDirectoryIndex {page}"))
            .start();
        for &protocol in mpm.protocols() {
            early(&httpd, protocol, "", "mark=on", 4096);
            ordinary(&httpd, protocol, "", "mark=none&length=none");
        }
        httpd.stop();
    }
}

/// The page in the place of one that failed has a mark of its own, or none; the failed page's does not count.
#[test]
fn error_documents() {
    for mpm in Mpm::ALL {
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .modules(&["rewrite"])
            .config(
                "FinishRequest On
                ErrorDocument 404 /sorry.lua?marked
                ErrorDocument 410 /sorry.lua
                <Directory ${WWW}>
                  Options +FollowSymLinks
                  RewriteEngine On
                  RewriteRule ^rewritten$ nowhere.lua [E=finish-request:length=10]
                </Directory>",
            )
            .start();
        httpd.install("nowhere.lua", "function handle(r) return 410 end");
        httpd.install(
            "fails.lua",
            r#"function handle(r)
                r.headers_out["X-Finish-Request"] = "length=10"
                r.err_headers_out["X-Finish-Request"] = "length=10"
                r.subprocess_env["finish-request"] = "length=10"
                return tonumber(r:parseargs().code)
            end"#,
        );
        httpd.install(
            "sorry.lua",
            r#"function handle(r)
                local background = dofile(r.filename:match("^(.*)/") .. "/background.lua")
                r.content_type = "text/plain"
                if r.args == "marked" then
                    r.headers_out["X-Finish-Request"] = "length=4096"
                end
                r:write(background.body(4096))
                r:flush()
                background.run(r, r.the_request:match("id=([^& ]*)"), 200)
                return apache2.OK
            end"#,
        );
        for &protocol in mpm.protocols() {
            let background = httpd.background();
            let client = Client::connect(&httpd, protocol);
            let response = client.get(&path(&background, "fails.lua", "code=404"), &[]).released();
            assert!(!background.is_done(), "the client had to wait for the background work");
            assert_eq!(response.status, 404);
            assert_body(&response, &body(4096));
            ran_to_its_end(&background);

            // The second is marked by the rule that leads to the page that fails.
            for page in ["fails.lua", "rewritten"] {
                let background = httpd.background();
                let client = Client::connect(&httpd, protocol);
                let exchange = client.get(&path(&background, page, "code=410"), &[]);
                background.wait_for_begin();
                ran_to_its_end(&background);
                let response = exchange.response();
                assert_eq!(response.status, 410);
                assert_body(&response, &[body(4096), b"L".repeat(200)].concat());
            }
        }
        httpd.stop();
    }
}

/// What becomes of the connection is announced, and done, where a page stands in another one's place: of one that failed, or that a rule or an
/// access check refused. The notes stand in the one line of the access log.
#[test]
fn error_documents_and_their_connections() {
    const SORRY: &str = r#"function handle(r)
        local background = dofile(r.filename:match("^(.*)/") .. "/background.lua")
        r.content_type = "text/plain"
        r.headers_out["X-Finish-Request"] = r.args
        r:write(background.body(4096))
        r:flush()
        background.run(r, r.the_request:match("id=([^& ]*)"), 200)
        return apache2.OK
    end"#;
    let cases = Mpm::ALL.into_iter().flat_map(|mpm| ["Close", "Keep"].map(|connection| (mpm, connection)));
    side_by_side(cases, |(mpm, connection)| {
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .modules(&["rewrite"])
            .config(&format!(
                "FinishRequest On
                FinishRequestConnection {connection}
                ErrorDocument 403 /sorry.lua?length=4096
                ErrorDocument 404 /sorry.lua?flush
                ErrorDocument 410 /sorry.lua?length=4096
                ErrorDocument 429 /sorry.lua?flush
                <Location /ruled>
                    RewriteEngine On
                    RewriteRule . - [R=429]
                </Location>
                <Location /denied>
                    Require all denied
                </Location>
                LogFormat \"%>s %{{finish-request}}n %X %U %{{id}}n\" notes
                CustomLog \"${{ROOT}}/notes.log\" notes"
            ))
            .start();
        httpd.expect_log("AH01630: client denied");
        httpd.install("fails.lua", "function handle(r) r:write('') return 410 end");
        httpd.install("sorry.lua", SORRY);
        for &protocol in mpm.protocols() {
            for (page, status) in [("fails.lua", 410), ("nowhere", 404), ("ruled", 429), ("denied", 403)] {
                let background = httpd.background();
                let client = Client::connect(&httpd, protocol);
                let response = client.get(&path(&background, page, ""), &[]).response();
                assert!(!background.is_done(), "{protocol:?} {page}: the client had to wait for the background work");
                assert_eq!(response.status, status, "{protocol:?} {page}");
                assert_body(&response, &body(4096));
                let closes = response.header("Connection").is_some_and(|value| value.contains("close"));
                let kept = connection == "Keep" && protocol == Protocol::Http1;
                if let Some(client) = client.http1() {
                    assert_eq!(closes, !kept, "{protocol:?} {page}: {:?}", response.header("Connection"));
                    if kept {
                        client.get("/app.lua?mark=none&bytes=77", &[]);
                        assert_body(&client.response(), &body(77));
                    } else {
                        assert_eq!((client.end().kind, client.rest().len()), (EndKind::Fin, 0), "{protocol:?} {page}");
                    }
                }
                ran_to_its_end(&background);
                let sign = if kept { "+" } else { "-" };
                let line = format!("{status} header {sign} /{page} ");
                let lines = || {
                    let log = std::fs::read_to_string(httpd.root().join("notes.log")).unwrap();
                    log.lines()
                        .filter(|line| line.contains(&format!(" /{page} ")))
                        .map(str::to_owned)
                        .collect::<Vec<_>>()
                };
                let logged = wait_for("its line in the access log", || lines().pop());
                assert!(logged.starts_with(&line), "{protocol:?} {page}: {logged}, not {line}");
                std::fs::write(httpd.root().join("notes.log"), "").unwrap();
            }
        }
        httpd.stop();
    });
}

/// A script's `Location: /local` without a status is an internal redirect: where it leads decides.
#[test]
fn local_redirects_of_a_script() {
    for mpm in [Mpm::Worker, Mpm::Prefork] {
        let httpd = Httpd::builder(mpm).handler(Handler::Cgi).config("FinishRequest On").start();
        httpd.install(
            "leads.cgi",
            "#!/bin/sh\nprintf 'X-Finish-Request: length=10\\r\\nContent-Length: 10\\r\\nLocation: /app.cgi?%s\\r\\n\\r\\n' \"$QUERY_STRING\"\n",
        );
        for protocol in [Protocol::Http1, Protocol::Http1Tls] {
            early(&httpd, protocol, "leads.cgi", "mark=on", 4096);
            ordinary(&httpd, protocol, "leads.cgi", "mark=none&length=none");
        }
        httpd.stop();
    }
}

/// A handler may redirect internally by itself: mod_actions' to a script, or one that fails, to an error document. That one's mark counts.
#[test]
fn redirected_by_a_handler() {
    for mpm in Mpm::ALL {
        let config = "FinishRequest On\n<FilesMatch \\.page$>\nSetHandler by-script\n</FilesMatch>\nAction by-script /app.cgi\n\
                      ErrorDocument 404 /error.cgi\n\
                      <FilesMatch \\.late$>\nSetHandler by-late\nSetEnv finish-request late\n</FilesMatch>\n\
                      Action by-late /digits.cgi\nErrorDocument 410 /error.late";
        let builder = Httpd::builder(mpm).handler(Handler::Cgi).handler(Handler::Lua).modules(&["actions", "env"]);
        let httpd = builder.config(config).start();
        // A page of its own, and one in the place of another that failed.
        httpd.install("error.late", "");
        httpd.install("gone.lua", "function handle(r) return 410 end");
        httpd.install(
            "digits.cgi",
            "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n%d digits' ${#FINISH_REQUEST}\n",
        );
        httpd.install("a.page", "");
        httpd.install("error.cgi", "#!/bin/sh\nQUERY_STRING=$REDIRECT_QUERY_STRING exec ./app.cgi\n");
        httpd.install("fails.lua", "function handle(r) return 404 end");
        for &protocol in mpm.protocols() {
            for page in ["/error.late", "/gone.lua"] {
                let response = Client::connect(&httpd, protocol).get(page, &[]).response();
                assert_eq!(response.body, b"32 digits", "{protocol:?} {page}");
            }
            // A script says its own status: 200.
            for page in ["a.page", "fails.lua"] {
                let background = httpd.background();
                let response = Client::connect(&httpd, protocol).get(&background.query(page), &[]).released();
                assert_body(&response, &body(4096));
                assert!(!background.is_done());
                ran_to_its_end(&background);
            }
        }
        httpd.stop();
    }
}

on_every_mpm!(a_request_is_not_marked);

/// What a client says in its request marks nothing, and goes on to applications and origins as on stock httpd.
fn a_request_is_not_marked(mpm: Mpm) {
    const SAYS: &[(&str, &str)] = &[
        ("X-Finish-Request", "length=1"),
        ("Finish-Request", "on"),
        ("finish_request", "0123456789abcdef0123456789abcdef"),
        ("REDIRECT_finish-request", "flush"),
        ("Cookie", "finish-request=on"),
    ];
    let origin = Httpd::builder(mpm).without_module().handler(Handler::Cgi).start();
    let server = |module: bool| {
        let builder = Httpd::builder(mpm)
            .handler(Handler::Cgi)
            .modules(&["proxy", "proxy_http"])
            .config(&format!("ProxyPass /origin/ http://{}/", origin.address()));
        if module { builder.config("FinishRequest Auto") } else { builder.without_module() }.start()
    };
    let (stock, httpd) = (server(false), server(true));
    for server in [&origin, &stock, &httpd] {
        server.install(
            "env.cgi",
            "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n'\nenv | grep -i finish | sort\n",
        );
    }
    for &protocol in mpm.protocols() {
        for folder in ["", "origin/"] {
            let ask = |httpd: &Httpd| {
                let client = Client::connect(httpd, protocol);
                client.get(&format!("/{folder}env.cgi?finish-request=on"), SAYS).response().body
            };
            let (ours, theirs) = (ask(&httpd), ask(&stock));
            assert_eq!(ours.escape_ascii().to_string(), theirs.escape_ascii().to_string(), "{protocol:?} {folder}");
            assert!(
                ours.starts_with(b"HTTP_COOKIE=finish-request=on\nHTTP_FINISH_REQUEST=on\n"),
                "{protocol:?} {folder}"
            );
        }
        let background = httpd.background();
        let client = Client::connect(&httpd, protocol);
        let exchange = client.get(&path(&background, "app.cgi", "mark=none&length=none"), SAYS);
        background.wait_for_begin();
        ran_to_its_end(&background);
        assert_body(&exchange.response(), &[body(4096), b"L".repeat(200)].concat());
    }
    assert!(!httpd.log().contains("finished early"));
    [httpd, stock, origin].into_iter().for_each(Httpd::stop);
}
