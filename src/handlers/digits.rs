//! The digits that a program outside httpd is given in its environment, by which it may end its response: the mark `late`.

use std::cell::Cell;
use std::ffi::CStr;
use std::sync::OnceLock;

use super::{Kind as Handler, backend};
use crate::background::{self, Kind};
use crate::httpd::Request;
use crate::rules::digits::{Digits, Rest, Source};
use crate::rules::mark;
use crate::rules::quote::escaped;

/// The variable in a program's environment.
pub const VARIABLE: &CStr = c"FINISH_REQUEST";

/// The schemes of mod_proxy whose backends get the request's environment; that of a balancer's backend is not known before the handler runs.
const SCHEMES: [&[u8]; 4] = [b"fcgi", b"scgi", b"uwsgi", b"balancer"];

/// Where this process has its digits from.
static SOURCE: OnceLock<Option<Source>> = OnceLock::new();

thread_local! {
    /// What this thread has of that.
    static REST: Cell<Rest> = const { Cell::new(Rest::NONE) };
}

/// A child process has begun: it gets a key of its own.
pub fn child_init() {
    SOURCE.get_or_init(|| {
        let mut key = [0; Source::KEY];
        let mut filled = 0;
        while let Some(rest) = key.get_mut(filled..).filter(|rest| !rest.is_empty()) {
            // SAFETY: so many bytes are there to be written to.
            let read = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
            match usize::try_from(read) {
                Ok(read) => filled += read,
                Err(_) if std::io::Error::last_os_error().kind() == std::io::ErrorKind::Interrupted => {}
                Err(_) => {
                    let error = std::io::Error::last_os_error();
                    log::error!("the kernel gives no random numbers, so the mark 'late' has no effect: {error}");
                    return None;
                }
            }
        }
        Some(Source::new(key))
    });
}

/// Takes away what the request's environment has by the name, and what a program would be given by it (`ap_create_environment`): `FINISH-REQUEST`
/// say, which is the mark itself.
pub fn take_away(request: Request<'_>) {
    let env = request.subprocess_env();
    let fits = |(byte, own): (&u8, &u8)| byte == own || *own == b'_' && !byte.is_ascii_alphanumeric();
    let is_spelling = |key: &[u8]| key.len() == VARIABLE.count_bytes() && key.iter().zip(VARIABLE.to_bytes()).all(fits);
    for key in env.keys(b'F', is_spelling) {
        let value = env.get(key).map(|value| request.pool().string(value));
        env.unset(key);
        if let (Some(value), true) = (value, key.to_bytes().eq_ignore_ascii_case(mark::VARIABLE.to_bytes())) {
            env.set(mark::VARIABLE, value);
        }
    }
    let mut name = Vec::new();
    for _ in std::iter::successors(request.prev(), |request| request.prev()) {
        name.extend_from_slice(mark::REDIRECT);
        env.unset(request.pool().string(&[&name[..], VARIABLE.to_bytes()].concat()));
    }
}

/// From now on nobody finds the digits in the request's environment, which its program has.
pub fn hide(request: Request<'_>) {
    // To take it out would have the table made anew.
    request.subprocess_env().setn(VARIABLE, c"");
}

/// Gives the program digits, if it is one that gets the request's environment.
pub fn give(request: Request<'_>, handler: Handler) -> Option<Digits> {
    if !gets_environment(request, handler) {
        return None;
    }
    if handler == Handler::Cgi && request.has_suexec() {
        background::seldom(Kind::NoDigits, |more| {
            log::warn!(
                "{} is marked late, but suEXEC lets FINISH_REQUEST not through to its program, which cannot finish its response by \
                 it: have it mark its response by the header, or run it without suEXEC{more}",
                escaped(request.path())
            );
        });
        return None;
    }
    let source = SOURCE.get()?.as_ref()?;
    let mut rest = REST.get();
    let digits = source.digits(&mut rest);
    REST.set(rest);
    request.subprocess_env().setn(VARIABLE, request.pool().string(digits.as_bytes()));
    Some(digits)
}

fn gets_environment(request: Request<'_>, handler: Handler) -> bool {
    // The output of a script named so is the client's as it is, past all filters of the request.
    let has_own_header = || {
        let name = request.filename().and_then(|path| path.rsplit(|byte| *byte == b'/').next());
        name.is_some_and(|name| name.starts_with(b"nph-"))
    };
    match handler {
        Handler::Fcgid => true,
        Handler::Cgi => !has_own_header(),
        _ => backend(request).is_some_and(|scheme| SCHEMES.contains(&scheme)),
    }
}
