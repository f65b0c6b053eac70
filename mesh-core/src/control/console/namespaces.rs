//! Namespaces: all of them, and one with everything in it. Pure: lines in, a page out.

use std::collections::BTreeMap;

use super::figures::{self, HTTP, Line, Sort, Window};
use super::format;
use super::html::{Html, el};
use super::inventory::KINDS;
use super::link::{Asked, Link};
use super::overview::{self, Histories};
use super::shell::{self, Page, Section};
use super::table::{self, Column, Key, Order, Paging, Row, Table, number, words};
use super::workloads;

/// The page of all namespaces.
pub(crate) fn page(asked: &Asked, mut lines: Vec<Line>, troubles: &[String]) -> Page {
    let window = Window::asked(asked);
    let mut page = Page::new(Section::Namespaces, "Namespaces");
    page.lead = "Requests that the workloads of each namespace took.".to_string();
    let form = shell::filters(
        &Link::to("/namespaces"),
        asked,
        &["sort"],
        [shell::field("search", "q", "Name", asked.value("q"), "Part of a name"), window.select()],
    );
    page.controls = form;
    page.commands = vec![shell::command(["stat", "namespace", "-t", window.name(), "--unmeshed"])];
    let wanted = asked.value("q").to_lowercase();
    lines.retain(|line| line.name.name.to_lowercase().contains(&wanted));
    let mut columns: Vec<Column> = vec![words("name", "Namespace"), number("meshed", "Meshed")];
    columns.extend(HTTP);
    let order = Order::asked(asked, &columns, "name");
    table::sort(&mut lines, &order, |line, column| match column {
        "name" => Key::Word(line.name.name.clone()),
        "meshed" => Key::Figure(line.meshed.map(|(meshed, _)| meshed as f64)),
        column => line.figures.key(column),
    });
    let paging = Paging::asked(asked, lines.len());
    let note = format::plural(lines.len(), "namespace", "namespaces");
    let rows = paging.of(lines).into_iter().map(|line| {
        let mut cells =
            vec![figures::named(&line.name, false, false), figures::meshed(line.meshed)];
        cells.extend(Sort::Http.cells(&line.figures, &line.history));
        Row { key: line.name.name, cells }
    });
    let rows: Vec<Row> = rows.collect();
    let table = Table {
        id: "namespace-table",
        caption: "Namespaces".to_string(),
        note: note.clone(),
        columns: &columns,
        rows,
        order: Some((order, asked.keep(Link::to("/namespaces"), &["q", "sort", "t"]))),
        paging: Some(paging),
        empty: Html::text("No namespace matches."),
    };
    let table = el("div").attr("data-said", note).child(table.render());
    page.part("troubles", workloads::troubles(troubles)).part("namespaces", table)
}

/// What the page of one namespace is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct One {
    /// Its name.
    pub(crate) name: String,
    /// The namespace itself.
    pub(crate) line: Line,
    /// Of all its workloads together.
    pub(crate) histories: Histories,
    /// Its workloads and services, of every kind.
    pub(crate) lines: Vec<Line>,
    /// What could not be had.
    pub(crate) troubles: Vec<String>,
}

/// The page of one namespace.
pub(crate) fn one(asked: &Asked, view: One) -> Page {
    let window = Window::asked(asked);
    let base = Link::to("/namespaces").segment(&view.name);
    let mut page = Page::new(Section::Namespaces, view.name.clone());
    page.above = vec![("Namespaces".to_string(), Section::Namespaces.link())];
    let (meshed, all) = view.line.meshed.unwrap_or_default();
    page.lead = match all {
        0 => "No instance of a workload is in this namespace.".to_string(),
        _ => format!("{meshed} of {} have a proxy.", format::plural(all, "instance", "instances")),
    };
    let others = [
        ("Topology", Link::to("/topology")),
        ("Edges", Link::to("/edges")),
        ("Routes", Link::to("/routes")),
        ("Policy", Link::to("/policy")),
        ("Tap", Link::to("/tap")),
    ];
    let links = others.map(|(title, link)| {
        let link = match title {
            "Tap" => link.query("resource", format!("namespace/{}", view.name)),
            _ => link.query("namespace", &view.name),
        };
        el("a").class("button").href(&link).text(title)
    });
    let form = shell::filters(&base, asked, &["view"], [window.select()]);
    let sort = Sort::asked(asked);
    let here = asked.keep(base, &["t"]);
    let views = [
        ("HTTP".to_string(), here.clone(), sort == Sort::Http),
        ("TCP".to_string(), here.query("view", "tcp"), sort == Sort::Tcp),
    ];
    page.controls = el("div")
        .class("bar-row")
        .child(form)
        .child(el("nav").class("links").attr("aria-label", "Of this namespace").children(links))
        .child(shell::tabs("Figures", views))
        .into();
    let form = if sort == Sort::Tcp { "wide" } else { "table" };
    let words = ["stat", "all", "-n", &view.name, "-t", window.name(), "--unmeshed", "-o", form];
    page.commands = vec![shell::command(words)];
    page.part("troubles", workloads::troubles(&view.troubles))
        .part("golden", overview::golden(&view.line.figures, &view.histories))
        .part("tables", tables(&view.name, view.lines, sort, asked))
}

fn tables(namespace: &str, lines: Vec<Line>, sort: Sort, asked: &Asked) -> Html {
    let mut by_kind: BTreeMap<usize, Vec<Line>> = BTreeMap::new();
    for line in lines {
        let place = KINDS.iter().position(|(kind, _)| *kind == line.name.kind);
        by_kind.entry(place.unwrap_or(KINDS.len())).or_default().push(line);
    }
    if by_kind.is_empty() {
        return shell::card("Workloads", "", el("p").class("muted").text("None."));
    }
    Html::all(by_kind.into_values().map(|mut lines| {
        let kind = lines.first().map(|line| line.name.kind.clone()).unwrap_or_default();
        let all = lines.len();
        let order = Order { key: "success".to_string(), is_descending: false };
        table::sort(&mut lines, &order, |line, column| line.figures.key(column));
        lines.truncate(table::PAGE_ROWS);
        let more = Link::to("/workloads").query("namespace", namespace).query("kind", &kind);
        let more = asked.keep(more, &["view", "t"]);
        let mut columns: Vec<Column> = vec![words("", "Name"), number("", "Meshed")];
        columns.extend(sort.columns().iter().map(|column| Column { key: "", ..*column }));
        let rows =
            lines.iter().map(|line| workloads::row(line, sort, false, false)).collect::<Vec<_>>();
        let table = Table {
            id: kind_id(&kind),
            caption: workloads::plural_of(&kind),
            note: all.to_string(),
            columns: &columns,
            rows,
            order: None,
            paging: None,
            empty: Html::default(),
        };
        let more = (all > table::PAGE_ROWS)
            .then(|| el("p").child(el("a").href(&more).text(format!("All {all}"))));
        Html::all([table.render(), more.into()])
    }))
}

/// An id for the table of a kind.
fn kind_id(kind: &str) -> &'static str {
    let known = KINDS.iter().find(|(name, _)| *name == kind);
    known.map_or("others", |(name, _)| name)
}
