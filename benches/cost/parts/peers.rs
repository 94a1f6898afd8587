use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use support::{Handler, Httpd, Mpm, Process, wait_for};
use tempfile::TempDir;

use crate::clients::{Exchange, ask_and_close};
use crate::measure::{Subject, in_turns, percentiles, request_by_request};
use crate::pages::{self, Page};
use crate::processes::{Processes, cpu_per_request};
use crate::report::Report;

const WORK: u32 = 20;
const REQUESTS: usize = 30;
const LUA_MODULES: [&str; 2] = ["ndk_http_module.so", "ngx_http_lua_module.so"];
const NGINX_MODULES: &str = "/usr/lib/nginx/modules";

struct Peer {
    name: &'static str,
    server: SocketAddr,
    processes: Processes,
    path: String,
}

pub fn measure(report: &mut Report) {
    let mut httpds = Vec::new();
    let mut peers = Vec::new();
    let mut add = |httpd: Httpd, name: &'static str, path: String| {
        peers.push(Peer { name, server: httpd.address(), processes: Processes::of(&httpd), path });
        httpds.push(httpd);
    };
    for (handler, mpm, name) in pages::handlers() {
        let recipe = match name {
            "Lua, event" => "the recipe, Lua, event",
            _ => "the recipe, mod_php, prefork",
        };
        let ours = match name {
            "Lua, event" => "this module, Lua, event",
            _ => "this module, mod_php, prefork",
        };
        add(pages::start(pages::module(mpm, handler, "").workers(128)), ours, Page::Marked.path(handler, WORK));
        add(pages::start(pages::stock(mpm, handler).workers(128)), recipe, Page::Plain.path(handler, WORK));
    }
    let mut nginxes = Vec::new();
    if let Some(missing) = Handler::PhpFpm.missing(Mpm::Event) {
        report.left_out(&format!("php-fpm: {missing}."));
    } else {
        let httpd = pages::start(pages::stock(Mpm::Event, Handler::PhpFpm));
        let (processes, path) = (Processes::of(&httpd), format!("/function.php?{WORK}"));
        match Nginx::start(&in_front_of_php_fpm(&httpd), &[]) {
            Ok(nginx) => {
                let fpm = processes.clone().without(httpd.id());
                peers.push(nginx.peer("php-fpm behind nginx", path.clone(), Some(&fpm)));
                nginxes.push(nginx);
            }
            Err(why) => report.left_out(&format!("nginx: {why}.")),
        }
        peers.push(Peer { name: "php-fpm behind httpd, event", server: httpd.address(), processes, path });
        httpds.push(httpd);
    }
    let lua_there = LUA_MODULES.iter().all(|name| Path::new(NGINX_MODULES).join(name).is_file());
    let lua =
        if lua_there { Nginx::start(EOF, &LUA_MODULES) } else { Err("there is no libnginx-mod-http-lua".to_owned()) };
    match lua {
        Ok(nginx) => {
            peers.push(nginx.peer("nginx, Lua, ngx.eof()", format!("/eof?{WORK}"), None));
            nginxes.push(nginx);
        }
        Err(why) => report.left_out(&format!("nginx with Lua: {why}.")),
    }
    compare(report, &peers);
    httpds.into_iter().for_each(Httpd::stop);
}

