//! Values that the module keeps with httpd's objects: for each type one value, as `http::Extensions` has it.
//!
//! A request, a connection and an accepted socket have one pointer for the module each. It names a list in the object's pool.

use std::any::TypeId;
use std::cell::Cell;
use std::ffi::c_void;
use std::mem::{ManuallyDrop, needs_drop};
use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use super::{Accepted, Connection, Module, Pool, Request};
use crate::sys;

/// A value of whatever type, and the next one.
#[repr(C)]
pub(super) struct Header {
    kind: Cell<TypeId>,
    next: *const Self,
}

/// A value with its header.
#[repr(C)]
pub(super) struct Node<T> {
    header: Header,
    pub(super) value: T,
}

/// The type of a value that has been dropped.
struct Gone;

impl<T: 'static> Node<T> {
    #[inline(always)]
    pub(super) fn new(value: T, next: *const Header) -> Self {
        Self { header: Header { kind: Cell::new(TypeId::of::<T>()), next }, value }
    }

    /// Gives it to the pool. A value that is never dropped stays as it is until the pool's memory goes.
    #[inline(always)]
    pub(super) fn keep(self, pool: Pool<'_>) -> NonNull<Self> {
        if needs_drop::<T>() { pool.own(self) } else { self.keep_undropped(pool) }
    }

    /// The same, of one that is not dropped by itself.
    #[inline(always)]
    fn keep_undropped(self, pool: Pool<'_>) -> NonNull<Self> {
        pool.own(ManuallyDrop::new(self)).cast()
    }
}

impl<T> Drop for Node<T> {
    fn drop(&mut self) {
        // A later cleanup of the pool does not find it.
        self.header.kind.set(TypeId::of::<Gone>());
    }
}

/// Returns the first node of the list that has a `T`.
///
/// # Safety
///
/// `first` is null, or the header of a node of a list of live nodes.
pub(super) unsafe fn find<T: 'static>(first: *const Header) -> Option<*mut Node<T>> {
    let mut next = first;
    // SAFETY: the caller's promise. A node with this type's number was made as one of this type.
    while let Some(header) = unsafe { next.as_ref() } {
        if header.kind.get() == TypeId::of::<T>() {
            return Some(next.cast::<Node<T>>().cast_mut());
        }
        next = header.next;
    }
    None
}

/// An object that has such a list.
trait Listed<'p>: Copy {
    fn pool(self) -> Pool<'p>;
    fn first(self) -> *const Header;
    fn set_first(self, first: *const Header);

    fn find<T: 'static>(self) -> Option<&'p T> {
        // SAFETY: the list is this module's, and its nodes live as long as the object (invariants 1 and 7).
        unsafe { find::<T>(self.first()).map(|node| &(*node).value) }
    }

    fn find_or_init<T: 'static>(self, init: impl FnOnce() -> T) -> &'p T {
        self.find_or_keep(init, Node::keep)
    }

    #[inline(always)]
    fn find_or_keep<T: 'static>(
        self,
        init: impl FnOnce() -> T,
        keep: impl FnOnce(Node<T>, Pool<'p>) -> NonNull<Node<T>>,
    ) -> &'p T {
        if let Some(found) = self.find::<T>() {
            return found;
        }
        let mut node = Node::new(init(), std::ptr::null());
        if let Some(found) = self.find::<T>() {
            // It has been added meanwhile.
            return found;
        }
        node.header.next = self.first();
        let node = keep(node, self.pool());
        self.set_first(node.as_ptr().cast_const().cast());
        // SAFETY: the pool has it, and lives for 'p (invariant 7).
        unsafe { &(*node.as_ptr()).value }
    }
}

impl<'r> Listed<'r> for Request<'r> {
    fn pool(self) -> Pool<'r> {
        self.pool()
    }

    fn first(self) -> *const Header {
        // SAFETY: the request is live (invariant 1), with its vector of modules' pointers.
        unsafe { Module::pointer_in((*self.raw()).request_config).cast() }
    }

    fn set_first(self, first: *const Header) {
        let first = first.cast_mut().cast::<c_void>();
        // SAFETY: as for first; this thread works on the request (invariant 2).
        unsafe { sys::ap_set_module_config((*self.raw()).request_config, Module::raw(), first) }
    }
}

impl<'c> Listed<'c> for Connection<'c> {
    fn pool(self) -> Pool<'c> {
        self.pool()
    }

    fn first(self) -> *const Header {
        // SAFETY: the connection is live (invariant 1), with its vector of modules' pointers.
        unsafe { Module::pointer_in((*self.raw()).conn_config).cast() }
    }

    fn set_first(self, first: *const Header) {
        let first = first.cast_mut().cast::<c_void>();
        // SAFETY: as for first; this thread works on the connection (invariant 2).
        unsafe { sys::ap_set_module_config((*self.raw()).conn_config, Module::raw(), first) }
    }
}

