//! The way of a brigade through a marked response, to the response's end.

use std::time::Duration;

use crate::background::Work;
use crate::connection::{self, detach, poll};
use crate::directives::After;
use crate::finish;
use crate::handlers::cgi_script;
use crate::httpd::{Block, Brigade, Kind, Record, Result, Status, is_async};
use crate::report;
use crate::response::{Body, Call, Walking, bypass, private_record};
use crate::rules::course::{Ask, Order, Reached, Refused, Seen};
use crate::rules::ending::{Ending, Verdict};
use crate::rules::mark::{self, Source};

/// How many bytes that had to be looked at are collected before they are passed on: a large file is not read into memory.
const LOOKED_AT: u64 = 65_536;

/// How much of a response httpd may hold without waiting for its client (`THRESHOLD_MAX_BUFFER`, `core_filters.c`): to send that does not
/// hold up a handler that is about to return, where more than that, all at once, may.
const HELD: u64 = 65_536;

/// How long a client that reads may take until the kernel has room again.
const MOMENT: Duration = Duration::from_millis(2);

/// How many buckets behind the end are looked at, to see whether the handler ends there as well.
const LOOK_AHEAD: usize = 16;

/// Walks along a brigade, and does what the course orders where it has come to. `body` is empty, and lives as long as the filter.
///
/// # Errors
///
/// What the filters below say.
pub fn walk<'f>(call: Call<'f>, body: &mut Brigade<'f>, brigade: &mut Brigade<'_>) -> Result {
    let Some(walking) = call.response.walk() else { return call.filter.pass_on(brigade) };
    call.response.set_filter(call.filter);
    let way = Way { call, early: walking.marked.early };
    let mut walk = Walk { walking, way, body, looked_at: 0, refused: None };
    let reached = match walk.advance(brigade) {
        Ok(Reached::More) => walk.pass().map(|()| Reached::More),
        reached => reached,
    };
    walk.arrive(reached, brigade)
}

/// The handler has failed, and a part of its response is out: ends that as the course orders. `body` and `brigade` are empty.
///
/// # Errors
///
/// What the filters below say.
pub fn handler_failed<'f>(call: Call<'f>, body: &mut Brigade<'f>, brigade: &mut Brigade<'_>) -> Result {
    let Some(walking) = call.response.walk() else { return Ok(()) };
    brigade.push_eos();
    let way = Way { call, early: walking.marked.early };
    Walk { walking, way, body, looked_at: 0, refused: None }.arrive(Ok(Reached::HandlerFailed), brigade)
}

/// What a walk and its questions have in common.
struct Way<'f> {
    call: Call<'f>,
    /// False where the response cannot be finished early, as [`Marked`](crate::rules::course::Marked) has it.
    early: bool,
}

/// A brigade's way through a marked response.
struct Walk<'f, 'b> {
    walking: Walking<'f>,
    way: Way<'f>,
    /// What belongs to the response and has not been passed on.
    body: &'b mut Brigade<'f>,
    /// How many bytes of it have been read into memory for being looked at.
    looked_at: u64,
    /// A filter below has not taken what was passed on last, or has ended the response by itself.
    refused: Option<Refused>,
}

impl Way<'_> {
    /// Before the header goes, does what the mark means for it.
    fn before_header(&mut self) -> Result {
        let Call { filter, request, response, settings } = self.call;
        if !response.pass_header(request) || !self.early {
            return Ok(());
        }
        if !response.background.expects_place(request) {
            self.early = false;
            return Ok(());
        }
        connection::begin(request, settings)?;
        bypass::ranges(filter);
        let announced = || request.header_values(c"Connection").any(mark::has_close);
        let closes = !request.connection().is_stream() && connection::after(request, settings) == After::Close;
        if closes {
            request.withdraw_offer();
        }
        bypass::bypass(filter, request, settings);
        if closes && !announced() {
            request.announce_close();
        }
        Ok(())
    }

    /// A response of which more has gone than may wait for its client is held up by that in any case: to wait a moment, until what comes next can
    /// be sent from where it stands, takes less than to copy it.
    fn wait_for_client(&self) {
        let Call { request, response, settings, .. } = self.call;
        let most = settings.buffer().response as u64;
        if most > 0
            && response.passed.get().is_some_and(|passed| passed > most)
            && let Some(socket) = request.connection().socket()
        {
            // An error comes again when something is sent.
            let _ = poll::wait(socket, libc::POLLOUT, Some(MOMENT));
        }
    }

    /// What is read here has a length for the filters below, of which httpd could cut out ranges.
    fn leave_whole(&self) {
        if !self.call.response.header_is_out() {
            bypass::ranges(self.call.filter);
        }
    }
}

