//! The handlers of httpd's and others' modules: which one answers a request, and the quirks of some.

pub mod cgi_script;
pub mod digits;
pub mod length;

use crate::httpd::Request;
use crate::rules::declared::Pause;

/// Returns true if the request is for mod_proxy.
pub fn is_proxied(request: Request<'_>) -> bool {
    let proxy = |name: &[u8]| name == b"proxy-server" || name.starts_with(b"proxy:");
    request.handler().is_some_and(proxy) || request.filename().is_some_and(proxy)
}

/// Returns true if the request is for mod_cgi or mod_cgid: by handler, or by the old pseudo media type.
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

/// The same before the handler runs, that may be named with a URL.
fn backend<'r>(request: Request<'r>) -> Option<&'r [u8]> {
    request.handler().and_then(|handler| handler.strip_prefix(b"proxy:")).map(scheme).or_else(|| proxy_scheme(request))
}

/// The scheme of a URL as mod_proxy writes it, where `unix:PATH|` may stand before it.
fn scheme(url: &[u8]) -> &[u8] {
    let url = match url.strip_prefix(b"unix:") {
        Some(rest) => rest.splitn(2, |byte| *byte == b'|').nth(1).unwrap_or_default(),
        None => url,
    };
    url.split(|byte| *byte == b':').next().unwrap_or_default()
}

/// Returns true if a program outside httpd makes the response.
pub fn is_outside(request: Request<'_>) -> bool {
    is_proxied(request) || is_cgi(request) || request.handler() == Some(b"fcgid-script")
}

/// Returns true if something other than a file may answer: mod_php and mod_cgi may be named by a pseudo media type.
pub fn runs_application(request: Request<'_>) -> bool {
    match request.handler() {
        Some(handler) => handler != b"default-handler",
        None => request.content_type().is_some_and(|name| name.starts_with(b"application/x-httpd-")),
    }
}

/// When the handler that answers is taken to pause. None of one whose responses are framed by whoever made them, so that it ends when
/// they do: mod_proxy's for HTTP.
pub fn pause(request: Request<'_>) -> Option<Pause> {
    if !is_proxied(request) {
        return Some(Pause::Flush);
    }
    match proxy_scheme(request)? {
        b"fcgi" | b"ajp" => Some(Pause::Brigade),
        b"scgi" | b"uwsgi" => Some(Pause::Flush),
        _ => None,
    }
}

/// True unless the handler is known to send no interim responses: mod_cgi, mod_fcgid, mod_php, httpd's own for files, and mod_proxy's for
/// backends that have none.
pub fn may_send_interim(request: Request<'_>) -> bool {
    let Some(handler) = request.handler() else { return false };
    match backend(request) {
        Some(scheme) => !length::PROXY_SCHEMES.contains(&scheme),
        None => {
            !matches!(handler, b"default-handler" | b"cgi-script" | b"fcgid-script" | b"server-status")
                && !handler.starts_with(b"application/x-httpd-")
        }
    }
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
