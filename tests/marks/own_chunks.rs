//! A body that the application chunks by itself: decoded as it streams, and at its last chunk the response ends.

use std::thread;

use support::http1::EndKind;
use support::{Background, Client, Framing, Handler, Httpd, Mpm, Protocol, body, wait_for};

/// Writes the pieces of its query, in hexadecimal with points between them, each with a flush; then works in the
/// background.
const PIECES: &str = r#"
function handle(r)
    local background = dofile(r.filename:match("^(.*)/") .. "/background.lua")
    local query = r:parseargs()
    r.content_type = "text/plain"
    r.headers_out["Transfer-Encoding"] = query.coding or "chunked"
    if query.length then
        r.headers_out["Content-Length"] = query.length
    end
    if query.mark then
        r.headers_out["X-Finish-Request"] = query.mark
    end
    for piece in query.pieces:gmatch("%x+") do
        r:write((piece:gsub("%x%x", function(byte) return string.char(tonumber(byte, 16)) end)))
        r:flush()
    end
    if query.id then
        background.run(r, query.id, 200)
    end
    return apache2.OK
end
"#;

/// In `marked/` no filter is bypassed.
fn start(mpm: Mpm) -> Httpd {
    let httpd = Httpd::builder(mpm)
        .handler(Handler::Lua)
        .modules(&["alias", "filter", "deflate"])
        .config(
            "FinishRequest On
             AddOutputFilterByType DEFLATE text/plain
             Alias /marked \"${WWW}\"
             <Location /marked>
               FinishRequestBypass none
             </Location>",
        )
        .start();
    httpd.install("pieces.lua", PIECES);
    httpd
}

fn path(folder: &str, pieces: &[impl AsRef<[u8]>]) -> String {
    marked(folder, pieces, "on")
}

fn marked(folder: &str, pieces: &[impl AsRef<[u8]>], mark: &str) -> String {
    let hex = |piece: &[u8]| piece.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let pieces: Vec<_> = pieces.iter().map(|piece| hex(piece.as_ref())).collect();
    format!("{folder}/pieces.lua?pieces={}&mark={mark}", pieces.join("."))
}

fn with_background(path: &str, background: &Background) -> String {
    format!("{path}&id={}", background.id())
}

/// Extensions, trailers, sizes in upper and lower case and with zeros before them.
const LIVELY: &[u8] =
    b"A\r\n0123456789\r\n00b;name=\"value\";x\r\nhello world\r\n1 \t;y\r\n!\r\n0;last\r\nTrailer: one\r\nX-Other:\r\n\r\n";
const LIVELY_BODY: &[u8] = b"0123456789hello world!";

#[test]
fn decoded_on_every_protocol_compressed_or_not() {
    let text = body(2000);
    let chunk = |part: &[u8]| [format!("{:x}\r\n", part.len()).as_bytes(), part, b"\r\n"].concat();
    let pieces = [chunk(&text[..1000]), chunk(&text[1000..]), b"0\r\n\r\n".to_vec()];
    for mpm in [Mpm::Event, Mpm::Prefork] {
        let httpd = start(mpm);
        for &protocol in mpm.protocols() {
            for folder in ["", "/marked"] {
                for accept in [&[][..], &[("Accept-Encoding", "gzip")]] {
                    let background = httpd.background();
                    let client = Client::connect(&httpd, protocol);
                    let path = with_background(&path(folder, &pieces), &background);
                    let response = client.get(&path, accept).released();
                    assert_eq!(response.decoded(), text, "{mpm:?} {protocol:?} {folder} {accept:?}");
                    assert_eq!(
                        response.header("Content-Encoding").is_some(),
                        !accept.is_empty() && folder == "/marked"
                    );
                    let transfer = response.header("Transfer-Encoding");
                    assert_eq!(transfer, (protocol != Protocol::Http2).then_some("chunked"));
                    background.open_gate();
                    assert_eq!(background.wait_for_done().errors, "");
                }
            }
        }
        httpd.stop();
    }
}

#[test]
fn decoded_for_http_1_0() {
    let httpd = start(Mpm::Event);
    for accept in ["", "Accept-Encoding: gzip\r\n"] {
        let background = httpd.background();
        let connection = httpd.connect();
        let path = with_background(&path("", &[LIVELY]), &background);
        connection.send(format!("GET {path} HTTP/1.0\r\nHost: localhost\r\n{accept}\r\n"));
        let response = connection.response();
        assert_ne!(response.framing, Framing::Chunked);
        assert_eq!(connection.end().kind, EndKind::Fin);
        assert_eq!(response.decoded(), LIVELY_BODY);
        assert_eq!(response.header("Transfer-Encoding"), None);
        background.open_gate();
        assert_eq!(background.wait_for_done().errors, "");
    }
    httpd.stop();
}

