//! The mark is between the application and the module: the client never sees it, whoever set it.

use std::fs;

use support::{Client, Handler, Httpd, Mpm, Protocol};

use crate::judge::{Application, BYTES, early, ordinary, write};

/// Sends a request and expects no mark in the response.
#[track_caller]
fn hidden(httpd: &Httpd, protocol: Protocol, method: &str, path: &str, status: u16) {
    let client = Client::connect(httpd, protocol);
    let response = client.request(method, path, &[], None).response();
    assert_eq!((response.status, response.header("X-Finish-Request")), (status, None), "{method} {path}");
}

on_every_handler_and_mpm!(without_a_body);

fn without_a_body(handler: Handler, mpm: Mpm) {
    let httpd = Httpd::builder(mpm).handler(handler).config("FinishRequest On").start();
    let page = handler.page();
    for protocol in mpm.protocols() {
        for mark in ["on", "off", "length%3D10", "length%3D4096"] {
            // httpd's own answer to HEAD is broken where a CGI script's body is still to come over HTTP/2.
            if (handler, *protocol, mark) != (Handler::Cgi, Protocol::Http2, "off") {
                hidden(&httpd, *protocol, "HEAD", &format!("/{page}?mark={mark}"), 200);
            }
            hidden(&httpd, *protocol, "GET", &format!("/{page}?status=304&bytes=0&length=none&mark={mark}"), 304);
        }
        hidden(&httpd, *protocol, "GET", &format!("/{page}?status=204&bytes=0&length=none&mark=on"), 204);
        hidden(&httpd, *protocol, "GET", &format!("/{page}?status=404&mark=on"), 404);
        hidden(&httpd, *protocol, "GET", &format!("/{page}?status=500&mark=off"), 500);
    }
    httpd.stop();
}

/// mod_headers' header comes after the application: it is no mark, and does not reach the client either.
#[test]
fn set_by_mod_headers() {
    for mpm in Mpm::ALL {
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .modules(&["alias", "headers"])
            .config(
                "FinishRequest On
                AliasMatch ^/(set|always|both|early)/(.*) ${WWW}/$2
                <Location /set/>
                  Header set X-Finish-Request length=100
                </Location>
                <Location /always/>
                  Header always set X-Finish-Request length=100
                </Location>
                <Location /both/>
                  Header add X-Finish-Request off
                  Header always add X-Finish-Request off
                </Location>
                <Location /early/>
                  Header echo ^X-Finish-Request$
                </Location>",
            )
            .start();
        httpd.install("file.txt", "a static file\n");
        for protocol in mpm.protocols() {
            for folder in ["set", "always"] {
                ordinary(&httpd, *protocol, &format!("{folder}/app.lua"), "mark=none&length=none");
                // Nor does it take the application's mark away.
                early(&httpd, *protocol, &format!("{folder}/app.lua"), "mark=length=4096&length=none", BYTES);
                hidden(&httpd, *protocol, "GET", &format!("/{folder}/file.txt"), 200);
                hidden(&httpd, *protocol, "HEAD", &format!("/{folder}/file.txt"), 200);
                hidden(&httpd, *protocol, "GET", &format!("/{folder}/nowhere"), 404);
            }
            early(&httpd, *protocol, "both/app.lua", "mark=length=4096&length=none", BYTES);
            let client = Client::connect(&httpd, *protocol);
            let response = client.get("/early/file.txt", &[("X-Finish-Request", "length=1")]).response();
            assert_eq!(
                (response.body.as_slice(), response.header("X-Finish-Request")),
                (&b"a static file\n"[..], None)
            );
        }
        httpd.stop();
    }
}

/// An error page takes the place of what the application answered, and keeps some of its headers.
#[test]
fn error_pages() {
    const FAILS: Application = Application {
        php: r#"
            header('X-Finish-Request: length=5');
            http_response_code(500);
        "#,
        sh: "",
        lua: r#"
            r.content_type = "text/plain"
            r.headers_out["X-Finish-Request"] = "length=5"
            r.err_headers_out["X-Finish-Request"] = "length=5"
            r.subprocess_env["finish-request"] = query.env
            return tonumber(query.code)
        "#,
    };
    for mpm in Mpm::ALL {
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .config(
                "FinishRequest On
                ErrorDocument 403 \"a text of the configuration's\"
                ErrorDocument 410 /gone.txt",
            )
            .start();
        let page = FAILS.install(&httpd, Handler::Lua, "fails");
        httpd.install("gone.txt", "the page has gone\n");
        for protocol in mpm.protocols() {
            for env in ["", "&env=length=5", "&env=on"] {
                for (code, text) in
                    [(403, "a text of the configuration's"), (410, "the page has gone\n"), (404, "</body></html>\n")]
                {
                    let client = Client::connect(&httpd, *protocol);
                    let response = client.get(&format!("/{page}?code={code}{env}"), &[]).response();
                    assert_eq!((response.status, response.header("X-Finish-Request")), (code, None));
                    // All of the error page, and not 5 bytes: the mark was for another response.
                    let body = response.body.escape_ascii().to_string();
                    assert!(body.ends_with(&text.escape_default().to_string()), "{code}{env}: {body}");
                }
            }
        }
        httpd.stop();
    }
}

