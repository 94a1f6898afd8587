//! The mark `late`, where the output of a program passes: before others see it, and when they have passed on what is before its digits.

use crate::background::Work;
use crate::connection::detach;
use crate::finish;
use crate::handlers::cgi_script;
use crate::httpd::{Brigade, Filter, Record, Request, Result};
use crate::response::late::{At, rule};
use crate::response::{Call, Response, declared};
use crate::rules::course::Seen;
use crate::rules::mark::Source;

/// Takes the digits, and what follows them, out of what the handler passes on; `is_fcgid` says that mod_fcgid's filter is to have it next.
/// Returns true if nothing is left to be passed on.
///
/// # Errors
///
/// What the buckets say.
pub fn take(response: &Response, brigade: &mut Brigade<'_>, is_fcgid: bool) -> Result<bool> {
    let Some((awaited, rule)) = response.awaited.get().zip(response.phase(rule)) else { return Ok(false) };
    let had_something = !brigade.is_empty();
    awaited.take(brigade, rule, is_fcgid)?;
    let is_all_taken = had_something && brigade.is_empty();
    if is_all_taken && awaited.at() == At::Before {
        awaited.owe_brigade();
    }
    Ok(is_all_taken)
}

/// mod_fcgid's filter has passed on all that it has collected: at the digits the end follows, by itself, as it does at the handler's end.
///
/// # Errors
///
/// What the filters below say.
pub fn end_by_itself(filter: Filter<'_>, request: Request<'_>, response: &Response) -> Result {
    let at_end = response.awaited.get().is_some_and(|awaited| awaited.at().is_end()) && !request.has_ended();
    if !(at_end || response.declared.get().is_some_and(|declared| declared.at() == declared::At::End)) {
        return Ok(());
    }
    let mut end = request.brigade();
    end.push_eos();
    filter.pass_on(&mut end)
}

/// What the handler has passed on was passed on, with the end of the response if `ends`: finishes the response, if that is its end.
///
/// # Errors
///
/// As for [`finish::finish`]; where nothing is done, what came of it: `passed`.
pub fn passed_on(call: Call<'_>, passed: Result, ends: bool, brigade: &mut Brigade<'_>) -> Result {
    let Call { request, response, settings, .. } = call;
    let Some(awaited) = response.awaited.get() else { return passed };
    let finished = match (awaited.at(), passed) {
        (At::End, Ok(())) if ends => finish::ended_below(call, Source::Env, brigade),
        // What comes from a bucket has its end behind that.
        (At::End, Ok(())) if awaited.source().is_none() => {
            brigade.clear();
            finish::finish(call, Source::Env, brigade)
        }
        (At::End, Err(error)) if response.is_refused(request, error) => finish::refused(call, Source::Env, brigade),
        (At::End, Err(error)) => Err(error),
        // Its connection stays as it is.
        (At::HeaderEnd, Ok(())) if ends => finish::after_own_end(call),
        (At::Refused, Ok(())) if ends => {
            // A script that works on is not ended for there being no place for it.
            let work = Work::begin(request, Record::of(request.connection()), settings);
            cgi_script::keep(request, response.handler, work);
            return passed;
        }
        _ => return passed,
    };
    if finished.is_err() {
        response.background.withdraw();
    }
    response.step(finished.map_or_else(Seen::Failed, |()| Seen::Ended));
    finished
}

/// Reads what the program sends behind the end of its response, to its own end.
///
/// # Errors
///
/// As [`detach::discard`].
pub fn drain(Call { request, response, .. }: Call<'_>, brigade: &mut Brigade<'_>) -> Result {
    let late = response.awaited.get().filter(|awaited| awaited.at().is_end() && request.has_ended());
    let declared = response.declared.get().filter(|_| response.is_finished());
    if late.is_none() && declared.is_none() {
        return Ok(());
    }
    let work = response.work();
    if let Some(declared) = declared {
        detach::discard(&mut declared.source(), work.as_deref())?;
    }
    if let Some(mut source) = late.and_then(|late| late.source()) {
        detach::discard(&mut source, work.as_deref())?;
    }
    detach::discard(brigade, work.as_deref())
}
