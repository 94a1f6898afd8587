//! `Content-Length` from CGI scripts and their like: httpd drops it, and the module uses it only as far as it holds
//! the application to it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use support::http1::EndKind;
use support::{Background, Builder, Client, Handler, Httpd, Mpm, Protocol, body};

use crate::judge::{assert_body, path, ran_to_its_end};

const CGI_LIKE: [(Handler, Mpm); 5] = [
    (Handler::Cgi, Mpm::Event),
    (Handler::Cgi, Mpm::Worker),
    (Handler::Cgi, Mpm::Prefork),
    (Handler::PhpFpm, Mpm::Event),
    (Handler::PhpFpm, Mpm::Prefork),
];

fn with_and_without(builder: impl Fn() -> Builder) -> [Httpd; 2] {
    [builder().without_module(), builder().config("FinishRequest On")].map(Builder::start)
}

/// An unmarked response of an application that still runs has no length on stock httpd, nor with the module. Where the
/// administrator trusts the application it has one, with and without the module.
#[test]
fn unmarked() {
    for (handler, mpm) in CGI_LIKE {
        let servers = with_and_without(|| {
            Httpd::builder(mpm).handler(handler).modules(&["alias", "env"]).config(
                "Alias /trusted ${WWW}
                <Location /trusted/>
                  SetEnv ap_trust_cgilike_cl yes
                </Location>",
            )
        });
        for httpd in &servers {
            for (folder, length) in [("", None), ("trusted/", Some("4096"))] {
                // `off` and a mark that does not parse are not marked either.
                for mark in ["none", "off"] {
                    let background = httpd.background();
                    let client = Client::connect(httpd, Protocol::Http1);
                    let page = format!("{folder}{}", handler.page());
                    client.get(&format!("{}&after=0", path(&background, &page, &format!("mark={mark}"))), &[]);
                    let connection = client.http1().unwrap();
                    connection.next_begins();
                    background.wait_for_begin();
                    ran_to_its_end(&background);
                    let response = connection.response();
                    assert_body(&response, &body(4096));
                    assert_eq!(response.header("Content-Length"), length, "{page} {mark}");
                }
            }
        }
        servers.into_iter().for_each(Httpd::stop);
    }
}

/// A backend that speaks SCGI: it sends what the test gives it, and then waits for the test's word to end.
struct Scgi {
    port: u16,
    work: Sender<(Vec<u8>, Receiver<()>)>,
}

impl Scgi {
    fn start() -> Scgi {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let (work, jobs) = channel::<(Vec<u8>, Receiver<()>)>();
        thread::spawn(move || {
            for (text, end) in jobs {
                let Ok((mut socket, _)) = listener.accept() else { return };
                read_header(&mut socket);
                let _ = socket.write_all(&text);
                thread::spawn(move || {
                    let _ = end.recv();
                    let _ = socket.write_all(b"after the end");
                });
            }
        });
        Scgi { port, work }
    }

    /// Answers the next request with `text`, until the sender is dropped.
    fn answer(&self, text: &[u8]) -> Sender<()> {
        let (end, ended) = channel();
        self.work.send((text.to_vec(), ended)).unwrap();
        end
    }
}

/// A netstring: its length in digits, a colon, so many bytes, a comma.
fn read_header(socket: &mut TcpStream) {
    let mut length = 0;
    let mut byte = [0];
    while socket.read_exact(&mut byte).is_ok() && byte[0].is_ascii_digit() {
        length = length * 10 + usize::from(byte[0] - b'0');
    }
    let _ = socket.read_exact(&mut vec![0; length + 1]);
}

#[test]
fn mod_proxy_scgi() {
    for mpm in Mpm::ALL {
        let backend = Scgi::start();
        let port = backend.port;
        let [stock, httpd] = with_and_without(|| {
            Httpd::builder(mpm)
                .modules(&["proxy", "proxy_scgi"])
                .config(&format!("ProxyPass /app scgi://127.0.0.1:{port} disablereuse=on"))
        });
        let answer = |mark: &str, bytes: usize| {
            let mut text = format!("Status: 200 OK\r\nContent-Type: text/plain\r\nContent-Length: 4096\r\n{mark}\r\n");
            text += &String::from_utf8(body(bytes)).unwrap();
            text.into_bytes()
        };

        // Unmarked: no length, and what the application prints too much is there to see.
        for httpd in [&stock, &httpd] {
            let end = backend.answer(&answer("", 4096));
            let client = Client::connect(httpd, Protocol::Http1);
            let exchange = client.get("/app", &[]);
            client.http1().unwrap().next_begins();
            drop(end);
            let response = exchange.response();
            assert_body(&response, &[&body(4096)[..], b"after the end"].concat());
            assert_eq!(response.header("Content-Length"), None);
        }

        for &protocol in mpm.protocols() {
            // Marked, with enough bytes and with more than enough: let go before the backend ends.
            for bytes in [4096, 5000] {
                let end = backend.answer(&answer("X-Finish-Request: on\r\n", bytes));
                let client = Client::connect(&httpd, protocol);
                let response = client.get("/app", &[]).released();
                assert_body(&response, &body(4096));
                assert_eq!(response.header("Content-Length"), Some("4096"));
                drop(end);
            }
        }
        stock.stop();
        httpd.stop();
    }
}

/// Marked, an application is held to its length: neither more nor fewer bytes on a connection that goes on.
#[test]
fn marked() {
    for (handler, mpm) in CGI_LIKE {
        let httpd = Httpd::builder(mpm).handler(handler).config("FinishRequest On").start();
        httpd.expect_log("finish_request:warn.*ended before the end that it promised");
        let ask = |length: usize| -> (Background, Client) {
            let background = httpd.background();
            let client = Client::connect(&httpd, Protocol::Http1);
            client.get(&path(&background, handler.page(), &format!("mark=on&length={length}")), &[]);
            (background, client)
        };
        let (background, client) = ask(100);
        let connection = client.http1().unwrap();
        assert_body(&connection.response(), &body(100));
        assert_eq!((connection.end().kind, connection.rest().len()), (EndKind::Fin, 0));
        ran_to_its_end(&background);

        let (background, client) = ask(10_000);
        let connection = client.http1().unwrap();
        ran_to_its_end(&background);
        assert!(connection.response_or_end().is_err());
        assert_eq!(connection.end().kind, EndKind::Fin);
        httpd.stop();
    }
}
