//! The charts of a run's picture: each workload's success rate and latency over time, in slices.

use std::time::Duration;

use mesh_core::time::Timestamp;

use super::{LEFT, Picture, RIGHT, WIDTH, escape};
use crate::world::run::Run;

/// Of one chart.
pub(super) const HEIGHT: f64 = 110.0;
const GAP: f64 = 30.0;
/// Slices of time.
const SLICES: usize = 100;
/// Workloads drawn; each has a colour.
const WORKLOADS_MAX: usize = 4;

/// What a workload was like in a slice of time.
#[derive(Clone, Debug, Default, PartialEq)]
struct Slice {
    /// The part that succeeded of those that began in it; none where none began.
    success: Option<f64>,
    /// The median and the 99th percentile of the time that successes took, in milliseconds.
    latency: Option<(f64, f64)>,
}

/// Draws both charts below `top`.
pub(super) fn draw(picture: &mut Picture, run: &Run, top: f64) {
    let workloads: Vec<_> = run.scenario.spec.workloads.iter().take(WORKLOADS_MAX).collect();
    let all: Vec<_> = workloads.iter().map(|w| slices(run, &w.name, picture.end)).collect();
    let slowest =
        all.iter().flatten().filter_map(|slice| Some(slice.latency?.1)).fold(1.0, f64::max);
    let second = top + HEIGHT + GAP;
    frame(picture, top, "succeeded", "100 %", "0");
    frame(picture, second, "latency", &milliseconds(slowest), "0");
    for (colour, slices) in all.iter().enumerate() {
        let success = points(slices, |slice| slice.success);
        line(picture, top, &success, &format!("c{colour}"));
        let median = points(slices, |slice| Some(slice.latency?.0 / slowest));
        line(picture, second, &median, &format!("c{colour}"));
        let p99 = points(slices, |slice| Some(slice.latency?.1 / slowest));
        line(picture, second, &p99, &format!("c{colour} p99"));
    }
    let mut x = LEFT;
    let y = second + HEIGHT + 54.0;
    for (colour, workload) in workloads.iter().enumerate() {
        let name = escape(&workload.name);
        picture.add(format_args!(
            "<path class=\"line c{colour}\" d=\"M{x:.1} {:.1} h18\"/>\
             <text x=\"{:.1}\" y=\"{y:.1}\">{name}</text>",
            y - 4.0,
            x + 24.0
        ));
        x += 44.0 + name.len() as f64 * 7.0;
    }
    picture.add(format_args!(
        "<text class=\"dim\" x=\"{x:.1}\" y=\"{y:.1}\">latency: median, and p99 dashed</text>"
    ));
}

fn slices(run: &Run, workload: &str, end: Duration) -> Vec<Slice> {
    let mut counts = vec![(0u32, 0u32); SLICES];
    let mut times: Vec<Vec<Duration>> = vec![Vec::new(); SLICES];
    for request in run.entries.requests.iter().filter(|request| *request.workload == *workload) {
        let part = request.began.since(Timestamp::ZERO).as_secs_f64() / end.as_secs_f64();
        let slice = ((part * SLICES as f64) as usize).min(SLICES - 1);
        counts[slice].0 += 1;
        if let Some(time) = request.latency().filter(|_| request.succeeded()) {
            counts[slice].1 += 1;
            times[slice].push(time);
        }
    }
    let slice = |((all, good), mut times): ((u32, u32), Vec<Duration>)| {
        times.sort_unstable();
        let millis = |quantile: f64| {
            let rank = (quantile * times.len() as f64).ceil() as usize;
            Some(times.get(rank.saturating_sub(1))?.as_secs_f64() * 1e3)
        };
        Slice {
            success: (all > 0).then(|| f64::from(good) / f64::from(all)),
            latency: millis(0.5).zip(millis(0.99)),
        }
    };
    counts.into_iter().zip(times).map(slice).collect()
}

/// The middle of each slice that has a value, as parts of the width, in stretches without a gap.
fn points(slices: &[Slice], value: impl Fn(&Slice) -> Option<f64>) -> Vec<(f64, f64)> {
    let part = |number: usize| (number as f64 + 0.5) / slices.len() as f64;
    let all = slices.iter().enumerate();
    all.filter_map(|(number, slice)| Some((part(number), value(slice)?))).collect()
}

fn frame(picture: &mut Picture, top: f64, title: &str, most: &str, least: &str) {
    let (bottom, right, x) = (top + HEIGHT, WIDTH - RIGHT, LEFT - 8.0);
    picture.add(format_args!(
        "<path class=\"grid\" fill=\"none\" d=\"M{LEFT} {top:.1} H{right} M{LEFT} {bottom:.1} H{right}\"/>\
         <text x=\"{x}\" y=\"{:.1}\" text-anchor=\"end\">{title}</text>\
         <text class=\"dim\" x=\"{x}\" y=\"{:.1}\" text-anchor=\"end\">{most}</text>\
         <text class=\"dim\" x=\"{x}\" y=\"{bottom:.1}\" text-anchor=\"end\">{least}</text>",
        top + HEIGHT / 2.0,
        top + 5.0,
    ));
}

fn line(picture: &mut Picture, top: f64, points: &[(f64, f64)], class: &str) {
    let place = |(x, y): &(f64, f64)| {
        let x = LEFT + x * (WIDTH - LEFT - RIGHT);
        format!("{x:.1},{:.1}", top + HEIGHT * (1.0 - y.clamp(0.0, 1.0)))
    };
    let points: Vec<_> = points.iter().map(place).collect();
    if !points.is_empty() {
        let points = points.join(" ");
        picture.add(format_args!("<polyline class=\"line {class}\" points=\"{points}\"/>"));
    }
}

fn milliseconds(millis: f64) -> String {
    match millis {
        1_000.0.. => format!("{:.1} s", millis / 1e3),
        10.0.. => format!("{millis:.0} ms"),
        _ => format!("{millis:.1} ms"),
    }
}
