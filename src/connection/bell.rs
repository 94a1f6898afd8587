//! What wakes the child's thread: a number, which the kernel keeps, and which needs no memory to be added to, as a byte for a socket does.

use std::fs::File;
use std::io::{self, ErrorKind, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, RawFd};

/// What is written to wake it.
pub const RING: [u8; 8] = 1_u64.to_ne_bytes();

/// The number.
pub struct Bell(File);

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Bell {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl Bell {
    /// One that has not rung.
    ///
    /// # Errors
    ///
    /// The kernel's: no descriptor, say.
    pub fn new() -> io::Result<Self> {
        // SAFETY: makes a descriptor (invariant 11).
        let made = unsafe { libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK) };
        if made < 0 {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the kernel has just made it (invariant 11).
        Ok(Self(unsafe { File::from_raw_fd(made) }))
    }

    /// Wakes the thread.
    pub fn ring(&self) {
        // Where the number is full, it rings already.
        while (&self.0).write(&RING).is_err_and(|error| error.kind() == ErrorKind::Interrupted) {}
    }

    /// Until it rings again.
    pub fn hush(&self) {
        let _ = (&self.0).read(&mut [0; RING.len()]);
    }
}
