//! How many instructions a server's process executes for a request: valgrind's callgrind counts them, and the number hardly changes from
//! one run to the next, whatever else the machine does.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::deadline::wait_for;
use crate::httpd::{Builder, Httpd, Mpm};
use crate::programs;
use crate::under;

/// Each call of it begins the next request's part of the count: what came before, since the call before, is written into a file.
const BOUNDARY: &str = "ap_read_request";

/// How many requests come first, which find nothing as later ones do: a new connection, empty caches.
const FIRST: usize = 6;

/// How many requests are counted.
const COUNTED: usize = 25;

/// The instructions of one request.
pub struct Instructions {
    /// The median of some requests that are alike.
    pub median: u64,
    /// The least of them: what waits for a program finds more of its output there at one time than at another.
    pub least: u64,
    /// Half of them are within this range.
    pub spread: u64,
    /// callgrind's file about one with as many, for `callgrind_annotate`. It goes with the server.
    pub profile: PathBuf,
}

/// True if this machine can count.
pub fn can_count() -> bool {
    programs::find(&["valgrind"]).is_some()
}

impl Builder {
    /// A server under callgrind, for [`Httpd::instructions`]. Each process serves one connection at a time, so it is for prefork.
    ///
    /// # Panics
    ///
    /// For another MPM.
    #[track_caller]
    pub fn counted(mut self) -> Builder {
        assert_eq!(self.mpm, Mpm::Prefork, "a process under callgrind serves one connection at a time");
        self.counted = true;
        // valgrind has no robust mutexes for processes that are told to end.
        self.workers(1).config("Mutex flock default")
    }

    /// The command that runs httpd's program, with these libraries preloaded.
    pub(crate) fn program(&self, root: &std::path::Path, preload: Option<&str>) -> Command {
        if !self.counted {
            return under::httpd(root, preload);
        }
        let mut command = Command::new(programs::program(&["valgrind"]));
        command
            .args(["--quiet", "--tool=callgrind", &format!("--dump-before={BOUNDARY}")])
            .arg(format!("--callgrind-out-file={}/callgrind.%p", folder(root).display()))
            .arg(programs::httpd());
        command
    }
}

/// The folder of callgrind's files, which the server's user can write to.
fn folder(root: &std::path::Path) -> PathBuf {
    root.join("run")
}

impl Httpd {
    /// Counts the instructions of a request for `path`, made over and over on a kept connection.
    ///
    /// # Panics
    ///
    /// When the server is not [`Builder::counted`], or a response is none.
    #[track_caller]
    pub fn instructions(&self, path: &str) -> Instructions {
        // What ends with the next call belongs to the connection before.
        let before = self.parts().len() + 1;
        let connection = self.connect();
        for _ in 0..FIRST + COUNTED {
            connection.send(format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n"));
            let response = connection.response();
            assert_eq!(response.status, 200, "{path}");
        }
        let parts = wait_for("callgrind's files", || {
            let parts = self.parts();
            (parts.len() >= before + FIRST + COUNTED).then_some(parts)
        });
        let mut counted = parts[before + FIRST..].to_vec();
        counted.sort_by_key(|part| part.1);
        let (profile, median) = counted[COUNTED / 2].clone();
        let least = counted[0].1;
        Instructions { median, least, spread: counted[COUNTED * 3 / 4].1 - counted[COUNTED / 4].1, profile }
    }

    /// The parts that are complete, in order, with their numbers of instructions.
    fn parts(&self) -> Vec<(PathBuf, u64)> {
        let files = fs::read_dir(folder(self.root())).expect("the server's folder").flatten();
        let numbered = files.filter_map(|file| {
            let name = file.file_name().into_string().ok()?;
            let number: u32 = name.strip_prefix("callgrind.")?.split_once('.')?.1.parse().ok()?;
            Some((number, file.path()))
        });
        let mut numbered: Vec<(u32, PathBuf)> = numbered.collect();
        numbered.sort();
        let total = |path: &PathBuf| {
            let text = fs::read_to_string(path).ok()?;
            text.lines().rev().find_map(|line| line.strip_prefix("totals: "))?.trim().parse().ok()
        };
        numbered.into_iter().map_while(|(_, path)| total(&path).map(|total| (path, total))).collect()
    }
}
