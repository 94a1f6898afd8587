//! The table: its cells fill as things happen.

use std::time::Duration;

use crate::measure::{Column, Event, Row, Seen};
use crate::sentence::say;
use crate::servers;
use crate::terminal::{Style, Terminal};

const COLUMNS: [Column; 4] = [Column::Free, Column::FreeGzip, Column::Worked, Column::Stock];

/// The width of a cell.
const WIDTH: usize = 12;

/// The table, and what has been printed of it.
pub struct Table {
    terminal: Terminal,
    lines: Vec<Line>,
    /// How many lines stand on the screen, to be printed anew or, where that cannot be, for good.
    printed: usize,
}

struct Line {
    name: &'static str,
    protocol: &'static str,
    cells: [Option<Result<Seen, String>>; COLUMNS.len()],
}

impl Table {
    /// The empty table, on the screen.
    pub fn new(rows: &[Row], terminal: Terminal) -> Table {
        let line =
            |row: &Row| Line { name: row.name, protocol: servers::protocol(row.protocol), cells: Default::default() };
        let mut table = Table { terminal, lines: rows.iter().map(line).collect(), printed: 0 };
        let heads = [
            format!("{:31}{:^36}{:>13}", "", "with mod_finish_request", "without"),
            format!(
                "{:<16} {:<14}{:>12}{:>12}{:>12}{:>13}",
                "application", "protocol", "client free", "with gzip", "work done", "client free"
            ),
            "-".repeat(80),
        ];
        for head in heads {
            say!("{}", terminal.paint(Style::Strong, head));
        }
        table.print();
        table
    }

    /// Fills a cell.
    pub fn note(&mut self, event: Event) {
        let cell = COLUMNS.iter().position(|column| *column == event.column).expect("each column is in the table");
        self.lines[event.row].cells[cell] = Some(event.what);
        self.print();
    }

    /// On a terminal all lines anew; elsewhere those that are complete, in their order.
    fn print(&mut self) {
        if self.terminal.lively {
            self.terminal.up(self.printed);
            self.printed = 0;
        }
        while let Some(line) = self.lines.get(self.printed) {
            if !self.terminal.lively && line.cells.iter().any(Option::is_none) {
                break;
            }
            let above = self.printed.checked_sub(1).map(|above| self.lines[above].name);
            let name = if above == Some(line.name) { "" } else { line.name };
            say!("{}", self.render(name, line));
            self.printed += 1;
        }
    }

    fn render(&self, name: &str, line: &Line) -> String {
        let mut text = format!("{name:<16} {:<14}", line.protocol);
        for (column, cell) in COLUMNS.into_iter().zip(&line.cells) {
            let width = if column == Column::Stock { WIDTH + 1 } else { WIDTH };
            let (shown, style) = match cell {
                None => ("...".to_owned(), Style::Faint),
                Some(Err(_)) => ("failed".to_owned(), Style::Bad),
                Some(Ok(seen)) => (time(seen.after), style(column)),
            };
            text += &self.terminal.paint(style, format!("{shown:>width$}"));
        }
        text
    }

    /// Whether every client was let go early, and all work was done.
    pub fn is_success(&self) -> bool {
        !self.lines.is_empty()
            && self.lines.iter().all(|line| line.cells.iter().all(|cell| matches!(cell, Some(Ok(_)))))
    }

    /// What the table says, and what failed.
    pub fn facts(&self, terminal: Terminal) {
        for line in &self.lines {
            for problem in line.cells.iter().flatten().filter_map(|cell| cell.as_ref().err()) {
                let first = problem.lines().next().unwrap_or_default();
                say!("{}", terminal.paint(Style::Bad, format!("{}, {}: {first}", line.name, line.protocol)));
            }
        }
        let (free, gzip, stock) = (self.column(0), self.column(1), self.column(3));
        let (Some(longest), Some(longest_gzip), Some(shortest)) =
            (longest(&free), longest(&gzip), stock.iter().map(|seen| seen.after).min())
        else {
            return;
        };
        let bytes = |column: &[Seen]| column.iter().map(|seen| seen.bytes).max().unwrap_or_default();
        say!("Without the module   each client waits, {} or more.", time(shortest));
        let free_within = terminal.paint(Style::Good, format!("within {}", time(longest)));
        let gzip_within = terminal.paint(Style::Good, format!("within {}", time(longest_gzip)));
        say!(
            "With it              each is free {free_within}: {} bytes, past mod_deflate (the default),",
            bytes(&free)
        );
        say!("{:21}or {gzip_within}: {} bytes of gzip (FinishRequestBypass none).", "", bytes(&gzip));
    }

    /// What was seen in a column, failures left out.
    fn column(&self, index: usize) -> Vec<Seen> {
        self.lines.iter().filter_map(|line| line.cells[index].as_ref()?.as_ref().ok().copied()).collect()
    }
}

fn longest(column: &[Seen]) -> Option<Duration> {
    column.iter().map(|seen| seen.after).max()
}

fn style(column: Column) -> Style {
    match column {
        Column::Free | Column::FreeGzip => Style::Good,
        Column::Worked | Column::Stock => Style::Plain,
    }
}

fn time(duration: Duration) -> String {
    let seconds = duration.as_secs_f64();
    if seconds < 0.1 { format!("{:.1} ms", seconds * 1e3) } else { format!("{seconds:.2} s") }
}
