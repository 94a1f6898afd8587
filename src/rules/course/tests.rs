use super::super::declared::{Declared, Pause, Pieces};
use super::*;
use proptest::prelude::*;
use proptest::sample::select;

/// The table in the manual for developers.
const TABLE: &str = include_str!("../../../docs/course.md");

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
    Watched { declared: Declared::length(5), pause: Pause::Flush, pieces: Pieces::default() }
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
        "client gone" => Seen::ClientGone { continues: answer.contains("Continue"), failed: answer.contains("failed") },
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
