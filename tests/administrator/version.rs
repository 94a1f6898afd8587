//! The module says its version where an administrator looks for it, and refuses an httpd that is too old for it.

use std::fs;

use support::{Httpd, Mpm, Signal, finish_request_module, wait_for};

use crate::administrator::status::{page, with_status};
use crate::marks::api::c_module;

const VERSION: &str = env!("CARGO_PKG_VERSION");

on_every_mpm!(stands_in_the_error_log_and_on_the_status_page);

fn stands_in_the_error_log_and_on_the_status_page(mpm: Mpm) {
    let httpd = with_status(Httpd::builder(mpm)).generations(3).config("ServerTokens Full").start();
    let notices = || httpd.log().matches(&format!("mod_finish_request/{VERSION} configured")).count();
    assert_eq!(notices(), 1);
    assert!(httpd.wait_for_log("configured").contains("[finish_request:notice]"));
    assert!(page(&httpd, "?auto").contains(&format!("\nFinishRequestVersion: {VERSION}\n")));
    assert!(page(&httpd, "").contains(&format!("mod_finish_request/{VERSION}")));

    let connection = httpd.connect();
    connection.get("/", &[("Connection", "close")]);
    let server = connection.response().header("Server").unwrap_or_default().to_owned();
    assert!(server.starts_with("Apache/2.4") && !server.contains("finish"), "{server}");

    httpd.signal(Signal::USR1);
    wait_for("a second notice", || (notices() == 2).then_some(()));
    wait_for("the new children", || (httpd.log().matches("resuming normal operations").count() == 2).then_some(()));
    page(&httpd, "?auto");
    httpd.stop();
}

#[test]
fn stands_in_the_shared_object_and_in_the_header() {
    let text = fs::read(finish_request_module()).unwrap();
    let needle = format!("mod_finish_request/{VERSION}");
    assert!(text.windows(needle.len()).any(|bytes| bytes == needle.as_bytes()));
    let header = include_str!("../../apxs/mod_finish_request.h");
    assert!(header.contains(&format!("#define MOD_FINISH_REQUEST_VERSION \"{VERSION}\"\n")));
}

#[test]
fn an_older_httpd_is_refused() {
    let older = c_module("mod_older_httpd");
    let config = format!("LoadModule older_httpd_module \"{}\"", older.display());
    for mpm in Mpm::ALL {
        let said = Httpd::builder(mpm).config(&config).try_start().err().expect("a refusal").to_string();
        assert!(said.contains("this httpd is too old for mod_finish_request"), "{said}");
        assert!(said.contains("20120211.109") && said.contains("2.4.49"), "{said}");
    }
}