fn compare(report: &mut Report, peers: &[Peer]) {
    let ask = |peer: &Peer| ask_and_close(peer.server, &peer.path);
    let mut subjects: Vec<_> = peers.iter().map(|peer| move || ask(peer)).collect();
    let mut turns: Vec<Subject<'_, Exchange>> = subjects.iter_mut().map(|subject| subject as _).collect();
    let measured = request_by_request(20, REQUESTS, &mut turns);
    // In thousandths of a second what is named so.
    for (what, unit, which) in [
        ("complete", " µs", (|exchange| exchange.complete) as fn(&Exchange) -> Duration),
        ("FIN", " ms", |exchange| exchange.end / 1000),
    ] {
        for percent in [50.0, 99.0] {
            for (peer, rounds) in peers.iter().zip(&measured) {
                let times: Vec<Vec<Duration>> = rounds.iter().map(|round| round.iter().map(which).collect()).collect();
                report.figure(format!("{what} p{percent}: {}", peer.name), unit, percentiles(&times, percent));
            }
        }
    }
    let mut subjects: Vec<_> = peers
        .iter()
        .map(|peer| {
            move || {
                cpu_per_request(&peer.processes, REQUESTS, || {
                    ask(peer);
                })
            }
        })
        .collect();
    let mut turns: Vec<Subject<'_, f64>> = subjects.iter_mut().map(|subject| subject as _).collect();
    let measured = in_turns(12, &mut turns);
    for (peer, rounds) in peers.iter().zip(measured) {
        report.figure(format!("CPU a request: {}", peer.name), " µs of CPU", rounds);
    }
}

/// Answers, ends, and works.
const EOF: &str = "location /eof {
    default_type text/plain;
    content_by_lua_block {
        ngx.header.content_length = 600
        ngx.print(('small\\n'):rep(100))
        ngx.eof()
        ngx.sleep(tonumber(ngx.var.args) / 1000)
    }
}";

fn in_front_of_php_fpm(httpd: &Httpd) -> String {
    let root = httpd.root().display();
    format!(
        "location / {{
    fastcgi_pass unix:{root}/run/php-fpm.sock;
    fastcgi_param SCRIPT_FILENAME {root}/www$fastcgi_script_name;
    fastcgi_param SCRIPT_NAME $fastcgi_script_name;
    fastcgi_param REQUEST_METHOD $request_method;
    fastcgi_param QUERY_STRING $query_string;
    fastcgi_param REQUEST_URI $request_uri;
    fastcgi_param SERVER_PROTOCOL $server_protocol;
}}"
    )
}

/// A running nginx.
struct Nginx {
    // Before its folder.
    process: Process,
    port: u16,
    _root: TempDir,
}

impl Nginx {
    fn start(locations: &str, modules: &[&str]) -> Result<Nginx, String> {
        let root = tempfile::tempdir().expect("a folder");
        let port =
            TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|socket| socket.local_addr()).expect("a port").port();
        let place = root.path().display();
        let load: String = modules.iter().map(|name| format!("load_module {NGINX_MODULES}/{name};\n")).collect();
        let folders: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|name| format!("{name}_temp_path {place}/{name};\n"))
            .collect();
        let config = root.path().join("nginx.conf");
        let text = format!(
            "daemon off;\nmaster_process off;\npid {place}/nginx.pid;\nerror_log stderr crit;\n{load}events {{}}\n\
             http {{\naccess_log {place}/access.log;\n{folders}server {{\nlisten 127.0.0.1:{port};\n{locations}\n}}\n}}\n"
        );
        fs::write(&config, text).expect("a file");
        let mut command = Command::new("nginx");
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        command.env("PATH", path).arg("-p").arg(root.path()).args(["-e", "stderr", "-c"]).arg(&config);
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(fs::File::create(root.path().join("said")).expect("a file"));
        let process = Process::spawn(command).map_err(|error| format!("it cannot be run ({error})"))?;
        let up = wait_for("nginx", || {
            if process.has_ended() {
                return Some(false);
            }
            TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(true)
        });
        let said = fs::read_to_string(root.path().join("said")).unwrap_or_default();
        if up { Ok(Nginx { process, port, _root: root }) } else { Err(format!("it does not start: {}", said.trim())) }
    }

    fn peer(&self, name: &'static str, path: String, more: Option<&Processes>) -> Peer {
        let processes = Processes::group(self.process.id());
        let processes = more.map_or(processes.clone(), |more| processes.and(more));
        Peer { name, server: (Ipv4Addr::LOCALHOST, self.port).into(), processes, path }
    }
}
