//! Interim responses and switches of protocols: never marked, by nothing, and never changed, but that they do not show the mark.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;

use support::{DEADLINE, Handler, Httpd, Mpm, Response, tools, wait_for};

/// Answers each request with two interim responses and a page; the mark stands in all three.
fn origin() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    thread::spawn(move || {
        for client in listener.incoming() {
            let mut client = client.unwrap();
            head_of(&mut client);
            let long = format!("Link: </{}.css>; rel=preload\r\n", "x".repeat(6000));
            for hint in ["Link: </one.js>; rel=preload\r\n", &long.repeat(3)] {
                let mark = "X-Finish-Request: length=12\r\n";
                write!(client, "HTTP/1.1 103 Early Hints\r\n{mark}{hint}x-finish-request: off\r\n\r\n").unwrap();
            }
            let page =
                "Content-Type: text/html\r\nX-Finish-Request: length=12\r\nContent-Length: 12\r\n\r\n<h1>hi</h1>\n";
            write!(client, "HTTP/1.1 200 OK\r\n{page}").unwrap();
        }
    });
    address
}

on_every_mpm!(hints_of_a_proxied_origin);

fn hints_of_a_proxied_origin(mpm: Mpm) {
    let origin = origin();
    for setting in ["FinishRequestConnection Close", "FinishRequestConnection Keep", "FinishRequestOnAbort Continue"] {
        let early_hints = if mpm.has_http2() { "H2EarlyHints on" } else { "" };
        let httpd = Httpd::builder(mpm)
            .modules(&["proxy", "proxy_http"])
            .config(&format!(
                "FinishRequest On\n{setting}\n{early_hints}\nProxyPass /o/ http://{origin}/ disablereuse=on responsefieldsize=16384"
            ))
            .start();
        let mut ways = vec![("--http1.1", httpd.url("/o/")), ("--http1.1", httpd.tls_url("/o/"))];
        if mpm.has_http2() {
            ways.push(("--http2", httpd.tls_url("/o/")));
        }
        for (version, url) in ways {
            // Twice on a connection, where it is kept.
            let output = tools::curl(&["--insecure", "--include", version, &url, &url]);
            let text = String::from_utf8(output.stdout).unwrap();
            assert!(output.status.success(), "{version} {url}: {}", output.stderr);
            let count = |what: &str| text.lines().filter(|line| line.contains(what)).count();
            assert_eq!(
                (count(" 103"), count(" 200"), count("<h1>hi</h1>")),
                (4, 2, 2),
                "{version} {url}: {}",
                short(&text)
            );
            assert_eq!(text.matches("one.js").count(), 2, "{version} {url}: {}", short(&text));
            assert_eq!(text.matches(".css").count(), 6, "{version} {url}: {}", short(&text));
            assert!(!text.to_ascii_lowercase().contains("x-finish-request"), "{version} {url}: {}", short(&text));
        }
        httpd.stop();
    }
}

/// A WebSocket that counts: so many messages come, so many go.
const SOCKET: &str = r#"
function handle(r)
    r.headers_out["X-Finish-Request"] = "flush"
    if not r:wsupgrade() then return 400 end
    for count = 1, 3 do
        local text = r:wsread()
        if not text then break end
        r:wswrite(count .. ":" .. #text)
    end
    r:wsclose()
    return apache2.OK
end
"#;

on_every_mpm!(web_sockets_of_mod_lua);

fn web_sockets_of_mod_lua(mpm: Mpm) {
    for setting in [
        "FinishRequest Auto",
        "FinishRequest On\nSetEnv finish-request on",
        "FinishRequest On\nSetEnv finish-request length=3",
    ] {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).modules(&["env"]).config(setting).start();
        httpd.install("socket.lua", SOCKET);
        let mut client = connect(&httpd);
        let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==";
        write!(client, "GET /socket.lua HTTP/1.1\r\nHost: localhost\r\n{upgrade}\r\nSec-WebSocket-Version: 13\r\n\r\n")
            .unwrap();
        let head = head_of(&mut client);
        assert!(head.starts_with("HTTP/1.1 101 "), "{setting}: {head}");
        assert!(head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), "{setting}: {head}");
        assert!(!head.to_ascii_lowercase().contains("x-finish-request"), "{setting}: {head}");
        for (length, answer) in [(5_usize, "1:5"), (200, "2:200"), (70_000, "3:70000")] {
            client.write_all(&frame(length)).unwrap();
            let mut start = [0; 2];
            client.read_exact(&mut start).unwrap();
            assert_eq!(start, [0x81, u8::try_from(answer.len()).unwrap()], "{setting}");
            let mut text = vec![0; answer.len()];
            client.read_exact(&mut text).unwrap();
            assert_eq!(text, answer.as_bytes(), "{setting}");
        }
        drop(client);
        wait_for("the end of the socket", || (!httpd.access_log().is_empty()).then_some(()));
        httpd.stop();
    }
}

