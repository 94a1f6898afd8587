//! What clients have asked for and got, and what the jobs have noted.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use support::wait_for;

/// What has become of a request, for its client.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// A whole response, right to the byte.
    Whole,
    /// It ended too early, as the client has seen: how.
    Broken(String),
    /// The client did not wait for it.
    Aborted,
    /// A whole one that is wrong: how.
    Wrong(String),
}

/// All of them, by the jobs' numbers.
#[derive(Default)]
pub struct Ledger {
    next: AtomicUsize,
    asked: Mutex<HashMap<usize, (&'static str, Outcome)>>,
}

#[derive(Default)]
pub struct Counts {
    pub whole: usize,
    pub broken: usize,
    pub aborted: usize,
}

impl Ledger {
    /// A job that nobody else has.
    pub fn job(&self) -> usize {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// What a client of this kind has got.
    pub fn note(&self, job: usize, kind: &'static str, outcome: Outcome) {
        if let Outcome::Wrong(what) = &outcome {
            eprintln!("{kind}, job {job}: {what}");
        }
        self.asked.lock().unwrap().insert(job, (kind, outcome));
    }

    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for (_, outcome) in self.asked.lock().unwrap().values() {
            match outcome {
                Outcome::Whole => counts.whole += 1,
                Outcome::Broken(_) => counts.broken += 1,
                Outcome::Aborted => counts.aborted += 1,
                Outcome::Wrong(_) => {}
            }
        }
        counts
    }

    /// What is wrong, when all clients have ended: a response, a job that was lost or done twice, one that no killed child explains.
    pub fn compare(&self, file: &Path, killed: &HashSet<u32>) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        let open = |jobs: &HashMap<usize, Job>| {
            jobs.values().filter(|job| job.ended == 0 && !killed.contains(&job.process)).count()
        };
        // Work may still run; what never ends is told below.
        let mut last = (usize::MAX, 0);
        let jobs = wait_for("the jobs to end, or to stay as they are", || {
            let jobs = read(file);
            let open = open(&jobs);
            last = if open == last.0 { (open, last.1 + 1) } else { (open, 0) };
            (open == 0 || last.1 > 1000).then_some(jobs)
        });
        let mut wrong = Vec::new();
        for (number, (kind, outcome)) in asked.iter() {
            let job = jobs.get(number);
            // A program does not know which child it works for.
            let in_killed =
                job.is_some_and(|job| killed.contains(&job.process)) || *kind == "late" && !killed.is_empty();
            let mut say = |what: &str| wrong.push(format!("{kind}, job {number}: {what}; {outcome:?}, {job:?}"));
            match (outcome, job) {
                (Outcome::Wrong(_), _) => say("a wrong response"),
                (Outcome::Whole, None) => say("a response of nobody"),
                (Outcome::Broken(_), None) if killed.is_empty() => say("a response was lost, and no child was killed"),
                (Outcome::Broken(_), Some(_)) if !in_killed => {
                    say("a response was broken, and its child was not killed")
                }
                _ => {}
            }
            if let Some(job) = job {
                if job.began > 1 || job.ended > 1 {
                    say("done more than once");
                }
                if job.ended == 0 && !in_killed {
                    say("lost");
                }
            }
        }
        wrong.extend(
            jobs.keys()
                .filter(|number| !asked.contains_key(number))
                .map(|number| format!("job {number}: nobody asked")),
        );
        wrong
    }
}

#[derive(Debug, Default)]
struct Job {
    process: u32,
    began: usize,
    ended: usize,
}

fn read(file: &Path) -> HashMap<usize, Job> {
    let text = fs::read_to_string(file).unwrap();
    let mut jobs: HashMap<usize, Job> = HashMap::new();
    for line in text.lines() {
        let mut words = line.split(' ');
        let number = words.next().unwrap().parse().unwrap();
        let process = words.next().unwrap().parse().unwrap();
        let job = jobs.entry(number).or_default();
        match words.next() {
            Some("began") => (job.process, job.began) = (process, job.began + 1),
            _ => job.ended += 1,
        }
    }
    jobs
}
