//! `apr_table_t`: headers and environments. Keys are compared without regard to case.

use std::ffi::{CStr, c_char};
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

    /// True if nothing is in it.
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }

    /// The first value of the key. Many tables are empty.
    #[inline]
    pub fn get(self, key: &CStr) -> Option<&'r [u8]> {
        if self.is_empty() {
            return None;
        }
        // SAFETY: the table is live (invariant 1), its values end in NUL (invariant 3) and stay in the pool when they are replaced.
        unsafe {
            let value = sys::apr_table_get(self.raw, key.as_ptr());
            (!value.is_null()).then(|| CStr::from_ptr(value).to_bytes())
        }
    }

    /// True if it has the key.
    #[inline]
    pub fn has(self, key: &CStr) -> bool {
        // SAFETY: the table is live (invariant 1).
        !self.is_empty() && unsafe { !sys::apr_table_get(self.raw, key.as_ptr()).is_null() }
    }

    /// All values of the key, in order. They are looked for where there is one: most often there is none.
    pub fn values<'k>(self, key: &'k CStr) -> impl Iterator<Item = &'r [u8]> + use<'r, 'k> {
        let count = if self.has(key) { self.len() } else { 0 };
        let entries = (0..count).filter_map(move |at| self.entry(at));
        let is_one = |name: &CStr| name.to_bytes().eq_ignore_ascii_case(key.to_bytes());
        entries.filter(move |(name, _)| is_one(name)).map(|(_, value)| value.to_bytes())
    }

    /// The keys that begin with `first` and of which `is_wanted` is true, as they were set.
    pub fn keys(self, first: u8, is_wanted: impl Fn(&[u8]) -> bool) -> Vec<&'r CStr> {
        let keys = (0..self.len()).filter_map(|at| self.entry(at)).map(|(key, _)| key);
        keys.filter(|key| key.to_bytes_with_nul().first() == Some(&first) && is_wanted(key.to_bytes())).collect()
    }

    /// Without a call: a table begins with its array, as `apr_is_empty_table` has it.
    #[inline(always)]
    fn len(self) -> usize {
        // SAFETY: the table is live (invariant 1).
        usize::try_from(unsafe { (*self.raw.cast::<sys::apr_array_header_t>()).nelts }).unwrap_or(0)
    }

    /// The key and the value at a place, as the table is now.
    fn entry(self, at: usize) -> Option<(&'r CStr, &'r CStr)> {
        if at >= self.len() {
            return None;
        }
        // SAFETY: the table is live (invariant 1), and its array has so many entries. Keys and values, which may be null, end in NUL (invariant 3), and
        // stay in the pool when they are replaced.
        unsafe {
            let entry = &*(*sys::apr_table_elts(self.raw)).elts.cast::<sys::apr_table_entry_t>().add(at);
            let text = |text: *const c_char| if text.is_null() { c"" } else { CStr::from_ptr(text) };
            Some((text(entry.key), text(entry.val)))
        }
    }

    /// Gives the entry of the key whose value stands at `at` another key and value, in its place. True if there was one. A table finds its
    /// entries by the first four characters, whatever their case: those of the two keys are the same, or nothing is done.
    pub fn rename(self, key: &CStr, at: *const u8, new: &'r CStr, value: &'r CStr) -> bool {
        let is_found = |name: &CStr| {
            name.to_bytes()
                .get(..4)
                .zip(new.to_bytes().get(..4))
                .is_some_and(|(old, new)| old.eq_ignore_ascii_case(new))
        };
        for place in 0..self.len() {
            // SAFETY: the table is live (invariant 1), and its array has so many entries. Keys end in NUL (invariant 3), and so do the new ones, which
            // live as long as its request.
            unsafe {
                let entry = &mut *(*sys::apr_table_elts(self.raw)).elts.cast::<sys::apr_table_entry_t>().add(place);
                if entry.val.cast_const().cast() == at
                    && is_found(key)
                    && libc::strcasecmp(entry.key, key.as_ptr()) == 0
                {
                    entry.key = new.as_ptr().cast_mut();
                    entry.val = value.as_ptr().cast_mut();
                    return true;
                }
            }
        }
        false
    }

    /// Replaces all values of the key by this one, which is not copied.
    pub fn setn(self, key: &'static CStr, value: &'r CStr) {
        // SAFETY: the table is live (invariant 1); both strings live as long as its request (invariant 3).
        unsafe { sys::apr_table_setn(self.raw, key.as_ptr(), value.as_ptr()) }
    }

    /// Replaces all values of the key by a copy of this one.
    pub fn set(self, key: &CStr, value: &CStr) {
        // SAFETY: the table is live (invariant 1); both strings are copied into its pool.
        unsafe { sys::apr_table_set(self.raw, key.as_ptr(), value.as_ptr()) }
    }

    /// Takes all values of the key out.
    pub fn unset(self, key: &CStr) {
        if !self.is_empty() {
            // SAFETY: the table is live (invariant 1).
            unsafe { sys::apr_table_unset(self.raw, key.as_ptr()) }
        }
    }
}
