//! An origin for mod_proxy_http that does what the query of its requests says, step by step.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use support::DEADLINE;

/// Starts it; it ends with the process.
pub fn start(data: fn(char) -> &'static [u8]) -> SocketAddr {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for socket in listener.incoming().flatten() {
            // An error: httpd has gone.
            thread::spawn(move || answer(socket, data));
        }
    });
    address
}

fn answer(mut socket: TcpStream, data: fn(char) -> &'static [u8]) -> io::Result<()> {
    socket.set_nodelay(true)?;
    let mut input = BufReader::new(socket.try_clone()?);
    let mut first = String::new();
    input.read_line(&mut first)?;
    let mut length = 0;
    loop {
        let mut line = String::new();
        if input.read_line(&mut line)? == 0 || line == "\r\n" {
            break;
        }
        if let Some(value) = line.to_ascii_lowercase().strip_prefix("content-length:") {
            length = value.trim().parse().unwrap_or(0);
        }
    }
    let query = first.split(' ').nth(1).and_then(|uri| uri.split_once('?')).map_or("", |(_, query)| query).to_owned();
    let to_head = first.starts_with("HEAD ");

    let (mut status, mut lines, mut sent, mut out) = ("200".to_owned(), String::new(), false, Vec::new());
    let mut upload = input.take(length);
    for step in query.split('~').filter(|step| !step.is_empty()) {
        let (kind, rest) = step.split_at(1);
        let rest = unescaped(rest);
        let text = String::from_utf8_lossy(&rest).into_owned();
        let head = |sent: &mut bool| {
            if std::mem::replace(sent, true) {
                return Vec::new();
            }
            format!("HTTP/1.1 {status} Told\r\n{lines}\r\n").into_bytes()
        };
        match kind {
            "S" => status = text,
            "H" => lines += &format!("{text}\r\n"),
            "I" => socket.write_all(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")?,
            "X" => out.extend(rest),
            "T" | "Z" | "G" => {
                let (from, bytes) = text.split_once('.').unwrap_or_default();
                let (from, bytes): (usize, usize) = (from.parse().unwrap_or(0), bytes.parse().unwrap_or(0));
                out.extend_from_slice(&data(kind.chars().next().unwrap_or('T'))[from..from + bytes]);
            }
            "E" => {
                let head = head(&mut sent);
                let body = std::mem::take(&mut out);
                socket.write_all(&[head, if to_head { Vec::new() } else { body }].concat())?;
            }
            "F" => socket.write_all(&head(&mut sent))?,
            "P" => thread::sleep(Duration::from_millis(text.parse().unwrap_or(0))),
            "R" => {
                let bytes = text.parse().unwrap_or(u64::MAX);
                io::copy(&mut upload.by_ref().take(bytes), &mut io::sink())?;
            }
            _ => {}
        }
    }
    if !sent {
        socket.write_all(format!("HTTP/1.1 {status} Told\r\n{lines}\r\n").as_bytes())?;
    }
    // What was not read must not turn the end into a reset.
    socket.shutdown(Shutdown::Write)?;
    socket.set_read_timeout(Some(DEADLINE))?;
    io::copy(&mut upload.into_inner(), &mut io::sink())?;
    Ok(())
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        let (hex, rest) = part.split_at(2.min(part.len()));
        bytes.push(u8::from_str_radix(hex, 16).unwrap_or(b'?'));
        bytes.extend(rest.bytes());
    }
    bytes
}
