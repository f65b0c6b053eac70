//! One workload: who calls it, what it is doing, whom it calls; its routes, instances and
//! authorizations. Pure: data in, a page out.

use super::edges;
use super::figures::{self, Call, Figures, HTTP, Line, Window};
use super::format;
use super::graph::{self, Node, State};
use super::html::{Html, el};
use super::inventory::{Name, Workload};
use super::link::{Asked, Link};
use super::overview::{self, Histories};
use super::routes::{self, Routes};
use super::shell::{self, Page, Section};
use super::table::{Column, Row, Table, number, words};
use super::workloads;

/// How many callers, and how many called, a drawing has.
const NEIGHBOURS_MAX: usize = 12;

/// What the page is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// What it is.
    pub(crate) name: Name,
    /// What the index says of it; nothing of services.
    pub(crate) workload: Option<Workload>,
    /// What it did.
    pub(crate) figures: Figures,
    /// What it did before.
    pub(crate) histories: Histories,
    /// Calls to it and by it.
    pub(crate) calls: Vec<Call>,
    /// Its routes.
    pub(crate) routes: Routes,
    /// What its instances did, by their names.
    pub(crate) instances: Vec<Line>,
    /// What could not be had.
    pub(crate) troubles: Vec<String>,
}

/// The page.
pub(crate) fn page(asked: &Asked, view: View) -> Page {
    let window = Window::asked(asked);
    let Name { namespace, kind, name } = &view.name;
    let mut page = Page::new(Section::Workloads, name.clone());
    let of_kind = Link::to("/workloads").query("namespace", namespace).query("kind", kind);
    page.above = vec![
        (namespace.clone(), Link::to("/namespaces").segment(namespace)),
        (workloads::plural_of(kind), of_kind),
    ];
    page.lead = lead(&view);
    let resource = view.name.of_command();
    page.commands = commands(&view, &resource, window);
    let side = if kind == "service" { "to" } else { "from" };
    let links = [
        ("Tap", Link::to("/tap").query("resource", &resource).query("namespace", namespace)),
        ("Top", Link::to("/top").query("resource", &resource).query("namespace", namespace)),
        (
            "Authorities",
            Link::to("/authorities").query(side, &resource).query("namespace", namespace),
        ),
        (
            "Who may call it",
            Link::to("/policy").query("to", &resource).query("namespace", namespace),
        ),
    ];
    let links = links.map(|(title, link)| el("a").class("button").href(&link).text(title));
    page.controls = el("div")
        .class("bar-row")
        .child(shell::filters(&view.name.link(), asked, &[], [window.select()]))
        .child(el("nav").class("links").attr("aria-label", "Of this workload").children(links))
        .into();
    let tables = [
        neighbours("inbound-table", "Inbound: who calls it", &view, true),
        neighbours("outbound-table", "Outbound: whom it calls", &view, false),
        routes::tables(&view.routes),
        edges::table("Edges", &view.calls, None),
        instances(&view),
    ];
    page.part("troubles", workloads::troubles(&view.troubles))
        .part("golden", overview::golden(&view.figures, &view.histories))
        .part("graph", shell::card("Calls", "Dashed lines have no mutual TLS.", graph(&view)))
        .part("tables", Html::all(tables))
}

/// One for its figures, and where it has proxies those for its edges and routes.
fn commands(view: &View, resource: &str, window: Window) -> Vec<String> {
    let of = |verb| [verb, resource, "-n", &view.name.namespace, "-t", window.name()];
    let Some(workload) = &view.workload else { return vec![shell::command(of("stat"))] };
    let unmeshed = (workload.meshed == 0).then_some("--unmeshed");
    let stat = shell::command(of("stat").into_iter().chain(unmeshed));
    let others = ["edges", "stat-inbound", "stat-outbound"].map(|verb| shell::command(of(verb)));
    let others = others.into_iter().filter(|_| workload.meshed > 0);
    [stat].into_iter().chain(others).collect()
}

fn lead(view: &View) -> String {
    let Some(workload) = &view.workload else { return String::new() };
    let Workload { instances, meshed, accounts, .. } = workload;
    if *instances == 0 {
        return "No instance: it is scaled to zero, or its instances have ended.".to_string();
    }
    let accounts: Vec<&str> = accounts.iter().map(String::as_str).collect();
    format!(
        "{}, {meshed} with a proxy. Service account {}.",
        format::plural(*instances, "instance", "instances"),
        accounts.join(", ")
    )
}

fn graph(view: &View) -> Html {
    let node = |name: &Name, figures: &Figures, is_self: bool| Node {
        title: name.name.clone(),
        note: match name.namespace == view.name.namespace {
            true => name.kind.clone(),
            false => format!("{} in {}", name.kind, name.namespace),
        },
        figures: figures.short(),
        state: State::of_success(figures.success),
        link: (!is_self).then(|| name.link()),
        is_self,
    };
    let mut nodes = vec![node(&view.name, &view.figures, true)];
    let mut edges = Vec::new();
    let mut left_out = 0;
    for is_caller in [true, false] {
        let mut calls: Vec<&Call> =
            view.calls.iter().filter(|call| is_of(call, view, is_caller)).collect();
        calls.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
        left_out += calls.len().saturating_sub(NEIGHBOURS_MAX);
        for call in calls.into_iter().take(NEIGHBOURS_MAX) {
            let other = if is_caller { &call.from } else { &call.to };
            nodes.push(node(other, &call.figures, false));
            let there = nodes.len() - 1;
            let (from, to) = if is_caller { (there, 0) } else { (0, there) };
            edges.push(edges::drawn(call, from, to));
        }
    }
    if edges.is_empty() {
        let text = "Nobody called it and it called nobody, as far as proxies saw in this time.";
        return el("p").class("muted").text(text).into();
    }
    let what =
        format!("Who calls {} and whom it calls; the tables below say the same", view.name.name);
    let drawing = graph::render(&nodes, &edges, &what);
    let note = (left_out > 0).then(|| {
        el("p").class("muted").text(format!("{left_out} less busy ones are in the tables alone."))
    });
    Html::all([drawing, note.into()])
}

