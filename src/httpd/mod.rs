//! Safe wrappers of httpd's and APR's objects. They know nothing of what the module decides.
//!
//! # Invariants
//!
//! The wrappers are small handles that are copied about. Each holds a pointer that httpd gave to an entry of
//! the module, and a lifetime that ends no later than that entry's call. SAFETY comments cite these facts:
//!
//! * **LIVE**: httpd keeps an object alive, and its pointers valid, during any call into the module that
//!   names it: a request, its connection, its tables and pools, a filter node, a brigade that is passed.
//!   Memory from a request's pool lives as long as the request; it is never freed piecemeal.
//! * **ONE THREAD**: a request, its tables, filters and brigades are used by one thread at a time: the one
//!   that called the module. What another thread may write (`conn_rec.aborted` of an HTTP/2 stream) is read
//!   and written atomically only.
//! * **NUL**: strings that httpd hands out end in a NUL byte; strings handed to httpd are `CStr`s, or copies in a pool.

mod brigade;
mod bucket_read;
mod config;
mod connection;
mod directive;
mod extra;
mod filter;
mod filter_entry;
mod guard;
mod hook;
mod listen;
mod log;
mod module;
mod mpm;
mod pool;
mod pulled;
mod request;
mod seldom;
mod server;
mod status;
mod table;

pub use self::brigade::{Block, Brigade, BrigadeRecord, Kind};
pub use self::bucket_read::{OriginalRead, ReplacedRead, Source};
pub use self::config::{PerDir, dir_config, server_config};
pub use self::connection::{Connection, Record};
pub use self::directive::{Args, Commands, Context, Directive, Manual, command};
pub use self::filter::{Filter, Foremost, is_ours};
pub use self::filter_entry::{
    FilterHandle, FilterType, InputCall, InputFilter, OutputFilter, PutBack, Replaced, Replacement,
};
pub use self::guard::guard;
pub use self::hook::{
    BeforeListening, ByHttpd, ChildInit, ChildState, ChildStatus, ChildStopping, Configured, CreateConnection, Hooks,
    InsertErrorFilter, InsertFilter, InsertNetworkBucket, LogTransaction, NetworkBucket, OpenLogs, OptionalFunction,
    PostConfig, PreConfig, PreConnection, ProcessConnection, QuickHandler, Reply, StatusFlags, StatusHook, is_async,
    is_rehearsal, is_threaded, retrieve_optional,
};
pub use self::listen::Accepted;
pub use self::log::{notice, with_context};
pub use self::module::{Module, ModuleType, refusal};
pub use self::mpm::Mpm;
pub use self::pool::Pool;
pub use self::pulled::Pull;
pub use self::request::{Request, RequestRecord, now};
pub use self::seldom::Seldom;
pub use self::server::Server;
pub use self::status::{Result, Status};
pub use self::table::Table;
