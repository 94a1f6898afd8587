//! An end that only may come, looked for in what a program sends: the digits of the mark `late`.
//!
//! Until then the response is in every respect the ordinary one. So what is of known length is looked at where it stands, and of what is of
//! unknown length (a pipe, mod_fcgid's records) nothing is read: a bucket of the module's own stands in its place, and reads from it when, and
//! as, it is read itself.

use std::cell::{Cell, OnceCell, RefCell};
use std::rc::Rc;

use super::{Body, Phase, Response};
use crate::connection;
use crate::directives::{After, Settings};
use crate::handlers::{cgi_script, digits};
use crate::httpd::{
    Block, BorrowedBrigade, Brigade, BrigadeRecord, HTTP_BAD_GATEWAY, Kind, Pull, Request, RequestRecord, Result,
    Status, dir_config,
};
use crate::rules::late::Late;
use crate::rules::mark;

/// How many pieces behind the digits are looked at, to see whether the program ends there as well.
const LOOK_AHEAD: usize = 16;

/// Where the response may end, and what of its program's output is before that.
pub struct Awaited {
    /// The digits that the program was given.
    search: RefCell<Late>,
    request: RequestRecord,
    /// Where the request's environment has them; none once it does not any more.
    place: Cell<Option<digits::Place>>,
    /// What the bucket in its place reads from; none before there is one.
    source: OnceCell<BrigadeRecord>,
    rule: Cell<Rule>,
    at: Cell<At>,
    /// True if mod_fcgid's buckets are read, which can only be waited for.
    is_fcgid: Cell<bool>,
    /// True if all of a brigade is held, and nothing of the response has been passed on since.
    owes_brigade: Cell<bool>,
    /// True if it is the module that has announced the end of the connection, which would go on else.
    has_announced: Cell<bool>,
    /// True once a reader that does not wait has been told that nothing is there yet, where the end is.
    has_paused: Cell<bool>,
}

/// What the digits mean, by what was said about the response besides.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Rule {
    /// The response ends.
    End,
    /// Another mark says where it ends, by what the program says of its output. What follows the digits is none of it.
    Drop,
    /// Another mark says where it ends, or `off`: only the digits are dropped.
    Skip,
}

/// How far the program's output has been read, and what was decided there: no second course. The course is told when the end has been
/// passed on; until then the bucket in the output's place is read again.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// Before the end.
    Before,
    /// Right behind it, and nothing has been decided.
    Found,
    /// Behind it, and all is dropped to the program's end, for which the client waits.
    Behind,
    /// The same, for there was no place in background work.
    Refused,
    /// At the end of the response: what the program sends is for nobody.
    End,
    /// The same, at the end of its header: it has no body.
    HeaderEnd,
}

impl At {
    /// True if the response ends, and what the program sends is for nobody.
    pub fn is_end(self) -> bool {
        matches!(self, Self::End | Self::HeaderEnd)
    }
}

/// The handler of a request is about to run, whose variable says `late`: its program gets digits.
pub fn before_handler(request: Request<'_>, response: &Response) {
    if let Some((digits, place)) = digits::give(request, response.handler, response.seen.get()) {
        response.drop_at_end(request);
        let _ = response.awaited.set(Rc::new(Awaited::new(request, Late::new(&digits), place)));
    }
}

/// Something of the response has come, or an error page in its place: others that are given the request's environment from now on, as mod_include's
/// commands and subrequests are, shall not know the digits.
pub fn hide_digits(request: Request<'_>, response: &Response) {
    let Some(place) = response.awaited.get().and_then(|awaited| awaited.place.take()) else { return };
    if let Some(mark) = digits::hide(request, place) {
        response.seen.set(Some(mark.as_ptr().cast()));
    }
}