fn weight(call: &Call) -> f64 {
    call.figures.rps.unwrap_or(0.0) + call.figures.connections.unwrap_or(0.0) * 1e-3
}

fn is_of(call: &Call, view: &View, is_caller: bool) -> bool {
    let (one, other) = match is_caller {
        true => (&call.to, &call.from),
        false => (&call.from, &call.to),
    };
    *one == view.name && *other != view.name && !other.name.is_empty()
}

fn neighbours(id: &'static str, caption: &str, view: &View, is_caller: bool) -> Html {
    let mut columns: Vec<Column> = vec![words("", "Name")];
    columns.extend(HTTP.into_iter().filter(|column| !column.title.starts_with("Last")));
    columns.push(number("", "Connections"));
    let columns: Vec<Column> =
        columns.into_iter().map(|column| Column { key: "", ..column }).collect();
    let mut calls: Vec<&Call> =
        view.calls.iter().filter(|call| is_of(call, view, is_caller)).collect();
    calls.sort_by(|a, b| weight(b).total_cmp(&weight(a)));
    let rows = calls.into_iter().map(|call| {
        let other = if is_caller { &call.from } else { &call.to };
        let Figures { success, rps, p50, p95, p99, connections, .. } = &call.figures;
        let cells = vec![
            figures::named(other, true, other.namespace != view.name.namespace),
            figures::success(*success),
            Html::text(format::rate(*rps)),
            Html::text(format::millis(*p50)),
            Html::text(format::millis(*p95)),
            Html::text(format::millis(*p99)),
            Html::text(connections.map_or(format::NONE.to_string(), |open| format!("{open:.0}"))),
        ];
        Row { key: format!("{}/{}", other.namespace, other.of_command()), cells }
    });
    let empty = match is_caller {
        true => "No meshed workload called it in this time.",
        false => "It called nobody in this time.",
    };
    let table = Table {
        id,
        caption: caption.to_string(),
        note: String::new(),
        columns: &columns,
        rows: rows.collect(),
        order: None,
        paging: None,
        empty: Html::text(empty),
    };
    table.render()
}

fn instances(view: &View) -> Html {
    let Some(workload) = &view.workload else { return Html::default() };
    let columns = [
        words("", "Instance"),
        words("", "Proxy"),
        words("", "Status"),
        words("", "Address"),
        number("", "Success"),
        number("", "RPS"),
        number("", "P99"),
        number("", "Connections"),
    ];
    let none = Figures::default();
    let rows = workload.members.iter().map(|(name, member)| {
        let found = view.instances.iter().find(|line| line.name.name == *name);
        let figures = found.map_or(&none, |line| &line.figures);
        let of = Name::new(&view.name.namespace, "pod", name);
        let proxy = match member.is_meshed {
            true => shell::sign(State::Good, "meshed"),
            false => shell::sign(State::None, "none"),
        };
        let cells = vec![
            figures::named(&of, false, false),
            proxy,
            Html::text(&member.phase),
            el("span").class("mono").text(&member.address).into(),
            figures::success(figures.success),
            Html::text(format::rate(figures.rps)),
            Html::text(format::millis(figures.p99)),
            Html::text(
                figures.connections.map_or(format::NONE.to_string(), |open| format!("{open:.0}")),
            ),
        ];
        Row { key: name.clone(), cells }
    });
    let table = Table {
        id: "instance-table",
        caption: "Instances".to_string(),
        note: workload.members.len().to_string(),
        columns: &columns,
        rows: rows.take(super::table::PAGE_ROWS * 4).collect(),
        order: None,
        paging: None,
        empty: Html::text("There is no instance."),
    };
    table.render()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn upstream_and_downstream_are_told_apart() {
        let (web, api, load) = (
            Name::new("demo", "deployment", "web"),
            Name::new("demo", "deployment", "api"),
            Name::new("demo", "deployment", "load"),
        );
        let call =
            |from: &Name, to: &Name| Call { from: from.clone(), to: to.clone(), ..Call::default() };
        let view = View {
            name: web.clone(),
            calls: vec![call(&load, &web), call(&web, &api), call(&load, &api)],
            ..View::default()
        };
        let inbound = neighbours("t", "Inbound", &view, true).into_string();
        assert!(inbound.contains("deployment/load") && !inbound.contains("deployment/api"));
        let outbound = neighbours("t", "Outbound", &view, false).into_string();
        assert!(outbound.contains("deployment/api") && !outbound.contains("deployment/load"));
        let drawing = graph(&view).into_string();
        assert_eq!(drawing.matches("class=\"title\"").count(), 3);
    }
}
