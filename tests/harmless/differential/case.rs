//! A case: what the client asks, and what the application does. It is data, and prints as the request that a person can repeat.

use std::fmt;

use proptest::prelude::*;
use proptest::sample::select;

/// Where the answer comes from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum App {
    /// `steps.php`, by whichever handler runs PHP there.
    Php,
    /// A script of mod_cgi or mod_cgid.
    Cgi,
    Lua,
    /// An origin behind mod_proxy_http.
    Origin,
    /// A static file.
    File,
}

impl App {
    pub const ALL: [App; 5] = [App::Php, App::Cgi, App::Lua, App::Origin, App::File];

    fn page(self) -> &'static str {
        match self {
            App::Php => "steps.php",
            App::Cgi => "steps.cgi",
            App::Lua => "steps.lua",
            App::Origin => "origin/",
            App::File => "file.txt",
        }
    }
}

/// How the client speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1 with `Connection: close`.
    Close,
    /// HTTP/1.1, and more requests on the same connection as far as the server keeps it.
    Kept,
    /// The same over TLS.
    Tls,
    /// HTTP/2 without TLS.
    H2,
    /// HTTP/2 over TLS.
    H2Tls,
}

impl Way {
    const HTTP1: [Way; 4] = [Way::Http10, Way::Close, Way::Kept, Way::Tls];
    const HTTP2: [Way; 2] = [Way::H2, Way::H2Tls];

    pub fn is_http2(self) -> bool {
        Way::HTTP2.contains(&self)
    }
}

/// What an application does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    Status(u16),
    Header(String),
    /// An interim response; only of an origin.
    Interim,
    /// Reads so many bytes of the request's body, or all.
    Read(Option<usize>),
    /// One write: these pieces.
    Write(Vec<Piece>),
    Flush,
    /// Milliseconds.
    Pause(u64),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Piece {
    /// Bytes of the file `NAME.dat`, from a position on: `T` has text, `Z` noise, `G` text that is compressed already.
    Data(char, usize, usize),
    /// These bytes.
    Raw(String),
    /// A part of the digits, twice in a row, that httpd gives the application for a mark that comes late; nothing where it gives none.
    Digits(usize, usize),
}

impl Piece {
    pub fn len(&self) -> usize {
        match self {
            Piece::Data(_, _, bytes) => *bytes,
            Piece::Raw(text) => text.len(),
            Piece::Digits(..) => 0,
        }
    }
}

/// One request, and what the application does for it.
#[derive(Clone, PartialEq, Eq)]
pub struct Case {
    pub app: App,
    pub way: Way,
    pub method: &'static str,
    pub headers: Vec<(&'static str, &'static str)>,
    pub upload: Option<usize>,
    pub steps: Vec<Step>,
    /// The length that the application declares, where it is a number.
    pub declared: Option<u64>,
    /// The body has chunks of the application's own, or is said to.
    pub chunked: bool,
}

impl fmt::Debug for Case {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Case { app, way, method, headers, upload, declared, .. } = self;
        writeln!(f, "{app:?} {way:?} declared {declared:?}: {method} {}", self.path("MODE"))?;
        write!(f, "  with {headers:?} and a body of {upload:?}; the steps: {:?}", self.steps)
    }
}

impl Case {
    /// A plain GET of an application with these steps.
    pub fn get(app: App, way: Way, steps: Vec<Step>) -> Case {
        let declared = declared(&steps);
        let chunked =
            steps.iter().any(|step| matches!(step, Step::Header(line) if line.starts_with("Transfer-Encoding:")));
        Case { app, way, method: "GET", headers: Vec::new(), upload: None, steps, declared, chunked }
    }

    pub fn with(mut self, name: &'static str, value: &'static str) -> Case {
        self.headers.push((name, value));
        self
    }

    pub fn path(&self, mode: &str) -> String {
        let steps: Vec<String> = self.steps.iter().map(encoded).collect();
        format!("/{mode}/{}?{}", self.app.page(), steps.join("~"))
    }

    pub fn says(&self, line: &str) -> bool {
        self.steps.iter().any(|step| matches!(step, Step::Header(said) if said.eq_ignore_ascii_case(line)))
    }

