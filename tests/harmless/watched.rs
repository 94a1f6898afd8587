//! `make check` looks at what it says it looks at.

use std::panic::{AssertUnwindSafe, catch_unwind};

use support::machine::not_tried;
use support::{Handler, Httpd, Mpm, defect, is_watched};

use crate::administrator::restarts::children;
use crate::judge::{BYTES, early};

/// The server's processes are watched while a response is finished early, and the module with them.
#[test]
#[ignore = "make check, where servers are watched"]
fn servers_are_watched() {
    for mpm in Mpm::ALL {
        let httpd = Httpd::builder(mpm).handler(Handler::Lua).config("FinishRequest On").workers(4).start();
        early(&httpd, support::Protocol::Http1, "app.lua", "mark=on", BYTES);
        let children = children(httpd.id());
        assert!(!children.is_empty() && children.iter().all(|&child| is_watched(child)), "{mpm:?}");
        httpd.stop();
    }
}

/// What is found in a call of the module's fails the test whose server it is.
#[test]
#[ignore = "make check, where servers are watched"]
fn a_finding_fails_a_test() {
    let Some(defect) = defect() else {
        not_tried("nobody watches");
        return;
    };
    let httpd =
        Httpd::builder(Mpm::Worker).handler(Handler::Lua).config("FinishRequest On").workers(8).with_defect().start();
    // All at once, by several threads. A child that reads what it has given back may end in the middle of them.
    let clients: Vec<_> = (0..4).map(|_| httpd.connect()).collect();
    for client in &clients {
        client.get("/app.lua?mark=on", &[]);
    }
    for client in &clients {
        client.end();
    }
    let failure = catch_unwind(AssertUnwindSafe(|| httpd.stop())).expect_err("the defect is found");
    let words = failure.downcast_ref::<String>().expect("a text");
    assert!(words.contains(defect) && words.contains("finish_request"), "{words}");
}
