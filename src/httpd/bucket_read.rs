//! Another module's kind of bucket (`apr_bucket_type_t`) whose read function is replaced.

use std::ffi::{CStr, c_char, c_int};
use std::os::fd::BorrowedFd;
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
    /// The symbol by which the other module exports its kind of bucket.
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
    /// Puts `R` in the place of the read function of the kind of bucket that a loaded module exports as `R::OF`, if one does: anew
    /// each time, as modules are loaded anew.
    pub fn replace_read<R: ReplacedRead>(&self) {
        let function: ReadFunction = call::<R>;
        // SAFETY: the symbol is the record of a kind of bucket, which lives as long as its module is loaded. The linker has made its page
        // read-only; it is written to while no other thread runs (invariant 5), and made read-only again. A refusal leaves all as it was.
        unsafe {
            let record: *mut sys::apr_bucket_type_t = libc::dlsym(libc::RTLD_DEFAULT, R::OF.as_ptr()).cast();
            let Some(original) = record.as_ref().and_then(|record| record.read) else { return };
            if original as usize == function as usize {
                return;
            }
            let place = &raw mut (*record).read;
            let size = usize::try_from(libc::sysconf(libc::_SC_PAGESIZE)).unwrap_or(4096);
            let (first, last) = (place as usize / size, (place as usize + size_of_val(&*place) - 1) / size);
            let (pages, length) = ((first * size) as *mut libc::c_void, (last - first + 1) * size);
            if libc::mprotect(pages, length, libc::PROT_READ | libc::PROT_WRITE) == 0 {
                R::original().0.store(original as *mut (), Ordering::Release);
                place.write(Some(function));
                libc::mprotect(pages, length, libc::PROT_READ);
            }
        }
    }
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
        // the end of its brigade, which is no heap bucket. What is made of it is what APR's own functions make.
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
