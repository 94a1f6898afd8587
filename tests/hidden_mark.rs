//! The mark is between the application and the module: the client never sees it, whoever set it.

use support::{Client, Handler, Httpd, Mpm, Protocol};

use crate::judge::{Application, BYTES, early, ordinary};

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
