//! Sockets of the kernel's own family, that carry a descriptor beside a message.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, ErrorKind};
use std::mem::{MaybeUninit, size_of, zeroed};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

/// The kind of socket: connections whose messages stay whole.
const KIND: libc::c_int = libc::SOCK_SEQPACKET | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
/// How many connections may wait; the kernel's own limit, somaxconn, is mostly the same.
const BACKLOG: libc::c_int = 4096;
/// The room for one descriptor.
const CONTROL: usize = 64;

/// The name of a socket.
#[derive(Clone, Copy)]
pub struct Name {
    address: libc::sockaddr_un,
    length: libc::socklen_t,
}

impl Name {
    /// That of a socket's own end, if it is of this family.
    ///
    /// # Errors
    ///
    /// The kernel's.
    pub fn of(socket: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: an all-zero address is valid; the kernel writes at most `length` bytes, and the length that it has (invariant 11).
        unsafe {
            let mut name = Self { address: zeroed(), length: size_of::<libc::sockaddr_un>() as libc::socklen_t };
            check(libc::getsockname(socket.as_raw_fd(), (&raw mut name.address).cast(), &raw mut name.length))?;
            Ok(name)
        }
    }
}

impl PartialEq for Name {
    fn eq(&self, other: &Self) -> bool {
        (self.address.sun_family, self.length, &self.address.sun_path[..])
            == (other.address.sun_family, other.length, &other.address.sun_path[..])
    }
}

/// Where the file of a socket can be made, for a moment.
const PLACES: [&str; 4] = ["/run", "/tmp", "/dev/shm", "/var/tmp"];

/// A listening socket without a name, and the door to it: its file, which is deleted at once. Who has no descriptor of that, from
/// the process that made it, cannot connect.
///
/// # Errors
///
/// The kernel's.
pub fn listen() -> io::Result<(OwnedFd, OwnedFd)> {
    let mut error = ErrorKind::NotFound.into();
    for place in PLACES {
        match listen_in(place) {
            Ok(listening) => return Ok(listening),
            Err(failed) => error = failed,
        }
    }
    Err(error)
}

fn listen_in(place: &str) -> io::Result<(OwnedFd, OwnedFd)> {
    let socket = new()?;
    let mut folder = format!("{place}/finish_request-XXXXXX\0").into_bytes();
    // SAFETY: the bytes end in NUL, and the kernel's choice takes the place of the last six before it (invariant 11).
    if unsafe { libc::mkdtemp(folder.as_mut_ptr().cast()) }.is_null() {
        return Err(io::Error::last_os_error());
    }
    folder.pop();
    let folder = PathBuf::from(OsString::from_vec(folder));
    let file = folder.join("socket");
    let opened = (|| {
        let address = address(file.as_os_str().as_bytes())?;
        // SAFETY: the address is a valid one, of its own length (invariant 11).
        unsafe {
            let length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
            check(libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length))?;
            check(libc::listen(socket.as_raw_fd(), BACKLOG))?;
        }
        // Children of another user go in by the door; the folder is shut for everybody else.
        fs::set_permissions(&file, fs::Permissions::from_mode(0o666))?;
        OpenOptions::new().read(true).custom_flags(libc::O_PATH).open(&file)
    })();
    let _ = fs::remove_file(&file);
    fs::remove_dir(&folder)?;
    Ok((socket, opened?.into()))
}

/// The address of a file.
fn address(file: &[u8]) -> io::Result<libc::sockaddr_un> {
    // SAFETY: an all-zero address is valid (invariant 11).
    let mut address: libc::sockaddr_un = unsafe { zeroed() };
    address.sun_family = libc::AF_UNIX as libc::sa_family_t;
    if file.len() >= address.sun_path.len() {
        return Err(ErrorKind::InvalidInput.into());
    }
    for (to, from) in address.sun_path.iter_mut().zip(file) {
        *to = *from as libc::c_char;
    }
    Ok(address)
}

/// Where the kernel shows a process its own descriptors.
const DESCRIPTORS: &str = "/proc/self/fd";

/// Returns true if doors can be used: not where the process has been shut up without `/proc`.
pub fn has_doors() -> bool {
    fs::exists(DESCRIPTORS).unwrap_or(false)
}

