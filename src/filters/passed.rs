//! A brigade is passed on as it is, and the end of the response may be found on the way: in what is read on demand.

use crate::connection::Next;
use crate::finish;
use crate::httpd::{Brigade, Kind, Result};
use crate::response::Call;
use crate::response::declared::At;
use crate::rules::course::Seen;

use super::late;

/// Passes a brigade on as it is, unless `is_all_taken` out of it. The response may have ended, where its end was found meanwhile.
///
/// # Errors
///
/// What the filters below say.
pub fn pass_on(call: Call<'_>, brigade: &mut Brigade<'_>, is_all_taken: bool) -> Result {
    let ends = call.response.has_stand_in() && brigade.has_eos();
    if ends && let Some(ended) = late::before_end(call, brigade) {
        return ended;
    }
    let passed =
        if is_all_taken { Ok(()) } else { pass_first_alone(call, brigade).and_then(|()| call.filter.pass_on(brigade)) };
    let passed = late::passed_on(call, passed, ends, brigade);
    passed_on(call, passed, ends, brigade)
}

/// Where the handler has passed on a brigade all of which was held: what is left of that comes first, by itself. With the end of the stream behind
/// it the filters below would see a complete body.
fn pass_first_alone(call: Call<'_>, brigade: &mut Brigade<'_>) -> Result {
    let owes = call.response.awaited.get().is_some_and(|awaited| awaited.pays_brigade());
    if !owes || !matches!(brigade.first(), Some(Kind::Data(Some(1..)))) {
        return Ok(());
    }
    let mut first = call.request.brigade();
    brigade.move_first(&mut first);
    call.filter.pass_on(&mut first)
}

/// What was passed on has come to `passed`, with the end of the stream if `ends`: finishes the response, where its end was found on the way.
fn passed_on(call: Call<'_>, passed: Result, ends: bool, brigade: &mut Brigade<'_>) -> Result {
    match call.response.declared.get().map(|declared| declared.at()) {
        Some(At::End) if ends || passed.is_err() => finish(call, Some(passed), None, brigade),
        _ => passed,
    }
}

/// The declared end is the end, of what has been passed on with `passed`, or of what is still to be. `next` says what follows on the connection, if that
/// was looked at.
///
/// # Errors
///
/// As for [`finish::finish_declared`].
pub fn finish(call: Call<'_>, passed: Option<Result>, next: Option<Next>, brigade: &mut Brigade<'_>) -> Result {
    let response = call.response;
    if let Some(declared) = response.declared.get() {
        declared.note_ended();
    }
    let ended = finish::finish_declared(call, passed, next, brigade);
    if ended.is_err() {
        response.background.withdraw();
    }
    response.step(ended.map_or_else(Seen::Failed, |()| Seen::Ended));
    ended
}
