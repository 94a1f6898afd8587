//! The parts of the bench, and the goals of each.

mod boundary;
mod cpu;
mod crowd;
mod framework;
mod gone;
mod instructions;
mod kept;
mod memory;
mod open_loop;
mod peers;
mod release;
mod slow;
mod syscalls;

use crate::report::Part;

/// In the order of the report.
pub static PARTS: &[Part] = &[
    Part {
        name: "instructions",
        title: "Instructions of an unmarked request",
        how: "callgrind counts the instructions of an httpd child (prefork) for a request on a kept connection. Figures are beyond those of \
              httpd without the module.",
        measure: instructions::measure,
    },
    Part {
        name: "syscalls",
        title: "System calls",
        how: "strace counts those of httpd's children for requests one after the other: closed ones with `Connection: close`, each on its own \
              connection, kept ones on one. Lua, and mod_php under prefork; the answer is flushed, and nothing follows.",
        measure: syscalls::measure,
    },
    Part {
        name: "cpu",
        title: "CPU time of a finished response without work",
        how: "By the CPU clocks of all of httpd's processes, so what the client takes does not count. Ordinary: the same page unmarked, httpd \
              without the module.",
        measure: cpu::measure,
    },
    Part {
        name: "kept",
        title: "Requests a second over one kept connection",
        how: "One client, one request after the other. With `Keep` on one connection; a new connection each with `Close`. The link with a delay \
              joins two network namespaces by TUN devices; each packet takes 5 ms each way.",
        measure: kept::measure,
    },
    Part {
        name: "release",
        title: "Release",
        how: "From the request to the FIN, 20 ms of work behind it, request by request in turns with the same page unmarked and without work, \
              httpd without the module.",
        measure: release::measure,
    },
    Part {
        name: "peers",
        title: "Beside others",
        how: "An answer of 600 bytes with 20 ms of work behind it, each request on a connection of its own (`Connection: close`). Complete: the \
              client has all that the response's framing says. FIN: the server has closed. nginx runs as one process. The CPU \
              time of those whose FIN waits for the work is that of a server that is asked every 20 ms, and finds its caches cold. The recipe is what the web tells to do without any module: `Connection: close`, `Content-Length`, and a flush.",
        measure: peers::measure,
    },
    Part {
        name: "crowd",
        title: "256 clients that are still there",
        how: "The CPU time of a further finished request while 256 clients of earlier ones read nothing (slow, 256 KB each), are in the middle \
              of an upload, or have their FIN and never close; and how many workers are still busy with them.",
        measure: crowd::measure,
    },
    Part {
        name: "gone",
        title: "Keep, and the client goes away during the work",
        how: "How many connections are handed over to another process or thread (strace counts recvmsg, by which one takes it), for a \
              request whose client takes its answer and closes while 50 ms of work run.",
        measure: gone::measure,
    },
    Part {
        name: "slow",
        title: "When the work starts",
        how: "From the request until the first line of the work, behind a response of 900 KiB, for a client that reads 64 KiB a second and for one \
              that reads all at once.",
        measure: slow::measure,
    },
    Part {
        name: "memory",
        title: "Memory and descriptors of a request in the background",
        how: "What 128 requests (prefork: 16) in their work take beyond an idle server, proportional set size; beside 128 ordinary requests that \
              wait as long, httpd without the module. A new server for each round. The clients have closed when theirs are released.",
        measure: memory::measure,
    },
    Part {
        name: "boundary",
        title: "A boundary looked for in 50 MB",
        how: "Text that Lua writes in pieces of 64 KB, and that a CGI program copies from a file.",
        measure: boundary::measure,
    },
    Part {
        name: "framework",
        title: "A framework that finishes every page",
        how: "Symfony's kernel, as Debian packages it, under mod_php with opcache and `prepend.php`: each page calls \
              `fastcgi_finish_request()`, and nothing follows. One client, which keeps its connection as long as the server does.",
        measure: framework::measure,
    },
    Part {
        name: "open",
        title: "A mix under load",
        how: "Requests come at a fixed rate, whether earlier ones are answered or not; a request's time counts from when it was to come. Four of five \
              are ordinary, the fifth finishes early and works for 100 ms (asleep). The rate is a share of what the machine takes of this mix \
              without the module. Lua that computes for some 0.4 ms, event, each request on a connection of its own, until the response is complete.",
        measure: open_loop::measure,
    },
];
