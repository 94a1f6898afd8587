//! The mark `late`, where the output of a program passes: before others see it, and when they have passed on what is before its digits.

use crate::background::Work;
use crate::connection::detach;
use crate::finish;
use crate::handlers::cgi_script;
use crate::httpd::{Brigade, Filter, HTTP_BAD_GATEWAY, Record, Request, Result};
use crate::report;
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

/// The end of the stream is to be passed on, alone: where the digits came before as much as the client was told, it is to see that. Gives what came
/// of it, where that is the end of the response.
pub fn before_end(call: Call<'_>, brigade: &mut Brigade<'_>) -> Option<Result> {
    let awaited = call.response.awaited.get().filter(|awaited| awaited.is_short() && !brigade.has_data())?;
    brigade.clear();
    if awaited.at() == At::End {
        return Some(ended(call, finish::cut(call, Source::Env, report::SHORT, brigade)));
    }
    call.request.forbid_caching();
    brigade.push_error(HTTP_BAD_GATEWAY);
    brigade.push_eos();
    None
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
        (At::End, Ok(())) if ends && response.has_ended_short(request) => {
            finish::cut_below(call, Source::Env, report::SHORT, brigade)
        }
        (At::End, Ok(())) if ends => finish::ended_below(call, Source::Env, brigade),
        // What comes from a bucket has its end behind that.
        (At::End, Ok(())) if awaited.source().is_none() => {
            brigade.clear();
            if awaited.is_short() {
                finish::cut(call, Source::Env, report::SHORT, brigade)
            } else {
                finish::finish(call, Source::Env, brigade)
            }
        }
        (At::End, Err(error)) if response.is_refused(request, error) => finish::refused(call, Source::Env, brigade),
        (At::End, Err(error)) => Err(error),
        // Its connection stays as it is.
        (At::HeaderEnd, Ok(())) if ends => finish::after_own_end(call),
        (at @ (At::Refused | At::Behind), Ok(())) if ends => {
            if awaited.ends_body() && response.has_ended_short(request) {
                report::broken(request, report::SHORT);
                response.client().close_after_response();
            }
            if at == At::Refused {
                // A script that works on is not ended for there being no place for it.
                let work = Work::begin(request, Record::of(request.connection()), settings);
                cgi_script::keep(request, response.handler, work);
            }
            return passed;
        }
        _ => return passed,
    };
    ended(call, finished)
}

/// The response has been finished, which has come to `finished`.
fn ended(Call { response, .. }: Call<'_>, finished: Result) -> Result {
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
