//! One response: what the module knows of it.

pub mod bypass;
pub mod decide;
pub mod declared;
pub mod late;
pub mod private_record;

use std::cell::{Cell, OnceCell, RefCell};
use std::ffi::CStr;
use std::rc::Rc;
use std::sync::Arc;

use crate::background::{Background, Work};
use crate::directives::Settings;
use crate::handlers::{self, length};
use crate::httpd::{BorrowedBrigade, Client, Connection, Filter, Foremost, Node, Record, Request, Status};
use crate::rules::course::{self, Marked, Order, Seen};
use crate::rules::declared::Watched;
use crate::rules::mark;

/// The response header by which an application marks its response.
pub const MARK: &CStr = c"X-Finish-Request";

/// The state of one response. Shared references only: the filters that use it may be called by one another.
pub struct Response {
    phase: RefCell<Phase>,
    /// True if it is dropped at the request's end: it may have something then that has to be.
    is_dropped: Cell<bool>,
    /// The `Content-Length` that the header had when it was passed on; not set before. Filters below may change it there.
    told: OnceCell<Option<u64>>,
    /// True once httpd has made a header for the client: this response's, or an error page's in its place.
    header_made: Cell<bool>,
    /// Whether more has to come, for a client that waits; none where that was never so.
    breaks_off: Cell<Option<bool>>,
    /// True if an error page of httpd's own stands in its place.
    error_page: Cell<bool>,
    /// True if the response's end came with the header.
    ended_with_header: Cell<bool>,
    /// Body bytes passed on so far; none where that is not known.
    pub passed: Cell<Option<u64>>,
    /// The handler that answers.
    pub handler: handlers::Kind,
    /// Whether the module had httpd keep a `Content-Length` that it would have dropped.
    length_kept: Cell<bool>,
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
    client: Client,
    /// A copy of its record, which the handler may have seen.
    private_record: OnceCell<Record>,
    /// Whether the client went away before the response was complete, and the application went on.
    pub aborted: Cell<bool>,
    /// What goes on since the client was let go.
    work: OnceCell<Arc<Work>>,
    /// The filter that has the mark.
    filter: OnceCell<Node>,
    /// What watches interim responses, until this one begins.
    interim: OnceCell<Foremost>,
    /// The digits that may end it; none where its program was given none.
    pub awaited: OnceCell<Rc<late::Awaited>>,
    /// What stands for the output of a program outside httpd that has declared its end; none before it has come.
    pub declared: OnceCell<Rc<declared::StandIn>>,
}

/// How far the response is.
pub type Phase = course::Phase<Status>;

/// Kept with a request whose handler has its turn, and whose response is httpd's own affair.
struct LeftToHttpd;

/// How far the body of a request for mod_proxy has been read.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// Perhaps not to its end.
    Unread,
    /// The same, and the response is complete: at the body's end a flush is passed to its filters.
    Awaited,
    /// To its end.
    Ended,
}

/// One call of an output filter.
#[derive(Clone, Copy)]
pub struct Call<'f> {
    /// The filter's node in the request's chain.
    pub filter: Filter<'f>,
    /// The request.
    pub request: Request<'f>,
    /// Its response.
    pub response: &'f Response,
    /// The configuration that holds for it.
    pub settings: &'f Settings,
}

impl Response {
    /// Returns the response to this request, if it may be finished early.
    pub fn of(request: Request<'_>) -> Option<&Self> {
        request.extra()
    }

    /// False if neither this request has a response, nor one that it was redirected from or to: so it is mostly, and seen at a glance.
    pub fn is_in_chain_of(request: Request<'_>) -> bool {
        !request.is_single() || Self::of(request).is_some()
    }

    /// The response to a request whose handler is about to run.
    pub fn begin(request: Request<'_>, handler: handlers::Kind) -> Self {
        Self {
            phase: RefCell::new(Phase::Undecided),
            is_dropped: Cell::new(false),
            told: OnceCell::new(),
            header_made: Cell::new(false),
            breaks_off: Cell::new(None),
            error_page: Cell::new(false),
            ended_with_header: Cell::new(false),
            passed: Cell::new(Some(0)),
            handler,
            length_kept: Cell::new(handler == handlers::Kind::Proxy && length::keep(request)),
            seen: Cell::new(None),
            asked: Cell::new(false),
            body: Cell::new(Body::Unread),
            logged: Cell::new(false),
            background: Background::default(),
            client: Client::of(request),
            private_record: OnceCell::new(),
            aborted: Cell::new(false),
            work: OnceCell::new(),
            filter: OnceCell::new(),
            interim: OnceCell::new(),
            awaited: OnceCell::new(),
            declared: OnceCell::new(),
        }
    }

