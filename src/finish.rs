//! The one place where a response is finished: its steps, in order.

use crate::background::Work;
use crate::connection::{self, Next, detach};
use crate::directives::{After, LogAt, Settings};
use crate::handlers::{self, cgi_script};
use crate::httpd::{Brigade, Request, Result, now};
use crate::response::{Call, Response};
use crate::rules::mark::Source;
use crate::{httpd, report};

/// Ends the response with the last of its body, lets the client go, and cuts the request off from the client.
///
/// # Errors
///
/// What the filters below say: the client has gone, or a filter failed. The response must not be written to any more.
pub fn finish(call: Call<'_>, source: Source, body: &mut Brigade<'_>) -> Result {
    let is_let_go = end(call, source, None, body)?;
    finished(call, source, is_let_go);
    Ok(())
}

/// The background work begins, if the client has been let go.
fn finished(Call { request, response, .. }: Call<'_>, source: Source, is_let_go: bool) {
    if is_let_go {
        response.background.begin(false);
        report::finished(request, response, source, response.background.since().unwrap_or_default());
    }
}

/// Ends a response at the end that its application has declared. All of it has been passed on; the end follows alone, as the handler's
/// own would, or has been passed on, which has come to `passed`. The client's connection ends where stock httpd's would. Else it goes on: at once with `Keep`, if that is possible, or
/// after the handler's end. `next` says what follows there, if that was looked at.
///
/// # Errors
///
/// As [`finish`].
pub fn finish_declared(call: Call<'_>, passed: Option<Result>, next: Option<Next>, body: &mut Brigade<'_>) -> Result {
    let Call { request, response, settings, .. } = call;
    let next = next.or_else(|| look_ahead(call));
    let after = match passed {
        None => pass_end(call, None, body)?,
        Some(Ok(())) => None,
        Some(Err(error)) if response.is_refused(request, error) => answer(call, body),
        Some(Err(error)) => return Err(error),
    };
    let connection = request.connection();
    let goes_on = after.is_none() && !connection.is_stream() && connection.is_kept_alive();
    if goes_on && connection::after(request, settings) == After::Close {
        response.background.withdraw();
        return connection.flush(request.pool());
    }
    if let_go(call, Source::Auto, after, next)? {
        response.background.begin(true);
    }
    Ok(())
}

/// Ends a response whose body is not what the client was told, so that the client sees it: without the last chunk, with
/// the stream reset, with the connection closed before all has come. Otherwise as [`finish`].
///
/// # Errors
///
/// As [`finish`].
pub fn cut(call: Call<'_>, source: Source, why: &str, body: &mut Brigade<'_>) -> Result {
    report::broken(call.request, why);
    call.request.forbid_caching();
    // The header must be out: before it, the error would ask for an error page. Behind it the last chunk is not sent
    // (ap_http_chunk_filter), and mod_http2 resets the stream.
    body.push_flush();
    call.filter.pass_on(body)?;
    body.clear();
    body.push_error(httpd::HTTP_BAD_GATEWAY);
    end(call, source, Some(After::Close), body).map(|_| ())
}

/// Ends a response that a filter below has not taken. The client is there, and gets one answer: what the filter has sent in the
/// application's stead, mod_security's denial say; else an error page; or, where part of the response has been sent, the sight that
/// it is cut.
///
/// # Errors
///
/// As [`finish`].
pub fn refused(call: Call<'_>, source: Source, body: &mut Brigade<'_>) -> Result {
    let after = answer(call, body);
    let is_let_go = let_go(call, source, after, None)?;
    finished(call, source, is_let_go);
    Ok(())
}

/// Sees to it that the client has an answer. Gives what becomes of its connection, where that is not as configured.
fn answer(Call { filter, request, response, .. }: Call<'_>, body: &mut Brigade<'_>) -> Option<After> {
    body.clear();
    if response.has_error_page(request) {
        // It is on its way.
    } else if !response.header_is_made() {
        request.answer_with_error(httpd::HTTP_INTERNAL_SERVER_ERROR);
    } else {
        request.forbid_caching();
        body.push_error(httpd::HTTP_BAD_GATEWAY);
        body.push_eos();
        // The filter may fail once more; then the missing end says it.
        let _ = filter.pass_on(body);
        body.clear();
        return Some(After::Close);
    }
    log::debug!("a filter has not taken the response; its client has an answer of status {}", request.last().status());
    None
}

fn end(call: Call<'_>, source: Source, after: Option<After>, body: &mut Brigade<'_>) -> Result<bool> {
    let next = if after == Some(After::Close) { None } else { look_ahead(call) };
    let after = pass_end(call, after, body)?;
    let_go(call, source, after, next)
}

/// Looks what follows on a connection that may be kept, before the client has all of the response: a quick client sends its next request at once. That
/// is behind the body of this one, which is read before.
pub fn look_ahead(Call { request, settings, .. }: Call<'_>) -> Option<Next> {
    let is_kept = !request.is_last() && connection::after(request, settings) == After::Keep;
    is_kept.then(|| connection::look_ahead(request))
}

/// Passes on the body and the end. Gives what becomes of the client's connection, where that is not as configured.
fn pass_end(call: Call<'_>, mut after: Option<After>, body: &mut Brigade<'_>) -> Result<Option<After>> {
    let Call { filter, request, response, .. } = call;
    // The end of the stream alone: behind it mod_deflate and mod_brotli would drop what stands in the same brigade.
    let ahead = if request.connection().is_stream() { before_stream_end(call, body) } else { Ok(()) };
    body.push_eos();
    match ahead.and_then(|()| filter.pass_on(body)) {
        Err(error) if response.is_refused(request, error) => after = answer(call, body).or(after),
        passed => {
            passed?;
            body.clear();
        }
    }
    Ok(after)
}

