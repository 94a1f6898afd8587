//! Plots, as plain SVG.

use std::fmt::Write as _;

use crate::measure::Summary;
use crate::report::{Goal, Row, Verdict, number};

const WIDTH: f64 = 900.0;
/// Where the names of the rows end.
const LEFT: f64 = 400.0;
const RIGHT: f64 = 870.0;
const ROW: f64 = 24.0;
const TOP: f64 = 16.0;

const INK: &str = "#222";
const FAINT: &str = "#ccc";
const COLOURS: [&str; 6] = ["#1f6fb2", "#d1582a", "#3f8f4f", "#8756a8", "#a88410", "#c03a6b"];

/// Lines through points.
pub struct Chart {
    pub title: String,
    pub x: &'static str,
    pub y: &'static str,
    /// Where the horizontal axis has what marks.
    pub x_marks: Vec<(f64, String)>,
    pub series: Vec<(String, Vec<(f64, f64)>)>,
}

fn open(height: f64) -> String {
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" height=\"{height}\" \
         font-family=\"sans-serif\" font-size=\"12\" fill=\"{INK}\">\n<rect width=\"{WIDTH}\" height=\"{height}\" fill=\"#fff\"/>\n"
    )
}

fn text(svg: &mut String, x: f64, y: f64, anchor: &str, text: &str) {
    let text = text.replace('&', "&amp;").replace('<', "&lt;");
    _ = writeln!(svg, "<text x=\"{x:.1}\" y=\"{y:.1}\" text-anchor=\"{anchor}\">{text}</text>");
}

fn line(svg: &mut String, from: (f64, f64), to: (f64, f64), style: &str) {
    let ((x1, y1), (x2, y2)) = (from, to);
    _ = writeln!(svg, "<line x1=\"{x1:.1}\" y1=\"{y1:.1}\" x2=\"{x2:.1}\" y2=\"{y2:.1}\" {style}/>");
}

/// Round numbers from 0 or below to `most` or above.
fn marks(least: f64, most: f64) -> Vec<f64> {
    let rough = (most - least).max(1e-9) / 6.0;
    let power = 10f64.powf(rough.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|factor| factor * power).find(|step| *step >= rough).unwrap_or(power);
    let (first, last) = ((least / step).floor() as i64, (most / step).ceil() as i64);
    (first..=last).map(|count| count as f64 * step).collect()
}

/// Each row's rounds as dots, half of them on a bar, the median as a stroke across it, the goal as a dashed one.
pub fn dots(rows: &[&Row]) -> String {
    let all = || rows.iter().flat_map(|row| row.values.iter().copied().chain(row.goal.map(Goal::value)));
    let ticks = marks(all().fold(0.0, f64::min), all().fold(0.0, f64::max));
    let (least, most) = (ticks[0], ticks[ticks.len() - 1]);
    let x = |value: f64| LEFT + 10.0 + (value - least) / (most - least) * (RIGHT - LEFT - 10.0);
    let bottom = TOP + ROW * rows.len() as f64;
    let mut svg = open(bottom + 30.0);
    for tick in ticks {
        line(&mut svg, (x(tick), TOP), (x(tick), bottom), &format!("stroke=\"{FAINT}\""));
        text(&mut svg, x(tick), bottom + 18.0, "middle", &number(tick));
    }
    for (index, row) in rows.iter().enumerate() {
        let y = TOP + ROW * (index as f64 + 0.5);
        text(&mut svg, LEFT, y + 4.0, "end", &row.name);
        let colour = if row.name.starts_with("noise") { "#888" } else { COLOURS[0] };
        let Summary { median, quartiles: [low, high], .. } = Summary::of(&row.values);
        line(
            &mut svg,
            (x(low), y),
            (x(high), y),
            &format!("stroke=\"{colour}\" stroke-width=\"8\" stroke-opacity=\"0.35\""),
        );
        for value in &row.values {
            _ = writeln!(
                svg,
                "<circle cx=\"{:.1}\" cy=\"{y:.1}\" r=\"2\" fill=\"{colour}\" fill-opacity=\"0.4\"/>",
                x(*value)
            );
        }
        line(
            &mut svg,
            (x(median), y - 8.0),
            (x(median), y + 8.0),
            &format!("stroke=\"{colour}\" stroke-width=\"2.5\""),
        );
        if let Some(goal) = row.goal {
            let place = x(goal.value());
            line(
                &mut svg,
                (place, y - 10.0),
                (place, y + 10.0),
                &format!("stroke=\"{}\" stroke-width=\"2\" stroke-dasharray=\"3 2\"", COLOURS[1]),
            );
        }
    }
    svg + "</svg>\n"
}

