//! What the module knows of a response, and how it decides whether it is marked.

use std::cell::{Cell, OnceCell};
use std::ffi::CStr;
use std::sync::Arc;

use crate::background::Work;
use crate::background::{self, Background, Kind};
use crate::directives::{Mode, Settings};
use crate::handlers::length as handler_length;
use crate::httpd::{Connection, Record, Request, RequestConfig, Status, dir_config, guard, with_context};
use crate::request_body::Body;
use crate::response_headers::{self, MARK};
use crate::rules::ending::{Ending, Length};
use crate::rules::mark::{self, Choice, Idiom, Mark, Rejected, Said, Source};
use crate::rules::quote::escaped;
use crate::{bypass, on_abort, output_filter, request_body, sys};

/// The variable of the request's environment by which an application, or the configuration, marks a response.
const VARIABLE: &CStr = c"finish-request";
/// What httpd puts before the name of a variable at each internal redirect (`rename_original_env`).
const REDIRECT: &[u8] = b"REDIRECT_";

/// The state of one response. Shared references only: the filters that use it may be called by one another.
pub struct Response {
    phase: Cell<Phase>,
    /// The `Content-Length` that the header had when it was passed on; not set before. Filters below may change it there.
    told: OnceCell<Option<u64>>,
    /// Body bytes passed on so far; none where that is not known.
    pub passed: Cell<Option<u64>>,
    /// Whether the module had httpd keep a `Content-Length` that it would have dropped.
    length_kept: bool,
    /// The variable's value that was last looked at.
    seen: Cell<Option<*const u8>>,
    /// Whether the C function asked for the end, and nobody has looked at it yet.
    asked: Cell<bool>,
    /// The request's body, where mod_proxy may pass that on.
    pub body: Cell<Body>,
    /// Whether the request has been logged.
    pub logged: Cell<bool>,
    /// The request's background work.
    pub background: Background,
    /// The client's connection, whatever record of it the request has at a time.
    client: Record,
    /// A copy of its record, which the handler may have seen.
    shield: OnceCell<Record>,
    /// Whether the client went away before the response was complete, and the application went on.
    pub aborted: Cell<bool>,
    /// What goes on since the client was let go.
    work: OnceCell<Arc<Work>>,
}

/// How far the response is.
pub enum Phase {
    /// Nothing of it has been seen.
    Undecided,
    /// It ends when its handler ends, as on stock httpd, unless it is marked late.
    Ordinary,
    /// The same, whatever may be said later: somebody said `off`, or its end has been passed on.
    Settled,
    /// It is to end early.
    Marked(Marked),
    /// It has ended: what comes now reaches nobody.
    Finished,
    /// It could not be ended: the client has gone, and writing gives this.
    Failed(Status),
}

/// A response that is to end early.
pub struct Marked {
    /// Where.
    pub ending: Ending,
    /// Who said so.
    pub source: Source,
    /// False where `off` came later, or where too many others are in background work: then it ends with its handler, held
    /// to what the client was told, and not more.
    pub early: bool,
    /// Whether `off` came later: the application is not to go on without its client either.
    pub off: bool,
}

impl RequestConfig for Response {}

/// `insert_filter`: the handler is about to run.
pub unsafe extern "C" fn insert_filter(request: *mut sys::request_rec) {
    guard((), || {
        // SAFETY: httpd calls the hook with a live request, in its thread.
        let Some(request) = (unsafe { Request::from_raw(request) }) else { return };
        on_abort::unshield(request);
        let Some(settings) = dir_config::<Settings>(request) else { return };
        if settings.mode() == Mode::Off || request.is_subrequest() || Response::of(request).is_some() {
            return;
        }
        if Response::find(request, |earlier| earlier.work.get().is_some()).is_some() {
            // An error document for nobody: its handler's request has been finished already.
            return;
        }
        with_context(request, || {
            // What stands there now is no mark of the handler's: an internal redirect brought it, or mod_headers.
            request.unset_header(MARK);
            Response {
                phase: Cell::new(Phase::Undecided),
                told: OnceCell::new(),
                passed: Cell::new(Some(0)),
                length_kept: handler_length::keep(request),
                seen: Cell::new(None),
                asked: Cell::new(false),
                body: Cell::new(Body::Unread),
                logged: Cell::new(false),
                background: Background::default(),
                client: Record::of(request.connection()),
                shield: OnceCell::new(),
                aborted: Cell::new(false),
                work: OnceCell::new(),
            }
            .attach(request);
            output_filter::insert(request);
            request_body::watch(request);
            response_headers::keep_from_client(request);
            if let Some(response) = Response::of(request) {
                on_abort::before_handler(request, response, settings);
            }
        });
    });
}

