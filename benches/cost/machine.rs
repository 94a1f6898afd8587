//! The machine, and what else it did.

use std::fs;
use std::process::Command;

/// The machine at the start of a run.
pub struct Machine {
    date: String,
    load: String,
    busy: Busy,
    own: f64,
    start: f64,
}

/// What the machine's CPUs have done since it was started, in hundredths of seconds.
struct Busy {
    all: f64,
    busy: f64,
    stolen: f64,
}

/// Seconds since the machine was started.
pub fn uptime() -> f64 {
    let text = fs::read_to_string("/proc/uptime").unwrap_or_default();
    text.split(' ').next().and_then(|seconds| seconds.parse().ok()).unwrap_or(0.0)
}

impl Machine {
    pub fn now() -> Machine {
        let date = said("date", &["-u", "+%Y-%m-%d"]);
        Machine { date, load: load(), busy: Busy::now(), own: own(), start: uptime() }
    }

    /// The machine, and what it did since.
    pub fn describe(&self) -> String {
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let line = |file: &str, name: &str| {
            let text = fs::read_to_string(file).unwrap_or_default();
            let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
            line.split_once(':').map_or(String::new(), |(_, value)| value.trim().to_owned())
        };
        let memory: f64 = line("/proc/meminfo", "MemTotal").trim_end_matches(" kB").parse().unwrap_or(0.0);
        let now = Busy::now();
        let all = (now.all - self.busy.all).max(1.0);
        // Ours are the servers and their clients, as far as they have ended; the others are whatever else ran.
        let ours = 100.0 * (own() - self.own) / all * 100.0;
        let busy = 100.0 * (now.busy - self.busy.busy) / all;
        let stolen = 100.0 * (now.stolen - self.busy.stolen) / all;
        format!(
            "| the machine | |\n| --- | --- |\n\
             | measured | {}, in {:.0} s |\n\
             | CPU | {cpus} × {}{} |\n\
             | memory | {:.0} GB |\n\
             | kernel | {} |\n\
             | httpd | {} |\n| PHP | {} |\n| nginx | {} |\n\
             | load | {} before, {} after; {ours:.0}% of the CPUs were the bench's, {:.0}% others', {stolen:.0}% another machine's |\n",
            self.date,
            uptime() - self.start,
            line("/proc/cpuinfo", "model name"),
            if fs::read_to_string("/proc/cpuinfo").unwrap_or_default().contains("hypervisor") {
                ", virtual"
            } else {
                ""
            },
            memory / 1e6,
            fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim(),
            said("apache2", &["-v"]).trim_start_matches("Server version: "),
            said("php-cgi", &["-n", "-v"]),
            said("nginx", &["-v"]).trim_start_matches("nginx version: "),
            self.load,
            load(),
            (busy - ours).max(0.0),
        )
    }
}

/// The first line that a program says.
fn said(program: &str, arguments: &[&str]) -> String {
    let path = format!("{}:/usr/sbin:/usr/local/sbin", std::env::var("PATH").unwrap_or_default());
    let output = Command::new("env").env("PATH", path).arg(program).args(arguments).output();
    let said = output.map(|output| [output.stdout, output.stderr].concat()).unwrap_or_default();
    String::from_utf8_lossy(&said).lines().next().unwrap_or_default().to_owned()
}

fn load() -> String {
    let text = fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split(' ').next().unwrap_or_default().to_owned()
}

impl Busy {
    fn now() -> Busy {
        let text = fs::read_to_string("/proc/stat").unwrap_or_default();
        let numbers: Vec<f64> = text
            .lines()
            .next()
            .unwrap_or_default()
            .split_whitespace()
            .skip(1)
            .map_while(|word| word.parse().ok())
            .collect();
        // user nice system idle iowait irq softirq steal; guests' time is in the first two.
        let number = |index: usize| numbers.get(index).copied().unwrap_or(0.0);
        let all: f64 = (0..8).map(number).sum();
        Busy { all, busy: all - number(3) - number(4) - number(7), stolen: number(7) }
    }
}

/// Seconds of CPU time of this process and of those that it has waited for.
fn own() -> f64 {
    let seconds = |who| {
        // SAFETY: a structure of numbers may be zeros.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: it is given a place to write to.
        unsafe { libc::getrusage(who, &raw mut usage) };
        let time = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
        time(usage.ru_utime) + time(usage.ru_stime)
    };
    seconds(libc::RUSAGE_SELF) + seconds(libc::RUSAGE_CHILDREN)
}