#[test]
fn cut_anywhere_between_writes() {
    let httpd = start(Mpm::Event);
    let mut ways: Vec<Vec<&[u8]>> = (1..LIVELY.len()).map(|at| vec![&LIVELY[..at], &LIVELY[at..]]).collect();
    ways.push(LIVELY.chunks(1).collect());
    let client = Client::connect(&httpd, Protocol::Http2);
    for pieces in ways {
        let background = httpd.background();
        let response = client.get(&with_background(&path("", &pieces), &background), &[]).released();
        assert_eq!(response.body.escape_ascii().to_string(), LIVELY_BODY.escape_ascii().to_string(), "{pieces:?}");
        background.open_gate();
        assert_eq!(background.wait_for_done().errors, "");
    }
    httpd.stop();
}

/// The first part is with the client while the second is not written.
#[test]
fn decoded_as_it_streams() {
    let httpd = start(Mpm::Event);
    let background = httpd.background();
    let connection = httpd.connect();
    connection.get(&with_background(&path("", &[b"5\r\nhello\r\n"]), &background), &[]);
    support::wait_for("the first chunk", || connection.so_far().filter(|response| response.body == b"hello"));
    // What the work prints is no chunk.
    httpd.expect_log("finish_request:warn.*body of a marked response");
    background.open_gate();
    assert!(connection.response_or_end().is_err());
    httpd.stop();
}

/// The client must not take a part for the whole: over HTTP/1.1 there is no last chunk, over HTTP/2 a reset.
#[test]
fn broken_chunks_end_in_a_broken_response() {
    let broken: [&[u8]; 8] = [
        b"5\r\nhello\r\nx\r\n",
        b"5\r\nhelloX\r\n0\r\n\r\n",
        b"5\nhello\n0\n\n",
        b"-5\r\nhello\r\n0\r\n\r\n",
        b"5\r\nhello\r\n8000000000000000\r\n",
        // The application ends before its body does.
        b"5\r\nhello\r\n",
        b"9\r\nhello",
        b"5\r\nhello\r\n0\r\n",
    ];
    for mpm in [Mpm::Event, Mpm::Prefork] {
        let httpd = start(mpm);
        httpd.expect_log("finish_request:warn.*body of a marked response");
        httpd.allow_log("finish_request:warn.*body of a marked response");
        thread::scope(|scope| {
            for (folder, pieces) in broken.iter().flat_map(|piece| ["", "/marked"].map(|folder| (folder, [piece]))) {
                let httpd = &httpd;
                scope.spawn(move || {
                    let name = format!("{mpm:?} {folder} {:?}", pieces[0].escape_ascii().to_string());
                    let connection = httpd.connect();
                    connection.get(&path(folder, &pieces), &[]);
                    let end = connection.response_or_end().err().unwrap_or_else(|| panic!("{name}: a whole response"));
                    assert_eq!(end.kind, EndKind::Fin, "{name}");
                    let received = connection.received();
                    assert!(!received.ends_with(b"0\r\n\r\n"), "{name}: {}", received.escape_ascii());
                    if mpm.has_http2() {
                        let connection = httpd.connect_http2();
                        let failure = connection.get(&path(folder, &pieces), &[]).response_or_failure();
                        assert!(failure.is_err(), "{name}: {failure:?}");
                        assert!(connection.is_open(), "{name}: the other streams go on");
                    }
                });
            }
        });
        httpd.stop();
    }
}

/// A coding under the chunks cannot be taken off: such a response is an ordinary one.
#[test]
fn another_mark_does_not_go_with_them() {
    let httpd = start(Mpm::Event);
    httpd.expect_log("finish_request:warn.*chunks its body by itself, for which its mark must be 'on'");
    for mark in ["length=5", "flush", "boundary=%220123456789abcdef%22"] {
        let background = httpd.background();
        let connection = httpd.connect();
        let path = marked("", &[b"5\r\nhello\r\n0\r\n\r\n"], mark);
        connection.get(&with_background(&path, &background), &[]);
        background.wait_for_begin();
        background.open_gate();
        background.wait_for_done();
    }
    assert!(!httpd.log().contains("finished early, marked"));
    httpd.stop();
}

#[test]
fn other_transfer_codings_are_left_alone() {
    let httpd = start(Mpm::Event);
    httpd.allow_log("finish_request:warn.*chunks its body by itself");
    for mark in ["on", "on&length=10", "length=10", "boundary=0123456789abcdef", "flush"] {
        let background = httpd.background();
        let connection = httpd.connect();
        let path = marked("", &[b"5\r\nhello\r\n0\r\n\r\n"], mark) + "&coding=gzip,chunked";
        connection.get(&with_background(&path, &background), &[]);
        background.wait_for_begin();
        background.open_gate();
        background.wait_for_done();
        assert!(!httpd.log().contains("] finished early"), "{mark}");
        let head = wait_for("its header", || {
            let text = String::from_utf8_lossy(&connection.received()).to_lowercase();
            text.split_once("\r\n\r\n").map(|(head, _)| head.to_owned())
        });
        assert!(head.contains("transfer-encoding: gzip,chunked") && !head.contains("content-length"), "{mark}: {head}");
    }
    httpd.stop();
}
