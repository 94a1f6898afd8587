//! Where `FinishRequest` holds: server, virtual host, location, .htaccess; and values that it does not take.

use support::http1::EndKind;
use support::{Client, Handler, Httpd, Mpm, Protocol, body};

use crate::judge::{BYTES, assert_body, early, ordinary, path, ran_to_its_end, side_by_side, write};

/// A mark without which the response would have no length.
const MARKED: &str = "mark=length%3D4096&length=none";

#[test]
fn locations_and_inheritance() {
    for mpm in [Mpm::Event, Mpm::Prefork] {
        let httpd = Httpd::builder(mpm)
            .handler(Handler::Lua)
            .modules(&["alias"])
            .config(
                "AliasMatch ^/(?:on|off|unset)(?:/on|/off|/unset)?/([^/]*)$ ${WWW}/$1
                <Location /on>
                  FinishRequest On
                </Location>
                <Location /off>
                  FinishRequest Off
                </Location>
                <LocationMatch ^/o[nf]*/on/>
                  FinishRequest oN
                </LocationMatch>
                <LocationMatch ^/[a-z]*/off/>
                  FinishRequest OFF
                </LocationMatch>
                # Something else that is set does not unset it.
                <LocationMatch ^/[a-z]*/unset/>
                  FinishRequestBypass none
                </LocationMatch>",
            )
            .start();
        let finished = ["on/app.lua", "on/on/app.lua", "on/unset/app.lua", "off/on/app.lua"];
        side_by_side(finished, |page| _ = early(&httpd, Protocol::Http1, page, MARKED, BYTES));
        let left_alone = ["app.lua", "off/app.lua", "on/off/app.lua", "off/unset/app.lua", "unset/unset/app.lua"];
        side_by_side(left_alone, |page| untouched(&httpd, page));
        httpd.stop();
    }
}

/// `Off`: the module does nothing at all, so that even the header is there.
#[track_caller]
fn untouched(httpd: &Httpd, page: &str) {
    let background = httpd.background();
    let client = Client::connect(httpd, Protocol::Http1);
    let exchange = client.get(&path(&background, page, MARKED), &[]);
    background.wait_for_begin();
    ran_to_its_end(&background);
    let response = exchange.response();
    assert_body(&response, &[support::body(BYTES), b"L".repeat(200)].concat());
    assert_eq!(response.header("X-Finish-Request"), Some("length=4096"));
}

#[test]
fn virtual_hosts() {
    let httpd = Httpd::builder(Mpm::Worker)
        .handler(Handler::Lua)
        .config(
            "FinishRequest On
            <VirtualHost 127.0.0.1:${PORT}>
              ServerName on.test
            </VirtualHost>
            <VirtualHost 127.0.0.1:${PORT}>
              ServerName off.test
              FinishRequest Off
            </VirtualHost>",
        )
        .start();
    for (host, finished) in [("on.test", true), ("off.test", false)] {
        let background = httpd.background();
        let connection = httpd.connect();
        let target = path(&background, "app.lua", MARKED);
        connection.send(format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n"));
        background.wait_for_begin();
        if finished {
            assert_body(&connection.response(), &support::body(BYTES));
            connection.end();
            assert!(!background.is_done());
        }
        ran_to_its_end(&background);
        if !finished {
            assert_eq!(connection.response().body.len(), BYTES + 200);
        }
    }
    httpd.stop();
}

/// The author of a .htaccess may name the module's inner filters. They do nothing there: a body that is not read is not taken for the next request, and no
/// response is lost.
#[test]
fn inner_filters_by_name() {
    const INNER: [(&str, &[&str]); 2] = [
        ("SetInputFilter", &["EMPTY", "BODY", "BODY_BEGIN", "BODY_END"]),
        ("SetOutputFilter", &["SINK", "INTERIM", "BREAK_OFF", "STREAM_END", "BUFFER"]),
    ];
    side_by_side(Mpm::ALL, |mpm| {
        let config = "FinishRequest On\n<Directory ${WWW}>\nAllowOverride FileInfo\n</Directory>";
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).config(config).start();
        for (directive, names) in INNER {
            for name in names {
                write(&httpd, &format!("{name}/.htaccess"), format!("{directive} FINISH_REQUEST_{name}\n"));
                for file in ["app.lua", "background.lua"] {
                    let text = std::fs::read(httpd.root().join("www").join(file)).unwrap();
                    write(&httpd, &format!("{name}/{file}"), text);
                }
                let connection = httpd.connect();
                let hidden = "GET /app.lua?mark=none&length=300&bytes=300 HTTP/1.1\r\nHost: localhost\r\n\r\n";
                connection.send(format!(
                    "POST /{name}/app.lua?mark=none&length=100&bytes=100 HTTP/1.1\r\nHost: localhost\r\n\
                     Content-Length: {}\r\n\r\n{hidden}",
                    hidden.len()
                ));
                assert_eq!(connection.response().body, body(100), "{name}");
                connection.get("/app.lua?mark=none&length=200&bytes=200", &[("Connection", "close")]);
                assert_eq!(connection.response().body, body(200), "{name}");
                assert_eq!((connection.end().kind, connection.rest().len()), (EndKind::Fin, 0), "{name}");
                early(&httpd, Protocol::Http1, &format!("{name}/app.lua"), MARKED, BYTES);
            }
        }
        httpd.stop();
    });
}

