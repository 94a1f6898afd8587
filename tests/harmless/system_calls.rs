//! What is finished early takes few system calls more than what is not, and what is not takes none: strace counts those of httpd's children.

use support::machine::not_tried;
use support::{Handler, Httpd, Mpm, can_trace, system_calls};

use crate::administrator::restarts::children;
use crate::judge::write;

const REQUESTS: usize = 50;

/// The limit of background work is out of the way: a client may ask again before the last worker is free.
const LIMIT: &str = "FinishRequestMax none";

/// Answers, flushes, and is at its end.
const PAGE: &str = "function handle(r)
    r.content_type = 'text/plain'
    r.headers_out['Content-Length'] = '600'
    MARK
    r:write(('small\\n'):rep(100))
    r:flush()
    return apache2.OK
end
";

/// The same in chunks of its own.
const CHUNKS: &str = "function handle(r)
    r.content_type = 'text/plain'
    r.headers_out['Transfer-Encoding'] = 'chunked'
    r:write('6\\r\\nsmall\\n\\r\\n0\\r\\n\\r\\n')
    r:flush()
    return apache2.OK
end
";

/// What becomes of a client's connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Is {
    Closed,
    Kept,
}

/// Less than one: where threads wait for each other chance adds some.
const NOTHING: f64 = 0.5;

/// What is finished, by which configuration; the same that is not; and how many system calls more it may take.
const CASES: [(&str, &str, &str, Is, f64); 9] = [
    ("FinishRequest On", "marked.lua", "plain.lua", Is::Closed, 4.0),
    ("FinishRequest On\nFinishRequestConnection Keep", "marked.lua", "plain.lua", Is::Kept, 5.0),
    // What `Auto` recognises: a declared end, where the handler works on or not.
    ("FinishRequest Auto", "plain.lua", "plain.lua", Is::Closed, 4.0),
    ("FinishRequest Auto", "chunks.lua", "chunks.lua", Is::Kept, 3.0),
    ("FinishRequest Auto\nFinishRequestConnection Keep", "chunks.lua", "chunks.lua", Is::Kept, 5.0),
    // Nothing is finished.
    ("FinishRequest Off", "plain.lua", "plain.lua", Is::Kept, NOTHING),
    ("FinishRequest On", "plain.lua", "plain.lua", Is::Closed, NOTHING),
    ("FinishRequest On", "plain.lua", "plain.lua", Is::Kept, NOTHING),
    ("FinishRequest Auto", "small.txt", "small.txt", Is::Kept, NOTHING),
];

#[test]
#[ignore = "make check"]
fn of_a_finished_request() {
    if !can_trace() {
        not_tried("how many system calls a request takes; it needs strace");
        return;
    }
    let mut exceeded = Vec::new();
    for mpm in Mpm::ALL {
        for (config, marked, plain, is, limit) in CASES {
            let (with, without) = (start(mpm, Some(config)), start(mpm, None));
            // What a busy machine adds, as where a thread waits once more, is not in the least of several counts.
            let (mut least, mut ordinary) = (f64::INFINITY, f64::INFINITY);
            for _ in 0..5 {
                least = least.min(count(&with, marked, is));
                ordinary = ordinary.min(count(&without, plain, is));
            }
            let what = format!("{}, {mpm:?}, {config:?}", if is == Is::Kept { "kept" } else { "closed" });
            let added = least - ordinary;
            println!("{what}: {added:+.2} to {ordinary:.2}, of {limit}");
            if added > limit {
                exceeded.push(format!("{what}: {added:.2} more, and may be {limit}"));
            }
            with.stop();
            without.stop();
        }
    }
    assert!(exceeded.is_empty(), "{exceeded:#?}");
}

fn start(mpm: Mpm, config: Option<&str>) -> Httpd {
    let builder = Httpd::builder(mpm)
        .handler(Handler::Lua)
        .workers(8)
        .config("MaxKeepAliveRequests 0\nLogLevel warn")
        .config(match mpm {
            // No child that is not counted.
            Mpm::Prefork => "MaxRequestWorkers 1\nServerLimit 1\nStartServers 1\nMinSpareServers 1\nMaxSpareServers 2",
            Mpm::Event | Mpm::Worker => "",
        });
    let httpd = match config {
        Some(config) => builder.config(config).config(LIMIT).start(),
        None => builder.without_module().start(),
    };
    httpd.may_be_full();
    httpd.install("plain.lua", &PAGE.replace("MARK", ""));
    httpd.install("marked.lua", &PAGE.replace("MARK", "r.headers_out['X-Finish-Request'] = 'on'"));
    httpd.install("chunks.lua", CHUNKS);
    write(&httpd, "small.txt", "small\n".repeat(100));
    httpd
}

/// The system calls of the server's children for one such request.
fn count(httpd: &Httpd, page: &str, is: Is) -> f64 {
    let kept = (is == Is::Kept).then(|| httpd.connect());
    let ask = || match &kept {
        Some(connection) => {
            connection.get(&format!("/{page}"), &[]);
            assert_eq!(connection.response().status, 200, "{page}");
        }
        None => {
            let connection = httpd.connect();
            connection.get(&format!("/{page}"), &[("Connection", "close")]);
            // As a client that is quick to close: of one that is not, worker and prefork give the socket to the child's thread.
            connection.close_sending();
            assert_eq!(connection.response().status, 200, "{page}");
            connection.end();
        }
    };
    // The first finds things to set up.
    ask();
    let children: Vec<u32> = children(httpd.id()).into_iter().collect();
    system_calls(&children, None, || (0..REQUESTS).for_each(|_| ask())) / REQUESTS as f64
}
