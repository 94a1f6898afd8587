//! Another module's kind of bucket (`apr_bucket_type_t`) whose read function is replaced.

use std::ffi::{CStr, c_char, c_int};
use std::fs;
use std::os::fd::BorrowedFd;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};

use super::{Brigade, Configured, Request, Status, guard};
use crate::sys;

/// A bucket's read function, as APR calls it.
type ReadFunction = unsafe extern "C" fn(
    *mut sys::apr_bucket,
    *mut *const c_char,
    *mut sys::apr_size_t,
    sys::apr_read_type_e,
) -> sys::apr_status_t;

/// Tells the origin of one bucket from another's.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Source(usize);

/// A function of the module's in the place of a read function.
pub trait ReplacedRead: 'static {
    /// The other module's name (`module.name`).
    const MODULE: &'static CStr;

    /// The symbol by which it exports its kind of bucket.
    const OF: &'static CStr;

    /// Returns the implementor's static.
    fn original() -> &'static OriginalRead;

    /// Returns true if nothing of the bucket is to be read now. Then it turns into an empty one, with one like it behind.
    fn pauses(source: Source) -> bool;

    /// Looks at what is behind the bucket when it has been read, a piece at a time.
    fn read(source: Source, bytes: &[u8]);
}

/// Where the next of a program's output comes from.
pub enum Ahead<'b> {
    /// Some of it has been read already.
    Read,
    /// All of it is still to be read from this socket.
    Socket(BorrowedFd<'b>),
}

/// The beginning of what mod_fcgid has for the buckets of a request (`fcgid_bucket_ctx`), as in all its versions: no header says so. The
/// request shows that it is this.
#[repr(C)]
struct Context {
    time_limits: [c_int; 2],
    /// A record that begins with the socket.
    socket: *const c_int,
    request: *const sys::request_rec,
    /// What has been read, and no bucket has been made of.
    buffer: *const sys::apr_bucket,
}

impl Brigade<'_> {
    /// What is known of the next output of the program that the first bucket reads from, of the kind [`ReplacedRead::OF`]; none where nothing is.
    pub fn ahead<R: ReplacedRead>(&self, request: Request<'_>) -> Option<Ahead<'_>> {
        let function: ReadFunction = call::<R>;
        // SAFETY: the brigade is live (invariant 1), and so is what its first bucket names, in the request's pool. Where the request stands in that
        // as expected, the rest does, too; the socket is open as long as there is such a bucket.
        unsafe {
            let bucket = self.first_raw()?.as_ref()?;
            if (*bucket.type_).read.is_none_or(|read| read as usize != function as usize) {
                return None;
            }
            let context = bucket.data.cast::<Context>().as_ref()?;
            if !std::ptr::eq(context.request, request.raw()) {
                return None;
            }
            match context.buffer.as_ref() {
                Some(buffer) if buffer.length > 0 => Some(Ahead::Read),
                _ => {
                    let socket = *context.socket.as_ref()?;
                    (socket >= 0).then(|| Ahead::Socket(BorrowedFd::borrow_raw(socket)))
                }
            }
        }
    }
}

/// The read function that was replaced.
pub struct OriginalRead(AtomicPtr<()>);

impl OriginalRead {
    /// Nothing replaced yet.
    pub const fn new() -> Self {
        Self(AtomicPtr::new(std::ptr::null_mut()))
    }
}

impl Configured<'_> {
    /// Puts `R` in the place of the read function of the kind of bucket that the module [`ReplacedRead::MODULE`] exports as [`ReplacedRead::OF`], where
    /// both are: anew each time, as modules are loaded anew.
    pub fn replace_read<R: ReplacedRead>(&self) {
        let function: ReadFunction = call::<R>;
        let Some(record) = symbol(R::MODULE, R::OF) else { return };
        let record: *mut sys::apr_bucket_type_t = record.as_ptr().cast();
        // SAFETY: the symbol is the record of a kind of bucket, which lives as long as its module is loaded. The linker may have made its page
        // read-only; it is written to while no other thread runs (invariant 5), and is again then what it was. A refusal leaves all as it was.
        unsafe {
            let Some(original) = (*record).read else { return };
            if original as usize == function as usize {
                return;
            }
            let place = &raw mut (*record).read;
            let size = usize::try_from(libc::sysconf(libc::_SC_PAGESIZE)).unwrap_or(4096);
            let page = (place as usize / size * size) as *mut libc::c_void;
            let maps = fs::read_to_string("/proc/self/maps").unwrap_or_default();
            let was_writable = is_writable(&maps, place as usize);
            if was_writable || libc::mprotect(page, size, libc::PROT_READ | libc::PROT_WRITE) == 0 {
                R::original().0.store(original as *mut (), Ordering::Release);
                place.write(Some(function));
            }
            if !was_writable {
                libc::mprotect(page, size, libc::PROT_READ);
            }
        }
    }
}

