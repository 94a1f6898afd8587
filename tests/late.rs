//! `late`: a program outside httpd ends its response by digits that it was given, twice in a row. Until then, and without them, the response is
//! the ordinary one.

use support::{Builder, Client, Handler, Httpd, Mpm, body};

use crate::judge::{assert_body, ran_to_its_end};

const LATE: &str = "FinishRequest On\nSetEnv finish-request late";

fn builder(handler: Handler, mpm: Mpm) -> Builder {
    Httpd::builder(mpm).handler(handler).modules(&["env", "filter", "deflate"])
}

fn start(builder: Builder) -> Httpd {
    let httpd = builder.start();
    httpd.install("late.cgi", include_str!("late/app.cgi"));
    httpd.install("late.php", include_str!("late/app.php"));
    httpd
}

/// The handlers that run programs outside httpd, with each MPM.
macro_rules! on_every_program_and_mpm {
    ($check:ident) => {
        mod $check {
            on_every_handler_and_mpm! { super::$check;
                mod_fcgid_on_event: ModFcgid, Event;
                mod_fcgid_on_worker: ModFcgid, Worker;
                mod_fcgid_on_prefork: ModFcgid, Prefork;
                mod_cgid_on_event: Cgi, Event;
                mod_cgid_on_worker: Cgi, Worker;
                mod_cgi_on_prefork: Cgi, Prefork;
                php_fpm_on_event: PhpFpm, Event;
                php_fpm_on_worker: PhpFpm, Worker;
                php_fpm_on_prefork: PhpFpm, Prefork;
            }
        }
    };
}

fn page(handler: Handler) -> String {
    format!("late.{}", handler.extension())
}

on_every_program_and_mpm!(ends_at_the_digits);

fn ends_at_the_digits(handler: Handler, mpm: Mpm) {
    let httpd = start(builder(handler, mpm).config(LATE));
    for &protocol in mpm.protocols() {
        let background = httpd.background();
        let path = format!("{}&do=n1000.f.d0-64.f.w.tLATE", background.query(&page(handler)));
        let response = Client::connect(&httpd, protocol).get(&path, &[]).released();
        assert!(!background.is_done());
        assert_body(&response, &body(1000));
        ran_to_its_end(&background);
    }
    httpd.stop();
}
