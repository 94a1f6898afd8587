//! `command_rec`: the table of directives.

use std::ffi::{CStr, c_char, c_int, c_void};

use super::config::settings_mut;
use super::{Pool, guard};
use crate::sys;

/// Where a directive may stand.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Context {
    /// Server config, virtual host, directory, and .htaccess with `AllowOverride FileInfo`.
    FileInfo,
    /// Server config, virtual host and directory.
    Directory,
    /// Server config and virtual host.
    VirtualHost,
}

/// A directive's arguments, in order, as bytes.
pub type Args<'a> = &'a [&'a [u8]];

/// A directive of settings of type `T`.
pub trait Directive<T> {
    /// Its section of the manual.
    const MANUAL: Manual;

    /// Parses its arguments into the settings.
    ///
    /// # Errors
    ///
    /// A sentence that says what is wrong, and what is accepted, without the directive's name.
    fn set(settings: &mut T, args: Args<'_>) -> Result<(), String>;

    /// The same where they stand in a .htaccess, whose author may not have all that the administrator has.
    ///
    /// # Errors
    ///
    /// As [`Directive::set`].
    fn set_in_htaccess(settings: &mut T, args: Args<'_>) -> Result<(), String> {
        Self::set(settings, args)
    }
}

/// A directive, as httpd's command line (`httpd -L`) and the manual have it.
#[derive(Clone, Copy, Debug)]
pub struct Manual {
    /// Its name.
    pub name: &'static CStr,
    /// One line that says what it does.
    pub help: &'static CStr,
    /// The manual's Syntax line.
    pub syntax: &'static str,
    /// The manual's Default line.
    pub default: &'static str,
    /// Where it may stand.
    pub context: Context,
}

/// The function that httpd calls with the directive's arguments: `AP_INIT_TAKE_ARGV`.
unsafe extern "C" fn entry<T: 'static, D: Directive<T>>(
    parms: *mut sys::cmd_parms,
    settings: *mut c_void,
    argc: c_int,
    argv: *const *mut c_char,
) -> *const c_char {
    guard(c"internal error".as_ptr(), || {
        if D::MANUAL.context == Context::VirtualHost {
            // SAFETY: httpd gives the directive's parameters (invariant 1); the sentence about its place is in their pool.
            let sentence = unsafe { sys::ap_check_cmd_context(parms, sys::NOT_IN_DIR_CONTEXT.cast_unsigned()) };
            if !sentence.is_null() {
                return sentence;
            }
        }
        // SAFETY: httpd gives argc strings, each ending in NUL (invariant 3), that live during the call.
        let args: Vec<&[u8]> = (0..usize::try_from(argc).unwrap_or(0))
            .map(|index| unsafe { CStr::from_ptr(*argv.add(index)) }.to_bytes())
            .collect();
        // SAFETY: httpd gives the record that was made for this place; nobody else has a reference to it while
        // the configuration is read. The parameters and their pool live during the call (invariant 1).
        let (settings, pool) = unsafe { (settings_mut::<T>(settings), Pool::from_raw((*parms).pool)) };
        let (Some(settings), Some(pool)) = (settings, pool) else { return c"internal error".as_ptr() };
        // SAFETY: as for NOT_IN_DIR_CONTEXT. httpd has a sentence where the directive stands in a .htaccess, in a section there, too.
        let in_htaccess = !unsafe { sys::ap_check_cmd_context(parms, sys::NOT_IN_HTACCESS.cast_unsigned()) }.is_null();
        let set = if in_htaccess { D::set_in_htaccess } else { D::set };
        match set(settings, &args) {
            Ok(()) => std::ptr::null(),
            Err(sentence) => {
                let sentence = format!("{}: {sentence}", D::MANUAL.name.to_string_lossy());
                pool.string(sentence.as_bytes()).as_ptr()
            }
        }
    })
}

/// A directive's record in the table.
#[repr(transparent)]
pub struct Command(sys::command_rec);

/// Returns a directive's record.
pub const fn command<T: 'static, D: Directive<T>>() -> Command {
    Command(sys::command_rec {
        name: D::MANUAL.name.as_ptr(),
        func: sys::cmd_func { take_argv: Some(entry::<T, D>) },
        cmd_data: std::ptr::null_mut(),
        req_override: D::MANUAL.context.req_override(),
        args_how: sys::cmd_how_TAKE_ARGV,
        errmsg: D::MANUAL.help.as_ptr(),
    })
}

/// The table in the form that httpd reads.
#[repr(C)]
pub struct Commands<const N: usize> {
    directives: [Command; N],
    end: Command,
}

// SAFETY: the pointers in it are to constants, which nobody writes to (invariant 4).
unsafe impl<const N: usize> Sync for Commands<N> {}

impl<const N: usize> Commands<N> {
    /// The records, and the empty one that ends the table.
    pub const fn new(directives: [Command; N]) -> Self {
        let end = Command(sys::command_rec {
            name: std::ptr::null(),
            func: sys::cmd_func { take_argv: None },
            cmd_data: std::ptr::null_mut(),
            req_override: 0,
            args_how: sys::cmd_how_TAKE_ARGV,
            errmsg: std::ptr::null(),
        });
        Self { directives, end }
    }

    pub(super) const fn as_ptr(&self) -> *const sys::command_rec {
        (&raw const *self).cast()
    }
}

impl Context {
    const fn req_override(self) -> c_int {
        match self {
            Self::FileInfo => sys::OR_FILEINFO | sys::ACCESS_CONF | sys::RSRC_CONF,
            Self::Directory => sys::ACCESS_CONF | sys::RSRC_CONF,
            Self::VirtualHost => sys::RSRC_CONF,
        }
    }
}
