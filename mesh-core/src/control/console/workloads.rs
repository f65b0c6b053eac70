//! Tables of workloads: all kinds or one, a namespace or all, HTTP or TCP. Pure: lines in, a page
//! out.

use std::collections::BTreeSet;

use crate::control::public_api::resource::ResourceKind;

use super::figures::{self, Line, Sort, Window};
use super::format;
use super::html::{Html, el};
use super::inventory::KINDS;
use super::link::{Asked, Link};
use super::shell::{self, Page, Section};
use super::table::{self, Column, Key, Order, Paging, Row, Table, number, words};

/// What of the address other links keep.
const KEPT: [&str; 7] = ["namespace", "kind", "q", "meshed", "view", "sort", "t"];

/// What the page is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// All that could be shown.
    pub(crate) lines: Vec<Line>,
    /// Namespaces that can be chosen.
    pub(crate) namespaces: Vec<String>,
    /// What could not be had, for people.
    pub(crate) troubles: Vec<String>,
}

/// The page.
pub(crate) fn page(asked: &Asked, view: View) -> Page {
    let mut page = Page::new(Section::Workloads, "Workloads");
    let sort = Sort::asked(asked);
    page.lead = "Every workload with what its proxies counted, worst first.".to_string();
    page.controls = controls(asked, &view);
    page.commands = vec![command(asked, &view.lines)];
    let lines = chosen(asked, view.lines);
    let here = asked.keep(Link::to("/workloads"), &KEPT);
    let caption = match asked.value("kind") {
        "" => "Workloads".to_string(),
        kind => plural_of(kind),
    };
    let said = format::plural(lines.len(), "workload", "workloads");
    let table = table_of(lines, sort, asked, here, caption, said.clone());
    let table = el("div").attr("data-said", said).child(table);
    page.part("troubles", troubles(&view.troubles)).part("workloads", table)
}

/// What could not be had.
pub(crate) fn troubles(troubles: &[String]) -> Html {
    let item = |trouble: &String| el("li").text(trouble);
    let list = || el("ul").class("lacks").children(troubles.iter().map(item));
    (!troubles.is_empty()).then(list).into()
}

/// The lines that are asked for.
pub(crate) fn chosen(asked: &Asked, lines: Vec<Line>) -> Vec<Line> {
    let wanted = asked.value("q").to_lowercase();
    let is_wanted = |line: &Line| {
        let Line { name, meshed, .. } = line;
        let namespace = asked.value("namespace");
        (namespace.is_empty() || name.namespace == namespace)
            && (wanted.is_empty()
                || name.name.to_lowercase().contains(&wanted)
                || name.namespace.to_lowercase().contains(&wanted))
            && match asked.value("meshed") {
                "no" => meshed.is_some_and(|(meshed, all)| meshed < all),
                "yes" => meshed.is_some_and(|(meshed, _)| meshed > 0),
                _ => true,
            }
    };
    lines.into_iter().filter(is_wanted).collect()
}

/// A table of lines, in the order that is asked for.
pub(crate) fn table_of(
    mut lines: Vec<Line>,
    sort: Sort,
    asked: &Asked,
    here: Link,
    caption: String,
    note: String,
) -> Html {
    let mut columns: Vec<Column> = vec![words("name", "Name"), number("meshed", "Meshed")];
    columns.extend(sort.columns());
    let default = if sort == Sort::Http { "success" } else { "-connections" };
    let order = Order::asked(asked, &columns, default);
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    table::sort(&mut lines, &order, key);
    let paging = Paging::asked(asked, lines.len());
    let kinds = |line: &Line| line.name.kind == lines.first().map_or("", |line| &line.name.kind);
    let (with_kind, with_namespace) =
        (!lines.iter().all(kinds), asked.value("namespace").is_empty());
    let rows = paging.of(lines).into_iter();
    let rows = rows.map(|line| row(&line, sort, with_kind, with_namespace)).collect();
    let empty = el("p")
        .text("Nothing here matches. ")
        .child(el("a").href(&Link::to("/workloads")).text("Show every workload"));
    Table {
        id: "workload-table",
        caption,
        note,
        columns: &columns,
        rows,
        order: Some((order, here)),
        paging: Some(paging),
        empty: empty.into(),
    }
    .render()
}

/// A row of a table of workloads.
pub(crate) fn row(line: &Line, sort: Sort, with_kind: bool, with_namespace: bool) -> Row {
    let name = figures::named(&line.name, with_kind, with_namespace);
    let mut cells = vec![name, figures::meshed(line.meshed)];
    cells.extend(sort.cells(&line.figures, &line.history));
    Row { key: format!("{}/{}", line.name.namespace, line.name.of_command()), cells }
}

fn key(line: &Line, column: &str) -> Key {
    match column {
        "name" => Key::Word(format!("{} {}", line.name.namespace, line.name.name)),
        "meshed" => Key::Figure(line.meshed.map(|(meshed, all)| meshed as f64 / all.max(1) as f64)),
        column => line.figures.key(column),
    }
}