/// The client of a stream may still send its request's body. It has all but the last byte of the response meanwhile: with that it might
/// send no more.
fn before_stream_end(Call { filter, request, .. }: Call<'_>, body: &mut Brigade<'_>) -> Result {
    let mut last = None;
    connection::stream::discard_body(request, || {
        last = body.take_last()?;
        if last.is_some() {
            body.push_flush();
            filter.pass_on(body)?;
            body.clear();
        }
        Ok(())
    })?;
    if let Some(last) = last {
        body.push_bytes(&[last]);
    }
    connection::stream::ending(request);
    Ok(())
}

/// The handler's own end has been passed on. It may yet work on, and is not to learn that mod_http2 calls the client of a stream that has ended
/// gone.
///
/// # Errors
///
/// The client has gone.
pub fn after_own_end(Call { request, response, settings, .. }: Call<'_>) -> Result {
    connection::after_own_end(request)?;
    if request.connection().is_stream() {
        response.set_work(detach::detach(request, response.client(), settings, false, work_ended));
    }
    Ok(())
}

/// The response has been passed on to its end, and its handler has failed behind that: what comes now is for nobody. The client's connection is
/// closed, over TLS as that has it; otherwise httpd sends FIN when the request ends.
pub fn cut_off(request: Request<'_>, response: &Response, settings: &Settings) {
    let client = response.client();
    client.close_after_response();
    if !client.is_stream() {
        // An error says that the client has gone.
        let _ = client.flush(request.pool());
        if connection::is_plain(client) {
            // What httpd sends at the request's end goes past what is detached now.
            let _ = connection::send_waiting(client);
        } else {
            connection::release(client, request, Next::Close);
        }
    }
    response.set_work(detach::detach(request, client, settings, false, work_ended));
}

/// Ends a response whose end a filter below has passed on by itself.
///
/// # Errors
///
/// As [`finish`].
pub fn ended_below(call: Call<'_>, source: Source, body: &mut Brigade<'_>) -> Result {
    body.clear();
    let is_let_go = let_go(call, source, None, None)?;
    finished(call, source, is_let_go);
    Ok(())
}

/// The same as [`ended_below`], where the body is not what the client was told, as its connection is to show.
///
/// # Errors
///
/// As [`finish`].
pub fn cut_below(call: Call<'_>, source: Source, why: &str, body: &mut Brigade<'_>) -> Result {
    report::broken(call.request, why);
    body.clear();
    let_go(call, source, Some(After::Close), None).map(|_| ())
}

/// The response has been passed on to its end: lets the client go, and cuts the request off from it. `next` says what follows on the connection, if
/// that was looked at. False where that has been done: what has answered in the response's place was finished early itself.
fn let_go(call: Call<'_>, source: Source, after: Option<After>, next: Option<Next>) -> Result<bool> {
    let Call { request, response, settings, .. } = call;
    if let Some(work) = Response::find(request, Response::works_on).and_then(|(_, answer)| answer.work()) {
        response.background.withdraw();
        response.set_work(work);
        return Ok(false);
    }
    let connection = request.connection();
    let after = match after.unwrap_or_else(|| connection::after(request, settings)) {
        After::Keep if connection.is_kept_alive() => After::Keep,
        _ => After::Close,
    };
    let next = match after {
        After::Keep => next.unwrap_or_else(|| connection::look_ahead(request)),
        After::Close => Next::Close,
    };
    // Past the request's filters: mod_brotli has freed its encoder at the end of the stream, and stays in the chain.
    // A stream is complete with the end that was passed above: mod_http2 resets it where something comes behind that (RST_STREAM),
    // and the client still sends.
    if !connection.is_stream() {
        connection.flush(request.pool())?;
    }

    let closes = after == After::Close && !connection.is_stream();
    // TLS has nothing more to say once it is shut down: mod_ssl frees its session with close_notify.
    let is_secure = closes && !connection::is_plain(connection);
    let is_plain = closes && !is_secure;
    if is_plain {
        connection::release(response.client(), request, next);
    }
    // Whether a response counts as finished that is only believed to be complete is seen later; but the variables of TLS are gone then.
    let is_believed = source == Source::Auto;
    if !is_believed {
        report::note(request, source, now());
    }
    let logs_now = settings.log() == LogAt::Client && (!is_believed || is_secure);
    if connection.is_stream() {
        // What the log says of the connection is what becomes of it for the client: not that mod_http2 calls the client of a
        // stream that has ended gone.
        request.set_connection(connection.unaborted());
    }
    if logs_now {
        if is_secure {
            connection.close_after_response();
        }
        report::log(request, response);
    }
    if !is_plain && !connection.is_stream() {
        connection::release(response.client(), request, next);
    }
    response.set_work(detach::detach(request, response.client(), settings, after == After::Keep, work_ended));
    Ok(true)
}

/// The handler of a request that was let go of its client has ended, and so has the background work. The request itself goes when the
/// client's connection has let go of its response.
pub fn work_ended(request: Request<'_>, work: &Work) {
    let response = Response::of(request);
    // By now httpd may have forgotten which handler it was. One whose response is for nobody has none of its own.
    cgi_script::wait(request, response.map_or_else(|| handlers::kind(request), |response| response.handler), work);
    work.ended();
    report::work_ended(request);
    // Also the places of those that were cut, of which no background work is reported.
    Response::chain(request).for_each(|(_, response)| response.background.withdraw());
    if let Some(response) = response {
        // Whoever ends the request, perhaps mod_http2 in another thread, finds the record that is its own.
        request.last().set_connection(response.client());
    }
}