/// Connects by the door and sends a message, with a descriptor. Does not wait.
///
/// # Errors
///
/// The kernel's: nobody listens, or the queue is full.
pub fn send(door: BorrowedFd<'_>, message: &[u8], descriptor: BorrowedFd<'_>) -> io::Result<()> {
    let socket = new()?;
    let address = address(format!("{DESCRIPTORS}/{}", door.as_raw_fd()).as_bytes())?;
    // SAFETY: the address is a valid one, of its own length; the header points to buffers of this function's, of the
    // lengths that it says; CMSG_FIRSTHDR gives a place in the control buffer, which has room for a descriptor (invariant 11).
    unsafe {
        let length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
        check(libc::connect(socket.as_raw_fd(), (&raw const address).cast(), length))?;
        let mut data = libc::iovec { iov_base: message.as_ptr().cast_mut().cast(), iov_len: message.len() };
        let mut control = [0_u64; CONTROL / 8];
        let mut header = header(&mut data, &mut control);
        header.msg_controllen = libc::CMSG_SPACE(size_of::<RawFd>() as u32) as usize;
        let first = libc::CMSG_FIRSTHDR(&raw const header);
        (*first).cmsg_level = libc::SOL_SOCKET;
        (*first).cmsg_type = libc::SCM_RIGHTS;
        (*first).cmsg_len = libc::CMSG_LEN(size_of::<RawFd>() as u32) as usize;
        libc::CMSG_DATA(first).cast::<RawFd>().write_unaligned(descriptor.as_raw_fd());
        check(libc::sendmsg(socket.as_raw_fd(), &raw const header, libc::MSG_NOSIGNAL) as libc::c_int)
    }
}

/// The message that waits at a socket, into `buffer`, and the descriptor that came with it. Does not wait.
///
/// # Errors
///
/// `WouldBlock`: there is none yet. Others are the kernel's; a message that is too long, or for whose descriptor there is
/// no room in this process.
pub fn receive<'b>(
    socket: BorrowedFd<'_>,
    buffer: &'b mut [MaybeUninit<u8>],
) -> io::Result<(&'b [u8], Option<OwnedFd>)> {
    let mut control = [0_u64; CONTROL / 8];
    // SAFETY: as for send; the kernel writes what it read into both buffers, and a descriptor that it has just made is
    // nobody else's. There can be more than one: all are taken, so that all are closed but one.
    let (length, flags, mut descriptors) = unsafe {
        let mut data = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
        let mut header = header(&mut data, &mut control);
        let flags = libc::MSG_DONTWAIT | libc::MSG_CMSG_CLOEXEC;
        let length = libc::recvmsg(socket.as_raw_fd(), &raw mut header, flags);
        let length = usize::try_from(length).map_err(|_| io::Error::last_os_error())?;
        let mut descriptors = Vec::new();
        let mut each = libc::CMSG_FIRSTHDR(&raw const header);
        while !each.is_null() {
            if (*each).cmsg_level == libc::SOL_SOCKET && (*each).cmsg_type == libc::SCM_RIGHTS {
                let bytes = (*each).cmsg_len - libc::CMSG_LEN(0) as usize;
                let numbers = libc::CMSG_DATA(each).cast::<RawFd>();
                descriptors.extend(
                    (0..bytes / size_of::<RawFd>())
                        .map(|index| OwnedFd::from_raw_fd(numbers.add(index).read_unaligned())),
                );
            }
            each = libc::CMSG_NXTHDR(&raw const header, each);
        }
        (length, header.msg_flags, descriptors)
    };
    if flags & libc::MSG_CTRUNC != 0 && descriptors.is_empty() {
        return Err(io::Error::from_raw_os_error(libc::EMFILE));
    }
    if flags & libc::MSG_TRUNC != 0 {
        return Err(ErrorKind::InvalidData.into());
    }
    let message = buffer.get(..length).unwrap_or_default();
    // SAFETY: the kernel has written so many bytes (invariant 11).
    Ok((unsafe { &*(std::ptr::from_ref(message) as *const [u8]) }, descriptors.pop()))
}

/// The process and the user at the other end of a socket, as they were when it was connected.
///
/// # Errors
///
/// The kernel's.
pub fn peer(socket: BorrowedFd<'_>) -> io::Result<libc::ucred> {
    // SAFETY: an all-zero record is valid, and the kernel writes no more than its length (invariant 11).
    unsafe {
        let mut peer: libc::ucred = zeroed();
        let mut length = size_of::<libc::ucred>() as libc::socklen_t;
        let option = (libc::SOL_SOCKET, libc::SO_PEERCRED);
        check(libc::getsockopt(socket.as_raw_fd(), option.0, option.1, (&raw mut peer).cast(), &raw mut length))?;
        Ok(peer)
    }
}

