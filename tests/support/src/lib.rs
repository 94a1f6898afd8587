//! What the integration tests stand on.
//!
//! A test starts an [`Httpd`] of its own, with its own configuration, puts applications into it
//! ([`Handler`], [`Background`]), talks to it ([`http1`], [`http2`], [`tools`]) and stops it; the
//! server's error log has the last word: a warning that the test did not announce fails it.
//!
//! Nothing here sleeps and hopes. Whatever a test waits for is an event with a [`DEADLINE`], and a
//! deadline that passes is a panic that says what did not come.
//!
//! # Contents
//!
//! * The server: [`Httpd`] and its [`Builder`] (`httpd`), its log's judge (`error_log`), what it may use up ([`limit()`]), how many
//!   instructions a request costs it ([`Instructions`]), memory that is overwritten when it is given back, calls that fail ([`Faults`],
//!   `preloaded`), who watches it (`under`), its sockets ([`tcp_sockets`]), what the machine has (`programs`, `ports`, `user`, [`machine`]).
//! * Applications: [`Handler`], their files (`application`), the gate that their work waits at ([`Background`]), a server behind mod_proxy
//!   ([`Backend`]), php-fpm (`php_fpm`).
//! * Clients: [`Client`] for all protocols, [`http1`] and [`http2`] to the byte, HTTP/2 frame by frame
//!   ([`Frames`]), programs such as curl ([`tools`]), a reverse proxy in front
//!   ([`Proxy`]), what they get ([`Response`]).
//! * Waiting: [`wait_for`] and its [`DEADLINE`], a value that one thread changes and others wait for (`watch`), processes that end with their owner ([`Process`]).

mod application;
mod backend;
mod background;
mod certificate;
mod client;
mod deadline;
mod error_log;
mod frames;
mod handler;
pub mod http1;
pub mod http2;
mod httpd;
mod instructions;
mod limit;
pub mod machine;
mod php_fpm;
mod ports;
mod preloaded;
mod process;
mod programs;
mod proxy;
mod response;
mod system_calls;
mod tcp;
pub mod tools;
mod under;
mod user;
mod watch;

pub use application::body;
pub use backend::{Answer, Backend, Speaks};
pub use background::{Background, Done};
pub use certificate::Certificate;
pub use client::{Client, Exchange, Protocol};
pub use deadline::{DEADLINE, wait_for};
pub use frames::{Frame, Frames};
pub use handler::Handler;
pub use httpd::{Builder, Httpd, Mpm, NotStarted};
pub use instructions::{Instructions, can_count};
pub use limit::{Limit, limit};
pub use ports::free_port;
pub use preloaded::{Fault, Faults, early_data};
pub use process::{Held, Process, kill};
pub use programs::{
    finish_request_module, has_module, modules_dir, permit as permit_program, php_cgi, php_cgi_version,
    write as write_program,
};
pub use proxy::{Proxy, ProxyKind};
pub use response::{Framing, Headers, Response};
pub use rustix::process::Signal;
pub use system_calls::{can_trace, system_calls};
pub use tcp::{TcpSocket, tcp_sockets};
pub use under::{defect, is_sanitized, is_watched};
