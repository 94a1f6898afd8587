//! The applications that are measured, and their servers.

use support::{Builder, Handler, Httpd, Mpm};

/// What an answer is without what makes it early, and with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Page {
    Plain,
    Marked,
}

/// An answer of 600 bytes, flushed; then work of as many milliseconds as the query says.
const LUA: &str = "function handle(r)
    r.content_type = 'text/plain'
    r.headers_out['Content-Length'] = '600'
    MARK
    r:write(('small\\n'):rep(100))
    r:flush()
    if r.args then r.usleep(1000 * tonumber(r.args)) end
    return apache2.OK
end
";

const PHP: &str = "<?php
header('Content-Type: text/plain');
header('Content-Length: 600');
MARK
echo str_repeat(\"small\\n\", 100);
flush();
if ($_SERVER['QUERY_STRING']) usleep(1000 * (int) $_SERVER['QUERY_STRING']);
";

/// The same by the function that php-fpm has.
pub const FUNCTION: &str = "<?php
header('Content-Type: text/plain');
header('Content-Length: 600');
echo str_repeat(\"small\\n\", 100);
fastcgi_finish_request();
if ($_SERVER['QUERY_STRING']) usleep(1000 * (int) $_SERVER['QUERY_STRING']);
";

/// What all servers have: nothing that depends on the request's number or on the file's age, and a log that says what is wrong.
pub const QUIET: &str = "MaxKeepAliveRequests 0\nFileETag None\nLogLevel warn\nKeepAliveTimeout 60";

/// A server without the module.
pub fn stock(mpm: Mpm, handler: Handler) -> Builder {
    Httpd::builder(mpm).handler(handler).config(QUIET).without_module()
}

/// A server with it; its limit is out of the way.
pub fn module(mpm: Mpm, handler: Handler, config: &str) -> Builder {
    Httpd::builder(mpm).handler(handler).config(QUIET).config("FinishRequest On\nFinishRequestMax none").config(config)
}

/// Starts a server that has the pages.
pub fn start(builder: Builder) -> Httpd {
    let httpd = builder.start();
    httpd.may_be_full();
    let lua = |mark: &str| LUA.replace("MARK", mark);
    let php = |mark: &str| PHP.replace("MARK", mark);
    httpd.install("small.txt", &"small\n".repeat(100));
    httpd.install("plain.lua", &lua(""));
    httpd.install("marked.lua", &lua("r.headers_out['X-Finish-Request'] = 'on'"));
    httpd.install("plain.php", &php(""));
    httpd.install("marked.php", &php("header('X-Finish-Request: on');"));
    httpd.install("function.php", FUNCTION);
    httpd
}

impl Page {
    /// Its path, with `work` milliseconds of work after the answer.
    pub fn path(self, handler: Handler, work: u32) -> String {
        let name = match self {
            Page::Plain => "plain",
            Page::Marked => "marked",
        };
        let query = if work == 0 { String::new() } else { format!("?{work}") };
        format!("/{name}.{}{query}", handler.extension())
    }
}

/// The handlers that most parts compare, each where it runs.
pub fn handlers() -> impl Iterator<Item = (Handler, Mpm, &'static str)> {
    let all = [(Handler::Lua, Mpm::Event, "Lua, event"), (Handler::ModPhp, Mpm::Prefork, "mod_php, prefork")];
    all.into_iter().filter(|(handler, mpm, name)| match handler.missing(*mpm) {
        Some(missing) => {
            println!("{name} is left out: {missing}");
            false
        }
        None => true,
    })
}
