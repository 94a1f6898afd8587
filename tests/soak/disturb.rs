//! What happens to a server meanwhile, and what it uses.

use std::collections::HashMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use support::{Httpd, Signal, finish_request_module, kill, wait_for};

use crate::client::Numbers;

/// How often the server restarts gracefully.
const RESTART: Duration = Duration::from_secs(20);
/// How often a child is killed.
const KILL: Duration = Duration::from_secs(7);
/// Each so many restarts, and with the first, the module's file has been replaced before.
const REPLACE: usize = 3;

/// What one process uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Use {
    descriptors: usize,
    threads: usize,
    kilobytes: u64,
}

impl Use {
    fn of(process: u32) -> Option<Use> {
        let count = |what: &str| Some(fs::read_dir(format!("/proc/{process}/{what}")).ok()?.count());
        let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
        let memory = status.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
        let kilobytes = memory.trim().trim_end_matches(" kB").parse().ok()?;
        Some(Use { descriptors: count("fd")?, threads: count("task")?, kilobytes })
    }

    fn max(self, other: Use) -> Use {
        Use {
            descriptors: self.descriptors.max(other.descriptors),
            threads: self.threads.max(other.threads),
            kilobytes: self.kilobytes.max(other.kilobytes),
        }
    }
}

pub struct Disturber<'a> {
    httpd: &'a Httpd,
    numbers: Numbers,
    /// Which children were killed, and when.
    pub killed: HashMap<u32, Instant>,
    pub restarts: usize,
    pub replaced: usize,
    /// What the largest child used, in each time between two restarts.
    children: Vec<Use>,
    parent: Vec<Use>,
    /// What each child used when it had been left alone for a while, and at the end.
    alone: HashMap<u32, [Use; 2]>,
}

/// What httpd says of all this.
pub fn announce(httpd: &Httpd) {
    httpd.may_be_full();
    httpd.allow_log("exit signal Killed");
    httpd.allow_log("finish_request:warn.*has ended");
    httpd.allow_log("AH00045|AH00046|AH00052|AH03488|AH03492|AH02326");
    // mod_cgid's daemon is started anew at each restart, and may be one of the children that are killed.
    httpd.allow_log("cgid:(error|crit|warn)");
    httpd.allow_log("Broken pipe|Connection reset by peer|printf: I/O error");
    httpd.allow_log("long lost child came home");
}

