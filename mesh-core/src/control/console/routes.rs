//! Routes: what requests came by which route, at servers and at clients, with who was refused. Pure:
//! the rows of `weft stat-inbound` and `weft stat-outbound` in, a page out.

use std::collections::BTreeSet;

use crate::control::public_api::routes::{BackendRow, InboundRow, OutboundRow, RouteFigures};

use super::figures::{self, Figures, Window};
use super::format;
use super::html::{Html, el};
use super::inventory::Name;
use super::link::{Asked, Link};
use super::shell::{self, Page, Section};
use super::source::name_of;
use super::table::{self, Column, Key, Order, Paging, Row, Table, number, words};
use super::workloads;

/// What came by routes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Routes {
    /// At servers.
    pub(crate) inbound: Vec<InboundRow>,
    /// At clients.
    pub(crate) outbound: Vec<OutboundRow>,
}

/// What the page is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Routes.
    pub(crate) routes: Routes,
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
                 Services that they called, with the backends that requests went to."
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
    page.commands = commands(asked, &view.routes);
    let wanted = asked.value("q").to_lowercase();
    let is_wanted = |route: &Shown| {
        let below = route.below.iter().map(|backend| &backend.name);
        let mut texts = [&route.of.name, &route.parent, &route.name].into_iter().chain(below);
        wanted.is_empty() || texts.any(|text| text.to_lowercase().contains(&wanted))
    };
    let (mut inbound, mut outbound) = view.routes.shown();
    inbound.retain(is_wanted);
    outbound.retain(is_wanted);
    let said = format::plural(inbound.len() + outbound.len(), "route", "routes");
    let tables = el("div")
        .class("part")
        .attr("data-said", said)
        .child(sorted(Side::Inbound, "At servers", inbound, true, Some(asked)))
        .child(sorted(Side::Outbound, "At clients", outbound, true, Some(asked)));
    page.part("troubles", workloads::troubles(&view.troubles)).part("routes", tables)
}

/// One for each side of each kind that has routes.
fn commands(asked: &Asked, routes: &Routes) -> Vec<String> {
    let inbound = routes.inbound.iter().map(|row| ("stat-inbound", row.resource.kind.short()));
    let outbound = routes.outbound.iter().map(|row| ("stat-outbound", row.resource.kind.short()));
    let mut all: BTreeSet<_> = inbound.chain(outbound).collect();
    if all.is_empty() {
        all.extend([("stat-inbound", "deploy"), ("stat-outbound", "deploy")]);
    }
    let time = ["-t", Window::asked(asked).name()];
    let command = |(verb, kind)| {
        shell::command([verb, kind].into_iter().chain(shell::place(asked)).chain(time))
    };
    all.into_iter().map(command).collect()
}

/// Tables of the routes of one workload, the worst first.
pub(crate) fn tables(routes: &Routes) -> Html {
    let (inbound, outbound) = routes.shown();
    Html::all([
        sorted(Side::Inbound, "Routes at this server", inbound, false, None),
        sorted(Side::Outbound, "Routes as a client", outbound, false, None),
    ])
}

