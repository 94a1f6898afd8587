//! mod_fcgid, whose output filter the module replaces for marked responses: everything else stays as it is.

use std::time::Instant;

use support::http1::Connection;
use support::{Builder, Client, Handler, Httpd, Mpm, Protocol, Response, body};

use crate::judge::{assert_body, early, path, ran_to_its_end};

const MPMS: [Mpm; 3] = Mpm::ALL;

fn servers(mpm: Mpm) -> [Httpd; 2] {
    let builder = || Httpd::builder(mpm).handler(Handler::ModFcgid);
    [builder().without_module(), builder().config("FinishRequest On")].map(Builder::start)
}

/// The same requests on one connection to a server without the module and to one with it; gives what came.
fn same(servers: &[Httpd; 2], requests: &[(&str, &[(&str, &str)])]) -> Vec<Response> {
    let [expected, seen] = servers.each_ref().map(|httpd| {
        let connection: Connection = httpd.connect();
        let ask = |(path, headers): &(&str, &[(&str, &str)])| {
            connection.get(path, headers);
            connection.response()
        };
        let responses: Vec<Response> = requests.iter().map(ask).collect();
        responses
    });
    // Not the times at which the servers and their files were made, nor the mark.
    let timeless = |response: &Response| {
        let text = String::from_utf8_lossy(&response.raw).into_owned();
        let own = ["Date: ", "ETag: ", "Last-Modified: ", "X-Finish-Request: "];
        let common = |line: &&str| !own.iter().any(|name| line.starts_with(name));
        text.lines().filter(common).map(str::to_owned).collect::<Vec<_>>()
    };
    for (seen, expected) in seen.iter().zip(&expected) {
        assert_eq!(timeless(seen), timeless(expected));
    }
    seen
}

#[test]
fn not_modified() {
    for mpm in MPMS {
        let servers = servers(mpm);
        for httpd in &servers {
            httpd.install(
                "dated.php",
                "<?php\nheader('Content-Type: text/plain');\nheader('Last-Modified: Sun, 01 Mar 2020 10:00:00 GMT');\n\
                 if (isset($_GET['mark'])) { header('X-Finish-Request: ' . $_GET['mark']); }\necho 'the page';\n",
            );
        }
        let since = [("If-Modified-Since", "Sun, 01 Mar 2020 10:00:00 GMT")];
        let requests: [(&str, &[(&str, &str)]); 4] =
            [("/dated.php", &since), ("/dated.php", &[]), ("/dated.php", &since), ("/app.php?mark=none", &[])];
        let statuses: Vec<u16> = same(&servers, &requests).iter().map(|response| response.status).collect();
        assert_eq!(statuses, [304, 200, 304, 200]);

        // Marked, the same answers.
        let httpd = &servers[1];
        for &protocol in mpm.protocols() {
            for mark in ["length=8", "on", "length=3"] {
                let client = Client::connect(httpd, protocol);
                let response = client.get(&format!("/dated.php?mark={mark}"), &since).response();
                assert_eq!((response.status, response.body.len()), (304, 0), "{mark}");
            }
        }
        servers.into_iter().for_each(Httpd::stop);
    }
}

#[test]
fn redirects() {
    for mpm in MPMS {
        let servers = servers(mpm);
        for httpd in &servers {
            httpd.install(
                "leads.php",
                "<?php\nheader('Location: ' . $_GET['to']);\n\
                 if (isset($_GET['status'])) { http_response_code((int) $_GET['status']); }\n\
                 if (isset($_GET['mark'])) { header('X-Finish-Request: length=3'); }\necho 'elsewhere';\n",
            );
            httpd.install("file.txt", "a static file\n");
        }
        let requests: [(&str, &[(&str, &str)]); 5] = [
            ("/leads.php?to=/file.txt&status=200", &[]),
            ("/leads.php?to=http://elsewhere.test/&status=200", &[]),
            ("/leads.php?to=http://elsewhere.test/", &[]),
            ("/leads.php?to=/app.php%3Fmark%3Dnone&status=200", &[]),
            ("/app.php?mark=none", &[]),
        ];
        let responses = same(&servers, &requests);
        let statuses: Vec<u16> = responses.iter().map(|response| response.status).collect();
        assert_eq!(statuses, [200, 302, 302, 200, 200]);
        assert_eq!(responses[0].body, b"a static file\n");

        // The mark of the page that leads away is not the mark of the one that it leads to.
        let httpd = &servers[1];
        for &protocol in mpm.protocols() {
            let client = Client::connect(httpd, protocol);
            let response = client.get("/leads.php?to=/file.txt&status=200&mark=1", &[]).response();
            assert_body(&response, b"a static file\n");
            let page = "leads.php";
            early_after_redirect(httpd, protocol, page);
        }
        servers.into_iter().for_each(Httpd::stop);
    }
}

#[track_caller]
fn early_after_redirect(httpd: &Httpd, protocol: Protocol, page: &str) {
    let background = httpd.background();
    let client = Client::connect(httpd, protocol);
    let target = format!("/{page}?status=200&mark=1&to=/app.php%3Fmark%3Don%26id%3D{}", background.id());
    let response = client.get(&target, &[]).released();
    assert_body(&response, &body(4096));
    assert!(!background.is_done());
    ran_to_its_end(&background);
}

/// A script that fails before it has said anything.
#[test]
fn errors() {
    for mpm in MPMS {
        let servers = servers(mpm);
        for httpd in &servers {
            httpd.install(
                "fails.php",
                "<?php\nheader('X-Finish-Request: length=3');\nerror_log('a word on standard error');\n\
                 throw new Error('on purpose');\n",
            );
            httpd.expect_log("mod_fcgid: stderr: a word on standard error");
            httpd.expect_log("mod_fcgid: stderr: PHP Fatal error: .*on purpose");
            httpd.allow_log("mod_fcgid: stderr: (Stack trace:|#0|  thrown in)");
        }
        // PHP sends a header, the mark in it, and no body.
        assert_eq!(same(&servers, &[("/fails.php", &[])])[0].status, 500);
        assert_eq!(same(&servers, &[("/app.php?mark=none", &[])])[0].body, body(4096));
        servers.into_iter().for_each(Httpd::stop);
    }
}

/// mod_fcgid holds unmarked output back until it has 64 KB; marked output is not held.
#[test]
fn unmarked_output_is_held_back() {
    for mpm in MPMS {
        let servers = servers(mpm);
        for httpd in &servers {
            let background = httpd.background();
            let client = Client::connect(httpd, Protocol::Http1);
            let exchange = client.get(&path(&background, "app.php", "mark=none&length=none"), &[]);
            background.wait_for_begin();
            let opened = Instant::now();
            ran_to_its_end(&background);
            let response = exchange.response();
            assert_body(&response, &[body(4096), b"L".repeat(200)].concat());
            assert!(response.began >= opened, "a byte came before the end");

            let response = Client::connect(httpd, Protocol::Http1)
                .get("/app.php?mark=none&length=none&bytes=1000000", &[])
                .response();
            assert_body(&response, &body(1_000_000));
        }
        early(&servers[1], Protocol::Http1, "app.php", "mark=on", 4096);
        servers.into_iter().for_each(Httpd::stop);
    }
}
