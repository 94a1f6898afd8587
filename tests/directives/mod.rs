//! What each directive does, where it holds, and what it refuses.
//!
//! * `configuration`: Where `FinishRequest` holds: server, virtual host, location, .htaccess; and values that it does
//!   not take.
//! * `keep`: `FinishRequestConnection Keep`: the client's connection goes on while the background work runs.
//! * `kept_bodies`: `FinishRequestConnection Keep` and the bodies of requests: what has come of one is there for the
//!   application, and is never taken for the client's next request.
//! * `kept_clients`: A kept connection is its client's in all that depends on who that is: addresses, virtual hosts,
//!   access control, time limits, the scoreboard; on the second and third request as on the first.
//! * `limit`: `FinishRequestMax`: so many requests run on after their clients were released, and not one more; all
//!   others are ordinary ones.
//! * `listener`: The socket by which kept connections go back to the server: it is there only where it is wanted,
//!   nobody but the server's own processes gets anything by it, and it lives through restarts.
//! * `on_abort`: `FinishRequestOnAbort`: what becomes of the application when its client goes away before the
//!   response is complete.
//! * `slow_clients`: `FinishRequestBuffer`: a client that reads slowly holds up nobody.
//! * `timeout`: `FinishRequestTimeout`: how long background work may run, and be silent.
//! * `watched`: `FinishRequestConnection Keep` where nothing is handed over: the work ends before the client's next
//!   request, or the client goes, or says nothing.

mod configuration;
mod keep;
mod kept_bodies;
mod kept_clients;
mod limit;
mod listener;
mod on_abort;
mod slow_clients;
mod timeout;
mod watched;
