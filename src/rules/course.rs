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
    } else if marked.early && ask.has_eos() {
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
mod tests {
    use super::super::declared::{Declared, Pause};
    use super::*;
    use proptest::prelude::*;
    use proptest::sample::select;

    /// The table in the manual for developers.
    const TABLE: &str = include_str!("../../docs/course.md");

    /// The status of a client that has gone.
    const GONE: i32 = 103;

    /// What is answered, and how often the place was asked for.
    #[derive(Default)]
    struct Answers {
        text: String,
        asked_for_place: u32,
        asked_after_place: bool,
    }

    impl Answers {
        fn says(&mut self, word: &str) -> bool {
            self.asked_after_place |= self.asked_for_place > 0;
            self.text.contains(word)
        }
    }

    impl Ask for Answers {
        fn handler_ends(&mut self) -> bool {
            self.says("with the handler")
        }

        fn has_eos(&mut self) -> bool {
            self.says("EOS at hand")
        }

        fn waits_for_body(&mut self) -> bool {
            self.says("body unread")
        }

        fn may_end(&mut self) -> bool {
            !self.says("connection needs the handler")
        }

        fn is_short(&mut self, _ending: &Ending) -> bool {
            self.text.contains("short")
        }

        fn has_place(&mut self, _source: Source) -> bool {
            let has = !self.says("no place");
            self.asked_for_place += 1;
            has
        }
    }

    fn watched() -> Watched {
        Watched { declared: Declared::length(5), pause: Pause::Flush }
    }

    fn marked(name: &str) -> Marked {
        let ending = if name.contains("at a flush") { Ending::Flush } else { Ending::Length(Length::new(5)) };
        Marked::new(ending, Source::Header, !name.contains("not early"))
    }

    fn phase(name: &str) -> Option<Phase<i32>> {
        Some(match name {
            "Undecided" => Phase::Undecided,
            "Ordinary" => Phase::Ordinary,
            "Settled" => Phase::Settled,
            "Declared" => Phase::Declared(watched()),
            "Marked" | "Marked, not early" | "Marked, at a flush" => Phase::Marked(marked(name)),
            "Walking" => Phase::Walking,
            "Ending" => Phase::Ending,
            "Finished" => Phase::Finished,
            "Failed" => Phase::Failed(GONE),
            _ => return None,
        })
    }

    fn name(phase: &Phase<i32>) -> &'static str {
        match phase {
            Phase::Undecided => "Undecided",
            Phase::Ordinary => "Ordinary",
            Phase::Settled => "Settled",
            Phase::Declared(_) => "Declared",
            Phase::Marked(marked) if !marked.early => "Marked, not early",
            Phase::Marked(marked) if marked.ends_at_flush() => "Marked, at a flush",
            Phase::Marked(_) => "Marked",
            Phase::Walking => "Walking",
            Phase::Ending => "Ending",
            Phase::Finished => "Finished",
            Phase::Failed(_) => "Failed",
        }
    }

    const PHASES: [&str; 11] = [
        "Undecided",
        "Ordinary",
        "Settled",
        "Declared",
        "Marked",
        "Marked, not early",
        "Marked, at a flush",
        "Walking",
        "Ending",
        "Finished",
        "Failed",
    ];

    const SEEN: [&str; 22] = [
        "nothing said",
        "off",
        "declared",
        "a mark",
        "the C function",
        "looked: open",
        "looked: at the end",
        "looked: at the end, paused",
        "looked: wrong",
        "looked: EOS",
        "declared end",
        "more",
        "error",
        "end",
        "handler's end",
        "handler failed",
        "broken",
        "refused",
        "ended below",
        "ended",
        "failed",
        "client gone",
    ];

    const ANSWERS: [&str; 7] = [
        "with the handler",
        "EOS at hand",
        "body unread",
        "connection needs the handler",
        "short",
        "no place",
        "Continue, failed",
    ];

    /// A step; where the phase is a mark and a walk has ended, the mark has been taken out for it.
    fn step(from: &str, seen: &str, answers: &mut Answers) -> Option<(String, Phase<i32>)> {
        let before = phase(from)?;
        let (what, answer) = seen.split_once("; ").unwrap_or((seen, ""));
        answers.text = answer.to_owned();
        let looked = |standing, paused, has_eos| Seen::Looked { standing, paused, has_eos };
        let reached = match what {
            "more" => Some(Reached::More),
            "error" => Some(Reached::Error),
            "end" => Some(Reached::End),
            "handler's end" => Some(Reached::HandlerEnd),
            "handler failed" => Some(Reached::HandlerFailed),
            "broken" => Some(Reached::Broken(Fault::Size)),
            "refused" => Some(Reached::Refused(Refused::Failed)),
            "ended below" => Some(Reached::Refused(Refused::Ended)),
            _ => None,
        };
        let seen = match what {
            "nothing said" => Seen::Said(Said::Nothing),
            "off" => Seen::Said(Said::Off),
            "declared" => Seen::Said(Said::Declared(watched())),
            "a mark" => Seen::Said(Said::Mark(marked(""))),
            "the C function" => Seen::Said(Said::Now),
            "looked: open" => looked(Standing::Open, true, false),
            "looked: at the end" => looked(Standing::AtEnd, false, false),
            "looked: at the end, paused" => looked(Standing::AtEnd, true, false),
            "looked: wrong" => looked(Standing::Wrong, true, false),
            "looked: EOS" => looked(Standing::AtEnd, true, true),
            "declared end" => Seen::DeclaredEnd(answers),
            "ended" => Seen::Ended,
            "failed" => Seen::Failed(GONE),
            "client gone" => {
                Seen::ClientGone { continues: answer.contains("Continue"), failed: answer.contains("failed") }
            }
            _ => match before {
                Phase::Marked(marked) => Seen::Reached(marked, reached?, answers),
                _ => return None,
            },
        };
        let before = if reached.is_some() { Phase::Walking } else { phase(from)? };
        let (order, after) = next(before, seen);
        let order = match order {
            Order::Refuse(status) => {
                assert_eq!(status, GONE);
                "Refuse".to_owned()
            }
            order => format!("{order:?}"),
        };
        Some((order, after))
    }

    fn rows() -> Vec<[&'static str; 4]> {
        let cells =
            |line: &'static str| line.trim_matches('|').split('|').map(str::trim).collect::<Vec<_>>().try_into().ok();
        TABLE
            .split("\n## ")
            .next()
            .unwrap_or_default()
            .lines()
            .filter(|line| line.starts_with('|'))
            .skip(2)
            .filter_map(cells)
            .collect()
    }

    #[test]
    fn each_row_of_the_table_is_so() {
        let rows = rows();
        assert!(rows.len() > 50);
        for [from, seen, order, to] in &rows {
            let Some((ordered, after)) = step(from, seen, &mut Answers::default()) else {
                unreachable!("'{from}' or '{seen}' has no meaning")
            };
            assert_eq!((&*ordered, name(&after)), (*order, *to), "{from}: {seen}");
        }
        for word in PHASES {
            assert!(rows.iter().any(|row| row[0] == word || row[3] == word), "no row has the phase {word}");
        }
        for word in SEEN {
            assert!(rows.iter().any(|row| row[1].split("; ").next() == Some(word)), "no row has {word}");
        }
    }

    #[test]
    fn the_c_function_opens_no_body_that_has_ended() {
        let ended = Marked::new(Ending::Length(Length::new(0)), Source::Header, true);
        let (_, after) = next(Phase::<i32>::Marked(ended), Seen::Said(Said::Now));
        let Phase::Marked(mut marked) = after else { unreachable!() };
        assert_eq!(marked.ending.next(b"behind the end"), Verdict::End);
        let (order, after) =
            walked::<i32>(marked, Reached::End, &mut Answers { text: "body unread".to_owned(), ..Answers::default() });
        let Phase::Marked(marked) = after else { unreachable!() };
        assert!(order == Order::WaitForHandler && !marked.ends_at_flush());
    }

    #[test]
    fn an_error_page_behind_the_whole_response_is_for_nobody() {
        let whole = Marked::new(Ending::Length(Length::new(0)), Source::Header, false);
        let (order, after) = walked::<i32>(whole, Reached::HandlerFailed, &mut Answers::default());
        assert!(order == Order::EndWithHandlerAndWatch && name(&after) == "Ending");
    }

    proptest! {
        /// Whatever is seen in whatever order, what has ended stays ended, nothing said later wakes what is settled, and a place is asked for
        /// once at most, and last.
        #[test]
        fn no_way_leads_back(seen in proptest::collection::vec((select(&SEEN[..]), select(&ANSWERS[..]), any::<bool>()), 1..30)) {
            let mut now = "Undecided";
            for (seen, answer, answered) in seen {
                let seen = if answered { format!("{seen}; {answer}") } else { seen.to_owned() };
                let mut answers = Answers::default();
                let Some((order, after)) = step(now, &seen, &mut answers) else { continue };
                let after = name(&after);
                prop_assert!(answers.asked_for_place <= 1 && !answers.asked_after_place, "{now}: {seen}");
                if !matches!(seen.split(';').next(), Some("ended" | "failed")) {
                    match now {
                        "Finished" => prop_assert_eq!(after, "Finished"),
                        "Failed" => prop_assert!(after == "Failed" || after == "Finished"),
                        "Ending" | "Settled" => prop_assert_eq!(after, now),
                        _ => {}
                    }
                }
                let ends = order.starts_with("Finish") || order.starts_with("Cut") || order == "EndWithHandlerAndWatch";
                prop_assert_eq!(ends, after == "Ending" && now != "Ending", "{}: {}", now, seen);
                now = after;
            }
        }
    }
}
