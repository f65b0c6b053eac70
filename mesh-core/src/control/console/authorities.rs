//! Authorities: the names that clients ask for, as the clients' proxies saw it; of the whole mesh,
//! or those that one workload asks for or is asked by. Pure: lines in, a page out.

use super::figures::{HTTP, Line, Sort, Window};
use super::format;
use super::html::{Html, el};
use super::link::{Asked, Link};
use super::shell::{self, Page, Section};
use super::table::{self, Column, Key, Order, Paging, Row, Table, words};
use super::workloads;

/// What of the address other links keep.
const KEPT: [&str; 6] = ["namespace", "from", "to", "q", "sort", "t"];

/// What the page is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Names, with the namespace that they lead to.
    pub(crate) lines: Vec<Line>,
    /// Namespaces that can be chosen.
    pub(crate) namespaces: Vec<String>,
    /// What could not be had.
    pub(crate) troubles: Vec<String>,
}

/// What is asked of statistics: what the command asks.
pub(crate) fn question(asked: &Asked) -> Link {
    let stat = Link::to("/api/v1/stat")
        .query("resource", "authority")
        .query("window", Window::asked(asked).name());
    let namespace = asked.value("namespace");
    match (asked.value("from"), asked.value("to")) {
        ("", "") if !namespace.is_empty() => stat.query("namespace", namespace),
        (from, to) => stat
            .query("all_namespaces", "true")
            .query("from", from)
            .query("from_namespace", if from.is_empty() { "" } else { namespace })
            .query("to", to)
            .query("to_namespace", if to.is_empty() { "" } else { namespace }),
    }
}

fn command(asked: &Asked) -> String {
    let (from, to, namespace) = (asked.value("from"), asked.value("to"), asked.value("namespace"));
    let mut words = vec!["stat", "au"];
    if from.is_empty() && to.is_empty() {
        words.extend(shell::place(asked));
    } else {
        words.push("-A");
    }
    for (resource, flag, place) in
        [(from, "--from", "--from-namespace"), (to, "--to", "--to-namespace")]
    {
        if !resource.is_empty() {
            words.extend([flag, resource]);
            words.extend(
                (!namespace.is_empty()).then_some([place, namespace]).into_iter().flatten(),
            );
        }
    }
    shell::command(words.into_iter().chain(["-t", Window::asked(asked).name()]))
}

/// The page.
pub(crate) fn page(asked: &Asked, view: View) -> Page {
    let mut page = Page::new(Section::Authorities, "Authorities");
    page.lead =
        "The names that clients ask for, as their proxies saw it, whoever answers.".to_string();
    page.commands = vec![command(asked)];
    page.controls = controls(asked, &view.namespaces);
    let wanted = asked.value("q").to_lowercase();
    let mut lines = view.lines;
    lines.retain(|line| line.name.name.to_lowercase().contains(&wanted));
    let said = format::plural(lines.len(), "authority", "authorities");
    let table = el("div").attr("data-said", &said).child(table_of(asked, lines, said.clone()));
    page.part("troubles", workloads::troubles(&view.troubles)).part("authorities", table)
}

fn controls(asked: &Asked, namespaces: &[String]) -> Html {
    let namespaces = namespaces.iter().map(|name| (name.clone(), name.clone()));
    let fields = [
        shell::field("search", "q", "Name", asked.value("q"), "Part of a name"),
        shell::select(
            "namespace",
            "Namespace",
            asked.value("namespace"),
            [(String::new(), "all".to_string())].into_iter().chain(namespaces),
        ),
        shell::field("text", "from", "Asked for by", asked.value("from"), "deploy/web"),
        shell::field("text", "to", "Answered by", asked.value("to"), "deploy/api"),
        Window::asked(asked).select(),
    ];
    shell::filters(&Link::to("/authorities"), asked, &["sort"], fields)
}

fn table_of(asked: &Asked, mut lines: Vec<Line>, note: String) -> Html {
    let mut columns: Vec<Column> = vec![words("name", "Authority"), words("namespace", "Leads to")];
    columns.extend(HTTP);
    let order = Order::asked(asked, &columns, "success");
    lines.sort_by(|a, b| a.name.cmp(&b.name));
    table::sort(&mut lines, &order, |line, column| match column {
        "name" => Key::Word(line.name.name.clone()),
        "namespace" => Key::Word(line.name.namespace.clone()),
        column => line.figures.key(column),
    });
    let paging = Paging::asked(asked, lines.len());
    let rows = paging.of(lines).into_iter().map(|line| {
        let namespace = match line.name.namespace.as_str() {
            "" => el("span").class("muted").text("outside of the mesh"),
            name => el("a").href(&Link::to("/namespaces").segment(name)).text(name),
        };
        let mut cells =
            vec![el("span").class("mono").text(&line.name.name).into(), namespace.into()];
        cells.extend(Sort::Http.cells(&line.figures, &line.history));
        Row { key: format!("{} {}", line.name.namespace, line.name.name), cells }
    });
    let table = Table {
        id: "authority-table",
        caption: "Authorities".to_string(),
        note,
        columns: &columns,
        rows: rows.collect(),
        order: Some((order, asked.keep(Link::to("/authorities"), &KEPT))),
        paging: Some(paging),
        empty: Html::text("No client of the mesh asked for a name in this time."),
    };
    table.render()
}

#[cfg(test)]
mod tests {
    use super::super::figures::Figures;
    use super::super::inventory::Name;
    use super::*;

    #[test]
    fn the_command_asks_what_the_page_asks() {
        let of = |query| {
            let asked = Asked::read("/authorities", query);
            (command(&asked), question(&asked).to_string())
        };
        let (command, question) = of("");
        assert_eq!(command, "weft stat au -A -t 1m");
        assert_eq!(question, "/api/v1/stat?resource=authority&window=1m&all_namespaces=true");
        let (command, question) = of("namespace=shop&t=5m");
        assert_eq!(command, "weft stat au -n shop -t 5m");
        assert_eq!(question, "/api/v1/stat?resource=authority&window=5m&namespace=shop");
        let (command, question) = of("namespace=shop&from=deploy%2Fweb");
        assert_eq!(command, "weft stat au -A --from deploy/web --from-namespace shop -t 1m");
        assert!(question.ends_with("&from=deploy%2Fweb&from_namespace=shop"), "{question}");
        let (command, _) = of("to=deploy%2Fapi");
        assert_eq!(command, "weft stat au -A --to deploy/api -t 1m");
    }

    #[test]
    fn the_worst_name_comes_first_and_names_are_text() {
        let line = |name: &str, success| Line {
            name: Name::new("shop", "authority", name),
            figures: Figures { success: Some(success), ..Figures::default() },
            ..Line::default()
        };
        let lines = vec![line("api.shop:80", 1.0), line("<b>.shop", 0.5)];
        let html = table_of(&Asked::default(), lines, String::new()).into_string();
        assert!(html.find("&lt;b&gt;.shop") < html.find("api.shop:80"), "{html}");
        assert!(!html.contains("<b>.shop"));
    }
}
