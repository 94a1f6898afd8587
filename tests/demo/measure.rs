//! Sends the requests of the table and notes what comes when.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::Sender;
use std::thread;
use std::time::{Duration, Instant};

use support::{Background, Client, Handler, Httpd, Protocol};

use crate::servers::{self, Servers, WORK};

/// The length of the applications' answer.
const BYTES: usize = 3600;

/// Longer than any work takes, and shorter than any patience.
const LIMIT: Duration = Duration::from_secs(10);

/// One line of the table: an application over a protocol.
pub struct Row {
    /// Which servers.
    pub pair: usize,
    pub handler: Handler,
    pub name: &'static str,
    pub protocol: Protocol,
}

/// The columns of the table.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Column {
    /// The client was free.
    Free,
    /// The client was free, with a response that was compressed.
    FreeGzip,
    /// The work was done.
    Worked,
    /// The client of the server without the module was free.
    Stock,
}

/// Something that happened.
pub struct Event {
    pub row: usize,
    pub column: Column,
    pub what: Result<Seen, String>,
}

/// What a client or the applications' folder showed.
#[derive(Clone, Copy)]
pub struct Seen {
    /// From the request on.
    pub after: Duration,
    /// How many bytes of body came over the line.
    pub bytes: usize,
}

/// Measures everything, and sends the news to `news`.
///
/// The clients are let go one by one, so that their times are their own; the work that goes on,
/// and the clients that wait for it, overlap.
pub fn all(rows: &[Row], servers: &Servers, news: Sender<Event>) {
    let hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(|_| ()));
    thread::scope(|scope| {
        for (index, row) in rows.iter().enumerate() {
            let pair = &servers.pairs[row.pair];
            for (column, prefix) in [(Column::Free, ""), (Column::FreeGzip, "gzip/")] {
                let background = pair.with.background();
                let start = Instant::now();
                let what = attempt(|| row.ask(&pair.with, prefix, &background, column == Column::FreeGzip));
                let _ = news.send(Event { row: index, column, what });
                if column == Column::Free {
                    let news = news.clone();
                    scope.spawn(move || {
                        let what = attempt(|| work_of(&background, start));
                        let _ = news.send(Event { row: index, column: Column::Worked, what });
                    });
                }
            }
        }
        for (index, row) in rows.iter().enumerate() {
            let (news, httpd) = (news.clone(), &servers.pairs[row.pair].without);
            scope.spawn(move || {
                let what = attempt(|| row.ask_stock(httpd));
                let _ = news.send(Event { row: index, column: Column::Stock, what });
            });
        }
    });
    std::panic::set_hook(hook);
}

/// A failure is one cell of the table, not the end of the demo.
fn attempt(measure: impl FnOnce() -> Seen) -> Result<Seen, String> {
    catch_unwind(AssertUnwindSafe(measure)).map_err(|panic| message(&*panic))
}

/// What a panic says.
pub fn message(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or(panic.downcast_ref().copied()).unwrap_or("it failed").to_owned()
}

impl Row {
    /// A marked response: how long until the client is let go for good, its connection included.
    fn ask(&self, httpd: &Httpd, prefix: &str, background: &Background, gzip: bool) -> Seen {
        let client = Client::connect(httpd, self.protocol);
        let start = Instant::now();
        let exchange = client.get(&background.query(&self.path(prefix)), &[("Accept-Encoding", "gzip")]);
        let response = exchange.response();
        assert!(!background.is_done(), "the response was complete only when the work was done");
        let late = response.ended - start;
        assert!(late.as_secs_f64() < WORK / 2.0, "the response was complete after {:.2} s", late.as_secs_f64());
        assert_eq!((response.status, response.decoded().len()), (200, BYTES), "status and length");
        assert_eq!(response.header("Content-Encoding").is_some(), gzip, "whether the response is compressed");
        let after = match client.http1() {
            Some(connection) => connection.end().at - start,
            None => late,
        };
        assert!(!background.is_done(), "the connection was closed only when the work was done");
        Seen { after, bytes: response.body.len() }
    }

    /// The same without the module: how long until the response is complete.
    fn ask_stock(&self, httpd: &Httpd) -> Seen {
        let background = httpd.background();
        let client = Client::connect(httpd, self.protocol);
        let start = Instant::now();
        let exchange = client.get(&background.query(&self.path("")), &[("Accept-Encoding", "gzip")]);
        let response = exchange.response();
        Seen { after: response.ended - start, bytes: response.body.len() }
    }

    fn path(&self, prefix: &str) -> String {
        format!("{prefix}{}", servers::page(self.handler))
    }
}

/// Waits until the work is done.
fn work_of(background: &Background, start: Instant) -> Seen {
    while !background.is_done() {
        assert!(start.elapsed() < LIMIT, "the work was not done after {} s", LIMIT.as_secs());
        thread::sleep(Duration::from_millis(2));
    }
    Seen { after: start.elapsed(), bytes: 0 }
}
