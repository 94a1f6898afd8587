//! Two networks, joined by a link that takes its time: not every kernel has netem, so TUN devices and threads that wait carry the packets.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::Ipv4Addr;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// The server's address.
pub const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);

/// The side of the link on which servers are.
pub struct Server {
    client: File,
}

/// Runs `work` in a network that has a server's side of a link; packets take `delay` in each direction.
///
/// # Errors
///
/// Why this machine permits none, as the rest of a sentence.
pub fn with_delay<T: Send>(delay: Duration, work: impl FnOnce(&Server) -> T + Send) -> Result<T, String> {
    let joined = thread::scope(|scope| {
        let server = scope.spawn(|| {
            let server = network(SERVER, CLIENT)?;
            let (client, namespace) = thread::spawn(|| -> io::Result<_> {
                Ok((network(CLIENT, SERVER)?, File::open("/proc/thread-self/ns/net")?))
            })
            .join()
            .expect("a thread")?;
            carry(server.try_clone()?, client.try_clone()?, delay);
            carry(client, server, delay);
            Ok(work(&Server { client: namespace }))
        });
        server.join()
    });
    match joined {
        Ok(result) => result
            .map_err(|error: io::Error| format!("no network namespace with a TUN device is to be had here ({error})")),
        Err(panic) => std::panic::resume_unwind(panic),
    }
}

impl Server {
    /// Runs `work` on the client's side.
    pub fn as_client<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        let run = || {
            // SAFETY: a system call with a descriptor that is open; it changes the network of this thread.
            let entered = unsafe { libc::setns(self.client.as_raw_fd(), libc::CLONE_NEWNET) };
            assert_eq!(entered, 0, "{}", io::Error::last_os_error());
            work()
        };
        thread::scope(|scope| scope.spawn(run).join().expect("a measurement"))
    }
}

/// Gives this thread a network of its own, with an end of a link.
fn network(own: Ipv4Addr, other: Ipv4Addr) -> io::Result<File> {
    // SAFETY: a system call; it changes the network of this thread.
    if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let device = File::options().read(true).write(true).open("/dev/net/tun")?;
    // SAFETY: a structure of numbers may be zeros.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(b"link0") {
        *place = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the descriptor is open, and the structure is what this call wants.
    if unsafe { libc::ioctl(device.as_raw_fd(), libc::TUNSETIFF, &raw const request) } != 0 {
        return Err(io::Error::last_os_error());
    }
    let (own, other) = (own.to_string(), other.to_string());
    for arguments in [
        &["link", "set", "lo", "up"][..],
        &["addr", "add", &own, "peer", &other, "dev", "link0"],
        &["link", "set", "link0", "up"],
    ] {
        // A child's network is that of the thread that starts it.
        let status = Command::new("ip").args(arguments).status()?;
        if !status.success() {
            return Err(io::Error::other(format!("ip {}: {status}", arguments.join(" "))));
        }
    }
    Ok(device)
}

/// Carries packets one way, from now on.
fn carry(mut from: File, mut to: File, delay: Duration) {
    let (sender, packets) = channel();
    thread::spawn(move || {
        let mut buffer = [0; 65_536];
        while let Ok(length) = from.read(&mut buffer) {
            if sender.send((Instant::now() + delay, buffer[..length].to_vec())).is_err() {
                break;
            }
        }
    });
    thread::spawn(move || deliver(&packets, &mut to));
}

fn deliver(packets: &Receiver<(Instant, Vec<u8>)>, to: &mut File) {
    for (due, packet) in packets {
        thread::sleep(due.saturating_duration_since(Instant::now()));
        // A packet that the other side does not take is lost, as on any link.
        let _ = to.write(&packet);
    }
}
