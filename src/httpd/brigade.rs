//! `apr_bucket_brigade` and its buckets.

use std::marker::PhantomData;
use std::mem::offset_of;
use std::ops::{Deref, DerefMut};
use std::sync::atomic::{AtomicPtr, Ordering};

use super::extra::Alive;
use super::{Accepted, Connection, Pool, Request, Result, Status};
use crate::sys;

/// A list of buckets: of this thread, for one connection.
pub struct Brigade<'b> {
    raw: *mut sys::apr_bucket_brigade,
    life: PhantomData<&'b sys::apr_bucket_brigade>,
}

/// The kind of a bucket.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// The end of the response.
    Eos,
    /// All that came before is to go out at once.
    Flush,
    /// The end of the request: when it is destroyed, the request is logged and its pool goes (`ap_bucket_type_eor`).
    Eor,
    /// Other metadata: an error, the end of a connection, a foreign module's.
    Metadata,
    /// Data, with its length in bytes where that is known before it is read.
    Data(Option<u64>),
}

/// True if a read may wait.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Block {
    /// Wait for data, as long as the bucket's own time limit says.
    Yes,
    /// Give [`Status::is_again`] where there is nothing yet.
    No,
}

impl Block {
    pub(super) fn raw(self) -> sys::apr_read_type_e {
        match self {
            Self::Yes => sys::apr_read_type_e_APR_BLOCK_READ,
            Self::No => sys::apr_read_type_e_APR_NONBLOCK_READ,
        }
    }
}

impl<'b> Brigade<'b> {
    /// # Safety
    ///
    /// `raw` is a brigade that lives for `'b` and that this thread works on.
    pub unsafe fn from_raw(raw: *mut sys::apr_bucket_brigade) -> Self {
        Self { raw, life: PhantomData }
    }

    /// An empty brigade for the connection, in a pool that does not outlive it. Its memory stays with the pool.
    pub fn new(connection: Connection<'_>, pool: Pool<'b>) -> Self {
        // SAFETY: the connection is live (invariant 1), with its bucket allocator; the pool is the connection's or its request's.
        unsafe { Self::from_raw(sys::apr_brigade_create(pool.raw(), (*connection.raw()).bucket_alloc)) }
    }

