//! The output filter: walks the brigades of a marked response to its end, and has it finished there.

use std::ffi::CStr;

use crate::abort;
use crate::background::Work;
use crate::connection::{self, detach};
use crate::directives::After;
use crate::finish;
use crate::handlers::cgi_script;
use crate::httpd::{
    Block, Brigade, Filter, FilterHandle, FilterType, Kind, OutputFilter, Record, Request, Result, Status, dir_config,
};
use crate::response::{Body, Call, Marked, Phase, Response, bypass, decide::decide, private_record};
use crate::rules::ending::{Ending, Fault, Length, Verdict};
use crate::rules::mark::{self, Source};

use super::{body_end, late};

/// How many bytes that had to be looked at are collected before they are passed on: a large file is not read into memory.
const LOOKED_AT: u64 = 65_536;

/// How much of a response httpd may hold without waiting for its client (`THRESHOLD_MAX_BUFFER`, `core_filters.c`): to send that does not
/// hold up a handler that is about to return, where more than that, all at once, may.
const HELD: u64 = 65_536;

/// What is wrong with a body that has not come to its end.
const SHORT: &str = "it ended before the end that it promised";

/// How many buckets behind the end are looked at, to see whether the handler ends there as well.
const LOOK_AHEAD: usize = 16;

/// The output filter.
pub struct FinishRequest;

/// Puts the filter into a request's chain.
pub fn insert(request: Request<'_>) -> Option<Filter<'_>> {
    request.add_output_filter::<FinishRequest>()
}

impl OutputFilter for FinishRequest {
    const NAME: &'static CStr = c"FINISH_REQUEST";
    // Below OLD_WRITE and FCGID_OUT, which have the type RESOURCE - 10, and above all that change the body.
    const TYPE: FilterType = FilterType::RESOURCE.above(5);
    type Context = ();

    fn handle() -> &'static FilterHandle {
        static HANDLE: FilterHandle = FilterHandle::new();
        &HANDLE
    }

    fn pass(filter: Filter<'_>, brigade: &mut Brigade<'_>) -> Result {
        first(filter, brigade)
    }
}

/// What the filter does with a brigade. To be called for the first one of a response whose filter was added when that had passed its
/// place already.
///
/// # Errors
///
/// What the filters below say.
pub fn first(filter: Filter<'_>, brigade: &mut Brigade<'_>) -> Result {
    let Some(request) = filter.request() else { return filter.pass_on(brigade) };
    match (Response::of(request), dir_config(request)) {
        (Some(response), Some(settings)) => take(Call { filter, request, response, settings }, brigade),
        _ => filter.pass_on(brigade),
    }
}

/// Takes a brigade of the response.
fn take(call: Call<'_>, brigade: &mut Brigade<'_>) -> Result {
    let phase = decide(call.response, call.request, call.settings);
    let taken = late::take(call.response, &phase, brigade, false);
    let Ok(is_all_taken) = taken else {
        call.response.set_phase(phase);
        return taken.map(|_| ());
    };
    match phase {
        Phase::Finished => {
            call.response.set_phase(Phase::Finished);
            detach::discard(brigade, call.response.work().as_deref())
        }
        Phase::Failed(status) => {
            call.response.set_phase(Phase::Failed(status));
            brigade.clear();
            Err(status)
        }
        Phase::Marked(marked) => {
            // SAFETY: insert adds the filter with nothing.
            let mut body = unsafe { call.filter.take_brigade() };
            let mut walk = Walk { call, marked, body: &mut body, looked_at: 0, refused: None };
            let at = walk.advance(brigade);
            let passed = walk.arrive(at, brigade);
            // SAFETY: as above.
            unsafe { call.filter.give_back(body) };
            abort::unless_client_gone(call, passed, brigade)
        }
        phase @ (Phase::Ordinary | Phase::Undecided | Phase::Settled) => {
            call.response.set_phase(phase);
            call.response.pass_header(call.request);
            let bytes = call.response.passed.get();
            call.response.passed.set(bytes.zip(brigade.length()).map(|(bytes, more)| bytes + more));
            let ends = call.response.awaited.get().is_some() && brigade.has_eos();
            let passed = if is_all_taken { Ok(()) } else { call.filter.pass_on(brigade) };
            let passed = late::passed_on(call, passed, ends, brigade);
            abort::unless_client_gone(call, passed, brigade)?;
            late::drain(call, brigade)
        }
    }
}

