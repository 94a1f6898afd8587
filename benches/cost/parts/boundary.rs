use std::fs;
use std::io::Read as _;
use std::io::Write as _;
use std::time::Instant;

use support::{Handler, Httpd, Mpm};

use crate::clients::{connect, request};
use crate::measure::{Subject, in_turns, ratios};
use crate::pages;
use crate::processes::Processes;
use crate::report::{Goal, Report};

const BYTES: usize = 50_000_000;

const LUA: &str = "function handle(r)
    local file = io.open('@GATES@/text')
    r.content_type = 'text/plain'
    MARK
    while true do
        local piece = file:read(65536)
        if not piece then break end
        r:write(piece)
    end
    file:close()
    END
    return apache2.OK
end
";

const CGI: &str = "#!/bin/sh\nprintf 'Content-Type: text/plain\\nMARK\\n'\ncat @GATES@/text\nEND\n";

const TOKEN: &str = "=_0b5f2c9e7a1d4f63";

pub fn measure(report: &mut Report) {
    let mpm = Mpm::Event;
    for (handler, name) in [(Handler::Lua, "Lua"), (Handler::Cgi, "CGI")] {
        if let Some(missing) = handler.missing(mpm) {
            report.left_out(&format!("{name}: {missing}."));
            continue;
        }
        let httpd = pages::start(pages::module(mpm, handler, "").workers(16));
        fs::write(httpd.root().join("gates/text"), text()).expect("a file");
        let lua = |mark: &str, end: &str| LUA.replace("MARK", mark).replace("END", end);
        httpd.install("unmarked.lua", &lua("", ""));
        httpd.install(
            "boundary.lua",
            &lua(
                &format!("r.headers_out['X-Finish-Request'] = 'boundary=\"{TOKEN}\"'"),
                &format!("r:write('{TOKEN}') r:flush()"),
            ),
        );
        let cgi = |mark: &str, end: &str| CGI.replace("MARK", mark).replace("END", end);
        httpd.install("unmarked.cgi", &cgi("", ""));
        httpd.install(
            "boundary.cgi",
            &cgi(&format!("X-Finish-Request: boundary=\"{TOKEN}\"\\n"), &format!("printf '{TOKEN}'")),
        );
        let [unmarked, marked] = ["unmarked", "boundary"].map(|page| format!("/{page}.{}", handler.extension()));
        let subjects: &mut [Subject<'_, [f64; 2]>] =
            &mut [&mut || once(&httpd, &unmarked), &mut || once(&httpd, &marked), &mut || once(&httpd, &unmarked)];
        let measured = in_turns(8, subjects);
        for (which, what) in [(0, "CPU time"), (1, "time")] {
            let [unmarked, marked, again] = [0, 1, 2]
                .map(|subject: usize| measured[subject].iter().map(|values| values[which]).collect::<Vec<_>>());
            report.goal(
                format!("boundary on 50 MB ÷ unmarked, {what}, {name}"),
                "",
                Goal::AtMost(1.15),
                ratios(&marked, &unmarked),
            );
            report.noise(&format!("50 MB, {what}, {name}"), "", ratios(&again, &unmarked));
        }
        Httpd::stop(httpd);
    }
}

/// httpd's CPU time, and the time until the FIN.
fn once(httpd: &Httpd, path: &str) -> [f64; 2] {
    let processes = Processes::of(httpd);
    let before = processes.cpu();
    let start = Instant::now();
    let mut socket = connect(httpd.address());
    socket.write_all(&request(path, "Connection: close\r\n")).expect("the server takes the request");
    let (mut buffer, mut bytes) = (vec![0; 256 * 1024], 0);
    loop {
        match socket.read(&mut buffer).expect("the server answers") {
            0 => break,
            count => bytes += count,
        }
    }
    assert!(bytes > BYTES, "{bytes} bytes of {path}");
    let time = start.elapsed();
    [processes.cpu() - before, time].map(|time| time.as_secs_f64())
}

/// Lines of all letters and digits, each as often as the others, in no order.
fn text() -> Vec<u8> {
    let mut state = 1u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) as usize
    };
    const LETTERS: &[u8] = b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789 -=_";
    (0..BYTES).map(|index| if index % 80 == 79 { b'\n' } else { LETTERS[next() % LETTERS.len()] }).collect()
}
