//! The settings that the module's directives make, in httpd's configuration vectors.

use std::ffi::{c_char, c_void};

use super::extra::{Header, Node, find};
use super::{Module, Pool, Request, Server, guard};
use crate::sys;

/// Settings that httpd keeps for the server, each virtual host, directory, location and .htaccess.
pub trait PerDir: Default + 'static {
    /// Returns what holds where both do: `inner` is the more specific one.
    fn merge(outer: &Self, inner: &Self) -> Self;
}

/// `create_dir_config`.
///
/// # Safety
///
/// For httpd to call, through the module record (invariant 9).
pub(super) unsafe extern "C" fn create<T: PerDir>(pool: *mut sys::apr_pool_t, _directory: *mut c_char) -> *mut c_void {
    guard(std::ptr::null_mut(), || {
        // SAFETY: httpd gives a pool of this thread's (invariant 1).
        unsafe { Pool::from_raw(pool) }.map_or(std::ptr::null_mut(), |pool| keep(pool, T::default()))
    })
}

/// `merge_dir_config`.
///
/// # Safety
///
/// For httpd to call, through the module record (invariant 9).
pub(super) unsafe extern "C" fn merge<T: PerDir>(
    pool: *mut sys::apr_pool_t,
    outer: *mut c_void,
    inner: *mut c_void,
) -> *mut c_void {
    guard(outer, || {
        // SAFETY: httpd gives a pool of this thread's, and two records that `create` or `merge` made (invariant 1).
        let (pool, outer, inner) = unsafe { (Pool::from_raw(pool), settings::<T>(outer), settings::<T>(inner)) };
        match (pool, outer, inner) {
            (Some(pool), Some(outer), Some(inner)) => keep(pool, T::merge(outer, inner)),
            _ => std::ptr::null_mut(),
        }
    })
}

fn keep<T: PerDir>(pool: Pool<'_>, settings: T) -> *mut c_void {
    Node::new(settings, std::ptr::null()).keep(pool).as_ptr().cast()
}

/// Returns the settings in a record of httpd's, if they are of this type.
///
/// # Safety
///
/// The record is null, or one that [`create`] or [`merge`] made and that lives for `'c`, without a mutable reference to it.
unsafe fn settings<'c, T: PerDir>(record: *mut c_void) -> Option<&'c T> {
    // SAFETY: the caller's promise.
    unsafe { find::<T>(record.cast::<Header>()).map(|node| &(*node).value) }
}

/// Returns the settings in a record of httpd's for a directive to change.
///
/// # Safety
///
/// As for `settings`, without any other reference to it.
pub(super) unsafe fn settings_mut<'c, T: 'static>(record: *mut c_void) -> Option<&'c mut T> {
    // SAFETY: the caller's promise.
    unsafe { find::<T>(record.cast::<Header>()).map(|node| &mut (*node).value) }
}

/// Returns the settings that hold for a request.
pub fn dir_config<'r, T: PerDir>(request: Request<'r>) -> Option<&'r T> {
    // SAFETY: the request is live (invariant 1); the record in its vector lives as long as the configuration, or as the request where it was
    // merged for it. Directives are set before httpd gives the record to a request.
    unsafe { settings(Module::pointer_in((*request.raw()).per_dir_config)) }
}

/// Returns the settings of a server outside of all directories.
pub fn server_config<'s, T: PerDir>(server: Server<'s>) -> Option<&'s T> {
    // SAFETY: the server is live (invariant 1), and so is the record. Directives are set before httpd gives the server to a hook.
    unsafe { settings(Module::pointer_in((*server.raw()).lookup_defaults)) }
}
