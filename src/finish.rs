//! The one place where a response is finished: its steps, in order.

use crate::httpd::{Brigade, Filter, Request, Result, Seldom};
use crate::mark::Source;
use crate::response::Response;
use crate::{connection, sys};

/// Ends the response with the last of its body, lets the client go, and cuts the request off from the client.
///
/// `filter` is the place of the module's filter in the request's chain.
///
/// # Errors
///
/// What the filters below say: the client has gone, or a filter failed. The response must not be written to any more.
pub fn finish(
    filter: Filter<'_>,
    request: Request<'_>,
    response: &Response,
    source: Source,
    body: &mut Brigade<'_>,
) -> Result {
    let passed = response.passed.get();
    end(filter, request, body)?;
    log::info!(
        "finished early, marked by {}: {} bytes of body, {} microseconds after the request came",
        source.as_str(),
        passed.map_or_else(|| "an unknown number of".to_owned(), |passed| passed.to_string()),
        request.age_us(),
    );
    Ok(())
}

/// Ends a response whose body is not what the client was told, so that the client sees it: without the last chunk, with
/// the stream reset, with the connection closed before all has come. Otherwise as [`finish`].
///
/// # Errors
///
/// As [`finish`].
pub fn cut(filter: Filter<'_>, request: Request<'_>, why: &str, body: &mut Brigade<'_>) -> Result {
    static CUT: Seldom = Seldom::new();
    CUT.log(|more| log::warn!("the body of a marked response {why}: its client's connection is closed{more}"));
    // The header must be out: before it, the error would ask for an error page. Behind it the last chunk is not sent
    // (ap_http_chunk_filter), and mod_http2 resets the stream.
    body.push_flush();
    filter.pass_on(body)?;
    body.clear();
    body.push_error(sys::HTTP_BAD_GATEWAY);
    end(filter, request, body)
}

fn end(filter: Filter<'_>, request: Request<'_>, body: &mut Brigade<'_>) -> Result {
    let connection = request.connection();
    // The end of the stream alone: behind it mod_deflate and mod_brotli would drop what stands in the same brigade.
    body.push_eos();
    filter.pass_on(body)?;
    body.clear();

    // Past the request's filters: mod_brotli has freed its encoder at the end of the stream, and stays in the chain.
    let flushed = connection.flush();
    if !connection.is_stream() {
        flushed?;
        connection.close_after_response();
        // The client has all of the response: whether it wants to hear that nothing follows does not matter.
        let _ = connection.end_output();
        connection::close::release(connection);
    }
    // A stream is complete with the end that was passed above; mod_http2 may have closed it already.
    connection::sink::divert(request);
    Ok(())
}
