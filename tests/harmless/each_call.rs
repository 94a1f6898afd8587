//! Each call of the module's that can fail fails in turn, at each of its occurrences in a request's course: calls of the kernel, of APR, of
//! httpd and the filters below. The response is whole, or the client sees that it is not; no byte of it is another's, nobody waits in vain, no child
//! ends; all other requests are answered; and each job is done once.
//!
//! A dry run counts the calls. `make test` has the shortest courses, `make check` all.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use support::http1::{Connection, EndKind, Trouble};
use support::{Builder, Fault, Handler, Httpd, Mpm, body};

use crate::administrator::restarts::children;
use crate::administrator::status::{wait_for_running, with_status};
use crate::judge::side_by_side;

/// What the work writes that no client should see.
const LEAK: &str = "what is written after the end";

/// How long calls are looked for that are made when the client has its response and the work has ended.
const AFTERWARDS: Duration = Duration::from_millis(30);

/// Answers with `n` bytes, works for a moment, and notes what it does: a line each in a file that all share.
const JOB: &str = r#"
function handle(r)
    local background = dofile(r.filename:match("^(.*)/") .. "/background.lua")
    local query = r:parseargs()
    local function note(word)
        local ledger = assert(io.open("@GATES@/ledger", "a"))
        ledger:write(query.id .. " " .. word .. "\n")
        ledger:close()
    end
    note("began")
    r.content_type = "text/plain"
    if query.length ~= "none" then
        r.headers_out["Content-Length"] = query.n
    end
    if query.mark then
        r.headers_out["X-Finish-Request"] = query.mark
    end
    if query.close then
        r.headers_out["Connection"] = "close"
    end
    local text = background.body(tonumber(query.n))
    if query.chunked then
        r.headers_out["Transfer-Encoding"] = "chunked"
        text = string.format("%x\r\n%s\r\n0\r\n\r\n", #text, text)
    end
    r:write(text)
    r:flush()
    note("answered")
    r.usleep(20000)
    if query.mark or query.close then
        r:write("what is written after the end")
        r:flush()
    end
    note("ended")
    return apache2.OK
end
"#;

/// The same as a program, that marks its response late.
const LATE: &str = "#!/bin/sh\n. ./background.sh\nquery id ''\nquery n 4096\n\
    echo \"$id began\" >>@GATES@/ledger\n\
    printf 'Content-Type: text/plain\\r\\n\\r\\n'\n\
    body \"$n\"\n\
    printf '%s%s' \"$FINISH_REQUEST\" \"$FINISH_REQUEST\"\n\
    echo \"$id answered\" >>@GATES@/ledger\n\
    sleep 0.02\n\
    printf 'what is written after the end'\n\
    echo \"$id ended\" >>@GATES@/ledger\n";

/// What a request goes through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Course {
    /// Marked, on a connection that is closed.
    Close,
    /// The same over TLS.
    Tls,
    /// With a body that nobody reads.
    Upload,
    /// On a connection that is kept, with the next request behind it: it is handed over.
    Keep,
    /// The same where the next request comes when the work has ended: the connection stays where it is.
    Stay,
    /// The same where the client says while the work runs that nothing follows.
    Leave,
    /// The same where it says nothing, and `KeepAliveTimeout` passes.
    Silence,
    /// With a client that reads slowly, and more than the kernel takes for it.
    Slow,
    /// A stream of HTTP/2.
    Stream,
    /// Recognised by `Auto`.
    Auto,
    /// A program that marks its response late.
    Late,
    /// A flush is the end.
    Flush,
    /// A boundary that never comes.
    NoBoundary,
    /// The application chunks its body by itself.
    Chunks,
    /// No mark.
    Unmarked,
}

impl Course {
    const ALL: [Course; 15] = [
        Course::Close,
        Course::Tls,
        Course::Upload,
        Course::Keep,
        Course::Stay,
        Course::Leave,
        Course::Silence,
        Course::Slow,
        Course::Stream,
        Course::Auto,
        Course::Late,
        Course::Flush,
        Course::NoBoundary,
        Course::Chunks,
        Course::Unmarked,
    ];