impl Response {
    /// The last response in a chain of internal redirects of which this is true, with its request: one that was finished may
    /// have an error document behind it.
    pub fn find<'r>(request: Request<'r>, is_wanted: impl Fn(&Self) -> bool) -> Option<(Request<'r>, &'r Self)> {
        let chain = std::iter::successors(Some(request.last()), |request| request.prev());
        chain.filter_map(|request| Some((request, Self::of(request)?))).find(|(_, response)| is_wanted(response))
    }

    /// Says whether the response shall end at the next flush: the C function's mark.
    pub fn ask(&self, wanted: bool) {
        self.asked.set(wanted);
    }

    /// The header is about to be passed on, or something behind it: whether it is the header.
    pub fn pass_header(&self, request: Request<'_>) -> bool {
        let first = self.told.get().is_none();
        if first {
            let length = request.header_values(c"Content-Length").first().and_then(|value| mark::parse_length(value));
            let _ = self.told.set(length);
        }
        first
    }

    /// How many bytes of body were promised by the header that was passed on; none where the client was not told a number, be it
    /// another one: that of a filter below.
    pub fn promised(&self, request: Request<'_>) -> Option<u64> {
        self.told.get().copied().flatten().filter(|_| request.headers_out().get(c"Content-Length").is_some())
    }

    /// The client's connection.
    pub fn client(&self) -> Connection<'_> {
        self.client.get()
    }

    /// The copy of its record that the handler may have seen first.
    pub fn shield(&self) -> Option<Connection<'_>> {
        self.shield.get().map(Record::get)
    }

    /// Keeps the first copy.
    pub fn set_shield(&self, copy: Connection<'_>) {
        let _ = self.shield.set(Record::of(copy));
    }

    /// What goes on since the client was let go; none before.
    pub fn work(&self) -> Option<Arc<Work>> {
        self.work.get().cloned()
    }

    /// The client has been let go.
    pub fn set_work(&self, work: Arc<Work>) {
        // A response ends once.
        let _ = self.work.set(work);
    }

    /// Takes the phase out for the time of a call; to be put back with [`Response::set_phase`]. Meanwhile the
    /// response is an ordinary one.
    pub fn take_phase(&self) -> Phase {
        self.phase.replace(Phase::Ordinary)
    }

    /// Sets the phase.
    pub fn set_phase(&self, phase: Phase) {
        self.phase.set(phase);
    }

    /// The phase, decided now if it has not been: to be called when something of the response has come, or is
    /// about to. Afterwards the phase is not [`Phase::Undecided`].
    pub fn decide(&self, request: Request<'_>, settings: &Settings) -> Phase {
        let phase = match self.take_phase() {
            Phase::Undecided => self.decide_first(request, settings),
            Phase::Ordinary => self.decide_late(request),
            Phase::Marked(marked) => self.decide_again(request, marked),
            other => other,
        };
        on_abort::decided(request, self, settings, &phase);
        phase
    }

    fn decide_first(&self, request: Request<'_>, settings: &Settings) -> Phase {
        let [err_headers, headers] = request.response_headers();
        let header = request.header_values(MARK);
        request.unset_header(MARK);

        let values = |name| headers.get(name).or_else(|| err_headers.get(name));
        let content_length = values(c"Content-Length").and_then(mark::parse_length);
        let chunked = values(c"Transfer-Encoding").is_some_and(mark::is_chunked);
        let auto = (settings.mode() == Mode::Auto)
            .then(|| Idiom {
                http2: request.connection().is_stream(),
                close: request.header_values(c"Connection").into_iter().any(mark::has_close),
                content_length,
                chunked,
            })
            .and_then(|idiom| mark::recognise(&idiom));
        let env = self.variable(request);
        let (choice, rejected) = mark::choose(&Said { api: self.asked.take(), header: &header, env: &env, auto });
        log_rejected(request, &rejected);

        let (mark, source) = match choice {
            Choice::Marked(mark, source) => (mark, source),
            unmarked => {
                self.drop_kept_length(request);
                return if unmarked == Choice::Off { Phase::Settled } else { Phase::Ordinary };
            }
        };
        let mut ending = Ending::new(&mark, content_length, chunked);
        if chunked && !matches!(ending, Ending::Chunks(_)) {
            background::seldom(Kind::OwnChunks, |more| {
                log::warn!(
                    "the application at {} chunks its body by itself, for which its mark must be 'on': this response is \
                     not finished early{more}",
                    escaped(request.path())
                );
            });
            return Phase::Settled;
        }
        match &ending {
            Ending::Length(length) => {
                if let Ok(length) = i64::try_from(length.remaining()) {
                    request.set_content_length(length);
                }
            }
            Ending::Never => self.drop_kept_length(request),
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
        if let Ending::Never = ending {
            log::debug!("marked 'on' by the {} without a Content-Length: an ordinary response", source.as_str());
            return Phase::Ordinary;
        }
        self.marked(request, ending, source)
    }

    /// An in-process application may mark the response after part of the body has gone.
    fn decide_late(&self, request: Request<'_>) -> Phase {
        let api = self.asked.take();
        if !api && !self.variable_changed(request) {
            return Phase::Ordinary;
        }
        let env = self.variable(request);
        let (choice, rejected) = mark::choose(&Said { api, header: &[], env: &env, auto: None });
        log_rejected(request, &rejected);
        let (mark, source) = match choice {
            Choice::Marked(mark, source) => (mark, source),
            Choice::Unmarked => return Phase::Ordinary,
            Choice::Off => return Phase::Settled,
        };
        let content_length = request.headers_out().get(c"Content-Length").and_then(mark::parse_length);
        let mut ending = Ending::new(&mark, content_length, false);
        if let Ending::Length(length) = &mut ending {
            let Some(passed) = self.passed.get().filter(|passed| *passed <= length.remaining()) else {
                log::debug!("marked by the {} too late: an ordinary response", source.as_str());
                return Phase::Ordinary;
            };
            length.take(passed);
        }
        match ending {
            Ending::Never => Phase::Ordinary,
            ending => self.marked(request, ending, source),
        }
    }

    fn marked(&self, request: Request<'_>, ending: Ending, source: Source) -> Phase {
        let early = !on_abort::ends_with_stream(request, self);
        if !early {
            log::debug!(
                "mod_proxy_http2 would end its request with the client's stream, so the client waits for it; with \
                 'FinishRequestOnAbort Continue' it need not"
            );
        }
        Phase::Marked(Marked { ending, source, early, off: false })
    }

    /// `off` wins even late, and the C function over other marks.
    fn decide_again(&self, request: Request<'_>, mut marked: Marked) -> Phase {
        let off = |value| mark::parse(value) == Ok(Mark::Off);
        if self.variable_changed(request) && self.variable(request).into_iter().any(off) {
            if marked.ending.ends_at_flush() {
                // The client was told nothing.
                return Phase::Settled;
            }
            (marked.early, marked.off) = (false, true);
        }
        if self.asked.take() && marked.early {
            marked.ending = Ending::Flush;
            marked.source = Source::Api;
        }
        Phase::Marked(marked)
    }

    /// A response that is not held to its length has no `Content-Length` that httpd would have dropped.
    fn drop_kept_length(&self, request: Request<'_>) {
        if self.length_kept {
            handler_length::drop_kept(request);
        }
    }

    /// The variable's values: the request's own, then those from before each internal redirect.
    fn variable<'r>(&self, request: Request<'r>) -> Vec<&'r [u8]> {
        let env = request.subprocess_env();
        let mut values: Vec<&[u8]> = env.get(VARIABLE).into_iter().collect();
        self.seen.set(values.first().map(|value| value.as_ptr()));
        let mut name = VARIABLE.to_bytes().to_vec();
        let mut earlier = request.prev();
        while let Some(before) = earlier {
            name.splice(0..0, REDIRECT.iter().copied());
            let value = env.get(request.pool().string(&name));
            // What marked a page that failed does not mark the error document in its place.
            let failed = before.status() != sys::HTTP_OK;
            values.extend(value.filter(|value| !failed || mark::parse(value) == Ok(Mark::Off)));
            earlier = before.prev();
        }
        values
    }

    fn variable_changed(&self, request: Request<'_>) -> bool {
        self.seen.get() != request.subprocess_env().get(VARIABLE).map(<[u8]>::as_ptr)
    }
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
