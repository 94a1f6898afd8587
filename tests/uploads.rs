//! A client that is still sending its request's body when its answer comes gets that whole, and ends well.

use std::thread;

use support::{Handler, Httpd, Mpm, body, tools};

use crate::judge::{BYTES, path, ran_to_its_end};

/// More than the kernel takes for a program that does not read.
const SIZE: usize = 8_000_000;

on_every_handler_and_mpm!(is_not_read);

/// The application does not read what curl sends. An answer that it gives at once comes at the latest when the work has ended.
fn is_not_read(handler: Handler, mpm: Mpm) {
    let httpd = Httpd::builder(mpm)
        .handler(handler)
        .config("FinishRequest On\n<IfModule fcgid_module>\nFcgidMaxRequestLen 20000000\n</IfModule>")
        .start();
    if handler == Handler::Cgi {
        // As without the module: the script has ended, and has not read.
        httpd.allow_log("AH02651: Error writing request body to script");
    }
    let upload = httpd.root().join("upload").display().to_string();
    std::fs::write(&upload, vec![b'S'; SIZE]).unwrap();
    let certificate = httpd.root().join("server.pem").display().to_string();
    // mod_lua takes nothing of a body that its script does not ask for. mod_http2 then opens the stream's window no further, with this module
    // or without, and curl (7.88) waits for it though the stream has ended.
    let ways: &[&str] = if mpm.has_http2() && handler != Handler::Lua {
        &["--http1.1", "--http2-prior-knowledge", "--http1.1 tls", "--http2 tls"]
    } else {
        &["--http1.1", "--http1.1 tls"]
    };
    for &way in ways {
        for mark in ["mark=on", "mark=length%3D4096&length=none"] {
            let background = httpd.background();
            // mod_cgi and mod_fcgid take nothing of a program before it has taken all of the body, or has ended.
            let after = if handler == Handler::PhpFpm { 400_000 } else { 200 };
            let target = path(&background, handler.page(), &format!("{mark}&after={after}"));
            let (version, url) = match way.strip_suffix(" tls") {
                Some(version) => (version, httpd.tls_url(&target)),
                None => (way, httpd.url(&target)),
            };
            let curl = || tools::curl(&[version, "--cacert", &certificate, "-H", "Expect:", "-T", &upload, &url]);
            thread::scope(|scope| {
                let curl = scope.spawn(curl);
                background.wait_for_begin();
                let done = ran_to_its_end(&background);
                let output = curl.join().unwrap();
                assert!(output.status.success(), "{way} {mark}: {output:?}");
                assert!(output.stdout == body(BYTES), "{way} {mark}: {} bytes", output.stdout.len());
                assert_eq!(done.errors, "", "{way} {mark}");
            });
        }
    }
    httpd.stop();
}