impl<'r> Request<'r> {
    /// Returns the `T` that is kept with the request.
    pub fn extra<T: 'static>(self) -> Option<&'r T> {
        self.find()
    }

    /// Returns the `T` that is kept with the request, made now if there is none. It is dropped at the request's end.
    pub fn extra_or_init<T: 'static>(self, init: impl FnOnce() -> T) -> &'r T {
        self.find_or_init(init)
    }

    /// Returns the `T` that is kept with the request, made now if there is none. At the request's end it is dropped if it
    /// [wants to be](Request::drop_at_end), and otherwise forgotten: that costs nothing.
    pub fn undropped_or_init<T: 'static>(self, init: impl FnOnce() -> T) -> &'r T {
        self.find_or_keep(init, Node::keep_undropped)
    }

    /// Has the `T` that is kept with the request dropped at its end.
    pub fn drop_at_end<T: 'static>(self) {
        unsafe extern "C" fn drop_node<T: 'static>(data: *mut c_void) -> sys::apr_status_t {
            super::guard((), || {
                let node = data.cast::<Node<T>>();
                // SAFETY: a node of a list in this pool, whose memory is there until the cleanups have run. One that has been dropped says so (invariant 7).
                unsafe {
                    if (*node).header.kind.get() == TypeId::of::<T>() {
                        node.drop_in_place();
                    }
                }
            });
            0
        }
        // SAFETY: the list is this module's, and its nodes live as long as the request (invariants 1 and 7).
        unsafe {
            if let Some(node) = find::<T>(Listed::first(self)) {
                Listed::pool(self).at_end(node.cast(), drop_node::<T>);
            }
        }
    }
}

impl<'c> Connection<'c> {
    /// Returns the `T` that is kept with the connection.
    pub fn extra<T: 'static>(self) -> Option<&'c T> {
        self.find()
    }

    /// Returns the `T` that is kept with the connection, made now if there is none. It is dropped at the connection's end.
    pub fn extra_or_init<T: 'static>(self, init: impl FnOnce() -> T) -> &'c T {
        self.find_or_init(init)
    }
}

impl<'s> Accepted<'s> {
    /// Returns the `T` that is kept with the socket.
    pub fn extra<T: 'static>(self) -> Option<&'s T> {
        // SAFETY: null, or the first of a list that set_extra made, in the pool of the socket's connection (invariant 7).
        unsafe { find::<T>(self.data().cast_const().cast()).map(|node| &(*node).value) }
    }

    /// Keeps a `T` with the socket, in `pool`, which is its connection's, unless there is one.
    pub fn set_extra<T: 'static>(self, pool: Pool<'s>, value: T) {
        if self.extra::<T>().is_none() {
            let node = Node::new(value, self.data().cast_const().cast()).keep(pool);
            self.set_data(node.as_ptr().cast());
        }
    }
}

/// Says whether an object of httpd's lives. It is kept with the object, and asked by what is kept elsewhere.
#[derive(Clone)]
pub(super) struct Alive(Arc<AtomicBool>);

/// The value that is kept with the object.
struct Lives(Alive);

impl Drop for Lives {
    fn drop(&mut self) {
        self.0.0.store(false, Ordering::Release);
    }
}

impl Alive {
    pub(super) fn of_connection(connection: Connection<'_>) -> Self {
        connection.extra_or_init(Self::lives).0.clone()
    }

    pub(super) fn of_request(request: Request<'_>) -> Self {
        request.extra_or_init(Self::lives).0.clone()
    }

    fn lives() -> Lives {
        Lives(Self(Arc::new(AtomicBool::new(true))))
    }

    pub(super) fn get(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_has_one_value_of_each_type() {
        let first = Node::new(1_u8, std::ptr::null());
        let second = Node::new("text", &raw const first.header);
        let third = Node::new(Cell::new(2_u32), &raw const second.header);
        let head = &raw const third.header;
        // SAFETY: a list of nodes that live here (invariant 7).
        unsafe {
            assert_eq!(find::<u8>(head).map(|node| (*node).value), Some(1));
            assert_eq!(find::<&str>(head).map(|node| (*node).value), Some("text"));
            assert_eq!(find::<Cell<u32>>(head).map(|node| (*node).value.get()), Some(2));
            assert!(find::<u32>(head).is_none());
            assert!(find::<u8>(std::ptr::null()).is_none());
        }
        third.value.set(3);
        let head = &raw const third.header;
        // SAFETY: as above; the dropped node's memory is still there.
        unsafe {
            let mut dropped = std::mem::ManuallyDrop::new(Node::new(4_u64, head));
            std::mem::ManuallyDrop::drop(&mut dropped);
            let head = &raw const dropped.header;
            assert!(find::<u64>(head).is_none());
            assert_eq!(find::<u8>(head).map(|node| (*node).value), Some(1));
        }
    }
}
