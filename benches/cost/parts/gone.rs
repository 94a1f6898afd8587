use std::thread;
use std::time::Duration;

use support::{Handler, Httpd, Mpm, can_trace, system_calls};

use crate::clients::Kept;
use crate::measure::{Subject, in_turns};
use crate::pages::{self, Page};
use crate::processes::Processes;
use crate::report::{Goal, Report};

const REQUESTS: usize = 20;
const WORK: u32 = 50;

pub fn measure(report: &mut Report) {
    if !can_trace() {
        return report.left_out("there is no strace.");
    }
    for (mpm, name) in [(Mpm::Event, "event"), (Mpm::Worker, "worker"), (Mpm::Prefork, "prefork")] {
        let builder = pages::module(mpm, Handler::Lua, "FinishRequestConnection Keep").workers(16);
        let httpd = pages::start(builder);
        let path = Page::Marked.path(Handler::Lua, WORK);
        let count =
            |asks: &dyn Fn()| system_calls(&Processes::of(&httpd).children(), Some("recvmsg"), asks) / REQUESTS as f64;
        let goes_away = || {
            (0..REQUESTS).for_each(|_| {
                Kept::new(httpd.address()).ask(&path);
            });
            // The work of the last.
            thread::sleep(Duration::from_millis(u64::from(2 * WORK)));
        };
        let stays = || {
            let mut client = Kept::new(httpd.address());
            (0..REQUESTS).for_each(|_| {
                client.ask(&path);
            });
        };
        let subjects: &mut [Subject<'_, f64>] = &mut [&mut || count(&goes_away), &mut || count(&stays)];
        let measured = in_turns(3, subjects);
        report.goal(
            format!("hand-overs a request, the client goes, {name}"),
            "",
            Goal::AtMost(0.0),
            measured[0].clone(),
        );
        report.figure(format!("hand-overs a request, the client asks again at once, {name}"), "", measured[1].clone());
        Httpd::stop(httpd);
    }
}
