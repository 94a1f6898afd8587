use std::cell::RefCell;

use support::{Handler, Httpd, Mpm, can_count};

use crate::pages;
use crate::report::{Goal, Report};

const PHP: &str = "<?php header('Content-Type: text/plain'); echo str_repeat(\"small\\n\", 100);";

const CGI: &str = "#!/bin/sh\nprintf 'Content-Type: text/plain\\n\\n%0600d' 0\n";

/// A page, its handler, and what `Off`, `On` and `Auto` may add.
const PAGES: [(&str, &str, Handler, [f64; 3]); 3] = [
    ("static", "/small.txt", Handler::Cgi, [100.0, 500.0, 600.0]),
    ("PHP", "/small.php", Handler::ModPhp, [100.0, 1_500.0, 2_000.0]),
    ("CGI", "/small.cgi", Handler::Cgi, [100.0, 5_500.0, 6_000.0]),
];

pub fn measure(report: &mut Report) {
    if !can_count() {
        return report.left_out("there is no valgrind.");
    }
    for (name, path, handler, goals) in PAGES {
        if let Some(missing) = handler.missing(Mpm::Prefork) {
            report.left_out(&format!("{name}: {missing}."));
            continue;
        }
        let stock = || pages::stock(Mpm::Prefork, handler);
        let with = |mode: &str| {
            Httpd::builder(Mpm::Prefork).handler(handler).config(pages::QUIET).config(&format!("FinishRequest {mode}"))
        };
        let count = |builder: support::Builder| {
            let httpd = pages::start(builder.counted().config("Mutex flock default"));
            httpd.install("small.php", PHP);
            httpd.install("small.cgi", CGI);
            let counted = httpd.instructions(path);
            httpd.stop();
            counted.median as f64
        };
        let without = RefCell::new(count(stock()));
        let beyond = |count: f64| vec![count - *without.borrow()];
        report.noise(name, " instructions", beyond(count(stock())));
        for (mode, goal) in ["Off", "On", "Auto"].into_iter().zip(goals) {
            report.goal(format!("{mode}, {name}"), " instructions", Goal::AtMost(goal), beyond(count(with(mode))));
        }
        report.figure(format!("without the module, {name}"), " instructions in all", vec![*without.borrow()]);
    }
}
