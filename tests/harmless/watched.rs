//! `make check` looks at what it says it looks at.

use support::{Handler, Httpd, Mpm, is_watched};

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
