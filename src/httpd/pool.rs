//! `apr_pool_t`: memory that lives as long as a request, a connection or a process.

use std::ffi::{CStr, c_char, c_void};
use std::marker::PhantomData;
use std::mem::needs_drop;
use std::ptr::NonNull;

use crate::sys;

/// `APR_ALIGN_DEFAULT`'s number: memory of a pool is aligned so.
const ALIGNMENT: usize = 8;

/// A pool that lives for `'p` at least.
#[derive(Clone, Copy)]
pub struct Pool<'p> {
    raw: NonNull<sys::apr_pool_t>,
    life: PhantomData<&'p sys::apr_pool_t>,
}

impl<'p> Pool<'p> {
    /// # Safety
    ///
    /// `raw` is a pool that lives for `'p`, and no other thread uses it meanwhile.
    pub unsafe fn from_raw(raw: *mut sys::apr_pool_t) -> Option<Self> {
        Some(Self { raw: NonNull::new(raw)?, life: PhantomData })
    }

    /// The pointer, for httpd's functions.
    pub fn raw(self) -> *mut sys::apr_pool_t {
        self.raw.as_ptr()
    }

    /// Gives a value to the pool, which drops it when it is cleared or destroyed.
    #[inline(always)]
    pub fn own<T: 'static>(self, value: T) -> NonNull<T> {
        unsafe extern "C" fn drop_value<T>(data: *mut c_void) -> sys::apr_status_t {
            super::guard((), || {
                // SAFETY: `data` is the value below, and a pool runs a cleanup once (invariant 7).
                unsafe { data.cast::<T>().drop_in_place() };
            });
            0
        }
        const { assert!(align_of::<T>() <= ALIGNMENT) }
        // SAFETY: the pool is live (invariant 1), and gives memory of this size that fits any value of this alignment. The cleanup gets the
        // pointer that it expects.
        unsafe {
            let place = NonNull::new_unchecked(sys::apr_palloc(self.raw(), size_of::<T>()).cast::<T>());
            place.write(value);
            if needs_drop::<T>() {
                self.at_end(place.as_ptr().cast(), drop_value::<T>);
            }
            place
        }
    }

    /// Has a function run when the pool is cleared or destroyed. A child that is about to exec has no use for it: apr_pool_cleanup_null.
    ///
    /// # Safety
    ///
    /// The function may be called with this pointer at that time.
    pub(super) unsafe fn at_end(self, data: *mut c_void, run: unsafe extern "C" fn(*mut c_void) -> sys::apr_status_t) {
        // SAFETY: the pool is live (invariant 1); the rest is the caller's promise.
        unsafe {
            sys::apr_pool_cleanup_register(self.raw(), data, Some(run), Some(sys::apr_pool_cleanup_null as _));
        }
    }

    /// Has `wait` run when the pool is about to be cleared or destroyed, before it ends the processes that belong to it.
    pub fn before_end<F: FnOnce() + 'static>(self, wait: F) {
        unsafe extern "C" fn run<F: FnOnce()>(data: *mut c_void) -> sys::apr_status_t {
            super::guard((), || {
                // SAFETY: `data` came from Box::into_raw below, and a pool runs a cleanup once (invariant 7).
                let wait = unsafe { Box::from_raw(data.cast::<F>()) };
                wait();
            });
            0
        }
        let wait = Box::into_raw(Box::new(wait));
        // SAFETY: the pool is live (invariant 1); the cleanup gets the function that it expects.
        unsafe { sys::apr_pool_pre_cleanup_register(self.raw(), wait.cast(), Some(run::<F>)) }
    }

    /// A copy of the bytes in the pool, with a NUL after them. A NUL among them ends the string there.
    pub fn string(self, bytes: &[u8]) -> &'p CStr {
        let bytes = memchr::memchr(0, bytes).and_then(|end| bytes.get(..end)).unwrap_or(bytes);
        // SAFETY: copies `len` bytes that are there, adds a NUL (invariant 3); the memory lives as long as the pool.
        unsafe {
            let copy: *const c_char = sys::apr_pstrmemdup(self.raw(), bytes.as_ptr().cast(), bytes.len());
            CStr::from_ptr(copy)
        }
    }
}
