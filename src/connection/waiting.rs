//! Bytes of responses that wait in memory for their clients.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};

/// How many bytes wait in this process.
static TOTAL: AtomicUsize = AtomicUsize::new(0);

/// How much memory is asked for at a time: large pieces, that many small writes share.
const PIECE: usize = 16_384;

/// How many pieces are sent at a time.
pub const AT_A_TIME: usize = 16;

/// The bytes that one client has still to get, in order. They count in [`total`] until they are sent or dropped.
#[derive(Default, Debug)]
pub struct Waiting {
    /// None of them is empty, but the first one's beginning may have been sent.
    pieces: VecDeque<Vec<u8>>,
    /// How much of the first piece has been sent.
    sent: usize,
    length: usize,
}

/// Returns how many bytes wait in this process.
pub fn total() -> usize {
    TOTAL.load(Ordering::Relaxed)
}

impl Waiting {
    /// Adds a copy of some bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        TOTAL.fetch_add(bytes.len(), Ordering::Relaxed);
        self.length += bytes.len();
        let room = self.pieces.back().map_or(0, |last| last.capacity() - last.len());
        let (fits, rest) = bytes.split_at_checked(room).unwrap_or((bytes, &[]));
        if let Some(last) = self.pieces.back_mut() {
            last.extend_from_slice(fits);
        }
        if !rest.is_empty() {
            let mut piece = Vec::with_capacity(rest.len().max(PIECE));
            piece.extend_from_slice(rest);
            self.pieces.push_back(piece);
        }
    }

    /// Returns how many there are.
    pub fn len(&self) -> usize {
        self.length
    }

    /// Returns true if there are none.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The bytes, in pieces.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let mut sent = self.sent;
        self.pieces.iter().map(move |piece| piece.get(std::mem::take(&mut sent)..).unwrap_or_default())
    }

    /// Sends what the kernel takes without waiting.
    ///
    /// # Errors
    ///
    /// `WouldBlock`: it does not take all, now. Others: the client has gone.
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        while !self.is_empty() {
            let mut first: [&[u8]; AT_A_TIME] = [&[]; AT_A_TIME];
            first.iter_mut().zip(self.pieces()).for_each(|(place, piece)| *place = piece);
            let sent = send(socket, &first)?;
            self.forget(sent);
        }
        Ok(())
    }

    /// So many bytes have been sent.
    fn forget(&mut self, bytes: usize) {
        TOTAL.fetch_sub(bytes, Ordering::Relaxed);
        self.length -= bytes;
        self.sent += bytes;
        while let Some(first) = self.pieces.front().filter(|first| first.len() <= self.sent) {
            self.sent -= first.len();
            self.pieces.pop_front();
        }
    }
}

/// Sends what the kernel takes of these pieces, of [`AT_A_TIME`] at most, without waiting: how many bytes.
///
/// # Errors
///
/// `WouldBlock`: it takes nothing now. Others: the client has gone.
pub fn send(socket: BorrowedFd<'_>, pieces: &[&[u8]]) -> io::Result<usize> {
    let mut vectors = [libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 }; AT_A_TIME];
    for (vector, piece) in vectors.iter_mut().zip(pieces) {
        *vector = libc::iovec { iov_base: piece.as_ptr().cast_mut().cast(), iov_len: piece.len() };
    }
    loop {
        // SAFETY: the socket is open. A message of all zeros is an empty one; the kernel reads as many vectors as there are, and of each as many bytes
        // as there are in its piece (invariant 11).
        let sent = unsafe {
            let mut message: libc::msghdr = std::mem::zeroed();
            message.msg_iov = vectors.as_mut_ptr();
            message.msg_iovlen = pieces.len().min(AT_A_TIME) as _;
            libc::sendmsg(socket.as_raw_fd(), &raw const message, libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL)
        };
        match usize::try_from(sent) {
            Ok(sent) => return Ok(sent),
            Err(_) => {
                let error = io::Error::last_os_error();
                if error.kind() != ErrorKind::Interrupted {
                    return Err(error);
                }
            }
        }
    }
}

/// The bytes that wait for a client while its response is being made: the request's thread adds to it and sends of it, and so does the child's
/// thread, while the application is busy with something else.
#[derive(Default)]
pub struct Queue {
    waiting: Mutex<Waiting>,
    /// True if the child's thread is to send of it.
    helped: AtomicBool,
}

impl Queue {
    /// The bytes, for the request's thread.
    pub fn lock(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The bytes, for the child's thread, which must not wait: a signal may have interrupted the other one.
    pub fn try_lock(&self) -> Option<MutexGuard<'_, Waiting>> {
        match self.waiting.try_lock() {
            Ok(waiting) => Some(waiting),
            Err(TryLockError::Poisoned(poisoned)) => Some(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => None,
        }
    }

    /// Returns true if the child's thread is to send of it.
    pub fn is_helped(&self) -> bool {
        self.helped.load(Ordering::Relaxed)
    }

    /// Says whether it is from now on: what was said before. To be called with the lock, so that each of the two threads knows what the
    /// other one does. The request's thread need not, when it has done with the response.
    pub fn set_helped(&self, helped: bool) -> bool {
        self.helped.swap(helped, Ordering::Relaxed)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        TOTAL.fetch_sub(self.length, Ordering::Relaxed);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::io::Read;
    use std::os::fd::AsFd;
    use std::os::unix::net::UnixStream;

    use super::*;

    #[test]
    fn what_the_kernel_does_not_take_waits_in_order() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let bytes: Vec<u8> = (0..3_000_000_u32).map(|number| (number % 251) as u8).collect();
        let mut waiting = Waiting::default();
        bytes.chunks(700).for_each(|piece| waiting.push(piece));
        assert!(total() >= waiting.len());

        let mut got = Vec::new();
        loop {
            let sent = waiting.send(ours.as_fd());
            let mut some = vec![0; 100_000];
            let read = theirs.read(&mut some).unwrap();
            got.extend_from_slice(&some[..read]);
            match sent {
                Ok(()) => break,
                Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
            }
        }
        assert!(waiting.is_empty() && waiting.pieces().next().is_none());
        drop(ours);
        theirs.read_to_end(&mut got).unwrap();
        assert!(got == bytes);
    }

    #[test]
    fn pieces_are_shared_and_in_order() {
        let (ours, mut theirs) = UnixStream::pair().unwrap();
        let mut waiting = Waiting::default();
        waiting.push(b"first");
        waiting.send(ours.as_fd()).unwrap();
        for piece in [&b"second"[..], b"", b"third"] {
            waiting.push(piece);
        }
        waiting.push(&[b'x'; 40_000]);
        assert_eq!(waiting.len(), 40_011);
        assert_eq!(waiting.pieces().count(), 2);
        assert_eq!(waiting.pieces().map(<[u8]>::len).sum::<usize>(), 40_011);
        waiting.send(ours.as_fd()).unwrap();
        drop(ours);
        let mut got = Vec::new();
        theirs.read_to_end(&mut got).unwrap();
        assert!(got.starts_with(b"firstsecondthirdxxx") && got.len() == 40_016);
    }

    #[test]
    fn a_client_that_has_gone_is_an_error() {
        let (ours, theirs) = UnixStream::pair().unwrap();
        drop(theirs);
        let mut waiting = Waiting::default();
        waiting.push(b"bytes");
        assert_eq!(waiting.send(ours.as_fd()).unwrap_err().kind(), ErrorKind::BrokenPipe);
    }
}
