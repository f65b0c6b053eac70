//! Draws a run as a picture (SVG): hosts as rows with when they were ready, faults as bars, and below
//! them the success rate and the latency over time. Readable on light and on dark ground.
//!
//! Law: the same run gives the same picture; it is bounded, whatever the run was.

mod chart;

use std::collections::BTreeMap;
use std::fmt::Write;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::time::Timestamp;

use crate::world::run::Run;
use crate::world::scenario::{Action, Fault, Target};

/// Rows of hosts at most; those that faults name come first.
const ROWS_MAX: usize = 40;
/// Bars of faults at most.
const BARS_MAX: usize = 400;

const WIDTH: f64 = 1_000.0;
const LEFT: f64 = 130.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 64.0;
const ROW: f64 = 20.0;

const STYLE: &str = "\
text{font:12px system-ui,'DejaVu Sans',sans-serif;fill:#24292f}
.title{font-size:15px;font-weight:600}.dim{fill:#57606a;font-size:11px}.on-bar{font-size:10px}
.ground{fill:#ffffff}.grid{stroke:#d0d7de;stroke-width:1}.ready{fill:#2da44e;fill-opacity:.35}
.fault{fill:#cf222e;fill-opacity:.55}.moment{stroke:#cf222e;stroke-width:2}
.broken{stroke:#8250df;stroke-width:1.5;stroke-dasharray:4 3}
.line{fill:none;stroke-width:1.6}.c0{stroke:#0969da}.c1{stroke:#bf8700}.c2{stroke:#1a7f37}
.c3{stroke:#8250df}.p99{stroke-dasharray:4 2}
@media (prefers-color-scheme:dark){text{fill:#e6edf3}.dim{fill:#9198a1}.ground{fill:#0d1117}
.grid{stroke:#30363d}.ready{fill:#3fb950;fill-opacity:.35}.fault{fill:#f85149;fill-opacity:.55}
.moment{stroke:#f85149}.broken{stroke:#bc8cff}.c0{stroke:#58a6ff}.c1{stroke:#e3b341}
.c2{stroke:#56d364}.c3{stroke:#bc8cff}}";

/// A run's picture.
pub fn svg(run: &Run) -> String {
    let spec = &run.scenario.spec;
    let end = spec.duration.0.max(Duration::from_secs(1));
    let mut picture = Picture { text: String::new(), end };
    let rows = rows(run);
    let charts_top = TOP + ROW * rows.len() as f64 + 26.0;
    let height = charts_top + chart::HEIGHT * 2.0 + 100.0;
    picture.open(run, height);
    let bottom = height - 52.0;
    picture.time_axis(bottom);
    for (number, row) in rows.iter().enumerate() {
        picture.row(row, TOP + ROW * number as f64);
    }
    let mut left = BARS_MAX;
    for fault in &spec.faults {
        for at in fault.beginnings(spec.duration) {
            if left == 0 {
                break;
            }
            left -= 1;
            picture.fault(fault, at, &rows);
        }
    }
    for judged in run.report.expectations.iter().filter(|judged| !judged.passes()) {
        if let Some(first) = &judged.first {
            picture.broken(first.at, judged.oracle, bottom);
        }
    }
    chart::draw(&mut picture, run, charts_top);
    picture.text.push_str("</svg>\n");
    picture.text
}

/// A host of the picture: when it was ready, and what names it.
struct Row {
    name: String,
    ready: Vec<(Duration, Duration)>,
}

/// The rows: the cluster, the controller, then pods, those that faults name first.
fn rows(run: &Run) -> Vec<Row> {
    let spec = &run.scenario.spec;
    let end = spec.duration.0;
    let named = |pod: &str| {
        let targets = spec.faults.iter().flat_map(|fault| fault.action.targets());
        targets.into_iter().any(|target| target == Target::Pod(pod.to_owned()))
    };
    let mut pods: Vec<&Arc<str>> = run.hosts.values().collect();
    pods.extend(run.entries.presence.keys().filter(|pod| !run.hosts.values().any(|h| h == *pod)));
    pods.retain(|pod| ***pod != *"controller");
    pods.sort_by_key(|pod| (!named(pod), pod.to_string()));
    pods.truncate(ROWS_MAX - 2);
    let fixed =
        ["cluster", "controller"].map(|name| Row { name: name.to_owned(), ready: Vec::new() });
    let pods = pods.into_iter().map(|pod| {
        let mut ready: Vec<(Duration, Duration)> = Vec::new();
        let mut since = None;
        for (at, present) in run.entries.presence.get(pod).into_iter().flatten() {
            let at = at.since(Timestamp::ZERO).min(end);
            match (since, present) {
                (None, true) => since = Some(at),
                (Some(from), false) => {
                    ready.push((from, at));
                    since = None;
                }
                _ => {}
            }
        }
        ready.extend(since.map(|from| (from, end)));
        Row { name: pod.to_string(), ready }
    });
    fixed.into_iter().chain(pods).collect()
}

/// The rows that a fault is drawn on: of its hosts, or of the cluster.
fn rows_of(action: &Action, rows: &[Row]) -> Vec<usize> {
    let find = |fits: &dyn Fn(&str) -> bool| {
        let all = rows.iter().enumerate().skip(1).filter(|(_, row)| fits(&row.name));
        all.map(|(number, _)| number).collect::<Vec<_>>()
    };
    let deployment = |name: &str| {
        find(&|row| {
            row.rsplit_once('-')
                .is_some_and(|(of, _)| of == name || of.starts_with(&format!("{name}-")))
        })
    };
    let mut found: Vec<usize> = Vec::new();
    for target in &action.targets() {
        found.extend(match target {
            Target::Pod(name) => find(&|row| row == name),
            Target::Deployment(name) | Target::PodOf(name, _) => deployment(name),
            Target::Controller(_) => find(&|row| row.starts_with("controller")),
            Target::All | Target::Node(_) | Target::Zone(_) => Vec::new(),
        });
    }
    match action {
        Action::Rollout { deployment: name } | Action::Scale { deployment: name, .. } => {
            found.extend(deployment(name));
        }
        Action::Delete { name, .. } => found.extend(find(&|row| row == name)),
        _ => {}
    }
    found.sort_unstable();
    found.dedup();
    if found.is_empty() { vec![0] } else { found }
}

/// An SVG as it grows.
struct Picture {
    text: String,
    end: Duration,
}

impl Picture {
    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        let _ = writeln!(self.text, "{element}");
    }

    /// Where a moment is.
    fn x(&self, at: Duration) -> f64 {
        let part = (at.as_secs_f64() / self.end.as_secs_f64()).clamp(0.0, 1.0);
        LEFT + part * (WIDTH - LEFT - RIGHT)
    }

    fn open(&mut self, run: &Run, height: f64) {
        let report = &run.report;
        let verdict = if report.passed { "passed" } else { "FAILED" };
        let name = escape(&report.scenario);
        let title = format!("{name}, seed {}: {verdict}", report.seed);
        self.add(format_args!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height:.0}\" \
             width=\"{WIDTH}\" height=\"{height:.0}\" role=\"img\" aria-label=\"{title}\">\n\
             <style>{STYLE}</style>\n<rect class=\"ground\" width=\"100%\" height=\"100%\"/>\n\
             <text class=\"title\" x=\"16\" y=\"26\">{title}</text>"
        ));
        let about = escape(&shortened(&run.scenario.spec.about, 150));
        self.add(format_args!("<text class=\"dim\" x=\"16\" y=\"45\">{about}</text>"));
    }

    fn time_axis(&mut self, bottom: f64) {
        let step = step(self.end);
        let mut at = Duration::ZERO;
        while at <= self.end {
            let (x, seconds) = (self.x(at), at.as_secs_f64());
            self.add(format_args!(
                "<path class=\"grid\" d=\"M{x:.1} {TOP} V{bottom:.1}\"/>\
                 <text class=\"dim\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{seconds} s</text>",
                bottom + 15.0
            ));
            at += step;
        }
    }

    fn row(&mut self, row: &Row, y: f64) {
        let name = escape(&shortened(&row.name, 18));
        self.add(format_args!(
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{name}</text>",
            LEFT - 8.0,
            y + 14.0
        ));
        for (from, to) in &row.ready {
            let (x, width) = (self.x(*from), self.x(*to) - self.x(*from));
            self.add(format_args!(
                "<rect class=\"ready\" x=\"{x:.1}\" y=\"{:.1}\" width=\"{width:.1}\" height=\"6\" \
                 rx=\"2\"><title>{name} is a ready endpoint</title></rect>",
                y + 12.0
            ));
        }
    }

    fn fault(&mut self, fault: &Fault, at: Duration, rows: &[Row]) {
        let words = escape(&fault.action.to_string());
        let short = escape(words.split(' ').next().unwrap_or_default());
        let lasts = match fault.action.is_momentary() {
            true => Duration::ZERO,
            false => fault.lasts.map_or(self.end, |span| span.0),
        };
        let (x, to) = (self.x(at), self.x(at + lasts));
        for number in rows_of(&fault.action, rows) {
            let y = TOP + ROW * number as f64 + 2.0;
            match lasts.is_zero() {
                true => self.add(format_args!(
                    "<path class=\"moment\" d=\"M{x:.1} {y:.1} v15\"><title>{words}</title></path>"
                )),
                false => self.add(format_args!(
                    "<rect class=\"fault\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"11\" \
                     rx=\"2\"><title>{words}</title></rect>",
                    (to - x).max(2.0)
                )),
            }
            // A label where it has room.
            if lasts.is_zero() || to - x > short.len() as f64 * 6.0 {
                let (x, y) = (x + 4.0, y + 9.5);
                self.add(format_args!(
                    "<text class=\"on-bar\" x=\"{x:.1}\" y=\"{y:.1}\">{short}</text>"
                ));
            }
        }
    }

    fn broken(&mut self, at: Timestamp, oracle: &str, bottom: f64) {
        let x = self.x(at.since(Timestamp::ZERO));
        self.add(format_args!(
            "<path class=\"broken\" d=\"M{x:.1} {TOP} V{bottom:.1}\"><title>{oracle}</title></path>\
             <text class=\"dim\" x=\"{x:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{oracle}</text>",
            TOP - 4.0
        ));
    }
}

/// Between two marks of the axis of time: 1, 2 or 5 of something, some ten of them.
fn step(end: Duration) -> Duration {
    let rough = end.as_secs_f64() / 10.0;
    let ten = 10f64.powf(rough.max(0.001).log10().floor());
    let steps = [1.0, 2.0, 5.0, 10.0].map(|n| n * ten);
    let step = steps.into_iter().find(|step| *step >= rough * 0.99).unwrap_or(ten);
    Duration::from_secs_f64(step.max(0.001))
}

fn shortened(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => text.chars().take(most - 1).chain(['…']).collect(),
        false => text.to_owned(),
    }
}

fn escape(text: &str) -> String {
    let plain: BTreeMap<char, &str> =
        [('&', "&amp;"), ('<', "&lt;"), ('>', "&gt;"), ('"', "&quot;")].into();
    let mut escaped = String::with_capacity(text.len());
    for letter in text.chars() {
        match plain.get(&letter) {
            Some(entity) => escaped.push_str(entity),
            None => escaped.push(letter),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_axis_has_some_ten_marks() {
        for seconds in [1, 7, 12, 20, 60, 90, 600, 3_600] {
            let end = Duration::from_secs(seconds);
            let marks = end.as_secs_f64() / step(end).as_secs_f64();
            assert!((4.0..=10.5).contains(&marks), "{seconds} s: {marks}");
        }
    }

    #[test]
    fn text_cannot_leave_its_element() {
        assert_eq!(escape("a<b & \"c\">"), "a&lt;b &amp; &quot;c&quot;&gt;");
        assert_eq!(shortened("a long name", 6), "a lon…");
    }

    #[test]
    fn faults_are_drawn_on_the_rows_of_those_they_are_done_to() {
        let names = ["cluster", "controller", "web-0", "web-5c9f-x2", "webby-0"];
        let rows = names.map(|name| Row { name: name.to_owned(), ready: Vec::new() });
        let of = |target: &str| {
            let target = Target::read(target).expect("a target");
            rows_of(&Action::Restart { target }, &rows)
        };
        assert_eq!(of("web-0"), [2]);
        assert_eq!(of("deployment/web"), [2, 3]);
        assert_eq!(of("controller"), [1]);
        assert_eq!(of("all"), [0]);
        assert_eq!(rows_of(&Action::Relist {}, &rows), [0]);
    }
}