/// A masked frame with a text of this length (RFC 6455, section 5.2); the mask is zero.
fn frame(length: usize) -> Vec<u8> {
    let mut frame = vec![0x81];
    match length {
        0..=125 => frame.push(0x80 | u8::try_from(length).unwrap()),
        126..=65_535 => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(length).unwrap().to_be_bytes());
        }
        _ => {
            frame.push(0x80 | 127);
            frame.extend(u64::try_from(length).unwrap().to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.resize(frame.len() + length, b'a');
    frame
}

on_every_mpm!(tunnels);

/// What passes through a tunnel is nobody's response, not even where it looks like one, with a mark in it.
fn tunnels(mpm: Mpm) {
    const LOOKS_LIKE_ONE: &[u8] = b"HTTP/1.1 103 Early Hints\r\nX-Finish-Request: on\r\n\r\n";
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    for setting in ["FinishRequest Auto", "FinishRequest On\nSetEnv finish-request length=3"] {
        let httpd = Httpd::builder(mpm)
            .modules(&["env", "proxy", "proxy_http", "proxy_connect"])
            .config(&format!(
                "{setting}\nProxyRequests On\nAllowCONNECT {}\nProxyPass /ws http://{address}/ upgrade=websocket",
                address.port()
            ))
            .start();
        for connect_method in [true, false] {
            let mut client = connect(&httpd);
            let head = if connect_method {
                format!("CONNECT {address} HTTP/1.1\r\nHost: {address}\r\n\r\n")
            } else {
                "GET /ws HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n".to_owned()
            };
            client.write_all(head.as_bytes()).unwrap();
            let (mut backend, _) = listener.accept().unwrap();
            backend.set_read_timeout(Some(DEADLINE)).unwrap();
            if connect_method {
                assert!(head_of(&mut client).starts_with("HTTP/1.0 200 "), "{setting}");
            } else {
                head_of(&mut backend);
                let switched = "Upgrade: websocket\r\nConnection: Upgrade\r\nX-Finish-Request: on\r\n";
                write!(backend, "HTTP/1.1 101 Switching Protocols\r\n{switched}\r\n").unwrap();
                let head = head_of(&mut client);
                assert!(head.starts_with("HTTP/1.1 101 "), "{setting}: {head}");
                assert!(!head.contains("X-Finish-Request"), "{setting}: {head}");
            }
            for _ in 0..3 {
                client.write_all(LOOKS_LIKE_ONE).unwrap();
                heard(&mut backend, LOOKS_LIKE_ONE);
                backend.write_all(LOOKS_LIKE_ONE).unwrap();
                heard(&mut client, LOOKS_LIKE_ONE);
            }
            drop((client, backend));
        }
        // A stop before the tunnels have seen that may leave a child of worker waiting for sockets that httpd has closed.
        wait_for("the end of the tunnels", || (httpd.access_log().len() >= 2).then_some(()));
        httpd.stop();
    }
}

#[track_caller]
fn heard(stream: &mut TcpStream, expected: &[u8]) {
    let mut bytes = vec![0; expected.len()];
    stream.read_exact(&mut bytes).unwrap();
    assert_eq!(bytes.escape_ascii().to_string(), expected.escape_ascii().to_string());
}

fn connect(httpd: &Httpd) -> TcpStream {
    let client = TcpStream::connect(httpd.address()).unwrap();
    client.set_read_timeout(Some(DEADLINE)).unwrap();
    client
}

/// Reads the head of a request or a response, to the empty line.
fn head_of(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

on_every_mpm!(no_offer_where_the_connection_is_closed);

/// httpd offers other protocols with the first response of a connection. One that is closed cannot take that up, and some clients
/// stumble over it. What another module or the application says stays.
fn no_offer_where_the_connection_is_closed(mpm: Mpm) {
    if !mpm.has_http2() {
        return;
    }
    const OWN: &str = "#!/bin/sh\n\
        printf 'Content-Type: text/plain\\r\\nUpgrade: IRC/6.9\\r\\nX-Finish-Request: length=5\\r\\n\\r\\nhello'\nexec >&-\nsleep 0.2\n";
    let server = |setting: &str| {
        let httpd = Httpd::builder(mpm).handler(Handler::Cgi).handler(Handler::Lua).config(setting).start();
        httpd.install("own.cgi", OWN);
        httpd
    };
    let shown = |response: &Response| {
        ["Upgrade", "Connection"].map(|wanted| {
            let same = response.headers.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
            same.map(|(_, value)| value.to_ascii_lowercase()).collect::<Vec<_>>().join(", ")
        })
    };
    let close = server("FinishRequest On");
    let keep = server("FinishRequest On\nFinishRequestConnection Keep");
    for (page, tls) in [("app.cgi", false), ("app.lua", false), ("app.lua", true)] {
        let connect = |httpd: &Httpd| if tls { httpd.connect_tls() } else { httpd.connect() };
        let connection = connect(&close);
        connection.get(&format!("/{page}?mark=off"), &[]);
        let offer = shown(&connection.response());
        assert!(offer[0].contains("h2") && offer[1] == "upgrade", "{page} {tls}: {offer:?}");
        for httpd in [&close, &keep] {
            let background = httpd.background();
            let connection = connect(httpd);
            connection.get(&format!("{}&mark=length%3D4096&length=none", background.query(page)), &[]);
            let response = connection.response();
            let kept = std::ptr::eq(httpd, &raw const keep) && !tls;
            let expected = if kept { offer.clone() } else { ["", "close"].map(str::to_owned) };
            assert_eq!(shown(&response), expected, "{page} {tls}");
            assert!(!background.is_done());
            background.open_gate();
            background.wait_for_done();
        }
    }
    let connection = close.connect();
    connection.get("/own.cgi", &[]);
    assert!(shown(&connection.response())[0].contains("irc/6.9"));
    for httpd in [close, keep] {
        httpd.stop();
    }
}

/// Long lines are cut.
fn short(text: &str) -> String {
    text.lines().map(|line| line.chars().take(100).collect::<String>() + "\n").collect()
}
