//! Marks that nobody can understand: the response is an ordinary one, and the log says why, once.

use support::{Handler, Httpd, Mpm, Protocol};

use crate::judge::{Application, early, is_said_seldom, ordinary};

/// The mark is the query parameter `value` so many times, in a header or in the variable.
const MARKED: Application = Application {
    php: r#"
        $value = str_repeat($_GET['value'], (int) ($_GET['times'] ?? 1));
        header('Content-Type: text/plain');
        if (isset($_GET['env'])) {
            apache_setenv('finish-request', $value);
        } else {
            header("X-Finish-Request: $value");
        }
        echo body(4096);
        flush();
        background($_GET['id']);
    "#,
    sh: "",
    lua: r#"
        local value = query.value:rep(tonumber(query.times or 1))
        r.content_type = "text/plain"
        if query.env then
            r.subprocess_env["finish-request"] = value
        else
            r.headers_out["X-Finish-Request"] = value
        end
        r:write(background.body(4096))
        r:flush()
        background.run(r, query.id, 200)
        return apache2.OK
    "#,
};

/// Sends `query` three times over each protocol, and expects one warning that shows the value as `shown`.
fn warned_once(handler: Handler, mpm: Mpm, query: &str, shown: &str) {
    let httpd = Httpd::builder(mpm).handler(handler).workers(24).config("FinishRequest On").start();
    let page = MARKED.install(&httpd, handler, "marked");
    let place = if query.contains("env=") { "environment variable finish-request" } else { "header X-Finish-Request" };
    httpd.expect_log(&format!("finish_request:warn.* the {place} is '"));
    for protocol in mpm.protocols().iter().cycle().take(3) {
        ordinary(&httpd, *protocol, &page, query);
    }
    let log = httpd.log();
    let warnings: Vec<&str> = log.lines().filter(|line| line.contains("finish_request:warn")).collect();
    is_said_seldom(&httpd, "finish_request:warn");
    let told = format!("the {place} is '{shown}', so this response is not finished early: ");
    assert!(warnings[0].contains(&told), "not \"{told}\" in {}", warnings[0]);
    httpd.stop();
}

macro_rules! warned_once {
    ($($name:ident: $query:expr => $shown:expr;)*) => {
        $(
            #[test]
            fn $name() {
                warned_once(Handler::Lua, Mpm::Event, $query, $shown);
            }
        )*
    };
}

// The log escapes a backslash once more.
warned_once! {
    empty: "value=%20" => " ";
    only_separators: "value=;;" => ";;";
    an_unknown_word: "value=please" => "please";
    an_unknown_word_in_the_variable: "env=1&value=please" => "please";
    a_known_word_and_another: "value=on;please" => "on;please";
    two_marks: "value=length=1;on" => "length=1;on";
    a_length_repeated: "value=length=4096;length=4096" => "length=4096;length=4096";
    a_length_without_a_number: "value=length" => "length";
    a_length_with_nothing: "value=length=" => "length=";
    a_negative_length: "value=length=-1" => "length=-1";
    a_length_with_a_sign: "value=length=%2B1" => "length=+1";
    a_hexadecimal_length: "value=length=0x10" => "length=0x10";
    a_length_of_2_to_the_63: "value=length=9223372036854775808" => "length=9223372036854775808";
    a_length_of_2_to_the_64: "value=length=18446744073709551616" => "length=18446744073709551616";
    a_length_of_31_digits: "value=length=1000000000000000000000000000000" => "length=1000000000000000000000000000000";
    a_length_of_2_to_the_64_in_the_variable:
        "env=1&value=length=18446744073709551616" => "length=18446744073709551616";
    a_value_for_on: "value=on=1" => "on=1";
    control_bytes: "value=on%01%1f%7f%1b[31m" => r"on\\x01\\x1f\\x7f\\x1b[31m";
    quotes: "value=on%22%5c%27" => r#"on"\\x5c'"#;
    a_quote_without_an_end: "value=length=%221" => r#"length="1"#;
    bytes_of_8_bits: "value=%c3%a4%ff" => r"\\xc3\\xa4\\xff";
    percent_signs: "value=%25s%25n%25n" => "%s%n%n";
    control_bytes_in_the_variable: "env=1&value=on%01%ff" => r"on\\x01\\xff";
}

