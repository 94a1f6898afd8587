//! Deciding whether a response is marked: what was said about it, and what that means for its header.

use super::{MARK, Phase, Response, bypass, late, private_record};
use crate::background::{self, Kind};
use crate::directives::{Mode, Settings};
use crate::handlers::{self, length, proxy_scheme};
use crate::httpd::{self, Request, Status};
use crate::rules::course::{Marked, Order, Said, Seen};
use crate::rules::declared::{Pieces, Watched};
use crate::rules::ending::{Ending, Length};
use crate::rules::mark::{self, Choice, Idiom, Mark, REDIRECT, Rejected, Source, VARIABLE};
use crate::rules::quote::escaped;

/// What is looked at for what is said of a response.
enum Look {
    /// All, for the first time.
    First,
    /// What may come late.
    Later,
    /// What goes before its mark.
    Again,
    /// Nothing any more.
    Nothing,
}

/// Something of the response has come, or is about to: what is said of it is looked at, and the course told. Returns what is to be done with
/// a brigade.
pub fn decide(response: &Response, request: Request<'_>, settings: &Settings) -> Order<Status> {
    late::hide_digits(request, response);
    let look = response.phase(|phase| match phase {
        Phase::Undecided => Look::First,
        Phase::Ordinary | Phase::Declared(_) => Look::Later,
        Phase::Marked(_) => Look::Again,
        Phase::Settled | Phase::Walking | Phase::Ending | Phase::Finished | Phase::Failed(_) => Look::Nothing,
    });
    let said = match look {
        Look::First => first(response, request, settings),
        Look::Later => later(response, request),
        Look::Again => again(response, request),
        Look::Nothing => Said::Nothing,
    };
    let order = if let Said::Nothing = said {
        response.nothing_said()
    } else {
        response.drop_at_end(request);
        response.step(Seen::Said(said))
    };
    private_record::decided(request, response, settings);
    order
}

/// True if the variable says `late`: the handler is about to run.
pub fn is_late(response: &Response, request: Request<'_>) -> bool {
    let own = request.subprocess_env().get(VARIABLE);
    response.seen.set(own.map(<[u8]>::as_ptr));
    if request.prev().is_none() { mark::is_late(own) } else { mark::is_late(values(request, own)) }
}

/// True if something was said about the response, by its header or the variable, whatever that is.
pub fn says_something(request: Request<'_>) -> bool {
    has_mark(request) || request.subprocess_env().has(VARIABLE)
}

/// True if its header has the mark.
pub fn has_mark(request: Request<'_>) -> bool {
    request.response_headers().into_iter().any(|headers| headers.has(MARK))
}

fn first(response: &Response, request: Request<'_>, settings: &Settings) -> Said {
    response.end_interim();
    if request.is_single() && settings.mode() == Mode::On && !says_something(request) && !response.is_asked() {
        // Most responses.
        response.seen.set(None);
        drop_kept_length(response, request);
        return if request.switches_protocol() { Said::Off } else { Said::Nothing };
    }
    first_word(response, request, settings)
}

