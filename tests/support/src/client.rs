//! The same test over each protocol.

use crate::http1::{Connection, EndKind};
use crate::http2::{Failure, Http2, Stream};
use crate::httpd::{Httpd, Mpm};
use crate::response::Response;

/// What a client and a server speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/1.1 over TLS.
    Http1Tls,
    /// HTTP/2 over TLS.
    Http2,
}

impl Mpm {
    /// The protocols that a server with this MPM speaks.
    pub fn protocols(self) -> &'static [Protocol] {
        const ALL: [Protocol; 3] = [Protocol::Http1, Protocol::Http1Tls, Protocol::Http2];
        if self.has_http2() { &ALL } else { &ALL[..2] }
    }
}

/// A connection over any of the protocols, for tests that send one request after the other.
pub struct Client {
    tls: bool,
    connection: Kind,
}

enum Kind {
    Http1(Connection),
    Http2(Http2),
}

/// A request that was sent and is to be answered.
pub struct Exchange<'a> {
    client: &'a Client,
    stream: Option<Stream>,
    to_head: bool,
}

impl Client {
    /// A new connection to `httpd`.
    ///
    /// # Panics
    ///
    /// When the server does not speak `protocol`.
    #[track_caller]
    pub fn connect(httpd: &Httpd, protocol: Protocol) -> Client {
        let connection = match protocol {
            Protocol::Http1 => Kind::Http1(httpd.connect()),
            Protocol::Http1Tls => Kind::Http1(httpd.connect_tls()),
            Protocol::Http2 => Kind::Http2(httpd.connect_http2()),
        };
        Client { tls: protocol != Protocol::Http1, connection }
    }

    /// Sends a GET request for `path` with these headers.
    ///
    /// # Panics
    ///
    /// When the server has closed the connection.
    #[track_caller]
    pub fn get(&self, path: &str, headers: &[(&str, &str)]) -> Exchange<'_> {
        self.request("GET", path, headers, None)
    }

    /// Sends a request for `path` with these headers, and its body if there is one.
    ///
    /// # Panics
    ///
    /// When the server has closed the connection.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, headers: &[(&str, &str)], body: Option<&[u8]>) -> Exchange<'_> {
        let stream = match &self.connection {
            Kind::Http1(connection) => {
                connection.request(method, path, headers, body);
                None
            }
            Kind::Http2(connection) => Some(connection.request(method, path, headers, body)),
        };
        Exchange { client: self, stream, to_head: method == "HEAD" }
    }

    /// Gives the connection up: over HTTP/1 the server gets an RST.
    pub fn abort(self) {
        match self.connection {
            Kind::Http1(connection) => connection.abort(),
            Kind::Http2(connection) => drop(connection),
        }
    }

    /// The same as a connection with all its possibilities, if it is one of HTTP/1.
    pub fn http1(&self) -> Option<&Connection> {
        match &self.connection {
            Kind::Http1(connection) => Some(connection),
            Kind::Http2(_) => None,
        }
    }

    /// The same as a connection with all its possibilities, if it is one of HTTP/2.
    pub fn http2(&self) -> Option<&Http2> {
        match &self.connection {
            Kind::Http1(_) => None,
            Kind::Http2(connection) => Some(connection),
        }
    }
}

impl Exchange<'_> {
    /// Waits until the response is complete by its own framing.
    ///
    /// # Panics
    ///
    /// After the deadline, or when it ends too early.
    #[track_caller]
    pub fn response(&self) -> Response {
        match (&self.client.connection, &self.stream) {
            (_, Some(stream)) => stream.response(),
            (Kind::Http1(connection), None) if self.to_head => connection.head_response(),
            (Kind::Http1(connection), None) => connection.response(),
            (Kind::Http2(_), None) => unreachable!("each request over HTTP/2 has a stream"),
        }
    }

    /// As [`Exchange::response`] over HTTP/2, where the stream may be reset.
    ///
    /// # Errors
    ///
    /// How the stream ended instead.
    ///
    /// # Panics
    ///
    /// After the deadline, and for a connection of HTTP/1.
    #[track_caller]
    pub fn failure(&self) -> Result<Response, Failure> {
        self.stream.as_ref().expect("a stream").response_or_failure()
    }

    /// The response if it is complete already, or why it will never be. Does not wait.
    pub fn response_now(&self) -> Option<Result<Response, String>> {
        match (&self.client.connection, &self.stream) {
            (_, Some(stream)) => stream.response_now().map(|result| result.map_err(|failure| failure.text)),
            (Kind::Http1(connection), None) => connection.response_now(),
            (Kind::Http2(_), None) => unreachable!("each request over HTTP/2 has a stream"),
        }
    }

    /// What there is of the response: `None` before its headers are complete. Does not wait.
    pub fn so_far(&self) -> Option<Response> {
        match (&self.client.connection, &self.stream) {
            (_, Some(stream)) => stream.so_far(),
            (Kind::Http1(connection), None) => connection.so_far(),
            (Kind::Http2(_), None) => unreachable!("each request over HTTP/2 has a stream"),
        }
    }

    /// Waits until the client is let go for good: the response is complete, and over HTTP/1 the
    /// connection is closed in good order, with nothing behind the response.
    ///
    /// # Panics
    ///
    /// After the deadline; when the connection is reset or bytes follow the response; over TLS
    /// when the session was not closed before the connection; over HTTP/2 when the connection
    /// does not stay open.
    #[track_caller]
    pub fn released(&self) -> Response {
        let response = self.response();
        self.end_in_good_order();
        response
    }

    /// The second half of [`Exchange::released`], for a response that was taken already.
    ///
    /// # Panics
    ///
    /// As there.
    #[track_caller]
    pub fn end_in_good_order(&self) {
        match &self.client.connection {
            Kind::Http1(connection) => {
                let end = connection.end();
                assert_eq!(end.kind, EndKind::Fin, "the connection's end");
                assert_eq!(end.close_notify.is_some(), self.client.tls, "close_notify: {end:?}");
                let rest = connection.rest();
                assert!(rest.is_empty(), "behind the response: \"{}\"", rest.escape_ascii());
            }
            Kind::Http2(connection) => assert!(connection.is_open(), "the connection is closed"),
        }
    }
}
