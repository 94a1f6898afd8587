use std::thread;
use std::time::{Duration, Instant};

use support::{Handler, Httpd, Mpm};

use crate::clients::{Crowd, Reader, ask_and_close, connect, request};
use crate::measure::{in_turns, ratios};
use crate::pages::{self, Page};
use crate::processes::Processes;
use crate::report::{Goal, Report};

const CLIENTS: usize = 256;
/// As many as are over long before httpd gives the crowd up, which takes two seconds.
const REQUESTS: usize = 150;
/// Workers may need a moment to be free.
const MOMENT: Duration = Duration::from_millis(600);

const LARGE: &str = "function handle(r)
    r.content_type = 'text/plain'
    r.headers_out['Content-Length'] = '256000'
    r.headers_out['X-Finish-Request'] = 'on'
    r:write(('0123456789abcde\\n'):rep(16000))
    r:flush()
    return apache2.OK
end
";

const STATUS: &str = "ExtendedStatus Off\n<Location /status>\nSetHandler server-status\n</Location>";

const CROWDS: [Crowd; 5] = [Crowd::Nobody, Crowd::Slow, Crowd::Uploading, Crowd::NeverClosing, Crowd::Nobody];

pub fn measure(report: &mut Report) {
    for mpm in Mpm::ALL {
        let name = format!("{mpm:?}").to_lowercase();
        let servers: Vec<Httpd> = CROWDS
            .iter()
            .map(|_| {
                let builder = pages::module(mpm, Handler::Lua, "FinishRequestBuffer 1M 512M").modules(&["status"]);
                let httpd = pages::start(builder.config(STATUS).workers(if mpm == Mpm::Prefork { 64 } else { 320 }));
                httpd.install("large.lua", LARGE);
                httpd
            })
            .collect();
        let mut subjects: Vec<_> =
            servers.iter().zip(CROWDS).map(|(httpd, crowd)| move || with(httpd, crowd)).collect();
        let mut turns: Vec<_> = subjects.iter_mut().map(|subject| subject as &mut dyn FnMut() -> (f64, f64)).collect();
        let measured = in_turns(20, &mut turns);
        let (cpu, held): (Vec<Vec<f64>>, Vec<Vec<f64>>) =
            measured.into_iter().map(|rounds| rounds.into_iter().unzip::<f64, f64, Vec<_>, Vec<_>>()).unzip();
        for (index, crowd) in CROWDS.iter().enumerate().skip(1) {
            let what = match crowd {
                Crowd::Nobody => {
                    report.noise(&format!("no clients, {name}"), "", ratios(&cpu[index], &cpu[0]));
                    continue;
                }
                Crowd::Slow => "slow",
                Crowd::Uploading => "uploading",
                Crowd::NeverClosing => "never closing",
            };
            report.goal(
                format!("CPU with {CLIENTS} {what} ÷ with none, {name}"),
                "",
                Goal::AtMost(1.2),
                ratios(&cpu[index], &cpu[0]),
            );
            report.goal(
                format!("threads held by {CLIENTS} {what}, {name}"),
                " workers",
                Goal::AtMost(0.0),
                held[index].clone(),
            );
        }
        report.figure(format!("CPU with none, {name}"), " µs", cpu[0].clone());
        servers.into_iter().for_each(Httpd::stop);
    }
}

/// CPU time a further request, in microseconds, and how many workers are busy with the crowd.
fn with(httpd: &Httpd, crowd: Crowd) -> (f64, f64) {
    let marked = Page::Marked.path(Handler::Lua, 0);
    let clients = crowd.gather(httpd.address(), CLIENTS, &marked, "/large.lua");
    let start = Instant::now();
    let held = loop {
        let busy = busy_workers(httpd);
        if busy == 0.0 || start.elapsed() >= MOMENT {
            break busy;
        }
        thread::sleep(Duration::from_millis(20));
    };
    let processes = Processes::of(httpd);
    let before = processes.cpu();
    (0..REQUESTS).for_each(|_| {
        ask_and_close(httpd.address(), &marked);
    });
    let cpu = (processes.cpu() - before).as_secs_f64() * 1e6 / REQUESTS as f64;
    clients.leave();
    (cpu, held)
}

/// Besides the one that is asked.
fn busy_workers(httpd: &Httpd) -> f64 {
    let mut socket = connect(httpd.address());
    std::io::Write::write_all(&mut socket, &request("/status?auto", "Connection: close\r\n"))
        .expect("the server listens");
    let mut reader = Reader::default();
    while reader.read(&mut socket).expect("the server answers") > 0 {}
    let text = String::from_utf8_lossy(&reader.0);
    let busy =
        text.lines().find_map(|line| line.strip_prefix("BusyWorkers: ")).expect("mod_status counts the busy workers");
    busy.parse::<f64>().expect("a number") - 1.0
}
