//! One line in the access log for each request, at the right time, with what the client waited for.

use std::fs::File;
use std::io::Read;

use support::{Background, Client, Handler, Httpd, Mpm, Protocol, wait_for};

const FORMAT: &str = "LogFormat \"%>s %D %{finish-request}n %{finish-request-us}n %B %{SSL_PROTOCOL}x %q\" finish\n\
                      CustomLog \"${ROOT}/finish.log\" finish\n";

on_every_handler_and_mpm!(logged_once_when_the_client_is_released);

fn logged_once_when_the_client_is_released(handler: Handler, mpm: Mpm) {
    let httpd = start(handler, mpm, "FinishRequest On");
    for &protocol in mpm.protocols() {
        let background = httpd.background();
        let client = Client::connect(&httpd, protocol);
        client.get(&background.query(handler.page()), &[]).response();

        let line = line(&httpd, &background);
        assert!(!background.is_done(), "logged before the background work ended");
        let [status, us, marked, released, bytes, tls, _] = line.split(' ').collect::<Vec<_>>()[..] else {
            panic!("{line}")
        };
        assert_eq!((status, marked, bytes), ("200", "header", "4096"));
        assert!(released.parse::<u64>().unwrap() <= us.parse().unwrap(), "{line}");
        assert_eq!(tls == "-", protocol == Protocol::Http1, "{protocol:?}: {line}");

        background.open_gate();
        assert_eq!(background.wait_for_done().errors, "");
    }
    // When the server has stopped all requests have ended: none is logged twice.
    let mut file = File::open(httpd.root().join("finish.log")).unwrap();
    httpd.stop();
    let mut lines = String::new();
    file.read_to_string(&mut lines).unwrap();
    assert_eq!(lines.lines().count(), mpm.protocols().len(), "{lines}");
}

#[test]
fn at_the_end_of_the_work_where_it_is_wanted_there() {
    let httpd = start(Handler::Lua, Mpm::Event, "FinishRequest On\nFinishRequestLog End");
    let background = httpd.background();
    let client = Client::connect(&httpd, Protocol::Http1);
    client.get(&background.query("app.lua"), &[]).released();
    background.wait_for_begin();
    assert!(!log(&httpd).contains(background.id()));
    background.open_gate();
    let done = background.wait_for_done();
    let line = line(&httpd, &background);
    let fields: Vec<_> = line.split(' ').collect();
    let (took, released): (u64, u64) = (fields[1].parse().unwrap(), fields[3].parse().unwrap());
    assert!(took >= done.ended - done.began && released < took, "{line}");
    httpd.stop();
}

/// The error log says it when the work ends, and how long it took, wherever the request is logged.
#[test]
fn the_end_of_the_work_is_in_the_error_log() {
    const ENDED: &str = "finish_request:info";
    for (mpm, config) in [(Mpm::Event, ""), (Mpm::Worker, "\nFinishRequestLog End"), (Mpm::Prefork, "")] {
        let httpd = start(Handler::Lua, mpm, &format!("FinishRequest On{config}"));
        for (count, &protocol) in mpm.protocols().iter().enumerate() {
            let background = httpd.background();
            Client::connect(&httpd, protocol).get(&background.query("app.lua"), &[]).released();
            background.wait_for_begin();
            assert_eq!(ended(&httpd).len(), count, "{mpm:?} {protocol:?}: the work has not ended");
            background.open_gate();
            let done = background.wait_for_done();
            let took = wait_for("the end of the work in the log", || ended(&httpd).get(count).copied());
            assert!(took >= done.ended - done.began, "{took} us, {done:?}");
        }
        let log = httpd.log();
        assert!(log.lines().filter(|line| line.contains("background work has ended")).all(|line| line.contains(ENDED)));
        httpd.stop();
    }
}

/// An ordinary response has no background work, and no notes.
#[test]
fn an_ordinary_response_is_not_said_to_have_worked_on() {
    let httpd = start(Handler::Lua, Mpm::Event, "FinishRequest On");
    let background = httpd.background();
    background.open_gate();
    Client::connect(&httpd, Protocol::Http1).get(&(background.query("app.lua") + "&mark=none"), &[]).response();
    let line = line(&httpd, &background);
    assert_eq!(line.split(' ').skip(2).take(2).collect::<Vec<_>>(), ["-", "-"], "{line}");
    assert_eq!(ended(&httpd), []);
    httpd.stop();
}

/// How many microseconds the background work took that has ended, as the error log has it.
fn ended(httpd: &Httpd) -> Vec<u64> {
    const SAYS: &str = "the background work has ended, ";
    let log = httpd.log();
    let times = log.lines().filter_map(|line| line.split(SAYS).nth(1)?.split(' ').next()?.parse().ok());
    times.collect()
}

fn start(handler: Handler, mpm: Mpm, config: &str) -> Httpd {
    Httpd::builder(mpm).handler(handler).config(&format!("{config}\n{FORMAT}")).start()
}

fn log(httpd: &Httpd) -> String {
    std::fs::read_to_string(httpd.root().join("finish.log")).unwrap_or_default()
}

/// The line of this background work's request, as soon as it is there.
fn line(httpd: &Httpd, background: &Background) -> String {
    wait_for("a line in the access log", || {
        let log = log(httpd);
        log.lines().find(|line| line.contains(background.id())).map(str::to_owned)
    })
}
