//! A client that is still sending its request's body when its answer comes gets that whole, and ends well.

use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;

use support::{Handler, Httpd, Mpm, body, tools};

use crate::judge::{BYTES, path, ran_to_its_end, side_by_side};

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
    let ways: &[&str] = if mpm.has_http2() {
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

/// mod_lua takes nothing of a body that its script does not ask for. The client of a stream sends slowly, or waits for
/// leave to send, or has sent a part and waits for the answer.
#[test]
fn streams_of_patient_clients() {
    side_by_side([Mpm::Event, Mpm::Worker], |mpm| {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).config("FinishRequest On").start();
        let upload = httpd.root().join("upload").display().to_string();
        std::fs::write(&upload, vec![b'S'; SIZE]).unwrap();
        for mark in ["mark=on", "mark=length%3D4096&length=none"] {
            for how in [&["--limit-rate", "4M", "-H", "Expect:"][..], &["-H", "Expect: 100-continue"]] {
                let background = httpd.background();
                let url = httpd.url(&path(&background, "app.lua", mark));
                let output = tools::curl(&[&["--http2-prior-knowledge", "-T", &upload, &url][..], how].concat());
                assert!(output.status.success(), "{mark} {how:?}: {output:?}");
                assert!(output.stdout == body(BYTES), "{mark} {how:?}: {} bytes", output.stdout.len());
                assert!(!background.is_done(), "{mark} {how:?}: the client had to wait for the background work");
                ran_to_its_end(&background);
            }
            // For curl (7.88, 8.14) a stream is open until it has sent all. It waits for leave to send no longer than this pause, and sends all the same.
            let background = httpd.background();
            let url = httpd.url(&path(&background, "app.lua", mark));
            let mut paused = Command::new("sh");
            paused.args([
                "-c",
                "{ head -c 1000 $1; sleep 0.3; head -c 300000 $1; } | curl -sS --http2-prior-knowledge -T . $2",
                "sh",
                &upload,
                &url,
            ]);
            let output = tools::run(paused);
            assert!(output.status.success(), "{mark}: {output:?}");
            assert!(output.stdout == body(BYTES), "{mark}: {} bytes", output.stdout.len());
            assert!(!background.is_done(), "{mark}: the client had to wait for the background work");
            ran_to_its_end(&background);

            let background = httpd.background();
            let page = httpd.root().join(format!("page-{}", background.id()));
            let mut curl = Command::new("curl")
                .args(["--silent", "--no-buffer", "--http2-prior-knowledge", "-T", ".", "-o", page.to_str().unwrap()])
                .arg(httpd.url(&path(&background, "app.lua", mark)))
                .stdin(Stdio::piped())
                .spawn()
                .unwrap();
            let mut stdin = curl.stdin.take().unwrap();
            stdin.write_all(&[b'S'; 1000]).unwrap();
            support::wait_for("the answer", || (std::fs::read(&page).ok()? == body(BYTES)).then_some(()));
            assert!(!background.is_done(), "the client had to wait for the background work");
            drop(stdin);
            let status = support::wait_for("the end of curl", || curl.try_wait().unwrap());
            // curl 8.14 takes its own end of the stream for an error (55, CURLE_SEND_ERROR) where the server's came first.
            assert!(matches!(status.code(), Some(0 | 55)), "{status}");
            ran_to_its_end(&background);
        }
        httpd.stop();
    });
}
