//! How long clients of applications with background work wait.

use std::time::Duration;

use support::{Handler, Httpd, Mpm};

use crate::load::{requests_per_second, time_to_end};
use crate::ratio::Ratio;

const ROUNDS: usize = 10;
const REQUESTS: usize = 41;
const ROUND: Duration = Duration::from_millis(500);

/// The background work.
const WORK_MS: u32 = 20;

const APPLICATIONS: [(&str, Handler, Mpm, &str); 2] = [
    ("Lua, mod_lua, event", Handler::Lua, Mpm::Event, "/work.lua"),
    ("PHP, mod_php, prefork", Handler::ModPhp, Mpm::Prefork, "/work.php"),
];

const PHP: &str = "<?php
header('Content-Length: 600');
header('X-Finish-Request: on');
echo str_repeat(\"small\\n\", 100);
flush();
usleep(1000 * (int) $_GET['ms']);
";

const LUA: &str = "function handle(r)
    r.headers_out['Content-Length'] = '600'
    r.headers_out['X-Finish-Request'] = 'on'
    r:write(('small\\n'):rep(100))
    r:flush()
    r.usleep(1000 * tonumber(r:parseargs().ms))
    return apache2.OK
end
";

/// Measures, and prints.
pub fn measure() {
    println!("Time from request to FIN, for applications with {WORK_MS} ms of work after their answer");
    println!("({ROUNDS} rounds, medians of {REQUESTS}); stock: without the module:\n");
    println!("{:<38}{:>18}{:>18}", "", "/ stock, no work", "/ stock, work");
    for (name, handler, mpm, page) in APPLICATIONS {
        if let Some(missing) = handler.missing(mpm) {
            println!("{name} is left out: {missing}.");
            continue;
        }
        let [idle, working] = ratios(handler, mpm, page);
        println!("{:<38}{idle:>18}{working:>18}", format!("{name}: marked"));
    }
    println!("\nRequests a second of the same, four clients with a connection each, which Keep lets live on:\n");
    let [idle, working] = kept();
    println!("{:<38}{idle:>18}{working:>18}", "Lua, mod_lua, event: marked, Keep");
}

/// How fast requests follow one another on connections that are kept.
fn kept() -> [Ratio; 2] {
    // Each answer leaves its work behind: many workers are needed.
    let builder = Httpd::builder(Mpm::Event).handler(Handler::Lua).workers(256);
    let builder = builder.config("LogLevel warn\nMaxKeepAliveRequests 0");
    let stock = start(builder.clone().without_module());
    let module = start(builder.config("FinishRequest On\nFinishRequestConnection Keep\nFinishRequestMax none"));
    let (at_once, working) = ("/work.lua?ms=0", format!("/work.lua?ms={WORK_MS}"));
    let (mut to_idle, mut to_working) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let marked = requests_per_second(module.address(), &working, ROUND);
        to_idle.push(marked / requests_per_second(stock.address(), at_once, ROUND));
        to_working.push(marked / requests_per_second(stock.address(), &working, ROUND));
    }
    [Ratio::of(&to_idle), Ratio::of(&to_working)]
}

fn ratios(handler: Handler, mpm: Mpm, page: &str) -> [Ratio; 2] {
    let builder = Httpd::builder(mpm).handler(handler).config("LogLevel warn");
    let stock = start(builder.clone().without_module());
    let module = start(builder.config("FinishRequest On"));
    let (at_once, working) = (format!("{page}?ms=0"), format!("{page}?ms={WORK_MS}"));

    let (mut to_idle, mut to_working) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        let mut times = [const { Vec::new() }; 3];
        for _ in 0..REQUESTS {
            times[0].push(time_to_end(module.address(), &working));
            times[1].push(time_to_end(stock.address(), &at_once));
            times[2].push(time_to_end(stock.address(), &working));
        }
        let [marked, idle, working] = times.map(median);
        to_idle.push(marked / idle);
        to_working.push(marked / working);
    }
    [Ratio::of(&to_idle), Ratio::of(&to_working)]
}

fn start(builder: support::Builder) -> Httpd {
    let httpd = builder.start();
    httpd.install("work.php", PHP);
    httpd.install("work.lua", LUA);
    httpd
}

fn median(mut times: Vec<Duration>) -> f64 {
    times.sort_unstable();
    times[times.len() / 2].as_secs_f64()
}
