//! A response that may end where its application has declared: it is passed on as it is, and looked at.

use crate::abort;
use crate::connection::{self, Next};
use crate::finish;
use crate::httpd::{Block, Brigade, Kind, Request, Result, Status};
use crate::response::declared::Believed;
use crate::response::{Body, Call, Response, decide};
use crate::rules::course::{Order, Seen};
use crate::rules::declared::{Declared, Pause};

use super::passed::{self, pass_on};

/// Passes on a brigade as it is; and the end, if it is there.
///
/// # Errors
///
/// What the buckets and the filters below say.
pub fn look(call: Call<'_>, brigade: &mut Brigade<'_>, is_all_taken: bool) -> Result {
    let Call { request, response, settings, .. } = call;
    if response.pass_header(request) && decide::is_last(request) {
        connection::begin(request, settings)?;
    }
    if response.declared.get().is_some() {
        // It has been looked at above, or will be when it is read.
        response.count(None);
        return pass_on(call, brigade, is_all_taken);
    }
    let looked = response.watch(|watched| {
        let glance = look_through(&mut watched.declared, brigade)?;
        if let Some(bytes @ 1..) = glance.bytes {
            watched.pieces.note(bytes);
        }
        let has_paused = watched.pause == Pause::Brigade && !brigade.is_empty() && !watched.may_be_cut();
        let paused = glance.ends_with_flush || has_paused;
        Ok((watched.declared.standing(), paused, glance))
    });
    let (standing, paused, glance) = looked.unwrap_or(Err(Status::GENERAL))?;
    response.count(glance.bytes);
    let order = if glance.is_read_later {
        response.stand_in(request, brigade, false);
        Order::PassOn
    } else {
        response.step(Seen::Looked { standing, paused, has_eos: glance.has_eos })
    };
    if order != Order::PassOnAndEnd {
        return pass_on(call, brigade, is_all_taken);
    }
    let next = finish::look_ahead(call);
    let passed = pass_on(call, brigade, is_all_taken);
    abort::unless_client_gone(call, passed, brigade)?;
    end(call, next, brigade)
}

/// The same above mod_fcgid's filter, which keeps what it gets until it has enough: what is there is looked at here, and the rest when it is read.
///
/// # Errors
///
/// What the buckets say.
pub fn look_above_fcgid(request: Request<'_>, response: &Response, brigade: &mut Brigade<'_>) -> Result {
    if response.declared.get().is_some() {
        return Ok(());
    }
    let looked = response.watch(|watched| {
        let mut declared = watched.declared.clone();
        let is_read_later = look_through(&mut declared, brigade)?.is_read_later;
        if is_read_later {
            watched.declared = declared;
        }
        Ok(is_read_later.then(|| watched.declared.standing()))
    });
    if let Some(standing) = looked.unwrap_or(Ok(None))? {
        response.step(Seen::Looked { standing, paused: false, has_eos: false });
        response.stand_in(request, brigade, true);
    }
    Ok(())
}

/// The body is where it was declared to end, and the handler has not ended. `next` says what follows on the connection, if that was looked at.
fn end(call: Call<'_>, next: Option<Next>, brigade: &mut Brigade<'_>) -> Result {
    let Call { request, response, .. } = call;
    match response.step(Seen::DeclaredEnd(&mut Believed { request, response })) {
        Order::FinishDeclared => passed::finish(call, None, next, brigade),
        Order::AwaitBody => {
            response.body.set(Body::Awaited);
            Ok(())
        }
        _ => Ok(()),
    }
}

/// What a look through a brigade has shown.
#[derive(Default)]
struct Glance {
    has_eos: bool,
    /// It has data of unknown length.
    is_read_later: bool,
    /// No data stands behind its last flush.
    ends_with_flush: bool,
    /// How much data it has, if that is known.
    bytes: Option<u64>,
}

/// Looks through a brigade, which stays as it is.
fn look_through(declared: &mut Declared, brigade: &mut Brigade<'_>) -> Result<Glance> {
    let mut seen = Glance { bytes: Some(0), ..Glance::default() };
    brigade.look_through(|bucket| {
        match bucket.kind() {
            Kind::Eos => seen.has_eos = true,
            Kind::Flush => seen.ends_with_flush = true,
            Kind::Eor | Kind::Metadata | Kind::Data(Some(0)) => {}
            // What stands behind such data is looked at after it.
            Kind::Data(Some(_)) if seen.is_read_later => seen.ends_with_flush = false,
            Kind::Data(Some(length)) => {
                let mut length = length;
                if declared.reads() {
                    // A file may turn into several pieces.
                    let bytes = bucket.read(Block::Yes)?;
                    length = bytes.len() as u64;
                    declared.take(bytes);
                } else {
                    declared.count(length);
                }
                seen.ends_with_flush = false;
                seen.bytes = seen.bytes.map(|bytes| bytes + length);
            }
            // It is looked at when it is read.
            Kind::Data(None) => (seen.is_read_later, seen.bytes, seen.ends_with_flush) = (true, None, false),
        }
        Ok(())
    })?;
    Ok(seen)
}