    /// The response is a file of httpd's own handler, and nobody can mark it any more.
    pub fn leave_to_httpd(request: Request<'_>) {
        request.extra_or_init(|| LeftToHttpd);
    }

    /// True if it is.
    pub fn is_left_to_httpd(request: Request<'_>) -> bool {
        request.extra::<LeftToHttpd>().is_some()
    }

    /// The last response in a chain of internal redirects of which this is true, with its request: one that was finished may
    /// have an error document behind it.
    pub fn find<'r>(request: Request<'r>, is_wanted: impl Fn(&Self) -> bool) -> Option<(Request<'r>, &'r Self)> {
        Self::chain(request).find(|(_, response)| is_wanted(response))
    }

    /// The responses in a chain of internal redirects, from the last one, each with its request.
    pub fn chain<'r>(request: Request<'r>) -> impl Iterator<Item = (Request<'r>, &'r Self)> {
        let chain = std::iter::successors(Some(request.last()), |request| request.prev());
        chain.filter_map(|request| Some((request, Self::of(request)?)))
    }

    /// Has httpd keep a `Content-Length` that it would drop. mod_cgi's program has its environment.
    pub fn keep_length(&self, request: Request<'_>) {
        self.length_kept.set(length::keep(request));
    }

    /// Says whether the response shall end at the next flush: the C function's mark.
    pub fn ask(&self, wanted: bool) {
        self.asked.set(wanted);
    }

    /// True if it has asked.
    pub fn is_asked(&self) -> bool {
        self.asked.get()
    }

    /// Interim responses may come.
    pub fn begin_interim(&self, watch: Foremost) {
        debug_assert!(self.is_dropped.get());
        let _ = self.interim.set(watch);
    }

    /// The response itself begins.
    pub fn end_interim(&self) {
        if let Some(watch) = self.interim.get() {
            watch.remove();
        }
    }

    /// The header is about to be passed on, or something behind it: whether it is the header.
    #[inline]
    pub fn pass_header(&self, request: Request<'_>) -> bool {
        let first = self.told.get().is_none();
        if first {
            let [err_headers, headers] = request.response_headers().map(|headers| headers.get(c"Content-Length"));
            let length = err_headers.or(headers).and_then(mark::parse_length);
            let _ = self.told.set(length);
        }
        first
    }

    /// True if it was passed on.
    pub fn header_is_out(&self) -> bool {
        self.told.get().is_some()
    }

    /// httpd has made a header for the client, for `request` or one that it is an internal redirect of; `ended` says whether
    /// the response's end came with it.
    pub fn note_header(request: Request<'_>, ended: bool) {
        let chain = std::iter::successors(Some(request), |request| request.prev());
        for response in chain.filter_map(Self::of) {
            response.header_made.set(true);
            response.ended_with_header.set(ended);
        }
    }

    /// True if a filter below has passed the end on together with the header.
    pub fn has_ended_with_header(&self) -> bool {
        self.ended_with_header.get()
    }

    /// httpd is going to send an error page of its own in the response's place.
    pub fn note_error_page(&self) {
        self.error_page.set(true);
    }

    /// True if an error page stands in the response's place: one of httpd's own, or another request's, to which this one was redirected.
    pub fn has_error_page(&self, request: Request<'_>) -> bool {
        self.error_page.get() || request.last().raw() != request.raw()
    }

    /// True if it is marked, and a part of it, or all, has gone to its client, who has had nothing else: `request` may have been redirected to another,
    /// which has answered.
    pub fn is_out_in_part(&self, request: Request<'_>) -> bool {
        self.header_made.get()
            && !self.error_page.get()
            && !request.last().has_ended()
            && !self.client().is_aborted()
            && self.phase(|phase| matches!(phase, Phase::Marked(_)))
    }

    /// True if it is a filter that has not taken what was passed on, which gave `error`, and not the client, who has gone. Of a stream
    /// that has ended, as with a filter's answer, mod_http2 says that its client has gone, too.
    pub fn is_refused(&self, request: Request<'_>, error: Status) -> bool {
        let has_answer = self.client().is_stream() && self.has_error_page(request);
        !error.is_client_gone() && (has_answer || !self.client().is_aborted())
    }

    /// True if it has.
    pub fn header_is_made(&self) -> bool {
        self.header_made.get()
    }

    /// How many bytes of body were promised by the header that was passed on; none where the client was not told a number, be it
    /// another one: that of a filter below.
    pub fn promised(&self, request: Request<'_>) -> Option<u64> {
        self.told.get().copied().flatten().filter(|_| request.headers_out().get(c"Content-Length").is_some())
    }

    /// True if the client, if it is there, was told of more body than the bytes that have come; false where that is not known.
    pub fn is_short(&self, request: Request<'_>, come: Option<u64>) -> bool {
        let promised = self.promised(request).filter(|_| !request.is_header_only() && !self.client().is_aborted());
        promised.zip(come).is_some_and(|(promised, come)| come < promised)
    }

    /// The same when the end has been passed on: by what has come out of the filters of the content, and what they have made of the length.
    pub fn has_ended_short(&self, request: Request<'_>) -> bool {
        let is_short = || {
            let told = request.headers_out().get(c"Content-Length").and_then(mark::parse_length);
            told.zip(u64::try_from(request.bytes_sent()).ok()).is_some_and(|(told, sent)| sent < told)
        };
        self.is_short(request, Some(0)) && is_short()
    }

    /// More may come of a marked response that has begun. If nothing does, whatever its handler and httpd make of that, what follows on the connection
    /// would be taken for the rest of it. Returns true if that is so for the first time: its request's end is to be watched.
    pub fn may_break_off(&self, request: Request<'_>) -> bool {
        self.header_made.get() && self.is_awaited(request) && self.breaks_off.replace(Some(true)).is_none()
    }

    /// More has come.
    #[inline]
    pub fn goes_on(&self) {
        if self.waits_for_more() {
            self.breaks_off.set(Some(false));
        }
    }

    /// True where it is to be asked whether it has broken off.
    #[inline]
    pub fn waits_for_more(&self) -> bool {
        self.breaks_off.get() == Some(true)
    }

    /// True if nothing has come, where a client that is there waits for more.
    pub fn has_broken_off(&self, request: Request<'_>) -> bool {
        self.waits_for_more() && !self.client().is_aborted() && self.is_awaited(request)
    }

    /// True if its end has not come, and nothing else has in its place: the error page by which a filter answers, say.
    fn is_awaited(&self, request: Request<'_>) -> bool {
        !self.has_error_page(request) && self.phase(|phase| matches!(phase, Phase::Marked(_)))
    }

    /// The client's connection.
    pub fn client(&self) -> Connection<'_> {
        self.client.get()
    }

    /// The copy of its record that the handler may have seen first.
    pub fn private_record(&self) -> Option<Connection<'_>> {
        self.private_record.get().map(Record::get)
    }

    /// Keeps the first copy.
    pub fn set_private_record(&self, copy: Connection<'_>) {
        debug_assert!(self.is_dropped.get());
        let _ = self.private_record.set(Record::of(copy));
    }

    /// True if its end has been passed on.
    pub fn is_finished(&self) -> bool {
        self.phase(|phase| matches!(phase, Phase::Finished))
    }

    /// True if it could not be ended.
    pub fn has_failed(&self) -> bool {
        self.phase(|phase| matches!(phase, Phase::Failed(_)))
    }

    /// So many bytes of body are passed on; none where that is not known.
    pub fn count(&self, bytes: Option<u64>) {
        self.passed.set(self.passed.get().zip(bytes).map(|(passed, more)| passed + more));
    }

    /// True if a bucket of the module's own stands for what a program outside httpd sends.
    pub fn has_stand_in(&self) -> bool {
        self.awaited.get().is_some() || self.declared.get().is_some()
    }

    /// What is left of a program's output, where a bucket of the module's own stands for it.
    pub fn program_output(&self) -> Option<BorrowedBrigade<'_>> {
        let awaited = self.awaited.get().and_then(|awaited| awaited.source());
        awaited.or_else(|| self.declared.get().map(|declared| declared.source()))
    }

    /// True if the program may wait for a part of the request's body that has not been read: an end before that would have it wait for the rest.
    pub fn waits_for_body(&self, request: Request<'_>) -> bool {
        self.body.get() != Body::Ended && handlers::proxy_scheme(request) == Some(b"fcgi")
    }

    /// True as long as nothing of it has come by the filter that decides.
    pub fn is_undecided(&self) -> bool {
        self.phase(|phase| matches!(phase, Phase::Undecided))
    }

    /// True once the client was let go.
    pub fn works_on(&self) -> bool {
        self.work.get().is_some()
    }

    /// What goes on since the client was let go; none before.
    pub fn work(&self) -> Option<Arc<Work>> {
        self.work.get().cloned()
    }

    /// The client has been let go.
    pub fn set_work(&self, work: Arc<Work>) {
        debug_assert!(self.is_dropped.get());
        // A response ends once.
        let _ = self.work.set(work);
    }

    /// Looks at how far it is.
    pub fn phase<T>(&self, look: impl FnOnce(&Phase) -> T) -> T {
        look(&self.phase.borrow())
    }

    /// Looks at a declared body's next bytes; none where no end is declared.
    pub fn watch<T>(&self, look: impl FnOnce(&mut Watched) -> T) -> Option<T> {
        match self.phase.replace(Phase::Walking) {
            Phase::Declared(mut watched) => {
                let seen = look(&mut watched);
                self.phase.replace(Phase::Declared(watched));
                Some(seen)
            }
            other => {
                self.phase.replace(other);
                None
            }
        }
    }

    /// Has the response dropped at its request's end. To be called before it gets what has to be: a mark, a place among those in background work, what
    /// stands for a program's output. Most responses get none of these.
    pub fn drop_at_end(&self, request: Request<'_>) {
        if !self.is_dropped.replace(true) {
            request.drop_at_end::<Self>();
        }
    }

    /// Tells the course that nothing was said. Returns what is to be done with a brigade.
    pub fn nothing_said(&self) -> Order<Status> {
        course::nothing_said(&mut self.phase.borrow_mut())
    }

    /// Tells the course what was seen. Returns what is to be done.
    pub fn step(&self, seen: Seen<'_, Status>) -> Order<Status> {
        let unwinding = Unwinding(self);
        let (order, phase) = course::next(self.phase.replace(Phase::Walking), seen);
        std::mem::forget(unwinding);
        debug_assert!(self.is_dropped.get() || !matches!(phase, Phase::Marked(_) | Phase::Declared(_)));
        self.phase.replace(phase);
        order
    }

    /// The filter that has the mark, as soon as a brigade has come to it: behind its end httpd may have taken it out of the request's chain.
    pub fn filter(&self) -> Option<Filter<'_>> {
        self.filter.get().map(Node::get)
    }

    /// This filter has the mark.
    pub fn set_filter(&self, filter: Filter<'_>) {
        self.filter.get_or_init(|| Node::of(filter));
    }

    /// Takes the mark out, for a walk along a brigade. It goes back with [`Seen::Reached`].
    pub fn walk(&self) -> Option<Walking<'_>> {
        match self.phase.replace(Phase::Walking) {
            Phase::Marked(marked) => Some(Walking { marked, unwinding: Unwinding(self) }),
            other => {
                self.phase.replace(other);
                None
            }
        }
    }
}

/// A mark that has been taken out.
pub struct Walking<'r> {
    /// The mark.
    pub marked: Marked,
    unwinding: Unwinding<'r>,
}

impl Walking<'_> {
    /// The walk has come to its end.
    pub fn end(self) -> Marked {
        std::mem::forget(self.unwinding);
        self.marked
    }
}

/// Dropped when a panic unwinds: half a step is not gone on with.
struct Unwinding<'r>(&'r Response);

impl Drop for Unwinding<'_> {
    fn drop(&mut self) {
        self.0.phase.replace(Phase::Failed(Status::GENERAL));
    }
}