impl Walk<'_, '_> {
    /// Moves what belongs to the response from the brigade to the body, and passes it on where more must be waited for.
    fn advance(&mut self, brigade: &mut Brigade<'_>) -> Result<Reached> {
        loop {
            match self.walking.marked.ending.next(&[]) {
                Verdict::End => return Ok(Reached::End),
                Verdict::Broken(fault) => return Ok(Reached::Broken(fault)),
                _ => {}
            }
            match brigade.first() {
                None => return Ok(Reached::More),
                Some(Kind::Eos) => return Ok(Reached::HandlerEnd),
                Some(Kind::Flush) if self.walking.marked.ends_at_flush() => {
                    brigade.delete_first();
                    let kept = self.walking.marked.ending.held();
                    self.count(kept.len() as u64);
                    self.body.push_bytes(kept);
                    return Ok(Reached::End);
                }
                Some(Kind::Flush | Kind::Eor | Kind::Metadata) => brigade.move_first(self.body),
                Some(Kind::Data(Some(length))) => self.take_data(brigade, length)?,
                Some(Kind::Data(None)) => {
                    let length = self.read(brigade)?;
                    self.take_data(brigade, length)?;
                    if !matches!(self.walking.marked.ending.next(&[]), Verdict::End) {
                        // Such buckets may follow without end: none is kept longer than needed.
                        self.pass()?;
                    }
                }
            }
        }
    }

    /// Reads a bucket of unknown length; before it waits, what came before goes out, as `ap_content_length_filter` has it.
    fn read(&mut self, brigade: &mut Brigade<'_>) -> Result<u64> {
        self.way.leave_whole();
        match brigade.read_first(Block::No) {
            Err(status) if status.is_again() => {}
            read => return read.map(|bytes| bytes.len() as u64),
        }
        self.body.push_flush();
        self.pass()?;
        brigade.read_first(Block::Yes).map(|bytes| bytes.len() as u64)
    }

    /// Takes the first bucket, which is data of this length, as far as it belongs to the response.
    fn take_data(&mut self, brigade: &mut Brigade<'_>, length: u64) -> Result {
        let taken = match &mut self.walking.marked.ending {
            _ if length == 0 => {
                brigade.delete_first();
                return Ok(());
            }
            Ending::Length(ending) => ending.take(length),
            ending if ending.reads() => return self.take_bytes(brigade),
            _ => length,
        };
        if taken < length {
            brigade.split_first(taken)?;
        }
        self.count(taken);
        brigade.move_first(self.body);
        Ok(())
    }

    /// The same, where it depends on the bytes.
    fn take_bytes(&mut self, brigade: &mut Brigade<'_>) -> Result {
        loop {
            let bytes = brigade.read_first(Block::Yes)?;
            let (length, verdict) = (bytes.len(), self.walking.marked.ending.next(bytes));
            match verdict {
                Verdict::Pass(taken) | Verdict::Drop(taken) if taken < length => brigade.split_first(taken as u64)?,
                _ => {}
            }
            match verdict {
                Verdict::Pass(taken) => {
                    self.count(taken as u64);
                    brigade.move_first(self.body);
                    self.looked_at += taken as u64;
                    if self.looked_at > LOOKED_AT {
                        self.pass()?;
                    }
                }
                Verdict::Drop(_) => brigade.delete_first(),
                Verdict::Restore(kept) => {
                    self.count(kept as u64);
                    self.body.push_bytes(self.walking.marked.ending.token().get(..kept).unwrap_or_default());
                }
                Verdict::More | Verdict::End | Verdict::Broken(_) => return Ok(()),
            }
            if matches!(verdict, Verdict::Pass(taken) | Verdict::Drop(taken) if taken == length) {
                return Ok(());
            }
        }
    }

    fn count(&self, bytes: u64) {
        let passed = &self.way.call.response.passed;
        passed.set(passed.get().map(|passed| passed + bytes));
    }

    /// Passes on what has been collected. Before the header goes, what the mark means for it is done.
    fn pass(&mut self) -> Result {
        if self.body.is_empty() {
            return Ok(());
        }
        self.way.before_header()?;
        self.way.wait_for_client();
        let Call { filter, request, response, .. } = self.way.call;
        let ended = request.has_ended();
        let passed = filter.pass_on(self.body);
        self.body.clear();
        self.looked_at = 0;
        match passed {
            Err(error) if response.is_refused(request, error) => {
                self.refused = Some(Refused::Failed);
            }
            Ok(()) if !ended && request.has_ended() || response.has_ended_with_header() => {
                self.refused = Some(Refused::Ended);
                return Err(Status::GENERAL);
            }
            _ => {}
        }
        passed
    }

