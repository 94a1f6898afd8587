//! `ap_listeners`: the sockets that the MPM listens to, and what it accepts from them.

use std::ffi::{CStr, c_void};
use std::marker::PhantomData;
use std::os::fd::{AsRawFd, BorrowedFd, IntoRawFd, OwnedFd, RawFd};
use std::ptr::NonNull;
use std::sync::atomic::{AtomicPtr, Ordering};

use super::{BeforeListening, Result, Status};
use crate::sys;

/// The protocol of such a listener: neither `http`, which would have accept filters and the MPM's own
/// connections, nor none, which means `http`.
const PROTOCOL: &CStr = c"finish_request";
/// An address that no virtual host has.
const ADDRESS: &CStr = c"127.255.255.254";

/// APR's record of the socket that was given to [`BeforeListening::add_listener`] last.
static ADDED: AtomicPtr<sys::apr_socket_t> = AtomicPtr::new(std::ptr::null_mut());

impl BeforeListening<'_> {
    /// Returns the socket that was given to [`BeforeListening::add_listener`] last, for a new record of it: httpd closes its own
    /// descriptor when it has opened the listeners of the new configuration, or when it stops.
    pub fn added_listener(&self) -> Option<OwnedFd> {
        let mut descriptor: RawFd = -1;
        // SAFETY: null, or a socket in the process's pool; one that httpd has closed has no descriptor any more (invariant 1).
        unsafe {
            let added = ADDED.load(Ordering::Relaxed);
            if added.is_null() || sys::apr_os_sock_get(&raw mut descriptor, added) != 0 || descriptor < 0 {
                return None;
            }
            BorrowedFd::borrow_raw(descriptor).try_clone_to_owned().ok()
        }
    }

    /// Has the MPM listen to a socket as well, behind those of `Listen`, until the next restart: the list is complete, and nobody
    /// has counted it.
    ///
    /// # Errors
    ///
    /// APR's; and where there is no other listener.
    pub fn add_listener(&self, socket: OwnedFd) -> Result {
        // SAFETY: there is one thread (invariant 5); httpd keeps its listeners in the process's pool, which outlives restarts. A record is complete
        // before it is put in the list.
        unsafe {
            let pool = (*(*self.server().raw()).process).pool;
            let mut last = std::ptr::addr_of_mut!(sys::ap_listeners);
            if (*last).is_null() {
                return Err(Status::GENERAL);
            }
            while !(*last).is_null() {
                last = &raw mut (**last).next;
            }
            let mut address = std::ptr::null_mut();
            let family = libc::AF_INET;
            Status::check(sys::apr_sockaddr_info_get(&raw mut address, ADDRESS.as_ptr(), family, 0, 0, pool))?;
            let mut descriptor = socket.into_raw_fd();
            let mut info: sys::apr_os_sock_info_t = std::mem::zeroed();
            info.os_sock = &raw mut descriptor;
            info.family = family;
            info.type_ = libc::SOCK_STREAM;
            let mut listening = std::ptr::null_mut();
            Status::check(sys::apr_os_sock_make(&raw mut listening, &raw mut info, pool))?;
            let record: *mut sys::ap_listen_rec = sys::apr_palloc(pool, size_of::<sys::ap_listen_rec>()).cast();
            record.write(sys::ap_listen_rec {
                next: std::ptr::null_mut(),
                sd: listening,
                bind_addr: address,
                accept_func: None,
                active: 1,
                protocol: PROTOCOL.as_ptr(),
                slave: std::ptr::null_mut(),
            });
            *last = record;
            ADDED.store(listening, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Returns true if the MPM has, or is going to have, its listeners several times over (`ListenCoresBucketsRatio`), by address and
    /// port: it does so from the start, or from a restart that is not graceful.
    pub fn has_listen_buckets(&self) -> bool {
        // SAFETY: there is one thread (invariant 5); the tree of directives ends in null pointers, and its strings in NUL (invariant 3).
        unsafe {
            sys::ap_num_listen_buckets > 1
                || ratios(sys::ap_conftree).into_iter().any(|ratio| {
                    let cores = libc::sysconf(libc::_SC_NPROCESSORS_ONLN);
                    ratio > 0 && cores / ratio > 1
                })
        }
    }
}

/// # Safety
///
/// `directive` is null or in a live tree of directives.
unsafe fn ratios(mut directive: *const sys::ap_directive_t) -> Vec<i64> {
    let mut ratios = Vec::new();
    // SAFETY: the caller's promise.
    unsafe {
        while let Some(each) = directive.as_ref() {
            if CStr::from_ptr(each.directive).to_bytes().eq_ignore_ascii_case(b"ListenCoresBucketsRatio") {
                ratios.extend(
                    CStr::from_ptr(each.args)
                        .to_str()
                        .ok()
                        .and_then(|args| args.trim_matches(['"', ' ']).parse::<i64>().ok()),
                );
            }
            ratios.extend(self::ratios(each.first_child));
            directive = each.next;
        }
    }
    ratios
}

/// A socket that the MPM has accepted.
#[derive(Clone, Copy)]
pub struct Accepted<'s> {
    raw: NonNull<sys::apr_socket_t>,
    life: PhantomData<&'s sys::apr_socket_t>,
}

/// Under which key a socket keeps what belongs to its connection.
const KEY: &CStr = c"mod_finish_request";

impl<'s> Accepted<'s> {
    /// # Safety
    ///
    /// `raw` is null or a socket that lives for `'s`, and this thread works on it.
    pub unsafe fn from_raw(raw: *mut sys::apr_socket_t) -> Option<Self> {
        Some(Self { raw: NonNull::new(raw)?, life: PhantomData })
    }

    pub(super) fn raw(self) -> *mut sys::apr_socket_t {
        self.raw.as_ptr()
    }

    /// The descriptor.
    pub fn descriptor(self) -> Option<BorrowedFd<'s>> {
        let mut descriptor: RawFd = -1;
        // SAFETY: the socket is live (invariant 1), and open until httpd closes it.
        unsafe {
            let found = sys::apr_os_sock_get(&raw mut descriptor, self.raw.as_ptr()) == 0 && descriptor >= 0;
            found.then(|| BorrowedFd::borrow_raw(descriptor))
        }
    }

    /// Puts another connection in its place, under the same number: httpd goes on as if it had accepted that.
    ///
    /// # Errors
    ///
    /// The kernel's: then it is as it was, or its addresses are not known.
    pub fn replace(self, client: BorrowedFd<'_>) -> Result {
        let Some(own) = self.descriptor() else { return Err(Status::GENERAL) };
        let mut number = own.as_raw_fd();
        // SAFETY: both descriptors are open. apr_os_sock_put has APR forget the addresses, which it then asks the kernel for. It leaves in
        // them what follows from the family (apr_sockaddr_vars_set is not exported) (invariant 1).
        unsafe {
            if libc::dup3(client.as_raw_fd(), number, libc::O_CLOEXEC) < 0 {
                return Err(Status::last_os_error());
            }
            let mut socket = self.raw.as_ptr();
            Status::check(sys::apr_os_sock_put(&raw mut socket, &raw mut number, std::ptr::null_mut()))?;
            for side in [sys::apr_interface_e_APR_LOCAL, sys::apr_interface_e_APR_REMOTE] {
                let mut address = std::ptr::null_mut();
                Status::check(sys::apr_socket_addr_get(&raw mut address, side, socket))?;
                mend(address)?;
            }
        }
        Ok(())
    }

    /// Makes the names of a socket of the kernel's own family empty ones. It may have none, which the kernel says by an address that ends before
    /// the name: httpd looks at the name all the same (`apr_sockaddr_ip_get`), in memory that nobody has written to.
    pub fn clear_names(self) {
        for side in [sys::apr_interface_e_APR_LOCAL, sys::apr_interface_e_APR_REMOTE] {
            let mut address = std::ptr::null_mut();
            // SAFETY: the socket is live (invariant 1), with its addresses, of this thread (invariant 2); a union of plain bytes.
            unsafe {
                if sys::apr_socket_addr_get(&raw mut address, side, self.raw.as_ptr()) == 0
                    && let Some(address) = address.as_mut()
                    && i32::from(address.sa.sin.sin_family) == libc::AF_UNIX
                {
                    let family = address.sa.sin.sin_family;
                    (&raw mut address.sa).write_bytes(0, 1);
                    address.sa.sin.sin_family = family;
                }
            }
        }
    }

    /// The module's pointer in it.
    pub(super) fn data(self) -> *mut c_void {
        let mut data = std::ptr::null_mut();
        // SAFETY: the socket is live (invariant 1). Nothing is written where there is nothing.
        unsafe { sys::apr_socket_data_get(&raw mut data, KEY.as_ptr(), self.raw.as_ptr()) };
        data
    }

    pub(super) fn set_data(self, data: *mut c_void) {
        // SAFETY: the socket is live (invariant 1) and of this thread (invariant 2).
        unsafe { sys::apr_socket_data_set(self.raw.as_ptr(), data, KEY.as_ptr(), None) };
    }
}

