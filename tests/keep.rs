//! `FinishRequestConnection Keep`: the client's connection goes on while the background work runs.

use support::http1::EndKind;
use support::{Background, Handler, Httpd, Mpm, body};

use crate::judge::{assert_body, path, ran_to_its_end};

const KEEP: &str = "LogLevel finish_request:debug\nFinishRequest On\nFinishRequestConnection Keep\n\
                    CustomLog \"${ROOT}/kept.log\" \"%h %{remote}p %A %p %k %X %{finish-request}n %D %U\"\n";

on_every_handler_and_mpm!(requests_in_a_row);

/// Ten requests over one connection; the background work of each waits at its gate until all have been answered.
fn requests_in_a_row(handler: Handler, mpm: Mpm) {
    let httpd = Httpd::builder(mpm).handler(handler).workers(24).config(KEEP).start();
    let connection = httpd.connect();
    let works: Vec<Background> = (0..10).map(|_| httpd.background()).collect();
    for background in &works {
        connection.get(&path(background, handler.page(), "mark=on"), &[]);
        let response = connection.response();
        assert_body(&response, &body(4096));
        assert_eq!(
            response.header("Connection").map(|value| value.contains("close")),
            response.header("Connection").map(|_| false)
        );
        background.wait_for_begin();
    }
    assert!(works.iter().all(|background| !background.is_done()));
    assert!(!connection.has_ended());
    works.iter().for_each(|background| {
        ran_to_its_end(background);
    });
    connection.get("/?after", &[("Connection", "close")]);
    connection.response();
    assert_eq!((connection.end().kind, connection.rest().len()), (EndKind::Fin, 0));
    httpd.stop();
}