    /// Calls `with` with an empty brigade, whose buckets may be moved to and from this one. What is left in it is destroyed.
    pub fn beside<T>(&mut self, with: impl FnOnce(&mut Self, &mut Brigade<'_>) -> T) -> T {
        let mut ring: sys::apr_bucket_brigade;
        // SAFETY: an all-zero record is one without a pool, made a brigade with this one's (invariant 1). It stays where it is while the other
        // brigade lives, which is empty at its end.
        let mut other = unsafe {
            ring = std::mem::zeroed();
            sys::fr_brigade_init(&raw mut ring, (*self.raw).p, (*self.raw).bucket_alloc);
            Brigade::from_raw(&raw mut ring)
        };
        let result = with(self, &mut other);
        other.clear();
        result
    }

    /// The pointer, for httpd's functions.
    pub fn raw(&self) -> *mut sys::apr_bucket_brigade {
        self.raw
    }

    /// Shows its buckets, in order, each as it is when its turn comes.
    ///
    /// # Errors
    ///
    /// The first error of `see`, which ends it.
    pub fn look_through(&mut self, mut see: impl FnMut(&mut Bucket<'_>) -> Result) -> Result {
        let mut next = self.first_raw();
        while let Some(raw) = next {
            see(&mut Bucket { raw, life: PhantomData })?;
            // Seeing it takes it out of nothing.
            next = self.next_raw(raw);
        }
        Ok(())
    }

    /// Destroys the buckets, in order.
    pub fn clear(&mut self) {
        // SAFETY: the brigade is live (invariant 1).
        unsafe { sys::apr_brigade_cleanup(self.raw.cast()) };
    }

    /// Returns the kind of the first bucket; `None` where there is none.
    pub fn first(&self) -> Option<Kind> {
        self.first_raw().map(kind)
    }

    /// Returns true if nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.first_raw().is_none()
    }

    /// Reads the first bucket, which may turn into another kind while it is read, with more behind it.
    ///
    /// # Errors
    ///
    /// The bucket's: with [`Block::No`], that there is nothing yet.
    pub fn read_first(&mut self, block: Block) -> Result<&[u8]> {
        let Some(bucket) = self.first_raw() else { return Ok(&[]) };
        // SAFETY: the bucket is in a live brigade (invariant 1). To destroy or change it takes another exclusive borrow of this brigade.
        unsafe { read(bucket, block) }
    }

    /// Calls `with` with its first data, as far as that can be read without waiting: of so many buckets at most. What `with` says is how many bytes
    /// of it are done with: these are destroyed.
    ///
    /// # Errors
    ///
    /// As [`Brigade::split_first`].
    pub fn take_ready<const MOST: usize>(&mut self, with: impl FnOnce(&[&[u8]]) -> usize) -> Result {
        let mut pieces: [&[u8]; MOST] = [&[]; MOST];
        let (mut count, mut next) = (0, self.first_raw());
        while let (Some(bucket), Some(piece)) = (next, pieces.get_mut(count)) {
            if !matches!(kind(bucket), Kind::Data(_)) {
                break;
            }
            // SAFETY: the bucket is in the live brigade (invariant 1), which nobody changes before `with` has returned.
            let Ok(bytes) = (unsafe { read(bucket, Block::No) }) else { break };
            *piece = bytes;
            count += 1;
            next = self.next_raw(bucket);
        }
        let lengths = pieces.map(<[u8]>::len);
        let mut done = with(pieces.get(..count).unwrap_or_default());
        for length in lengths.into_iter().take(count) {
            if done < length {
                if done > 0 {
                    self.split_first(done as u64)?;
                    self.delete_first();
                }
                break;
            }
            done -= length;
            self.delete_first();
        }
        Ok(())
    }

    /// Splits the first bucket, so that it has `at` bytes and the rest is a bucket of its own.
    ///
    /// # Errors
    ///
    /// The bucket's, where it must be read before it can be split.
    pub fn split_first(&mut self, at: u64) -> Result {
        let Some(bucket) = self.first_raw() else { return Ok(()) };
        let at = usize::try_from(at).map_err(|_| Status::GENERAL)?;
        // SAFETY: the bucket is in a live brigade (invariant 1), and `at` is within its length: callers have compared.
        let split = unsafe { Status::check(sys::fr_bucket_split(bucket, at)) };
        split.or_else(|_| {
            // Some types can be split only after they were read (apr_brigade_partition does the same).
            self.read_first(Block::Yes)?;
            // SAFETY: as above.
            unsafe { Status::check(sys::fr_bucket_split(bucket, at)) }
        })
    }

    /// Destroys the first bucket.
    pub fn delete_first(&mut self) {
        if let Some(bucket) = self.first_raw() {
            // SAFETY: the bucket is in a live brigade (invariant 1), taken out before it is destroyed.
            unsafe {
                sys::fr_bucket_remove(bucket);
                sys::fr_bucket_destroy(bucket);
            }
        }
    }

    /// Moves the first bucket to the end of another brigade.
    pub fn move_first(&mut self, to: &mut Brigade<'_>) {
        if let Some(bucket) = self.first_raw() {
            // SAFETY: both brigades are live (invariant 1) and of the same connection; the bucket is in one at a time.
            unsafe {
                sys::fr_bucket_remove(bucket);
                sys::fr_brigade_append(to.raw, bucket);
            }
        }
    }

    /// Destroys all behind the first bucket.
    pub fn keep_first(&mut self) {
        // SAFETY: the brigade is live (invariant 1), and so are its buckets; a bucket is destroyed when it has been taken out.
        unsafe {
            while let Some(last) = self.last_raw()
                && Some(last) != self.first_raw()
            {
                sys::fr_bucket_remove(last);
                sys::fr_bucket_destroy(last);
            }
        }
    }

    /// Takes so many bytes off the last bucket, which is data of more than that, and has been read.
    ///
    /// # Errors
    ///
    /// The bucket's, which is another module's.
    pub fn cut_last(&mut self, bytes: usize) -> Result {
        // SAFETY: the brigade is live (invariant 1), and so are its buckets; a bucket is destroyed when it has been taken out.
        unsafe {
            let Some(last) = self.last_raw() else { return Ok(()) };
            let left = (*last).length.checked_sub(bytes).ok_or(Status::GENERAL)?;
            if left > 0 {
                Status::check(sys::fr_bucket_split(last, left))?;
            }
            let Some(last) = self.last_raw() else { return Ok(()) };
            sys::fr_bucket_remove(last);
            sys::fr_bucket_destroy(last);
        }
        Ok(())
    }

    /// Moves everything to the end of another brigade.
    pub fn move_all(&mut self, to: &mut Brigade<'_>) {
        // SAFETY: both brigades are live (invariant 1) and of the same connection.
        unsafe { sys::fr_brigade_concat(to.raw, self.raw) }
    }

    /// Takes the last byte of its data out, and what stands behind that; none where it has none, or of unknown length.
    ///
    /// # Errors
    ///
    /// As [`Brigade::split_first`].
    pub fn take_last(&mut self) -> Result<Option<u8>> {
        let Some(mut before) = self.length().and_then(|length| length.checked_sub(1)) else { return Ok(None) };
        self.beside(|all, rest| {
            all.move_all(rest);
            while let Some(kind) = rest.first() {
                if let Kind::Data(Some(length @ 1..)) = kind {
                    if before == 0 {
                        return Ok(rest.read_first(Block::Yes)?.first().copied());
                    }
                    if length > before {
                        rest.split_first(before)?;
                    }
                    before -= length.min(before);
                }
                rest.move_first(all);
            }
            Ok(None)
        })
    }

    /// Adds the end of the response.
    pub fn push_eos(&mut self) {
        // SAFETY: a new bucket of the brigade's own allocator (invariant 1).
        unsafe { sys::fr_brigade_append(self.raw, sys::apr_bucket_eos_create((*self.raw).bucket_alloc)) }
    }

    /// Adds the wish that what came before goes out at once.
    pub fn push_flush(&mut self) {
        // SAFETY: as for push_eos.
        unsafe { sys::fr_brigade_append(self.raw, sys::apr_bucket_flush_create((*self.raw).bucket_alloc)) }
    }

    /// Adds a copy of some bytes.
    pub fn push_bytes(&mut self, bytes: &[u8]) {
        // SAFETY: a new bucket of the brigade's own allocator (invariant 1), with a copy: that is what a null free function
        // asks apr_bucket_heap_create for.
        unsafe {
            let list = (*self.raw).bucket_alloc;
            let bucket = sys::apr_bucket_heap_create(bytes.as_ptr().cast(), bytes.len(), None, list);
            sys::fr_brigade_append(self.raw, bucket);
        }
    }

    /// Adds what a socket gives when it is read.
    pub fn push_socket(&mut self, socket: Accepted<'b>) {
        // SAFETY: as for push_eos; the socket is the connection's, and lives as long as that.
        unsafe {
            let bucket = sys::apr_bucket_socket_create(socket.raw(), (*self.raw).bucket_alloc);
            sys::fr_brigade_append(self.raw, bucket);
        }
    }

    /// The sum of the lengths of its data; none where a bucket does not know its length before it is read.
    pub fn length(&self) -> Option<u64> {
        let mut length = 0;
        // SAFETY: the brigade is live (invariant 1); nothing is read.
        let status = unsafe { sys::apr_brigade_length(self.raw, 0, &raw mut length) };
        Status::check(status).ok().and_then(|()| u64::try_from(length).ok())
    }

    /// Adds an error bucket with an HTTP status: before the header it asks for an error page, behind it mod_http2
    /// resets the stream.
    pub fn push_error(&mut self, status: i32) {
        // SAFETY: as for push_eos; the bucket's text is null, which ap_bucket_error_create allows.
        unsafe {
            let (pool, list) = ((*self.raw).p, (*self.raw).bucket_alloc);
            sys::fr_brigade_append(self.raw, sys::ap_bucket_error_create(status, std::ptr::null(), pool, list));
        }
    }

    /// Returns true if the end of the stream is in it.
    pub fn has_eos(&self) -> bool {
        self.kinds().any(|kind| kind == Kind::Eos)
    }

    /// Returns true if data is in it, as far as that is known before it is read.
    pub fn has_data(&self) -> bool {
        self.kinds().any(|kind| matches!(kind, Kind::Data(None | Some(1..))))
    }

    /// Its buckets, in order, as they are.
    fn kinds(&self) -> impl Iterator<Item = Kind> {
        std::iter::successors(self.first_raw(), |bucket| self.next_raw(*bucket)).map(kind)
    }

    /// The first bucket.
    pub(super) fn first_raw(&self) -> Option<*mut sys::apr_bucket> {
        // SAFETY: the brigade is live (invariant 1).
        self.unless_end(unsafe { (*self.raw).list.next })
    }

    fn last_raw(&self) -> Option<*mut sys::apr_bucket> {
        // SAFETY: the brigade is live (invariant 1).
        self.unless_end(unsafe { (*self.raw).list.prev })
    }

    /// The bucket behind one that is in it.
    fn next_raw(&self, bucket: *mut sys::apr_bucket) -> Option<*mut sys::apr_bucket> {
        // SAFETY: the brigade is live (invariant 1), and the bucket is in it.
        self.unless_end(unsafe { (*bucket).link.next })
    }

    /// The bucket, if it is one: behind the last one the ring stands in a bucket's place (`APR_RING_SENTINEL`).
    fn unless_end(&self, bucket: *mut sys::apr_bucket) -> Option<*mut sys::apr_bucket> {
        // SAFETY: the brigade is live (invariant 1).
        let ring = unsafe { &raw mut (*self.raw).list };
        let sentinel = ring.wrapping_byte_sub(offset_of!(sys::apr_bucket, link));
        (bucket != sentinel.cast()).then_some(bucket)
    }
}

/// A bucket that stays where it is in its brigade.
pub struct Bucket<'b> {
    raw: *mut sys::apr_bucket,
    life: PhantomData<&'b sys::apr_bucket>,
}

