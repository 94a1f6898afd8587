//! Real applications on real servers answer at once and work on, with figures: what `make demo` shows.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod interrupt;
mod measure;
mod servers;
mod table;
mod terminal;

use std::process::ExitCode;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::thread;
use std::time::Duration;

use servers::Servers;
use table::Table;
use terminal::Terminal;

fn main() -> ExitCode {
    interrupt::listen();
    let keep = std::env::var_os("KEEP").is_some_and(|value| !value.is_empty() && value != "0");
    let terminal = Terminal::get();

    terminal.title("mod_finish_request: the client is let go at the end of the response, the request works on");
    println!("Each application answers with 3600 bytes and then works for two seconds. Its clients take");
    println!("gzip, as browsers do, and mod_deflate is on for text. Times count from the request.\n");

    let servers = Servers::start();
    let table = show(&servers, terminal);
    if interrupt::came() {
        servers.stop();
        return ExitCode::from(130);
    }
    println!();
    for sentence in servers.sentences() {
        println!("{sentence}");
    }
    println!();
    table.facts(terminal);
    if keep {
        servers.invite();
        interrupt::wait();
        println!("\nStopping the servers.");
    }
    servers.stop();
    if table.is_success() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Sends the requests and shows the table grow.
fn show(servers: &Servers, terminal: Terminal) -> Table {
    let rows = servers.rows();
    let mut table = Table::new(&rows, terminal);
    thread::scope(|scope| {
        let (news, events) = channel();
        scope.spawn(|| measure::all(&rows, servers, news));
        loop {
            match events.recv_timeout(Duration::from_millis(100)) {
                Ok(event) => table.note(event),
                Err(RecvTimeoutError::Timeout) if !interrupt::came() => {}
                Err(_) => break,
            }
        }
        if interrupt::came() {
            servers.give_up();
        }
    });
    table
}
