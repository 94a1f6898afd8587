use support::{Handler, Httpd, Mpm, can_trace, system_calls};

use crate::clients::{Kept, ask_and_close};
use crate::measure::{Subject, differences, in_turns};
use crate::pages::{self, Page};
use crate::processes::Processes;
use crate::report::{Goal, Report};

const REQUESTS: usize = 100;

pub fn measure(report: &mut Report) {
    if !can_trace() {
        return report.left_out("there is no strace.");
    }
    let all = [
        (Handler::Lua, Mpm::Event, "Lua, event"),
        (Handler::Lua, Mpm::Worker, "Lua, worker"),
        (Handler::Lua, Mpm::Prefork, "Lua, prefork"),
        (Handler::ModPhp, Mpm::Prefork, "mod_php, prefork"),
    ];
    for (handler, mpm, name) in all {
        if let Some(missing) = handler.missing(mpm) {
            report.left_out(&format!("{name}: {missing}."));
            continue;
        }
        let builders = [
            pages::stock(mpm, handler),
            pages::module(mpm, handler, ""),
            pages::module(mpm, handler, "FinishRequestConnection Keep"),
            pages::module(mpm, handler, "FinishRequest Auto"),
        ];
        let [stock, close, keep, auto] = builders.map(|builder| pages::start(builder.workers(16)));
        let closed = |httpd: &Httpd, page: Page| {
            count(httpd, || {
                ask_and_close(httpd.address(), &page.path(handler, 0));
            })
        };
        let kept = |httpd: &Httpd, page: Page| {
            let mut client = Kept::new(httpd.address());
            count(httpd, || {
                client.ask(&page.path(handler, 0));
            })
        };
        let subjects: &mut [Subject<'_, f64>] = &mut [
            &mut || closed(&stock, Page::Plain),
            &mut || closed(&close, Page::Marked),
            &mut || kept(&stock, Page::Plain),
            &mut || kept(&keep, Page::Marked),
            &mut || closed(&stock, Page::Plain),
            &mut || closed(&auto, Page::Plain),
        ];
        let measured = in_turns(8, subjects);
        let [ordinary, finished, ordinary_kept, finished_kept, again, recognised] = &measured[..] else { return };
        report.goal(
            format!("Close beyond ordinary closed, {name}"),
            "",
            Goal::AtMost(4.0),
            differences(finished, ordinary),
        );
        report.goal(
            format!("Keep beyond ordinary kept, {name}"),
            "",
            Goal::AtMost(5.0),
            differences(finished_kept, ordinary_kept),
        );
        report.figure(
            format!("Auto, a declared length, beyond ordinary closed, {name}"),
            "",
            differences(recognised, ordinary),
        );
        report.noise(&format!("closed, {name}"), "", differences(again, ordinary));
        report.figure(format!("ordinary closed, {name}"), "", ordinary.clone());
        report.figure(format!("ordinary kept, {name}"), "", ordinary_kept.clone());
        [stock, close, keep, auto].into_iter().for_each(Httpd::stop);
    }
}

fn count(httpd: &Httpd, mut ask: impl FnMut()) -> f64 {
    // The first finds things to set up.
    ask();
    system_calls(&Processes::of(httpd).children(), None, || (0..REQUESTS).for_each(|_| ask())) / REQUESTS as f64
}
