//! `Content-Length` from mod_cgi, mod_cgid, mod_proxy_fcgi and their like.
//!
//! Since 2.4.59 httpd drops it, because these handlers do not hold the application to it, unless
//! `ap_trust_cgilike_cl` is set in the request's environment (`util_script.h`). A response that ends at its
//! length needs it. So the module sets the variable, and takes over the duty: it holds a marked response to its
//! length, and drops the header of all others.

use std::ffi::CStr;

use super::{Kind, proxy_scheme};
use crate::httpd::Request;

/// `AP_TRUST_CGILIKE_CL_ENVVAR`.
const TRUST: &CStr = c"ap_trust_cgilike_cl";

/// The schemes of mod_proxy from whose responses httpd drops it. mod_proxy_uwsgi reads its backend's header by itself, and keeps it.
const DROPPING: [&[u8]; 3] = [b"fcgi", b"scgi", b"ajp"];

/// Has httpd keep the header for now: returns true unless the administrator has decided. To be called before the header is read; for
/// mod_cgi after the program's environment has been made (`ap_add_common_vars`), which takes much longer where something stands there before.
pub fn keep(request: Request<'_>) -> bool {
    let env = request.subprocess_env();
    let keep = !env.has(TRUST);
    if keep {
        env.set(TRUST, c"1");
    }
    keep
}

/// Drops the header, as httpd would have done. To be called for a response that is not held to its length, where
/// [`keep`] had it kept.
pub fn drop_kept(request: Request<'_>, handler: Kind) {
    if handler == Kind::Cgi || proxy_scheme(request).is_some_and(|scheme| DROPPING.contains(&scheme)) {
        request.headers_out().unset(c"Content-Length");
    }
}