/// A route as tables have it, or a backend below one.
#[derive(Clone, Debug, Default)]
struct Shown {
    /// Whose traffic it is.
    of: Name,
    /// The Server or Service that it is a route of.
    parent: String,
    /// The route, or the backend.
    name: String,
    figures: Figures,
    /// Requests a second that were refused; or the shares that ran out of time and were sent again.
    extra: Vec<Option<f64>>,
    /// Backends.
    below: Vec<Shown>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Side {
    Inbound,
    Outbound,
}

impl Routes {
    fn shown(&self) -> (Vec<Shown>, Vec<Shown>) {
        let inbound = self.inbound.iter().map(|row| Shown {
            of: name_of(&row.resource),
            parent: row.server.of_port(),
            name: row.route.of_policy(),
            figures: figures_of(&row.http.into()),
            extra: vec![Some(row.unauthorized_rps)],
            below: Vec::new(),
        });
        let backend = |row: &BackendRow| Shown {
            name: row.backend.of_port(),
            figures: figures_of(&row.figures),
            ..Shown::default()
        };
        let outbound = self.outbound.iter().map(|row| Shown {
            of: name_of(&row.resource),
            parent: row.service.of_port(),
            name: row.route.of_policy(),
            figures: figures_of(&row.figures),
            extra: vec![row.timeouts, row.retries],
            below: row.backends.iter().map(backend).collect(),
        });
        (inbound.collect(), outbound.collect())
    }
}

fn figures_of(figures: &RouteFigures) -> Figures {
    let RouteFigures { rps, success_rate, latency_ms, .. } = *figures;
    Figures {
        success: success_rate,
        rps: Some(rps),
        p50: latency_ms.p50,
        p95: latency_ms.p95,
        p99: latency_ms.p99,
        ..Figures::default()
    }
}

/// A table of routes, each with its backends below it.
fn sorted(
    side: Side,
    caption: &str,
    mut routes: Vec<Shown>,
    with_workload: bool,
    asked: Option<&Asked>,
) -> Html {
    let columns = columns(side, with_workload, asked.is_some());
    let nothing = Asked::default();
    let order = Order::asked(asked.unwrap_or(&nothing), &columns, "success");
    routes.sort_by(|a, b| (&a.of, &a.parent, &a.name).cmp(&(&b.of, &b.parent, &b.name)));
    table::sort(&mut routes, &order, |route, column| match column {
        "of" => Key::Word(format!("{} {}", route.of.namespace, route.of.name)),
        "parent" => Key::Word(route.parent.clone()),
        "route" => Key::Word(route.name.clone()),
        "refused" | "timeouts" => Key::Figure(route.extra[0]),
        "retries" => Key::Figure(route.extra[1]),
        column => route.figures.key(column),
    });
    let all = routes.len();
    let paging = asked.map(|asked| Paging::asked(asked, all));
    let routes = match paging {
        Some(paging) => paging.of(routes),
        None => routes.into_iter().take(table::PAGE_ROWS).collect(),
    };
    let rows = routes.iter().flat_map(|route| rows(route, side, with_workload)).collect();
    let here = asked.map(|asked| asked.keep(Link::to("/routes"), &["namespace", "q", "sort", "t"]));
    let table = Table {
        id: if side == Side::Inbound { "inbound-routes" } else { "outbound-routes" },
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

fn columns(side: Side, with_workload: bool, is_sortable: bool) -> Vec<Column> {
    let mut columns = Vec::new();
    columns.extend(with_workload.then_some(words("of", "Workload")));
    columns.push(words("parent", if side == Side::Inbound { "Server" } else { "Service" }));
    columns.extend([
        words("route", "Route"),
        number("success", "Success"),
        number("rps", "RPS"),
        number("p50", "P50"),
        number("p95", "P95"),
        number("p99", "P99"),
    ]);
    match side {
        Side::Inbound => columns.push(number("refused", "Refused/s")),
        Side::Outbound => {
            columns.extend([number("timeouts", "Timeouts"), number("retries", "Retries")]);
        }
    }
    if !is_sortable {
        columns.iter_mut().for_each(|column| column.key = "");
    }
    columns
}

/// A route's row, and those of its backends.
fn rows(route: &Shown, side: Side, with_workload: bool) -> Vec<Row> {
    let Shown { of, parent, name, figures, extra, below } = route;
    let key = format!("{}/{} {parent} {name}", of.namespace, of.of_command());
    let mut cells = Vec::new();
    cells.extend(with_workload.then(|| figures::named(of, true, true)));
    cells.extend([Html::text(parent), Html::text(name)]);
    cells.extend(figure_cells(figures));
    cells.extend(extra.iter().map(|extra| match side {
        Side::Inbound => Html::text(format::rate(*extra)),
        Side::Outbound => Html::text(format::percent(*extra)),
    }));
    let backend = |backend: &Shown| {
        let named = el("span")
            .class("below")
            .child(el("span").class("hidden").text("backend "))
            .text(&backend.name);
        let mut cells = vec![Html::from(named)];
        cells.extend(with_workload.then(Html::default));
        cells.push(Html::default());
        cells.extend(figure_cells(&backend.figures));
        cells.extend(extra.iter().map(|_| Html::default()));
        Row { key: format!("{key} {}", backend.name), cells }
    };
    let below = below.iter().map(backend);
    [Row { key: key.clone(), cells }].into_iter().chain(below).collect()
}

fn figure_cells(figures: &Figures) -> [Html; 5] {
    [
        figures::success(figures.success),
        Html::text(format::rate(figures.rps)),
        Html::text(format::millis(figures.p50)),
        Html::text(format::millis(figures.p95)),
        Html::text(format::millis(figures.p99)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::control::public_api::resource::{Resource, ResourceKind};
    use crate::control::public_api::routes::PolicyName;

    fn name(kind: &str, name: &str, port: Option<u16>) -> PolicyName {
        PolicyName { kind: kind.into(), namespace: "shop".into(), name: name.into(), port }
    }

    fn routes() -> Routes {
        let resource =
            |kind, name: &str| Resource { kind, namespace: "shop".into(), name: name.into() };
        let route = |name: PolicyName, success| OutboundRow {
            resource: resource(ResourceKind::Deployment, "web"),
            service: self::name("Service", "api", Some(80)),
            route: name,
            figures: RouteFigures { success_rate: Some(success), rps: 9.0, ..Default::default() },
            timeouts: Some(0.25),
            retries: Some(0.5),
            backends: vec![BackendRow {
                backend: self::name("Service", "api-v2", Some(80)),
                figures: RouteFigures { success_rate: Some(0.5), rps: 12.0, ..Default::default() },
            }],
        };
        let inbound = InboundRow {
            resource: resource(ResourceKind::StatefulSet, "db"),
            server: self::name("default", "all-unauthenticated", Some(5432)),
            route: self::name("default", "default", None),
            http: Default::default(),
            unauthorized_rps: 1.5,
        };
        let bad = route(self::name("HTTPRoute", "split", None), 0.9);
        let good = route(self::name("default", "default", None), 1.0);
        Routes { inbound: vec![inbound], outbound: vec![good, bad] }
    }

    fn keys(query: &str) -> Vec<String> {
        let asked = Asked::read("/routes", query);
        let page = page(&asked, View { routes: routes(), ..View::default() });
        let html = page.parts.iter().find(|(id, _)| *id == "routes").unwrap().1.as_str();
        let keys = html.split("data-key=\"").skip(1);
        keys.map(|rest| rest.split('"').next().unwrap().to_string()).collect()
    }

    #[test]
    fn backends_stay_below_their_route_whatever_the_order() {
        let (split, plain) =
            ("shop/deployment/web api:80 split", "shop/deployment/web api:80 [default]");
        let below = |route: &str| [route.to_string(), format!("{route} api-v2:80")];
        let db = "shop/statefulset/db [default]:5432 [default]".to_string();
        assert_eq!(keys(""), [&[db.clone()][..], &below(split), &below(plain)].concat());
        assert_eq!(keys("sort=-success"), [&[db][..], &below(plain), &below(split)].concat());
        assert_eq!(keys("q=SPLIT"), below(split));
        assert_eq!(keys("q=v2").len(), 4);
    }

    #[test]
    fn the_commands_are_of_what_is_shown() {
        let of = |query| commands(&Asked::read("/routes", query), &routes());
        assert_eq!(
            of("namespace=shop&t=5m"),
            ["weft stat-inbound sts -n shop -t 5m", "weft stat-outbound deploy -n shop -t 5m"]
        );
        assert_eq!(commands(&Asked::default(), &Routes::default()).len(), 2);
    }
}
