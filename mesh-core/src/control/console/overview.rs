//! The mesh at a glance: golden figures with their history, what is worst, and what should be seen
//! to. Pure: data in, a page out.

use std::time::Duration;

use crate::control::public_api::check::{CheckRow, CheckState};

use super::chart::{self, Scale, Series};
use super::figures::{self, Figures, HTTP, Line, Sort, Window};
use super::format;
use super::graph::State;
use super::html::{Html, el};
use super::link::{Asked, Link};
use super::shell::{self, Page, Section};
use super::table::{Column, Row, Table, number, words};
use super::workloads;

/// How many of the worst are shown.
const WORST: usize = 8;
/// How many namespaces are shown.
const NAMESPACES: usize = 12;

/// Histories of the golden figures.
#[derive(Clone, Debug, Default)]
pub(crate) struct Histories {
    /// How far they go back.
    pub(crate) span: Duration,
    /// Success rates.
    pub(crate) success: Series,
    /// Requests a second.
    pub(crate) rps: Series,
    /// Latencies, in milliseconds.
    pub(crate) p50: Series,
    /// The same.
    pub(crate) p95: Series,
    /// The same.
    pub(crate) p99: Series,
    /// Bytes a second.
    pub(crate) read: Series,
    /// The same.
    pub(crate) written: Series,
}

/// Something that the control plane found out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    /// How bad it is.
    pub(crate) state: State,
    /// What was looked at.
    pub(crate) title: String,
    /// What was found.
    pub(crate) text: String,
    /// Where more of it is said.
    pub(crate) link: Option<Link>,
}

impl From<Finding> for CheckRow {
    fn from(Finding { state, title, text, .. }: Finding) -> Self {
        let state = match state {
            State::None | State::Good => CheckState::Good,
            State::Warn => CheckState::Warning,
            State::Bad => CheckState::Bad,
        };
        Self { title, state, text }
    }
}

/// What the page is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Of the whole mesh.
    pub(crate) figures: Figures,
    /// Of the whole mesh.
    pub(crate) histories: Histories,
    /// Workloads.
    pub(crate) lines: Vec<Line>,
    /// Namespaces.
    pub(crate) namespaces: Vec<Line>,
    /// Instances with a proxy, and all.
    pub(crate) meshed: (usize, usize),
    /// Calls with mutual TLS, and all.
    pub(crate) secured: (usize, usize),
    /// What should be known.
    pub(crate) findings: Vec<Finding>,
    /// What could not be had.
    pub(crate) troubles: Vec<String>,
}

/// The page.
pub(crate) fn page(asked: &Asked, view: View) -> Page {
    let window = Window::asked(asked);
    let mut page = Page::new(Section::Overview, "Mesh at a glance");
    page.controls = shell::filters(&Link::to("/"), asked, &[], [window.select()]);
    page.commands = vec![shell::command(["stat", "namespace", "-t", window.name(), "--unmeshed"])];
    let state = Html::all([workloads::troubles(&view.troubles), state_card(&view)]);
    page.part("state", state)
        .part("golden", golden(&view.figures, &view.histories))
        .part("worst", worst(view.lines, asked))
        .part("namespaces", namespaces(view.namespaces))
}

