//! The mark `late`: the digits that end a response, looked for in what its program sends.
//!
//! Until they come the response is in every respect the ordinary one. So what is of known length is looked at where it stands, and of what is of
//! unknown length (a pipe, mod_fcgid's records) nothing is read: a bucket of the module's own stands in its place, and reads from it when, and
//! as, it is read itself.

use std::cell::{Cell, OnceCell, RefCell};

use super::{Body, Phase, Response};
use crate::connection;
use crate::directives::{After, Settings};
use crate::handlers::{cgi_script, digits, proxy_scheme};
use crate::httpd::{
    Block, Brigade, BrigadeRecord, Kind, Pull, Request, RequestConfig, RequestRecord, Result, dir_config,
};
use crate::rules::late::Late;
use crate::rules::mark;

/// How many pieces behind the digits are looked at, to see whether the program ends there as well.
const LOOK_AHEAD: usize = 16;

/// The digits that a program was given, and what of its output is before them.
pub struct Awaited {
    search: RefCell<Late>,
    request: RequestRecord,
    /// What the bucket in its place reads from; none before there is one.
    source: OnceCell<BrigadeRecord>,
    rule: Cell<Rule>,
    at: Cell<At>,
    /// True if mod_fcgid's buckets are read, which can only be waited for.
    is_fcgid: Cell<bool>,
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

/// How far the output is.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// Before the digits.
    Before,
    /// Right behind them, and nothing has been decided.
    Found,
    /// Behind them, and all is dropped to the program's end, for which the client waits.
    Behind,
    /// The same, for there was no place in background work.
    Refused,
    /// At the end of the response: what the program sends is for nobody.
    End,
}

/// The handler of a request is about to run. Its program gets digits, where the variable says `late`.
pub fn before_handler(request: Request<'_>, response: &Response) {
    digits::take_away(request);
    if super::decide::is_late(request)
        && let Some(search) = digits::give(request).and_then(|digits| Late::new(&digits))
    {
        let _ = response.awaited.set(Awaited {
            search: RefCell::new(search),
            request: RequestRecord::of(request),
            source: OnceCell::new(),
            rule: Cell::new(Rule::End),
            at: Cell::new(At::Before),
            is_fcgid: Cell::new(false),
        });
    }
}

/// What the digits mean for a response in this phase; none where they are not looked for any more.
pub fn rule(phase: &Phase) -> Option<Rule> {
    match phase {
        Phase::Ordinary | Phase::Undecided => Some(Rule::End),
        Phase::Marked(marked) if marked.source == mark::Source::Auto => Some(Rule::Drop),
        Phase::Marked(_) | Phase::Settled => Some(Rule::Skip),
        Phase::Finished | Phase::Failed(_) => None,
    }
}

impl Awaited {
    /// How far the output is.
    pub fn at(&self) -> At {
        self.at.get()
    }

