//! The recipes, and what the module promises for each.

use support::{Handler, Httpd, Mpm, Protocol, body};

/// Where PHP or a script runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Platform {
    ModPhp,
    ModFcgid,
    PhpFpm,
    ModCgi,
    ModCgid,
}

impl Platform {
    /// As the page calls it.
    pub fn name(self) -> &'static str {
        match self {
            Platform::ModPhp => "mod_php",
            Platform::ModFcgid => "mod_fcgid",
            Platform::PhpFpm => "php-fpm",
            Platform::ModCgi => "mod_cgi",
            Platform::ModCgid => "mod_cgid",
        }
    }

    pub fn handler(self) -> Handler {
        match self {
            Platform::ModPhp => Handler::ModPhp,
            Platform::ModFcgid => Handler::ModFcgid,
            Platform::PhpFpm => Handler::PhpFpm,
            Platform::ModCgi | Platform::ModCgid => Handler::Cgi,
        }
    }

    pub fn mpm(self) -> Mpm {
        match self {
            Platform::ModPhp | Platform::ModCgi => Mpm::Prefork,
            Platform::ModFcgid => Mpm::Worker,
            Platform::PhpFpm | Platform::ModCgid => Mpm::Event,
        }
    }

    pub fn protocols(self) -> &'static [Protocol] {
        match self.mpm().has_http2() {
            true => &[Protocol::Http1, Protocol::Http2],
            false => &[Protocol::Http1],
        }
    }

    pub fn recipes(self) -> &'static [Recipe] {
        match self.handler() {
            Handler::Cgi => &CGI,
            _ => &PHP,
        }
    }

    /// The settings of `output_buffering` that make a difference.
    pub fn buffers(self) -> &'static [u32] {
        match self.handler() {
            Handler::Cgi => &[0],
            _ => &[0, 4096],
        }
    }
}

/// A way to close the connection early, as it is found on the web.
#[derive(Clone, Copy, Debug)]
pub struct Recipe {
    /// The name of its row, and of its application without the extension.
    pub name: &'static str,
    /// The application.
    pub text: &'static str,
}

macro_rules! recipes {
    ($extension:literal: $($name:literal)*) => {
        [$(Recipe { name: $name, text: include_str!(concat!("apps/", $name, $extension)) }),*]
    };
}

/// The recipes for PHP, in the page's order.
static PHP: [Recipe; 20] = recipes!(".php":
    "ob-length" "clean-first" "one-buffer" "encoding-none" "encoding-none-clean" "gz-handler" "own-chunks"
    "length-only" "any-level" "any-level-empty" "padding" "redirect" "redirect-session" "fpm-finish"
    "shutdown-function" "iframe" "close-no-length"
    "one-buffer-mended" "length-only-mended" "redirect-mended"
);

/// The recipes for scripts.
static CGI: [Recipe; 2] = recipes!(".cgi": "detached-child" "close-stdout");

/// The page that the redirects lead to.
pub const NEXT: &str = include_str!("apps/next.php");

/// What the module promises.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Promise {
    /// The client is released before the background work ends.
    Released,
    /// The client has to wait, for a reason that lies outside httpd.
    Waits,
    /// The module leaves the response as it is.
    AsOnStock,
    /// The body is not what the application meant, as on stock httpd; it ends early, and nothing leaks.
    Broken,
    /// The application cannot run there.
    Missing,
}

impl Recipe {
    /// The application's name in the document root.
    pub fn page(&self, platform: Platform) -> String {
        let extension = if platform.handler() == Handler::Cgi { "cgi" } else { "php" };
        format!("{}.{extension}", self.name)
    }

    pub fn install(&self, httpd: &Httpd, platform: Platform) {
        httpd.install(&self.page(platform), self.text);
    }

    /// What the user is to see.
    pub fn expected(&self) -> Vec<u8> {
        match self.name {
            "padding" => [body(1500), vec![b' '; 65537]].concat(),
            "any-level-empty" => Vec::new(),
            _ => body(1500),
        }
    }

    /// Whether it leads to another page.
    pub fn redirects(&self) -> bool {
        self.name.starts_with("redirect")
    }

    /// Whether the body comes in parts, with the work between them.
    pub fn streams(&self) -> bool {
        matches!(self.name, "iframe" | "close-no-length")
    }

    /// Whether it has no body to send, so that it ends early from PHP 8.4 on: before, php-cgi's flush() sends no headers by themselves.
    pub fn wants_php_8_4(&self, platform: Platform) -> bool {
        platform == Platform::ModFcgid && matches!(self.name, "redirect" | "any-level-empty")
    }

    /// Exceptions are what `FinishRequest Auto` does not take for a mark, and where PHP does not let go of the
    /// response, or of the session.
    pub fn promise(&self, platform: Platform, protocol: Protocol, gzip: bool, output_buffering: u32) -> Promise {
        match self.name {
            _ if self.streams() => Promise::AsOnStock,
            // httpd drops the header that says so, and the module never sees it.
            "own-chunks" if platform == Platform::PhpFpm => Promise::AsOnStock,
            // As without the module: chunks are no body, neither for HTTP/2 nor to be compressed.
            "own-chunks" if gzip || protocol == Protocol::Http2 => Promise::Broken,
            // A length alone is no mark where the connection would be lost by it.
            "length-only" if protocol != Protocol::Http2 => Promise::AsOnStock,
            "fpm-finish" if platform == Platform::PhpFpm => Promise::AsOnStock,
            "fpm-finish" => Promise::Missing,
            "one-buffer" | "encoding-none" if output_buffering > 0 => Promise::Waits,
            "redirect-session" => Promise::Waits,
            // mod_proxy_fcgi passes no headers on before the first byte of a body.
            "redirect" | "any-level-empty" if platform == Platform::PhpFpm => Promise::Waits,
            _ if self.wants_php_8_4(platform) && support::php_cgi_version() < (8, 4) => Promise::Waits,
            _ => Promise::Released,
        }
    }
}
