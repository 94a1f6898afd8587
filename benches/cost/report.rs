//! The report: on the terminal while it is measured, and as a page with plots and the raw figures.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::machine::{self, Machine};
use crate::measure::Summary;
use crate::svg::{self, Chart};

/// A part of the bench.
pub struct Part {
    /// For `ONLY`.
    pub name: &'static str,
    pub title: &'static str,
    /// What is measured, and how.
    pub how: &'static str,
    pub measure: fn(&mut Report),
}

/// What a row is to come to.
#[derive(Clone, Copy)]
pub enum Goal {
    AtMost(f64),
    AtLeast(f64),
}

/// Whether it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    Met,
    Missed,
    /// The goal is within the interval in which the median may be.
    Noise,
}

/// One figure, measured in some rounds.
pub struct Row {
    pub name: String,
    pub unit: &'static str,
    pub goal: Option<Goal>,
    pub values: Vec<f64>,
}

/// What a part has shown.
struct Shown {
    part: &'static Part,
    rows: Vec<Row>,
    charts: Vec<Chart>,
    left_out: Vec<String>,
    seconds: f64,
}

pub struct Report {
    machine: Machine,
    parts: Vec<Shown>,
}

/// The heading behind which a page has what people wrote about the figures: a new report leaves it in its place.
const FINDINGS: &str = "\n## Where a goal is not met\n";

impl Report {
    pub fn new() -> Report {
        Report { machine: Machine::now(), parts: Vec::new() }
    }

    pub fn begin(&mut self, part: &'static Part) {
        println!("{}: {}", part.name, part.title);
        self.parts.push(Shown { part, rows: vec![], charts: vec![], left_out: vec![], seconds: machine::uptime() });
    }

    pub fn end(&mut self) {
        let shown = self.parts.last_mut().expect("a part");
        shown.seconds = machine::uptime() - shown.seconds;
        println!("  ({:.0} s)\n", shown.seconds);
    }

    fn shown(&mut self) -> &mut Shown {
        self.parts.last_mut().expect("a part")
    }

    /// A figure that has a goal.
    pub fn goal(&mut self, name: impl Into<String>, unit: &'static str, goal: Goal, values: Vec<f64>) {
        self.push(Row { name: name.into(), unit, goal: Some(goal), values });
    }

    /// A figure that has none.
    pub fn figure(&mut self, name: impl Into<String>, unit: &'static str, values: Vec<f64>) {
        self.push(Row { name: name.into(), unit, goal: None, values });
    }

    /// The same subject measured twice: how far such a ratio or difference is from 1 or 0 by chance.
    pub fn noise(&mut self, name: &str, unit: &'static str, values: Vec<f64>) {
        self.push(Row { name: format!("noise (A/A): {name}"), unit, goal: None, values });
    }

    fn push(&mut self, row: Row) {
        println!("  {}", row.line());
        self.shown().rows.push(row);
    }

    /// What this machine does not have, as a sentence.
    pub fn left_out(&mut self, what: &str) {
        println!("  left out: {what}");
        self.shown().left_out.push(what.to_owned());
    }

    pub fn chart(&mut self, chart: Chart) {
        self.shown().charts.push(chart);
    }

    /// Writes `performance.md` and `performance/` into the folder.
    ///
    /// # Panics
    ///
    /// When it cannot.
    pub fn write(self, folder: &Path) {
        let files = folder.join("performance");
        fs::create_dir_all(&files).expect("the report's folder");
        let page = folder.join("performance.md");
        let findings = fs::read_to_string(&page).unwrap_or_default();
        let findings = findings.find(FINDINGS).map_or("", |start| &findings[start..]);
        let mut text = self.page(&files);
        text += findings;
        fs::write(&page, text).expect("the report");
        fs::write(files.join("raw.csv"), self.raw()).expect("the raw figures");
        println!("The report is {}.", page.display());
    }