/// An error page is going to stand in the response's place. httpd has seen that the connection ends, and would not chunk that page, whose
/// end its client is to see as that of any other.
pub fn before_error_page(request: Request<'_>, response: &Response) {
    hide_digits(request, response);
    if response.awaited.get().is_some_and(|awaited| awaited.has_announced.take()) && !response.header_is_made() {
        response.client().decide_anew();
        request.announce_close_of_error();
    }
}

/// The same as [`hide_digits`] for a request of whose response nothing has come, as it is redirected to this one, which has its environment.
pub fn before_redirected(request: Request<'_>) {
    let earlier = std::iter::successors(request.prev(), |request| request.prev());
    for (earlier, redirects) in earlier.zip(1..) {
        if let Some(response) = Response::of(earlier)
            && response.awaited.get().is_some_and(|awaited| awaited.place.get().is_some())
        {
            hide_digits(earlier, response);
            digits::hide_redirected(request, redirects);
        }
    }
}

/// What the digits mean for a response in this phase; none where they are not looked for any more.
pub fn rule(phase: &Phase) -> Option<Rule> {
    match phase {
        Phase::Ordinary | Phase::Undecided => Some(Rule::End),
        Phase::Declared(_) => Some(Rule::Drop),
        Phase::Marked(_) | Phase::Settled => Some(Rule::Skip),
        Phase::Walking | Phase::Ending | Phase::Finished | Phase::Failed(_) => None,
    }
}

impl Awaited {
    /// Looks for the end of the response to this request, whose program was given digits.
    fn new(request: Request<'_>, search: Late, place: digits::Place) -> Self {
        Self {
            search: RefCell::new(search),
            request: RequestRecord::of(request),
            place: Cell::new(Some(place)),
            source: OnceCell::new(),
            rule: Cell::new(Rule::End),
            at: Cell::new(At::Before),
            is_fcgid: Cell::new(false),
            owes_brigade: Cell::new(false),
            has_announced: Cell::new(false),
            has_paused: Cell::new(false),
        }
    }

    /// Notes that all of a brigade is held.
    pub fn owe_brigade(&self) {
        self.owes_brigade.set(true);
    }

    /// True once after a brigade all of which was held: what comes out of it now is a brigade of its own, as the handler passed it on.
    pub fn pays_brigade(&self) -> bool {
        self.owes_brigade.take()
    }

    /// Says what the digits mean from now on.
    pub fn set_rule(&self, rule: Rule) {
        self.rule.set(rule);
    }

    /// How far the output is.
    pub fn at(&self) -> At {
        self.at.get()
    }

    /// True if the digits end the body.
    pub fn ends_body(&self) -> bool {
        self.rule.get() == Rule::End && !matches!(self.at.get(), At::Before | At::HeaderEnd)
    }

    /// True if they have done so before as much has come as the client was told. Before it was told, httpd may yet put the right length there.
    pub fn is_short(&self) -> bool {
        let request = self.request.get();
        let is_short = |response: &Response| {
            response.header_is_made() && response.is_short(request, Some(self.search.borrow().given()))
        };
        self.ends_body() && Response::of(request).is_some_and(is_short)
    }