impl Bucket<'_> {
    /// What it is.
    pub fn kind(&self) -> Kind {
        kind(self.raw)
    }

    /// Reads it: it may turn into another kind, with more behind it.
    ///
    /// # Errors
    ///
    /// As [`Brigade::read_first`].
    pub fn read(&mut self, block: Block) -> Result<&[u8]> {
        // SAFETY: the bucket is in a live brigade (invariant 1). To change it takes another exclusive borrow of this.
        unsafe { read(self.raw, block) }
    }
}

/// # Safety
///
/// The bucket is in a live brigade, and is neither destroyed nor changed for `'b`.
unsafe fn read<'b>(bucket: *mut sys::apr_bucket, block: Block) -> Result<&'b [u8]> {
    let mut data = std::ptr::null();
    let mut length = 0;
    // SAFETY: the caller's promise; the data stays where it is until the bucket is destroyed or changed.
    unsafe {
        Status::check(sys::fr_bucket_read(bucket, &raw mut data, &raw mut length, block.raw()))?;
        if data.is_null() || length == 0 {
            return Ok(&[]);
        }
        Ok(std::slice::from_raw_parts(data.cast(), length))
    }
}

fn kind(bucket: *mut sys::apr_bucket) -> Kind {
    // SAFETY: the caller has the bucket from a live brigade (invariant 1); types are static tables of APR's or a module's.
    unsafe {
        let kind = (*bucket).type_;
        if kind == &raw const sys::apr_bucket_type_eos {
            Kind::Eos
        } else if kind == &raw const sys::apr_bucket_type_flush {
            Kind::Flush
        } else if kind == &raw const sys::ap_bucket_type_eor {
            Kind::Eor
        } else if (*kind).is_metadata == sys::apr_bucket_type_t_APR_BUCKET_METADATA {
            Kind::Metadata
        } else {
            Kind::Data(((*bucket).length != usize::MAX).then_some((*bucket).length as u64))
        }
    }
}