/// A brigade's way through a marked response.
struct Walk<'f, 'b> {
    call: Call<'f>,
    marked: Marked,
    /// What belongs to the response and has not been passed on.
    body: &'b mut Brigade<'f>,
    /// How many bytes of it have been read into memory for being looked at.
    looked_at: u64,
    /// A filter below has not taken what was passed on last, or has ended the response by itself.
    refused: Option<Refused>,
}

/// What a filter below has done with a response that is not at its end.
#[derive(Clone, Copy)]
enum Refused {
    /// It has failed, or answered in the application's stead.
    Failed,
    /// It has passed the end on.
    Ended,
}

/// How a response is ended early.
enum How<'w> {
    /// It is whole.
    Whole,
    /// Something is wrong with it.
    Cut(&'w str),
    /// A filter below has it end.
    Refused(Refused),
}

/// Where a walk has come to.
enum At {
    /// The brigade is used up, and the response goes on.
    More,
    /// The response ends here; what is left in the brigade does not belong to it.
    End,
    /// The handler has ended, and the response has not: EOS is the first of the brigade.
    HandlerEnd,
    /// The body is not what it claims to be.
    Broken(Fault),
}

impl Walk<'_, '_> {
    /// Moves what belongs to the response from the brigade to the body, and passes it on where more must be waited for.
    fn advance(&mut self, brigade: &mut Brigade<'_>) -> Result<At> {
        loop {
            match self.marked.ending.next(&[]) {
                Verdict::End => return Ok(At::End),
                Verdict::Broken(fault) => return Ok(At::Broken(fault)),
                _ => {}
            }
            match brigade.first() {
                None => return Ok(At::More),
                Some(Kind::Eos) => return Ok(At::HandlerEnd),
                Some(Kind::Flush) if self.marked.ending.ends_at_flush() => {
                    brigade.delete_first();
                    return Ok(At::End);
                }
                Some(Kind::Flush | Kind::Eor | Kind::Metadata) => brigade.move_first(self.body),
                Some(Kind::Data(Some(length))) => self.take_data(brigade, length)?,
                Some(Kind::Data(None)) => {
                    let length = self.read(brigade)?;
                    self.take_data(brigade, length)?;
                    if !matches!(self.marked.ending.next(&[]), Verdict::End) {
                        // Such buckets may follow without end: none is kept longer than needed.
                        self.pass()?;
                    }
                }
            }
        }
    }

    /// Reads a bucket of unknown length; before it waits, what came before goes out, as `ap_content_length_filter` has it.
    fn read(&mut self, brigade: &mut Brigade<'_>) -> Result<u64> {
        self.leave_whole();
        match brigade.read_first(Block::No) {
            Err(status) if status.is_again() => {}
            read => return read.map(|bytes| bytes.len() as u64),
        }
        self.body.push_flush();
        self.pass()?;
        brigade.read_first(Block::Yes).map(|bytes| bytes.len() as u64)
    }

    /// What is read here has a length for the filters below, of which httpd could cut out ranges.
    fn leave_whole(&self) {
        if !self.call.response.header_is_out() {
            bypass::ranges(self.call.filter);
        }
    }

