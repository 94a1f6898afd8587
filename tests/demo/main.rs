//! Real applications on real servers answer at once and work on, with figures: what `make demo` shows.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, missing_docs)]

mod measure;
mod sentence;
mod servers;
mod supervisor;
mod table;
mod terminal;

use std::path::Path;
use std::process::ExitCode;
use std::sync::mpsc::channel;
use std::thread;

use sentence::say;
use servers::Servers;
use table::Table;
use terminal::Terminal;

/// What the servers' folders take, and more.
const ROOM: usize = 16 << 20;

/// What a server or the demo opens, and more.
const FILES: u64 = 256;

fn main() -> ExitCode {
    supervisor::run(demo)
}

/// Shows everything. The servers' folders are in `folder`; this process may end at any moment.
fn demo(folder: &Path) -> ExitCode {
    sentence::instead_of_panics();
    if let Err(trouble) = support::machine::check(folder, ROOM, FILES) {
        sentence::fail(&trouble);
    }
    tempfile::env::override_temp_dir(folder).expect("nobody has chosen another folder");
    let keep = std::env::var_os("KEEP").is_some_and(|value| !value.is_empty() && value != "0");
    let terminal = Terminal::get();

    terminal.title("mod_finish_request: the client is let go at the end of the response, the request works on");
    say!("Each application answers with 3600 bytes and then works for two seconds. Its clients take");
    say!("gzip, as browsers do, and mod_deflate is on for text. Times count from the request.\n");

    let servers = Servers::start();
    let table = show(&servers, terminal);
    say!("");
    for sentence in servers.sentences() {
        say!("{sentence}");
    }
    say!("");
    table.facts(terminal);
    if keep {
        servers.invite();
        loop {
            thread::park();
        }
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
        events.iter().for_each(|event| table.note(event));
    });
    table
}
