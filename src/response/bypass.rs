//! `FinishRequestBypass`: the output filters that a response with a mark of its own skips.

use crate::directives::Settings;
use crate::httpd::{Filter, Request, is_ours};

/// What mod_filter puts before a filter's name for `AddOutputFilterByType`.
const BY_TYPE: &[u8] = b"bytype:";

/// Takes the filters out of the chain below `filter`. To be called before anything has been passed on.
pub fn bypass(filter: Filter<'_>, request: Request<'_>, settings: &Settings) {
    let mut next = filter.next();
    while let Some(each) = next.filter(|each| each.is_content()) {
        next = each.next();
        let name = each.name();
        let name = match name.split_at_checked(BY_TYPE.len()) {
            Some((prefix, name)) if prefix.eq_ignore_ascii_case(BY_TYPE) => name,
            _ => name,
        };
        if settings.bypasses(name) && !is_ours(name) {
            log::trace!("bypassed the output filter {}", String::from_utf8_lossy(name));
            each.remove();
        }
    }
    // Where mod_filter's own directives made the chain, the filter has any name; these two look at the environment.
    if settings.bypasses(b"DEFLATE") {
        request.subprocess_env().set(c"no-gzip", c"1");
    }
    if settings.bypasses(b"BROTLI_COMPRESS") {
        request.subprocess_env().set(c"no-brotli", c"1");
    }
}

/// Has the response below `filter` sent whole, whatever ranges of it the client asks for. httpd cuts out ranges of what it has whole
/// with its end; with an early end it would have that, where it has not otherwise.
pub fn ranges(filter: Filter<'_>) {
    let mut below = std::iter::successors(filter.next(), |filter| filter.next());
    if let Some(cutter) = below.find(|filter| filter.name() == b"byterange") {
        cutter.remove();
    }
}

/// Has mod_deflate and mod_brotli leave a response alone, as `Content-Encoding: none` does.
pub fn compression(request: Request<'_>) {
    request.subprocess_env().set(c"no-gzip", c"1");
    request.subprocess_env().set(c"no-brotli", c"1");
}
