use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use rustix::net::sockopt::set_socket_recv_buffer_size;
use support::{Handler, Httpd, Mpm, wait_for};

use crate::clients::{connect, request};
use crate::measure::{Subject, in_turns, ratios};
use crate::pages;
use crate::report::{Goal, Report};

const LUA: &str = "function handle(r)
    r.content_type = 'text/plain'
    r.headers_out['Content-Length'] = '921600'
    r.headers_out['X-Finish-Request'] = 'on'
    r:write(('0123456789abcde\\n'):rep(57600))
    r:flush()
    local file = io.open('@GATES@/' .. r.args .. '.new', 'w')
    file:write(string.format('%d', r:clock()))
    file:close()
    os.rename('@GATES@/' .. r.args .. '.new', '@GATES@/' .. r.args)
    return apache2.OK
end
";

const PHP: &str = "<?php
header('Content-Length: 921600');
header('X-Finish-Request: on');
echo str_repeat(\"0123456789abcde\\n\", 57600);
flush();
$file = '@GATES@/' . $_SERVER['QUERY_STRING'];
file_put_contents(\"$file.new\", sprintf('%d', microtime(true) * 1e6));
rename(\"$file.new\", $file);
";

pub fn measure(report: &mut Report) {
    for (handler, mpm, name) in pages::handlers() {
        let httpd = pages::start(pages::module(mpm, handler, ""));
        httpd.install("large.lua", LUA);
        httpd.install("large.php", PHP);
        let mut number = 0;
        let mut start_of_work = |slow: bool| {
            number += 1;
            start_of_work(&httpd, handler, mpm, number, slow)
        };
        let start_of_work = std::cell::RefCell::new(&mut start_of_work);
        let subjects: &mut [Subject<'_, f64>] =
            &mut [&mut || (start_of_work.borrow_mut())(false), &mut || (start_of_work.borrow_mut())(true), &mut || {
                (start_of_work.borrow_mut())(false)
            }];
        let measured = in_turns(8, subjects);
        let [fast, slow, again] = &measured[..] else { return };
        report.goal(
            format!("start of the work, slow ÷ fast client, {name}"),
            "",
            Goal::AtMost(1.2),
            ratios(slow, fast),
        );
        report.noise(&format!("fast client, {name}"), "", ratios(again, fast));
        report.figure(format!("start of the work, fast client, {name}"), " µs", fast.clone());
        report.figure(format!("start of the work, slow client, {name}"), " µs", slow.clone());
        Httpd::stop(httpd);
    }
}

/// In microseconds since the request: the median of some.
fn start_of_work(httpd: &Httpd, handler: Handler, _mpm: Mpm, number: u32, slow: bool) -> f64 {
    let mut times: Vec<f64> = (0..5).map(|count| once(httpd, handler, &format!("{number}-{count}"), slow)).collect();
    times.sort_unstable_by(f64::total_cmp);
    times[2]
}

fn once(httpd: &Httpd, handler: Handler, id: &str, slow: bool) -> f64 {
    let file = httpd.root().join("gates").join(id);
    let mut socket = connect(httpd.address());
    if slow {
        set_socket_recv_buffer_size(&socket, 32 * 1024).expect("a socket");
    }
    let start = SystemTime::now();
    socket
        .write_all(&request(&format!("/large.{}?{id}", handler.extension()), ""))
        .expect("the server takes the request");
    let reader = thread::spawn(move || read(&mut socket, slow));
    let time = wait_for("the work to start", || fs::read_to_string(&file).ok());
    // Closes a slow client's connection.
    drop(reader);
    let start = start.duration_since(SystemTime::UNIX_EPOCH).expect("a clock").as_micros() as f64;
    time.trim().parse::<f64>().expect("a time") - start
}

/// Reads all at once, or 64 KiB a second for a while.
fn read(socket: &mut TcpStream, slow: bool) {
    let (start, mut buffer) = (Instant::now(), [0; 8 * 1024]);
    while socket.read(&mut buffer).is_ok_and(|count| count > 0) {
        if slow {
            thread::sleep(Duration::from_millis(125));
        }
        if slow && start.elapsed() > Duration::from_secs(2) {
            return;
        }
    }
}
