use support::{Handler, Httpd, Mpm};

use crate::clients::{Kept, ask_and_close};
use crate::measure::{Subject, in_turns, ratios};
use crate::pages::{self, Page};
use crate::processes::{Processes, cpu_per_request};
use crate::report::{Goal, Report};

const REQUESTS: usize = 50;

pub fn measure(report: &mut Report) {
    let all = pages::handlers().flat_map(|(handler, mpm, name)| match handler {
        Handler::Lua => {
            vec![(handler, mpm, name), (handler, Mpm::Worker, "Lua, worker"), (handler, Mpm::Prefork, "Lua, prefork")]
        }
        _ => vec![(handler, mpm, name)],
    });
    for (handler, mpm, name) in all {
        let stock = pages::start(pages::stock(mpm, handler));
        let close = pages::start(pages::module(mpm, handler, ""));
        let keep = pages::start(pages::module(mpm, handler, "FinishRequestConnection Keep"));
        let (plain, marked) = (Page::Plain.path(handler, 0), Page::Marked.path(handler, 0));
        let closed = |httpd: &Httpd, path: &str| {
            cpu_per_request(&Processes::of(httpd), REQUESTS, || {
                ask_and_close(httpd.address(), path);
            })
        };
        let kept = |httpd: &Httpd, path: &str| {
            let mut client = Kept::new(httpd.address());
            cpu_per_request(&Processes::of(httpd), REQUESTS, || {
                client.ask(path);
            })
        };
        let subjects: &mut [Subject<'_, f64>] = &mut [
            &mut || closed(&stock, &plain),
            &mut || closed(&close, &marked),
            &mut || closed(&stock, &plain),
            &mut || kept(&stock, &plain),
            &mut || kept(&keep, &marked),
            &mut || kept(&stock, &plain),
            &mut || closed(&close, &plain),
        ];
        let measured = in_turns(14, subjects);
        let [ordinary, finished, again, ordinary_kept, finished_kept, again_kept, unmarked] = &measured[..] else {
            return;
        };
        report.goal(format!("Close ÷ ordinary closed, {name}"), "", Goal::AtMost(1.1), ratios(finished, ordinary));
        report.noise(&format!("closed, {name}"), "", ratios(again, ordinary));
        report.goal(
            format!("Keep ÷ ordinary kept, {name}"),
            "",
            Goal::AtMost(1.3),
            ratios(finished_kept, ordinary_kept),
        );
        report.noise(&format!("kept, {name}"), "", ratios(again_kept, ordinary_kept));
        report.figure(format!("unmarked, On ÷ ordinary closed, {name}"), "", ratios(unmarked, ordinary));
        report.figure(format!("ordinary closed, {name}"), " µs", ordinary.clone());
        report.figure(format!("Close, {name}"), " µs", finished.clone());
        report.figure(format!("ordinary kept, {name}"), " µs", ordinary_kept.clone());
        report.figure(format!("Keep, {name}"), " µs", finished_kept.clone());
        [stock, close, keep].into_iter().for_each(Httpd::stop);
    }
    tls(report);
}

/// Over TLS a connection is always closed.
fn tls(report: &mut Report) {
    let (handler, mpm) = (Handler::Lua, Mpm::Event);
    let stock = pages::start(pages::stock(mpm, handler));
    let close = pages::start(pages::module(mpm, handler, ""));
    let closed = |httpd: &Httpd, page: Page| {
        let path = page.path(handler, 0);
        let ask = || {
            let connection = httpd.connect_tls();
            connection.get(&path, &[("Connection", "close")]);
            assert_eq!(connection.response().status, 200);
            connection.end();
        };
        cpu_per_request(&Processes::of(httpd), 40, ask)
    };
    let subjects: &mut [Subject<'_, f64>] =
        &mut [&mut || closed(&stock, Page::Plain), &mut || closed(&close, Page::Marked), &mut || {
            closed(&stock, Page::Plain)
        }];
    let measured = in_turns(10, subjects);
    let [ordinary, finished, again] = &measured[..] else { return };
    report.goal("Close ÷ ordinary closed, Lua, event, TLS", "", Goal::AtMost(1.1), ratios(finished, ordinary));
    report.noise("closed, Lua, event, TLS", "", ratios(again, ordinary));
    [stock, close].into_iter().for_each(Httpd::stop);
}