/// A maintenance page, before any handler is asked.
const HOOK: &str = r#"
function handle(r)
    r.status = 503
    r.content_type = "text/plain"
    r.err_headers_out["Retry-After"] = "120"
    r.err_headers_out["X-Finish-Request"] = "on"
    r.headers_out["x-finish-request"] = "length=18"
    r:puts("closed until noon\n")
    return apache2.DONE
end
"#;

on_every_mpm!(of_what_answers_before_the_handler);

fn of_what_answers_before_the_handler(mpm: Mpm) {
    for hook in ["LuaQuickHandler", "LuaHookFixups", "LuaHookAccessChecker"] {
        // A quick handler answers before httpd knows in which directory it is.
        for place in ["FinishRequest On", "FinishRequest Auto", "<Directory ${WWW}>\nFinishRequest On\n</Directory>"] {
            let httpd = Httpd::builder(mpm)
                .handler(Handler::Lua)
                .config(&format!("{place}\n{hook} ${{WWW}}/hook.lua handle"))
                .start();
            httpd.install("hook.lua", HOOK);
            for &protocol in mpm.protocols() {
                for (method, text) in [("GET", "closed until noon\n"), ("HEAD", ""), ("POST", "closed until noon\n")] {
                    let client = Client::connect(&httpd, protocol);
                    let response = client.request(method, "/app.lua", &[], None).response();
                    let shown = ["Retry-After", "X-Finish-Request"].map(|name| response.header(name));
                    assert_eq!((response.status, shown), (503, [Some("120"), None]), "{hook} {place} {method}");
                    assert_eq!(response.body, text.as_bytes(), "{hook} {place} {method}");
                }
            }
            httpd.stop();
        }
    }
    // Where the module is off, the header is one as any other.
    let httpd = Httpd::builder(mpm).handler(Handler::Lua).config("LuaHookFixups ${WWW}/hook.lua handle").start();
    httpd.install("hook.lua", HOOK);
    for &protocol in mpm.protocols() {
        let response = Client::connect(&httpd, protocol).get("/app.lua", &[]).response();
        assert_eq!(response.header("X-Finish-Request"), Some("on"));
    }
    httpd.stop();
}

/// Denials, redirects and error documents to which the configuration adds the header.
#[test]
fn of_what_httpd_answers_by_itself() {
    for mpm in Mpm::ALL {
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .modules(&[
                "headers",
                "rewrite",
                "alias",
                "auth_basic",
                "authn_core",
                "authn_file",
                "authz_user",
                "authz_host",
            ])
            .config(
                "FinishRequest On
                Header always set X-Finish-Request length=3
                Header set X-Finish-Request length=3
                ErrorDocument 403 /denied.txt
                <Directory ${WWW}>
                  RewriteEngine On
                  RewriteRule ^moved$ /elsewhere [R=302]
                  RewriteRule ^gone$ - [G]
                </Directory>
                Redirect 303 /other http://localhost/
                <Location /denied>
                  Require all denied
                </Location>
                <Location /secret>
                  AuthType Basic
                  AuthName secret
                  AuthBasicProvider file
                  AuthUserFile ${WWW}/users
                  Require valid-user
                </Location>",
            )
            .start();
        httpd.install("denied.txt", "not for you\n");
        httpd.install("users", "");
        for &protocol in mpm.protocols() {
            for method in ["GET", "HEAD"] {
                for (path, status) in [
                    ("/moved", 302),
                    ("/gone", 410),
                    ("/other", 303),
                    ("/denied", 403),
                    ("/secret", 401),
                    ("/nowhere", 404),
                ] {
                    hidden(&httpd, protocol, method, path, status);
                }
            }
        }
        httpd.expect_log("client denied by server configuration");
        httpd.stop();
    }
}

