//! The course of a response: what it goes through, from its first brigade to its end.
//!
//! One machine, without httpd in it. The filters and hooks tell it what they see, and do what it orders. What costs something to find
//! out, or changes something, is asked lazily, the place among those in background work last: asking takes it.

use super::declared::{Standing, Watched};
use super::ending::{Ending, Fault, Length, Verdict};
use super::mark::Source;

/// How far a response is. `E` is the status by which writing fails.
pub enum Phase<E> {
    /// Nothing of it has been seen.
    Undecided,
    /// It ends when its handler ends, as on stock httpd, unless it is marked late.
    Ordinary,
    /// The same, whatever may be said later: somebody said `off`, or its end has been passed on.
    Settled,
    /// It is passed on as it is, and believed to end where the application has declared.
    Declared(Watched),
    /// It is to end early.
    Marked(Marked),
    /// The same, while the filter works on a brigade of it: whoever writes meanwhile writes past the mark.
    Walking,
    /// Its end is being passed on. What a filter below has to say instead goes past the mark.
    Ending,
    /// It has ended: what comes now reaches nobody.
    Finished,
    /// It could not be ended: the client has gone, and writing gives this.
    Failed(E),
}

/// A response that is to end early.
pub struct Marked {
    /// Where.
    pub ending: Ending,
    /// True if the C function has been called: at the next flush, if that comes first.
    pub at_flush: bool,
    /// Who said so.
    pub source: Source,
    /// False where `off` came later, or where too many others are in background work: then it ends with its handler, held
    /// to what the client was told, and not more.
    pub early: bool,
    /// The last of the body, while a client waits that still sends its request's.
    pub held: Option<u8>,
    /// True if `off` came later: the application is not to go on without its client either.
    pub off: bool,
}

impl Marked {
    /// A response that ends there, as `source` said.
    pub const fn new(ending: Ending, source: Source, early: bool) -> Self {
        Self { ending, at_flush: false, source, early, held: None, off: false }
    }

    /// True if a flush ends it.
    pub const fn ends_at_flush(&self) -> bool {
        self.at_flush || self.ending.ends_at_flush()
    }
}

/// What is seen of a response.
pub enum Seen<'a, E> {
    /// Something was said about it, or nothing: a brigade has come.
    Said(Said),
    /// A brigade of a declared body has been looked through.
    Looked {
        /// How the body stands to what was declared.
        standing: Standing,
        /// The handler has paused behind the brigade.
        paused: bool,
        /// The handler's own end is in it.
        has_eos: bool,
    },
    /// That brigade has been passed on, and the body is where it was declared to end.
    DeclaredEnd(&'a mut dyn Ask),
    /// A marked body has come so far.
    Reached(Marked, Reached, &'a mut dyn Ask),
    /// The end has been passed on.
    Ended,
    /// What was ordered last has failed.
    Failed(E),
    /// The client has gone; `Continue` is configured, or it is not; and passing on has `failed`, or it has not.
    ClientGone {
        /// `FinishRequestOnAbort Continue`.
        continues: bool,
        /// The filters below have said so.
        failed: bool,
    },
}

/// What was said about a response.
pub enum Said {
    /// Nothing, or nothing new.
    Nothing,
    /// `off`.
    Off,
    /// Where the body ends, by the application's own headers.
    Declared(Watched),
    /// A mark.
    Mark(Marked),
    /// The C function: now, whatever was said before.
    Now,
}

/// Where a walk along a marked body has come to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reached {
    /// The brigade is used up, and the response goes on.
    More,
    /// The response ends here; what is left in the brigade does not belong to it.
    End,
    /// The handler has ended, and the response has not: EOS is the first of the brigade.
    HandlerEnd,
    /// The handler has failed with a part of the response out, behind which httpd would send an error page: so is EOS here.
    HandlerFailed,
    /// The body is not what it claims to be.
    Broken(Fault),
    /// A filter below has not taken what was passed on, or has ended the response by itself.
    Refused(Refused),
    /// What was to be passed on or read has failed.
    Error,
}

/// What a filter below has done with a response that is not at its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// It has failed, or answered in the application's stead.
    Failed,
    /// It has passed the end on.
    Ended,
}