#[test]
fn ten_kilobytes() {
    let shown = format!("{}...", "0123456789abcdef".repeat(6));
    for query in ["value=0123456789abcdef&times=640", "env=1&value=0123456789abcdef&times=640"] {
        warned_once(Handler::Lua, Mpm::Event, query, &shown);
        warned_once(Handler::ModPhp, Mpm::Prefork, query, &shown);
    }
}

on_every_handler_and_mpm!(told_by_every_handler);

/// What a handler does to a header's value on its way, control bytes above all, must not do harm.
fn told_by_every_handler(handler: Handler, mpm: Mpm) {
    let httpd = Httpd::builder(mpm).handler(handler).config("FinishRequest On").start();
    let app = Application {
        php: r#"
            header('Content-Type: text/plain');
            header("X-Finish-Request: length=\x01\x7f\xff\"'\\;");
            echo body(4096);
            flush();
            background($_GET['id']);
        "#,
        sh: r#"
            printf 'Content-Type: text/plain\r\nX-Finish-Request: length=\001\177\377"'"'"'\\;\r\n\r\n'
            body 4096
            background "$id" 200
        "#,
        lua: r#"
            r.content_type = "text/plain"
            r.headers_out["X-Finish-Request"] = "length=\1\127\255\"'\\;"
            r:write(background.body(4096))
            r:flush()
            background.run(r, query.id, 200)
            return apache2.OK
        "#,
    };
    let page = app.install(&httpd, handler, "bad");
    httpd.expect_log(r"the header X-Finish-Request is 'length=\\\\x01\\\\x7f\\\\xff");
    for protocol in mpm.protocols() {
        ordinary(&httpd, *protocol, &page, "");
    }
    httpd.stop();
}

/// A variable that the configuration sets, for a static file: there is a length, and yet it is left alone.
#[test]
fn the_variable_of_a_static_file() {
    let httpd = Httpd::builder(Mpm::Worker)
        .modules(&["env"])
        .config("FinishRequest On\nSetEnv finish-request \"length=1 length=2\"")
        .start();
    httpd.install("file.txt", "a static file\n");
    httpd.expect_log("the environment variable finish-request is 'length=1 length=2', so this response");
    for protocol in [Protocol::Http1, Protocol::Http1Tls, Protocol::Http2] {
        let client = support::Client::connect(&httpd, protocol);
        for _ in 0..2 {
            assert_eq!(client.get("/file.txt", &[]).response().body, b"a static file\n");
        }
    }
    httpd.stop();
}

/// A mark on a response that has ended already changes nothing, whether or not it parses.
#[test]
fn on_a_response_that_has_ended() {
    for mpm in Mpm::ALL {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).config("FinishRequest On").start();
        httpd.install(
            "again.lua",
            r#"
            function handle(r)
                local background = dofile(r.filename:match("^(.*)/") .. "/background.lua")
                local query = r:parseargs()
                r.content_type = "text/plain"
                r.headers_out["X-Finish-Request"] = "length=100"
                r:write(background.body(100))
                r:flush()
                for _, mark in ipairs { "length=4096", "flush", "off", "no mark" } do
                    r.subprocess_env["finish-request"] = mark
                    r.headers_out["X-Finish-Request"] = mark
                    r:write("L")
                    r:flush()
                end
                background.run(r, query.id, 200)
                return apache2.OK
            end"#,
        );
        for &protocol in mpm.protocols() {
            early(&httpd, protocol, "again.lua", "", 100);
        }
        httpd.stop();
    }
}