    fn runs_on(self, mpm: Mpm) -> bool {
        self != Course::Stream || mpm.has_http2()
    }

    fn page(self) -> &'static str {
        match self {
            Course::Upload => "/close/job.lua",
            Course::Keep | Course::Stay | Course::Leave | Course::Silence => "/keep/job.lua",
            Course::Auto => "/auto/job.lua",
            Course::Late => "/late/job.cgi",
            _ => "/job.lua",
        }
    }

    fn query(self) -> &'static str {
        match self {
            Course::Auto => "&close=1",
            Course::Late | Course::Unmarked => "",
            Course::Flush => "&length=none&mark=flush",
            Course::Chunks => "&length=none&chunked=1&mark=on",
            Course::NoBoundary => "&length=none&mark=boundary=%22a-token-that-never-comes%22",
            _ => "&mark=on",
        }
    }

    /// What its server's configuration has besides.
    fn config(self) -> &'static str {
        if self == Course::Silence { "KeepAliveTimeout 5ms" } else { "" }
    }

    fn bytes(self) -> usize {
        if self == Course::Slow { 300_000 } else { 4096 }
    }

    /// Whether a filter below that refuses what has no mark yet is between it and the application, as in stock httpd: mod_lua does not care, and
    /// what it writes next is all there is.
    fn may_lack(self, fault: Option<Fault>) -> bool {
        let unmarked = matches!(self, Course::Auto | Course::Late | Course::NoBoundary | Course::Unmarked);
        unmarked && fault.is_some_and(|fault| fault.call == "ap_pass_brigade")
    }

    /// Everything that the client may get as the body.
    fn body(self) -> Vec<u8> {
        let mut whole = body(self.bytes());
        if self == Course::NoBoundary {
            whole.extend(LEAK.as_bytes());
        }
        whole
    }
}

/// What a client has got.
#[derive(Debug, PartialEq, Eq)]
enum Answer {
    Whole,
    /// The client sees that it is not whole, or that the server could not make it.
    Broken,
}

/// A server, the ledger of what was worked on, and the numbers of jobs.
struct Trial {
    httpd: Httpd,
    course: Course,
    job: AtomicUsize,
    children: Vec<u32>,
    fault: Cell<Option<Fault>>,
}

fn server(mpm: Mpm) -> Builder {
    let config = "FinishRequest On
         SendBufferSize 16384
         MaxKeepAliveRequests 0
         MaxConnectionsPerChild 0
         FinishRequestBuffer 10M
         FinishRequestMax none
         LogLevel finish_request:notice
         AcceptPathInfo On
         AliasMatch ^/(?:close|keep|auto|late)/(.*) \"${WWW}/$1\"
         <Location /keep>
           FinishRequestConnection Keep
         </Location>
         <Location /auto>
           FinishRequest Auto
         </Location>
         <Location /late>
           SetEnv finish-request late
         </Location>";
    with_status(Httpd::builder(mpm).handler(Handler::Lua).handler(Handler::Cgi))
        .modules(&["alias", "env"])
        .workers(16)
        .config(config)
}

impl Trial {
    fn new(mpm: Mpm, course: Course) -> Trial {
        let httpd = server(mpm).config(course.config()).with_faults(None).start();
        Trial::of(httpd, course)
    }

    fn of(httpd: Httpd, course: Course) -> Trial {
        httpd.install("job.lua", JOB);
        httpd.install("job.cgi", LATE);
        httpd.install("plain.txt", "nothing is wrong here\n");
        fs::write(httpd.root().join("gates/ledger"), "").unwrap();
        fs::set_permissions(httpd.root().join("gates/ledger"), fs::Permissions::from_mode(0o666)).unwrap();
        httpd.may_be_full();
        httpd.allow_log("finish_request:warn");
        httpd.allow_log("finish_request:error.*the kernel gives no random numbers");
        httpd.allow_log("(AH01270|AH01225): Error reading request entity data");
        let children = now(&httpd);
        Trial { httpd, course, job: AtomicUsize::new(0), children, fault: Cell::new(None) }
    }