    /// What is left of the program's output; none where no bucket stands for it.
    pub fn source(&self) -> Option<BorrowedBrigade<'_>> {
        self.source.get().map(BrigadeRecord::borrow)
    }

    /// The handler has passed the brigade on: takes the digits out of it, and what follows them. `is_fcgid` says that it is on its way to
    /// mod_fcgid's filter.
    ///
    /// # Errors
    ///
    /// What the buckets say.
    pub fn take(self: &Rc<Self>, brigade: &mut Brigade<'_>, rule: Rule, is_fcgid: bool) -> Result {
        self.rule.set(rule);
        if self.source.get().is_some() {
            return self.pass_at_flush(brigade);
        }
        self.is_fcgid.set(is_fcgid);
        brigade.beside(|brigade, rest| {
            brigade.move_all(rest);
            loop {
                match rest.first() {
                    None => {
                        self.decide(None);
                        return Ok(());
                    }
                    Some(Kind::Eos) => {
                        if self.at.get() == At::Before {
                            self.push(brigade, Late::end);
                        } else if self.at.get() == At::Found {
                            // There is nothing to gain.
                            self.at.set(At::Behind);
                        }
                        rest.move_all(brigade);
                        return Ok(());
                    }
                    Some(Kind::Data(None)) => {
                        let mut source = self.source.get_or_init(|| BrigadeRecord::new(self.request.get())).borrow();
                        while rest.first().is_some_and(|kind| kind != Kind::Eos) {
                            rest.move_first(&mut source);
                        }
                        self.decide(Some(&mut source));
                        self.end_with_header(&mut source, brigade);
                        brigade.push_pulled(Rc::clone(self));
                        rest.move_all(brigade);
                        return Ok(());
                    }
                    Some(_) => self.take_first(rest, brigade)?,
                }
            }
        })
    }

    /// mod_fcgid's filter has passed on what it has collected: a flush takes with it what is held of few matching bytes, where all that was
    /// read before them has been passed on.
    fn pass_at_flush(&self, brigade: &mut Brigade<'_>) -> Result {
        if !self.collects() || !self.holds_few() || !self.has_passed_all(brigade) {
            return Ok(());
        }
        brigade.beside(|brigade, rest| {
            brigade.move_all(rest);
            while rest.first().is_some() {
                self.take_other(rest, brigade);
            }
            Ok(())
        })
    }

    /// True if mod_fcgid's filter has passed on all that it was given, with this brigade.
    fn has_passed_all(&self, brigade: &Brigade<'_>) -> bool {
        let passed = Response::of(self.request.get()).and_then(|response| response.passed.get());
        let passed = passed.zip(brigade.length()).map(|(before, now)| before + now);
        let search = self.search.borrow();
        passed.is_some_and(|passed| passed >= search.given())
    }

    /// True if whoever reads collects, and waits for more than is there: then small parts of the digits wait, too.
    fn collects(&self) -> bool {
        self.is_fcgid.get() && self.rule.get() == Rule::End
    }

    /// True if few matching bytes are held, that may be passed on at a flush.
    fn holds_few(&self) -> bool {
        let search = self.search.borrow();
        search.may_be_passed() && !search.held().is_empty()
    }

    /// What has been read is passed on, at a flush: with it goes what is held of few matching bytes.
    pub fn pass_held(&self, to: &mut Brigade<'_>) {
        if self.at.get() == At::Before {
            self.push(to, Late::pass);
        }
    }

    /// Adds held bytes to the brigade, which are body.
    fn push(&self, brigade: &mut Brigade<'_>, held: fn(&mut Late) -> &[u8]) {
        let mut search = self.search.borrow_mut();
        let bytes = held(&mut search);
        if !bytes.is_empty() {
            brigade.push_bytes(bytes);
        }
    }

    /// Moves the first bucket, which is of known length, or what of it is the client's.
    fn take_first(&self, from: &mut Brigade<'_>, to: &mut Brigade<'_>) -> Result {
        match (from.first(), self.at.get()) {
            (Some(Kind::Data(Some(1..))), At::Before) => self.look_at_first(from, to),
            (Some(Kind::Data(_)), at) if at != At::Before => {
                from.delete_first();
                Ok(())
            }
            _ => {
                self.take_other(from, to);
                Ok(())
            }
        }
    }

    /// Moves the first bucket as it is.
    fn take_other(&self, from: &mut Brigade<'_>, to: &mut Brigade<'_>) {
        match (from.first(), self.at.get()) {
            (Some(Kind::Flush), At::Before) => self.push(to, Late::pass),
            // The end follows.
            (Some(Kind::Flush), _) => return from.delete_first(),
            _ => {}
        }
        from.move_first(to);
    }

    /// Looks for the digits in the first bucket.
    fn look_at_first(&self, from: &mut Brigade<'_>, to: &mut Brigade<'_>) -> Result {
        let mut search = self.search.borrow_mut();
        let bytes = from.read_first(Block::Yes)?;
        let length = bytes.len();
        let seen = search.next(bytes);
        let (body, found) = (seen.body, seen.found);
        if !seen.restored.is_empty() {
            to.push_bytes(seen.restored);
        }
        let (tail, is_small) = (length - body, search.held().len() + body == length && search.may_be_passed());
        drop(search);
        if tail == 0 {
            from.move_first(to);
            return Ok(());
        }
        if found.is_none() && is_small {
            from.move_first(to);
            return self.look_behind(from, to, tail);
        }
        if body > 0 {
            from.split_first(body as u64)?;
            from.move_first(to);
        }
        if let Some(end) = found {
            if end < length {
                from.split_first((end - body) as u64)?;
            }
            if self.rule.get() != Rule::Skip {
                self.at.set(At::Found);
            }
        }
        from.delete_first();
        Ok(())
    }

    /// A bucket has been moved that ends in so few bytes of the digits that they may be passed on, where no more of them are there. It
    /// stays whole where they are body, as most often: it is cut off its last bytes where they may not be.
    fn look_behind(&self, from: &mut Brigade<'_>, to: &mut Brigade<'_>, tail: usize) -> Result {
        let goes_on = |bytes: &[u8]| !bytes.is_empty() && self.search.borrow().goes_on_with(bytes);
        let waits = match from.first() {
            Some(Kind::Data(Some(0))) => true,
            Some(Kind::Data(Some(_))) => goes_on(from.read_first(Block::Yes)?),
            Some(Kind::Data(None)) if self.is_fcgid.get() => true,
            // An error comes again, when the bucket's turn comes.
            Some(Kind::Data(None)) => from.read_first(Block::No).is_ok_and(goes_on),
            // What handlers pass on in pieces goes on with the next one.
            None => self.source.get().is_none() && self.rule.get() == Rule::End,
            Some(_) => false,
        };
        if waits {
            to.cut_last(tail)
        } else {
            self.search.borrow_mut().pass();
            Ok(())
        }
    }

    /// If the end has been found: decides what becomes of the response. `source` is what is left of the program's output, where that is
    /// to be read.
    fn decide(&self, source: Option<&mut Brigade<'_>>) {
        if self.at.get() != At::Found {
            return;
        }
        let request = self.request.get();
        let known = Response::of(request).zip(dir_config::<Settings>(request));
        if let Some((response, _)) = known
            && response.waits_for_body(request)
        {
            // When the request's body has been read to its end, a flush comes.
            response.body.set(Body::Awaited);
            return;
        }
        self.at.set(match known {
            Some((response, settings)) if self.rule.get() == Rule::End && !response.works_on() => {
                if source.is_some_and(|source| self.ends_there(source, response)) {
                    At::Behind
                } else if response.background.admit(request, mark::Source::Env) {
                    self.before_end(request, response, settings);
                    At::End
                } else {
                    At::Refused
                }
            }
            _ => At::Behind,
        });
    }

    /// If the response has no body by its header, and its program has sent none with that: it ends here. `before` is what stands before the
    /// rest of the program's output. A program that sends one is read to its end, or the digits: filters look at that body.
    fn end_with_header(&self, source: &mut Brigade<'_>, before: &Brigade<'_>) {
        let request = self.request.get();
        // A length that httpd has dropped says nothing: a body may follow.
        let says_zero = |value: &[u8]| mark::parse_length(value) == Some(0);
        let has_none = || request.is_header_only() || request.header_values(c"Content-Length").any(says_zero);
        let is_due = self.at.get() == At::Before && self.rule.get() == Rule::End && !before.has_data();
        if is_due && has_none() && !self.has_more(source) {
            if request.connection().is_stream() {
                connection::stream::ending(request);
            }
            self.at.set(At::HeaderEnd);
        }
    }

    /// True if more of the program's output is there, or its end: as far as can be seen without waiting.
    fn has_more(&self, source: &mut Brigade<'_>) -> bool {
        match source.first() {
            Some(Kind::Data(None)) => !self.is_fcgid.get() && source.read_first(Block::No).is_ok(),
            _ => true,
        }
    }

    /// True if the program ends with the digits, as far as can be seen without waiting: there is nothing to gain.
    fn ends_there(&self, source: &mut Brigade<'_>, response: &Response) -> bool {
        for _ in 0..LOOK_AHEAD {
            match source.first() {
                None => return !cgi_script::works_on(self.request.get(), response.handler),
                Some(Kind::Data(None)) if self.is_fcgid.get() || source.read_first(Block::No).is_err() => return false,
                Some(_) => source.delete_first(),
            }
        }
        false
    }
}

