//! The module record that httpd's loader looks for.

use std::cell::UnsafeCell;
use std::ffi::{CStr, c_int, c_ulong, c_void};
use std::sync::atomic::{AtomicPtr, Ordering};

use super::guard::set_panic_hook;
use super::log::install as install_log;
use super::{Commands, Hooks, PerDir, config, guard};
use crate::sys;

/// A module of httpd's.
pub trait ModuleType: 'static {
    /// The name of its file, as httpd lists it and sorts hooks by it.
    const NAME: &'static CStr;
    /// The settings that its directives make.
    type Settings: PerDir;

    /// Returns its record, a static.
    fn record() -> &'static Module;

    /// Registers its hooks and filters: at start, once more at start, and at each restart.
    fn register(hooks: &Hooks);
}

/// A `module`, which httpd writes to while it reads its configuration: the index, the list of modules.
#[repr(transparent)]
pub struct Module(UnsafeCell<sys::module>);

// SAFETY: httpd writes to the record only while it reads its configuration, with one thread (invariant 5); afterwards all only read.
unsafe impl Sync for Module {}

/// The record in use, for the wrappers that need the module's index.
static LOADED: AtomicPtr<sys::module> = AtomicPtr::new(std::ptr::null_mut());

impl Module {
    /// The record of a module, with its table of directives.
    pub const fn of<M: ModuleType, const N: usize>(commands: &'static Commands<N>) -> Self {
        Self(UnsafeCell::new(sys::module {
            version: sys::MODULE_MAGIC_NUMBER_MAJOR,
            minor_version: sys::MODULE_MAGIC_NUMBER_MINOR,
            module_index: -1,
            name: M::NAME.as_ptr(),
            dynamic_load_handle: std::ptr::null_mut::<c_void>(),
            next: std::ptr::null_mut(),
            magic: sys::MODULE_MAGIC_COOKIE as c_ulong,
            rewrite_args: None,
            create_dir_config: Some(config::create::<M::Settings>),
            merge_dir_config: Some(config::merge::<M::Settings>),
            create_server_config: None,
            merge_server_config: None,
            cmds: commands.as_ptr(),
            register_hooks: Some(register_hooks::<M>),
            flags: 0,
        }))
    }

    pub(super) fn raw() -> *mut sys::module {
        LOADED.load(Ordering::Acquire)
    }

    /// The module's pointer in a vector of modules' pointers: what httpd's header does for `ap_get_module_config`, without a call.
    ///
    /// # Safety
    ///
    /// The vector is of a live object, and the module is loaded.
    pub(super) unsafe fn pointer_in(vector: *mut sys::ap_conf_vector_t) -> *mut c_void {
        // SAFETY: the caller's promise; httpd has given the module its index, which is a place in each such vector.
        unsafe { *vector.cast::<*mut c_void>().offset((*Self::raw()).module_index as isize) }
    }

    /// `APLOG_MODULE_INDEX`: httpd's number for the module, and none before it has one.
    pub(super) fn index() -> c_int {
        let record = Self::raw();
        // SAFETY: null, or a static; httpd has set the index before it calls register_hooks (invariant 4).
        if record.is_null() { sys::APLOG_NO_MODULE } else { unsafe { (*record).module_index } }
    }
}

/// # Safety
///
/// For httpd to call, through the module record (invariant 9).
unsafe extern "C" fn register_hooks<M: ModuleType>(_pool: *mut sys::apr_pool_t) {
    guard((), || {
        LOADED.store(M::record().0.get(), Ordering::Release);
        install_log();
        set_panic_hook();
        // SAFETY: this is register_hooks (invariant 4).
        M::register(&unsafe { Hooks::registering() });
    });
}

/// The least minor number of httpd's module interface (`ap_mmn.h`) that has all that the module uses: 2.4.49's, for the hook
/// `child_stopping`. `apxs/shim.c` asks the same of the headers.
const LEAST_MINOR: c_int = 110;

/// Why the module cannot serve in the httpd that has loaded it, if so: that is older than what it was built for. httpd itself refuses a
/// module that was built for another major number.
pub fn refusal() -> Option<String> {
    // SAFETY: the record of httpd's own core, a static of the program's, which nobody writes to after its start (invariant 4).
    let minor = unsafe { (&raw const sys::core_module.minor_version).read() };
    too_old(minor)
}

fn too_old(minor: c_int) -> Option<String> {
    let major = sys::MODULE_MAGIC_NUMBER_MAJOR;
    (minor < LEAST_MINOR).then(|| {
        format!(
            "this httpd is too old for mod_finish_request: its module interface is {major}.{minor}, and {major}.{LEAST_MINOR} \
             (httpd 2.4.49) is the least that has what the module needs; install a newer httpd"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_older_interface_is_refused() {
        assert_eq!(too_old(LEAST_MINOR), None);
        assert_eq!(too_old(c_int::MAX), None);
        assert!(too_old(LEAST_MINOR - 1).is_some_and(|sentence| sentence.contains("20120211.109")));
    }
}
