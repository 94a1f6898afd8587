//! A kind of bucket of the module's own (`apr_bucket_type_t`): it stands for data of unknown length, as those of mod_cgi and mod_fcgid do,
//! and is read on demand.

use std::ffi::{c_char, c_int, c_void};
use std::marker::PhantomData;
use std::rc::Rc;

use super::brigade::{Block, Brigade};
use super::{Result, Status, guard};
use crate::sys;

/// Where the data of such buckets comes from.
pub trait Pull: 'static {
    /// Gives the next data: buckets of known length in `out`, none where there is nothing more, but that metadata may stand there. True if more may follow.
    ///
    /// # Errors
    ///
    /// With [`Block::No`], that there is nothing yet ([`Status::AGAIN`]); or what is wrong with what is read.
    fn read(&self, block: Block, out: &mut Brigade<'_>) -> Result<bool>;
}

/// The record of the kind of bucket whose data comes from a `T`.
struct Kind<T>(PhantomData<T>);

/// A record with a name in it, that nobody writes to.
struct Record(sys::apr_bucket_type_t);

// SAFETY: the pointer is that of a constant (invariant 4).
unsafe impl Sync for Record {}

impl<T: Pull> Kind<T> {
    const RECORD: &'static Record = &Record(sys::apr_bucket_type_t {
        name: c"FINISH_REQUEST".as_ptr(),
        num_func: 5 as c_int,
        is_metadata: sys::apr_bucket_type_t_APR_BUCKET_DATA,
        destroy: Some(destroy::<T>),
        read: Some(read::<T>),
        setaside: Some(sys::apr_bucket_setaside_notimpl),
        split: Some(sys::apr_bucket_split_notimpl),
        copy: Some(sys::apr_bucket_copy_notimpl),
    });
}

impl Brigade<'_> {
    /// Adds a bucket that stands for all that `source` gives, and keeps that.
    pub fn push_pulled<T: Pull>(&mut self, source: Rc<T>) {
        // SAFETY: the brigade is live (invariant 1), and the bucket is of its own allocator.
        unsafe {
            let list = (*self.raw()).bucket_alloc;
            let bucket: *mut sys::apr_bucket = sys::apr_bucket_alloc(size_of::<sys::apr_bucket>(), list).cast();
            (*bucket).free = Some(sys::apr_bucket_free);
            (*bucket).list = list;
            make::<T>(bucket, Rc::into_raw(source).cast_mut().cast());
            sys::fr_brigade_append(self.raw(), bucket);
        }
    }
}

/// Makes a bucket, whose allocator is set, one of this kind.
///
/// # Safety
///
/// The bucket is of this thread, and holds nothing that is to be freed. The data is an `Rc<T>`, which it has from now on.
unsafe fn make<T: Pull>(bucket: *mut sys::apr_bucket, data: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe {
        (*bucket).type_ = &raw const Kind::<T>::RECORD.0;
        (*bucket).length = usize::MAX;
        (*bucket).start = -1;
        (*bucket).data = data;
    }
}

/// The destroy function.
unsafe extern "C" fn destroy<T: Pull>(data: *mut c_void) {
    guard((), || {
        // SAFETY: APR calls the function once with the data of a bucket of this kind, in its thread (invariant 2).
        drop(unsafe { Rc::from_raw(data.cast::<T>().cast_const()) });
    });
}

/// The read function. The bucket turns into the first of the data, with the rest behind it, and another one of this kind where more may
/// follow: as the buckets of pipes do.
unsafe extern "C" fn read<T: Pull>(
    bucket: *mut sys::apr_bucket,
    text: *mut *const c_char,
    length: *mut sys::apr_size_t,
    block: sys::apr_read_type_e,
) -> sys::apr_status_t {
    guard(Status::code(Err(Status::GENERAL)), || {
        // SAFETY: APR calls the function with a bucket of a live brigade (invariant 1), in its thread; its data is the source that push_pulled was
        // given, which it keeps. What is read is in buckets of the same allocator, that are in one brigade at a time.
        unsafe {
            let data = (*bucket).data;
            let mut ring: sys::apr_bucket_brigade = std::mem::zeroed();
            sys::fr_brigade_init(&raw mut ring, std::ptr::null_mut(), (*bucket).list);
            let mut out = Brigade::from_raw(&raw mut ring);
            let block = if block == sys::apr_read_type_e_APR_NONBLOCK_READ { Block::No } else { Block::Yes };
            let more = match (*data.cast::<T>().cast_const()).read(block, &mut out) {
                Ok(more) => more,
                Err(status) => {
                    out.clear();
                    return Status::code(Err(status));
                }
            };
            let mut last = bucket;
            let spare = turn_into(bucket, &out);
            while let Some(next) = out.first_raw() {
                sys::fr_bucket_remove(next);
                sys::fr_bucket_insert_after(last, next);
                last = next;
            }
            if more {
                make::<T>(spare, data);
                sys::fr_bucket_insert_after(last, spare);
            } else {
                sys::apr_bucket_free(spare.cast());
                drop(Rc::from_raw(data.cast::<T>().cast_const()));
            }
            sys::fr_bucket_read(bucket, text, length, sys::apr_read_type_e_APR_BLOCK_READ)
        }
    })
}

/// Turns the bucket into the first of the brigade, which is taken out; an empty one, where that is no data or there is none. Gives a bucket of the
/// same allocator that holds nothing.
///
/// # Safety
///
/// Both are of this thread and of one allocator; the bucket holds nothing that is to be freed.
unsafe fn turn_into(bucket: *mut sys::apr_bucket, out: &Brigade<'_>) -> *mut sys::apr_bucket {
    // SAFETY: the caller's promise. A bucket's data does not know its bucket: APR's own functions turn buckets into others in the same way.
    unsafe {
        let is_data =
            |first: &*mut sys::apr_bucket| (*(**first).type_).is_metadata != sys::apr_bucket_type_t_APR_BUCKET_METADATA;
        let Some(first) = out.first_raw().filter(is_data) else {
            sys::apr_bucket_immortal_make(bucket, c"".as_ptr(), 0);
            let spare: *mut sys::apr_bucket =
                sys::apr_bucket_alloc(size_of::<sys::apr_bucket>(), (*bucket).list).cast();
            (*spare).free = Some(sys::apr_bucket_free);
            (*spare).list = (*bucket).list;
            return spare;
        };
        sys::fr_bucket_remove(first);
        (*bucket).type_ = (*first).type_;
        (*bucket).length = (*first).length;
        (*bucket).start = (*first).start;
        (*bucket).data = (*first).data;
        first
    }
}