    fn page(&self, files: &Path) -> String {
        let mut text = String::from(
            "# Performance\n\n\
             Written by `make bench`, which measures all of this beside what else one could use. What is compared takes turns (A B A B), round by\n\
             round; a row shows the median of its rounds, and between which values half of them are. A goal is met or missed where the interval\n\
             in which the median is (95%) is on one side of it, and else this is *noise*. The rows A/A measure the same thing twice.\n\
             [raw.csv](performance/raw.csv) has each round's figure.\n\n",
        );
        text += &self.machine.describe();
        text += "\n## Goals\n\n| | goal | measured | |\n| --- | --- | --- | --- |\n";
        let mut goals = Vec::new();
        for shown in &self.parts {
            for row in &shown.rows {
                let Some(goal) = row.goal else { continue };
                let verdict = row.verdict().map_or("", Verdict::word);
                _ = writeln!(text, "| {} | {} | {} | {verdict} |", row.name, goal.text(row.unit), row.measured());
                goals.push(row);
            }
        }
        if !goals.is_empty() {
            let chart = svg::shares(&goals);
            fs::write(files.join("goals.svg"), chart).expect("a plot");
            text += "\n![How much of each goal is used](performance/goals.svg)\n";
        }
        for shown in &self.parts {
            let part = shown.part;
            _ = write!(text, "\n## {}\n\n{}\n", part.title, part.how);
            for what in &shown.left_out {
                _ = write!(text, "\nLeft out: {what}\n");
            }
            if !shown.rows.is_empty() {
                text += "\n| | median | half of the rounds | rounds |\n| --- | --- | --- | --- |\n";
            }
            for row in &shown.rows {
                let Summary { median, quartiles: [low, high], .. } = Summary::of(&row.values);
                let [median, low, high] = [median, low, high].map(number);
                let (name, unit, count) = (&row.name, row.unit, row.values.len());
                _ = writeln!(text, "| {name} | {median}{unit} | {low} to {high} | {count} |");
            }
            let units: Vec<_> = shown.rows.iter().map(|row| row.unit).collect();
            for (index, unit) in units.iter().enumerate() {
                if units[..index].contains(unit) {
                    continue;
                }
                let rows: Vec<&Row> = shown.rows.iter().filter(|row| row.unit == *unit).collect();
                let unit = unit.trim();
                let file = format!(
                    "{}-{}.svg",
                    part.name,
                    if unit.is_empty() { "ratios" } else { unit }.replace(['µ', '/', ' '], "u")
                );
                fs::write(files.join(&file), svg::dots(&rows)).expect("a plot");
                _ = write!(
                    text,
                    "\n![{}{}](performance/{file})\n",
                    part.title,
                    if unit.is_empty() { String::new() } else { format!(", {unit}") }
                );
            }
            for (index, chart) in shown.charts.iter().enumerate() {
                let file = format!("{}-{}.svg", part.name, index + 1);
                fs::write(files.join(&file), chart.svg()).expect("a plot");
                _ = write!(text, "\n![{}](performance/{file})\n", chart.title);
            }
        }
        text
    }

    fn raw(&self) -> String {
        let mut text = String::from("part,row,unit,round,value\n");
        for shown in &self.parts {
            for row in &shown.rows {
                for (round, value) in row.values.iter().enumerate() {
                    let (part, name, unit) = (shown.part.name, row.name.replace('"', "'"), row.unit.trim());
                    _ = writeln!(text, "{part},\"{name}\",{unit},{round},{value:.4}");
                }
            }
            for chart in &shown.charts {
                for (name, points) in &chart.series {
                    for (x, y) in points {
                        _ = writeln!(text, "{},\"{}: {name}\",,{x:.4},{y:.4}", shown.part.name, chart.title);
                    }
                }
            }
        }
        text
    }
}

impl Row {
    pub fn verdict(&self) -> Option<Verdict> {
        let [low, high] = Summary::of(&self.values).interval;
        let (met, missed) = match self.goal? {
            Goal::AtMost(most) => (high <= most, low > most),
            Goal::AtLeast(least) => (low >= least, high < least),
        };
        Some(if met {
            Verdict::Met
        } else if missed {
            Verdict::Missed
        } else {
            Verdict::Noise
        })
    }

    fn measured(&self) -> String {
        let Summary { median, quartiles: [low, high], .. } = Summary::of(&self.values);
        format!("{}{} ({} to {})", number(median), self.unit, number(low), number(high))
    }

    fn line(&self) -> String {
        let goal = self.goal.map_or_else(String::new, |goal| {
            format!(", goal {}: {}", goal.text(self.unit), self.verdict().map_or("", Verdict::word))
        });
        format!("{:<66} {} [{}]{goal}", self.name, self.measured(), self.values.len())
    }
}

impl Goal {
    pub fn value(self) -> f64 {
        match self {
            Goal::AtMost(value) | Goal::AtLeast(value) => value,
        }
    }

    fn text(self, unit: &str) -> String {
        match self {
            Goal::AtMost(most) => format!("≤ {most}{unit}"),
            Goal::AtLeast(least) => format!("≥ {least}{unit}"),
        }
    }
}

impl Verdict {
    fn word(self) -> &'static str {
        match self {
            Verdict::Met => "met",
            Verdict::Missed => "**missed**",
            Verdict::Noise => "noise",
        }
    }
}

/// As many digits as say something.
pub fn number(value: f64) -> String {
    match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        0.0 => "0".to_owned(),
        _ => format!("{value:.2}"),
    }
}
