//! The configuration file of a server.

use std::path::Path;

use super::{Builder, Mpm};
use crate::programs;
use crate::under;
use crate::user::User;

/// Built into some httpds, loadable in others.
const MAYBE_BUILT_IN: [&str; 3] = ["unixd", "log_config", "logio"];

/// Where a server is to live.
pub(super) struct Place<'a> {
    pub(super) root: &'a Path,
    pub(super) port: u16,
    pub(super) tls_port: u16,
    pub(super) user: Option<&'a User>,
}

/// The whole text of `httpd.conf`.
pub(super) fn render(builder: &Builder, place: &Place<'_>) -> String {
    let mpm = builder.mpm;
    let handlers: String = builder.handlers.iter().map(|handler| handler.config(place.root, mpm)).collect();
    [
        definitions(place),
        load_modules(builder),
        workers(mpm, builder.workers, builder.generations),
        basics(place, builder.counted),
        protocols(mpm),
        handlers,
        under::config().to_owned(),
        builder.config.clone(),
        tls_host(place),
    ]
    .join("\n")
}

fn definitions(place: &Place<'_>) -> String {
    let Place { root, port, tls_port, .. } = place;
    let root = root.display();
    format!(
        "Define ROOT \"{root}\"\nDefine WWW \"{root}/www\"\n\
         Define PORT {port}\nDefine TLS_PORT {tls_port}\n"
    )
}

fn load_modules(builder: &Builder) -> String {
    let mpm = match builder.mpm {
        Mpm::Event => "mpm_event",
        Mpm::Worker => "mpm_worker",
        Mpm::Prefork => "mpm_prefork",
    };
    let needed = builder.handlers.iter().flat_map(|handler| handler.modules(builder.mpm));
    let http2 = builder.mpm.has_http2().then_some("http2");
    let there = |name: &&str| programs::modules_dir().join(format!("mod_{name}.so")).is_file();

    let mut names: Vec<&str> = MAYBE_BUILT_IN.into_iter().filter(there).collect();
    names.extend([mpm, "authz_core", "socache_shmcb", "ssl"]);
    names.extend(http2);
    names.extend(needed);
    names.extend(builder.modules.iter().map(String::as_str));

    let mut text = String::new();
    for (index, name) in names.iter().enumerate() {
        if !names[..index].contains(name) {
            let file = programs::modules_dir().join(format!("mod_{name}.so"));
            text += &format!("LoadModule {name}_module \"{}\"\n", file.display());
        }
    }
    if builder.with_module {
        let file = programs::finish_request_module();
        text += &format!("LoadModule finish_request_module \"{}\"\n", file.display());
    }
    text
}

fn workers(mpm: Mpm, workers: usize, generations: usize) -> String {
    match mpm {
        Mpm::Event | Mpm::Worker => {
            let threads = workers.min(64);
            let processes = workers.div_ceil(threads);
            let places = processes * generations;
            // Event has room for `ServerLimit` children, worker for no more than `MaxRequestWorkers` takes.
            let most = if mpm == Mpm::Worker { places } else { processes };
            format!(
                "ThreadsPerChild {threads}\nServerLimit {places}\nStartServers {processes}\n\
                 MaxRequestWorkers {}\nMinSpareThreads 1\nMaxSpareThreads {}\n",
                most * threads,
                (processes + 1) * threads
            )
        }
        // As many as the tests use at once: prefork adds more only second by second. The spare ones come on top, or it
        // complains that it cannot have as many spare ones as it wants.
        Mpm::Prefork => {
            let spare = workers.min(24);
            let most = workers + spare;
            format!(
                "ServerLimit {most}\nMaxRequestWorkers {most}\nStartServers {spare}\n\
                 MinSpareServers {spare}\nMaxSpareServers {}\n",
                most + 1
            )
        }
    }
}

fn basics(place: &Place<'_>, is_counted: bool) -> String {
    // A number of few digits takes fewer instructions than one of many.
    let time = if is_counted { "" } else { " %D" };
    let user = place.user.map_or_else(String::new, |user| format!("User {name}\nGroup {name}\n", name = user.name));
    format!(
        "{user}ServerName localhost\n\
         Listen 127.0.0.1:${{PORT}}\n\
         Listen 127.0.0.1:${{TLS_PORT}} https\n\
         DefaultRuntimeDir \"${{ROOT}}/run\"\n\
         PidFile \"${{ROOT}}/run/httpd.pid\"\n\
         ErrorLog \"${{ROOT}}/error.log\"\n\
         LogLevel info ssl:warn\n\
         CustomLog \"${{ROOT}}/access.log\" \"%h \\\"%r\\\" %>s %b{time} %X\"\n\
         DocumentRoot \"${{WWW}}\"\n\
         Timeout 180\n\
         KeepAliveTimeout 180\n"
    )
}

fn protocols(mpm: Mpm) -> String {
    match mpm.has_http2() {
        true => "Protocols h2 h2c http/1.1\nH2Push off\n".to_owned(),
        false => String::new(),
    }
}

fn tls_host(place: &Place<'_>) -> String {
    format!(
        "SSLSessionCache \"shmcb:${{ROOT}}/run/ssl(65536)\"\n\
         <VirtualHost 127.0.0.1:{}>\n\
         \x20 ServerName localhost\n\
         \x20 SSLEngine on\n\
         \x20 SSLCertificateFile \"${{ROOT}}/server.pem\"\n\
         \x20 SSLCertificateKeyFile \"${{ROOT}}/server.key\"\n\
         </VirtualHost>\n",
        place.tls_port
    )
}