on_every_mpm!(of_a_cache_that_was_filled_before);

/// A cache may have been filled while the module was off, with the header in it.
fn of_a_cache_that_was_filled_before(mpm: Mpm) {
    const CACHED: &str = r#"
        function handle(r)
            r.content_type = "text/plain"
            r.headers_out["X-Finish-Request"] = "length=10"
            r.headers_out["Cache-Control"] = "max-age=600"
            r:write("0123456789")
            return apache2.OK
        end
    "#;
    let folder = tempfile::tempdir().unwrap();
    let root = folder.path().join("cache");
    fs::create_dir(&root).unwrap();
    for folder in [folder.path(), &root] {
        fs::set_permissions(folder, std::os::unix::fs::PermissionsExt::from_mode(0o777)).unwrap();
    }
    let server = |config: &str, quick: &str| {
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .modules(&["cache", "cache_disk", "headers"])
            .config(&format!(
                "CacheRoot {}\nCacheEnable disk /\nCacheKeyBaseURL http://localhost\nCacheHeader on\nCacheQuickHandler {quick}\n{config}",
                root.display()
            ))
            .start();
        httpd.install("cached.lua", CACHED);
        httpd
    };
    let get = |httpd: &Httpd, protocol, page: &str| {
        let response = Client::connect(httpd, protocol).get(page, &[]).response();
        assert_eq!((response.status, response.body.as_slice()), (200, &b"0123456789"[..]));
        let [mark, cache] = ["X-Finish-Request", "X-Cache"].map(|name| response.header(name).map(str::to_owned));
        (mark, cache.is_some_and(|cache| cache.starts_with("HIT")))
    };
    for quick in ["on", "off"] {
        let page = &format!("/cached.lua?{quick}");
        let off = server("", quick);
        assert_eq!(get(&off, Protocol::Http1, page), (Some("length=10".to_owned()), false));
        assert_eq!(get(&off, Protocol::Http1, page), (Some("length=10".to_owned()), true));
        off.stop();
        for config in ["FinishRequest On", "FinishRequest Auto", "<Location />\nFinishRequest On\n</Location>"] {
            let httpd = server(config, quick);
            for &protocol in mpm.protocols() {
                assert_eq!(get(&httpd, protocol, page), (None, true), "{config} {quick}");
                // What the module lets into a cache has no header.
                let fresh = &format!("/cached.lua?{quick}{protocol:?}{}", config.len());
                assert_eq!(get(&httpd, protocol, fresh), (None, false), "{config} {quick}");
                assert_eq!(get(&httpd, protocol, fresh), (None, true), "{config} {quick}");
            }
            httpd.stop();
            let off = server("", quick);
            for &protocol in mpm.protocols() {
                let fresh = &format!("/cached.lua?{quick}{protocol:?}{}", config.len());
                assert_eq!(get(&off, protocol, fresh), (None, true), "{config} {quick}");
            }
            off.stop();
        }
    }
}

/// Such a response is finished early like any other, where its thread goes on.
const HOOK_THAT_WORKS_ON: &str = r#"
function handle(r)
    if not r.uri:match("page$") then
        return apache2.DECLINED
    end
    local background = dofile(r.document_root .. "/background.lua")
    local query = r:parseargs()
    r.content_type = "text/plain"
    if query.env then
        r.subprocess_env["finish-request"] = query.mark
    else
        r.err_headers_out["X-Finish-Request"] = query.mark
    end
    r:write(background.body(4096))
    r:flush()
    background.run(r, query.id, 200)
    return apache2.DONE
end
"#;

on_every_mpm!(before_the_handler_responses_finish_early);

