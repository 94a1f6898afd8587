//! A declared end in what a program outside httpd sends, of which httpd does not know how much there is (a pipe, mod_fcgid's records).
//!
//! Nothing of it is read before its turn comes: a bucket of the module's own stands in its place, and reads from it when, and as, it is
//! read itself. Where the body is at its declared end and the program has no more at hand, the bucket ends.

use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;

use super::Response;
use super::late::Rule;
use crate::connection::{self, poll};
use crate::handlers::cgi_script;
use crate::handlers::fcgid::NextRecord;
use crate::httpd::{
    Block, BorrowedBrigade, Brigade, BrigadeRecord, Kind, Pull, Request, RequestRecord, Result, Status,
};
use crate::rules::course::{Ask, Order, Seen};
use crate::rules::declared::Standing;
use crate::rules::ending::Ending;
use crate::rules::mark::Source;

/// What a bucket in its place reads from.
pub struct StandIn {
    request: RequestRecord,
    source: BrigadeRecord,
    at: Cell<At>,
    /// True if mod_fcgid's buckets are read, which can only be waited for.
    is_fcgid: bool,
}

/// How far the bucket has been read: no second course. The course is asked once, where the body is at its declared end; what it ordered is
/// kept here, as the bucket is read again while the end is on its way.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum At {
    /// Before its end.
    Before,
    /// At its end, which is being passed on.
    End,
    /// Behind it.
    Behind,
}

impl Response {
    /// Puts a bucket in the place of the first that has data of unknown length, and of all behind it up to the end of the stream. `is_fcgid` says
    /// that mod_fcgid's filter is to have it next.
    pub fn stand_in(&self, request: Request<'_>, brigade: &mut Brigade<'_>, is_fcgid: bool) {
        if self.declared.get().is_some() {
            return;
        }
        self.drop_at_end(request);
        brigade.beside(|brigade, rest| {
            brigade.move_all(rest);
            while let Some(kind) = rest.first() {
                if kind == Kind::Data(None) {
                    let stand_in = self.declared.get_or_init(|| {
                        Rc::new(StandIn {
                            request: RequestRecord::of(request),
                            source: BrigadeRecord::new(request),
                            at: Cell::new(At::Before),
                            is_fcgid,
                        })
                    });
                    let mut source = stand_in.source();
                    while rest.first().is_some_and(|kind| kind != Kind::Eos) {
                        rest.move_first(&mut source);
                    }
                    brigade.push_pulled(Rc::clone(stand_in));
                    break;
                }
                rest.move_first(brigade);
            }
            rest.move_all(brigade);
        });
    }
}

impl StandIn {
    /// How far the output is.
    pub fn at(&self) -> At {
        self.at.get()
    }

    /// The end has been passed on.
    pub fn note_ended(&self) {
        self.at.set(At::Behind);
    }

    /// What is left of the program's output.
    pub fn source(&self) -> BorrowedBrigade<'_> {
        self.source.borrow()
    }

    /// The next data, of known length, is to be passed on.
    fn look_at_first(&self, source: &mut Brigade<'_>, response: &Response) -> Result {
        let looked = response.watch(|watched| {
            let declared = &mut watched.declared;
            if let Some(Kind::Data(Some(length))) = source.first() {
                watched.pieces.note(length);
                match declared.reads() {
                    true => declared.take(source.read_first(Block::Yes)?),
                    false => declared.count(length),
                }
            }
            Ok(declared.standing())
        });
        let Some(standing) = looked else { return Ok(()) };
        let standing = standing?;
        response.step(Seen::Looked { standing, paused: false, has_eos: false });
        if let (Standing::Wrong, Some(awaited)) = (standing, response.awaited.get()) {
            awaited.set_rule(Rule::End);
        }
        Ok(())
    }

    /// The program's output is at its end. A script of mod_cgi that has closed it and works on is let do so, where its body is what it declared.
    fn end_of_source(&self, request: Request<'_>, response: &Response) {
        let is_whole = response.watch(|watched| watched.declared.standing()) == Some(Standing::AtEnd);
        if is_whole && cgi_script::works_on(request, response.handler) {
            self.end(request, response);
        }
    }

    /// Returns true if the response ends here, where it was declared to.
    fn end(&self, request: Request<'_>, response: &Response) -> bool {
        let ends = response.step(Seen::DeclaredEnd(&mut Believed { request, response })) == Order::FinishDeclared;
        if ends {
            if request.connection().is_stream() {
                connection::stream::ending(request);
            }
            self.at.set(At::End);
        }
        ends
    }

    /// The body is at its declared end: whether it ends here, as the program has no more at hand. Otherwise that has been read.
    fn ends(&self, source: &mut Brigade<'_>, block: Block, request: Request<'_>, response: &Response) -> Result<bool> {
        if self.is_fcgid {
            if is_cut(source, request, response) {
                return source.read_first(block).map(|_| false);
            }
        } else {
            match source.read_first(Block::No) {
                Err(status) if status.is_again() => {}
                read => return read.map(|_| false),
            }
            if block == Block::No {
                return Err(Status::AGAIN);
            }
        }
        if self.end(request, response) {
            return Ok(true);
        }
        source.read_first(block).map(|_| false)
    }
}

/// How long a program may take between two records that it makes of one text, on a busy machine.
const BETWEEN: Duration = Duration::from_millis(200);

/// Whether mod_fcgid's program has made two records of what was one text, and the second comes.
fn is_cut(source: &Brigade<'_>, request: Request<'_>, response: &Response) -> bool {
    response.watch(|watched| watched.may_be_cut()) == Some(true)
        && source.ahead::<NextRecord>(request).is_some_and(|ahead| poll::is_at_hand(&ahead, BETWEEN))
}

impl Pull for StandIn {
    fn read(&self, block: Block, out: &mut Brigade<'_>) -> Result<bool> {
        let (mut source, request) = (self.source(), self.request.get());
        let Some(response) = Response::of(request) else { return Ok(false) };
        loop {
            if self.at.get() != At::Before {
                return Ok(false);
            }
            match source.first() {
                None if !out.is_empty() => return Ok(true),
                None => {
                    self.end_of_source(request, response);
                    return Ok(false);
                }
                Some(Kind::Data(None)) if !out.is_empty() => return Ok(true),
                Some(Kind::Data(None)) => {
                    let standing = response.watch(|watched| watched.declared.standing());
                    if standing != Some(Standing::AtEnd) {
                        source.read_first(block)?;
                    } else if self.ends(&mut source, block, request, response)? {
                        return Ok(false);
                    }
                }
                Some(Kind::Data(Some(0))) => source.delete_first(),
                Some(_) => {
                    self.look_at_first(&mut source, response)?;
                    source.move_first(out);
                }
            }
        }
    }
}

/// What there is to know of a response whose end is believed to be there.
pub struct Believed<'f> {
    /// The request.
    pub request: Request<'f>,
    /// Its response.
    pub response: &'f Response,
}

impl Ask for Believed<'_> {
    fn handler_ends(&mut self) -> bool {
        false
    }

    fn has_eos(&mut self) -> bool {
        false
    }

    fn waits_for_body(&mut self) -> bool {
        self.response.waits_for_body(self.request)
    }

    fn may_end(&mut self) -> bool {
        self.request.is_last() || connection::may_go_on(self.request)
    }

    fn is_short(&mut self, _ending: &Ending) -> bool {
        false
    }

    fn has_place(&mut self, source: Source) -> bool {
        self.response.background.claim(self.request, source)
    }
}