/// What the course wants to know where it depends on it.
pub trait Ask {
    /// True if the handler ends together with the body, and no script works on.
    fn handler_ends(&mut self) -> bool;
    /// True if the handler's end is in what is to be passed on.
    fn has_eos(&mut self) -> bool;
    /// True if the program still waits for the request's body: an end now would have it wait for the rest.
    fn waits_for_body(&mut self) -> bool;
    /// True if the client's connection may do without its request's handler.
    fn may_end(&mut self) -> bool;
    /// True if fewer bytes have come than the client was told, or its chunks have no end.
    fn is_short(&mut self, ending: &Ending) -> bool;
    /// True if the request has a place among those in background work, or gets one now: of a response that is only believed to be at its
    /// end nothing is said where there is none.
    fn has_place(&mut self, source: Source) -> bool;
}

/// What is to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order<E> {
    /// Passes the brigade on as it is.
    PassOn,
    /// Looks through it first, and tells.
    Look,
    /// Walks along it, and tells where it has come to.
    Walk,
    /// Discards it, with success.
    Discard,
    /// Discards it, and fails with this.
    Refuse(E),
    /// Passes it on, and asks for the end then.
    PassOnAndEnd,
    /// Nothing more for now: gives what passing on gave.
    Return,
    /// Nothing more, until the request's body has been read: then a flush comes.
    AwaitBody,
    /// Passes on what belongs to the response, discards the rest, and tells when the handler has ended.
    WaitForHandler,
    /// Passes on all, to the handler's own end.
    EndWithHandler,
    /// The same; the handler may yet work on.
    EndWithHandlerAndWatch,
    /// The declared end is the end.
    FinishDeclared,
    /// Ends the response here.
    Finish,
    /// Ends it here, so that the client sees that it is cut: none for one that is too short.
    Cut(Option<Fault>),
    /// Ends it as the filter below has it.
    FinishRefused(Refused),
    /// Cuts the request off from its client, and discards the rest.
    Detach,
    /// The handler is to see that the client has gone.
    TellHandler,
}

/// What follows when something is seen: what is to be done, and how far the response is then.
pub fn next<E: Copy>(phase: Phase<E>, seen: Seen<'_, E>) -> (Order<E>, Phase<E>) {
    match (phase, seen) {
        (phase, Seen::Said(said)) => decided(phase, said),
        (Phase::Declared(watched), Seen::Looked { standing, paused, has_eos }) => match standing {
            Standing::Wrong => (Order::PassOn, Phase::Ordinary),
            _ if has_eos => (Order::PassOn, Phase::Settled),
            Standing::AtEnd if paused => (Order::PassOnAndEnd, Phase::Declared(watched)),
            _ => (Order::PassOn, Phase::Declared(watched)),
        },
        (Phase::Declared(watched), Seen::DeclaredEnd(ask)) => {
            if ask.waits_for_body() {
                (Order::AwaitBody, Phase::Declared(watched))
            } else if ask.may_end() && ask.has_place(Source::Auto) {
                (Order::FinishDeclared, Phase::Ending)
            } else {
                (Order::Return, Phase::Settled)
            }
        }
        (phase, Seen::Looked { .. }) => (Order::PassOn, phase),
        (phase, Seen::DeclaredEnd(_)) => (Order::Return, phase),
        (_, Seen::Reached(marked, reached, ask)) => walked(marked, reached, ask),
        (_, Seen::Ended) => (Order::Return, Phase::Finished),
        (_, Seen::Failed(error)) => (Order::Refuse(error), Phase::Failed(error)),
        (phase, Seen::ClientGone { continues, failed }) => {
            let goes_on = match &phase {
                Phase::Marked(marked) => !marked.off,
                Phase::Declared(_) => true,
                Phase::Failed(_) => failed,
                _ => false,
            };
            match phase {
                _ if goes_on && continues => (Order::Detach, Phase::Finished),
                Phase::Finished => (Order::Return, Phase::Finished),
                phase => (Order::TellHandler, phase),
            }
        }
    }
}

/// The same where a brigade has come and nothing is said: what is to be done, and how far the response is then. The phase stays where it is, as this is
/// asked for each brigade of each response.
pub fn nothing_said<E: Copy>(phase: &mut Phase<E>) -> Order<E> {
    if let Phase::Undecided = phase {
        *phase = Phase::Ordinary;
    }
    order(phase)
}

