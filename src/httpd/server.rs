//! `server_rec`: the main server, or a virtual host.

use std::ffi::CStr;
use std::marker::PhantomData;
use std::ptr::NonNull;

use crate::sys;

/// The main server or a virtual host.
#[derive(Clone, Copy)]
pub struct Server<'s> {
    raw: NonNull<sys::server_rec>,
    life: PhantomData<&'s sys::server_rec>,
}

impl<'s> Server<'s> {
    /// # Safety
    ///
    /// `raw` is null or a server of a configuration that lives for `'s`.
    pub unsafe fn from_raw(raw: *mut sys::server_rec) -> Option<Self> {
        Some(Self { raw: NonNull::new(raw)?, life: PhantomData })
    }

    /// The pointer, for httpd's functions.
    pub fn raw(self) -> *mut sys::server_rec {
        self.raw.as_ptr()
    }

    /// `ServerName`, or what httpd takes for it.
    pub fn name(self) -> &'s [u8] {
        // SAFETY: a live server (invariant 1), whose name is null or a string (invariant 3).
        unsafe {
            let name = (*self.raw()).server_hostname;
            if name.is_null() { &[] } else { CStr::from_ptr(name).to_bytes() }
        }
    }
}
