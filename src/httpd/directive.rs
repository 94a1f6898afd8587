//! `command_rec`: the table of directives.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::marker::PhantomData;

use super::{Pool, guard};
use crate::sys;

/// Where a directive may stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Context {
    /// Server config, virtual host, directory, and .htaccess with `AllowOverride FileInfo`.
    FileInfo,
    /// Server config, virtual host and directory.
    Directory,
}

/// A directive's arguments, in order, as bytes.
pub type Args<'a> = &'a [&'a [u8]];

/// A directive: what httpd needs to know, and what the manual page says.
pub struct Directive<T> {
    /// Its name.
    pub name: &'static CStr,
    /// One sentence that httpd prints beside the name.
    pub help: &'static CStr,
    /// The manual's Syntax line.
    pub syntax: &'static str,
    /// The manual's Default line.
    pub default: &'static str,
    /// Where it may stand.
    pub context: Context,
    /// The entry that httpd calls: made by [`Directive::entry`].
    pub entry: Entry,
    /// Which settings it sets.
    pub settings: PhantomData<T>,
}

/// What httpd calls with a directive's arguments: `AP_INIT_TAKE_ARGV`.
pub type Entry = unsafe extern "C" fn(*mut sys::cmd_parms, *mut c_void, c_int, *const *mut c_char) -> *const c_char;

/// A directive's own code: parses the arguments into the settings.
pub trait Set<T> {
    /// # Errors
    ///
    /// What is wrong, and what is accepted, without the directive's name.
    fn set(settings: &mut T, args: Args<'_>) -> Result<(), String>;
}

/// The entry that parses with `S` into settings of type `T`.
///
/// # Safety
///
/// For httpd to call, through the table.
pub unsafe extern "C" fn entry<T: 'static, S: Set<T>>(
    parms: *mut sys::cmd_parms,
    settings: *mut c_void,
    argc: c_int,
    argv: *const *mut c_char,
) -> *const c_char {
    guard(c"internal error".as_ptr(), || {
        // SAFETY: httpd gives argc strings, each ending in NUL (NUL), that live during the call.
        let args: Vec<&[u8]> = (0..usize::try_from(argc).unwrap_or(0))
            .map(|index| unsafe { CStr::from_ptr(*argv.add(index)) }.to_bytes())
            .collect();
        // SAFETY: httpd gives the record that PerDir made for this place; nobody else has a reference to it while
        // the configuration is read. The parameters, their command and their pool live during the call (LIVE).
        let (settings, name, pool) = unsafe {
            let name = CStr::from_ptr((*(*parms).cmd).name);
            (settings.cast::<T>().as_mut(), name, Pool::from_raw((*parms).pool))
        };
        let (Some(settings), Some(pool)) = (settings, pool) else { return c"internal error".as_ptr() };
        match S::set(settings, &args) {
            Ok(()) => std::ptr::null(),
            Err(sentence) => {
                let sentence = format!("{}: {sentence}", name.to_string_lossy());
                pool.string(sentence.as_bytes()).as_ptr()
            }
        }
    })
}

/// The table in the form that httpd reads, ended by an empty record: `M` is one more than there are directives.
#[repr(transparent)]
pub struct Commands<const M: usize>([sys::command_rec; M]);

// SAFETY: the pointers in it are to constants, which nobody writes to.
unsafe impl<const M: usize> Sync for Commands<M> {}

impl<const M: usize> Commands<M> {
    /// Made from the directives, when the module is compiled: an index out of range fails the build.
    #[allow(clippy::indexing_slicing)]
    pub const fn new<T>(directives: &[Directive<T>]) -> Self {
        const END: sys::command_rec = sys::command_rec {
            name: std::ptr::null(),
            func: sys::cmd_func { take_argv: None },
            cmd_data: std::ptr::null_mut(),
            req_override: 0,
            args_how: sys::cmd_how_TAKE_ARGV,
            errmsg: std::ptr::null(),
        };
        assert!(M == directives.len() + 1, "one record for each directive, and the end");
        let mut records = [END; M];
        let mut index = 0;
        while index < directives.len() {
            let directive = &directives[index];
            records[index].name = directive.name.as_ptr();
            records[index].errmsg = directive.help.as_ptr();
            records[index].req_override = directive.context.req_override();
            records[index].func = sys::cmd_func { take_argv: Some(directive.entry) };
            index += 1;
        }
        Self(records)
    }

    /// The pointer, for the module record.
    pub const fn as_ptr(&self) -> *const sys::command_rec {
        self.0.as_ptr()
    }
}

impl Context {
    const fn req_override(self) -> c_int {
        match self {
            Self::FileInfo => sys::OR_FILEINFO | sys::ACCESS_CONF | sys::RSRC_CONF,
            Self::Directory => sys::ACCESS_CONF | sys::RSRC_CONF,
        }
    }
}
