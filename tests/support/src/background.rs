//! Background work whose end the test decides.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

use crate::deadline::wait_for;

/// One request's background work: it waits at a gate until the test opens it, so that the order
/// of events is proved without a look at the clock.
///
/// The application gets the id through its query ([`Background::query`]). Dropping this opens the
/// gate, so that a failed test does not leave the application waiting.
pub struct Background {
    id: String,
    gates: PathBuf,
}

/// What the application says about its background work. Times are microseconds of Unix time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// When it began.
    pub began: u64,
    /// When it saw the gate open; 0 if it never did.
    pub gate: u64,
    /// When it ended; 0 if something ended it before its time.
    pub ended: u64,
    /// The errors that it saw: empty if all went well.
    pub errors: String,
}

impl Background {
    /// New background work with an id of its own, with its files in the folder `gates`.
    pub(crate) fn new(gates: &Path) -> Background {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        let id = format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed));
        Background { id, gates: gates.to_owned() }
    }

    /// The id, for the application's query parameter `id`.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The path and query of `page` with this id: `/page?id=ID`.
    pub fn query(&self, page: &str) -> String {
        format!("/{}?id={}", page.trim_start_matches('/'), self.id)
    }

    /// Waits until the application has begun its background work.
    ///
    /// # Panics
    ///
    /// After the deadline.
    #[track_caller]
    pub fn wait_for_begin(&self) {
        let began = self.file("began");
        wait_for(&format!("background work {} to begin", self.id), || began.exists().then_some(()));
    }

    /// Whether the application has begun its background work.
    pub fn has_begun(&self) -> bool {
        self.file("began").exists()
    }

    /// Whether the application has ended its background work.
    pub fn is_done(&self) -> bool {
        self.file("done").exists()
    }

    /// Lets the application go on.
    ///
    /// # Panics
    ///
    /// When the gate's file cannot be written.
    pub fn open_gate(&self) {
        fs::write(self.file("gate"), "").expect("the gate can be opened");
    }

    /// Waits until the application has ended its background work, and gives what it says about it.
    ///
    /// # Panics
    ///
    /// After the deadline, or when what it says makes no sense.
    #[track_caller]
    pub fn wait_for_done(&self) -> Done {
        let done = self.file("done");
        let what = format!("background work {} to end", self.id);
        // A shell writes all of it at once into a file that is empty at first.
        let text = wait_for(&what, || fs::read_to_string(&done).ok().filter(|text| !text.is_empty()));
        let fields: HashMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let time = |name: &str| match fields.get(name).map(|value| value.parse()) {
            Some(Ok(time)) => time,
            _ => panic!("no `{name}` in {}: {text:?}", done.display()),
        };
        Done {
            began: time("began"),
            gate: time("gate"),
            ended: time("ended"),
            errors: fields.get("errors").unwrap_or(&"").trim().to_owned(),
        }
    }

    fn file(&self, extension: &str) -> PathBuf {
        self.gates.join(format!("{}.{extension}", self.id))
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        let _ = fs::write(self.file("gate"), "");
    }
}