fn state_card(view: &View) -> Html {
    let (meshed, instances) = view.meshed;
    let (secured, calls) = view.secured;
    let share = |part: usize, all: usize| if part == all { State::Good } else { State::Warn };
    let fact = |title: &str, sign: Html, link: Link| {
        el("div").child(el("dt").text(title)).child(el("dd").child(el("a").href(&link).child(sign)))
    };
    let worst = view.findings.iter().map(|finding| finding.state).max();
    let found = view.findings.iter().filter(|finding| finding.state > State::Good).count();
    let health = match (worst, found) {
        (_, 0) => shell::sign(State::Good, "all checks hold"),
        (worst, found) => {
            let text = format::plural(found, "thing to see to", "things to see to");
            shell::sign(worst.unwrap_or(State::Warn), text)
        }
    };
    let mesh = match instances {
        0 => shell::sign(State::None, "no instances"),
        _ => shell::sign(share(meshed, instances), format!("{meshed} of {instances} instances")),
    };
    let tls = match calls {
        0 => shell::sign(State::None, "no traffic"),
        _ => shell::sign(share(secured, calls), format!("{secured} of {calls} edges")),
    };
    let strip = el("dl")
        .class("strip")
        .child(fact("Meshed", mesh, Link::to("/workloads").query("meshed", "no")))
        .child(fact("Mutual TLS", tls, Section::Edges.link()))
        .child(fact("Control plane", health, Section::Health.link()));
    let bad = view.findings.iter().filter(|finding| finding.state > State::Good);
    let notices = bad.map(|finding| {
        let class = if finding.state == State::Bad { "bad" } else { "" };
        let text = el("span")
            .child(shell::sign(finding.state, &finding.title))
            .text(": ")
            .text(&finding.text)
            .text(" ")
            .child(finding.link.as_ref().map(|link| el("a").href(link).text("Look")));
        shell::notice(class, text)
    });
    Html::all(
        [Html::from(el("section").class("card").attr("aria-label", "State").child(strip))]
            .into_iter()
            .chain(notices),
    )
}

/// Tiles of the golden figures with their histories.
pub(crate) fn golden(figures: &Figures, histories: &Histories) -> Html {
    let span = format::duration(histories.span);
    let line = |class, points: &Series| chart::Line { class, points: points.clone() };
    let scale = |min, max, label| Scale { min, max, label, span: span.clone() };
    let lowest = histories.success.iter().flatten().copied().fold(1.0, f64::min);
    // A tenth of a percent is to be seen, and so is a collapse.
    let floor = [0.999, 0.99, 0.9, 0.5].into_iter().find(|floor| *floor <= lowest).unwrap_or(0.0);
    let said = |what: &str, now: String| format!("{what} over the last {span}; now {now}");
    let success = chart::history(
        &[line("a", &histories.success)],
        &scale(floor, 1.0, format::percent),
        &said("Success rate", format::percent(figures.success)),
    );
    let rps = chart::history(
        &[line("a", &histories.rps)],
        &scale(0.0, 1.0, format::rate),
        &said("Requests a second", format::rate(figures.rps)),
    );
    let latency = chart::history(
        &[line("p50", &histories.p50), line("p95", &histories.p95), line("p99", &histories.p99)],
        &scale(0.0, 1.0, format::millis),
        &said("Latency", format!("P99 {}", format::millis(figures.p99))),
    );
    let traffic = chart::history(
        &[line("in", &histories.read), line("out", &histories.written)],
        &scale(0.0, 1_000.0, format::bytes_rate),
        &said("Bytes a second", format::bytes_rate(figures.read)),
    );
    let sign = figures.success.map(|_| {
        let state = State::of_success(figures.success);
        el("span")
            .class(format!("{} figure-sign", state.class()))
            .attr("aria-hidden", "true")
            .text(state.shape())
    });
    let tile = |title: &str, figure: Html, note: Html, chart: Html| {
        el("section")
            .class("tile")
            .child(el("h2").text(title))
            .child(el("p").class("figure").child(figure))
            .child(el("p").class("note").child(note))
            .child(chart)
    };
    let small = |text: &str| el("small").text(text);
    let connections = figures.connections.map_or(0.0, |open| open.max(0.0));
    el("div")
        .class("tiles")
        .child(tile(
            "Success rate",
            Html::all([Html::from(sign), Html::text(format::percent(figures.success))]),
            Html::text("of requests, as servers saw them"),
            success,
        ))
        .child(tile(
            "Requests",
            Html::all([Html::text(format::rate(figures.rps)), small("a second").into()]),
            Html::text("taken by meshed servers"),
            rps,
        ))
        .child(tile(
            "Latency",
            Html::all([Html::text(format::millis(figures.p99)), small("P99").into()]),
            legend(&[
                ("p50", format!("P50 {}", format::millis(figures.p50))),
                ("p95", format!("P95 {}", format::millis(figures.p95))),
                ("p99", "P99".to_string()),
            ]),
            latency,
        ))
        .child(tile(
            "Connections",
            Html::all([Html::text(format::count(connections as u64)), small("open").into()]),
            legend(&[
                ("in", format!("read {}", format::bytes_rate(figures.read))),
                ("out", format!("written {}", format::bytes_rate(figures.written))),
            ]),
            traffic,
        ))
        .into()
}

