//! `FinishRequestBuffer`: what a client has not read yet of a marked response waits in memory, so that its handler need
//! not wait. The bytes are taken right above httpd's own network filter, below TLS, from the response's header on.

use std::cell::RefCell;
use std::ffi::CStr;
use std::sync::Arc;

use super::waiting::{self, Queue, Waiting};
use super::{poll, thread};
use crate::directives::Buffer as Bounds;
use crate::httpd::{
    Block, Brigade, Connection, Filter, FilterHandle, FilterType, Kind, OutputFilter, Request, Result, Spare, Status,
};

/// From how many bytes on they are offered to the kernel though no flush has come (`THRESHOLD_MIN_WRITE`).
const WORTH_SENDING: usize = 4096;
/// How many bytes are taken in one go.
const PIECE: usize = 65_536;

/// The filter that takes a connection's output.
pub struct BufferFilter;

/// The part of a connection's output that is taken. It stays with the connection; between marked responses it takes nothing.
#[derive(Default)]
pub struct Buffer {
    taking: RefCell<Option<Taking>>,
}

/// True if bytes wait for the client.
pub fn holds_something(connection: Connection<'_>) -> bool {
    let taking = connection.extra::<Buffer>().map(|buffer| buffer.taking.borrow());
    taking.is_some_and(|taking| taking.as_ref().is_some_and(|taking| !taking.queue.lock().is_empty()))
}

struct Taking {
    queue: Arc<Queue>,
    bounds: Bounds,
}

/// Has the output of the request's connection wait in memory from now on, as far as `bounds` allow, until [`take`] is called or the
/// request ends.
///
/// # Errors
///
/// The client has gone before it had read an earlier response, which goes first.
pub fn start(request: Request<'_>, bounds: Bounds) -> Result {
    let connection = request.connection();
    if bounds.response == 0 || connection.socket().is_none() {
        return Ok(());
    }
    if connection.holds_output() {
        connection.flush(request.pool())?;
    }
    let mut taking = connection.extra_or_init(Buffer::default).taking.borrow_mut();
    if taking.is_none() {
        if !connection.has_output_filter::<BufferFilter>() {
            request.add_output_filter::<BufferFilter>();
        }
        *taking = Some(Taking { queue: Arc::default(), bounds });
    }
    Ok(())
}

/// Returns the bytes that the client has not got yet. The connection's output goes to the client again.
pub fn take(connection: Connection<'_>) -> Waiting {
    let taking = connection.extra::<Buffer>().and_then(|buffer| buffer.taking.take());
    taking.map(|taking| taking.rest()).unwrap_or_default()
}

/// Sends what waits, while the caller waits.
///
/// # Errors
///
/// The client has gone, or has read nothing for too long.
pub fn send(connection: Connection<'_>, mut waiting: Waiting) -> Result {
    loop {
        offer(connection, &mut waiting)?;
        if waiting.is_empty() {
            return Ok(());
        }
        wait_for(connection)?;
    }
}

impl OutputFilter for BufferFilter {
    const NAME: &'static CStr = c"FINISH_REQUEST_BUFFER";
    const TYPE: FilterType = FilterType::NETWORK.above(1);
    type Context = Spare;

    fn handle() -> &'static FilterHandle {
        static HANDLE: FilterHandle = FilterHandle::new();
        &HANDLE
    }

    fn pass(filter: Filter<'_>, brigade: &mut Brigade<'_>) -> Result {
        let connection = filter.connection();
        let buffer = connection.extra::<Buffer>();
        // Nothing below calls this filter again while it works.
        let taken = buffer.and_then(|buffer| buffer.taking.take());
        let Some(mut taking) = taken else { return filter.pass_on(brigade) };
        match taking.take(connection, brigade) {
            Ok(Next::More) => {
                if let Some(buffer) = buffer {
                    buffer.taking.replace(Some(taking));
                }
                Ok(())
            }
            Ok(Next::EndOfRequest) => taking.give_back(connection, filter, brigade),
            Err(status) => {
                connection.abort();
                brigade.clear();
                Err(status)
            }
        }
    }
}

/// Where a brigade has brought the response.
enum Next {
    /// More will come.
    More,
    /// The request has ended with its handler: what waits is for httpd to send.
    EndOfRequest,
}

