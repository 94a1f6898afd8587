use std::net::SocketAddr;
use std::time::{Duration, Instant};

use support::{Handler, Httpd, Mpm};

use crate::clients::{Kept, ask_and_leave};
use crate::link;
use crate::measure::{Subject, in_turns, ratios};
use crate::pages::{self, Page};
use crate::report::{Goal, Report};

const ROUND: Duration = Duration::from_millis(150);
const WORK: u32 = 20;

pub fn measure(report: &mut Report) {
    for (handler, mpm, name) in pages::handlers() {
        let stock = pages::start(pages::stock(mpm, handler));
        let keep = pages::start(pages::module(mpm, handler, "FinishRequestConnection Keep").workers(128));
        let close = pages::start(pages::module(mpm, handler, "").workers(128));
        let (plain, marked, working) =
            (Page::Plain.path(handler, 0), Page::Marked.path(handler, 0), Page::Marked.path(handler, WORK));
        let subjects: &mut [Subject<'_, f64>] = &mut [
            &mut || kept(stock.address(), &plain),
            &mut || kept(keep.address(), &marked),
            &mut || kept(stock.address(), &plain),
            &mut || kept(keep.address(), &working),
            &mut || anew(close.address(), &working),
        ];
        let measured = in_turns(14, subjects);
        let [ordinary, finished, again, with_work, new] = &measured[..] else { return };
        report.goal(
            format!("Keep without work ÷ unmarked kept, {name}"),
            "",
            Goal::AtLeast(0.8),
            ratios(finished, ordinary),
        );
        report.noise(&format!("unmarked kept, {name}"), "", ratios(again, ordinary));
        report.goal(
            format!("Keep, 20 ms of work ÷ a new connection each, {name}"),
            "",
            Goal::AtLeast(1.0),
            ratios(with_work, new),
        );
        report.figure(format!("unmarked kept, {name}"), "/s", ordinary.clone());
        report.figure(format!("Keep without work, {name}"), "/s", finished.clone());
        report.figure(format!("Keep, 20 ms of work, {name}"), "/s", with_work.clone());
        report.figure(format!("a new connection each, 20 ms of work, {name}"), "/s", new.clone());
        [stock, keep, close].into_iter().for_each(Httpd::stop);
    }
    delayed(report);
}

/// The same over a link on which packets take their time.
fn delayed(report: &mut Report) {
    let measured = link::with_delay(Duration::from_millis(5), |server| {
        let (handler, mpm) = (Handler::Lua, Mpm::Event);
        let start = |config: &str| {
            let builder = pages::module(mpm, handler, config).workers(128).in_network_of_this_thread();
            pages::start(builder.config(&format!("Listen {}:${{PORT}}", link::SERVER)))
        };
        let (keep, close) = (start("FinishRequestConnection Keep"), start(""));
        let working = Page::Marked.path(handler, WORK);
        let [to_keep, to_close] =
            [&keep, &close].map(|httpd| SocketAddr::new(link::SERVER.into(), httpd.address().port()));
        let measured = server.as_client(|| {
            let subjects: &mut [Subject<'_, f64>] =
                &mut [&mut || kept(to_keep, &working), &mut || anew(to_close, &working), &mut || {
                    anew(to_close, &working)
                }];
            in_turns(8, subjects)
        });
        [keep, close].into_iter().for_each(Httpd::stop);
        measured
    });
    match measured {
        Ok(measured) => {
            let [kept, new, again] = &measured[..] else { return };
            report.goal(
                "Keep, 20 ms of work ÷ a new connection each, 5 ms of delay",
                "",
                Goal::AtLeast(1.5),
                ratios(kept, new),
            );
            report.noise("a new connection each, 5 ms of delay", "", ratios(again, new));
        }
        Err(why) => report.left_out(&format!("the link with a delay: {why}.")),
    }
}

/// Requests a second on a connection that is kept.
fn kept(server: SocketAddr, path: &str) -> f64 {
    let mut client = Kept::new(server);
    client.ask(path);
    per_second(|| {
        client.ask(path);
    })
}

/// Requests a second with a connection each.
fn anew(server: SocketAddr, path: &str) -> f64 {
    per_second(|| {
        ask_and_leave(server, path);
    })
}

fn per_second(mut ask: impl FnMut()) -> f64 {
    let (start, mut requests) = (Instant::now(), 0.0);
    while start.elapsed() < ROUND {
        ask();
        requests += 1.0;
    }
    requests / start.elapsed().as_secs_f64()
}