/// How much of its goal each row uses: to the left of the line the goal is met.
pub fn shares(rows: &[&Row]) -> String {
    const MOST: f64 = 4.0;
    let x = |share: f64| LEFT + 10.0 + share.clamp(0.0, MOST) / MOST * (RIGHT - LEFT - 10.0);
    let bottom = TOP + ROW * rows.len() as f64;
    let mut svg = open(bottom + 30.0);
    for tick in 0..=4 {
        let style = if tick == 1 {
            format!("stroke=\"{}\" stroke-width=\"2\"", COLOURS[1])
        } else {
            format!("stroke=\"{FAINT}\"")
        };
        line(&mut svg, (x(f64::from(tick)), TOP), (x(f64::from(tick)), bottom), &style);
        let label = match tick {
            1 => "the goal".to_owned(),
            4 => "4 or more".to_owned(),
            _ => tick.to_string(),
        };
        text(&mut svg, x(f64::from(tick)), bottom + 18.0, "middle", &label);
    }
    for (index, row) in rows.iter().enumerate() {
        let y = TOP + ROW * (index as f64 + 0.5);
        let median = Summary::of(&row.values).median;
        let share = match row.goal {
            // A goal of nothing at all.
            Some(Goal::AtMost(most)) if most.abs() < f64::EPSILON => {
                if median > 0.5 {
                    MOST
                } else {
                    0.0
                }
            }
            Some(Goal::AtMost(most)) => median / most,
            Some(Goal::AtLeast(least)) => least / median,
            None => continue,
        };
        let colour = match row.verdict() {
            Some(Verdict::Met) => COLOURS[2],
            Some(Verdict::Missed) => COLOURS[1],
            _ => "#888",
        };
        text(&mut svg, LEFT, y + 4.0, "end", &row.name);
        line(
            &mut svg,
            (x(0.0), y),
            (x(share), y),
            &format!("stroke=\"{colour}\" stroke-width=\"10\" stroke-opacity=\"0.8\""),
        );
    }
    svg + "</svg>\n"
}

impl Chart {
    /// The vertical axis is logarithmic.
    pub fn svg(&self) -> String {
        const HEIGHT: f64 = 420.0;
        let (left, right, top, bottom) = (70.0, 620.0, 40.0, HEIGHT - 50.0);
        let points = || self.series.iter().flat_map(|(_, points)| points);
        let least = points().map(|point| point.1).fold(f64::MAX, f64::min).max(1e-3).log10().floor();
        let most = points().map(|point| point.1).fold(1e-3, f64::max).log10().ceil().max(least + 1.0);
        let first = self.x_marks.first().map_or(0.0, |mark| mark.0);
        let last = self.x_marks.last().map_or(1.0, |mark| mark.0);
        let x = |value: f64| left + (value - first) / (last - first) * (right - left);
        let y = |value: f64| bottom - (value.max(1e-3).log10() - least) / (most - least) * (bottom - top);
        let mut svg = open(HEIGHT);
        text(&mut svg, left, 22.0, "start", &self.title);
        for (place, label) in &self.x_marks {
            line(&mut svg, (x(*place), top), (x(*place), bottom), &format!("stroke=\"{FAINT}\""));
            text(&mut svg, x(*place), bottom + 18.0, "middle", label);
        }
        for power in least as i32..=most as i32 {
            let value = 10f64.powi(power);
            line(&mut svg, (left, y(value)), (right, y(value)), &format!("stroke=\"{FAINT}\""));
            text(
                &mut svg,
                left - 8.0,
                y(value) + 4.0,
                "end",
                &if power < 0 { format!("{value}") } else { format!("{value:.0}") },
            );
        }
        text(&mut svg, f64::midpoint(left, right), HEIGHT - 12.0, "middle", self.x);
        _ = writeln!(
            svg,
            "<text transform=\"translate(16 {:.0}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            f64::midpoint(top, bottom),
            self.y
        );
        for (index, (name, points)) in self.series.iter().enumerate() {
            let colour = COLOURS[index % COLOURS.len()];
            let path: String = points.iter().map(|&(at, value)| format!("{:.1},{:.1} ", x(at), y(value))).collect();
            _ = writeln!(svg, "<polyline points=\"{path}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"2\"/>");
            let legend = top + 10.0 + 20.0 * index as f64;
            line(
                &mut svg,
                (right + 16.0, legend),
                (right + 40.0, legend),
                &format!("stroke=\"{colour}\" stroke-width=\"3\""),
            );
            text(&mut svg, right + 46.0, legend + 4.0, "start", name);
        }
        svg + "</svg>\n"
    }
}
