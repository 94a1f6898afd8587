//! How an application marks its response: the header, the variable, and who wins.

use support::{Builder, Handler, Httpd, Mpm, Protocol};

use crate::judge::{Application, BYTES, early, ordinary, side_by_side, write};

on_every_handler_and_mpm!(header_and_variable);

/// Each folder has a variable, set in its own way.
fn with_variables(builder: Builder) -> Builder {
    builder.modules(&["alias", "env", "setenvif", "rewrite"]).config(
        r#"FinishRequest On
        AliasMatch ^/(plain|on|length|short|off|if)/(.*) ${WWW}/$2
        <Location /on/>
          SetEnv finish-request on
        </Location>
        <Location /length/>
          SetEnv finish-request length=4096
        </Location>
        <Location /short/>
          SetEnv finish-request length=100
        </Location>
        <Location /off/>
          SetEnv finish-request off
        </Location>
        SetEnvIf Request_URI ^/if/ finish-request=length=4096
        RewriteEngine On
        RewriteRule ^/rewritten/(.*) /$1 [E=finish-request:length=4096,PT]
        <Directory ${WWW}>
          AllowOverride FileInfo
          Options FollowSymLinks ExecCGI
        </Directory>"#,
    )
}

/// Front controllers as applications have them in .htaccess: httpd redirects internally, and renames the variable.
fn front_controllers(httpd: &Httpd, page: &str) {
    for (folder, value) in [("front", "length=4096"), ("front-off", "off")] {
        let text = format!(
            "RewriteEngine On\nRewriteCond %{{REQUEST_FILENAME}} !-f\n\
             RewriteRule ^ /{page} [E=finish-request:{value},QSA,L]\n"
        );
        write(httpd, &format!("{folder}/.htaccess"), text);
    }
    let text = "RewriteEngine On\nRewriteRule ^ /front/any [E=finish-request:length=4096,QSA,L]\n";
    write(httpd, "double/.htaccess", text);
}

fn header_and_variable(handler: Handler, mpm: Mpm) {
    let httpd = with_variables(Httpd::builder(mpm).handler(handler)).start();
    let page = handler.page();
    front_controllers(&httpd, page);

    let finished = [
        ("plain", "mark=on"),
        ("plain", "mark=ON"),
        ("plain", "mark=%20%3B%20on%20%3B"),
        ("plain", "mark=length%3D4096&length=none"),
        ("plain", "mark=Length%3D%224096%22&length=none"),
        ("plain", "mark=length%3D0000004096&length=none"),
        // The length that the mark says replaces the header's.
        ("plain", "mark=length%3D4096&length=5000"),
        ("plain", "mark=length%3D4096&length=100"),
        ("on", "mark=none"),
        ("length", "mark=none&length=none"),
        ("if", "mark=none&length=none"),
        ("rewritten", "mark=none&length=none"),
        ("front", "mark=none&length=none"),
        ("double", "mark=none&length=none"),
        // The header wins against the variable.
        ("short", "mark=length%3D4096&length=none"),
        ("short", "mark=on"),
        ("on", "mark=length%3D4096&length=none"),
    ];
    side_by_side(finished, |(folder, query)| {
        let page = format!("{folder}/{page}");
        let response = early(&httpd, Protocol::Http1, &page, query, BYTES);
        assert_eq!(response.header("Content-Length"), Some("4096"));
    });

    let left_alone = [
        ("plain", "mark=none&length=none"),
        // There is nothing that says where the end would be.
        ("plain", "mark=on&length=none"),
        // `off` wins wherever it stands.
        ("plain", "mark=off&length=none"),
        ("off", "mark=length%3D4096&length=none"),
        ("off", "mark=none&length=none"),
        ("length", "mark=off&length=none"),
        ("front", "mark=off&length=none"),
        ("front-off", "mark=length%3D4096&length=none"),
    ];
    side_by_side(left_alone, |(folder, query)| {
        ordinary(&httpd, Protocol::Http1, &format!("{folder}/{page}"), query);
    });
    httpd.stop();
}