    fn digits(&self) -> impl Iterator<Item = (usize, usize)> {
        let pieces = self.steps.iter().filter_map(|step| match step {
            Step::Write(pieces) => Some(pieces),
            _ => None,
        });
        pieces.flatten().filter_map(|piece| match piece {
            Piece::Digits(from, to) => Some((*from, *to)),
            _ => None,
        })
    }

    /// The same up to where all of the digits have been put out, if they are: there its response ends.
    pub fn until_digits(&self) -> Option<Case> {
        let last = self.digits().last().filter(|(_, to)| *to == DIGITS)?;
        let mut case = self.clone();
        case.steps.clear();
        for step in &self.steps {
            let Step::Write(pieces) = step else {
                case.steps.push(step.clone());
                continue;
            };
            let is_last = |piece: &&Piece| matches!(piece, Piece::Digits(from, to) if (*from, *to) == last);
            let before: Vec<Piece> = pieces.iter().take_while(|piece| !is_last(piece)).cloned().collect();
            let ends = before.len() < pieces.len();
            case.steps.push(Step::Write(before));
            if ends {
                break;
            }
        }
        Some(case)
    }

    /// The same without a body, where the header says that there is none: with a late mark the response may end there.
    pub fn header_alone(&self) -> Option<Case> {
        if self.method != "HEAD" && self.declared != Some(0) {
            return None;
        }
        let mut case = self.clone();
        case.steps.retain(|step| !matches!(step, Step::Write(_)));
        Some(case)
    }

    /// The application's timing made another one: without its short pauses, as on a busy machine.
    pub fn faster(&self) -> Case {
        let mut case = self.clone();
        case.steps.retain(|step| !matches!(step, Step::Pause(ms) if *ms < LONG));
        case
    }

    /// The same without any pauses: what a machine that is very busy sees of them, once in a while.
    pub fn at_once(&self) -> Case {
        let mut case = self.clone();
        case.steps.retain(|step| !matches!(step, Step::Pause(_)));
        case
    }

    /// The application's timing made another one: so long before each write, and so long before the end.
    pub fn slower(&self, before_each: u64, before_end: u64) -> Case {
        let mut case = self.clone();
        case.steps.clear();
        for step in &self.steps {
            if matches!(step, Step::Write(_)) && before_each > 0 {
                case.steps.push(Step::Pause(before_each));
            }
            case.steps.push(step.clone());
        }
        case.steps.push(Step::Pause(before_end));
        case
    }

    /// The same without what is written later than the declared end, if there is such output: the one thing that `Auto` may drop.
    /// Later is: after a flush or a pause that follows when exactly the declared length, or the last chunk, was written.
    pub fn without_late(&self) -> Option<Case> {
        let declared = self.declared;
        if !self.chunked && declared.is_none() {
            return None;
        }
        let (mut written, mut text, mut ended, mut late) = (0, String::new(), false, false);
        let mut case = self.clone();
        case.steps.clear();
        for step in &self.steps {
            match step {
                Step::Write(pieces) if ended => late |= pieces.iter().any(|piece| piece.len() > 0),
                Step::Write(pieces) => {
                    written += bytes(step);
                    text = match pieces.last() {
                        Some(Piece::Raw(raw)) => raw.clone(),
                        _ => String::new(),
                    };
                    case.steps.push(step.clone());
                }
                Step::Flush | Step::Pause(_) => {
                    ended |= if self.chunked { ends_chunks(&text) } else { declared == Some(written) };
                    case.steps.push(step.clone());
                }
                _ => case.steps.push(step.clone()),
            }
        }
        late.then_some(case)
    }

    /// Whether `Auto` finishes the response before its late output, whatever the time it takes: inside httpd, where a flush and a
    /// pause follow the declared length, and nothing of the request has filters wait for the end.
    pub fn ends_for_certain(&self) -> bool {
        let closes = matches!(self.way, Way::Http10 | Way::Close) || self.says("Connection: close");
        let recognised = self.way.is_http2() || closes;
        let plain = self.app == App::Lua && self.method == "GET" && self.headers.is_empty() && !self.chunked;
        let mut written = 0;
        let flushed = self.steps.windows(2).any(|steps| {
            written += bytes(&steps[0]);
            self.declared == Some(written) && steps == [Step::Flush, Step::Pause(LONG)]
        });
        recognised && plain && flushed && self.without_late().is_some()
    }
}

