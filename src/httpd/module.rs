//! The module record that httpd's loader looks for.

use std::cell::UnsafeCell;
use std::ffi::c_int;
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::sys;

/// A `module`, which httpd writes to while it reads its configuration: the index, the list of modules.
#[repr(transparent)]
pub struct Module(UnsafeCell<sys::module>);

// SAFETY: httpd writes to the record only while it reads its configuration, with one thread; afterwards all only read.
unsafe impl Sync for Module {}

/// The record in use, for the wrappers that need the module's index.
static LOADED: AtomicPtr<sys::module> = AtomicPtr::new(std::ptr::null_mut());

impl Module {
    /// A record, filled in as `STANDARD20_MODULE_STUFF` does.
    pub const fn new(record: sys::module) -> Self {
        Self(UnsafeCell::new(record))
    }

    /// Has the wrappers use this record. To be called from `register_hooks`.
    pub fn loaded(&'static self) {
        LOADED.store(self.0.get(), Ordering::Release);
    }

    pub(super) fn raw() -> *mut sys::module {
        LOADED.load(Ordering::Acquire)
    }

    /// `APLOG_MODULE_INDEX`: httpd's number for the module, and none before it has one.
    pub(super) fn index() -> c_int {
        let record = Self::raw();
        // SAFETY: null, or a static; httpd has set the index before it calls register_hooks.
        if record.is_null() { sys::APLOG_NO_MODULE } else { unsafe { (*record).module_index } }
    }
}
