//! `apr_status_t`, as an error type.

use std::fmt;

use crate::sys;

/// An APR status other than `APR_SUCCESS`, as filters hand it up the chain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Status(sys::apr_status_t);

/// The outcome of httpd's functions that return an `apr_status_t`.
pub type Result<T = ()> = std::result::Result<T, Status>;

impl Status {
    /// `APR_EGENERAL`: something went wrong in the module itself.
    pub const GENERAL: Self = Self(20_014);

    /// `APR_EINVAL`: an argument is wrong.
    pub const INVALID: Self = Self(libc::EINVAL);
    /// `APR_ECONNABORTED`: the client has gone.
    pub const ABORTED: Self = Self(libc::ECONNABORTED);
    /// `APR_TIMEUP`: it took too long.
    pub const TIMEUP: Self = Self(70_007);
    /// `APR_EAGAIN`: not now.
    pub const AGAIN: Self = Self(libc::EAGAIN);
    /// `APR_ENOTIMPL`: not here.
    pub const NOT_IMPLEMENTED: Self = Self(70_023);

    /// Returns the error of the last call into the kernel.
    pub fn last_os_error() -> Self {
        Self(std::io::Error::last_os_error().raw_os_error().unwrap_or(Self::GENERAL.0))
    }

    /// `Ok` for `APR_SUCCESS`, else the status.
    pub fn check(code: sys::apr_status_t) -> Result {
        if code == 0 { Ok(()) } else { Err(Self(code)) }
    }

    /// The number that httpd expects.
    pub fn code(result: Result) -> sys::apr_status_t {
        match result {
            Ok(()) => 0,
            Err(Self(code)) => code,
        }
    }

    /// True for what a network filter says when the client has gone, or reads nothing for too long.
    pub fn is_client_gone(self) -> bool {
        matches!(self.0, libc::ECONNABORTED | libc::ECONNRESET | libc::EPIPE | libc::ENOTCONN | libc::EBADF)
            || self.is_timeout()
    }

    /// Returns true if a non-blocking read has nothing yet.
    pub fn is_again(self) -> bool {
        // SAFETY: compares a number (invariant 11).
        unsafe { sys::fr_is_eagain(self.0) != 0 }
    }

    /// Returns true if a blocking read has waited as long as it may.
    pub fn is_timeout(self) -> bool {
        // SAFETY: compares a number (invariant 11).
        unsafe { sys::fr_is_timeup(self.0) != 0 }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = [0; 120];
        // SAFETY: apr_strerror writes at most the given number of bytes, a NUL among them, and returns the buffer (invariants 3 and 11).
        let text = unsafe {
            sys::apr_strerror(self.0, text.as_mut_ptr().cast(), text.len());
            std::ffi::CStr::from_ptr(text.as_ptr().cast())
        };
        write!(f, "{} ({})", text.to_string_lossy(), self.0)
    }
}
