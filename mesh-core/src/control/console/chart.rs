//! Small charts as SVG: a line of the last minutes, a history with its scale, a bar. Pure: points
//! in, markup out. What a chart shows is said in words too.

use super::html::{Element, Html, el};

/// Points over a span of time, oldest first; none where nothing was known.
pub(crate) type Series = Vec<Option<f64>>;

/// A line of a history.
#[derive(Clone, Debug)]
pub(crate) struct Line {
    /// Its class, by which it has its color and its dashes.
    pub(crate) class: &'static str,
    /// Its points.
    pub(crate) points: Series,
}

/// What a history shows beside its lines.
#[derive(Clone, Debug)]
pub(crate) struct Scale {
    /// The least at the bottom.
    pub(crate) min: f64,
    /// At least this at the top.
    pub(crate) max: f64,
    /// Words for a value.
    pub(crate) label: fn(Option<f64>) -> String,
    /// How long the whole is, as words: `10 min`.
    pub(crate) span: String,
}

const SPARK_WIDTH: f64 = 96.0;
const SPARK_HEIGHT: f64 = 22.0;
const WIDTH: f64 = 320.0;
const HEIGHT: f64 = 88.0;

/// A line of the last minutes, for tables. `what` says what it shows.
pub(crate) fn spark(points: &[Option<f64>], what: &str) -> Html {
    let known: Vec<f64> = points.iter().flatten().copied().filter(|v| v.is_finite()).collect();
    let max = known.iter().copied().fold(0.0, f64::max);
    let (Some(last), true) = (known.last(), known.len() > 1) else {
        return el("span").class("muted").attr("aria-label", "no history").text("\u{2013}").into();
    };
    let top = if max > 0.0 { max } else { 1.0 };
    let place = Place { width: SPARK_WIDTH, height: SPARK_HEIGHT, min: 0.0, max: top, pad: 2.0 };
    let end = points.iter().rposition(Option::is_some).unwrap_or_default();
    let (x, y) = place.of(end, points.len(), *last);
    svg(SPARK_WIDTH, SPARK_HEIGHT, "spark", what)
        .children(place.areas(points).into_iter().map(|d| el("path").class("area").attr("d", d)))
        .children(place.lines(points).into_iter().map(|d| el("path").class("line").attr("d", d)))
        .child(el("circle").attr("cx", short(x)).attr("cy", short(y)).attr("r", "1.8"))
        .into()
}

/// A history of one or several lines with its scale. `what` says what it shows.
pub(crate) fn history(lines: &[Line], scale: &Scale, what: &str) -> Html {
    let known = lines.iter().flat_map(|line| &line.points).flatten().copied();
    let highest = known.filter(|value| value.is_finite()).fold(scale.max, f64::max);
    let top = nice_above(scale.min, highest);
    let place = Place { width: WIDTH, height: HEIGHT, min: scale.min, max: top, pad: 3.0 };
    let middle = scale.min + (top - scale.min) / 2.0;
    let rule = |value: f64| {
        let (_, y) = place.of(0, 2, value);
        el("line")
            .class("rule")
            .attr("x1", "0")
            .attr("x2", short(WIDTH))
            .attr("y1", short(y))
            .attr("y2", short(y))
    };
    let first = lines.first().filter(|_| lines.len() == 1);
    let areas = first.map(|line| place.areas(&line.points)).unwrap_or_default();
    let drawing = svg(WIDTH, HEIGHT, "chart", what)
        .attr("preserveAspectRatio", "none")
        .children([scale.min, middle, top].map(rule))
        .children(areas.into_iter().map(|d| el("path").class("area").attr("d", d)))
        .children(lines.iter().flat_map(|line| {
            let class = format!("line {}", line.class);
            let paths = place.lines(&line.points).into_iter();
            paths.map(move |d| el("path").class(&class).attr("d", d))
        }));
    let label = |value, class| el("span").class(class).text((scale.label)(Some(value)));
    let is_empty = lines.iter().all(|line| line.points.iter().flatten().count() < 2);
    el("div")
        .class("history")
        .child(
            el("div")
                .class("scale")
                .attr("aria-hidden", "true")
                .child(label(top, "top"))
                .child(label(scale.min, "bottom")),
        )
        .child(drawing)
        .child(is_empty.then(|| el("p").class("empty-chart").text("no history yet")))
        .child(
            el("div")
                .class("span")
                .attr("aria-hidden", "true")
                .child(el("span").text(format!("{} ago", scale.span)))
                .child(el("span").text("now")),
        )
        .into()
}

/// A bar of which a share is full.
pub(crate) fn bar(share: f64, class: &str) -> Html {
    let share = if share.is_finite() { share.clamp(0.0, 1.0) } else { 0.0 };
    let full = |class: &str, width: f64| {
        el("rect").class(class).attr("width", short(width)).attr("height", "4").attr("rx", "2")
    };
    el("svg")
        .class(format!("bar {class}"))
        .attr("viewBox", "0 0 100 4")
        .attr("preserveAspectRatio", "none")
        .attr("aria-hidden", "true")
        .child(full("track", 100.0))
        .child(full("full", share * 100.0))
        .into()
}