/// The address of a symbol of a module: by the handle that httpd has of it. A look through all that is loaded would tie the module to this one, which
/// is never unloaded, and httpd would not load it anew when it is upgraded.
fn symbol(module: &CStr, name: &CStr) -> Option<NonNull<libc::c_void>> {
    let mut found = ptr::null_mut();
    // SAFETY: both end in NUL (invariant 3); a module's record is alive while the server is configured (invariant 1), and so is the handle in it, which is null
    // for one that was not loaded but built in.
    unsafe {
        let handle = sys::ap_find_linked_module(module.as_ptr()).as_ref()?.dynamic_load_handle;
        if handle.is_null() {
            return NonNull::new(libc::dlsym(libc::RTLD_DEFAULT, name.as_ptr()));
        }
        let status = sys::apr_dso_sym(&raw mut found, handle.cast(), name.as_ptr());
        NonNull::new(found.cast()).filter(|_| status == 0)
    }
}

/// Whether an address may be written to, as `/proc/self/maps` says; false where that does not say.
fn is_writable(maps: &str, address: usize) -> bool {
    maps.lines().any(|line| {
        let mut words = line.split([' ', '-']);
        let mut bound = || usize::from_str_radix(words.next()?, 16).ok();
        let (Some(first), Some(end)) = (bound(), bound()) else { return false };
        (first..end).contains(&address) && words.next().is_some_and(|access| access.get(1..2) == Some("w"))
    })
}

/// # Safety
///
/// For APR to call (invariant 9), as the read function of the kind of bucket `R::OF`: with a live bucket of a brigade (invariant 1), in the thread that works on
/// it.
unsafe extern "C" fn call<R: ReplacedRead>(
    bucket: *mut sys::apr_bucket,
    text: *mut *const c_char,
    length: *mut sys::apr_size_t,
    block: sys::apr_read_type_e,
) -> sys::apr_status_t {
    let original = R::original().0.load(Ordering::Acquire);
    guard(Status::code(Err(Status::GENERAL)), || {
        if original.is_null() {
            return Status::code(Err(Status::GENERAL));
        }
        // SAFETY: [`Configured::replace_read`] stored a ReadFunction here, and nothing else does. The bucket is live, and so are those behind it up to
        // the end of its brigade, which is no heap bucket. What is made of it is what APR's own functions make (invariant 5).
        unsafe {
            let original: ReadFunction = std::mem::transmute::<*mut (), ReadFunction>(original);
            let source = Source((*bucket).data as usize);
            if R::pauses(source) {
                let behind: *mut sys::apr_bucket =
                    sys::apr_bucket_alloc(size_of::<sys::apr_bucket>(), (*bucket).list).cast();
                behind.write(*bucket);
                sys::fr_bucket_insert_after(bucket, behind);
                sys::apr_bucket_immortal_make(bucket, c"".as_ptr(), 0);
                (*text, *length) = (c"".as_ptr(), 0);
                return 0;
            }
            let status = original(bucket, text, length, block);
            let mut behind = (*bucket).link.next;
            while status == 0 && (*behind).type_ == &raw const sys::apr_bucket_type_heap {
                let (mut bytes, mut count) = (std::ptr::null(), 0);
                if sys::fr_bucket_read(behind, &raw mut bytes, &raw mut count, block) != 0 {
                    break;
                }
                R::read(source, std::slice::from_raw_parts(bytes.cast(), count));
                behind = (*behind).link.next;
            }
            status
        }
    })
}

#[cfg(test)]
mod tests {
    use super::is_writable;

    #[test]
    fn the_map_says_what_may_be_written_to() {
        let maps = "55d0-55e0 r--p 00000000 fe:00 1 /usr/sbin/x-y z\n55e0-55f0 rw-p 00010000 fe:00 1 /usr/sbin/x\n\nrw\n7f00-7f10 r-xp 0\n";
        for (address, expected) in [
            (0x55cf, false),
            (0x55d0, false),
            (0x55df, false),
            (0x55e0, true),
            (0x55ef, true),
            (0x55f0, false),
            (0x7f00, false),
        ] {
            assert_eq!(is_writable(maps, address), expected, "{address:x}");
        }
        assert!(!is_writable("", 0));
    }
}