fn legend(lines: &[(&'static str, String)]) -> Html {
    let item = |(class, text): &(&'static str, String)| {
        el("span")
            .child(
                el("svg")
                    .attr("viewBox", "0 0 28 8")
                    .attr("aria-hidden", "true")
                    .child(el("path").class(format!("line {class}")).attr("d", "M1 4H27")),
            )
            .text(text)
    };
    el("span").class("legend").children(lines.iter().map(item)).into()
}

fn worst(lines: Vec<Line>, asked: &Asked) -> Html {
    let mut busy: Vec<Line> =
        lines.into_iter().filter(|line| line.figures.success.is_some()).collect();
    let all = busy.len();
    let order = super::table::Order { key: "success".to_string(), is_descending: false };
    super::table::sort(&mut busy, &order, |line, column| line.figures.key(column));
    busy.truncate(WORST);
    let mut columns: Vec<Column> = vec![words("", "Workload"), number("", "Meshed")];
    columns.extend(HTTP.map(|column| Column { key: "", ..column }));
    let rows = busy.iter().map(|line| workloads::row(line, Sort::Http, true, true)).collect();
    let note = if all > WORST { format!("{WORST} of {all}") } else { String::new() };
    let table = Table {
        id: "worst-table",
        caption: "Workloads, worst first".to_string(),
        note,
        columns: &columns,
        rows,
        order: None,
        paging: None,
        empty: Html::text(
            "No workload has had requests in this time. Those that have a proxy are listed under \
             Workloads all the same.",
        ),
    };
    let more = asked.keep(Link::to("/workloads"), &["t"]);
    let more = el("p").child(el("a").href(&more).text("All workloads"));
    Html::all([table.render(), more.into()])
}

fn namespaces(mut lines: Vec<Line>) -> Html {
    let all = lines.len();
    let order = super::table::Order { key: "rps".to_string(), is_descending: true };
    super::table::sort(&mut lines, &order, |line, column| line.figures.key(column));
    lines.truncate(NAMESPACES);
    let mut columns: Vec<Column> = vec![words("", "Namespace"), number("", "Meshed")];
    columns.extend(HTTP.map(|column| Column { key: "", ..column }));
    let rows = lines.iter().map(|line| {
        let mut cells =
            vec![figures::named(&line.name, false, false), figures::meshed(line.meshed)];
        cells.extend(Sort::Http.cells(&line.figures, &line.history));
        Row { key: line.name.name.clone(), cells }
    });
    let table = Table {
        id: "namespace-table",
        caption: "Namespaces, busiest first".to_string(),
        note: if all > NAMESPACES { format!("{NAMESPACES} of {all}") } else { String::new() },
        columns: &columns,
        rows: rows.collect(),
        order: None,
        paging: None,
        empty: Html::text("There is no namespace."),
    };
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mesh_without_anything_says_so() {
        let page = page(&Asked::default(), View::default());
        let html = page.render("linkerd");
        for text in ["no instances", "no traffic", "all checks hold", "no history yet"] {
            assert!(html.contains(text), "{text}");
        }
    }

    #[test]
    fn what_is_wrong_stands_at_the_top() {
        let finding = Finding {
            state: State::Bad,
            title: "Issuer".to_string(),
            text: "expired <yesterday>".to_string(),
            link: Some(Section::Certificates.link()),
        };
        let view = View { findings: vec![finding], ..View::default() };
        let html = state_card(&view).into_string();
        assert!(html.contains("1 thing to see to"));
        assert!(html.contains("expired &lt;yesterday&gt;"));
    }
}