/// A drawing that is said in words.
pub(crate) fn svg(width: f64, height: f64, class: &str, what: &str) -> Element {
    el("svg")
        .class(class)
        .attr("viewBox", format!("0 0 {} {}", short(width), short(height)))
        .attr("role", "img")
        .attr("aria-label", what)
}

/// A number as paths have it: a tenth is as fine as a screen.
pub(crate) fn short(number: f64) -> String {
    let text = format!("{number:.1}");
    text.strip_suffix(".0").map(str::to_string).unwrap_or(text)
}

/// Where points are drawn.
struct Place {
    width: f64,
    height: f64,
    min: f64,
    max: f64,
    pad: f64,
}

impl Place {
    fn of(&self, index: usize, points: usize, value: f64) -> (f64, f64) {
        let inner = self.height - 2.0 * self.pad;
        let share = (value - self.min) / (self.max - self.min).max(f64::EPSILON);
        let step = (self.width - 2.0 * self.pad) / (points.max(2) - 1) as f64;
        let y = self.height - self.pad - share.clamp(0.0, 1.0) * inner;
        (self.pad + index as f64 * step, y)
    }

    /// Runs of known points, each with where it begins.
    fn runs(points: &[Option<f64>]) -> Vec<Vec<(usize, f64)>> {
        let mut runs = vec![Vec::new()];
        for (index, point) in points.iter().enumerate() {
            match point.filter(|value| value.is_finite()) {
                Some(value) => runs.last_mut().expect("it is never empty").push((index, value)),
                None if runs.last().is_some_and(|run| !run.is_empty()) => runs.push(Vec::new()),
                None => {}
            }
        }
        runs.retain(|run| !run.is_empty());
        runs
    }

    fn lines(&self, points: &[Option<f64>]) -> Vec<String> {
        let runs = Self::runs(points);
        runs.iter().map(|run| self.line(run, points.len())).collect()
    }

    fn line(&self, run: &[(usize, f64)], points: usize) -> String {
        let mut path = String::new();
        for (place, (index, value)) in run.iter().enumerate() {
            let (x, y) = self.of(*index, points, *value);
            path.push_str(if place == 0 { "M" } else { "L" });
            path.push_str(&format!("{} {}", short(x), short(y)));
        }
        if run.len() == 1 {
            path.push_str("h0.1");
        }
        path
    }

    fn areas(&self, points: &[Option<f64>]) -> Vec<String> {
        let runs = Self::runs(points);
        let area = |run: &Vec<(usize, f64)>| {
            let (first, last) = (run.first()?.0, run.last()?.0);
            let (from, _) = self.of(first, points.len(), 0.0);
            let (to, _) = self.of(last, points.len(), 0.0);
            let bottom = short(self.height);
            let line = self.line(run, points.len());
            Some(format!("{line}L{} {bottom}L{} {bottom}Z", short(to), short(from)))
        };
        runs.iter().filter_map(area).collect()
    }
}

/// A round number that is no less than `value`, above `min`.
fn nice_above(min: f64, value: f64) -> f64 {
    let span = (value - min).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(span.log10().floor());
    let steps = [1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0];
    let step = steps.iter().find(|step| **step * power >= span * 0.999_999);
    min + step.unwrap_or(&10.0) * power
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_in_what_is_known_is_a_gap_in_the_line() {
        let points = [Some(1.0), Some(2.0), None, Some(4.0), Some(f64::NAN), Some(3.0)];
        let html = spark(&points, "requests").into_string();
        assert_eq!(html.matches("class=\"line\"").count(), 3);
        assert!(!html.contains("NaN"));
    }

    #[test]
    fn a_line_of_one_point_is_no_line() {
        assert!(spark(&[Some(1.0)], "x").as_str().contains("no history"));
        assert!(spark(&[], "x").as_str().contains("no history"));
    }

    #[test]
    fn scales_end_at_round_numbers() {
        assert_eq!(nice_above(0.0, 51.3), 60.0);
        assert_eq!(nice_above(0.0, 1.0), 1.0);
        assert_eq!(nice_above(0.0, 7.2), 8.0);
        assert!((nice_above(0.9, 1.0) - 1.0).abs() < 1e-9);
    }

    #[test]
    fn a_history_says_what_it_shows() {
        let line = Line { class: "a", points: vec![Some(1.0), Some(3.0)] };
        let scale = Scale {
            min: 0.0,
            max: 1.0,
            label: super::super::format::rate,
            span: "10 min".to_string(),
        };
        insta::assert_snapshot!(
            history(&[line], &scale, "requests a second").as_str(),
            @r#"<div class="history"><div class="scale" aria-hidden="true"><span class="top">3.0</span><span class="bottom">0</span></div><svg class="chart" viewBox="0 0 320 88" role="img" aria-label="requests a second" preserveAspectRatio="none"><line class="rule" x1="0" x2="320" y1="85" y2="85"></line><line class="rule" x1="0" x2="320" y1="44" y2="44"></line><line class="rule" x1="0" x2="320" y1="3" y2="3"></line><path class="area" d="M3 57.7L317 3L317 88L3 88Z"></path><path class="line a" d="M3 57.7L317 3"></path></svg><div class="span" aria-hidden="true"><span>10 min ago</span><span>now</span></div></div>"#
        );
    }
}