fn before_the_handler_responses_finish_early(mpm: Mpm) {
    for hook in ["LuaQuickHandler", "LuaHookFixups", "LuaHookAccessChecker"] {
        for setting in ["FinishRequest On", "FinishRequest On\nFinishRequestLog End\nFinishRequestOnAbort Continue"] {
            let httpd = Httpd::builder(mpm)
                .handler(Handler::Lua)
                .modules(&["proxy", "proxy_fcgi"])
                .config(&format!("{setting}\nProxyPass /program/ fcgi://127.0.0.1:1/\n{hook} ${{WWW}}/hook.lua handle"))
                .start();
            httpd.install("hook.lua", HOOK_THAT_WORKS_ON);
            for &protocol in mpm.protocols() {
                for query in ["mark=length=4096", "mark=length=4000", "mark=flush", "mark=length=4096&env=1"] {
                    let bytes = if query.contains("4000") { 4000 } else { BYTES };
                    let response = early(&httpd, protocol, "page", query, bytes);
                    assert_eq!(response.status, 200);
                    if query.contains("length") {
                        assert_eq!(response.header("Content-Length"), Some(bytes.to_string().as_str()), "{hook}");
                    }
                }
                ordinary(&httpd, protocol, "page", "mark=off");
                ordinary(&httpd, protocol, "page", "mark=nonsense");
                if hook != "LuaQuickHandler" {
                    // What would be passed to a program is not.
                    early(&httpd, protocol, "program/page", "mark=length=4096", BYTES);
                }
            }
            httpd.expect_log("the header X-Finish-Request is 'nonsense'");
            let logged = httpd.access_log();
            assert!(
                logged.iter().any(|line| line.contains("mark=length=4096 ") && line.contains(" 200 4096 ")),
                "{logged:?}"
            );
            httpd.stop();
        }
    }
}

on_every_mpm!(where_an_internal_redirect_leads_to_a_page_that_is_off);

/// The page in the place of a marked one has its headers, and need not lie where the module is on: what a script leads to by `Location`, an error
/// document, an error page of httpd's own behind that. What is off all along shows its header, as on stock httpd, and so does such a page its own.
fn where_an_internal_redirect_leads_to_a_page_that_is_off(mpm: Mpm) {
    let httpd = Httpd::builder(mpm)
        .handler(Handler::Cgi)
        .handler(Handler::Lua)
        .handler(Handler::PhpFpm)
        .modules(&["authz_host"])
        .config(
            "<Location /on/>
              FinishRequest On
            </Location>
            <Location /auto/>
              FinishRequest Auto
            </Location>
            ErrorDocument 404 /sorry.txt
            ErrorDocument 410 /sorry.cgi
            ErrorDocument 423 /denied.txt
            ErrorDocument 424 /nowhere.txt
            <Location /denied.txt>
              Require all denied
            </Location>
            ProxyErrorOverride On",
        )
        .start();
    httpd.expect_log("client denied by server configuration");
    httpd.install("thanks.html", "thanks\n");
    httpd.install("sorry.txt", "sorry\n");
    httpd.install(
        "sorry.cgi",
        "#!/bin/sh\nprintf 'Content-Type: text/plain\\r\\nX-Finish-Request: own\\r\\n\\r\\nsorry\\n'\n",
    );
    for folder in ["on", "auto", "off"] {
        write(
            &httpd,
            &format!("{folder}/leads.cgi"),
            "#!/bin/sh\nprintf 'X-Finish-Request: boundary=\"0123456789abcdef\"\\r\\nLocation: /%s\\r\\n\\r\\n' \"$QUERY_STRING\"\n",
        );
        support::permit_program(&httpd.root().join("www").join(folder).join("leads.cgi")).unwrap();
        write(
            &httpd,
            &format!("{folder}/fails.lua"),
            "function handle(r)\nr.err_headers_out['X-Finish-Request'] = 'length=5'\nreturn tonumber(r.args)\nend\n",
        );
        write(
            &httpd,
            &format!("{folder}/fails.php"),
            "<?php\nheader('X-Finish-Request: length=5');\nhttp_response_code(404);\necho 'fails';\n",
        );
    }
    for &protocol in mpm.protocols() {
        for folder in ["on", "auto"] {
            for (page, status) in [("thanks.html", 200), ("denied.txt", 403), ("nowhere.txt", 404)] {
                hidden(&httpd, protocol, "GET", &format!("/{folder}/leads.cgi?{page}"), status);
                hidden(&httpd, protocol, "HEAD", &format!("/{folder}/leads.cgi?{page}"), status);
            }
            hidden(&httpd, protocol, "GET", &format!("/{folder}/fails.php"), 404);
            for status in [404, 423, 424] {
                hidden(&httpd, protocol, "GET", &format!("/{folder}/fails.lua?{status}"), status);
            }
        }
        let client = Client::connect(&httpd, protocol);
        for (path, status, mark) in [
            ("/off/leads.cgi?thanks.html", 200, "boundary=\"0123456789abcdef\""),
            ("/off/fails.lua?404", 404, "length=5"),
            ("/off/fails.php", 404, "length=5"),
            ("/on/fails.lua?410", 410, "own"),
        ] {
            let response = client.get(path, &[]).response();
            assert_eq!((response.status, response.header("X-Finish-Request")), (status, Some(mark)), "{path}");
        }
    }
    httpd.stop();
}