#[inline(never)]
fn first_word(response: &Response, request: Request<'_>, settings: &Settings) -> Said {
    let mut header: Vec<&[u8]> = Vec::new();
    if has_mark(request) {
        header.extend(request.header_values(MARK));
        request.unset_header(MARK);
    }
    if request.switches_protocol() {
        drop_kept_length(response, request);
        return Said::Off;
    }
    let (env, api) = (variable(response, request), response.asked.take());
    let is_auto = settings.mode() == Mode::Auto;
    let is_said = api || !header.is_empty() || !env.is_empty();
    if !is_said && !is_auto {
        drop_kept_length(response, request);
        return Said::Nothing;
    }

    let [err_headers, headers] = request.response_headers();
    let values = |name| headers.get(name).or_else(|| err_headers.get(name));
    let content_length = mark::declared_length(request.header_values(c"Content-Length"));
    let chunked = values(c"Transfer-Encoding").is_some_and(mark::is_chunked);
    let watched = if is_auto { declared(response, request, content_length, chunked) } else { None };
    if !is_said {
        drop_kept_length(response, request);
        return watched.map_or(Said::Nothing, Said::Declared);
    }
    let said = mark::Said { api, header: &header, env: &env, auto: watched.is_some() };
    let (choice, rejected) = mark::choose(&said);
    log_rejected(request, &rejected);

    let (mark, source) = match choice {
        Choice::Marked(mark, source) => (mark, source),
        unmarked => {
            drop_kept_length(response, request);
            return match watched {
                Some(watched) if unmarked == Choice::Declared => Said::Declared(watched),
                _ if unmarked == Choice::Off => Said::Off,
                _ => Said::Nothing,
            };
        }
    };
    let mut ending = Ending::new(&mark, content_length, chunked);
    // Another coding is the application's as well, and whoever reads it goes by it (RFC 9112, 6.3).
    let is_coded = || values(c"Transfer-Encoding").is_some();
    if !matches!(ending, Ending::Chunks(_) | Ending::Never) && is_coded() {
        background::seldom(Kind::OwnChunks, |more| {
            log::warn!(
                "the application at {} chunks its body by itself, for which its mark must be 'on': this response is \
                 not finished early{more}",
                escaped(request.path())
            );
        });
        return Said::Off;
    }
    match &ending {
        Ending::Length(length) => {
            if let Ok(length) = i64::try_from(length.remaining()) {
                request.set_content_length(length);
            }
        }
        Ending::Never => drop_kept_length(response, request),
        Ending::Chunks(_) | Ending::Boundary(_) | Ending::Flush => request.unset_content_length(),
    }
    if let Ending::Chunks(_) = ending {
        request.unset_header(c"Transfer-Encoding");
    }
    if values(c"Content-Encoding").is_some_and(|coding| coding.eq_ignore_ascii_case(b"none")) {
        request.unset_header(c"Content-Encoding");
        bypass::compression(request);
    }
    if request.is_header_only() {
        ending = Ending::Length(Length::new(0));
    }
    if sends_file(request) {
        // mod_xsendfile knows the length, and drops what the application writes.
        request.unset_content_length();
        ending = Ending::Length(Length::new(0));
    }
    if let Ending::Never = ending {
        log::debug!("marked 'on' by the {} without a Content-Length: an ordinary response", source.as_str());
        return Said::Nothing;
    }
    marked(response, request, ending, source)
}

/// The end that the application has declared, if there is an application. Nothing of the response is changed for it.
fn declared(response: &Response, request: Request<'_>, content_length: Option<u64>, chunked: bool) -> Option<Watched> {
    let pause = handlers::pause(request, response.handler)?;
    if !chunked && request.header_values(c"Transfer-Encoding").next().is_some() {
        // Another coding: whoever reads it goes by that.
        return None;
    }
    let status = request.status();
    let declared = mark::recognise(&Idiom {
        http2: request.connection().is_stream(),
        closes: is_last(request),
        content_length,
        chunked,
        bodiless: matches!(status, httpd::HTTP_NO_CONTENT | httpd::HTTP_NOT_MODIFIED),
    })?;
    Some(Watched { declared, pause, pieces: Pieces::default() })
}

/// True if the connection is to be closed behind the response: as httpd has it, or as the application says.
pub fn is_last(request: Request<'_>) -> bool {
    request.is_last() || request.header_values(c"Connection").any(mark::has_close)
}

/// An in-process application may mark the response after part of the body has gone.
fn later(response: &Response, request: Request<'_>) -> Said {
    if !response.is_asked() && !variable_changed(response, request) {
        return Said::Nothing;
    }
    later_word(response, request)
}

#[inline(never)]
fn later_word(response: &Response, request: Request<'_>) -> Said {
    let api = response.asked.take();
    let env = variable(response, request);
    let (choice, rejected) = mark::choose(&mark::Said { api, header: &[], env: &env, auto: false });
    log_rejected(request, &rejected);
    let (mark, source) = match choice {
        Choice::Marked(mark, source) => (mark, source),
        Choice::Unmarked | Choice::Declared => return Said::Nothing,
        Choice::Off => return Said::Off,
    };
    let content_length = request.headers_out().get(c"Content-Length").and_then(mark::parse_length);
    let mut ending = Ending::new(&mark, content_length, false);
    if let Ending::Length(length) = &mut ending {
        let Some(passed) = response.passed.get().filter(|passed| *passed <= length.remaining()) else {
            log::debug!("marked by the {} too late: an ordinary response", source.as_str());
            return Said::Nothing;
        };
        length.take(passed);
    }
    match ending {
        Ending::Never => Said::Nothing,
        ending => marked(response, request, ending, source),
    }
}

