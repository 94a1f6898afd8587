//! HTTP/2 frame by frame (RFC 9113), without TLS: for clients that do what no library does.

use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use rustix::net::sockopt;

use crate::deadline::DEADLINE;

/// What a PING carries.
const WORD: [u8; 8] = *b"is there";

/// A connection with prior knowledge. It acknowledges the server's settings, and does nothing else by itself.
pub struct Frames {
    socket: TcpStream,
    /// What came while an answer to a PING was waited for.
    kept: VecDeque<Frame>,
}

/// A frame that has come.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    /// One of the constants.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream, 0 for the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

impl Frame {
    /// Some of a body.
    pub const DATA: u8 = 0;
    /// A head.
    pub const HEADERS: u8 = 1;
    /// The end of a stream before its time.
    pub const RST_STREAM: u8 = 3;
    /// Numbers that hold for the connection.
    pub const SETTINGS: u8 = 4;
    /// A request that the server makes up.
    pub const PUSH_PROMISE: u8 = 5;
    /// To be answered.
    pub const PING: u8 = 6;
    /// The end of the connection.
    pub const GOAWAY: u8 = 7;
    /// The peer may send so much more.
    pub const WINDOW_UPDATE: u8 = 8;

    /// Whether the stream's sender has no more to say.
    pub fn is_last(&self) -> bool {
        matches!(self.kind, Frame::DATA | Frame::HEADERS) && self.flags & 1 != 0
    }

    /// A frame's bytes (section 4.1).
    pub fn bytes(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
    }

    /// The bytes of a GET request without a body.
    pub fn get(stream: u32, target: &str) -> Vec<u8> {
        // Method GET, scheme http, and a path and an authority as they are (RFC 7541, appendix A).
        let mut fields = vec![0x82, 0x86];
        for (name, value) in [(4, target), (1, "localhost")] {
            fields.push(name);
            fields.extend(length(value.len()));
            fields.extend(value.as_bytes());
        }
        // END_STREAM and END_HEADERS.
        Frame::bytes(Frame::HEADERS, 5, stream, &fields)
    }

    /// The bytes of the client's settings.
    pub fn settings(settings: &[(u16, u32)]) -> Vec<u8> {
        let payload: Vec<u8> = settings
            .iter()
            .flat_map(|(name, value)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat())
            .collect();
        Frame::bytes(Frame::SETTINGS, 0, 0, &payload)
    }
}

/// A string's length in 7 bits and more (RFC 7541, section 5.1).
fn length(length: usize) -> Vec<u8> {
    const FULL: usize = 127;
    if length < FULL {
        return vec![length as u8];
    }
    let (mut rest, mut bytes) = (length - FULL, vec![FULL as u8]);
    while rest >= 128 {
        bytes.push((rest % 128 + 128) as u8);
        rest /= 128;
    }
    bytes.push(rest as u8);
    bytes
}

impl Frames {
    /// Settings: what the server may push, how much it may send ahead on each stream, how large its frames may be.
    pub const ENABLE_PUSH: u16 = 2;
    /// See [`Frames::ENABLE_PUSH`].
    pub const INITIAL_WINDOW_SIZE: u16 = 4;
    /// See [`Frames::ENABLE_PUSH`].
    pub const MAX_FRAME_SIZE: u16 = 5;

    /// Connects to `address`, and tells these settings.
    ///
    /// # Panics
    ///
    /// When nobody listens there.
    #[track_caller]
    pub fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> Frames {
        let socket = TcpStream::connect_timeout(&address, DEADLINE).expect("the server listens");
        socket.set_nodelay(true).expect("TCP_NODELAY");
        socket.set_read_timeout(Some(DEADLINE)).expect("a timeout");
        socket.set_write_timeout(Some(DEADLINE)).expect("a timeout");
        let mut frames = Frames { socket, kept: VecDeque::new() };
        let begin = [b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(), Frame::settings(settings)].concat();
        frames.send(&begin).expect("a server that has just accepted takes it");
        frames
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    ///
    /// The server has ended the connection.
    pub fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes)
    }

    /// The next frame; none where the server has ended the connection.
    ///
    /// # Panics
    ///
    /// After the deadline.
    #[track_caller]
    pub fn frame(&mut self) -> Option<Frame> {
        if let Some(frame) = self.kept.pop_front() {
            return Some(frame);
        }
        self.read().unwrap_or_else(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => panic!("no frame comes"),
            _ => None,
        })
    }

    fn read(&mut self) -> io::Result<Option<Frame>> {
        let mut head = [0; 9];
        self.socket.read_exact(&mut head)?;
        let [a, b, c, kind, flags, stream @ ..] = head;
        let mut payload = vec![0; u32::from_be_bytes([0, a, b, c]) as usize];
        self.socket.read_exact(&mut payload)?;
        if kind == Frame::SETTINGS && flags & 1 == 0 {
            self.send(&Frame::bytes(Frame::SETTINGS, 1, 0, b""))?;
        }
        Ok(Some(Frame { kind, flags, stream: u32::from_be_bytes(stream), payload }))
    }

    /// Waits until the server has seen all that was sent. False where it has ended the connection.
    ///
    /// # Panics
    ///
    /// After the deadline.
    #[track_caller]
    pub fn is_seen(&mut self) -> bool {
        let mut before = VecDeque::new();
        let _ = self.send(&Frame::bytes(Frame::PING, 0, 0, &WORD));
        let answer = Frame { kind: Frame::PING, flags: 1, stream: 0, payload: WORD.to_vec() };
        let seen = loop {
            match self.frame() {
                Some(frame) if frame == answer => break true,
                Some(frame) => before.push_back(frame),
                None => break false,
            }
        };
        self.kept = before;
        seen
    }

    /// The body that comes on a stream up to its end. `update` is what the client does after each of its frames.
    ///
    /// # Panics
    ///
    /// When the stream or the connection ends in another way.
    #[track_caller]
    pub fn body(&mut self, stream: u32, mut update: impl FnMut(&mut Frames, &Frame)) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let frame = self.frame().expect("the connection goes on");
            assert!(frame.kind != Frame::GOAWAY, "{frame:?} after {} bytes", body.len());
            if frame.stream != stream {
                continue;
            }
            assert!(frame.kind != Frame::RST_STREAM, "{frame:?} after {} bytes", body.len());
            if frame.kind == Frame::DATA {
                body.extend(&frame.payload);
            }
            if frame.is_last() {
                return body;
            }
            update(self, &frame);
        }
    }

    /// Gives the connection up: the server gets an RST.
    ///
    /// # Panics
    ///
    /// Not for a socket.
    pub fn reset(self) {
        sockopt::set_socket_linger(&self.socket, Some(Duration::ZERO)).expect("SO_LINGER");
    }
}