/// Returns true if a socket is one end of a client's connection.
pub fn is_tcp(socket: BorrowedFd<'_>) -> bool {
    let option = |name| {
        let mut value: libc::c_int = -1;
        let mut length = size_of::<libc::c_int>() as libc::socklen_t;
        // SAFETY: the kernel writes a number of that length (invariant 11).
        let result = unsafe {
            libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, name, (&raw mut value).cast(), &raw mut length)
        };
        if result == 0 { value } else { -1 }
    };
    matches!(option(libc::SO_DOMAIN), libc::AF_INET | libc::AF_INET6) && option(libc::SO_TYPE) == libc::SOCK_STREAM
}

fn new() -> io::Result<OwnedFd> {
    // SAFETY: the kernel gives a new descriptor, which is nobody else's (invariant 11).
    unsafe {
        let socket = libc::socket(libc::AF_UNIX, KIND, 0);
        check(socket)?;
        Ok(OwnedFd::from_raw_fd(socket))
    }
}

fn header(data: &mut libc::iovec, control: &mut [u64; CONTROL / 8]) -> libc::msghdr {
    // SAFETY: an all-zero header is valid (invariant 11).
    let mut header: libc::msghdr = unsafe { zeroed() };
    header.msg_iov = data;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = CONTROL;
    header
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsFd;

    use super::*;

    fn accept(listening: &OwnedFd) -> OwnedFd {
        // SAFETY: null pointers say that the address is not wanted (invariant 11).
        let accepted = unsafe { libc::accept(listening.as_raw_fd(), std::ptr::null_mut(), std::ptr::null_mut()) };
        check(accepted).unwrap();
        // SAFETY: the kernel has just made it (invariant 11).
        unsafe { OwnedFd::from_raw_fd(accepted) }
    }

    #[test]
    fn a_connection_goes_over_with_its_message() {
        let tcp = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = TcpStream::connect(tcp.local_addr().unwrap()).unwrap();
        let (server, _) = tcp.accept().unwrap();
        assert!(is_tcp(server.as_fd()));

        let (listening, door) = listen().unwrap();
        assert!(!is_tcp(listening.as_fd()));
        let name = Name::of(listening.as_fd()).unwrap();
        send(door.as_fd(), b"a message", server.as_fd()).unwrap();
        drop(server);

        let accepted = accept(&listening);
        assert!(Name::of(accepted.as_fd()).unwrap() == name);
        assert_eq!(peer(accepted.as_fd()).unwrap().pid, std::process::id().cast_signed());
        let mut buffer = [MaybeUninit::uninit(); 100];
        let (message, descriptor) = receive(accepted.as_fd(), &mut buffer).unwrap();
        assert_eq!(message, b"a message");
        let mut server = TcpStream::from(descriptor.unwrap());
        server.write_all(b"hello").unwrap();
        drop(server);
        let mut got = String::new();
        client.read_to_string(&mut got).unwrap();
        assert_eq!(got, "hello");
    }

    #[test]
    fn a_full_queue_is_an_error_at_once() {
        let (listening, door) = listen().unwrap();
        // SAFETY: a descriptor that is open (invariant 11).
        check(unsafe { libc::listen(listening.as_raw_fd(), 2) }).unwrap();
        let sent = (0..10).map(|_| send(door.as_fd(), b"a message", std::io::stdin().as_fd()));
        let error = sent.filter_map(Result::err).next().unwrap();
        assert_eq!(error.kind(), ErrorKind::WouldBlock);

        drop(listening);
        assert_eq!(
            send(door.as_fd(), b"a message", std::io::stdin().as_fd()).unwrap_err().kind(),
            ErrorKind::ConnectionRefused
        );
    }

    #[test]
    fn silence_is_not_waited_for() {
        let (listening, door) = listen().unwrap();
        let silent = new().unwrap();
        let address = address(format!("{DESCRIPTORS}/{}", door.as_raw_fd()).as_bytes()).unwrap();
        let length = size_of::<libc::sockaddr_un>() as libc::socklen_t;
        // SAFETY: the address is a valid one (invariant 11).
        check(unsafe { libc::connect(silent.as_raw_fd(), (&raw const address).cast(), length) }).unwrap();
        let accepted = accept(&listening);
        assert_eq!(
            receive(accepted.as_fd(), &mut [MaybeUninit::uninit(); 10]).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        drop(silent);
        let mut buffer = [MaybeUninit::uninit(); 10];
        let (message, descriptor) = receive(accepted.as_fd(), &mut buffer).map(|(m, d)| (m.len(), d)).unwrap();
        assert!(message == 0 && descriptor.is_none());
    }
}
