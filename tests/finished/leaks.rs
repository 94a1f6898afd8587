//! What is written after the end reaches nobody, whatever the client does then: it goes on reading, has sent its next
//! request already, or has closed its own side.

use std::collections::HashSet;

use support::http1::{Connection, EndKind};
use support::{Background, Handler, Httpd, Mpm, body, wait_for};

use super::released::{connections_to, sockets_of};

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
    // httpd has gone to where it would read the second one.
    let client = format!("client 127.0.0.1:{}]", connection.local_address().port());
    let ends = |line: &str| line.contains(&client) && line.contains("the background work has ended");
    wait_for("the end of the work", || httpd.log().lines().any(ends).then_some(()));
    let ports = HashSet::from([connection.local_address().port()]);
    wait_for("the end of the connection", || {
        let sockets = sockets_of(httpd.id());
        (!connections_to(&ports).iter().any(|inode| sockets.contains(inode))).then_some(())
    });
    assert!(!second.has_begun());
    assert!(!httpd.access_log().iter().any(|line| line.contains(&format!("id={}&", second.id()))));
}

fn half_closes(httpd: &Httpd, handler: Handler, connection: &Connection) {
    let background = httpd.background();
    connection.send(request(handler, &background));
    connection.close_sending();
    gets_the_response_only(connection, &background);
}
