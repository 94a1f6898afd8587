//! The handlers of httpd's and others' modules: which one answers a request, and the quirks of some.

pub mod cgi_script;
pub mod digits;
pub mod fcgid;
pub mod length;

use crate::httpd::Request;
use crate::rules::declared::Pause;

/// The schemes of mod_proxy whose backends have no interim responses.
const WITHOUT_INTERIM: [&[u8]; 4] = [b"fcgi", b"scgi", b"uwsgi", b"ajp"];

/// The handler that answers a request, as far as that is known before it runs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// httpd's own for files, or one that nobody has named.
    Default,
    /// mod_proxy's.
    Proxy,
    /// mod_cgi's or mod_cgid's: by name, or by the old pseudo media type.
    Cgi,
    /// mod_fcgid's.
    Fcgid,
    /// mod_php's, or another one by a pseudo media type.
    PseudoType,
    /// Another one.
    Other,
}

/// Returns the kind of the handler that answers a request. To be asked before it runs: httpd forgets one that it found by the media type, which is
/// that of the response then.
pub fn kind(request: Request<'_>) -> Kind {
    const PSEUDO: &[u8] = b"application/x-httpd-";
    if request.filename_starts_with(b"proxy:") {
        return Kind::Proxy;
    }
    let name = request.handler().or_else(|| request.content_type().filter(|name| name.starts_with(PSEUDO)));
    let Some(name) = name else { return Kind::Default };
    // Compared as a whole, not byte by byte, as patterns are.
    match name.strip_prefix(PSEUDO) {
        Some(kind) if kind == b"cgi" => Kind::Cgi,
        Some(_) => Kind::PseudoType,
        None if name == b"default-handler" => Kind::Default,
        None if name == b"cgi-script" => Kind::Cgi,
        None if name == b"fcgid-script" => Kind::Fcgid,
        None if is_proxy(name) => Kind::Proxy,
        None => Kind::Other,
    }
}

fn is_proxy(name: &[u8]) -> bool {
    name == b"proxy-server" || name.starts_with(b"proxy:")
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

/// When the handler that answers is taken to pause. None of httpd's own for files; nor of one whose responses are framed by whoever made
/// them, so that it ends when they do: mod_proxy's for HTTP.
pub fn pause(request: Request<'_>, kind: Kind) -> Option<Pause> {
    match kind {
        Kind::Default => return None,
        Kind::Proxy => {}
        _ => return Some(Pause::Flush),
    }
    match proxy_scheme(request)? {
        b"fcgi" | b"ajp" => Some(Pause::Brigade),
        b"scgi" | b"uwsgi" => Some(Pause::Flush),
        _ => None,
    }
}

/// True unless the handler is known to send no interim responses: mod_cgi, mod_fcgid, mod_php, httpd's own for files, and mod_proxy's for
/// backends that have none.
pub fn may_send_interim(request: Request<'_>, kind: Kind) -> bool {
    match kind {
        Kind::Default | Kind::Cgi | Kind::Fcgid | Kind::PseudoType => false,
        Kind::Proxy => backend(request).is_none_or(|scheme| !WITHOUT_INTERIM.contains(&scheme)),
        Kind::Other => request.handler() != Some(b"server-status"),
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
