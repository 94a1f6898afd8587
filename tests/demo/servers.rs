//! The servers of the demo: one for each MPM, and the same again without the module.

use std::net::SocketAddr;
use std::thread;

use support::http1::Connection;
use support::{Background, Builder, Handler, Httpd, Mpm, Protocol, wait_for};

use crate::measure::Row;
use crate::sentence::{fail, say};

/// The two seconds of the applications' work.
pub const WORK: f64 = 2.0;

/// What runs where. Each MPM can have one handler for PHP.
const PLACES: [(Mpm, &[Handler]); 3] = [
    (Mpm::Prefork, &[Handler::ModPhp]),
    (Mpm::Event, &[Handler::ModFcgid, Handler::Cgi, Handler::Lua]),
    (Mpm::Worker, &[Handler::PhpFpm]),
];

/// What the page for browsers asks for.
const PAGE: [(&str, &str); 4] = [
    ("job.php", include_str!("apps/job.php")),
    ("jobs.php", include_str!("apps/jobs.php")),
    ("report.php", include_str!("apps/report.php")),
    ("finish_request.php", include_str!("../../php/finish_request.php")),
];

/// The page's six jobs, and what looks whether they have ended.
const AT_ONCE: usize = 8;

/// A server with the module and its like without.
pub struct Pair {
    mpm: Mpm,
    handlers: Vec<Handler>,
    pub with: Httpd,
    pub without: Httpd,
}

/// All servers, and why some are missing.
pub struct Servers {
    pub pairs: Vec<Pair>,
    left_out: Vec<String>,
}

impl Servers {
    /// Starts all that this machine can have.
    pub fn start() -> Servers {
        let mut left_out = Vec::new();
        let mut planned = Vec::new();
        for (mpm, handlers) in PLACES {
            let mut present = Vec::new();
            for &handler in handlers {
                match handler.missing(mpm) {
                    None => present.push(handler),
                    Some(missing) => left_out.push(format!("{} is left out: {missing}.", name(handler, mpm))),
                }
            }
            if !present.is_empty() {
                planned.push((mpm, present));
            }
        }
        if planned.is_empty() {
            let sentences: Vec<_> = left_out.iter().map(|sentence: &String| sentence.trim_end_matches('.')).collect();
            fail(&format!(
                "no handler is there, neither for PHP nor for another language ({}): `make packages` installs them on Debian",
                sentences.join("; ")
            ));
        }
        let pairs = thread::scope(|scope| {
            let starting: Vec<_> =
                planned.into_iter().map(|(mpm, handlers)| scope.spawn(move || Pair::start(mpm, handlers))).collect();
            starting.into_iter().map(|pair| pair.join().expect("the servers start")).collect()
        });
        Servers { pairs, left_out }
    }

    /// The rows of the table: each handler over each protocol.
    pub fn rows(&self) -> Vec<Row> {
        let mut rows = Vec::new();
        for (index, pair) in self.pairs.iter().enumerate() {
            for &handler in &pair.handlers {
                for &protocol in pair.mpm.protocols() {
                    rows.push(Row { pair: index, handler, name: name(handler, pair.mpm), protocol });
                }
            }
        }
        rows
    }

    /// What is not in the table, and why.
    pub fn sentences(&self) -> Vec<String> {
        let mut sentences = self.left_out.clone();
        if self.pairs.iter().any(|pair| !pair.mpm.has_http2()) {
            sentences.push("mod_php needs the prefork MPM, which has no HTTP/2.".to_owned());
        }
        sentences
    }

    /// Prints what one can try by oneself.
    pub fn invite(&self) {
        say!("\nThe servers run until you press Ctrl-C.");
        if let Some(pair) = self.pairs.iter().filter(|pair| pair.has_page()).max_by_key(|pair| pair.mpm.has_http2()) {
            say!("\nIn a browser:  {}", pair.with.url("index.html"));
            let protocol = if pair.mpm.has_http2() { "over HTTP/2" } else { "over TLS" };
            say!("{:<14} {} (its certificate is its own)", protocol, pair.with.tls_url("index.html"));
        }
        say!("\nOr try, with -w '%{{time_total}}\\n' if you like:\n");
        for pair in &self.pairs {
            for &handler in &pair.handlers {
                let page = page(handler);
                say!("  {}", name(handler, pair.mpm));
                say!("    curl -i --compressed {}", pair.with.url(page));
                say!("    curl -ik --compressed {}", pair.with.tls_url(page));
                say!("    {:<25} {}", "without the module:", pair.without.url(page));
            }
            say!("  {:<27} {}", "what work has been done:", pair.with.url("work.log"));
        }
        say!("\nBelow /gzip/ the module leaves compression on: {}", self.example_with_gzip());
    }

    fn example_with_gzip(&self) -> String {
        self.pairs
            .iter()
            .find_map(|pair| pair.handlers.first().map(|&handler| pair.with.url(&format!("gzip/{}", page(handler)))))
            .unwrap_or_default()
    }