    /// Tells the course where the walk has come to, and does what it orders.
    fn arrive(mut self, reached: Result<Reached>, brigade: &mut Brigade<'_>) -> Result {
        let (reached, passed) = match (reached, self.refused.take()) {
            (Ok(reached), _) => (reached, Ok(())),
            (Err(status), Some(refused)) => (Reached::Refused(refused), Err(status)),
            (Err(status), None) => (Reached::Error, Err(status)),
        };
        if matches!(reached, Reached::HandlerEnd | Reached::HandlerFailed) {
            let held = self.walking.marked.ending.held();
            self.body.push_bytes(held);
        }
        let Self { walking, mut way, body, .. } = self;
        let mut marked = walking.end();
        let (held, source) = (marked.held, marked.source);
        marked.early = way.early;
        let response = way.call.response;
        let order = response.step(Seen::Reached(marked, reached, &mut Asked { way: &mut way, body, brigade }));
        let mut release_last = || {
            if let Some(last) = held {
                body.push_bytes(&[last]);
            }
        };
        match order {
            Order::WaitForHandler => match response.walk() {
                Some(walking) => {
                    way.early = walking.marked.early;
                    Self { walking, way, body, looked_at: 0, refused: None }.wait_for_handler(brigade)
                }
                None => passed,
            },
            Order::EndWithHandler | Order::EndWithHandlerAndWatch => {
                release_last();
                end_with_handler(&way, order == Order::EndWithHandlerAndWatch, body, brigade)
            }
            Order::Discard => detach::discard(brigade, None),
            Order::Finish => {
                release_last();
                end_early(way, source, body, brigade, finish::finish)
            }
            Order::Cut(fault) => {
                release_last();
                let why = fault.map_or_else(|| report::SHORT.to_owned(), |fault| fault.to_string());
                end_early(way, source, body, brigade, |call, source, body| finish::cut(call, source, &why, body))
            }
            Order::FinishRefused(Refused::Failed) => end_early(way, source, body, brigade, finish::refused),
            Order::FinishRefused(Refused::Ended) => end_early(way, source, body, brigade, finish::ended_below),
            _ => passed,
        }
    }

    /// The client waits for the handler, but gets no more than it was told.
    fn wait_for_handler(mut self, brigade: &mut Brigade<'_>) -> Result {
        let passed = self.hold_last().and_then(|()| {
            if !self.body.is_empty() {
                self.body.push_flush();
            }
            self.pass()
        });
        match passed.and_then(|()| detach::discard_to_eos(brigade)) {
            Err(status) if passed.is_ok() => {
                // What the program does behind the end of its response takes nothing from it.
                brigade.push_eos();
                self.arrive(Ok(Reached::HandlerEnd), brigade)?;
                Err(status)
            }
            Ok(true) => {
                let Call { request, response, settings, .. } = self.way.call;
                if response.background.was_refused() {
                    // A script that works on is not ended for there being no place for it.
                    let work = Work::begin(request, Record::of(request.connection()), settings);
                    cgi_script::keep(request, response.handler, work);
                }
                self.arrive(Ok(Reached::HandlerEnd), brigade)
            }
            Ok(false) => self.arrive(Ok(Reached::More), brigade),
            Err(status) => {
                self.refused = None;
                self.arrive(Err(status), brigade)
            }
        }
    }

    /// A client that has as much as it was told may send no more of its request's body: over HTTP/2 it waits for the stream's end, while
    /// the handler waits for the body; over HTTP/1 it closes, and mod_proxy_fcgi gives its program up. So the last byte stays here: to
    /// the client the response goes on.
    fn hold_last(&mut self) -> Result {
        let Call { request, response, .. } = self.way.call;
        let needs_more = match response.body.get() {
            Body::Awaited => true,
            Body::Unread => request.connection().is_stream() && request.has_body(),
            Body::Ended => false,
        };
        if !needs_more || !matches!(self.walking.marked.ending, Ending::Length(_)) {
            return Ok(());
        }
        match self.body.take_last()? {
            Some(last) => self.walking.marked.held = Some(last),
            // The header alone would say that it is all.
            None => self.body.clear(),
        }
        Ok(())
    }
}

