//! What the module must not do: change what carries no mark, or hurt who has nothing to do with it.
//!
//! * `differential`: What a client sees of an application without a mark is what it sees from stock httpd, with the
//!   module `On`, and with `Auto`, whose every way of finishing changes nothing but the time.
//! * `each_call`: Each call of the module's that can fail fails in turn, at each of its occurrences: responses are whole or seen to be broken,
//!   each job is done once, and all else goes on.
//! * `faults`: What breaks stays small: whoever dies, and whatever the kernel refuses, the other requests of the
//!   server go on, clients get all of their responses, and the log says what happened.
//! * `hostile`: Clients and applications that mean harm get no further than others do, and those are answered throughout.
//! * `instructions`: What is not marked costs next to nothing.
//! * `known_calls`: Each call of the module's is one that is made to fail, or that cannot.
//! * `regressions`: What was once wrong, each named after how it was found.
//! * `system_calls`: What is finished costs few system calls more, what is not none.
//! * `unmarked`: What is not marked, and whatever comes where the module is `Off`, the client sees exactly as from a
//!   server without the module: the same bytes, on connections that are kept or closed alike.
//! * `watched`: `make check` looks at what it says it looks at.

mod differential;
mod each_call;
pub mod faults;
mod hostile;
mod instructions;
mod known_calls;
mod regressions;
mod system_calls;
mod unmarked;
mod watched;