/// A brigade of a request's, kept for later calls into the module. One at a time has it.
pub struct BrigadeRecord {
    /// Null while somebody has it.
    raw: AtomicPtr<sys::apr_bucket_brigade>,
    alive: Alive,
}

impl BrigadeRecord {
    /// An empty one, that ends with the request.
    pub fn new(request: Request<'_>) -> Self {
        Self { raw: AtomicPtr::new(request.brigade().raw), alive: Alive::of_request(request) }
    }

    /// Gives the brigade, until that is dropped.
    pub fn borrow(&self) -> BorrowedBrigade<'_> {
        assert!(self.alive.get(), "a brigade is used after its request's end");
        let raw = self.raw.swap(std::ptr::null_mut(), Ordering::Relaxed);
        assert!(!raw.is_null(), "a brigade is used by two at a time");
        // SAFETY: the brigade lives as long as its request (invariant 8), and nobody else has it.
        BorrowedBrigade { of: self, brigade: unsafe { Brigade::from_raw(raw) } }
    }
}

/// A [`BrigadeRecord`]'s brigade in use.
pub struct BorrowedBrigade<'b> {
    of: &'b BrigadeRecord,
    brigade: Brigade<'b>,
}

impl<'b> Deref for BorrowedBrigade<'b> {
    type Target = Brigade<'b>;

    fn deref(&self) -> &Self::Target {
        &self.brigade
    }
}

impl DerefMut for BorrowedBrigade<'_> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        &mut self.brigade
    }
}

impl Drop for BorrowedBrigade<'_> {
    fn drop(&mut self) {
        self.of.raw.store(self.brigade.raw, Ordering::Relaxed);
    }
}