    /// The course, once. Gives what was asked for and what came.
    fn run(&self) -> Vec<(usize, Answer)> {
        match self.course {
            Course::Stream => vec![self.stream()],
            Course::Slow => vec![self.slow()],
            Course::Keep | Course::Stay => {
                let connection = self.httpd.connect();
                let first = self.ask(&connection, None);
                let first = (first, self.answer(&connection));
                if self.course == Course::Stay {
                    self.check(std::slice::from_ref(&first));
                    // Where its worker takes longer than that, it is handed over: that is right, too.
                    std::thread::sleep(AFTERWARDS);
                }
                let second = self.number();
                // The connection may have been closed by now, as any kept connection may.
                let sent = connection.try_send(self.request(second, None));
                match sent.map(|()| connection.response_or_trouble(false)) {
                    Ok(Ok(response)) => {
                        let right = response.status == 200 && response.body == self.course.body();
                        assert!(right || response.status >= 500 && has_no_leak(&response.body), "another's bytes");
                        vec![first, (second, if right { Answer::Whole } else { Answer::Broken })]
                    }
                    _ => vec![first, (second, Answer::Broken)],
                }
            }
            Course::Leave | Course::Silence => {
                let connection = self.httpd.connect();
                let job = self.ask(&connection, None);
                let answer = self.answer(&connection);
                if self.course == Course::Leave {
                    connection.close_sending();
                }
                // It need not wait for the end: at the latest the work's is that.
                let end = connection.end();
                assert!(self.fault.get().is_some() || end.kind == EndKind::Fin, "{:?}", end.kind);
                vec![(job, answer)]
            }
            Course::Upload => {
                let connection = self.httpd.connect();
                let job = self.ask(&connection, Some(100_000));
                vec![(job, self.last_answer(&connection))]
            }
            Course::Tls => {
                let connection = self.httpd.connect_tls();
                let job = self.ask(&connection, None);
                vec![(job, self.last_answer(&connection))]
            }
            _ => {
                let connection = self.httpd.connect();
                let job = self.ask(&connection, None);
                vec![(job, self.last_answer(&connection))]
            }
        }
    }

    /// The answer, and nothing behind it until the connection ends.
    fn last_answer(&self, connection: &Connection) -> Answer {
        let answer = self.answer(connection);
        // Where the connection would go on, it ends by that.
        connection.close_sending();
        connection.end();
        if answer == Answer::Whole {
            let rest = connection.rest();
            let may_follow = self.course.may_lack(self.fault.get()) && LEAK.as_bytes().ends_with(&rest);
            assert!(rest.is_empty() || may_follow, "bytes behind the response: {}", rest.escape_ascii());
        }
        answer
    }

    fn number(&self) -> usize {
        self.job.fetch_add(1, Ordering::Relaxed)
    }

    fn path(&self, job: usize) -> String {
        format!("{}?id={job}&n={}{}", self.course.page(), self.course.bytes(), self.course.query())
    }

    fn request(&self, job: usize, body: Option<usize>) -> Vec<u8> {
        let path = self.path(job);
        match body {
            None => format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").into_bytes(),
            Some(length) => {
                let head = format!("POST {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {length}\r\n\r\n");
                [head.into_bytes(), vec![b'u'; length]].concat()
            }
        }
    }

    fn ask(&self, connection: &Connection, body: Option<usize>) -> usize {
        let job = self.number();
        // Where it does not take all of a body, the answer says how it goes on.
        let _ = connection.try_send(self.request(job, body));
        job
    }

