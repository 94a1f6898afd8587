//! What is written after the end reaches nobody, whatever the client does then: it goes on reading, has sent its next
//! request already, or has closed its own side.

use support::http1::{Connection, EndKind};
use support::{Background, Handler, Httpd, Mpm, body};

on_every_handler_and_mpm!(nothing_leaks);

fn nothing_leaks(handler: Handler, mpm: Mpm) {
    let httpd = Httpd::builder(mpm).handler(handler).config("FinishRequest On").start();
    for tls in [false, true] {
        let connect = || if tls { httpd.connect_tls() } else { httpd.connect() };
        goes_on_reading(&httpd, handler, &connect());
        pipelines(&httpd, handler, &connect());
        half_closes(&httpd, handler, &connect());
    }
    httpd.stop();
}

/// A request whose background work prints much, before and behind its gate.
fn request(handler: Handler, background: &Background) -> String {
    let path = background.query(handler.page());
    format!("GET {path}&after=100000 HTTP/1.1\r\nHost: localhost\r\n\r\n")
}

/// The response, FIN, and nothing else: neither before the work ends nor after.
fn gets_the_response_only(connection: &Connection, background: &Background) {
    assert_eq!(connection.response().body, body(4096));
    let end = connection.end();
    assert_eq!(end.kind, EndKind::Fin);
    assert!(!background.is_done());
    background.open_gate();
    assert_eq!(background.wait_for_done().errors, "");
    let rest = connection.rest();
    assert!(rest.is_empty(), "behind the response: \"{}\"", rest.escape_ascii());
}

fn goes_on_reading(httpd: &Httpd, handler: Handler, connection: &Connection) {
    let background = httpd.background();
    connection.send(request(handler, &background));
    gets_the_response_only(connection, &background);
}

/// The second request is in the same packet. It is not answered, least of all with bytes of the first's work.
fn pipelines(httpd: &Httpd, handler: Handler, connection: &Connection) {
    let (background, second) = (httpd.background(), httpd.background());
    let both = request(handler, &background) + &request(handler, &second);
    connection.send(both);
    gets_the_response_only(connection, &background);
    assert!(!second.has_begun());
    assert!(!httpd.access_log().iter().any(|line| line.contains(&format!("id={}&", second.id()))));
}

fn half_closes(httpd: &Httpd, handler: Handler, connection: &Connection) {
    let background = httpd.background();
    connection.send(request(handler, &background));
    connection.close_sending();
    gets_the_response_only(connection, &background);
}
