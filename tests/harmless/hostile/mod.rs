//! Who means harm gets no further than who does not: others are answered throughout, no process ends by it, each job that has begun is done
//! once, and nothing is left of it.
//!
//! * `applications`: Responses that are made to deceive: the client gets what stock httpd lets through, and the next response is the next one.
//! * `clients`: Resets at every stage of the finish, floods of them, slow beginnings, TLS's oddities.
//! * `streams`: HTTP/2's own ways: streams that are reset, windows and settings that are played with.

mod applications;
mod clients;
mod streams;

use std::collections::HashMap;
use std::fs;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use support::http1::EndKind;
use support::{Background, Builder, Client, Handler, Httpd, Mpm, Protocol, body, wait_for};

use crate::administrator::status::{wait_for_running, with_status};
use crate::finished::endurance::{Use, settled};
use crate::judge::assert_body;

/// Keeps a ledger: `began` when its response is at its end, `ended` when its work is done. `waits` where its query says that it is to `hold`: in
/// the `middle` of its response, or at its `work`, until its gate is open.
const JOB: &str = r#"
function handle(r)
    local background = dofile(r.document_root .. "/background.lua")
    local query = r:parseargs()
    local function note(what)
        local ledger = assert(io.open("@GATES@/ledger", "a"))
        ledger:write(what .. " " .. query.id .. "\n")
        ledger:close()
    end
    local function hold(where)
        if query.hold ~= where then return end
        note("waits")
        local limit, gate = r:clock() + 75000000, nil
        repeat
            r.usleep(1000)
            gate = io.open("@GATES@/" .. query.id .. ".gate")
        until gate or r:clock() > limit
        if gate then gate:close() end
    end
    local text = background.body(tonumber(query.bytes or 4096))
    r.content_type = "text/plain"
    r.headers_out["X-Finish-Request"] = "length=" .. #text
    r:write(text:sub(1, 1000))
    if query.hold == "middle" then r:flush() end
    hold("middle")
    r:write(text:sub(1001))
    r:flush()
    note("began")
    hold("work")
    r:write("left over")
    r:flush()
    note("ended")
    return apache2.OK
end
"#;

/// The pages of the job, with `Close` and with `Keep`.
const CLOSED: &str = "closed.lua";
const KEPT: &str = "kept.lua";

/// The page of those who do not attack, which has a ledger of its own: whether anything was attacked is to be seen in the other.
const OTHERS: &str = "others.lua";

/// A server to be attacked. Of its processes none ends by itself.
struct Attacked {
    httpd: Httpd,
    mpm: Mpm,
}

impl Attacked {
    fn start(mpm: Mpm, configure: impl FnOnce(Builder) -> Builder) -> Attacked {
        let builder = with_status(Httpd::builder(mpm).handler(Handler::Lua).workers(48)).config(&format!(
            "FinishRequestMax none\nMaxKeepAliveRequests 0\n<Location /{KEPT}>\nFinishRequestConnection Keep\n</Location>"
        ));
        let httpd = configure(builder).start();
        httpd.may_be_full();
        httpd.install(CLOSED, JOB);
        httpd.install(KEPT, JOB);
        httpd.install(OTHERS, &JOB.replace("/ledger", "/others"));
        Attacked { httpd, mpm }
    }

    /// Attacks again and again, while others are answered, until nothing grows any more; then stops the server. What malloc and httpd keep for each
    /// thread grows with the first rounds.
    #[track_caller]
    fn withstands(self, attack: impl Fn(&Httpd)) {
        const ROUNDS: usize = 15;
        let Attacked { httpd, mpm } = &self;
        let mut rounds: Vec<HashMap<u32, Use>> = Vec::new();
        while match &rounds[..] {
            [.., before, after] => rounds.len() < 3 || grows(before, after),
            _ => true,
        } {
            assert!(rounds.len() < ROUNDS, "it grows in every round: {rounds:#?}");
            beside_others(httpd, *mpm, || attack(httpd));
            wait_for_running(httpd, 0);
            rounds.push(settled(httpd));
        }
        self.is_right("ledger");
        self.is_right("others");
        self.httpd.stop();
    }