    /// Whether this is what a course sends, that [may lack](Course::may_lack) a piece, less one piece: to its end, or to what is written behind it.
    fn lacks_one_piece(&self, got: &[u8]) -> bool {
        let same = |(one, other): &(&u8, &u8)| one == other;
        let lacks = |whole: &[u8]| {
            let before = whole.iter().zip(got).take_while(same).count();
            let behind = whole.iter().rev().zip(got.iter().rev()).take_while(same).count();
            got.len() <= whole.len() && before + behind >= got.len()
        };
        let with_leak = [body(self.course.bytes()), LEAK.as_bytes().to_vec()].concat();
        self.course.may_lack(self.fault.get()) && (lacks(&self.course.body()) || lacks(&with_leak))
    }

    fn answer(&self, connection: &Connection) -> Answer {
        match connection.response_or_trouble(false) {
            Ok(response) if response.status == 200 => {
                let right = response.body == self.course.body() || self.lacks_one_piece(&response.body);
                assert!(right, "a whole response of wrong bytes: {}", response.body.escape_ascii());
                assert_eq!(response.header("X-Finish-Request"), None);
                Answer::Whole
            }
            Ok(response) => {
                // A handler whose request cannot be read says 400, mod_cgid does.
                let unread = self.fault.get().is_some_and(|fault| fault.call == "ap_get_brigade");
                let least = if unread { 400 } else { 500 };
                assert!(response.status >= least, "status {}", response.status);
                assert!(has_no_leak(&response.body), "a leak in an error's page");
                Answer::Broken
            }
            Err(Trouble::End(_)) => {
                if let Some(response) = connection.so_far()
                    && response.status == 200
                {
                    let right = self.course.body().starts_with(&response.body) || self.lacks_one_piece(&response.body);
                    assert!(right, "a broken response of wrong bytes: {}", response.body.escape_ascii());
                }
                Answer::Broken
            }
            Err(Trouble::Nonsense(nonsense)) => panic!("{nonsense}"),
        }
    }

    fn stream(&self) -> (usize, Answer) {
        let job = self.number();
        let client = self.httpd.connect_http2();
        let stream = client.get(&self.path(job), &[]);
        let answer = match stream.response_or_failure() {
            Ok(response) if response.status == 200 => {
                assert!(response.body == self.course.body(), "a whole response of wrong bytes");
                assert_eq!(response.header("X-Finish-Request"), None);
                Answer::Whole
            }
            Ok(response) => {
                assert!(response.status >= 500 && has_no_leak(&response.body), "status {}", response.status);
                Answer::Broken
            }
            Err(_) => {
                if let Some(response) = stream.so_far()
                    && response.status == 200
                {
                    assert!(self.course.body().starts_with(&response.body), "a broken response of wrong bytes");
                }
                Answer::Broken
            }
        };
        (job, answer)
    }

    fn slow(&self) -> (usize, Answer) {
        let connection = self.httpd.connect_slow();
        let job = self.ask(&connection, None);
        // It reads when the work goes on without it. Where something fails, the work may wait for it.
        let limit = Instant::now() + Duration::from_secs(2);
        let answered = || self.ledger().contains_key(&(job, "answered".to_owned()));
        let failed = || self.fault.get().is_some() && self.httpd.faults().has_failed();
        while !answered() && !failed() && Instant::now() < limit {
            std::thread::sleep(Duration::from_millis(2));
        }
        connection.resume();
        (job, self.last_answer(&connection))
    }

    /// How often each job has noted what.
    fn ledger(&self) -> HashMap<(usize, String), usize> {
        let text = fs::read_to_string(self.httpd.root().join("gates/ledger")).unwrap();
        let mut ledger = HashMap::new();
        for line in text.lines() {
            if let Some((job, word)) = line.split_once(' ') {
                *ledger.entry((job.parse().unwrap(), word.to_owned())).or_default() += 1;
            }
        }
        ledger
    }