impl Pull for Awaited {
    fn read(&self, block: Block, out: &mut Brigade<'_>) -> Result<bool> {
        let Some(mut source) = self.source() else { return Ok(false) };
        loop {
            match (source.first(), self.at.get()) {
                (_, At::End) if out.is_empty() && block == Block::No && self.pauses() => return Err(Status::AGAIN),
                (_, at) if at.is_end() => return Ok(self.has_read_all(out)),
                (None, at) => {
                    if at == At::Before {
                        self.push(out, Late::end);
                    }
                    return Ok(self.has_read_all(out));
                }
                (Some(Kind::Data(None)), _) if !out.is_empty() => return Ok(true),
                (Some(Kind::Data(None)), _) => {
                    if self.read_more(&mut source, block, out)? {
                        return Ok(true);
                    }
                }
                // What a pipe and mod_fcgid's records turn into at their ends: one more read would show nothing.
                (Some(Kind::Data(Some(0))), _) => source.delete_first(),
                (Some(_), _) => {
                    self.take_first(&mut source, out)?;
                    self.decide(Some(&mut source));
                }
            }
        }
    }
}

impl Awaited {
    /// All has been read, to the end. True if that is to be seen by another read, behind data, as of a pipe. A body that is too short ends in an
    /// error: behind that its connection does not go on, and mod_http2 resets a stream.
    fn has_read_all(&self, out: &mut Brigade<'_>) -> bool {
        let has_data = !out.is_empty();
        if !has_data && !self.is_fcgid.get() && self.is_short() {
            self.request.get().forbid_caching();
            out.push_error(HTTP_BAD_GATEWAY);
        }
        has_data
    }