fn ends_chunks(text: &str) -> bool {
    text.ends_with("0\r\n\r\n") || text.starts_with("0\r\n") && text.ends_with("\r\n\r\n")
}

fn bytes(step: &Step) -> u64 {
    match step {
        Step::Write(pieces) => pieces.iter().map(|piece| piece.len() as u64).sum(),
        _ => 0,
    }
}

/// Of several the last counts: that is all that PHP, or httpd of a script's header, passes on.
fn declared(steps: &[Step]) -> Option<u64> {
    let mut lengths = steps.iter().filter_map(|step| match step {
        Step::Header(line) => line.strip_prefix("Content-Length: "),
        _ => None,
    });
    lengths.next_back()?.parse().ok()
}

fn encoded(step: &Step) -> String {
    match step {
        Step::Status(status) => format!("S{status}"),
        Step::Header(line) => format!("H{}", escaped(line)),
        Step::Interim => "I".to_owned(),
        Step::Read(None) => "R".to_owned(),
        Step::Read(Some(bytes)) => format!("R{bytes}"),
        Step::Flush => "F".to_owned(),
        Step::Pause(ms) => format!("P{ms}"),
        Step::Write(pieces) => {
            let piece = |piece: &Piece| match piece {
                Piece::Data(name, from, bytes) => format!("{name}{from}.{bytes}~"),
                Piece::Raw(text) => format!("X{}~", escaped(text)),
                Piece::Digits(from, to) => format!("D{from}.{to}~"),
            };
            pieces.iter().map(piece).chain(["E".to_owned()]).collect()
        }
    }
}

fn escaped(text: &str) -> String {
    let byte = |byte: u8| match byte {
        b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'/' | b':' | b';' | b'=' => char::from(byte).to_string(),
        _ => format!("%{byte:02X}"),
    };
    text.bytes().map(byte).collect()
}

/// The sizes at which something changes: mod_deflate's least, PHP's and httpd's buffers.
const SIZES: [usize; 11] = [0, 1, 7, 40, 256, 1500, 4096, 8000, 8192, 20_000, 70_000];

/// How many digits there are, twice in a row.
const DIGITS: usize = 64;

/// Pauses: one that a busy machine may not notice, and one that it does.
const SHORT: u64 = 5;
pub const LONG: u64 = 40;

