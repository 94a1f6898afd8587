//! The course of a response, driven as the filter drives it: an application writes, flushes, speaks and ends; places are given or not; clients
//! go. What ends stays ended, nobody is let go early who must not be, and the client has what a plain model of the body says.
#![no_main]

use libfuzzer_sys::{arbitrary, arbitrary::Arbitrary, fuzz_target};
use mod_finish_request::rules::course::{self, Ask, Marked, Order, Phase, Reached, Refused, Said, Seen};
use mod_finish_request::rules::declared::{Declared, Pause, Pieces, Standing, Watched};
use mod_finish_request::rules::ending::model::{self, Close};
use mod_finish_request::rules::ending::{Boundary, Chunks, Ending, Length, Verdict};
use mod_finish_request::rules::mark::{Source, Token};

const TOKEN: &[u8] = b"abababababababac";

#[derive(Arbitrary, Clone, Copy, Debug, PartialEq)]
enum End {
    Length(u8),
    Chunks,
    Boundary,
    Flush,
    Never,
}

#[derive(Arbitrary, Debug)]
enum Event<'a> {
    /// The application writes, and httpd answers the course's questions by these bits.
    Write(Part<'a>, u8),
    Flush(u8),
    Mark(End),
    Declare(u8),
    Off,
    Now(u8),
    /// A filter below refuses, or ends the response by itself, while a brigade is passed on.
    Refused(bool, u8),
    /// The end has been passed on; or that has failed.
    Ended(bool),
    ClientGone {
        continues: bool,
        failed: bool,
    },
    /// The handler fails, and httpd is about to send an error page.
    Fails(u8),
}

#[derive(Arbitrary, Debug)]
enum Part<'a> {
    Token { from: u8, to: u8 },
    Chunk(u8),
    LastChunk,
    Other(&'a [u8]),
}

impl Part<'_> {
    fn bytes(&self) -> Vec<u8> {
        match self {
            Part::Token { from, to } => {
                let to = usize::from(*to).min(TOKEN.len());
                TOKEN[usize::from(*from).min(to)..to].to_vec()
            }
            Part::Chunk(size) => format!("{size:x}\r\n{}\r\n", "c".repeat(usize::from(*size))).into_bytes(),
            Part::LastChunk => b"0\r\n\r\n".to_vec(),
            Part::Other(bytes) => bytes.to_vec(),
        }
    }
}

/// What the course asks, answered by bits; and what it has asked.
struct Answers {
    bits: u8,
    asked: bool,
    given: bool,
    said_short: bool,
}

impl Answers {
    const fn new(bits: u8) -> Self {
        Self { bits, asked: false, given: false, said_short: false }
    }

    fn bit(&self, number: u8) -> bool {
        assert!(!self.asked, "something is asked after the place");
        self.bits >> number & 1 != 0
    }
}

impl Ask for Answers {
    fn handler_ends(&mut self) -> bool {
        self.bit(0)
    }

    fn has_eos(&mut self) -> bool {
        self.bits >> 1 & 1 != 0
    }

    fn waits_for_body(&mut self) -> bool {
        self.bit(2)
    }

    fn may_end(&mut self) -> bool {
        self.bit(3)
    }

    fn is_short(&mut self, ending: &Ending) -> bool {
        self.said_short = !ending.is_complete();
        self.said_short
    }

    fn has_place(&mut self, _source: Source) -> bool {
        self.given = self.bit(4);
        self.asked = true;
        self.given
    }
}

/// One response.
struct Response {
    phase: Phase<i32>,
    /// What the application has written since it was marked, and what the client has got of it.
    written: Vec<u8>,
    got: Vec<u8>,
    /// How much was written when a flush ended the response, if one did.
    flushed_at: Option<usize>,
    mark: Option<End>,
    /// The course has let the client go, or has had its response end otherwise: once.
    ends: u32,
    off: bool,
    late: bool,
}

impl Response {
    fn step(&mut self, seen: Seen<'_, i32>) -> Order<i32> {
        let phase = std::mem::replace(&mut self.phase, Phase::Walking);
        let was_ending = matches!(phase, Phase::Ending);
        let was_finished = matches!(phase, Phase::Finished);
        let leaves = matches!(seen, Seen::Ended | Seen::Failed(_));
        let (order, phase) = course::next(phase, seen);
        assert!(!was_finished || matches!(phase, Phase::Finished), "what has ended goes on");
        assert!(!was_ending || leaves || matches!(phase, Phase::Ending), "an end is forgotten");
        self.ends += u32::from(!was_ending && matches!(phase, Phase::Ending));
        assert!(self.ends <= 1, "it ends twice");
        self.phase = phase;
        order
    }