impl<'a> Disturber<'a> {
    pub fn new(httpd: &'a Httpd, seed: u64) -> Disturber<'a> {
        let numbers = Numbers::new(seed + 77);
        Disturber {
            httpd,
            numbers,
            killed: HashMap::new(),
            restarts: 0,
            replaced: 0,
            children: Vec::new(),
            parent: Vec::new(),
            alone: HashMap::new(),
        }
    }

    /// The time up to the next restart, and the restart.
    pub fn next(&mut self, end: Instant) {
        let restart = (Instant::now() + RESTART).min(end);
        let mut kill_at = Instant::now() + KILL;
        let mut most = Use::default();
        while Instant::now() < restart {
            thread::sleep(Duration::from_millis(200));
            for child in self.workers() {
                most = most.max(Use::of(child).unwrap_or_default());
            }
            if Instant::now() >= kill_at {
                kill_at += KILL;
                self.kill_one();
            }
        }
        // A time that was too short to see a child at work says nothing.
        if Instant::now() < end || self.children.is_empty() {
            self.children.push(most);
        }
        self.parent.extend(Use::of(self.httpd.id()));
        if Instant::now() >= end {
            return;
        }
        if self.restarts.is_multiple_of(REPLACE) {
            self.replace();
        }
        self.restart();
    }

    /// The time up to `end`, in which the server is loaded as before, and nothing else happens to it: what a child loses at each request, it
    /// shows in this.
    pub fn leave_alone(&mut self, end: Instant) {
        let all = |workers: Vec<u32>| -> HashMap<u32, Use> {
            workers.into_iter().filter_map(|child| Some((child, Use::of(child)?))).collect()
        };
        thread::sleep(end.saturating_duration_since(Instant::now()) / 3);
        let early = all(self.workers());
        thread::sleep(end.saturating_duration_since(Instant::now()));
        let late = all(self.workers());
        self.alone =
            early.into_iter().filter_map(|(child, early)| Some((child, [early, *late.get(&child)?]))).collect();
    }

    /// The children that serve requests: not mod_cgid's daemon, which runs as another program's parent.
    fn workers(&self) -> Vec<u32> {
        let id = self.httpd.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap_or_default();
        let children: Vec<u32> = children.split_whitespace().filter_map(|child| child.parse().ok()).collect();
        let threads: HashMap<u32, usize> =
            children.iter().filter_map(|&child| Some((child, Use::of(child)?.threads))).collect();
        let threaded = threads.values().any(|&threads| threads > 8);
        children
            .into_iter()
            .filter(|child| !threaded || threads.get(child).is_some_and(|&threads| threads > 8))
            .collect()
    }

    fn kill_one(&mut self) {
        let workers = self.workers();
        if !workers.is_empty() {
            let victim = workers[self.numbers.below(workers.len())];
            self.killed.insert(victim, Instant::now());
            kill(victim);
        }
    }

    /// As a package's update does: the new file is written beside the old one, and takes its name.
    fn replace(&mut self) {
        let file = finish_request_module();
        let fresh = file.with_extension("so.new");
        fs::copy(&file, &fresh).unwrap();
        fs::rename(&fresh, &file).unwrap();
        self.replaced += 1;
    }

    fn restart(&mut self) {
        let ready = || self.httpd.log().matches("resuming normal operations").count();
        let before = ready();
        self.httpd.signal(Signal::USR1);
        wait_for("the server to restart", || (ready() > before).then_some(()));
        self.restarts += 1;
    }

    /// What has grown: children against those of the first third, each against itself where it was left alone, the parent against itself, less what
    /// each new file of the module brings.
    pub fn grown(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        let third = self.children.len().div_ceil(3);
        let most = |uses: &[Use]| uses.iter().copied().fold(Use::default(), Use::max);
        let (early, late) = (most(&self.children[..third]), most(&self.children[self.children.len() - third..]));
        if late.descriptors > early.descriptors + 16
            || late.threads > early.threads + 2
            || late.kilobytes > early.kilobytes * 3 / 2 + 8_192
        {
            wrong.push(format!("children have grown: {early:?}, then {late:?}"));
        }
        if self.restarts > 0 && self.replaced == 0 {
            wrong.push("the module's file was not replaced".to_owned());
        }
        if self.alone.is_empty() {
            wrong.push("no child was left alone".to_owned());
        }
        for (child, [early, late]) in &self.alone {
            if late.descriptors > early.descriptors + 16
                || late.threads > early.threads + 2
                || late.kilobytes > early.kilobytes * 5 / 4 + 2_048
            {
                wrong.push(format!("the child {child} has grown: {early:?}, then {late:?}"));
            }
        }
        if let (Some(first), Some(last)) = (self.parent.first(), self.parent.last()) {
            let descriptors = first.descriptors + 4 + 4 * self.replaced;
            let kilobytes = first.kilobytes + 4_096 + 4_096 * self.replaced as u64;
            if last.descriptors > descriptors || last.threads > first.threads || last.kilobytes > kilobytes {
                wrong.push(format!("the parent has grown: {first:?}, then {last:?}"));
            }
        }
        wrong
    }

    pub fn measured(&self) -> String {
        let show = |name: &str, uses: &[Use]| match (uses.first(), uses.last()) {
            (Some(first), Some(last)) => format!(
                "{name}: {} to {} descriptors, {} to {} threads, {} to {} kB",
                first.descriptors, last.descriptors, first.threads, last.threads, first.kilobytes, last.kilobytes
            ),
            _ => String::new(),
        };
        let largest = self.alone.values().max_by_key(|[_, late]| late.kilobytes);
        let alone = largest.map(|alone| show("; left alone", alone)).unwrap_or_default();
        format!("{}{alone}; {}", show("largest child", &self.children), show("parent", &self.parent))
    }
}
