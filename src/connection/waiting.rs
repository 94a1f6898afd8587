//! Bytes of responses that wait in memory for their clients.

use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::os::fd::{AsRawFd, BorrowedFd};
use std::sync::atomic::{AtomicUsize, Ordering};

/// How many bytes wait in this process.
static TOTAL: AtomicUsize = AtomicUsize::new(0);

/// The bytes that one client has still to get, in order. They count in [`total`] until they are sent or dropped.
#[derive(Default, Debug)]
pub struct Waiting(VecDeque<u8>);

/// How many bytes wait in this process.
pub fn total() -> usize {
    TOTAL.load(Ordering::Relaxed)
}

impl Waiting {
    /// Adds a copy of some bytes.
    pub fn push(&mut self, bytes: &[u8]) {
        TOTAL.fetch_add(bytes.len(), Ordering::Relaxed);
        self.0.extend(bytes);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The bytes, in two pieces.
    pub fn pieces(&self) -> [&[u8]; 2] {
        let (first, second) = self.0.as_slices();
        [first, second]
    }

    /// Sends what the kernel takes without waiting.
    ///
    /// # Errors
    ///
    /// `WouldBlock`: it does not take all, now. Others: the client has gone.
    pub fn send(&mut self, socket: BorrowedFd<'_>) -> io::Result<()> {
        while !self.is_empty() {
            let [first, _] = self.pieces();
            // SAFETY: the socket is open, and the kernel reads as many bytes as there are in the slice.
            let sent = unsafe {
                let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
                libc::send(socket.as_raw_fd(), first.as_ptr().cast(), first.len(), flags)
            };
            match usize::try_from(sent) {
                Ok(sent) => self.sent(sent),
                Err(_) => {
                    let error = io::Error::last_os_error();
                    if error.kind() != ErrorKind::Interrupted {
                        return Err(error);
                    }
                }
            }
        }
        Ok(())
    }

    fn sent(&mut self, bytes: usize) {
        let bytes = bytes.min(self.0.len());
        self.0.drain(..bytes);
        TOTAL.fetch_sub(bytes, Ordering::Relaxed);
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        TOTAL.fetch_sub(self.0.len(), Ordering::Relaxed);
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
        assert!(waiting.is_empty());
        drop(ours);
        theirs.read_to_end(&mut got).unwrap();
        assert!(got == bytes);
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
