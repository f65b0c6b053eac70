//! Routes: what requests came by which route, at servers and at clients, with who was refused. Pure:
//! lines in, a page out.

use super::figures::{self, Figures, Window};
use super::format;
use super::html::{Html, el};
use super::inventory::Name;
use super::link::{Asked, Link};
use super::shell::{self, Page, Section};
use super::table::{self, Column, Key, Order, Paging, Row, Table, number, words};
use super::workloads;

/// A route and what came by it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Route {
    /// Whose traffic it is.
    pub(crate) of: Name,
    /// `inbound` or `outbound`.
    pub(crate) direction: &'static str,
    /// The Server or Service that it is a route of.
    pub(crate) parent: String,
    /// The route.
    pub(crate) route: String,
    /// The backend, of outbound routes.
    pub(crate) backend: String,
    /// What came by it.
    pub(crate) figures: Figures,
    /// Requests a second that were refused to clients, or sent again by clients.
    pub(crate) extra: Option<f64>,
}

/// What the page is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Routes.
    pub(crate) routes: Vec<Route>,
    /// Namespaces that can be chosen.
    pub(crate) namespaces: Vec<String>,
    /// What could not be had.
    pub(crate) troubles: Vec<String>,
}

/// The page.
pub(crate) fn page(asked: &Asked, view: View) -> Page {
    let window = Window::asked(asked);
    let mut page = Page::new(Section::Routes, "Routes");
    page.lead = "What came by each route: at servers under their Servers, at clients under the \
                 Services that they called."
        .to_string();
    let namespaces = view.namespaces.iter().map(|name| (name.clone(), name.clone()));
    let fields = [
        shell::field("search", "q", "Name", asked.value("q"), "Workload, route or service"),
        shell::select(
            "namespace",
            "Namespace",
            asked.value("namespace"),
            [(String::new(), "all".to_string())].into_iter().chain(namespaces),
        ),
        window.select(),
    ];
    page.controls = shell::filters(&Link::to("/routes"), asked, &["sort"], fields);
    let place = match asked.value("namespace") {
        "" => "-A".to_string(),
        namespace => format!("-n {namespace}"),
    };
    page.command = format!("weft stat-outbound deploy {place} -t {}", window.name());
    let wanted = asked.value("q").to_lowercase();
    let namespace = asked.value("namespace");
    let mut routes = view.routes;
    routes.retain(|route| {
        let texts = [&route.of.name, &route.parent, &route.route, &route.backend];
        (namespace.is_empty() || route.of.namespace == namespace)
            && (wanted.is_empty() || texts.iter().any(|text| text.to_lowercase().contains(&wanted)))
    });
    let (inbound, outbound): (Vec<_>, Vec<_>) =
        routes.into_iter().partition(|route| route.direction == "inbound");
    let said = format::plural(inbound.len() + outbound.len(), "route", "routes");
    let tables = el("div")
        .class("part")
        .attr("data-said", said)
        .child(sorted("inbound-routes", "At servers", &inbound, true, Some(asked)))
        .child(sorted("outbound-routes", "At clients", &outbound, true, Some(asked)));
    page.part("troubles", workloads::troubles(&view.troubles)).part("routes", tables)
}

/// A table of routes, the worst first.
pub(crate) fn table(caption: &str, routes: &[Route], with_workload: bool) -> Html {
    let (inbound, outbound): (Vec<_>, Vec<_>) =
        routes.iter().cloned().partition(|route| route.direction == "inbound");
    let caption = caption.to_string();
    let inbound = sorted(
        "inbound-routes",
        &format!("{caption} at this server"),
        &inbound,
        with_workload,
        None,
    );
    let outbound = sorted(
        "outbound-routes",
        &format!("{caption} as a client"),
        &outbound,
        with_workload,
        None,
    );
    Html::all([inbound, outbound])
}

fn sorted(
    id: &'static str,
    caption: &str,
    routes: &[Route],
    with_workload: bool,
    asked: Option<&Asked>,
) -> Html {
    let is_inbound = id.starts_with("inbound");
    let columns = columns(is_inbound, with_workload, asked.is_some());
    let nothing = Asked::default();
    let order = Order::asked(asked.unwrap_or(&nothing), &columns, "success");
    let mut routes: Vec<&Route> = routes.iter().collect();
    routes.sort_by(|a, b| (&a.of, &a.parent, &a.route).cmp(&(&b.of, &b.parent, &b.route)));
    table::sort(&mut routes, &order, |route, column| match column {
        "of" => Key::Word(format!("{} {}", route.of.namespace, route.of.name)),
        "parent" => Key::Word(route.parent.clone()),
        "route" => Key::Word(route.route.clone()),
        "backend" => Key::Word(route.backend.clone()),
        "extra" => Key::Figure(route.extra),
        column => route.figures.key(column),
    });
    let all = routes.len();
    let paging = asked.map(|asked| Paging::asked(asked, all));
    let routes = match paging {
        Some(paging) => paging.of(routes),
        None => routes.into_iter().take(table::PAGE_ROWS).collect(),
    };
    let rows = routes.into_iter().map(|route| row(route, is_inbound, with_workload)).collect();
    let here = asked.map(|asked| asked.keep(Link::to("/routes"), &["namespace", "q", "sort", "t"]));
    let table = Table {
        id,
        caption: caption.to_string(),
        note: all.to_string(),
        columns: &columns,
        rows,
        order: here.map(|here| (order, here)),
        paging,
        empty: Html::text("No request came by a route in this time."),
    };
    table.render()
}

fn columns(is_inbound: bool, with_workload: bool, is_sortable: bool) -> Vec<Column> {
    let mut columns = Vec::new();
    if with_workload {
        columns.push(words("of", "Workload"));
    }
    columns.push(words("parent", if is_inbound { "Server" } else { "Service" }));
    columns.push(words("route", "Route"));
    if !is_inbound {
        columns.push(words("backend", "Backend"));
    }
    columns.extend([
        number("success", "Success"),
        number("rps", "RPS"),
        number("p50", "P50"),
        number("p95", "P95"),
        number("p99", "P99"),
        number("extra", if is_inbound { "Refused/s" } else { "Retries/s" }),
    ]);
    if !is_sortable {
        columns.iter_mut().for_each(|column| column.key = "");
    }
    columns
}

fn row(route: &Route, is_inbound: bool, with_workload: bool) -> Row {
    let Figures { success, rps, p50, p95, p99, .. } = &route.figures;
    let mut cells = Vec::new();
    if with_workload {
        cells.push(figures::named(&route.of, true, true));
    }
    cells.push(Html::text(&route.parent));
    cells.push(Html::text(&route.route));
    if !is_inbound {
        cells.push(Html::text(&route.backend));
    }
    cells.extend([
        figures::success(*success),
        Html::text(format::rate(*rps)),
        Html::text(format::millis(*p50)),
        Html::text(format::millis(*p95)),
        Html::text(format::millis(*p99)),
        Html::text(format::rate(route.extra)),
    ]);
    let Route { of, parent, route, backend, .. } = route;
    let key = format!("{}/{} {parent} {route} {backend}", of.namespace, of.of_command());
    Row { key, cells }
}