    /// Each job in this ledger that has begun has ended, once, and is in the access log, once.
    #[track_caller]
    fn is_right(&self, file: &str) {
        let ledger = || {
            let text = fs::read_to_string(self.httpd.root().join("gates").join(file)).unwrap_or_default();
            let mut lines: HashMap<String, [usize; 2]> = HashMap::new();
            for line in text.lines() {
                let (what, id) = line.split_once(' ').unwrap();
                let counts = lines.entry(id.to_owned()).or_default();
                counts[0] += usize::from(what == "began");
                counts[1] += usize::from(what == "ended");
            }
            lines
        };
        // Some may wait to begin.
        let has_ended = |[began, ended]: &[usize; 2]| *began > 0 && began == ended;
        let ledger = wait_for("all jobs to end", || Some(ledger()).filter(|jobs| jobs.values().all(has_ended)));
        assert!(!ledger.is_empty(), "no job has begun: nothing was attacked, or nobody else was there");
        let logged = || {
            let mut logged: HashMap<String, usize> = HashMap::new();
            for line in self.httpd.access_log() {
                if let Some((id, _)) = line.split_once("?id=").and_then(|(_, rest)| rest.split_once('&')) {
                    *logged.entry(id.to_owned()).or_default() += 1;
                }
            }
            logged
        };
        let all = || Some(logged()).filter(|logged| ledger.keys().all(|id| logged.contains_key(id)));
        let logged = wait_for("all jobs in the access log", all);
        for (id, counts) in ledger {
            assert_eq!((counts, logged[&id]), ([1, 1], 1), "how often {id} has begun and ended, and was logged");
        }
    }
}

/// The path of a job.
fn job(background: &Background, page: &str, query: &str) -> String {
    format!("{}&{query}", background.query(page))
}

/// Waits until the job waits where it is to hold.
#[track_caller]
fn wait_for_hold(httpd: &Httpd, background: &Background) {
    let line = format!("waits {}\n", background.id());
    let ledger = httpd.root().join("gates/ledger");
    wait_for("the job to hold", || fs::read_to_string(&ledger).unwrap_or_default().contains(&line).then_some(()));
}

/// How long others do nothing between what they ask.
const PAUSE: Duration = Duration::from_millis(20);

/// Attacks until several others have been answered meanwhile.
fn beside_others(httpd: &Httpd, mpm: Mpm, attack: impl Fn()) {
    /// Also where the attack panics, or the others do.
    struct Over<'a>(&'a AtomicBool);
    impl Drop for Over<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let (over, answered) = (AtomicBool::new(false), AtomicUsize::new(0));
    thread::scope(|scope| {
        let _over = Over(&over);
        scope.spawn(|| {
            let _over = Over(&over);
            while !over.load(Ordering::Relaxed) {
                is_answered(httpd, mpm);
                answered.fetch_add(1, Ordering::Relaxed);
                // The others do not attack.
                thread::sleep(PAUSE);
            }
        });
        let before = answered.load(Ordering::Relaxed);
        while {
            attack();
            !over.load(Ordering::Relaxed) && answered.load(Ordering::Relaxed) < before + 2
        } {}
    });
}

/// Somebody who means no harm: an ordinary response over each protocol, and a finished one.
#[track_caller]
fn is_answered(httpd: &Httpd, mpm: Mpm) {
    for &protocol in mpm.protocols() {
        let client = Client::connect(httpd, protocol);
        let response = client.get("/app.lua?mark=none&bytes=77", &[]).response();
        assert_eq!((response.status, &response.body), (200, &body(77)));
    }
    let (background, client) = (httpd.background(), Client::connect(httpd, Protocol::Http1));
    let exchange = client.get(&job(&background, OTHERS, ""), &[]);
    assert_body(&exchange.response(), &body(4096));
    assert_eq!(client.http1().unwrap().end().kind, EndKind::Fin);
}

/// Whether a process holds more after a round than before it. None may have ended.
#[track_caller]
fn grows(before: &HashMap<u32, Use>, after: &HashMap<u32, Use>) -> bool {
    /// Some kilobytes for each client of a round.
    const NOISE_KB: u64 = 1_024;
    before.iter().any(|(process, before)| {
        let Some(after) = after.get(process) else { panic!("process {process} has ended: {after:?}") };
        after.descriptors > before.descriptors
            || after.threads > before.threads
            || after.kilobytes > before.kilobytes + NOISE_KB
    })
}
