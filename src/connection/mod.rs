//! The client's connection: what waits for a slow client while its response is sent, and what becomes of the connection when the response is
//! finished. It is closed in its own time, or kept for the client's next request.

mod bell;
pub mod break_off;
pub mod buffer;
mod client;
mod clients;
pub mod detach;
pub mod keep;
mod link;
pub mod poll;
mod release;
mod resources;
mod stop;
pub mod stream;
mod thread;
mod waiting;
mod watch;
mod watching;

pub use self::release::{Next, look_ahead, release};

use crate::directives::{After, Settings};
use crate::httpd::{Connection, Pool, Record, Request, Result, is_async};

/// A child process has begun: when it is about to exit, the clients that it is sending to are seen out.
pub fn child_init(pool: Pool<'_>) {
    keep::child_init();
    pool.before_end(thread::end);
}

/// `child_stopping`: the child is going to exit.
pub fn child_stopping(graceful: bool) {
    thread::stopping(graceful);
}

/// A marked response is about to begin.
///
/// # Errors
///
/// The client has gone.
pub fn begin(request: Request<'_>, settings: &Settings) -> Result {
    let connection = request.connection();
    if connection.is_stream() {
        return Ok(());
    }
    buffer::start(request, settings.buffer())
}

/// The response has been passed on to an end that is its handler's own, which may yet work on: the client gets what httpd holds of it, and the end
/// of the connection where that was announced and nothing stands in the way.
///
/// # Errors
///
/// The client has gone.
pub fn after_own_end(request: Request<'_>) -> Result {
    let connection = request.connection();
    if connection.is_stream() {
        // It is complete with its end.
        return Ok(());
    }
    connection.flush(request.pool())?;
    send_waiting(connection)?;
    let waits = buffer::holds_something(connection);
    if connection.is_closing() && !waits && !connection.holds_output() && keep::has_known_filters(connection) {
        release::shutdown(connection);
    }
    Ok(())
}

/// Sends what waits for the client, unless httpd sees to that without a worker: at the request's end that one would send it, and wait for the client.
///
/// # Errors
///
/// The client has gone.
pub fn send_waiting(connection: Connection<'_>) -> Result {
    if is_async() { Ok(()) } else { buffer::send(connection, buffer::take(connection)) }
}

/// A copy of a connection's record that does not say that the client has gone, for a request whose handler looks at it: the same for
/// all requests of the connection, one after the other. One for each would pile up while the client stays.
pub fn private_record(connection: Connection<'_>) -> Connection<'_> {
    struct Copy(Record);
    let Copy(record) = connection.extra_or_init(|| Copy(Record::of(connection.unaborted())));
    connection.copy_to(record.get());
    record.get()
}

/// True if nothing but httpd's core and what only counts stands between the connection and its socket: no TLS, say.
pub fn is_plain(connection: Connection<'_>) -> bool {
    keep::has_known_filters(connection)
}

/// True if the connection may go on with another request when this one's handler has no more to do with it: the request's body has
/// been read, or can be.
pub fn may_go_on(request: Request<'_>) -> bool {
    request.connection().is_stream() || keep::body_is_complete(request)
}

/// Returns the fate of the connection when the response is finished, as far as it depends on this server.
pub fn after(request: Request<'_>, settings: &Settings) -> After {
    match settings.connection() {
        After::Keep if !request.connection().is_stream() && keep::is_possible(request) => After::Keep,
        _ => After::Close,
    }
}