    /// The jobs have been done once; one whose client has got an error may not have been begun.
    fn check(&self, answers: &[(usize, Answer)]) {
        for (job, answer) in answers {
            let noted = |word: &str| self.ledger().get(&(*job, word.to_owned())).copied().unwrap_or(0);
            if *answer == Answer::Whole || noted("began") > 0 {
                // A program whose client has gone too early, or whose output is refused, is ended, as without the module.
                let may_be_ended = *answer == Answer::Broken || self.course.may_lack(self.fault.get());
                if self.course != Course::Late || !may_be_ended {
                    support::wait_for("the end of a job", || (noted("ended") > 0).then_some(()));
                }
                assert!(noted("began") == 1 && noted("ended") <= 1, "job {job} was done more than once");
            }
        }
    }

    /// Others are answered.
    fn others_go_on(&self) {
        let connection = self.httpd.connect();
        connection.get("/plain.txt", &[]);
        assert_eq!(connection.response().body, b"nothing is wrong here\n");
        let job = self.number();
        let connection = self.httpd.connect();
        connection.get(&format!("/job.lua?id={job}&n=4096&mark=on"), &[]);
        assert_eq!(connection.response().body, body(4096));
        assert_eq!(connection.end().kind, EndKind::Fin);
        self.check(&[(job, Answer::Whole)]);
        assert_eq!(now(&self.httpd), self.children, "a child has ended");
    }
}

fn has_no_leak(body: &[u8]) -> bool {
    !body.windows(LEAK.len()).any(|bytes| bytes == LEAK.as_bytes())
}

/// The server's children, where it does not change them by itself.
fn now(httpd: &Httpd) -> Vec<u32> {
    if httpd.log().contains("[mpm_prefork:") {
        return Vec::new();
    }
    let mut children: Vec<_> = children(httpd.id()).into_iter().collect();
    children.sort_unstable();
    children
}

/// Which calls of those that were counted failed.
#[derive(Default)]
struct Failed {
    counted: usize,
    failed: usize,
    /// Those that were made in each dry run, and did not fail once.
    never: Vec<Fault>,
    /// Those that failed, by their number.
    fired: HashSet<u64>,
}

/// How often one is tried again that has not failed, as its call was not made.
const AGAIN: usize = 5;

