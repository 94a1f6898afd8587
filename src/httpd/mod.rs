//! Safe wrappers of httpd's and APR's objects. They know nothing of what the module decides.
//!
//! The wrappers are small handles that are copied about. What they rest on is numbered in `docs/safety.md`: SAFETY comments cite the numbers.

mod brigade;
mod bucket_read;
mod chains;
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
mod process;
mod pulled;
mod request;
mod seldom;
mod server;
mod status;
mod table;

pub use self::brigade::{Block, BorrowedBrigade, Brigade, BrigadeRecord, Kind};
pub use self::bucket_read::{Ahead, OriginalRead, ReplacedRead, Source};
pub use self::config::{PerDir, dir_config, server_config};
pub use self::connection::{Client, Connection, OutputHead, Record};
pub use self::directive::{Args, Commands, Context, Directive, Manual, command};
pub use self::filter::{Filter, Foremost, Node, Spare, is_ours};
pub use self::filter_entry::{
    Concern, FilterHandle, FilterType, InputCall, InputFilter, OutputFilter, PutBack, Replaced, Replacement,
};
pub use self::guard::guard;
pub use self::hook::{
    BeforeListening, ByHttpd, ChildInit, ChildState, ChildStatus, ChildStopping, Configured, CreateConnection, Hooks,
    InsertErrorFilter, InsertFilter, InsertNetworkBucket, LogTransaction, Monitor, NetworkBucket, OpenLogs,
    OptionalFunction, PostConfig, PreConfig, PreConnection, ProcessConnection, QuickHandler, Reply, StatusFlags,
    StatusHook, is_async, is_rehearsal, is_stopping, is_threaded, retrieve_optional,
};
pub use self::listen::Accepted;
pub use self::log::{log_about, notice, with_context};
pub use self::module::{Module, ModuleType, refusal};
pub use self::mpm::Mpm;
pub use self::pool::Pool;
pub use self::process::{is_in_signal_handler, process_id};
pub use self::pulled::Pull;
pub use self::request::{Request, RequestRecord, now};
pub use self::seldom::Seldom;
pub use self::server::Server;
pub use self::status::{Result, Status};
pub use self::table::Table;
pub use crate::sys::{HTTP_BAD_GATEWAY, HTTP_INTERNAL_SERVER_ERROR, HTTP_NO_CONTENT, HTTP_NOT_MODIFIED};
