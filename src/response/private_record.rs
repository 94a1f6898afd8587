//! The connection record that a handler sees.
//!
//! That a client has gone is known from `aborted` in its connection's record. Over HTTP/1 the thread that writes sets it
//! (`core_filters.c`); for an HTTP/2 stream mod_http2 does, in another thread and at any time (`h2_c2_abort`). Handlers look
//! at it in the record that the request names, `ap_rwrite` before any filter is called. So a request that is to go on gets a copy of
//! the record, and httpd, mod_http2 and the filters below keep the original.
//!
//! mod_http2 says the same of a stream that has ended as it should. mod_proxy's handlers look for that in the record that they saw
//! first: for them a stream's request has a copy from the beginning, whatever the directive says.

use super::{Phase, Response};
use crate::connection;
use crate::directives::{OnAbort, Settings};
use crate::handlers::{Kind, proxy_scheme};
use crate::httpd::Request;

/// A handler is about to run, or has ended, or httpd is to send an error page of its own: the request gets the client's own
/// record, also where it is an internal redirect of one that has a copy. Not where that one has been finished: nothing of
/// this one goes to the client.
pub fn use_client_record(request: Request<'_>) {
    let mut chain = std::iter::successors(Some(request), |request| request.prev());
    let before = chain.find_map(Response::of);
    if let Some(response) = before
        && !response.works_on()
    {
        request.set_connection(response.client());
    }
}

/// The handler is about to run. It may keep the record that it sees now, and look at it later: mod_proxy_http does. And
/// mod_http2 may say in it that the client has gone before the response is decided. Not where it may become a tunnel: mod_proxy
/// then takes a filter off the record's chain (`ap_proxy_tunnel_create`), and would go on with the chain of a copy.
pub fn before_handler(request: Request<'_>, response: &Response, settings: &Settings) {
    let (is_stream, is_proxied) = (request.connection().is_stream(), response.handler == Kind::Proxy);
    let shields = match settings.on_abort() {
        OnAbort::Continue => is_proxied || is_stream && response.handler != Kind::Default,
        OnAbort::Stop => is_stream && is_proxied && !is_for_proxy_http2(request),
    };
    if shields && !request.asks_for_tunnel() {
        give(request, response);
    }
}

/// Whether the handler would give its work up with the client's stream, be it that this has ended as it should: mod_proxy_http2 looks
/// all the time whether the client has gone, not only when it has written something.
pub fn ends_with_stream(request: Request<'_>, response: &Response) -> bool {
    response.client().is_stream() && response.private_record().is_none() && is_for_proxy_http2(request)
}

/// Of a balancer that is not known before the handler runs: mod_proxy_http2 then has a copy, too.
fn is_for_proxy_http2(request: Request<'_>) -> bool {
    proxy_scheme(request).is_some_and(|scheme| scheme == b"h2" || scheme == b"h2c")
}

/// The response is decided, perhaps anew: one that is not marked is to end as on stock httpd.
pub fn decided(request: Request<'_>, response: &Response, settings: &Settings) {
    let client = response.client();
    let (finished, may_work_on) = response.phase(|phase| match phase {
        Phase::Finished => (true, false),
        Phase::Marked(marked) => (false, !marked.off),
        Phase::Declared(_) => (false, true),
        _ => (false, false),
    });
    if may_work_on && client.is_stream() {
        if settings.on_abort() == OnAbort::Continue {
            give(request, response);
        }
    } else if !finished {
        // Over HTTP/1 the record has what the header says of the connection.
        request.set_connection(client);
    }
}

/// Gives the request a copy of its record.
fn give(request: Request<'_>, response: &Response) {
    let client = response.client();
    if request.connection().raw() == client.raw() {
        let copy = connection::private_record(client);
        response.drop_at_end(request);
        response.set_private_record(copy);
        request.set_connection(copy);
    }
}