fn controls(asked: &Asked, view: &View) -> Html {
    let base = asked.keep(Link::to("/workloads"), &KEPT);
    let sort = Sort::asked(asked);
    let views = [
        ("HTTP".to_string(), base.clone().query("view", "").query("sort", ""), sort == Sort::Http),
        ("TCP".to_string(), base.query("view", "tcp").query("sort", ""), sort == Sort::Tcp),
    ];
    let none = |text: &str| (String::new(), text.to_string());
    let kinds = KINDS.iter().filter(|(kind, _)| *kind != "namespace");
    let kinds = kinds.map(|(kind, title)| (kind.to_string(), title.to_string()));
    let namespaces = view.namespaces.iter().map(|name| (name.clone(), name.clone()));
    let meshed = [("yes", "with a proxy"), ("no", "without one")];
    let meshed = meshed.map(|(value, text)| (value.to_string(), text.to_string()));
    let fields = [
        shell::field("search", "q", "Name", asked.value("q"), "Part of a name"),
        shell::select(
            "namespace",
            "Namespace",
            asked.value("namespace"),
            [none("all")].into_iter().chain(namespaces),
        ),
        shell::select(
            "kind",
            "Kind",
            asked.value("kind"),
            [none("workloads of all kinds")].into_iter().chain(kinds),
        ),
        shell::select(
            "meshed",
            "Instances",
            asked.value("meshed"),
            [none("all")].into_iter().chain(meshed),
        ),
        Window::asked(asked).select(),
    ];
    let form = shell::filters(&Link::to("/workloads"), asked, &["view", "sort"], fields);
    el("div").class("bar-row").child(form).child(shell::tabs("Figures", views)).into()
}

/// What several of a kind are called.
pub(crate) fn plural_of(kind: &str) -> String {
    let known = KINDS.iter().find(|(name, _)| *name == kind);
    known.map_or_else(|| kind.to_string(), |(_, title)| title.to_string())
}

fn command(asked: &Asked, lines: &[Line]) -> String {
    let present: BTreeSet<&str> = lines.iter().map(|line| &*line.name.kind).collect();
    let kinds = match asked.value("kind") {
        "" => {
            let present =
                ResourceKind::WORKLOADS.iter().filter(|kind| present.contains(kind.name()));
            let present: Vec<&str> = present.map(|kind| kind.short()).collect();
            if present.is_empty() { "deploy".to_string() } else { present.join(",") }
        }
        kind => kind.to_string(),
    };
    let mut words = vec!["stat", &*kinds];
    words.extend(shell::place(asked));
    words.extend(["-t", Window::asked(asked).name()]);
    words.extend((asked.value("meshed") != "yes").then_some("--unmeshed"));
    words.extend((Sort::asked(asked) == Sort::Tcp).then_some(["-o", "wide"]).into_iter().flatten());
    shell::command(words)
}

#[cfg(test)]
mod tests {
    use super::super::figures::Figures;
    use super::super::inventory::Name;
    use super::*;

    fn line(namespace: &str, name: &str, success: Option<f64>) -> Line {
        let figures = Figures { success, rps: success.map(|_| 10.0), ..Figures::default() };
        let name = Name::new(namespace, "deployment", name);
        Line { name, meshed: Some((1, 2)), figures, history: Vec::new() }
    }

    fn shown(query: &str) -> Vec<String> {
        let lines = vec![
            line("shop", "web", Some(1.0)),
            line("shop", "api", Some(0.9)),
            line("other", "idle", None),
        ];
        let asked = Asked::read("/workloads", query);
        let page = page(&asked, View { lines, ..View::default() });
        let html = page.parts.iter().find(|(id, _)| *id == "workloads").unwrap().1.as_str();
        let keys = html.split("data-key=\"").skip(1);
        keys.map(|rest| rest.split('"').next().unwrap().to_string()).collect()
    }

    #[test]
    fn the_worst_comes_first_and_the_idle_last() {
        let all = ["shop/deployment/api", "shop/deployment/web", "other/deployment/idle"];
        assert_eq!(shown(""), all);
        assert_eq!(shown("sort=-success"), [all[1], all[0], all[2]]);
    }

    #[test]
    fn what_is_not_asked_for_is_left_out() {
        assert_eq!(shown("q=WE"), ["shop/deployment/web"]);
        assert_eq!(shown("namespace=other"), ["other/deployment/idle"]);
        assert_eq!(shown("q=none").len(), 0);
        assert_eq!(shown("meshed=no").len(), 3);
    }

    #[test]
    fn the_command_asks_the_same() {
        let of = |query| command(&Asked::read("/workloads", query), &[]);
        assert_eq!(of(""), "weft stat deploy -A -t 1m --unmeshed");
        assert_eq!(
            of("kind=pod&namespace=shop&view=tcp&t=5m&meshed=yes"),
            "weft stat pod -n shop -t 5m -o wide"
        );
        let other = Line { name: Name::new("shop", "statefulset", "db"), ..Line::default() };
        let lines = [line("shop", "web", None), other];
        let both = command(&Asked::default(), &lines);
        assert_eq!(both, "weft stat deploy,sts -A -t 1m --unmeshed");
    }
}
