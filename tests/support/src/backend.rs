//! Backends for mod_proxy that speak its rarer protocols, and answer what and when the test wants.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};

use crate::deadline::{DEADLINE, wait_for};

/// What a backend speaks with mod_proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// AJP 1.3, for mod_proxy_ajp.
    Ajp,
    /// SCGI, for mod_proxy_scgi.
    Scgi,
    /// uwsgi's own protocol, for mod_proxy_uwsgi.
    Uwsgi,
}

impl Speaks {
    /// The scheme of a backend's URL.
    pub fn scheme(self) -> &'static str {
        match self {
            Speaks::Ajp => "ajp",
            Speaks::Scgi => "scgi",
            Speaks::Uwsgi => "uwsgi",
        }
    }

    /// The module that httpd needs for it.
    pub fn module(self) -> &'static str {
        match self {
            Speaks::Ajp => "proxy_ajp",
            Speaks::Scgi => "proxy_scgi",
            Speaks::Uwsgi => "proxy_uwsgi",
        }
    }
}

/// A backend. Each request comes on a connection of its own.
pub struct Backend {
    listener: TcpListener,
    speaks: Speaks,
}

/// A request that a backend has got, without a body. Dropped, its response is at its end.
pub struct Answer {
    socket: TcpStream,
    speaks: Speaks,
    request: Vec<u8>,
}

impl Backend {
    /// Listens on the loopback interface.
    ///
    /// # Panics
    ///
    /// When there is no port.
    pub fn start(speaks: Speaks) -> Backend {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        listener.set_nonblocking(true).expect("a socket");
        Backend { listener, speaks }
    }

    /// The directive that passes requests for `path` on.
    ///
    /// # Panics
    ///
    /// Not for a socket that listens.
    pub fn proxy_pass(&self, path: &str) -> String {
        let address = self.listener.local_addr().expect("an address");
        format!("ProxyPass {path} {}://{address} disablereuse=on", self.speaks.scheme())
    }

    /// Waits for the next request.
    ///
    /// # Panics
    ///
    /// After the deadline, and for what is no request.
    #[track_caller]
    pub fn next(&self) -> Answer {
        let accept = || -> Option<(TcpStream, SocketAddr)> { self.listener.accept().ok() };
        let (mut socket, _) = wait_for("a request for the backend", accept);
        socket.set_nonblocking(false).expect("a socket");
        socket.set_read_timeout(Some(DEADLINE)).expect("a socket");
        socket.set_write_timeout(Some(DEADLINE)).expect("a socket");
        let request = read_request(self.speaks, &mut socket).expect("a request");
        Answer { socket, speaks: self.speaks, request }
    }
}

/// Reads the request's header, whatever it says.
fn read_request(speaks: Speaks, socket: &mut TcpStream) -> io::Result<Vec<u8>> {
    let mut start = [0; 4];
    let length = match speaks {
        Speaks::Ajp => {
            socket.read_exact(&mut start)?;
            u64::from(u16::from_be_bytes([start[2], start[3]]))
        }
        Speaks::Uwsgi => {
            socket.read_exact(&mut start)?;
            u64::from(u16::from_le_bytes([start[1], start[2]]))
        }
        // A netstring: its length in digits, a colon, so many bytes, a comma.
        Speaks::Scgi => {
            let mut length = 0;
            loop {
                socket.read_exact(&mut start[..1])?;
                if !start[0].is_ascii_digit() {
                    break length + 1;
                }
                length = length * 10 + u64::from(start[0] - b'0');
            }
        }
    };
    let mut request = Vec::new();
    socket.take(length).read_to_end(&mut request)?;
    Ok(request)
}

impl Answer {
    /// The request's header as it came: names and values, with what stands between them.
    pub fn request(&self) -> &[u8] {
        &self.request
    }

    /// Sends the status 200 and these headers.
    ///
    /// # Panics
    ///
    /// When httpd has gone.
    #[track_caller]
    pub fn head(&mut self, headers: &[(&str, &str)]) {
        let lines: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
        let head = match self.speaks {
            Speaks::Ajp => {
                let mut head = vec![4, 0, 200];
                head.extend(ajp_string("OK"));
                head.extend((headers.len() as u16).to_be_bytes());
                headers.iter().for_each(|(name, value)| head.extend([ajp_string(name), ajp_string(value)].concat()));
                ajp_packet(&head)
            }
            Speaks::Scgi => format!("Status: 200 OK\r\n{lines}\r\n").into_bytes(),
            Speaks::Uwsgi => format!("HTTP/1.1 200 OK\r\n{lines}\r\n").into_bytes(),
        };
        self.socket.write_all(&head).expect("httpd takes the header");
    }

    /// Sends some bytes of the body.
    ///
    /// # Errors
    ///
    /// httpd does not take them any more.
    pub fn body(&mut self, bytes: &[u8]) -> io::Result<()> {
        if self.speaks != Speaks::Ajp {
            return self.socket.write_all(bytes);
        }
        bytes.chunks(8000).try_for_each(|piece| {
            let chunk = [&[3][..], &(piece.len() as u16).to_be_bytes(), piece, &[0]].concat();
            self.socket.write_all(&ajp_packet(&chunk))
        })
    }

    /// Waits until httpd has closed its side.
    ///
    /// # Panics
    ///
    /// After the deadline, and when httpd sends something.
    #[track_caller]
    pub fn is_given_up(&mut self) {
        let read = self.socket.read(&mut [0]);
        let gone = match &read {
            Ok(read) => *read == 0,
            Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
        };
        assert!(gone, "{read:?}");
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.speaks == Speaks::Ajp {
            // END_RESPONSE, and no other request on this connection. Errors: httpd has gone.
            let _ = self.socket.write_all(&ajp_packet(&[5, 0]));
        }
    }
}

/// From a backend to httpd.
fn ajp_packet(payload: &[u8]) -> Vec<u8> {
    [b"AB", &(payload.len() as u16).to_be_bytes()[..], payload].concat()
}

fn ajp_string(text: &str) -> Vec<u8> {
    [&(text.len() as u16).to_be_bytes()[..], text.as_bytes(), &[0]].concat()
}
