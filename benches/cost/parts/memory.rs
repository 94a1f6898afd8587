use std::net::{SocketAddr, TcpStream};
use std::thread;
use std::time::Duration;

use std::io::Write as _;

use support::{Builder, Httpd, Mpm};

use crate::clients::{Reader, connect, request};
use crate::measure::{differences, in_turns, ratios};
use crate::pages::{self, Page};
use crate::processes::Processes;
use crate::report::{Goal, Report};

/// How long they work: until everything has been looked at.
const WORK: u32 = 1500;

pub fn measure(report: &mut Report) {
    for (handler, mpm, name) in pages::handlers() {
        let count = if mpm == Mpm::Prefork { 16 } else { 128 };
        let ordinary = || beyond_idle(pages::stock(mpm, handler), &Page::Plain.path(handler, WORK), count);
        let finished = || beyond_idle(pages::module(mpm, handler, ""), &Page::Marked.path(handler, WORK), count);
        let measured = in_turns(24, &mut [&mut ordinary.clone(), &mut finished.clone(), &mut ordinary.clone()]);
        let column = |subject: usize, which: usize| -> Vec<f64> {
            measured[subject].iter().map(|values| values[which]).collect()
        };
        report.goal(
            format!("memory, in the background ÷ ordinary waiting, {name}"),
            "",
            Goal::AtMost(1.05),
            ratios(&column(1, 0), &column(0, 0)),
        );
        report.noise(&format!("memory, {name}"), "", ratios(&column(2, 0), &column(0, 0)));
        report.goal(
            format!("descriptors beyond an ordinary request's, {name}"),
            " descriptors",
            Goal::AtMost(0.0),
            differences(&column(1, 1), &column(0, 1)),
        );
        report.figure(format!("memory of an ordinary waiting request, {name}"), " KB", column(0, 0));
        report.figure(format!("memory of a request in the background, {name}"), " KB", column(1, 0));
    }
}

/// What a request takes that a server without requests does not: kilobytes, descriptors.
fn beyond_idle(builder: Builder, path: &str, count: usize) -> [f64; 2] {
    let httpd = pages::start(builder.workers(if count > 64 { 192 } else { 32 }));
    let processes = Processes::of(&httpd);
    // What the first requests set up stays.
    let finished = path.starts_with("/marked");
    let short = path.split('?').next().expect("a path");
    (0..8).for_each(|_| {
        ask(httpd.address(), short, finished);
    });
    let idle = [processes.memory(), processes.descriptors() as f64];
    let clients: Vec<TcpStream> = (0..count).filter_map(|_| ask(httpd.address(), path, finished)).collect();
    thread::sleep(Duration::from_millis(100));
    let working = [processes.memory(), processes.descriptors() as f64];
    drop(clients);
    let [memory, descriptors] = [0, 1].map(|index: usize| (working[index] - idle[index]) / count as f64);
    Httpd::stop(httpd);
    [memory / 1024.0, descriptors]
}

/// Asks, and waits until it is let go (marked) or has what its length says.
fn ask(server: SocketAddr, path: &str, finished: bool) -> Option<TcpStream> {
    let mut socket = connect(server);
    socket.write_all(&request(path, "Connection: close\r\n")).expect("the server takes the request");
    let mut reader = Reader::default();
    while finished || reader.complete(false).is_none() {
        if reader.read(&mut socket).expect("the server answers") == 0 {
            break;
        }
    }
    (!finished).then_some(socket)
}