impl Taking {
    /// Takes what is in the brigade, up to the end of the request.
    fn take(&mut self, connection: Connection<'_>, brigade: &mut Brigade<'_>) -> Result<Next> {
        while let Some(kind) = brigade.first() {
            match kind {
                Kind::Eor => return Ok(Next::EndOfRequest),
                Kind::Flush => self.offer(connection)?,
                Kind::Eos | Kind::Metadata => {}
                Kind::Data(_) => {
                    self.send_ready(connection, brigade)?;
                    if !matches!(brigade.first(), Some(Kind::Data(_))) {
                        continue;
                    }
                    self.take_data(connection, brigade)?;
                }
            }
            brigade.delete_first();
        }
        if self.queue.lock().len() >= WORTH_SENDING {
            self.offer(connection)?;
        }
        Ok(Next::More)
    }

    /// Sends what the kernel takes. The rest goes out while the application is busy with what comes next.
    fn offer(&self, connection: Connection<'_>) -> Result {
        let mut waiting = self.queue.lock();
        offer(connection, &mut waiting)?;
        if !waiting.is_empty() && !self.queue.set_helped(true) && !thread::help(connection, &self.queue) {
            self.queue.set_helped(false);
        }
        Ok(())
    }

    /// Returns the bytes that the client has not got.
    fn rest(self) -> Waiting {
        std::mem::take(&mut *self.queue.lock())
    }

    /// Sends what the kernel takes of the data that is at hand, where nothing waits before it.
    fn send_ready(&self, connection: Connection<'_>, brigade: &mut Brigade<'_>) -> Result {
        let waiting = self.queue.lock();
        let Some(socket) = connection.socket().filter(|_| waiting.is_empty()) else { return Ok(()) };
        brigade.take_ready::<{ waiting::AT_A_TIME }>(|pieces| {
            if pieces.iter().map(|piece| piece.len()).sum::<usize>() < WORTH_SENDING {
                return 0;
            }
            // An error is seen again when what is left is sent.
            let sent = waiting::send(socket, pieces).unwrap_or(0);
            connection.count_sent(i64::try_from(sent).unwrap_or(0));
            sent
        })
    }

    fn take_data(&mut self, connection: Connection<'_>, brigade: &mut Brigade<'_>) -> Result {
        let bytes = match brigade.read_first(Block::No) {
            Err(status) if status.is_again() => {
                self.offer(connection)?;
                brigade.read_first(Block::Yes)?
            }
            read => read?,
        };
        for piece in bytes.chunks(PIECE) {
            self.queue.lock().push(piece);
            connection.count_sent(i64::try_from(piece.len()).unwrap_or(0));
            self.stay_within_bounds(connection)?;
        }
        Ok(())
    }

    /// Returns true if more waits than may.
    fn is_too_much(&self) -> bool {
        let mine = self.queue.lock().len();
        mine > self.bounds.response || mine > 0 && waiting::total() > self.bounds.total
    }

    /// Waits for the client where too much waits for it. A piece at a time is above the bounds meanwhile.
    fn stay_within_bounds(&mut self, connection: Connection<'_>) -> Result {
        if self.queue.lock().len() >= PIECE || self.is_too_much() {
            self.offer(connection)?;
        }
        while self.is_too_much() {
            wait_for(connection)?;
            self.offer(connection)?;
        }
        Ok(())
    }

    /// The response was an ordinary one: httpd sends what waits, as it sends all else.
    fn give_back(self, connection: Connection<'_>, filter: Filter<'_>, brigade: &mut Brigade<'_>) -> Result {
        let waiting = self.rest();
        connection.count_sent(i64::try_from(waiting.len()).map_or(0, |bytes| -bytes));
        filter.with_brigade::<BufferFilter, _>(|before| {
            waiting.pieces().for_each(|piece| before.push_bytes(piece));
            drop(waiting);
            brigade.move_all(before);
            filter.pass_on(before)
        })
    }
}

/// The child's thread has nothing to send any more, and lets go of the client's socket.
impl Drop for Taking {
    fn drop(&mut self) {
        if self.queue.set_helped(false) {
            thread::wake();
        }
    }
}

/// Sends what the kernel takes.
fn offer(connection: Connection<'_>, waiting: &mut Waiting) -> Result {
    let socket = connection.socket().ok_or(Status::ABORTED)?;
    match waiting.send(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => Err(Status::ABORTED),
        _ => Ok(()),
    }
}

/// Waits until the client reads, for `Timeout` at the longest.
fn wait_for(connection: Connection<'_>) -> Result {
    let socket = connection.socket().ok_or(Status::ABORTED)?;
    match poll::wait(socket, libc::POLLOUT, connection.timeout()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Status::TIMEUP),
        Err(_) => Err(Status::ABORTED),
    }
}