    /// Asks, and looks whether the answers fit what is ordered then.
    fn ask(&mut self, bits: u8, seen: impl FnOnce(&mut Answers) -> Seen<'_, i32>) -> Order<i32> {
        let mut answers = Answers::new(bits);
        // The answers outlive the step: they are looked at behind it.
        let order = {
            let seen = seen(&mut answers);
            self.step(seen)
        };
        let early = matches!(order, Order::Finish | Order::FinishDeclared | Order::FinishRefused(_));
        assert!(!early || answers.given, "{order:?} without a place");
        assert!(!answers.given || early || order == Order::Cut(None), "a place is lost: {order:?}");
        assert!(!early || !(self.off || self.late), "{order:?} for one that is not to end early");
        assert!(!answers.said_short || order == Order::Cut(None), "{order:?} for a body that is short");
        if answers.asked && !answers.given && order == Order::WaitForHandler {
            self.late = true;
        }
        order
    }

    /// What the application says.
    fn say(&mut self, said: Said) -> Order<i32> {
        let order = self.step(Seen::Said(said));
        let fits = match &self.phase {
            Phase::Marked(_) => order == Order::Walk,
            Phase::Declared(_) => order == Order::Look,
            Phase::Finished => order == Order::Discard,
            Phase::Failed(_) => matches!(order, Order::Refuse(_)),
            _ => order == Order::PassOn,
        };
        assert!(fits, "{order:?}");
        order
    }

    fn brigade(&mut self, bytes: &[u8], flush: bool, eos: bool, bits: u8) {
        match self.say(Said::Nothing) {
            Order::Walk => self.walk(bytes, flush, eos, bits),
            Order::Look => self.look(bytes, flush, eos, bits),
            _ => {}
        }
    }

    fn look(&mut self, bytes: &[u8], flush: bool, eos: bool, bits: u8) {
        let Phase::Declared(watched) = &mut self.phase else { unreachable!() };
        watched.declared.take(bytes);
        let standing = watched.declared.standing();
        let seen = Seen::Looked { standing, paused: flush, has_eos: eos };
        let order = self.step(seen);
        assert_eq!(order == Order::PassOnAndEnd, standing == Standing::AtEnd && flush && !eos);
        if order == Order::PassOnAndEnd {
            let order = self.ask(bits, |answers| Seen::DeclaredEnd(answers));
            assert!(matches!(order, Order::FinishDeclared | Order::AwaitBody | Order::Return));
        }
    }

    /// As the filter does: byte by byte where the ending wants them, and then the course is told.
    fn walk(&mut self, bytes: &[u8], flush: bool, eos: bool, bits: u8) {
        let Phase::Marked(mut marked) = std::mem::replace(&mut self.phase, Phase::Walking) else { unreachable!() };
        self.written.extend(bytes);
        let mut rest = bytes;
        let mut reached = loop {
            match marked.ending.next(rest) {
                Verdict::Pass(count) => {
                    self.got.extend(&rest[..count]);
                    rest = &rest[count..];
                }
                Verdict::Drop(count) => rest = &rest[count..],
                Verdict::Restore(count) => self.got.extend(&marked.ending.token()[..count]),
                Verdict::More if flush && marked.ends_at_flush() => {
                    self.got.extend(marked.ending.held());
                    self.flushed_at.get_or_insert(self.written.len());
                    break Reached::End;
                }
                Verdict::More => break Reached::More,
                Verdict::End => break Reached::End,
                Verdict::Broken(fault) => break Reached::Broken(fault),
            }
        };
        if eos && reached == Reached::More {
            self.got.extend(marked.ending.held());
            reached = Reached::HandlerEnd;
        }
        // Only a handler that ends here ends with its body.
        let bits = if eos { bits | 1 } else { bits & !1 };
        self.arrive(marked, reached, eos, bits);
    }

    fn arrive(&mut self, marked: Marked, reached: Reached, eos: bool, bits: u8) {
        let order = self.ask(bits, |answers| Seen::Reached(marked, reached, answers));
        let fits = match reached {
            Reached::More | Reached::Error => order == Order::Return,
            Reached::Broken(fault) => order == Order::Cut(Some(fault)),
            Reached::HandlerEnd => {
                matches!(order, Order::EndWithHandler | Order::EndWithHandlerAndWatch | Order::Cut(None))
            }
            Reached::HandlerFailed => {
                matches!(order, Order::Return | Order::EndWithHandlerAndWatch | Order::Cut(None))
            }
            Reached::End if eos => {
                matches!(order, Order::EndWithHandler | Order::EndWithHandlerAndWatch | Order::Cut(None))
            }
            Reached::End => matches!(order, Order::Finish | Order::WaitForHandler | Order::Cut(None)),
            Reached::Refused(refused) => {
                matches!(order, Order::FinishRefused(_))
                    || order == if refused == Refused::Ended { Order::Discard } else { Order::Return }
            }
        };
        assert!(fits, "{order:?} at {reached:?}");
        if order == Order::WaitForHandler {
            let Phase::Marked(marked) = &self.phase else { unreachable!() };
            assert!(!marked.ends_at_flush(), "the next flush would be another end");
            if eos {
                let Phase::Marked(marked) = std::mem::replace(&mut self.phase, Phase::Walking) else { unreachable!() };
                self.arrive(marked, Reached::HandlerEnd, true, bits);
            }
        }
    }

