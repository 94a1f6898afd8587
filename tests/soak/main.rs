//! `make soak`: a mixed load at full speed, for minutes, under each MPM, while the server restarts gracefully, children are killed, and the
//! module's file is replaced. Each response that has reached a client is right to the byte; each job of a child that was not killed has run
//! exactly once; descriptors, threads and memory stay as they were. What is wrong is printed, and the program fails.
//!
//! `MINUTES` (10) says how long, for each MPM; `MPM` which one alone; `SEED` (1) makes other choices.
//!
//! `client` asks and reads; `ledger` knows what was to be done and what was done; `disturb` restarts, kills, replaces, and measures.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod client;
mod disturb;
mod ledger;

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::ExitCode;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::{Handler, Httpd, Mpm};

use crate::client::Client;
use crate::disturb::Disturber;
use crate::ledger::Ledger;

/// In which part of the time something happens to the server.
const DISTURBED: f64 = 0.7;
/// How many clients there are at a time.
const CLIENTS: usize = 8;

/// Answers with the job's number, again and again, so that another's bytes are seen; then it works on for a moment. It notes in which process.
const JOB: &str = r#"
local process = assert(io.open("/proc/self/stat")):read(32):match("^%d+")

function handle(r)
    local query = r:parseargs()
    local n = tonumber(query.n)
    local function note(word)
        local ledger = assert(io.open("@GATES@/ledger", "a"))
        ledger:write(query.id .. " " .. process .. " " .. word .. "\n")
        ledger:close()
    end
    note("began")
    r.content_type = "text/plain"
    if query.framing == "length" then
        r.headers_out["Content-Length"] = query.n
    end
    if query.mark then
        r.headers_out["X-Finish-Request"] = query.mark
    end
    if query.close then
        r.headers_out["Connection"] = "close"
    end
    local word = query.id .. "\n"
    r:write(word:rep(math.floor(n / #word) + 1):sub(1, n))
    r:flush()
    if query.mark or query.close then
        r.usleep(tonumber(query.work or 0))
        r:write("what is written after the end")
        r:flush()
    end
    note("ended")
    return apache2.OK
end
"#;

/// A program that marks its response late.
const LATE: &str = "#!/bin/sh\n. ./background.sh\nquery id ''\nquery n 1000\n\
    echo \"$id $PPID began\" >>@GATES@/ledger\n\
    printf 'Content-Type: text/plain\\r\\n\\r\\n'\n\
    yes \"$id\" 2>/dev/null | head -c \"$n\"\n\
    printf '%s%s' \"$FINISH_REQUEST\" \"$FINISH_REQUEST\"\n\
    printf 'what is written after the end'\n\
    echo \"$id $PPID ended\" >>@GATES@/ledger\n";

const CONFIG: &str = "FinishRequest On
    FinishRequestMax none
    SendBufferSize 32768
    MaxKeepAliveRequests 0
    KeepAliveTimeout 30
    MaxMemFree 256
    LogLevel notice finish_request:warn
    CustomLog /dev/null common
    AliasMatch ^/(?:keep|auto|late)/(.*) \"${WWW}/$1\"
    <Location /keep>
      FinishRequestConnection Keep
    </Location>
    <Location /auto>
      FinishRequest Auto
    </Location>
    <Location /late>
      SetEnv finish-request late
    </Location>";

fn main() -> ExitCode {
    client::tell_panics();
    let number = |name: &str, default: f64| env::var(name).ok().map_or(default, |text| text.parse().expect(name));
    let minutes = number("MINUTES", 10.0);
    let seed = number("SEED", 1.0) as u64;
    let only = env::var("MPM").unwrap_or_default().to_lowercase();
    let mut good = true;
    for mpm in Mpm::ALL {
        if only.is_empty() || format!("{mpm:?}").to_lowercase() == only {
            good &= soak(mpm, Duration::from_secs_f64(minutes * 60.0), seed);
        }
    }
    if good { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn soak(mpm: Mpm, time: Duration, seed: u64) -> bool {
    let httpd = Httpd::builder(mpm)
        .handler(Handler::Lua)
        .handler(Handler::Cgi)
        .modules(&["alias", "env"])
        .workers(64)
        .generations(8)
        .config(CONFIG)
        .start();
    httpd.install("job.lua", JOB);
    httpd.install("job.cgi", LATE);
    let file = httpd.root().join("gates/ledger");
    fs::write(&file, "").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o666)).unwrap();
    disturb::announce(&httpd);

    let ledger = Ledger::default();
    let stop = AtomicBool::new(false);
    let begin = Instant::now();
    let disturbed = thread::scope(|scope| {
        for number in 0..CLIENTS {
            let (httpd, ledger, stop) = (&httpd, &ledger, &stop);
            scope.spawn(move || {
                let mut client = Client::new(httpd, ledger, seed.wrapping_mul(1000) + number as u64 + 1);
                while !stop.load(Ordering::Relaxed) {
                    client.one();
                }
            });
        }
        let mut disturber = Disturber::new(&httpd, seed);
        let disturbed = time.mul_f64(DISTURBED);
        while begin.elapsed() < disturbed {
            disturber.next(begin + disturbed);
        }
        disturber.leave_alone(begin + time);
        stop.store(true, Ordering::Relaxed);
        disturber
    });
    let seconds = begin.elapsed().as_secs_f64();
    let streams = (mpm != Mpm::Prefork).then_some(client::STREAM);
    let kinds: Vec<&str> = client::WAIT.into_iter().chain(streams).collect();
    let mut wrong = ledger.compare(&file, &disturbed.killed, &kinds);
    wrong.extend(disturbed.grown());
    let counts = ledger.counts();
    println!(
        "{mpm:?}, {seconds:.0} s: {} responses whole ({:.0} a second), {} broken by {} killed children, {} given up by their clients; \
         {} graceful restarts, {} times a new file of the module; {}",
        counts.whole,
        counts.whole as f64 / seconds,
        counts.broken,
        disturbed.killed.len(),
        counts.aborted,
        disturbed.restarts,
        disturbed.replaced,
        disturbed.measured(),
    );
    let complaints = httpd.complaints();
    wrong.extend(complaints.iter().take(10).map(|line| format!("the log says: {line}")));
    for line in wrong.iter().take(40) {
        println!("  WRONG: {line}");
    }
    if wrong.is_empty() {
        httpd.stop();
    } else {
        httpd.crash();
        std::mem::forget(httpd);
    }
    wrong.is_empty()
}
