//! mod_fcgid: its output filter holds a response back until 64 KB or its end, and deletes flushes. Marked responses
//! are streamed instead; all others go through mod_fcgid's own function (`fcgid_filter.c`).

use crate::directives::Settings;
use crate::ending::Verdict;
use crate::httpd::{
    Block, Brigade, Filter, Kind, Replaced, RequestConfig, Result, Status, dir_config, guard, with_context,
};
use crate::response::{Phase, Response};
use crate::sys;

static ORIGINAL: Replaced = Replaced::new();

/// Puts this module's function in the place of mod_fcgid's, if that is loaded. The filter keeps its name, type and place,
/// which mod_fcgid relies on for a 304.
pub fn take_over() {
    ORIGINAL.replace(c"FCGID_OUT", filter);
}

unsafe extern "C" fn filter(filter: *mut sys::ap_filter_t, brigade: *mut sys::apr_bucket_brigade) -> sys::apr_status_t {
    guard(Status::code(Err(Status::GENERAL)), || {
        // SAFETY: httpd calls a filter with its place in the chain and a brigade, both live, in the request's thread.
        let (filter, mut brigade) = unsafe { (Filter::from_raw(filter), Brigade::from_raw(brigade)) };
        let Some(filter) = filter else { return 0 };
        let Some((request, response)) = filter.request().and_then(|r| Some((r, Response::of(r)?))) else {
            return Status::code(ORIGINAL.call_original(filter, &mut brigade));
        };
        with_context(request, || {
            let settings = dir_config::<Settings>(request);
            let phase = settings.map_or(Phase::Ordinary, |settings| response.decide(request, settings));
            let marked = matches!(phase, Phase::Marked(_) | Phase::Finished);
            let ended = matches!(&phase, Phase::Marked(marked) if marked.ending.clone().next(&[]) == Verdict::End);
            response.set_phase(phase);
            Status::code(match marked {
                true => stream(filter, &mut brigade, ended),
                false => ORIGINAL.call_original(filter, &mut brigade),
            })
        })
    })
}

/// Passes on each bucket as it comes. mod_fcgid's buckets can only be waited for, so nothing is known of the next one
/// before it is there; `ended` says that the response needs none.
fn stream(filter: Filter<'_>, brigade: &mut Brigade<'_>, ended: bool) -> Result {
    let mut next = filter.connection().brigade();
    if ended {
        next.push_flush();
        filter.pass_on(&mut next)?;
    }
    while let Some(kind) = brigade.first() {
        if let Kind::Data(_) = kind {
            // A record's header turns into an empty bucket, with the record and the next header behind it.
            if brigade.read_first(Block::Yes)?.is_empty() {
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