/// What the course may ask where a walk has come to.
struct Asked<'a, 'f, 'b, 'c> {
    way: &'a mut Way<'f>,
    body: &'a mut Brigade<'b>,
    brigade: &'a mut Brigade<'c>,
}

impl Asked<'_, '_, '_, '_> {
    /// Looks behind the end, and drops what does not belong to the response. Returns true if the handler's own end is there.
    fn find_end(&mut self) -> bool {
        let brigade = &mut *self.brigade;
        for _ in 0..LOOK_AHEAD {
            match brigade.first() {
                None => return false,
                Some(Kind::Eos) => return true,
                Some(Kind::Flush | Kind::Eor | Kind::Metadata) => brigade.move_first(self.body),
                Some(Kind::Data(Some(_))) => brigade.delete_first(),
                Some(Kind::Data(None)) => {
                    self.way.leave_whole();
                    match brigade.read_first(Block::No) {
                        Ok(_) => brigade.delete_first(),
                        Err(_) => return false,
                    }
                }
            }
        }
        false
    }
}

impl Ask for Asked<'_, '_, '_, '_> {
    fn handler_ends(&mut self) -> bool {
        self.find_end() && !cgi_script::works_on(self.way.call.request, self.way.call.response.handler)
    }

    fn has_eos(&mut self) -> bool {
        self.body.has_eos() || self.brigade.has_eos()
    }

    fn waits_for_body(&mut self) -> bool {
        let Call { request, response, .. } = self.way.call;
        if !response.waits_for_body(request) {
            return false;
        }
        // For Keep the body is read ahead, which may bring its end. Errors: the client has gone, as the next write will say.
        let _ = self.way.before_header();
        let waits = response.waits_for_body(request);
        if waits {
            // When it has been read to its end, this filter is called again.
            response.body.set(Body::Awaited);
        }
        waits
    }

    fn may_end(&mut self) -> bool {
        true
    }

    /// Whether the client, if it is there, was told of more than has come; or will not see the end of its chunks.
    fn is_short(&mut self, ending: &Ending) -> bool {
        let Call { request, response, .. } = self.way.call;
        if response.client().is_aborted() {
            return false;
        }
        if let Ending::Chunks(chunks) = ending {
            return !chunks.is_complete();
        }
        response.is_short(request, response.passed.get())
    }

    fn has_place(&mut self, source: Source) -> bool {
        let Call { request, response, .. } = self.way.call;
        self.way.early && response.background.admit(request, source)
    }
}

/// There is nothing to gain: the response goes on as it would without the module. It may yet work on, and is watched then: its client is let go at
/// once, or waits where the response cannot be finished early.
fn end_with_handler(way: &Way<'_>, may_work_on: bool, body: &mut Brigade<'_>, brigade: &mut Brigade<'_>) -> Result {
    let Way { call, early } = *way;
    let Call { filter, request, response, .. } = call;
    brigade.move_all(body);
    response.pass_header(request);
    private_record::use_client_record(request);
    let end_alone = body.length() == Some(0);
    let passed = filter.pass_on(body);
    // Where nothing of it has gone, what httpd says instead is the client's.
    if may_work_on && (passed.is_ok() || response.header_is_made()) {
        response.step(Seen::Ended);
    }
    passed?;
    if !may_work_on || !early {
        return Ok(());
    }
    // A handler that is about to return is not to wait for its client where httpd would see to the rest without it, as an asynchronous MPM does.
    let connection = response.client();
    let is_small = response.passed.get().is_some_and(|passed| passed <= HELD);
    let waits_for_nobody = connection.is_stream() || !connection.holds_output() || !is_async();
    if end_alone || is_small || waits_for_nobody { finish::after_own_end(call) } else { Ok(()) }
}

/// The response is finished, by `finish`.
fn end_early(
    mut way: Way<'_>,
    source: Source,
    body: &mut Brigade<'_>,
    brigade: &mut Brigade<'_>,
    finish: impl FnOnce(Call<'_>, Source, &mut Brigade<'_>) -> Result,
) -> Result {
    let Call { request, response, .. } = way.call;
    // What is broken ends here, with a place among those in background work or without: its connection cannot go on.
    response.background.claim(request, source);
    let ended = way.before_header().and_then(|()| finish(way.call, source, body));
    if let Err(status) = ended {
        response.background.withdraw();
        response.step(Seen::Failed(status));
        return Err(status);
    }
    response.step(Seen::Ended);
    detach::discard(brigade, response.work().as_deref())
}
