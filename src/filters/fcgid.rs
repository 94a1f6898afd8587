//! mod_fcgid: its output filter holds a response back until 64 KB or its end, and deletes flushes. Marked responses
//! are streamed instead; all others go through mod_fcgid's own function (`fcgid_filter.c`).

use std::ffi::CStr;
use std::time::Duration;

use crate::connection::poll;
use crate::handlers::fcgid::NextRecord;
use crate::httpd::{Ahead, Block, Brigade, Concern, Filter, Kind, Replaced, Replacement, Request, Result, dir_config};
use crate::response::{Phase, Response, decide::decide};
use crate::rules::course::Order;
use crate::rules::ending::Verdict;

use super::{declared, late};

/// Stands in the place of mod_fcgid's filter, which keeps its name, type and place: mod_fcgid relies on them for a 304.
pub struct Fcgid;

/// True if there is an mod_fcgid.
pub fn is_there() -> bool {
    Fcgid::original().is_there()
}

impl Replacement for Fcgid {
    const OF: &'static CStr = c"FCGID_OUT";

    fn original() -> &'static Replaced {
        static ORIGINAL: Replaced = Replaced::new();
        &ORIGINAL
    }

    fn concerns(request: Request<'_>) -> Concern {
        if Response::is_in_chain_of(request) { Concern::All } else { Concern::Nothing }
    }

    fn pass(filter: Filter<'_>, brigade: &mut Brigade<'_>) -> Result {
        let known = filter.request().and_then(|request| Some((request, Response::of(request)?, dir_config(request)?)));
        let Some((request, response, settings)) = known else { return Self::original().pass(filter, brigade) };
        let order = decide(response, request, settings);
        late::take(response, brigade, true)?;
        if order == Order::Look {
            declared::look_above_fcgid(request, response, brigade)?;
        }
        let (marked, ended) = response.phase(|phase| match phase {
            Phase::Marked(marked) => (true, marked.ending.clone().next(&[]) == Verdict::End),
            phase => (matches!(phase, Phase::Finished), false),
        });
        if marked {
            stream(filter, request, brigade, response, ended)
        } else {
            Self::original().pass(filter, brigade)?;
            late::end_by_itself(filter, request, response)
        }
    }
}

/// How much is collected before it is passed on, as mod_fcgid's filter does (`FcgidOutputBufferSize`).
const COLLECTED: usize = 65_536;

/// A record of so many bytes is one of several, as programs write them that put out much.
const LARGE: usize = 4096;

/// How long the next record may take behind a large one, before what has been collected is passed on.
const PAUSE: Duration = Duration::from_millis(1);

/// Passes on what the program sends, as it comes: what is at hand is collected, and passed on where more must be waited for. `ended` says that the
/// response needs none.
fn stream(
    filter: Filter<'_>,
    request: Request<'_>,
    brigade: &mut Brigade<'_>,
    response: &Response,
    ended: bool,
) -> Result {
    let mut next = request.brigade();
    if ended {
        next.push_flush();
        filter.pass_on(&mut next)?;
    }
    // The last record's length, that of all that have been collected, and how often another may still be waited for.
    let (mut last, mut collected, mut pauses) = (0, 0, COLLECTED / LARGE);
    while let Some(kind) = brigade.first() {
        if let Kind::Data(length) = kind {
            if length.is_none() && !next.is_empty() {
                let patience = if last >= LARGE { &mut pauses } else { &mut 0 };
                let is_at_hand = response.work().is_none() && is_at_hand(request, response, brigade, patience);
                if !is_at_hand {
                    pause(response, &mut next);
                }
                if !is_at_hand || collected >= COLLECTED {
                    filter.pass_on(&mut next)?;
                    next.clear();
                    (collected, pauses) = (0, COLLECTED / LARGE);
                }
            }
            // A record's header turns into an empty bucket, with the record and the next header behind it.
            let length = match response.work() {
                Some(work) => work.read(brigade)?,
                None => brigade.read_first(Block::Yes)?.len(),
            };
            if length == 0 {
                brigade.delete_first();
                continue;
            }
            (last, collected) = (length, collected + length);
        }
        brigade.move_first(&mut next);
    }
    if !next.is_empty() {
        filter.pass_on(&mut next)?;
    }
    filter.remove();
    Ok(())
}

/// True if the first bucket, which is of unknown length, can be read without waiting; or soon, where there is patience for it.
fn is_at_hand(request: Request<'_>, response: &Response, brigade: &Brigade<'_>, patience: &mut usize) -> bool {
    let behind = response.program_output();
    let program = behind.as_deref().unwrap_or(brigade);
    match program.ahead::<NextRecord>(request) {
        Some(ahead) => {
            let pause = if *patience > 0 { PAUSE } else { Duration::ZERO };
            if let Ahead::Socket(_) = ahead {
                *patience = patience.saturating_sub(1);
            }
            poll::is_at_hand(&ahead, pause)
        }
        None => behind.is_some_and(|program| !matches!(program.first(), Some(Kind::Data(None)))),
    }
}

/// The program pauses behind what has been collected, which goes out at once.
fn pause(response: &Response, collected: &mut Brigade<'_>) {
    if let Some(awaited) = response.awaited.get() {
        awaited.pass_held(collected);
    }
    let ends_at_flush = response.phase(|phase| matches!(phase, Phase::Marked(marked) if marked.ending.ends_at_flush()));
    if !ends_at_flush {
        collected.push_flush();
    }
}
