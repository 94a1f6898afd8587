//! A marked response is finished early: on every handler, MPM and protocol, whatever compresses.

use std::thread;

use support::{Client, Framing, Handler, Httpd, Mpm, Protocol, body};

use crate::finished::compression::{ACCEPT, Compression, with_compressions};

/// The size of the application's answer.
const BYTES: usize = 4096;

on_every_handler_and_mpm!(finished_early);

fn finished_early(handler: Handler, mpm: Mpm) {
    let builder = Httpd::builder(mpm).handler(handler);
    let httpd = with_compressions(builder, &["bypassed", "compressed"])
        .config(
            "FinishRequest On
             <Location /compressed/>
               FinishRequestBypass none
             </Location>",
        )
        .start();

    thread::scope(|scope| {
        for &protocol in mpm.protocols() {
            for compression in Compression::ALL {
                for bypassed in [true, false] {
                    let request = Request { handler, protocol, compression, bypassed };
                    let httpd = &httpd;
                    // The name is part of the message of a failure.
                    thread::Builder::new()
                        .name(format!("{mpm:?} {request:?}"))
                        .spawn_scoped(scope, move || request.finishes_early(httpd))
                        .unwrap();
                }
            }
        }
    });
    httpd.stop();
}

/// One field of the matrix.
#[derive(Clone, Copy, Debug)]
struct Request {
    handler: Handler,
    protocol: Protocol,
    compression: Compression,
    /// Whether `FinishRequestBypass` keeps the filter out.
    bypassed: bool,
}

impl Request {
    fn finishes_early(self, httpd: &Httpd) {
        let background = httpd.background();
        let client = Client::connect(httpd, self.protocol);

        let response = client.get(&background.query(&self.page()), &ACCEPT).released();
        assert!(!background.is_done(), "the client had to wait for the background work");

        assert_eq!(response.status, 200);
        assert_eq!(response.header("X-Finish-Request"), None);
        assert_eq!(response.header("Content-Encoding"), self.encoding());
        assert_eq!(response.decoded().escape_ascii().to_string(), expected());
        if self.encoding().is_none() {
            assert_eq!(response.header("Content-Length"), Some(BYTES.to_string().as_str()));
        }
        if self.protocol != Protocol::Http2 {
            assert_ne!(response.framing, Framing::Close, "complete by its own framing");
        }

        background.open_gate();
        let done = background.wait_for_done();
        assert_eq!(done.errors, "", "errors of the background work");
        assert!(done.began <= done.gate && done.gate <= done.ended, "{done:?}");
    }

    fn page(self) -> String {
        let prefix = if self.bypassed { "bypassed" } else { "compressed" };
        format!("{prefix}/{}/{}", self.compression.folder(), self.handler.page())
    }

    fn encoding(self) -> Option<&'static str> {
        self.compression.encoding().filter(|_| !self.bypassed)
    }
}

fn expected() -> String {
    body(BYTES).escape_ascii().to_string()
}