/// A brigade has come, and with it perhaps a word.
fn decided<E: Copy>(mut phase: Phase<E>, said: Said) -> (Order<E>, Phase<E>) {
    if let Said::Nothing = said {
        return (nothing_said(&mut phase), phase);
    }
    let phase = match (phase, said) {
        (Phase::Undecided | Phase::Ordinary | Phase::Declared(_), Said::Off) => Phase::Settled,
        (Phase::Undecided | Phase::Ordinary | Phase::Declared(_), Said::Mark(marked)) => Phase::Marked(marked),
        (Phase::Undecided, Said::Declared(watched)) => Phase::Declared(watched),
        (Phase::Undecided, _) => Phase::Ordinary,
        // The client was told nothing.
        (Phase::Marked(marked), Said::Off) if marked.ending.ends_at_flush() => Phase::Settled,
        (Phase::Marked(marked), Said::Off) => Phase::Marked(Marked { early: false, off: true, ..marked }),
        (Phase::Marked(marked), Said::Now) if marked.early => {
            // What is behind an end that has come, or framing, stays what it is.
            Phase::Marked(Marked { at_flush: true, source: Source::Api, ..marked })
        }
        (phase, _) => phase,
    };
    (order(&phase), phase)
}

/// What is done with a brigade.
const fn order<E: Copy>(phase: &Phase<E>) -> Order<E> {
    match phase {
        Phase::Undecided | Phase::Ordinary | Phase::Settled | Phase::Walking | Phase::Ending => Order::PassOn,
        Phase::Declared(_) => Order::Look,
        Phase::Marked(_) => Order::Walk,
        Phase::Finished => Order::Discard,
        Phase::Failed(error) => Order::Refuse(*error),
    }
}

/// The walk along a brigade of a marked response has come to where it had to stop.
fn walked<E: Copy>(mut marked: Marked, reached: Reached, ask: &mut dyn Ask) -> (Order<E>, Phase<E>) {
    match reached {
        Reached::More | Reached::Error => (Order::Return, Phase::Marked(marked)),
        Reached::Broken(fault) => (Order::Cut(Some(fault)), Phase::Ending),
        Reached::HandlerEnd => with_handler(marked, ask),
        Reached::HandlerFailed => handler_failed(marked),
        Reached::End if ask.handler_ends() => with_handler(marked, ask),
        Reached::End => {
            let waits = marked.early && ask.waits_for_body();
            marked.early = marked.early && (waits || ask.has_place(marked.source));
            if waits || !marked.early {
                if marked.ends_at_flush() {
                    // The next flush is not another end.
                    marked.ending = Ending::Length(Length::new(0));
                    marked.at_flush = false;
                }
                (Order::WaitForHandler, Phase::Marked(marked))
            } else if ask.is_short(&marked.ending) {
                (Order::Cut(None), Phase::Ending)
            } else {
                (Order::Finish, Phase::Ending)
            }
        }
        Reached::Refused(refused) => {
            if marked.early && !ask.waits_for_body() && ask.has_place(marked.source) {
                return (Order::FinishRefused(refused), Phase::Ending);
            }
            match refused {
                // What comes behind the end is not the client's.
                Refused::Ended => (Order::Discard, Phase::Finished),
                Refused::Failed => (Order::Return, Phase::Marked(marked)),
            }
        }
    }
}

/// There is nothing to gain: the response goes on as it would without the module. Cut, where it is short.
fn with_handler<E: Copy>(marked: Marked, ask: &mut dyn Ask) -> (Order<E>, Phase<E>) {
    if ask.is_short(&marked.ending) {
        (Order::Cut(None), Phase::Ending)
    } else if !marked.off && ask.has_eos() {
        // A handler may end its response by itself, and work on. What it writes then would go raw behind the response.
        (Order::EndWithHandlerAndWatch, Phase::Ending)
    } else {
        (Order::EndWithHandler, Phase::Settled)
    }
}

/// The error page is for nobody: behind a part it would be taken for the rest, behind the whole for the next response. Where only a flush ends
/// the response it is what it is on stock httpd, the last of the body.
fn handler_failed<E: Copy>(mut marked: Marked) -> (Order<E>, Phase<E>) {
    match (marked.ending.next(&[]), marked.ending) {
        (_, Ending::Flush | Ending::Never) => (Order::Return, Phase::Settled),
        (Verdict::End, _) => (Order::EndWithHandlerAndWatch, Phase::Ending),
        _ => (Order::Cut(None), Phase::Ending),
    }
}

#[cfg(test)]
mod tests;