#[test]
fn htaccess() {
    let httpd = Httpd::builder(Mpm::Event)
        .handler(Handler::Lua)
        .modules(&["env"])
        .config(
            "<Directory ${WWW}>
              AllowOverride FileInfo
            </Directory>
            <Directory ${WWW}/forbidden>
              AllowOverride AuthConfig Indexes Limit
            </Directory>
            <Directory ${WWW}/ignored>
              AllowOverride None
            </Directory>",
        )
        .start();
    for (folder, text) in [
        ("on", "FinishRequest On\nFinishRequestBypass none\n"),
        ("on/below", "SetEnv finish-request length=4096\n"),
        ("on/off", "FinishRequest Off\n"),
        ("forbidden", "FinishRequest On\n"),
        ("ignored", "FinishRequest On\n"),
        ("wrong", "FinishRequest Perhaps\n"),
    ] {
        write(&httpd, &format!("{folder}/.htaccess"), text);
        for file in ["app.lua", "background.lua"] {
            let text = std::fs::read(httpd.root().join("www").join(file)).unwrap();
            write(&httpd, &format!("{folder}/{file}"), text);
        }
    }
    early(&httpd, Protocol::Http1, "on/app.lua", MARKED, BYTES);
    early(&httpd, Protocol::Http2, "on/below/app.lua", "mark=none&length=none", BYTES);
    ordinary(&httpd, Protocol::Http1, "on/app.lua", "mark=none&length=none");
    untouched(&httpd, "on/off/app.lua");
    untouched(&httpd, "ignored/app.lua");
    untouched(&httpd, "app.lua");

    httpd.expect_log("forbidden/.htaccess: FinishRequest not allowed here");
    httpd.expect_log("wrong/.htaccess: FinishRequest: the value 'Perhaps' is not understood");
    for folder in ["forbidden", "wrong"] {
        let connection = httpd.connect();
        connection.get(&format!("/{folder}/app.lua?{MARKED}"), &[]);
        assert_eq!(connection.response().status, 500);
    }
    httpd.stop();
}

/// A wrong value stops httpd with a sentence that names the directive, the value, and what is accepted.
#[test]
fn wrong_values() {
    const SECONDS: &str = "a number of seconds from 1 to 4294967295, or none";
    side_by_side(
        [
            ("FinishRequest Maybe", "FinishRequest", "'Maybe'", "Off, On or Auto"),
            ("FinishRequest", "FinishRequest", "no value", "Off, On or Auto"),
            ("FinishRequest \"\"", "FinishRequest", "no value", "Off, On or Auto"),
            ("FinishRequest On On", "FinishRequest", "'On On'", "Off, On or Auto"),
            ("FinishRequest %s%n", "FinishRequest", "'%s%n'", "Off, On or Auto"),
            ("FinishRequest \u{e4}", "FinishRequest", r"'\\xc3\\xa4'", "Off, On or Auto"),
            ("FinishRequestTimeout", "FinishRequestTimeout", "no value", SECONDS),
            ("FinishRequestTimeout 0", "FinishRequestTimeout", "'0'", SECONDS),
            ("FinishRequestTimeout -5", "FinishRequestTimeout", "'-5'", SECONDS),
            ("FinishRequestTimeout 5s", "FinishRequestTimeout", "'5s'", SECONDS),
            ("FinishRequestTimeout 4294967296", "FinishRequestTimeout", "'4294967296'", SECONDS),
            ("FinishRequestTimeout 1 2", "FinishRequestTimeout", "'1 2'", SECONDS),
            ("FinishRequestOnAbort", "FinishRequestOnAbort", "no value", "Stop or Continue"),
            ("FinishRequestOnAbort Ignore", "FinishRequestOnAbort", "'Ignore'", "Stop or Continue"),
            ("FinishRequestBypass", "FinishRequestBypass", "no value", "the names of output filters, or none"),
            ("FinishRequestBypass none X", "FinishRequestBypass", "'none X'", "the names of output filters, or none"),
            ("FinishRequestBypass X None", "FinishRequestBypass", "'X None'", "the names of output filters, or none"),
        ],
        |(line, directive, value, accepted)| {
            let said = Httpd::builder(Mpm::Event).config(line).try_start().err().expect("a refusal").to_string();
            let sentence = said.lines().find(|line| line.contains(&format!("{directive}: "))).unwrap_or(&said);
            for part in [value, accepted] {
                assert!(sentence.contains(part), "{line}: {part} is not in {sentence}");
            }
        },
    );
}

