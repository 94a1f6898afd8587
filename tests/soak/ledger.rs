//! What clients have asked for and got, and what the jobs have noted.

use std::collections::HashMap;
use std::fs;
use std::path::Path;
use std::sync::Mutex;
use std::time::{Duration, Instant};

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

/// How long a client may take to see that its connection has ended, and the file to be written that says so.
const LATER: Duration = Duration::from_secs(5);

/// All of them, by the jobs' numbers.
#[derive(Default)]
pub struct Ledger {
    /// When each was given its number.
    begun: Mutex<Vec<Instant>>,
    asked: Mutex<HashMap<usize, Noted>>,
}

/// What has become of one, and when.
struct Noted {
    kind: &'static str,
    outcome: Outcome,
    until: Instant,
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
        let mut begun = self.begun.lock().unwrap();
        begun.push(Instant::now());
        begun.len() - 1
    }

    /// What a client of this kind has got.
    pub fn note(&self, job: usize, kind: &'static str, outcome: Outcome) {
        if let Outcome::Wrong(what) = &outcome {
            eprintln!("{kind}, job {job}: {what}");
        }
        self.asked.lock().unwrap().insert(job, Noted { kind, outcome, until: Instant::now() });
    }

    pub fn counts(&self) -> Counts {
        let mut counts = Counts::default();
        for noted in self.asked.lock().unwrap().values() {
            match noted.outcome {
                Outcome::Whole => counts.whole += 1,
                Outcome::Broken(_) => counts.broken += 1,
                Outcome::Aborted => counts.aborted += 1,
                Outcome::Wrong(_) => {}
            }
        }
        counts
    }

    /// What is wrong, when all clients have ended: a response, a job that was lost or done twice, one that no child explains that was killed at its time;
    /// and one of these kinds that mostly did not go well.
    pub fn compare(&self, file: &Path, killed: &HashMap<u32, Instant>, kinds: &[&str]) -> Vec<String> {
        let asked = self.asked.lock().unwrap();
        let open = |jobs: &HashMap<usize, Job>| {
            jobs.values().filter(|job| job.ended == 0 && !killed.contains_key(&job.process)).count()
        };
        // Work may still run; what never ends is told below.
        let mut last = (usize::MAX, 0);
        let jobs = wait_for("the jobs to end, or to stay as they are", || {
            let jobs = read(file);
            let open = open(&jobs);
            last = if open == last.0 { (open, last.1 + 1) } else { (open, 0) };
            (open == 0 || last.1 > 1000).then_some(jobs)
        });
        let begun = self.begun.lock().unwrap();
        let killed_meanwhile =
            |number: usize, until: Instant| killed.values().any(|at| *at + LATER >= begun[number] && *at <= until);
        let mut wrong = Vec::new();
        let mut went: HashMap<&str, (usize, usize)> = HashMap::new();
        for (number, Noted { kind, outcome, until }) in asked.iter() {
            let job = jobs.get(number);
            let (well, all) = went.entry(kind).or_default();
            *well += usize::from(matches!(outcome, Outcome::Whole));
            *all += 1;
            // A program does not know which child it works for.
            let in_killed = job.is_some_and(|job| killed.contains_key(&job.process))
                || *kind == "late" && killed_meanwhile(*number, *until + LATER);
            let mut say = |what: &str| wrong.push(format!("{kind}, job {number}: {what}; {outcome:?}, {job:?}"));
            match (outcome, job) {
                (Outcome::Wrong(_), _) => say("a wrong response"),
                (Outcome::Whole, None) => say("a response of nobody"),
                (Outcome::Broken(_), None) if !killed_meanwhile(*number, *until) => {
                    say("a response was lost, and no child was killed")
                }
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
        for kind in kinds {
            let (well, all) = went.get(kind).copied().unwrap_or_default();
            if well == 0 || well * 2 < all {
                wrong.push(format!("{kind}: {well} of {all} went well"));
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
