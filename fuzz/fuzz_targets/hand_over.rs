//! The receiving side of a connection that another process hands over: whatever comes to the socket, with whatever descriptors, is taken only if
//! it is a whole message with the server's secret and a client's connection; and no descriptor is left behind.
#![no_main]

use std::mem::zeroed;
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::sync::LazyLock;

use libfuzzer_sys::{arbitrary, arbitrary::Arbitrary, fuzz_target};
use mod_finish_request::hand_over::{LONGEST, SECRET, receive};

const OURS: [u8; SECRET] = [0xa7; SECRET];
/// The room for descriptors, of the receiver's.
const ROOM: usize = 12;

static TCP: LazyLock<(TcpListener, TcpStream)> = LazyLock::new(|| {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener, client)
});
static PAIR: LazyLock<(OwnedFd, OwnedFd)> = LazyLock::new(|| pair(libc::SOCK_STREAM));

#[derive(Arbitrary, Debug)]
struct Input<'a> {
    secret: Secret,
    keepalives: i32,
    keep_alive_timeout: i64,
    /// How much of the message is there.
    cut: Option<u8>,
    held: &'a [u8],
    /// How often that stands there: up to what is too long.
    times: u16,
    descriptors: Vec<Kind>,
}

#[derive(Arbitrary, Debug)]
enum Secret {
    Right,
    WrongAt(u8),
    Other([u8; SECRET]),
}

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
enum Kind {
    Client,
    Listening,
    Unix,
    File,
}

impl Kind {
    fn descriptor(self) -> RawFd {
        match self {
            Kind::Client => TCP.1.as_raw_fd(),
            Kind::Listening => TCP.0.as_raw_fd(),
            Kind::Unix => PAIR.0.as_raw_fd(),
            Kind::File => 0,
        }
    }
}

fn pair(kind: libc::c_int) -> (OwnedFd, OwnedFd) {
    let mut pair = [0; 2];
    // SAFETY: the kernel writes two descriptors, which are nobody else's.
    unsafe {
        assert_eq!(libc::socketpair(libc::AF_UNIX, kind | libc::SOCK_CLOEXEC, 0, pair.as_mut_ptr()), 0);
        (OwnedFd::from_raw_fd(pair[0]), OwnedFd::from_raw_fd(pair[1]))
    }
}

fn send(socket: &OwnedFd, message: &[u8], descriptors: &[RawFd]) -> bool {
    let mut control = [0_u64; 128];
    // SAFETY: the buffers are this function's own, of the lengths that are given.
    unsafe {
        let mut data = libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
        let mut header: libc::msghdr = zeroed();
        header.msg_iov = &raw mut data;
        header.msg_iovlen = 1;
        if !descriptors.is_empty() {
            let bytes = size_of_val(descriptors) as u32;
            header.msg_control = control.as_mut_ptr().cast();
            header.msg_controllen = libc::CMSG_SPACE(bytes) as usize;
            let first = libc::CMSG_FIRSTHDR(&raw const header);
            (*first).cmsg_level = libc::SOL_SOCKET;
            (*first).cmsg_type = libc::SCM_RIGHTS;
            (*first).cmsg_len = libc::CMSG_LEN(bytes) as usize;
            std::ptr::copy_nonoverlapping(descriptors.as_ptr(), libc::CMSG_DATA(first).cast(), descriptors.len());
        }
        libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL | libc::MSG_DONTWAIT) >= 0
    }
}

/// The number that the next descriptor would have, and how many are open.
fn open() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

fuzz_target!(|input: Input<'_>| {
    LazyLock::force(&TCP);
    LazyLock::force(&PAIR);
    let mut secret = OURS;
    match input.secret {
        Secret::Right => {}
        Secret::WrongAt(place) => secret[usize::from(place) % SECRET] ^= 1,
        Secret::Other(other) => secret = other,
    }
    let held = input.held.repeat(usize::from(input.times));
    let mut message = secret.to_vec();
    message.extend(input.keepalives.to_le_bytes());
    message.extend(input.keep_alive_timeout.to_le_bytes());
    message.extend(&held);
    if let Some(cut) = input.cut {
        message.truncate(cut.into());
    }
    let kinds = &input.descriptors[..input.descriptors.len().min(100)];
    let descriptors: Vec<_> = kinds.iter().map(|kind| kind.descriptor()).collect();

    let before = open();
    {
        let (near, far) = pair(libc::SOCK_SEQPACKET);
        let sent = send(&far, &message, &descriptors);
        drop(far);
        let received = receive(&OURS, near.as_fd());
        let whole = message.len() >= SECRET + 12 && message.len() <= LONGEST && message.starts_with(&OURS);
        // The last for which there is room.
        let last = kinds[..kinds.len().min(ROOM)].last();
        let is_tcp = matches!(last, Some(Kind::Client | Kind::Listening));
        assert_eq!(received.is_ok(), sent && whole && is_tcp, "{received:?}");
        if let Ok((kept, client)) = received {
            let rest = &message[SECRET + 12..];
            assert_eq!((kept.keepalives, kept.keep_alive_timeout), (input.keepalives, input.keep_alive_timeout));
            assert_eq!(kept.held, rest);
            assert!(client.as_raw_fd() > 2);
        }
    }
    assert_eq!(open(), before, "a descriptor is left");
});