fn marked(response: &Response, request: Request<'_>, ending: Ending, source: Source) -> Said {
    let early = !private_record::ends_with_stream(request, response);
    if !early {
        log::debug!(
            "mod_proxy_http2 would end its request with the client's stream, so the client waits for it; with \
             'FinishRequestOnAbort Continue' it need not"
        );
    }
    Said::Mark(Marked::new(ending, source, early))
}

/// `off` wins even late, and the C function over other marks.
#[inline(never)]
fn again(response: &Response, request: Request<'_>) -> Said {
    let off = |value| mark::parse(value) == Ok(Mark::Off);
    if variable_changed(response, request) && variable(response, request).into_iter().any(off) {
        Said::Off
    } else if response.asked.take() {
        Said::Now
    } else {
        Said::Nothing
    }
}

/// A response that is not held to its length has no `Content-Length` that httpd would have dropped.
fn drop_kept_length(response: &Response, request: Request<'_>) {
    if response.length_kept.get() {
        length::drop_kept(request, response.handler);
    }
}

/// A part of a response is about to be made by a subrequest. Of mod_proxy_scgi's that is a file in the place of the body (`ProxySCGISendfile`), for
/// which it would have dropped the length that the application has said of the body.
pub fn before_subrequest(main: Request<'_>) {
    if let Some(response) = Response::of(main)
        && response.is_undecided()
        && proxy_scheme(main) == Some(b"scgi")
    {
        drop_kept_length(response, main);
    }
}

/// The variable's values, which are looked at now. None where it is only what gave the program its digits.
fn variable<'r>(response: &Response, request: Request<'r>) -> Vec<&'r [u8]> {
    let own = request.subprocess_env().get(VARIABLE);
    let seen = response.seen.replace(own.map(<[u8]>::as_ptr));
    if response.awaited.get().is_some() && request.prev().is_none() && seen == response.seen.get() {
        return Vec::new();
    }
    values(request, own)
}

/// The variable's values: the request's own, then those from before each internal redirect.
fn values<'r>(request: Request<'r>, own: Option<&'r [u8]>) -> Vec<&'r [u8]> {
    let env = request.subprocess_env();
    if own.is_none() && request.prev().is_none() {
        return Vec::new();
    }
    let mut values: Vec<&[u8]> = own.into_iter().collect();
    let mut name = VARIABLE.to_bytes().to_vec();
    let mut failed = false;
    let mut earlier = request.prev();
    while let Some(before) = earlier {
        name.splice(0..0, REDIRECT.iter().copied());
        let value = env.get(request.pool().string(&name));
        // What marked a page that failed, or came to it, does not mark the error document in its place.
        failed |= before.has_failed();
        values.extend(value.filter(|value| !failed || mark::parse(value) == Ok(Mark::Off)));
        earlier = before.prev();
    }
    values
}

fn variable_changed(response: &Response, request: Request<'_>) -> bool {
    response.seen.get() != request.subprocess_env().get(VARIABLE).map(<[u8]>::as_ptr)
}

/// True if mod_xsendfile is going to put a file in the place of the body.
fn sends_file(request: Request<'_>) -> bool {
    let mut files = [c"X-Sendfile", c"X-Sendfile-Temporary"].into_iter().flat_map(|name| request.header_values(name));
    files.any(|file| !file.is_empty()) && request.has_output_filter(b"xsendfile")
}

fn log_rejected(request: Request<'_>, rejected: &[Rejected<'_>]) {
    for Rejected { source, value, error } in rejected {
        let place = match source {
            Source::Env => "environment variable finish-request",
            _ => "header X-Finish-Request",
        };
        let value = escaped(value);
        background::seldom(Kind::BadMark, |more| {
            let path = escaped(request.path());
            log::warn!("for {path} the {place} is '{value}', so this response is not finished early: {error}{more}");
        });
    }
}
