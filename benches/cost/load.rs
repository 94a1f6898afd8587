//! Clients that do nothing but ask and wait.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// How many clients ask at once.
const CLIENTS: usize = 4;

/// How many requests a second a server answers, on connections that are kept.
///
/// # Panics
///
/// When the server does not answer, or not always with as many bytes.
pub fn requests_per_second(server: SocketAddr, path: &str, duration: Duration) -> f64 {
    let start = Instant::now();
    let requests: u64 = thread::scope(|scope| {
        let clients: Vec<_> =
            (0..CLIENTS).map(|_| scope.spawn(move || ask_until(start + duration, server, path))).collect();
        clients.into_iter().map(|client| client.join().unwrap().expect("the server answers")).sum()
    });
    requests as f64 / start.elapsed().as_secs_f64()
}

fn ask_until(end: Instant, server: SocketAddr, path: &str) -> io::Result<u64> {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n");
    let mut socket = connect(server)?;
    let mut buffer = vec![0; 64 * 1024];
    let mut requests = 0;
    let mut size = None;
    while Instant::now() < end {
        socket.write_all(request.as_bytes())?;
        let mut filled = 0;
        // A connection's first response offers an upgrade; the second says how long all others are.
        if requests < 2 {
            size = None;
        }
        while size.is_none_or(|size| filled < size) {
            let count = socket.read(&mut buffer[filled..])?;
            assert_ne!(count, 0, "the server closed a connection that was to be kept");
            filled += count;
            size = size.or_else(|| response_size(&buffer[..filled]));
        }
        assert_eq!(Some(filled), size, "a response of another size");
        requests += 1;
    }
    Ok(requests)
}

/// Head and body of a response with a Content-Length.
fn response_size(bytes: &[u8]) -> Option<usize> {
    let text = String::from_utf8_lossy(bytes);
    let (head, _) = text.split_once("\r\n\r\n")?;
    assert!(head.starts_with("HTTP/1.1 200 "), "{head}");
    let length = head.lines().find_map(|line| line.strip_prefix("Content-Length: ")).expect("a Content-Length");
    Some(head.len() + 4 + length.parse::<usize>().unwrap())
}

/// How long one request takes on a connection of its own, from the first byte sent to the FIN.
///
/// # Panics
///
/// When the server does not answer.
pub fn time_to_end(server: SocketAddr, path: &str) -> Duration {
    let request = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    let mut socket = connect(server).expect("the server listens");
    let mut response = Vec::new();
    let start = Instant::now();
    socket.write_all(request.as_bytes()).and_then(|()| socket.read_to_end(&mut response)).expect("the server answers");
    let time = start.elapsed();
    assert!(response.starts_with(b"HTTP/1.1 200 "), "{}", response.escape_ascii());
    time
}

fn connect(server: SocketAddr) -> io::Result<TcpStream> {
    let socket = TcpStream::connect(server)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(support::DEADLINE))?;
    Ok(socket)
}
