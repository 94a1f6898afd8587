use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use support::{Handler, Httpd, Mpm};

use crate::clients::ask_and_leave;
use crate::measure::{Times, rounds};
use crate::pages;
use crate::report::{Report, number};
use crate::svg::Chart;

/// How many clients find out what the machine takes.
const CLOSED_LOOP: usize = 24;
const CAPACITY_TIME: Duration = Duration::from_secs(2);
/// More than are ever busy at once, unless the server is beyond what it takes.
const CLIENTS: usize = 400;
const TIME: Duration = Duration::from_secs(3);
const LOADS: [u32; 3] = [50, 80, 95];
/// One of so many requests is marked.
const MARKED: usize = 5;

/// Without a length: what works on is not complete before its end, unless it is finished.
const LUA: &str = "function handle(r)
    r.content_type = 'text/plain'
    MARK
    local sum = 0
    for step = 1, 40000 do sum = sum + step % 7 end
    r:write(('small\\n'):rep(100))
    r:flush()
    WORK
    return apache2.OK
end
";

pub fn measure(report: &mut Report) {
    let servers = [
        pages::stock(Mpm::Event, Handler::Lua),
        pages::module(Mpm::Event, Handler::Lua, ""),
        pages::module(Mpm::Event, Handler::Lua, "FinishRequestConnection Keep"),
    ];
    let names = ["without the module", "Close", "Keep"];
    let servers = servers.map(|builder| {
        let httpd = pages::start(builder.workers(512));
        let page = |mark: &str, work: &str| LUA.replace("MARK", mark).replace("WORK", work);
        httpd.install("ordinary.lua", &page("", ""));
        httpd.install("working.lua", &page("r.headers_out['X-Finish-Request'] = 'flush'", "r.usleep(100000)"));
        httpd
    });
    let mut capacities: Vec<f64> = (0..3).map(|_| capacity(servers[0].address())).collect();
    capacities.sort_unstable_by(f64::total_cmp);
    let capacity = capacities[1];
    report.figure("what the machine takes", "/s", capacities);

    // By load, server, kind of request, then all times and each round's percentiles.
    let mut all = vec![vec![[Vec::new(), Vec::new()]; servers.len()]; LOADS.len()];
    rounds(75, |round| {
        for (load, all) in LOADS.iter().zip(&mut all) {
            let rate = capacity * f64::from(*load) / 100.0;
            for turn in 0..servers.len() {
                let index = (round + turn) % servers.len();
                for (kind, times) in run(servers[index].address(), rate).into_iter().enumerate() {
                    all[index][kind].push(times);
                }
            }
        }
    });
    for (kind, what) in ["unmarked", "marked, 100 ms of work"].into_iter().enumerate() {
        let mut series = Vec::new();
        for (load, all) in LOADS.iter().zip(&all) {
            for (name, kinds) in names.iter().zip(all) {
                for percent in [50.0, 99.0] {
                    let values =
                        kinds[kind].iter().map(|times| Times::of(times.iter().copied()).percentile(percent) / 1000.0);
                    report.figure(format!("{what}, {load}%, {name}, p{percent}"), " ms", values.collect());
                }
                let together = Times::of(kinds[kind].iter().flatten().copied());
                let points = PERCENTILES.map(|percent| (nines(percent), together.percentile(percent) / 1000.0));
                if *name != "Keep" {
                    series.push((format!("{load}%, {name}"), points.to_vec()));
                }
            }
        }
        report.chart(Chart {
            title: format!("Time from when a request was to come, {what}"),
            x: "percentile",
            y: "ms",
            x_marks: PERCENTILES
                .map(|percent| (nines(percent), number(percent).trim_end_matches(".00").to_owned()))
                .to_vec(),
            series,
        });
    }
    servers.into_iter().for_each(Httpd::stop);
}

const PERCENTILES: [f64; 5] = [10.0, 50.0, 90.0, 99.0, 99.9];

/// Where a percentile stands on an axis of nines.
fn nines(percent: f64) -> f64 {
    -(1.0 - percent / 100.0).log10()
}

fn path(number: usize) -> &'static str {
    if number.is_multiple_of(MARKED) { "/working.lua" } else { "/ordinary.lua" }
}

/// How many requests of the mix a second the machine takes, from clients that ask again as soon as they are answered.
fn capacity(server: SocketAddr) -> f64 {
    let (number, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let start = Instant::now();
    thread::scope(|scope| {
        for _ in 0..CLOSED_LOOP {
            scope.spawn(|| {
                while !over.load(Ordering::Relaxed) {
                    ask_and_leave(server, path(number.fetch_add(1, Ordering::Relaxed)));
                }
            });
        }
        thread::sleep(CAPACITY_TIME);
        over.store(true, Ordering::Relaxed);
    });
    number.load(Ordering::Relaxed) as f64 / start.elapsed().as_secs_f64()
}

/// Requests at a fixed rate, and their times since each was to come: of the unmarked ones, and of the marked ones.
fn run(server: SocketAddr, rate: f64) -> [Vec<Duration>; 2] {
    let total = (rate * TIME.as_secs_f64()) as usize;
    let next = Arc::new(AtomicUsize::new(0));
    let start = Instant::now();
    let client = |next: Arc<AtomicUsize>| {
        move || {
            let mut times = [Vec::new(), Vec::new()];
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= total {
                    return times;
                }
                let due = start + Duration::from_secs_f64(number as f64 / rate);
                thread::sleep(due.saturating_duration_since(Instant::now()));
                ask_and_leave(server, path(number));
                times[usize::from(number.is_multiple_of(MARKED))].push(due.elapsed());
            }
        }
    };
    let clients: Vec<_> = (0..CLIENTS)
        .map(|_| thread::Builder::new().stack_size(128 * 1024).spawn(client(Arc::clone(&next))).expect("a thread"))
        .collect();
    let mut all = [Vec::new(), Vec::new()];
    for client in clients {
        let times = client.join().expect("the server answers");
        all.iter_mut().zip(times).for_each(|(all, times)| all.extend(times));
    }
    all
}