/// The course with each fault at each of its occurrences, or at the first ones.
fn fail_in(mpm: Mpm, course: Course, most: u32) -> Failed {
    let mut trial = Trial::new(mpm, course);
    // What is done once for a child has been done, by the second time.
    for _ in 0..2 {
        assert_all_whole(&trial.run());
    }
    // In which dry run each was made least, and most.
    let mut counts: HashMap<u64, (u32, u32)> = HashMap::new();
    for _ in 0..3 {
        trial.httpd.faults().set(None);
        let answers = trial.run();
        trial.check(&answers);
        assert_all_whole(&answers);
        // What the child's thread does by itself counts too.
        std::thread::sleep(AFTERWARDS);
        for fault in Fault::all() {
            let count = trial.httpd.faults().count(fault);
            let (least, most) = counts.entry(fault.number()).or_insert((count, count));
            (*least, *most) = ((*least).min(count), (*most).max(count));
        }
    }
    let mut failed = Failed::default();
    let mut wrong = Vec::new();
    for fault in Fault::all() {
        let (least, counted) = counts[&fault.number()];
        let counted = counted.min(most);
        let (mut tried, mut has_ever_failed) = (0, false);
        for occurrence in (1..=counted).chain([1; AGAIN]) {
            if tried >= counted && (has_ever_failed || least == 0) {
                break;
            }
            failed.counted += usize::from(tried < counted);
            tried += 1;
            trial.fault.set(Some(fault));
            trial.httpd.faults().set(Some((fault, occurrence)));
            let result = catch_unwind(AssertUnwindSafe(|| {
                let answers = trial.run();
                trial.check(&answers);
                let limit = Instant::now() + AFTERWARDS;
                while !trial.httpd.faults().has_failed() && Instant::now() < limit {
                    std::thread::sleep(Duration::from_millis(1));
                }
                let has_failed = trial.httpd.faults().has_failed();
                if !has_failed || fault.is_mild() {
                    assert_all_whole(&answers);
                }
                trial.fault.set(None);
                trial.httpd.faults().set(None);
                wait_for_running(&trial.httpd, 0);
                trial.others_go_on();
                has_failed
            }));
            match result {
                Ok(has_failed) => {
                    has_ever_failed |= has_failed;
                    if has_failed {
                        failed.fired.insert(fault.number());
                    }
                    failed.failed += usize::from(has_failed && tried <= counted);
                }
                Err(panic) => {
                    has_ever_failed = true;
                    trial.httpd.faults().set(None);
                    let said = panic.downcast_ref::<String>().cloned();
                    let said = said.or_else(|| panic.downcast_ref::<&str>().map(|&said| said.to_owned()));
                    wrong.push(format!("{course:?} on {mpm:?}, {fault:?}, occurrence {occurrence}: {said:?}"));
                    let log = trial.httpd.log();
                    let end: Vec<_> = log.lines().rev().take(3).collect();
                    eprintln!("{}\n{}", wrong[wrong.len() - 1], end.join("\n"));
                    // Whatever hangs there is not to be found again.
                    let httpd = std::mem::replace(&mut trial, Trial::new(mpm, course)).httpd;
                    httpd.crash();
                    std::mem::forget(httpd);
                }
            }
        }
        if !has_ever_failed && least > 0 {
            failed.never.push(fault);
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    // Also those that began again after their clients had been answered.
    let repeated: Vec<_> = trial.ledger().into_iter().filter(|(_, times)| *times > 1).collect();
    assert!(repeated.is_empty(), "done more than once: {repeated:?}");
    trial.httpd.stop();
    failed
}

fn assert_all_whole(answers: &[(usize, Answer)]) {
    assert!(answers.iter().all(|(_, answer)| *answer == Answer::Whole), "without a fault: {answers:?}");
}

/// While it starts, too: httpd says why it does not, or all is well but for what it says.
#[test]
#[ignore = "make check: minutes"]
fn fails_at_the_start() {
    let all_fired = Mutex::new(HashSet::new());
    side_by_side(Mpm::ALL, |mpm| {
        // Of mod_fcgid's it looks for a kind of buckets; to start that takes long, and once is enough.
        let server = || if mpm == Mpm::Event { server(mpm).handler(Handler::ModFcgid) } else { server(mpm) };
        let dry = Trial::of(server().with_faults(None).start(), Course::Close);
        assert_all_whole(&dry.run());
        let counts: Vec<_> = Fault::all().into_iter().map(|fault| (fault, dry.httpd.faults().count(fault))).collect();
        dry.httpd.stop();
        let (mut refused, mut tried, mut failed) = (0, 0, 0);
        for (fault, count) in counts {
            for occurrence in 1..=count {
                let what = format!("{mpm:?}, {fault:?}, occurrence {occurrence}");
                let fired = || all_fired.lock().unwrap().insert(fault.call);
                tried += 1;
                match server().with_faults(Some((fault, occurrence))).try_start() {
                    Ok(httpd) => {
                        let trial = Trial::of(httpd, Course::Close);
                        trial.fault.set(Some(fault));
                        let answers = trial.run();
                        trial.check(&answers);
                        if trial.httpd.faults().has_failed() {
                            failed += 1;
                            fired();
                        }
                        trial.httpd.faults().set(None);
                        let job = trial.number();
                        let connection = trial.httpd.connect();
                        connection.get(&format!("/job.lua?id={job}&n=4096&mark=on"), &[]);
                        assert_eq!(connection.response().body, body(4096), "{what}");
                        trial.check(&[(job, Answer::Whole)]);
                        trial.httpd.stop();
                    }
                    Err(error) => {
                        // That it has been configured is no complaint.
                        let complains =
                            |line: &str| line.contains("finish_request:") && !line.contains("finish_request:notice");
                        assert!(error.0.lines().any(complains), "{what} is not told: {}", error.0);
                        refused += 1;
                        fired();
                    }
                }
            }
        }
        assert!(
            refused > 0 && (failed + refused) * 2 >= tried,
            "{mpm:?}: {failed} of {tried} failed, {refused} at the start"
        );
        println!("{mpm:?} did not start {refused} times, and said why");
    });
    let fired = all_fired.into_inner().unwrap();
    let idle: Vec<_> = AT_THE_START.iter().filter(|call| !fired.contains(*call)).collect();
    assert!(idle.is_empty(), "these failed at no start: {idle:?}");
}

#[test]
fn fails_in_a_course() {
    side_by_side([Course::Close, Course::Keep], |course| {
        assert!(fail_in(Mpm::Worker, course, 1).failed > 10, "hardly any call is made in {course:?}");
    });
}

/// All courses under all MPMs, and nothing fails: for those who watch the server meanwhile.
#[test]
#[ignore = "make check, where servers are watched"]
fn succeeds() {
    for mpm in Mpm::ALL {
        let httpd = server(mpm).workers(4).start();
        let mut trial = Trial::of(httpd, Course::Close);
        // What needs a server of its own is in directives/watched.rs.
        for course in Course::ALL.into_iter().filter(|course| course.runs_on(mpm) && course.config().is_empty()) {
            trial.course = course;
            for _ in 0..2 {
                let answers = trial.run();
                assert_all_whole(&answers);
                trial.check(&answers);
            }
        }
        wait_for_running(&trial.httpd, 0);
        trial.httpd.stop();
    }
}

/// All courses under all MPMs.
#[test]
#[ignore = "make check: minutes"]
fn fails_in_each_course() {
    let all_fired = Mutex::new(HashSet::new());
    for mpm in Mpm::ALL {
        side_by_side(Course::ALL.into_iter().filter(|course| course.runs_on(mpm)), |course| {
            let Failed { counted, failed, never, fired } = fail_in(mpm, course, u32::MAX);
            all_fired.lock().unwrap().extend(fired);
            println!("{mpm:?}, {course:?}: {} calls of {counted} failed, one after the other", failed);
            assert!(failed > 0 || course == Course::Unmarked, "no call is made in {course:?}");
            // What a thread does by itself is not done the same number of times each time; and each of prefork's children, of which now this one and
            // now that one answers, does some things once.
            let are_enough = if mpm == Mpm::Prefork { failed * 3 >= counted } else { never.is_empty() };
            assert!(are_enough, "{mpm:?}, {course:?}: {failed} of {counted} failed; these did not once: {never:?}");
        });
    }
    let fired = all_fired.into_inner().unwrap();
    let idle: Vec<_> = Fault::all().into_iter().filter(|fault| !fired.contains(&fault.number())).collect();
    println!("these failed in no course: {idle:?}");
    let unknown: Vec<_> = idle
        .iter()
        .filter(|fault| !AT_THE_START.contains(&fault.call) && !IN_NO_COURSE.contains(&fault.call))
        .collect();
    assert!(unknown.is_empty(), "these failed in no course: {unknown:?}");
}

/// Calls of the module's that are made at the start alone.
const AT_THE_START: [&str; 9] = [
    "bind",
    "chmod",
    "listen",
    "mkdtemp",
    "rmdir",
    "unlink",
    "apr_dso_sym",
    "apr_os_sock_make",
    "apr_sockaddr_info_get",
];

/// Calls of the module's that no course makes, and no start.
const IN_NO_COURSE: [&str; 6] = [
    // Of Rust's library, for a thread: once for each child, before the course. What a child does without its thread is in faults.rs.
    "mmap",
    "mmap64",
    "mprotect",
    "pthread_create",
    // Of its sleep, which some releases of it make.
    "nanosleep",
    // mod_status's page.
    "ap_rwrite",
];
