//! `Content-Length` from mod_cgi, mod_cgid, mod_proxy_fcgi and their like.
//!
//! Since 2.4.59 httpd drops it, because these handlers do not hold the application to it, unless
//! `ap_trust_cgilike_cl` is set in the request's environment (`util_script.h`). A response that ends at its
//! length needs it. So the module sets the variable, and takes over the duty: it holds a marked response to its
//! length, and drops the header of all others.

use std::ffi::CStr;

use crate::httpd::Request;

/// `AP_TRUST_CGILIKE_CL_ENVVAR`.
const TRUST: &CStr = c"ap_trust_cgilike_cl";

/// The schemes of mod_proxy whose responses httpd frames by itself.
const PROXY_SCHEMES: [&[u8]; 4] = [b"fcgi", b"scgi", b"uwsgi", b"ajp"];

/// Has httpd keep the header for now. Whether it did: not where the handler is none of these, nor where the
/// administrator has decided.
pub fn keep(request: Request<'_>) -> bool {
    let env = request.subprocess_env();
    let keep = may_be_cgilike(request) && env.get(TRUST).is_none();
    if keep {
        env.set(TRUST, c"1");
    }
    keep
}

/// Drops the header, as httpd would have done. To be called for a response that is not held to its length, where
/// [`keep`] had it kept.
pub fn drop_kept(request: Request<'_>) {
    if is_cgi(request) || proxy_scheme(request).is_some_and(|scheme| PROXY_SCHEMES.contains(&scheme)) {
        request.headers_out().unset(c"Content-Length");
    }
}

fn may_be_cgilike(request: Request<'_>) -> bool {
    is_cgi(request) || is_proxied(request)
}

/// Whether the request is for mod_proxy.
pub fn is_proxied(request: Request<'_>) -> bool {
    let proxy = |name: &[u8]| name == b"proxy-server" || name.starts_with(b"proxy:");
    request.handler().is_some_and(proxy) || request.filename().is_some_and(proxy)
}

/// Whether the request is for mod_cgi or mod_cgid: by handler, or by the old pseudo media type.
pub fn is_cgi(request: Request<'_>) -> bool {
    match request.handler() {
        Some(handler) => handler == b"cgi-script" || handler == b"application/x-httpd-cgi",
        None => request.content_type() == Some(b"application/x-httpd-cgi"),
    }
}

/// The scheme of the backend that mod_proxy goes to, if the request is for mod_proxy.
pub fn proxy_scheme<'r>(request: Request<'r>) -> Option<&'r [u8]> {
    let url = match request.subprocess_env().get(c"BALANCER_WORKER_NAME") {
        Some(worker) => worker,
        None => request.filename()?.strip_prefix(b"proxy:")?,
    };
    Some(scheme(url))
}

/// The scheme of a URL as mod_proxy writes it, where `unix:PATH|` may stand before it.
fn scheme(url: &[u8]) -> &[u8] {
    let url = match url.strip_prefix(b"unix:") {
        Some(rest) => rest.splitn(2, |byte| *byte == b'|').nth(1).unwrap_or_default(),
        None => url,
    };
    url.split(|byte| *byte == b':').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_scheme_of_a_backend() {
        for (url, scheme) in [
            (&b"fcgi://127.0.0.1:9000/a.php"[..], &b"fcgi"[..]),
            (b"unix:/run/php.sock|fcgi://localhost/a.php", b"fcgi"),
            (b"http://h/", b"http"),
            (b"unix:/run/php.sock", b""),
            (b"", b""),
        ] {
            assert_eq!(super::scheme(url), scheme);
        }
    }
}