    fn fails(&mut self, bits: u8) {
        match std::mem::replace(&mut self.phase, Phase::Walking) {
            Phase::Marked(marked) => {
                self.got.extend(marked.ending.held());
                self.arrive(marked, Reached::HandlerFailed, true, bits);
            }
            phase => self.phase = phase,
        }
    }

    /// The client has the body, to its end or to where it has come, and no byte behind it.
    fn check(&self) {
        // What is written behind that is not looked at.
        let written = &self.written[..self.flushed_at.unwrap_or(self.written.len())];
        let expected = match self.mark {
            Some(End::Length(length)) => model::length(length.into(), written),
            Some(End::Boundary) => model::boundary(TOKEN, written),
            Some(End::Chunks) => model::chunks(written),
            _ => model::Outcome { body: written.to_vec(), close: Close::Open },
        };
        let body = expected.body;
        assert!(body.starts_with(&self.got), "the client has bytes that are not its own");
        let kept = if self.mark == Some(End::Boundary) && self.flushed_at.is_none() { TOKEN.len() - 1 } else { 0 };
        assert!(body.len() - self.got.len() <= kept, "the client lacks bytes");
    }
}

fuzz_target!(|events: Vec<Event<'_>>| {
    let mut response = Response {
        phase: Phase::Undecided,
        written: Vec::new(),
        got: Vec::new(),
        flushed_at: None,
        mark: None,
        ends: 0,
        off: false,
        late: false,
    };
    for event in &events {
        match event {
            Event::Write(part, bits) => response.brigade(&part.bytes(), false, false, *bits),
            Event::Flush(bits) => response.brigade(b"", true, false, *bits),
            Event::Fails(bits) => response.fails(*bits),
            Event::Mark(end) => {
                let ending = match end {
                    End::Length(length) => Ending::Length(Length::new((*length).into())),
                    End::Chunks => Ending::Chunks(Chunks::new()),
                    End::Boundary => Ending::Boundary(Boundary::new(Token::new(TOKEN).unwrap())),
                    End::Flush => Ending::Flush,
                    End::Never => Ending::Never,
                };
                let may = matches!(response.phase, Phase::Undecided | Phase::Ordinary | Phase::Declared(_));
                response.say(Said::Mark(Marked::new(ending, Source::Header, true)));
                assert_eq!(may, matches!(response.phase, Phase::Marked(_)) && response.mark.is_none());
                if may {
                    response.mark = Some(*end);
                }
            }
            Event::Declare(length) => {
                let watched = Watched { declared: Declared::length((*length).into()), pause: Pause::Flush, pieces: Pieces::default() };
                response.say(Said::Declared(watched));
            }
            Event::Off => {
                // What has been ordered is ordered.
                response.off |= !matches!(response.phase, Phase::Ending | Phase::Finished | Phase::Failed(_));
                response.say(Said::Off);
            }
            Event::Now(bits) => {
                // The C function flushes.
                if let Order::Walk = response.say(Said::Now) {
                    response.walk(b"", true, false, *bits);
                }
            }
            Event::Refused(ended, bits) => {
                if let Order::Walk = response.say(Said::Nothing) {
                    let phase = std::mem::replace(&mut response.phase, Phase::Walking);
                    let Phase::Marked(marked) = phase else { unreachable!() };
                    let refused = if *ended { Refused::Ended } else { Refused::Failed };
                    response.arrive(marked, Reached::Refused(refused), false, *bits);
                }
            }
            Event::Ended(well) => {
                if matches!(response.phase, Phase::Ending) {
                    response.step(if *well { Seen::Ended } else { Seen::Failed(103) });
                }
            }
            Event::ClientGone { continues, failed } => {
                let was_off = matches!(&response.phase, Phase::Marked(marked) if marked.off);
                let order = response.step(Seen::ClientGone { continues: *continues, failed: *failed });
                assert!(
                    order != Order::Detach || (*continues && !was_off && matches!(response.phase, Phase::Finished))
                );
            }
        }
    }
    // The handler's end.
    response.brigade(b"", false, true, 0b10);
    response.check();
});
