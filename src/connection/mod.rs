//! What becomes of the client's connection: while a marked response is sent, and when it is finished.

pub mod buffer;
pub mod detach;
mod helper;
pub mod keep;
mod poll;
mod release;
mod resources;
mod stop;
pub mod stream;
mod waiting;

pub use self::release::release;

use std::cell::OnceCell;

use crate::directives::{After, Settings};
use crate::httpd::{Connection, ConnectionConfig, Pool, Record, Request, Result};

/// What the module keeps for a connection.
#[derive(Default)]
pub struct State {
    /// What waits for a slow client.
    buffer: buffer::Buffer,
    /// How the connection came from another process or thread; none where it came from the client.
    received: Option<keep::Received>,
    /// What [`private_record`] made.
    private_record: OnceCell<Record>,
}

impl ConnectionConfig for State {}

impl State {
    /// The connection's, made now if there was none.
    fn get(connection: Connection<'_>) -> Option<&Self> {
        if Self::of(connection).is_none() {
            Self::default().attach(connection);
        }
        Self::of(connection)
    }
}

/// A child process has begun: when it is about to exit, the clients that it is sending to are seen out.
pub fn child_init(pool: Pool<'_>) {
    keep::child_init();
    pool.before_end(helper::end);
}

/// `child_stopping`: the child is going to exit.
pub fn child_stopping(graceful: bool) {
    helper::stopping(graceful);
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
    State::get(connection).map_or(Ok(()), |state| buffer::start(request, &state.buffer, settings.buffer()))
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
    let waits = State::of(connection).is_some_and(|state| state.buffer.holds_something());
    if connection.is_closing() && !waits && !connection.holds_output() && keep::has_known_filters(connection) {
        release::shutdown(connection);
    }
    Ok(())
}

/// A copy of a connection's record that does not say that the client has gone, for a request whose handler looks at it: the same for
/// all requests of the connection, one after the other. One for each would pile up while the client stays.
pub fn private_record(connection: Connection<'_>) -> Connection<'_> {
    let Some(state) = State::get(connection) else { return connection.unaborted() };
    let copy = state.private_record.get_or_init(|| Record::of(connection.unaborted())).get();
    connection.copy_to(copy);
    copy
}

/// What can become of the connection when the response is finished, as far as it depends on this server.
pub fn after(request: Request<'_>, settings: &Settings) -> After {
    match settings.connection() {
        After::Keep if !request.connection().is_stream() && keep::is_possible(request) => After::Keep,
        _ => After::Close,
    }
}