#[test]
fn a_long_wrong_value_is_cut() {
    let line = format!("FinishRequest {}", "x".repeat(4000));
    let said = Httpd::builder(Mpm::Worker).config(&line).try_start().err().expect("a refusal").to_string();
    assert!(said.contains("xxx...'") && said.contains("Off, On or Auto"), "{said}");
}

/// The administrator's filters: one replaces a word, one works on includes. `INCLUDES` stands in the chain as `BYTYPE:INCLUDES`.
const FILTERED: &str = r#"
function handle(r)
    r.content_type = "text/html"
    r.headers_out["X-Finish-Request"] = 'boundary="=_end_of_the_page_="'
    r:puts('salary <!--#echo var="A" -->=_end_of_the_page_=')
    r:flush()
    return apache2.OK
end
"#;

on_every_mpm!(a_htaccess_leaves_the_administrators_filters);

fn a_htaccess_leaves_the_administrators_filters(mpm: Mpm) {
    let httpd = Httpd::builder(mpm)
        .handler(Handler::Lua)
        .modules(&["env", "include", "sed", "filter", "deflate"])
        .config(
            "FinishRequest On
            <Directory ${WWW}>
              AllowOverride All
              Options +Includes
              SetEnv A b
              SetOutputFilter SED
              OutputSed \"s/salary/xxxxxx/g\"
              AddOutputFilterByType INCLUDES text/html
            </Directory>
            <DirectoryMatch ${WWW}/(listed|free)>
              AllowOverride None
              AllowOverrideList FinishRequestBypass
            </DirectoryMatch>
            <Directory ${WWW}/own>
              FinishRequestBypass SED Includes
            </Directory>",
        )
        .start();
    let refused = [
        ("sed", "FinishRequestBypass SED"),
        ("case", "FinishRequestBypass brotli_compress Includes"),
        ("before", "FinishRequestBypass sed DEFLATE"),
        ("prefix", "FinishRequestBypass BYTYPE:INCLUDES"),
        ("quoted", "FinishRequestBypass \"DEFLATE \" \"sed\""),
        ("unknown", "FinishRequestBypass NO_SUCH_FILTER"),
        ("if", "<If \"true\">\nFinishRequestBypass SED\n</If>"),
        ("files", "<Files \"*\">\nFinishRequestBypass SED\n</Files>"),
        ("limit", "<Limit GET POST>\nFinishRequestBypass SED\n</Limit>"),
        ("ifmodule", "<IfModule finish_request_module>\nFinishRequestBypass SED\n</IfModule>"),
        ("listed", "FinishRequestBypass SED"),
        ("own/below", "FinishRequestBypass SED"),
    ];
    let filtered = [
        ("none", "FinishRequestBypass None"),
        ("both", "FinishRequestBypass Deflate brotli_compress"),
        ("free", "FinishRequestBypass DEFLATE"),
        // It replaces the administrator's list.
        ("own/deflate", "FinishRequestBypass DEFLATE"),
    ];
    for (folder, text) in refused.into_iter().chain(filtered) {
        write(&httpd, &format!("{folder}/.htaccess"), text);
        write(&httpd, &format!("{folder}/page.lua"), FILTERED);
    }
    write(&httpd, "own/page.lua", FILTERED);
    httpd.expect_log(
        "FinishRequestBypass: the value '.*' is not understood; it takes DEFLATE, BROTLI_COMPRESS or none in a",
    );
    for &protocol in mpm.protocols() {
        let get = |folder| Client::connect(&httpd, protocol).get(&format!("/{folder}/page.lua"), &[]).response();
        for (folder, _) in refused {
            assert_eq!(get(folder).status, 500, "{folder}");
        }
        for (folder, _) in filtered {
            // sed ends the last line.
            assert_body(&get(folder), b"xxxxxx b\n");
        }
        assert_body(&get("own"), b"salary <!--#echo var=\"A\" -->");
    }
    httpd.stop();
}