    /// What is left of the program's output; none where no bucket stands for it.
    pub fn source(&self) -> Option<Brigade<'_>> {
        self.source.get().map(BrigadeRecord::get)
    }

    /// The handler has passed the brigade on: takes the digits out of it, and what follows them. `is_fcgid` says that it is on its way to
    /// mod_fcgid's filter.
    ///
    /// # Errors
    ///
    /// What the buckets say.
    pub fn take(&self, brigade: &mut Brigade<'_>, rule: Rule, is_fcgid: bool) -> Result {
        let request = self.request.get();
        // Others that are given the request's environment, as mod_include's commands and subrequests are, shall not know them.
        request.subprocess_env().unset(digits::VARIABLE);
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
                            push(brigade, self.search.borrow_mut().end());
                        } else if self.at.get() == At::Found {
                            // There is nothing to gain.
                            self.at.set(At::Behind);
                        }
                        rest.move_all(brigade);
                        return Ok(());
                    }
                    Some(Kind::Data(None)) => {
                        let mut source = self.source.get_or_init(|| BrigadeRecord::of(&request.brigade())).get();
                        while rest.first().is_some_and(|kind| kind != Kind::Eos) {
                            rest.move_first(&mut source);
                        }
                        self.decide(Some(&mut source));
                        // SAFETY: the response owns this, and lives as long as the request.
                        unsafe { brigade.push_pulled(self) };
                        rest.move_all(brigade);
                        return Ok(());
                    }
                    Some(_) => self.take_first(rest, brigade)?,
                }
            }
        })
    }

    /// mod_fcgid's filter has passed on what it has collected: a flush takes with it what is held of few matching bytes.
    fn pass_at_flush(&self, brigade: &mut Brigade<'_>) -> Result {
        if !self.collects() || self.search.borrow().held().is_empty() || !self.search.borrow().may_be_passed() {
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

    /// True if whoever reads collects, and waits for more than is there: then small parts of the digits wait, too.
    fn collects(&self) -> bool {
        self.is_fcgid.get() && self.rule.get() == Rule::End
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
            (Some(Kind::Flush), At::Before) => push(to, self.search.borrow_mut().pass()),
            // The end follows.
            (Some(Kind::Flush), _) => return from.delete_first(),
            _ => {}
        }
        from.move_first(to);
    }

    /// Looks for the digits in the first bucket.
    fn look_at_first(&self, from: &mut Brigade<'_>, to: &mut Brigade<'_>) -> Result {
        let bytes = from.read_first(Block::Yes)?;
        let length = bytes.len();
        let mut search = self.search.borrow_mut();
        let seen = search.next(bytes);
        let (body, found) = (seen.body, seen.found);
        push(to, seen.restored);
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
            Some(Kind::Data(None)) if self.is_fcgid.get() => self.collects(),
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

    /// If the digits have been found: decides what becomes of the response. `source` is what is left of the program's output, where that is
    /// to be read.
    fn decide(&self, source: Option<&mut Brigade<'_>>) {
        if self.at.get() != At::Found {
            return;
        }
        let request = self.request.get();
        let known = Response::of(request).zip(dir_config::<Settings>(request));
        if let Some((response, _)) = known
            && response.body.get() != Body::Ended
            && proxy_scheme(request) == Some(b"fcgi")
        {
            // When the request's body has been read to its end, a flush comes.
            response.body.set(Body::Awaited);
            return;
        }
        self.at.set(match known {
            Some((response, settings)) if self.rule.get() == Rule::End && !response.works_on() => {
                if source.is_some_and(|source| self.ends_there(source)) {
                    At::Behind
                } else if response.background.admit(request, mark::Source::Env) {
                    before_end(request, response, settings);
                    At::End
                } else {
                    At::Refused
                }
            }
            _ => At::Behind,
        });
    }

    /// True if the program ends with the digits, as far as can be seen without waiting: there is nothing to gain.
    fn ends_there(&self, source: &mut Brigade<'_>) -> bool {
        for _ in 0..LOOK_AHEAD {
            match source.first() {
                None => return !cgi_script::works_on(self.request.get()),
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
                (_, At::End) => return Ok(!out.is_empty()),
                (None, At::Before) => {
                    push(out, self.search.borrow_mut().end());
                    return Ok(false);
                }
                (None, _) => return Ok(false),
                (Some(Kind::Data(None)), _) if !out.is_empty() => return Ok(true),
                (Some(Kind::Data(None)), _) => {
                    if self.read_more(&mut source, block, out)? {
                        return Ok(true);
                    }
                }
                (Some(_), _) => {
                    self.take_first(&mut source, out)?;
                    self.decide(Some(&mut source));
                }
            }
        }
    }
}

impl Awaited {
    /// Reads the first bucket, which is of unknown length. What is held of few matching bytes is given instead where nothing else is there: true
    /// if it is.
    fn read_more(&self, source: &mut Brigade<'_>, block: Block, out: &mut Brigade<'_>) -> Result<bool> {
        let may_pass = self.at.get() == At::Before && !self.is_fcgid.get() && self.search.borrow().may_be_passed();
        if !may_pass || self.search.borrow().held().is_empty() {
            return source.read_first(block).map(|_| false);
        }
        match source.read_first(Block::No) {
            Err(status) if status.is_again() => {
                push(out, self.search.borrow_mut().pass());
                Ok(true)
            }
            read => read.map(|_| false),
        }
    }
}

/// The response is about to end, perhaps before its header has gone.
fn before_end(request: Request<'_>, response: &Response, settings: &Settings) {
    let connection = request.connection();
    if connection.is_stream() {
        connection::stream::ending(request);
        return;
    }
    // An error says that the client has gone, as what is passed on next will.
    let _ = connection::begin(request, settings);
    if !response.header_is_made() && connection::after(request, settings) == After::Close {
        request.withdraw_offer();
        if !request.header_values(c"Connection").into_iter().any(mark::has_close) {
            request.announce_close();
        }
    }
}

fn push(brigade: &mut Brigade<'_>, bytes: &[u8]) {
    if !bytes.is_empty() {
        brigade.push_bytes(bytes);
    }
}
