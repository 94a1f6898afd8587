//! What the processes of a server use up, as the kernel counts it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use support::{Httpd, wait_for};

/// The process groups of a server and of what serves it.
#[derive(Clone)]
pub struct Processes(Vec<u32>);

impl Processes {
    /// httpd's, and php-fpm's if it has one.
    pub fn of(httpd: &Httpd) -> Processes {
        let mut groups = vec![httpd.id()];
        let config = httpd.root().join("php-fpm.conf").display().to_string();
        let php_fpm = all().into_iter().find(|process| {
            let line = fs::read(format!("/proc/{}/cmdline", process.id)).unwrap_or_default();
            line.starts_with(b"php-fpm: master") && String::from_utf8_lossy(&line).contains(&config)
        });
        groups.extend(php_fpm.map(|process| process.group));
        Processes(groups)
    }

    /// One that leads its group.
    pub fn group(leader: u32) -> Processes {
        Processes(vec![leader])
    }

    pub fn and(mut self, other: &Processes) -> Processes {
        self.0.extend(&other.0);
        self
    }

    pub fn without(mut self, group: u32) -> Processes {
        self.0.retain(|one| *one != group);
        self
    }

    /// All their processes.
    pub fn ids(&self) -> Vec<u32> {
        all().into_iter().filter(|process| self.0.contains(&process.group)).map(|process| process.id).collect()
    }

    /// The same without those that lead a group: httpd's children.
    pub fn children(&self) -> Vec<u32> {
        self.ids().into_iter().filter(|id| !self.0.contains(id)).collect()
    }

    /// How long they have had a CPU, all threads, also those that have ended.
    pub fn cpu(&self) -> Duration {
        self.ids().into_iter().map(cpu).sum()
    }

    /// Their memory in bytes; what several share is divided among them.
    pub fn memory(&self) -> f64 {
        let of = |id: u32| {
            let text = fs::read_to_string(format!("/proc/{id}/smaps_rollup")).unwrap_or_default();
            let line = text.lines().find_map(|line| line.strip_prefix("Pss:"))?;
            line.trim().trim_end_matches("kB").trim().parse::<f64>().ok()
        };
        self.ids().into_iter().filter_map(of).sum::<f64>() * 1024.0
    }

    /// How many descriptors they have.
    pub fn descriptors(&self) -> usize {
        self.ids().into_iter().map(|id| fs::read_dir(format!("/proc/{id}/fd")).map_or(0, Iterator::count)).sum()
    }
}

/// CPU time a request, in microseconds: calls `ask` so many times, and waits until the server has nothing left to do.
pub fn cpu_per_request(processes: &Processes, requests: usize, mut ask: impl FnMut()) -> f64 {
    let before = processes.cpu();
    (0..requests).for_each(|_| ask());
    settle(processes);
    (processes.cpu() - before).as_secs_f64() * 1e6 / requests as f64
}

/// Waits until the processes do nothing any more: what a request leaves behind is its own.
fn settle(processes: &Processes) {
    let mut before = processes.cpu();
    wait_for("a server without work", || {
        let now = processes.cpu();
        let idle = now - before < Duration::from_micros(60);
        before = now;
        idle.then_some(())
    });
}

struct Stat {
    id: u32,
    group: u32,
}

fn all() -> Vec<Stat> {
    let entries = fs::read_dir("/proc").expect("/proc").flatten();
    let stat = |folder: &Path| {
        let text = fs::read_to_string(folder.join("stat")).ok()?;
        let (id, _) = text.split_once(' ')?;
        // The name may have blanks and brackets.
        let (_, rest) = text.rsplit_once(") ")?;
        Some(Stat { id: id.parse().ok()?, group: rest.split(' ').nth(2)?.parse().ok()? })
    };
    entries
        .filter(|entry| entry.file_name().to_string_lossy().bytes().all(|byte| byte.is_ascii_digit()))
        .filter_map(|entry| stat(&entry.path()))
        .collect()
}

/// By the clock that each process has: exact to the nanosecond, where `/proc/PID/stat` counts hundredths of seconds.
fn cpu(process: u32) -> Duration {
    let mut clock = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both are given places to write to. A process that has ended is an error.
    let failed = unsafe {
        libc::clock_getcpuclockid(process.cast_signed(), &raw mut clock) != 0
            || libc::clock_gettime(clock, &raw mut time) != 0
    };
    if failed { Duration::ZERO } else { Duration::new(time.tv_sec as u64, time.tv_nsec as u32) }
}
