//! What a finished response is worth: the client has all of it and is let go, whatever speaks with whom, and the work
//! goes on.
//!
//! * `after_the_end`: What an application does after the end of its response: it reaches nobody, and nothing stops
//!   it.
//! * `answers`: A filter that answers in the application's stead, or fails, has its say: the client gets that one
//!   answer, the log its status, and the background work goes on.
//! * `backends`: mod_proxy in front of applications, whatever it speaks with them: the module is in httpd, not in the
//!   application's server.
//! * `closed`: With `Close` a client that has all, and has sent all, gets FIN at once, and httpd keeps the descriptor;
//!   nobody waits for the client when the work has ended.
//! * `compression`: The matrix's third dimension: what compresses the responses.
//! * `endurance`: A hundred thousand finished requests leave nothing behind: neither descriptors nor memory.
//! * `leaks`: What is written after the end reaches nobody, whatever the client does then: it goes on reading, has
//!   sent its next request already, or has closed its own side.
//! * `lifetimes`: What has been ended lives on until whoever still needs it has let go of it.
//! * `matrix`: A marked response is finished early: on every handler, MPM and protocol, whatever compresses.
//! * `other_modules`: Beside other modules, httpd's and others', responses are what they are without this one, and finished early.
//! * `proxies`: A reverse proxy in front, which speaks with the server as it likes: its client is released early all
//!   the same.
//! * `released`: The client is let go for good: its connection belongs to nobody, and the server is there for others.
//! * `streams`: HTTP/2: a finished response ends its stream; the connection and its other streams stay.
//! * `uploads`: A client that is still sending its request's body when its answer comes gets that whole, and ends
//!   well.

mod after_the_end;
mod answers;
mod backends;
mod closed;
pub mod compression;
pub mod endurance;
mod leaks;
mod lifetimes;
mod matrix;
mod other_modules;
mod proxies;
pub mod released;
mod streams;
mod uploads;
