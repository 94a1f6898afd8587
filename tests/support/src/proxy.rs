//! Reverse proxies to put in front of a server.

use std::fs;
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Command, Stdio};

use tempfile::TempDir;

use crate::deadline::{DEADLINE, poll};
use crate::ports::free_port;
use crate::process::Process;
use crate::programs;

/// How often a proxy is started anew, on another port, because someone took the first one.
const TRIES: usize = 10;

/// A program that can be a reverse proxy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyKind {
    /// nginx.
    Nginx,
    /// HAProxy.
    HaProxy,
}

/// A running reverse proxy with a folder and a port of its own. Ends when dropped.
pub struct Proxy {
    // Before its folder.
    _process: Process,
    port: u16,
    _root: TempDir,
}

impl Proxy {
    /// Starts a proxy in front of `server`, and waits until it listens. It speaks plain HTTP/1 on both sides;
    /// `keep_alive` says whether it keeps its connections to the server for further requests, if it may.
    ///
    /// # Panics
    ///
    /// When it does not start: with all that it said.
    #[track_caller]
    pub fn start(kind: ProxyKind, server: SocketAddr, keep_alive: bool) -> Proxy {
        let root = tempfile::Builder::new().prefix("proxy-test-").tempdir().expect("a folder");
        let said = root.path().join("said.log");
        for _ in 0..TRIES {
            let port = free_port();
            let config = root.path().join("proxy.conf");
            fs::write(&config, kind.config(root.path(), port, server, keep_alive)).expect("a file");
            let mut command = kind.command(root.path(), &config);
            let log = fs::File::create(&said).expect("a file");
            command.current_dir(root.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log);
            let process = Process::spawn(command).expect("the proxy can be run");
            if listens(&process, port) {
                return Proxy { _process: process, port, _root: root };
            }
        }
        panic!("{kind:?} did not start:\n{}", fs::read_to_string(said).unwrap_or_default());
    }

    /// Where its clients connect.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }
}

/// Waits until the proxy listens (true) or has ended (false).
fn listens(process: &Process, port: u16) -> bool {
    let ready = poll(DEADLINE, || {
        if process.has_ended() {
            return Some(false);
        }
        TcpStream::connect((Ipv4Addr::LOCALHOST, port)).is_ok().then_some(true)
    });
    ready.unwrap_or(false) && !process.has_ended()
}

impl ProxyKind {
    fn command(self, root: &Path, config: &Path) -> Command {
        let mut command = match self {
            ProxyKind::Nginx => Command::new(programs::program(&["nginx"])),
            ProxyKind::HaProxy => Command::new(programs::program(&["haproxy"])),
        };
        match self {
            ProxyKind::Nginx => command.arg("-p").arg(root).arg("-e").arg("stderr").arg("-c").arg(config),
            ProxyKind::HaProxy => command.arg("-db").arg("-f").arg(config),
        };
        command
    }

    fn config(self, root: &Path, port: u16, server: SocketAddr, keep_alive: bool) -> String {
        match self {
            ProxyKind::Nginx => nginx(root, port, server, keep_alive),
            ProxyKind::HaProxy => haproxy(port, server, keep_alive),
        }
    }
}

fn nginx(root: &Path, port: u16, server: SocketAddr, keep_alive: bool) -> String {
    let root = root.display();
    let folders: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .iter()
        .map(|name| format!("{name}_temp_path {root}/{name};\n"))
        .collect();
    let (pool, speak) = match keep_alive {
        true => ("keepalive 8;", "proxy_http_version 1.1;\nproxy_set_header Connection \"\";"),
        false => ("", ""),
    };
    format!(
        "daemon off;\nmaster_process off;\npid {root}/nginx.pid;\nerror_log stderr;\nevents {{}}\n\
         http {{\naccess_log off;\n{folders}\
         upstream server {{ server {server}; {pool} }}\n\
         server {{\nlisten 127.0.0.1:{port};\nlocation / {{ proxy_pass http://server;\n{speak} }}\n}}\n}}\n"
    )
}

fn haproxy(port: u16, server: SocketAddr, keep_alive: bool) -> String {
    let mode = match keep_alive {
        true => "option http-keep-alive\nhttp-reuse always",
        false => "option http-server-close",
    };
    format!(
        "global\nmaxconn 100\n\
         defaults\nmode http\ntimeout connect 20s\ntimeout client 60s\ntimeout server 60s\n{mode}\n\
         frontend clients\nbind 127.0.0.1:{port}\ndefault_backend servers\n\
         backend servers\nserver one {server}\n"
    )
}
