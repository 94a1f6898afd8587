use std::time::Duration;

use support::{Handler, Httpd, Mpm};

use crate::clients::ask_and_close;
use crate::measure::{Subject, percentiles, ratios, request_by_request};
use crate::pages::{self, Page};
use crate::report::{Goal, Report};

const REQUESTS: usize = 200;
const WORK: u32 = 20;

pub fn measure(report: &mut Report) {
    without_work(report);
    beside_php_fpm(report);
}

fn end(httpd: &Httpd, path: &str) -> Duration {
    ask_and_close(httpd.address(), path).end
}

fn without_work(report: &mut Report) {
    let all = pages::handlers().flat_map(|(handler, mpm, name)| match handler {
        Handler::Lua => vec![(handler, mpm, name), (handler, Mpm::Worker, "Lua, worker")],
        _ => vec![(handler, mpm, name)],
    });
    for (handler, mpm, name) in all {
        let stock = pages::start(pages::stock(mpm, handler));
        let module = pages::start(pages::module(mpm, handler, "").workers(128));
        let (plain, marked) = (Page::Plain.path(handler, 0), Page::Marked.path(handler, WORK));
        let subjects: &mut [Subject<'_, Duration>] =
            &mut [&mut || end(&stock, &plain), &mut || end(&module, &marked), &mut || end(&stock, &plain)];
        let measured = request_by_request(14, REQUESTS, subjects);
        let [ordinary, finished, again] = [0, 1, 2].map(|index: usize| &measured[index]);
        for (percent, goal) in [(50.0, 1.05), (99.0, 1.3)] {
            let [ordinary, finished, again] = [ordinary, finished, again].map(|rounds| percentiles(rounds, percent));
            report.goal(
                format!("release p{percent} ÷ the same without work, {name}"),
                "",
                Goal::AtMost(goal),
                ratios(&finished, &ordinary),
            );
            report.noise(&format!("p{percent}, {name}"), "", ratios(&again, &ordinary));
            report.figure(format!("release p{percent}, {name}"), " µs", finished);
        }
        [stock, module].into_iter().for_each(Httpd::stop);
    }
}

fn beside_php_fpm(report: &mut Report) {
    for (handler, mpm, name) in pages::handlers() {
        if let Some(missing) = Handler::PhpFpm.missing(mpm) {
            return report.left_out(&format!("php-fpm: {missing}."));
        }
        let fpm = pages::start(pages::stock(mpm, Handler::PhpFpm));
        let module = pages::start(pages::module(mpm, handler, "").workers(128));
        let (function, marked) = (format!("/function.php?{WORK}"), Page::Marked.path(handler, WORK));
        let subjects: &mut [Subject<'_, Duration>] =
            &mut [&mut || end(&fpm, &function), &mut || end(&module, &marked), &mut || end(&fpm, &function)];
        let measured = request_by_request(8, REQUESTS / 2, subjects);
        let [theirs, ours, again] = [0, 1, 2].map(|index: usize| percentiles(&measured[index], 50.0));
        report.goal(
            format!("release p50 ÷ php-fpm's behind the same httpd, {name}"),
            "",
            Goal::AtMost(0.8),
            ratios(&ours, &theirs),
        );
        report.noise(&format!("php-fpm, {mpm:?}"), "", ratios(&again, &theirs));
        [fpm, module].into_iter().for_each(Httpd::stop);
    }
}