/// What an application says of the length of its body.
#[derive(Clone, Copy, Debug)]
enum Length {
    None,
    Right,
    Short(usize),
    Long(usize),
    Twice,
    TwoOfThem,
    Text(&'static str),
}

/// What an application that chunks by itself makes of it.
#[derive(Clone, Copy, Debug)]
enum Chunks {
    Right,
    Trailers,
    Junk,
    WrongSize,
    None,
    Unfinished,
}

#[derive(Clone, Debug)]
struct Part {
    name: char,
    bytes: usize,
    flush: bool,
    pause: u64,
}

fn parts() -> impl Strategy<Value = Vec<Part>> {
    let part = (select(&['T', 'T', 'Z'][..]), select(&SIZES[..]), any::<bool>(), select(&[0, 0, 0, SHORT, LONG][..]))
        .prop_map(|(name, bytes, flush, pause)| Part { name, bytes, flush, pause });
    prop::collection::vec(part, 0..4)
}

fn length() -> impl Strategy<Value = Length> {
    prop_oneof![
        4 => Just(Length::None),
        5 => Just(Length::Right),
        2 => select(&[1usize, 11, 200][..]).prop_map(Length::Short),
        2 => select(&[1usize, 32, 5000][..]).prop_map(Length::Long),
        1 => Just(Length::Twice),
        1 => Just(Length::TwoOfThem),
        1 => select(&["", "abc", "-5", "+40", "12abc", "99999999999999999999", "9223372036854775807", "0x20", "1 500"][..])
            .prop_map(Length::Text),
    ]
}

fn chunks() -> impl Strategy<Value = Option<Chunks>> {
    let kind = select(
        &[
            Chunks::Right,
            Chunks::Right,
            Chunks::Trailers,
            Chunks::Junk,
            Chunks::WrongSize,
            Chunks::None,
            Chunks::Unfinished,
        ][..],
    );
    prop_oneof![5 => Just(None), 1 => kind.prop_map(Some)]
}

/// Where an application puts its digits, and how.
#[derive(Clone, Copy, Debug)]
enum Digits {
    None,
    /// At once, with the write of this number or by themselves.
    Whole(usize, bool),
    /// In two writes, so many in the first one, with a flush or a pause between them.
    Split(usize, usize, bool),
    /// So many of them alone, at the end of all.
    CutOff(usize),
}

fn digits(app: App) -> impl Strategy<Value = Digits> {
    let weight = u32::from(matches!(app, App::Php | App::Cgi));
    prop_oneof![
        3 => Just(Digits::None),
        2 * weight => (0..4usize, any::<bool>()).prop_map(|(at, alone)| Digits::Whole(at, alone)),
        // Fewer than eight are shown, where a flush parts them.
        weight => (0..4usize, 8..DIGITS, any::<bool>()).prop_map(|(at, cut, pause)| Digits::Split(at, cut, pause)),
        weight => (8..DIGITS).prop_map(Digits::CutOff),
    ]
}

/// Puts the digits into the steps of a body.
fn put_digits(content: &mut Vec<Step>, digits: Digits) {
    let piece = |from, to| vec![Piece::Digits(from, to)];
    match digits {
        // At the very end.
        Digits::None | Digits::CutOff(_) => {}
        Digits::Whole(at, alone) => {
            let at = at.min(content.len());
            match at.checked_sub(1).and_then(|before| content.get_mut(before)) {
                Some(Step::Write(pieces)) if !alone => pieces.extend(piece(0, DIGITS)),
                _ => content.insert(at, Step::Write(piece(0, DIGITS))),
            }
        }
        Digits::Split(at, cut, pause) => {
            let between = if pause { Step::Pause(SHORT) } else { Step::Flush };
            let at = at.min(content.len());
            content.splice(at..at, [Step::Write(piece(0, cut)), between, Step::Write(piece(cut, DIGITS))]);
        }
    }
}

/// Puts the parts, framed as `chunks` says, into steps.
fn body(steps: &mut Vec<Step>, parts: &[Part], chunks: Option<Chunks>) {
    let mut from = 0;
    let raw = |text: &str| Piece::Raw(text.to_owned());
    for part in parts {
        let data = Piece::Data(part.name, from, part.bytes);
        from += part.bytes;
        steps.push(Step::Write(match chunks {
            None | Some(Chunks::None) => vec![data],
            // A chunk of nothing would be the last one.
            Some(_) if part.bytes == 0 => vec![],
            Some(Chunks::WrongSize) => vec![raw(&format!("{:x}\r\n", part.bytes + 3)), data, raw("\r\n")],
            Some(_) => vec![raw(&format!("{:x}\r\n", part.bytes)), data, raw("\r\n")],
        }));
        if part.flush {
            steps.push(Step::Flush);
        }
        if part.pause > 0 {
            steps.push(Step::Pause(part.pause));
        }
    }
    match chunks {
        None | Some(Chunks::None | Chunks::Unfinished) => {}
        Some(Chunks::Trailers) => steps.push(Step::Write(vec![raw("0\r\nX-Sum: 17\r\n\r\n")])),
        Some(Chunks::Junk) => steps.push(Step::Write(vec![raw("0\r\n\r\nand more of it")])),
        Some(Chunks::Right | Chunks::WrongSize) => steps.push(Step::Write(vec![raw("0\r\n\r\n")])),
    }
}

fn head(status: u16, kind: &str, close: bool) -> Vec<Step> {
    let mut steps = Vec::new();
    if status != 200 {
        steps.push(Step::Status(status));
    }
    steps.push(Step::Header(format!("Content-Type: {kind}")));
    if status == 302 {
        steps.push(Step::Header("Location: http://localhost/elsewhere".to_owned()));
    }
    if close {
        steps.push(Step::Header("Connection: close".to_owned()));
    }
    steps
}

/// All that an application does.
fn script(app: App, packed: usize) -> impl Strategy<Value = Vec<Step>> {
    let status = prop_oneof![6 => Just(200u16), 1 => select(&[201u16, 204, 302, 304, 404, 500][..])];
    let kind = select(&["text/plain", "text/plain", "text/html; charset=utf-8", "application/octet-stream"][..]);
    let of_head = (status, kind, any::<bool>(), prop::bool::weighted(0.1), prop::bool::weighted(0.1));
    let read = select(&[None, Some(None), Some(Some(100)), Some(Some(20_000))][..]);
    let end = (select(&[0, 0, SHORT, LONG][..]), any::<bool>(), select(&[0usize, 0, 1, 300][..]));
    let body_of = (parts(), length(), chunks(), digits(app));
    (of_head, read, body_of, end).prop_map(move |(head_of, read, (parts, length, chunks, digits), end)| {
        let (status, kind, close, interim, is_packed) = head_of;
        let bodiless = status == 204 || status == 304;
        let mut steps = Vec::new();
        if interim && app == App::Origin {
            steps.push(Step::Interim);
        }
        if let Some(bytes) = read {
            steps.push(Step::Read(bytes));
        }
        steps.extend(head(status, kind, close));
        let mut content = Vec::new();
        if is_packed && chunks.is_none() && !bodiless {
            steps.push(Step::Header("Content-Encoding: gzip".to_owned()));
            content.push(Step::Write(vec![Piece::Data('G', 0, packed)]));
        } else if !bodiless {
            body(&mut content, &parts, chunks);
        }
        // What is declared is not so where the digits end it.
        let (length, chunks) = if matches!(digits, Digits::None) { (length, chunks) } else { (Length::None, None) };
        if !bodiless {
            put_digits(&mut content, digits);
        }
        let written: u64 = content.iter().map(bytes).sum();
        let written = written as usize;
        let mut line = |length: String| steps.push(Step::Header(format!("Content-Length: {length}")));
        match (chunks, length) {
            (Some(_), _) => steps.push(Step::Header("Transfer-Encoding: chunked".to_owned())),
            (None, Length::None) => {}
            (None, Length::Right) => line(written.to_string()),
            (None, Length::Short(by)) => line(written.saturating_sub(by).to_string()),
            (None, Length::Long(by)) => line((written + by).to_string()),
            (None, Length::Twice) => [(); 2].iter().for_each(|()| line(written.to_string())),
            (None, Length::TwoOfThem) => [written, written + 5].iter().for_each(|length| line(length.to_string())),
            (None, Length::Text(text)) => line(text.to_owned()),
        }
        steps.extend(content);
        // The work behind the response.
        let (pause, flush, late) = end;
        if flush {
            steps.push(Step::Flush);
        }
        if pause > 0 {
            steps.push(Step::Pause(pause));
            if late > 0 && !bodiless {
                steps.push(Step::Write(vec![Piece::Data('T', 0, late)]));
            }
        }
        if let (Digits::CutOff(cut), false) = (digits, bodiless) {
            steps.push(Step::Write(vec![Piece::Digits(0, cut)]));
        }
        steps
    })
}

/// Any case for a server with, or without, HTTP/2; so long is the file of compressed text.
pub fn cases(http2: bool, packed: usize) -> impl Strategy<Value = Case> {
    let ways: Vec<Way> = Way::HTTP1.into_iter().chain(Way::HTTP2.into_iter().filter(|_| http2)).collect();
    let method = prop_oneof![6 => Just("GET"), 1 => Just("HEAD"), 1 => Just("POST")];
    let range = prop_oneof![
        6 => Just(None),
        1 => select(&["bytes=10-24", "bytes=-5", "bytes=0-0,20-30", "bytes=90000000-", "bytes=5-"][..]).prop_map(Some),
    ];
    let upload = select(&[0usize, 10, 9000, 60_000, 300_000][..]);
    let request = (select(ways), method, any::<bool>(), range, upload);
    (select(&App::ALL[..]), request).prop_flat_map(move |(app, request)| {
        script(app, packed).prop_map(move |steps| {
            let (way, method, gzip, range, upload) = request;
            let mut case = Case::get(app, way, steps);
            case.method = if app == App::File && method == "POST" { "GET" } else { method };
            case.upload = (case.method == "POST").then_some(upload);
            if gzip {
                case = case.with("Accept-Encoding", "gzip");
            }
            // A script of mod_cgid that ends with input unread: stock httpd has an answer, an error, nothing, or, over HTTP/2, a
            // client that waits for ever.
            if app == App::Cgi && case.upload.is_some() {
                case.steps.retain(|step| !matches!(step, Step::Read(_)));
                case.steps.insert(0, Step::Read(None));
            }
            match range {
                Some(range) => case.with("Range", range),
                None => case,
            }
        })
    })
}
