//! The MPM, and how much it can work on at once.

use std::ffi::c_int;

use crate::sys;

/// The MPM in use; it is known after the configuration has been read.
pub struct Mpm;

impl Mpm {
    /// Returns how many requests it can work on at once with the configuration as it is: `MaxRequestWorkers`.
    pub fn most_workers() -> u32 {
        product(sys::AP_MPMQ_MAX_DAEMONS, sys::AP_MPMQ_MAX_THREADS)
    }

    /// The same with any configuration until the server is stopped: restarts change neither `ServerLimit` nor `ThreadLimit`.
    pub fn most_workers_ever() -> u32 {
        product(sys::AP_MPMQ_HARD_LIMIT_DAEMONS, sys::AP_MPMQ_HARD_LIMIT_THREADS)
    }
}

/// Processes times threads, of which an MPM without threads may say that there are none.
fn product(processes: c_int, threads: c_int) -> u32 {
    query(processes).max(1).saturating_mul(query(threads).max(1))
}

fn query(what: c_int) -> u32 {
    let mut result = 0;
    // SAFETY: ap_mpm_query writes one number, if it knows the question (invariant 11).
    unsafe { sys::ap_mpm_query(what, &raw mut result) };
    u32::try_from(result).unwrap_or(0)
}