/// Marks itself as its query says, at once or after the first part of its body.
const MARKS_ITSELF: Application = Application {
    php: r#"
        header('Content-Type: text/plain');
        if (isset($_GET['env'])) {
            apache_setenv('finish-request', $_GET['env']);
        }
        if (isset($_GET['header'])) {
            header('X-Finish-Request: ' . $_GET['header']);
        }
        echo body(1000);
        flush();
        if (isset($_GET['late'])) {
            apache_setenv('finish-request', $_GET['late']);
        }
        if (isset($_GET['late-header'])) {
            @header('X-Finish-Request: ' . $_GET['late-header']);
        }
        echo substr(body(4096), 1000);
        flush();
        background($_GET['id']);
    "#,
    sh: "",
    lua: r#"
        r.content_type = "text/plain"
        r.subprocess_env["finish-request"] = query.env
        r.headers_out["X-Finish-Request"] = query.header
        r.err_headers_out["X-Finish-Request"] = query.err
        local text = background.body(4096)
        r:write(text:sub(1, 1000))
        r:flush()
        if query.late then
            r.subprocess_env["finish-request"] = query.late
        end
        if query["late-header"] then
            r.headers_out["X-Finish-Request"] = query["late-header"]
        end
        r:write(text:sub(1001))
        r:flush()
        background.run(r, query.id, 200)
        return apache2.OK
    "#,
};

#[test]
fn mod_php_sets_the_variable() {
    in_process(Handler::ModPhp, Mpm::Prefork);
}

#[test]
fn mod_lua_sets_the_variable() {
    for mpm in Mpm::ALL {
        in_process(Handler::Lua, mpm);
    }
}

fn in_process(handler: Handler, mpm: Mpm) {
    let httpd = Httpd::builder(mpm).handler(handler).config("FinishRequest On").start();
    let page = MARKS_ITSELF.install(&httpd, handler, "marks");
    let finished = [
        "env=length=4096",
        "header=length=4096",
        // Late, but the end is still to come, or just here.
        "late=length=4096",
        "env=length=4096&late=length=4096",
    ];
    side_by_side(finished, |query| _ = early(&httpd, Protocol::Http1, &page, query, BYTES));

    let left_alone = [
        "x=x",
        "env=off",
        "late=off",
        // `off` was said, whatever comes later.
        "header=off&late=length=4096",
        "env=off&header=length=4096",
        // Too late: the end would have been before.
        "late=length=999",
        // A header after the header has gone.
        "late-header=length=4096",
    ];
    side_by_side(left_alone, |query| _ = ordinary(&httpd, Protocol::Http1, &page, query));
    httpd.stop();
}

#[test]
fn both_header_tables_count() {
    let httpd = Httpd::builder(Mpm::Event).handler(Handler::Lua).config("FinishRequest On").start();
    let page = MARKS_ITSELF.install(&httpd, Handler::Lua, "marks");
    for protocol in Mpm::Event.protocols() {
        early(&httpd, *protocol, &page, "header=length=4096", BYTES);
        early(&httpd, *protocol, &page, "err=length=4096", BYTES);
        ordinary(&httpd, *protocol, &page, "err=off&env=length=4096");
    }
    httpd.stop();
}

mod repeated {
    use super::*;

    const TWICE: Application = Application {
        php: r#"
            header('Content-Type: text/plain');
            header('X-Finish-Request: length=4096', false);
            header('X-Finish-Request: length=4096', false);
            echo body(4096);
            flush();
            background($_GET['id']);
        "#,
        sh: r#"
            printf 'Content-Type: text/plain\r\n'
            printf 'X-Finish-Request: length=4096\r\nX-Finish-Request: length=4096\r\n\r\n'
            body 4096
            background "$id" 200
        "#,
        lua: r#"
            r.content_type = "text/plain"
            r.headers_out["X-Finish-Request"] = "length=4096"
            r.err_headers_out["X-Finish-Request"] = "length=4096"
            r:write(background.body(4096))
            r:flush()
            background.run(r, query.id, 200)
            return apache2.OK
        "#,
    };

    on_every_handler_and_mpm!(is_no_mark);

    fn is_no_mark(handler: Handler, mpm: Mpm) {
        let httpd = Httpd::builder(mpm).handler(handler).config("FinishRequest On").start();
        let page = TWICE.install(&httpd, handler, "twice");
        httpd.expect_log("the header X-Finish-Request is '.*', so this response is not finished early");
        ordinary(&httpd, Protocol::Http1, &page, "");
        httpd.stop();
    }
}
