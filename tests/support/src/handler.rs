//! The handlers of the matrix, and how httpd is told to use them.

use std::path::Path;

use crate::httpd::Mpm;
use crate::php_fpm;
use crate::programs;

/// What runs an application.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handler {
    /// PHP inside httpd; prefork only, as it is not built for threads.
    ModPhp,
    /// `php-cgi`, started and kept by mod_fcgid.
    ModFcgid,
    /// A shell script under mod_cgi (prefork) or mod_cgid (event, worker).
    Cgi,
    /// php-fpm behind mod_proxy_fcgi.
    PhpFpm,
    /// mod_lua.
    Lua,
}

impl Handler {
    /// The name of the application in the document root that this handler runs (see
    /// `apps/` for what it does).
    pub fn page(self) -> &'static str {
        match self {
            Handler::ModPhp | Handler::ModFcgid | Handler::PhpFpm => "app.php",
            Handler::Cgi => "app.cgi",
            Handler::Lua => "app.lua",
        }
    }

    /// The extension of the applications that this handler runs.
    pub fn extension(self) -> &'static str {
        match self {
            Handler::ModPhp | Handler::ModFcgid | Handler::PhpFpm => "php",
            Handler::Cgi => "cgi",
            Handler::Lua => "lua",
        }
    }

    /// Whether it can run under `mpm`.
    pub fn runs_on(self, mpm: Mpm) -> bool {
        self != Handler::ModPhp || mpm == Mpm::Prefork
    }

    /// What this machine lacks to run it under `mpm`, as the rest of a sentence; `None` if nothing.
    pub fn missing(self, mpm: Mpm) -> Option<String> {
        let absent = |name: &&&str| !programs::modules_dir().join(format!("mod_{name}.so")).is_file();
        if let Some(name) = self.modules(mpm).iter().find(absent) {
            return Some(format!("there is no mod_{name}"));
        }
        let missing = match self {
            Handler::ModPhp => programs::find_mod_php().is_none().then_some("there is no mod_php"),
            Handler::ModFcgid => programs::find(&["php-cgi"]).is_none().then_some("there is no php-cgi"),
            Handler::PhpFpm => php_fpm::find().is_none().then_some("there is no php-fpm"),
            Handler::Cgi | Handler::Lua => None,
        };
        missing.map(str::to_owned)
    }

    /// Whether it runs PHP, so that a php.ini is of use to it.
    pub(crate) fn is_php(self) -> bool {
        self.page().ends_with(".php")
    }

    /// The names of the httpd modules that it needs, besides mod_php.
    pub(crate) fn modules(self, mpm: Mpm) -> &'static [&'static str] {
        match self {
            Handler::ModPhp => &["mime"],
            Handler::ModFcgid => &["fcgid"],
            Handler::Cgi if mpm == Mpm::Prefork => &["cgi"],
            Handler::Cgi => &["cgid"],
            Handler::PhpFpm => &["proxy", "proxy_fcgi"],
            Handler::Lua => &["lua"],
        }
    }

    /// httpd's configuration for it. `root` is the server's temporary folder.
    pub(crate) fn config(self, root: &Path, mpm: Mpm) -> String {
        let root = root.display();
        match self {
            Handler::ModPhp => format!(
                "LoadModule php_module \"{}\"\n\
                 TypesConfig /dev/null\n\
                 PHPINIDir \"{root}/php\"\n\
                 <FilesMatch \"\\.php$\">\n  SetHandler application/x-httpd-php\n</FilesMatch>\n",
                programs::mod_php().display()
            ),
            Handler::ModFcgid => format!(
                "FcgidIPCDir \"{root}/fcgid\"\n\
                 FcgidProcessTableFile \"{root}/run/fcgid_shm\"\n\
                 FcgidInitialEnv PHP_FCGI_CHILDREN 0\n\
                 FcgidInitialEnv PHP_FCGI_MAX_REQUESTS 0\n\
                 FcgidInitialEnv PHP_INI_SCAN_DIR \"\"\n\
                 # Tests start many processes at once; none of them is an avalanche.\n\
                 FcgidSpawnScoreUpLimit 10000\n\
                 FcgidMaxProcesses 100\n\
                 FcgidMaxProcessesPerClass 100\n\
                 <FilesMatch \"\\.php$\">\n\
                 \x20 SetHandler fcgid-script\n\
                 \x20 Options +ExecCGI\n\
                 \x20 FcgidWrapper \"{} -c {root}/php\" .php\n\
                 </FilesMatch>\n",
                programs::php_cgi().display()
            ),
            Handler::Cgi => {
                let socket = match mpm {
                    Mpm::Prefork => String::new(),
                    _ => format!("ScriptSock \"{root}/run/cgisock\"\n"),
                };
                socket
                    + "<FilesMatch \"\\.cgi$\">\n\
                       \x20 SetHandler cgi-script\n\
                       \x20 Options +ExecCGI\n\
                       </FilesMatch>\n"
            }
            Handler::PhpFpm => format!(
                "<FilesMatch \"\\.php$\">\n\
                 \x20 SetHandler \"proxy:unix:{root}/run/php-fpm.sock|fcgi://localhost/\"\n\
                 </FilesMatch>\n"
            ),
            Handler::Lua => "<FilesMatch \"\\.lua$\">\n  SetHandler lua-script\n</FilesMatch>\n".to_owned(),
        }
    }
}
