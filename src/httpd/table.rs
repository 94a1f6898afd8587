//! `apr_table_t`: headers and environments. Keys are compared without regard to case.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;

use crate::sys;

/// A table of a request.
#[derive(Clone, Copy)]
pub struct Table<'r> {
    raw: *mut sys::apr_table_t,
    life: PhantomData<&'r sys::apr_table_t>,
}

impl<'r> Table<'r> {
    /// # Safety
    ///
    /// `raw` is a table that lives for `'r` and is used by this thread only; its strings live for `'r` too.
    pub unsafe fn from_raw(raw: *mut sys::apr_table_t) -> Self {
        Self { raw, life: PhantomData }
    }

    /// The first value of the key.
    pub fn get(self, key: &CStr) -> Option<&'r [u8]> {
        // SAFETY: the table is live (invariant 1), its values end in NUL (invariant 3) and stay in the pool when they are replaced.
        unsafe {
            let value = sys::apr_table_get(self.raw, key.as_ptr());
            (!value.is_null()).then(|| CStr::from_ptr(value).to_bytes())
        }
    }

    /// All values of the key, in order.
    pub fn get_all(self, key: &CStr) -> Vec<&'r [u8]> {
        unsafe extern "C" fn push(values: *mut c_void, _key: *const c_char, value: *const c_char) -> c_int {
            // SAFETY: `values` is the Vec of the caller below, which waits for this call; the value ends in NUL (invariant 3).
            unsafe { (*values.cast::<Vec<&[u8]>>()).push(CStr::from_ptr(value).to_bytes()) };
            1
        }
        let mut values: Vec<&'r [u8]> = Vec::new();
        // SAFETY: the table is live (invariant 1); the list of keys ends in a null pointer, as apr_table_do expects.
        unsafe {
            sys::apr_table_do(Some(push), (&raw mut values).cast(), self.raw, key.as_ptr(), std::ptr::null::<c_char>());
        }
        values
    }

    /// The keys that begin with `first` and of which `is_wanted` is true, as they were set.
    pub fn keys(self, first: u8, is_wanted: impl Fn(&[u8]) -> bool) -> Vec<&'r CStr> {
        let mut keys = Vec::new();
        // SAFETY: the table is live (invariant 1), and its array has so many entries, whose keys are null or end in NUL (invariant 3).
        unsafe {
            let entries = &*sys::apr_table_elts(self.raw);
            let table: *const sys::apr_table_entry_t = entries.elts.cast();
            for at in 0..entries.nelts as usize {
                let key = (*table.add(at)).key;
                if !key.is_null() && *key as u8 == first && is_wanted(CStr::from_ptr(key).to_bytes()) {
                    keys.push(CStr::from_ptr(key));
                }
            }
        }
        keys
    }

    /// Replaces all values of the key by this one.
    pub fn set_constant(self, key: &'static CStr, value: &'static CStr) {
        // SAFETY: the table is live (invariant 1); both strings outlive it.
        unsafe { sys::apr_table_setn(self.raw, key.as_ptr(), value.as_ptr()) }
    }

    /// Replaces all values of the key by a copy of this one.
    pub fn set(self, key: &CStr, value: &CStr) {
        // SAFETY: the table is live (invariant 1); both strings are copied into its pool.
        unsafe { sys::apr_table_set(self.raw, key.as_ptr(), value.as_ptr()) }
    }

    /// Takes all values of the key out.
    pub fn unset(self, key: &CStr) {
        // SAFETY: the table is live (invariant 1).
        unsafe { sys::apr_table_unset(self.raw, key.as_ptr()) }
    }
}
