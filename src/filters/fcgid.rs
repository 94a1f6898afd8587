//! mod_fcgid: its output filter holds a response back until 64 KB or its end, and deletes flushes. Marked responses
//! are streamed instead; all others go through mod_fcgid's own function (`fcgid_filter.c`).

use crate::httpd::{Block, Brigade, Filter, Kind, Replaced, Request, RequestConfig, Result, dir_config, output_filter};
use crate::response::{Phase, Response, decide::decide};
use crate::rules::ending::Verdict;
use crate::sys;

static ORIGINAL: Replaced = Replaced::new();

/// Puts this module's function in the place of mod_fcgid's, if that is loaded. The filter keeps its name, type and place,
/// which mod_fcgid relies on for a 304.
pub fn take_over() {
    ORIGINAL.replace(c"FCGID_OUT", filter);
}

unsafe extern "C" fn filter(filter: *mut sys::ap_filter_t, brigade: *mut sys::apr_bucket_brigade) -> sys::apr_status_t {
    // SAFETY: httpd calls this filter, by mod_fcgid's name.
    unsafe { output_filter(filter, brigade, stream_or_hold) }
}

fn stream_or_hold(filter: Filter<'_>, brigade: &mut Brigade<'_>) -> Result {
    let known = filter.request().and_then(|request| Some((request, Response::of(request)?, dir_config(request)?)));
    let Some((request, response, settings)) = known else { return ORIGINAL.call_original(filter, brigade) };
    let phase = decide(response, request, settings);
    let marked = matches!(phase, Phase::Marked(_) | Phase::Finished);
    let ended = matches!(&phase, Phase::Marked(marked) if marked.ending.clone().next(&[]) == Verdict::End);
    response.set_phase(phase);
    if marked { stream(filter, request, brigade, response, ended) } else { ORIGINAL.call_original(filter, brigade) }
}

/// Passes on each bucket as it comes. mod_fcgid's buckets can only be waited for, so nothing is known of the next one
/// before it is there; `ended` says that the response needs none.
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
    while let Some(kind) = brigade.first() {
        if let Kind::Data(_) = kind {
            // A record's header turns into an empty bucket, with the record and the next header behind it.
            let length = match response.work() {
                Some(work) => work.read(brigade)?,
                None => brigade.read_first(Block::Yes)?.len(),
            };
            if length == 0 {
                brigade.delete_first();
                continue;
            }
        }
        brigade.move_first(&mut next);
        filter.pass_on(&mut next)?;
        next.clear();
    }
    filter.remove();
    Ok(())
}