/// Sets what follows from an address's family, which the kernel has filled in.
///
/// # Safety
///
/// `address` is a live address of this thread's.
unsafe fn mend(address: *mut sys::apr_sockaddr_t) -> Result {
    // SAFETY: the caller's promise; the pointers stay within the record.
    unsafe {
        let address = &mut *address;
        address.family = i32::from(address.sa.sin.sin_family);
        address.hostname = std::ptr::null_mut();
        address.servname = std::ptr::null_mut();
        address.next = std::ptr::null_mut();
        match address.family {
            libc::AF_INET => {
                address.salen = size_of::<sys::sockaddr_in>() as sys::apr_socklen_t;
                address.addr_str_len = 16;
                address.ipaddr_ptr = (&raw mut address.sa.sin.sin_addr).cast();
                address.ipaddr_len = size_of_val(&address.sa.sin.sin_addr) as i32;
            }
            libc::AF_INET6 => {
                address.salen = size_of::<sys::sockaddr_in6>() as sys::apr_socklen_t;
                address.addr_str_len = 46;
                address.ipaddr_ptr = (&raw mut address.sa.sin6.sin6_addr).cast();
                address.ipaddr_len = size_of_val(&address.sa.sin6.sin6_addr) as i32;
            }
            _ => return Err(Status::GENERAL),
        }
    }
    Ok(())
}
