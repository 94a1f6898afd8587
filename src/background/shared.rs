//! Memory that the parent makes and all its children share.

use std::io;
use std::mem::size_of;
use std::sync::atomic::{AtomicI64, AtomicU8, AtomicU32, AtomicU64};

/// A type that may lie in shared memory: processes that see it need no pointers to read it.
///
/// # Safety
///
/// The type consists of atomics alone, so that any process may write to it at any time, and that zeros are a value of it.
pub unsafe trait Shared: Sync + 'static {}

// SAFETY: these are atomics (invariant 10).
unsafe impl Shared for AtomicU8 {}
// SAFETY: as above.
unsafe impl Shared for AtomicU32 {}
// SAFETY: as above.
unsafe impl Shared for AtomicU64 {}
// SAFETY: as above.
unsafe impl Shared for AtomicI64 {}

/// So many values, all zero, that this process shares with those that it will fork. They stay for ever. The kernel gives
/// them memory when they are written to.
///
/// # Errors
///
/// The kernel's.
pub fn zeroed<T: Shared>(count: usize) -> io::Result<&'static [T]> {
    let bytes = count.checked_mul(size_of::<T>()).filter(|bytes| *bytes > 0).ok_or(io::ErrorKind::InvalidInput)?;
    let (access, kind) =
        (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE);
    // SAFETY: new memory where the kernel likes, aligned to a page and zeroed: valid values of T, which is Shared. It is
    // never unmapped, and only ever seen through shared references (invariant 10).
    unsafe {
        let memory = libc::mmap(std::ptr::null_mut(), bytes, access, kind, -1, 0);
        if memory == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        Ok(std::slice::from_raw_parts(memory.cast(), count))
    }
}
