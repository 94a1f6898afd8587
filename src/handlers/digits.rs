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
            // SAFETY: so many bytes are there to be written to (invariant 11).
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
    if env.is_empty() && request.prev().is_none() {
        return;
    }
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

/// Where the digits stand in a request's environment.
#[derive(Clone, Copy, Debug)]
pub enum Place {
    /// At this address, in the mark's place: one variable more costs httpd as much as the search for them.
    OfMark(*const u8),
    /// Beside the mark, which is from before an internal redirect.
    Beside,
}

/// From now on nobody finds the digits in the request's environment, which its program has: the mark stands there again, with a value that is
/// returned.
pub fn hide(request: Request<'_>, place: Place) -> Option<&'static CStr> {
    let env = request.subprocess_env();
    if let Place::OfMark(at) = place
        && env.rename(VARIABLE, at, mark::VARIABLE, mark::LATE)
    {
        return Some(mark::LATE);
    }
    // To take it out would have the table made anew.
    env.setn(VARIABLE, c"");
    None
}

/// The request is an internal redirect of one whose digits were not hidden: it has the mark.
pub fn hide_redirected(request: Request<'_>, redirects: usize) {
    let name = |variable: &CStr| {
        let redirect = mark::REDIRECT.repeat(redirects);
        request.pool().string(&[&redirect[..], variable.to_bytes()].concat())
    };
    let (env, given) = (request.subprocess_env(), name(VARIABLE));
    if let Some(digits) = env.get(given) {
        env.rename(given, digits.as_ptr(), name(mark::VARIABLE), mark::LATE);
    }
}

/// Gives the program digits, if it is one that gets the request's environment, whose own mark has its value at `mark`.
pub fn give(request: Request<'_>, handler: Handler, mark: Option<*const u8>) -> Option<(Digits, Place)> {
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
    let (env, value) = (request.subprocess_env(), request.pool().string(digits.as_bytes()));
    if mark.is_some_and(|mark| env.rename(mark::VARIABLE, mark, VARIABLE, value)) {
        return Some((digits, Place::OfMark(value.as_ptr().cast())));
    }
    env.setn(VARIABLE, value);
    Some((digits, Place::Beside))
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
