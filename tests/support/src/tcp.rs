//! The kernel's table of TCP sockets.

use std::fs;
use std::net::SocketAddr;

/// One of them, as `/proc/net/tcp` has it (proc_net_tcp, the kernel's documentation).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TcpSocket {
    /// Address and port of its own side.
    pub local: String,
    /// Those of the other side.
    pub remote: String,
    /// Whether it listens.
    pub listens: bool,
    /// Whether both sides may send.
    pub is_established: bool,
    /// How many bytes its other side has not acknowledged yet.
    pub unsent: u64,
    /// By which processes hold it; 0 where none does.
    pub inode: u64,
}

impl TcpSocket {
    fn parse(row: &str) -> Option<TcpSocket> {
        let columns: Vec<&str> = row.split_whitespace().collect();
        Some(TcpSocket {
            local: (*columns.get(1)?).to_owned(),
            remote: (*columns.get(2)?).to_owned(),
            listens: *columns.get(3)? == "0A",
            is_established: *columns.get(3)? == "01",
            unsent: u64::from_str_radix(columns.get(4)?.split(':').next()?, 16).ok()?,
            inode: columns.get(9)?.parse().ok()?,
        })
    }

    /// Whether its own side is one of these addresses, as far as the ports go.
    pub fn is_of(&self, addresses: &[SocketAddr]) -> bool {
        port(&self.local).is_some_and(|port| addresses.iter().any(|address| address.port() == port))
    }
}

fn port(end: &str) -> Option<u16> {
    u16::from_str_radix(end.rsplit(':').next()?, 16).ok()
}

/// Those with one of these ports at either side, in the calling thread's network. Where others come and go, a look may miss one, or see it twice.
pub fn tcp_sockets(ports: impl IntoIterator<Item = u16>) -> Vec<TcpSocket> {
    let tables =
        ["tcp", "tcp6"].map(|name| fs::read_to_string(format!("/proc/thread-self/net/{name}")).unwrap_or_default());
    let mut rows: Vec<&str> = Vec::new();
    for wanted in ports {
        let end = format!(":{wanted:04X} ");
        // There may be thousands of others': these rows alone are looked at.
        for table in &tables {
            for (at, _) in table.match_indices(&end) {
                let start = table[..at].rfind('\n').map_or(0, |newline| newline + 1);
                rows.push(table[start..].split('\n').next().unwrap_or_default());
            }
        }
    }
    rows.sort_unstable();
    rows.dedup();
    rows.into_iter().filter_map(TcpSocket::parse).collect()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::{port, tcp_sockets};

    #[test]
    fn both_sides_and_the_listener() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (_server, _) = listener.accept().unwrap();
        let mut sockets = tcp_sockets([address.port()]);
        sockets.retain(|socket| socket.inode != 0);
        assert_eq!(sockets.len(), 3, "{sockets:?}");
        assert_eq!(sockets.iter().filter(|socket| socket.listens && socket.inode != 0).count(), 1, "{sockets:?}");
        let served =
            |socket: &&super::TcpSocket| socket.is_established && socket.is_of(&[address]) && socket.unsent == 0;
        assert_eq!(sockets.iter().filter(served).count(), 1, "{sockets:?}");
        // The client's port may be another server's or client's, too.
        let mut of_client = tcp_sockets([client.local_addr().unwrap().port()]);
        of_client.retain(|socket| {
            socket.inode != 0 && [&socket.local, &socket.remote].iter().any(|end| port(end) == Some(address.port()))
        });
        assert_eq!(of_client.len(), 2, "{of_client:?}");
    }
}