    /// True once at the end, for a reader that does not wait: that a program has ended is seen later than what it wrote last, but by chance. Of a
    /// header alone, which the flush that follows would send, a stream's client would see that it is all.
    fn pauses(&self) -> bool {
        !self.request.get().is_header_only() && !self.has_paused.replace(true)
    }

    /// Reads the first bucket, which is of unknown length. Where nothing is there yet, what is held of few matching bytes is given instead, which
    /// gives true.
    fn read_more(&self, source: &mut Brigade<'_>, block: Block, out: &mut Brigade<'_>) -> Result<bool> {
        if self.is_fcgid.get() || self.at.get() != At::Before || !self.holds_few() {
            return source.read_first(block).map(|_| false);
        }
        match source.read_first(Block::No) {
            Err(status) if status.is_again() => {
                self.push(out, Late::pass);
                Ok(true)
            }
            read => read.map(|_| false),
        }
    }
}

impl Awaited {
    /// The response is about to end, perhaps before its header has gone.
    fn before_end(&self, request: Request<'_>, response: &Response, settings: &Settings) {
        let connection = request.connection();
        if connection.is_stream() {
            connection::stream::ending(request);
            return;
        }
        // An error says that the client has gone, as what is passed on next will.
        let _ = connection::begin(request, settings);
        if !response.header_is_made() && connection::after(request, settings) == After::Close {
            request.withdraw_offer();
            if !request.header_values(c"Connection").any(mark::has_close) {
                self.has_announced.set(!request.is_last());
                request.announce_close();
            }
        }
    }
}
