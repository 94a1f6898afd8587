//! The module's records in httpd's configuration vectors.

use std::ffi::{c_char, c_void};
use std::ptr::NonNull;

use super::{Connection, Module, Pool, Request, Server, guard};
use crate::sys;

/// Settings that httpd keeps for the server, each virtual host, directory, location and .htaccess.
pub trait PerDir: Default + 'static {
    /// What holds where both do: `inner` is the more specific one.
    fn merge(outer: &Self, inner: &Self) -> Self;

    /// `create_dir_config`.
    ///
    /// # Safety
    ///
    /// For httpd to call, through the module record.
    unsafe extern "C" fn create(pool: *mut sys::apr_pool_t, _directory: *mut c_char) -> *mut c_void {
        guard(std::ptr::null_mut(), || {
            // SAFETY: httpd gives a pool of this thread's.
            let pool = unsafe { Pool::from_raw(pool) };
            pool.map_or(std::ptr::null_mut(), |pool| pool.own(Self::default()).as_ptr().cast())
        })
    }

    /// `merge_dir_config`.
    ///
    /// # Safety
    ///
    /// For httpd to call, through the module record.
    unsafe extern "C" fn merge_raw(pool: *mut sys::apr_pool_t, outer: *mut c_void, inner: *mut c_void) -> *mut c_void {
        guard(outer, || {
            // SAFETY: httpd gives a pool of this thread's, and two records that `create` or `merge_raw` made.
            let (pool, outer, inner) =
                unsafe { (Pool::from_raw(pool), outer.cast::<Self>().as_ref(), inner.cast::<Self>().as_ref()) };
            match (pool, outer, inner) {
                (Some(pool), Some(outer), Some(inner)) => pool.own(Self::merge(outer, inner)).as_ptr().cast(),
                _ => std::ptr::null_mut(),
            }
        })
    }
}

/// The settings that hold for a request.
pub fn dir_config<'r, T: PerDir>(request: Request<'r>) -> Option<&'r T> {
    // SAFETY: the request is live (LIVE); the module's record in its vector was made by PerDir, and lives as long
    // as the configuration, or as the request where it was merged for it. `T` is the one type in use.
    unsafe { sys::ap_get_module_config((*request.raw()).per_dir_config, Module::raw()).cast::<T>().as_ref() }
}

/// The settings of a server outside of all directories.
pub fn server_config<'s, T: PerDir>(server: Server<'s>) -> Option<&'s T> {
    // SAFETY: the server is live (LIVE), and the record was made by PerDir, as for dir_config.
    unsafe { sys::ap_get_module_config((*server.raw()).lookup_defaults, Module::raw()).cast::<T>().as_ref() }
}

/// What the module keeps for a request.
pub trait RequestConfig: 'static + Sized {
    /// Stores it in the request, which drops it at its end.
    fn attach(self, request: Request<'_>) {
        let own = request.pool().own(self);
        // SAFETY: the request is live (LIVE) and of this thread (ONE THREAD); the record lives as long as its pool.
        unsafe { sys::ap_set_module_config((*request.raw()).request_config, Module::raw(), own.as_ptr().cast()) }
    }

    /// What is stored in the request.
    fn of<'r>(request: Request<'r>) -> Option<&'r Self> {
        // SAFETY: as for attach; one type is stored, and handed out as a shared reference only.
        let stored = unsafe { sys::ap_get_module_config((*request.raw()).request_config, Module::raw()) };
        // SAFETY: null, or what attach stored.
        NonNull::new(stored.cast::<Self>()).map(|own| unsafe { own.as_ref() })
    }
}

/// What the module keeps for a connection.
pub trait ConnectionConfig: 'static + Sized {
    /// Stores it in the connection, which drops it at its end.
    fn attach(self, connection: Connection<'_>) {
        let own = connection.pool().own(self);
        // SAFETY: the connection is live (LIVE) and of this thread (ONE THREAD); the record lives as long as its pool.
        unsafe { sys::ap_set_module_config((*connection.raw()).conn_config, Module::raw(), own.as_ptr().cast()) }
    }

    /// What is stored in the connection.
    fn of<'c>(connection: Connection<'c>) -> Option<&'c Self> {
        // SAFETY: as for attach; one type is stored, and handed out as a shared reference only.
        let stored = unsafe { sys::ap_get_module_config((*connection.raw()).conn_config, Module::raw()) };
        // SAFETY: null, or what attach stored.
        NonNull::new(stored.cast::<Self>()).map(|own| unsafe { own.as_ref() })
    }
}