    /// Ends the servers.
    pub fn stop(self) {
        thread::scope(|scope| {
            for pair in self.pairs {
                scope.spawn(move || pair.with.stop());
                scope.spawn(move || pair.without.stop());
            }
        });
    }
}

impl Pair {
    fn start(mpm: Mpm, handlers: Vec<Handler>) -> Pair {
        let builder = handlers.iter().fold(Httpd::builder(mpm), |builder, &handler| builder.handler(handler));
        let builder = builder.modules(&["alias", "filter", "deflate"]).config(
            "AddOutputFilterByType DEFLATE text/plain
             Alias /gzip \"${WWW}\"
             Alias /work.log \"${ROOT}/gates/work.log\"",
        );
        let with = builder.clone().config("FinishRequest On\n<Location /gzip/>\nFinishRequestBypass none\n</Location>");
        let pair = Pair { mpm, handlers, with: furnished(with), without: furnished(builder.without_module()) };
        pair.install_page();
        pair.warm_up();
        pair
    }

    /// Whether there is a page for browsers: under php-fpm the server without the module would finish as well.
    fn has_page(&self) -> bool {
        self.handlers.iter().any(|handler| matches!(handler, Handler::ModPhp | Handler::ModFcgid))
    }

    /// The page has two lanes, one for each of the servers.
    fn install_page(&self) {
        let port = |address: SocketAddr| address.port().to_string();
        let page = include_str!("apps/index.html")
            .replace("@WITHOUT@", &port(self.without.address()))
            .replace("@WITHOUT_TLS@", &port(self.without.tls_address()));
        self.with.install("index.html", &page);
        for httpd in [&self.with, &self.without] {
            for (name, text) in PAGE {
                httpd.install(name, text);
            }
        }
    }

    /// As on a server in use: programs are loaded, and mod_fcgid has idle processes. So many requests
    /// wait at gates at once as the table will have at work.
    fn warm_up(&self) {
        for (httpd, columns) in [(&self.with, 2), (&self.without, 1)] {
            for &handler in &self.handlers {
                let at_once = (columns * self.mpm.protocols().len()).max(if self.has_page() { AT_ONCE } else { 0 });
                let waiting: Vec<_> = (0..at_once)
                    .map(|_| {
                        let (background, connection) = (httpd.background(), httpd.connect());
                        connection.get(&(background.query(handler.page()) + "&mark=none"), &[]);
                        (background, connection)
                    })
                    .collect();
                for (background, connection) in &waiting {
                    wait_for_begin(httpd, name(handler, self.mpm), background, connection);
                }
                for (background, connection) in waiting {
                    background.open_gate();
                    connection.response();
                    background.wait_for_done();
                }
            }
        }
    }
}

/// Waits until an application works. One that does not is the demo's end.
fn wait_for_begin(httpd: &Httpd, name: &str, background: &Background, connection: &Connection) {
    let wrong = || {
        let status = connection.so_far().map(|response| response.status).filter(|status| *status != 200);
        let answer = status.map(|status| format!("it answers {status}"));
        answer.or_else(|| connection.has_ended().then(|| "it closes the connection".to_owned()))
    };
    let trouble = wait_for(&format!("an application under {name}"), || match background.has_begun() {
        true => Some(None),
        false => wrong().map(Some),
    });
    if let Some(trouble) = trouble {
        let said = httpd.complaints();
        let said = said.first().map_or_else(String::new, |line| format!("; httpd says: {line}"));
        fail(&format!("{name} does not work here, {trouble}{said}"));
    }
}

fn furnished(builder: Builder) -> Httpd {
    let httpd = builder.try_start().unwrap_or_else(|error| fail(&error.sentence()));
    httpd.install("work.php", include_str!("apps/work.php"));
    httpd.install("work.cgi", include_str!("apps/work.cgi"));
    httpd.install("work.lua", include_str!("apps/work.lua"));
    httpd
}

/// The application for a handler.
pub fn page(handler: Handler) -> &'static str {
    match handler {
        Handler::ModPhp | Handler::ModFcgid | Handler::PhpFpm => "work.php",
        Handler::Cgi => "work.cgi",
        Handler::Lua => "work.lua",
    }
}

fn name(handler: Handler, mpm: Mpm) -> &'static str {
    match handler {
        Handler::ModPhp => "PHP, mod_php",
        Handler::ModFcgid => "PHP, mod_fcgid",
        Handler::PhpFpm => "PHP, php-fpm",
        Handler::Cgi if mpm == Mpm::Prefork => "shell, mod_cgi",
        Handler::Cgi => "shell, mod_cgid",
        Handler::Lua => "Lua, mod_lua",
    }
}

/// How a protocol is called in the table.
pub fn protocol(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http1 => "HTTP/1.1",
        Protocol::Http1Tls => "HTTP/1.1, TLS",
        Protocol::Http2 => "HTTP/2, TLS",
    }
}
