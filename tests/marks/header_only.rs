//! A marked response that has no body by its header ends with the header: its client is released at once, though the application sends
//! nothing behind it.

use support::{Builder, Client, Handler, Httpd, Mpm, Protocol};

use crate::judge::{ran_to_its_end, side_by_side};

/// Answers of a program that sends a header and no byte of a body: name, method, status.
const ANSWERS: [(&str, &str, u16); 8] = [
    ("gone", "GET", 204),
    ("same", "GET", 304),
    ("empty", "GET", 200),
    ("moved", "GET", 303),
    ("page", "HEAD", 200),
    ("zero&mark=length%3D0", "GET", 200),
    ("zero&mark=length%3D5", "HEAD", 200),
    ("gone&mark=flush", "GET", 204),
];

on_every_mpm!(of_fastcgi_programs);

fn of_fastcgi_programs(mpm: Mpm) {
    check(mpm, "FinishRequest On");
}

on_every_mpm!(of_fastcgi_programs_on_kept_connections);

fn of_fastcgi_programs_on_kept_connections(mpm: Mpm) {
    check(mpm, "FinishRequest On\nFinishRequestConnection Keep\nFinishRequestOnAbort Continue");
}

fn check(mpm: Mpm, config: &str) {
    let kept = config.contains("Keep");
    let builder = Httpd::builder(mpm).handler(Handler::ModFcgid);
    let httpd = with_program(builder).modules(&["filter", "deflate"]).config(config).start();
    httpd.install("program.fcgi", include_str!("header_only/program.py"));
    let cases = mpm.protocols().iter().flat_map(|protocol| ANSWERS.map(|answer| (*protocol, answer)));
    side_by_side(cases, |(protocol, (answer, method, status))| {
        released(&httpd, protocol, answer, method, status, kept)
    });
    httpd.stop();
}

fn with_program(builder: Builder) -> Builder {
    builder.config(
        "<Files program.fcgi>\nSetHandler fcgid-script\nOptions +ExecCGI\n</Files>\nFcgidMinProcessesPerClass 0",
    )
}

fn released(httpd: &Httpd, protocol: Protocol, answer: &str, method: &str, status: u16, kept: bool) {
    let background = httpd.background();
    let path = format!("{}&answer={answer}", background.query("program.fcgi"));
    let client = Client::connect(httpd, protocol);
    // It is whole while the program waits; and where the connection is not kept, that is closed.
    let exchange = client.request(method, &path, &[("Accept-Encoding", "gzip")], None);
    let response = exchange.response();
    if !kept {
        exchange.end_in_good_order();
    }
    assert_eq!((response.status, response.body.len()), (status, 0), "{method} {answer}");
    assert_eq!(response.header("X-Finish-Request"), None);
    background.wait_for_begin();
    assert!(!background.is_done());
    ran_to_its_end(&background);
}