    /// Takes the first bucket, which is data of this length, as far as it belongs to the response.
    fn take_data(&mut self, brigade: &mut Brigade<'_>, length: u64) -> Result {
        let taken = match &mut self.marked.ending {
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
            let (length, verdict) = (bytes.len(), self.marked.ending.next(bytes));
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
                    self.body.push_bytes(self.marked.ending.token().get(..kept).unwrap_or_default());
                }
                Verdict::More | Verdict::End | Verdict::Broken(_) => return Ok(()),
            }
            if matches!(verdict, Verdict::Pass(taken) | Verdict::Drop(taken) if taken == length) {
                return Ok(());
            }
        }
    }

    fn count(&self, bytes: u64) {
        let passed = &self.call.response.passed;
        passed.set(passed.get().map(|passed| passed + bytes));
    }

    /// Passes on what has been collected. Before the header goes, what the mark means for it is done.
    fn pass(&mut self) -> Result {
        if self.body.is_empty() {
            return Ok(());
        }
        self.before_header()?;
        let Call { filter, request, response, .. } = self.call;
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

    fn before_header(&mut self) -> Result {
        let Call { filter, request, response, settings } = self.call;
        if !response.pass_header(request) || !self.marked.early {
            return Ok(());
        }
        if !response.background.expects_place() {
            self.marked.early = false;
            return Ok(());
        }
        connection::begin(request, settings)?;
        bypass::ranges(filter);
        let announced = || request.header_values(c"Connection").into_iter().any(mark::has_close);
        let closes = !request.connection().is_stream() && connection::after(request, settings) == After::Close;
        if self.marked.source != Source::Auto {
            if closes {
                request.withdraw_offer();
            }
            bypass::bypass(filter, request, settings);
        }
        if closes && !announced() {
            request.announce_close();
        }
        Ok(())
    }

    /// Does what is due where the walk has come to.
    fn arrive(mut self, at: Result<At>, brigade: &mut Brigade<'_>) -> Result {
        let response = self.call.response;
        let at = match at {
            Ok(At::More) => self.pass().map(|()| At::More),
            at => at,
        };
        match at {
            Err(status) => match self.refused.take() {
                Some(refused) if self.marked.early && self.is_admitted() => {
                    self.end_early(How::Refused(refused), brigade)
                }
                Some(Refused::Ended) => {
                    // What comes behind the end is not the client's.
                    response.set_phase(Phase::Finished);
                    detach::discard(brigade, None)
                }
                _ => {
                    response.set_phase(Phase::Marked(self.marked));
                    Err(status)
                }
            },
            Ok(At::More) => {
                response.set_phase(Phase::Marked(self.marked));
                Ok(())
            }
            Ok(At::End) if self.handler_ends(brigade) && !cgi_script::works_on(self.call.request) => {
                self.end_with_handler(brigade)
            }
            Ok(At::End) if !self.is_admitted() => self.wait_for_handler(brigade),
            Ok(At::End) if self.is_short() => self.end_early(How::Cut(SHORT), brigade),
            Ok(At::End) => self.end_early(How::Whole, brigade),
            Ok(At::HandlerEnd) => {
                let held = self.marked.ending.held();
                self.body.push_bytes(held);
                self.end_with_handler(brigade)
            }
            Ok(At::Broken(fault)) => self.end_early(How::Cut(&fault.to_string()), brigade),
        }
    }

    /// Whether the request may go on in the background.
    fn is_admitted(&mut self) -> bool {
        let Call { request, response, .. } = self.call;
        if self.marked.early && body_end::is_unread(request, response) {
            // For Keep the body is read ahead, which may bring its end. Errors: the client has gone, as the next write will say.
            let _ = self.before_header();
            if body_end::is_unread(request, response) {
                // When it has been read to its end, this filter is called again.
                response.body.set(Body::Awaited);
                return false;
            }
        }
        self.marked.early = self.marked.early && response.background.admit(request, self.marked.source);
        self.marked.early
    }

    /// The client waits for the handler, but gets no more than it was told.
    fn wait_for_handler(mut self, brigade: &mut Brigade<'_>) -> Result {
        if self.marked.ending.ends_at_flush() {
            // The next flush is not another end.
            self.marked.ending = Ending::Length(Length::new(0));
        }
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
                self.end_with_handler(brigade)?;
                Err(status)
            }
            Ok(true) => {
                if self.call.response.background.was_refused() {
                    // A script that works on is not ended for there being no place for it.
                    let Call { request, settings, .. } = self.call;
                    let work = Work::begin(request, Record::of(request.connection()), settings);
                    cgi_script::keep(request, work);
                }
                self.end_with_handler(brigade)
            }
            result => {
                self.call.response.set_phase(Phase::Marked(self.marked));
                result.map(|_| ())
            }
        }
    }

    /// A client that has as much as it was told may send no more of its request's body: over HTTP/2 it waits for the stream's end, while
    /// the handler waits for the body; over HTTP/1 it closes, and mod_proxy_fcgi gives its program up. So the last byte stays here: to
    /// the client the response goes on.
    fn hold_last(&mut self) -> Result {
        let Call { request, response, .. } = self.call;
        let needs_more = match response.body.get() {
            Body::Awaited => true,
            Body::Unread => request.connection().is_stream() && request.has_body(),
            Body::Ended => false,
        };
        if !needs_more || !matches!(self.marked.ending, Ending::Length(_)) {
            return Ok(());
        }
        match self.body.take_last(&mut request.brigade())? {
            Some(last) => self.marked.held = Some(last),
            // The header alone would say that it is all.
            None => self.body.clear(),
        }
        Ok(())
    }

    /// Puts back what [`Walk::hold_last`] held.
    fn release_last(&mut self) {
        if let Some(last) = self.marked.held.take() {
            self.body.push_bytes(&[last]);
        }
    }

    /// Looks behind the end, and drops what does not belong to the response: whether the handler's own end is there.
    fn handler_ends(&mut self, brigade: &mut Brigade<'_>) -> bool {
        for _ in 0..LOOK_AHEAD {
            match brigade.first() {
                None => return false,
                Some(Kind::Eos) => return true,
                Some(Kind::Flush | Kind::Eor | Kind::Metadata) => brigade.move_first(self.body),
                Some(Kind::Data(Some(_))) => brigade.delete_first(),
                Some(Kind::Data(None)) => {
                    self.leave_whole();
                    match brigade.read_first(Block::No) {
                        Ok(_) => brigade.delete_first(),
                        Err(_) => return false,
                    }
                }
            }
        }
        false
    }

    /// There is nothing to gain: the response goes on as it would without the module. Cut, where it is short.
    fn end_with_handler(mut self, brigade: &mut Brigade<'_>) -> Result {
        self.release_last();
        if self.is_short() {
            return self.end_early(How::Cut(SHORT), brigade);
        }
        let Call { filter, request, response, .. } = self.call;
        brigade.move_all(self.body);
        response.pass_header(request);
        private_record::use_client_record(request);
        if !self.marked.early || !self.body.has_eos() {
            response.set_phase(Phase::Settled);
            return filter.pass_on(self.body);
        }
        // A handler may end its response by itself, and work on. What it writes then would go raw behind the response.
        response.set_phase(Phase::Finished);
        let end_alone = self.body.length() == Some(0);
        filter.pass_on(self.body)?;
        let is_small = response.passed.get().is_some_and(|passed| passed <= HELD);
        if end_alone || is_small { finish::after_own_end(self.call) } else { Ok(()) }
    }

    /// The response is finished; cut, where something is wrong with it.
    fn end_early(mut self, how: How<'_>, brigade: &mut Brigade<'_>) -> Result {
        self.release_last();
        let Call { request, response, .. } = self.call;
        // What is broken ends here, with a place among those in background work or without: its connection cannot go on.
        response.background.claim(request, self.marked.source);
        let (call, source) = (self.call, self.marked.source);
        let ended = self.before_header().and_then(|()| match how {
            How::Whole => finish::finish(call, source, self.body),
            How::Cut(why) => finish::cut(call, source, why, self.body),
            How::Refused(Refused::Failed) => finish::refused(call, source, self.body),
            How::Refused(Refused::Ended) => finish::ended_below(call, source, self.body),
        });
        if ended.is_err() {
            response.background.withdraw();
        }
        self.call.response.set_phase(match ended {
            Ok(()) => Phase::Finished,
            Err(status) => Phase::Failed(status),
        });
        ended?;
        detach::discard(brigade, self.call.response.work().as_deref())
    }

    /// Whether the client, if it is there, was told of more than has come; or will not see the end of its chunks.
    fn is_short(&self) -> bool {
        let Call { request, response, .. } = self.call;
        if response.client().is_aborted() {
            return false;
        }
        if let Ending::Chunks(chunks) = &self.marked.ending {
            return !chunks.is_complete();
        }
        let promised = response.promised(request).filter(|_| !request.is_header_only());
        promised.zip(response.passed.get()).is_some_and(|(promised, passed)| passed < promised)
    }
}
