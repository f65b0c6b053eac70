//! Edges: who is connected to whom, by which identities. And the topology, which draws them. Pure:
//! calls in, a page out.

use std::collections::{BTreeMap, BTreeSet};

use super::figures::{self, Call, Figures, Window};
use super::format;
use super::graph::{self, Edge, NODES_MAX, Node, State};
use super::html::{Html, el};
use super::inventory::Name;
use super::link::{Asked, Link};
use super::shell::{self, Page, Section};
use super::table::{self, Key, Order, Paging, Row, Table, number, words};
use super::workloads;

/// What both pages are made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Calls.
    pub(crate) calls: Vec<Call>,
    /// What workloads did, by name.
    pub(crate) figures: BTreeMap<Name, Figures>,
    /// Namespaces that can be chosen.
    pub(crate) namespaces: Vec<String>,
    /// What could not be had.
    pub(crate) troubles: Vec<String>,
}

/// The page of edges.
pub(crate) fn page(asked: &Asked, view: View) -> Page {
    let mut page = Page::new(Section::Edges, "Edges");
    page.lead = "Who is connected to whom, and as whom each knows the other.".to_string();
    let secured = [("yes", "mutual TLS"), ("no", "plain")];
    let secured = secured.map(|(value, text)| (value.to_string(), text.to_string()));
    let fields = [
        shell::field("search", "q", "Name or identity", asked.value("q"), "Part of it"),
        namespace_select(asked, &view.namespaces),
        shell::select(
            "secured",
            "Secured by",
            asked.value("secured"),
            [(String::new(), "all".to_string())].into_iter().chain(secured),
        ),
    ];
    page.controls = shell::filters(&Link::to("/edges"), asked, &["sort"], fields);
    let calls = chosen(asked, view.calls);
    page.commands = commands(asked, &calls);
    let said = format::plural(calls.len(), "edge", "edges");
    let table = el("div").attr("data-said", said).child(table("Edges", &calls, Some(asked)));
    page.part("troubles", workloads::troubles(&view.troubles)).part("edges", table)
}

/// The page of the topology.
pub(crate) fn topology(asked: &Asked, view: View) -> Page {
    let mut page = Page::new(Section::Topology, "Topology");
    page.lead = "Callers at the left, whom they call to their right. Broad lines carry more \
                 requests; dashed ones have no mutual TLS."
        .to_string();
    let fields = [namespace_select(asked, &view.namespaces), Window::asked(asked).select()];
    page.controls = shell::filters(&Link::to("/topology"), asked, &[], fields);
    let calls = chosen(asked, view.calls);
    page.commands = commands(asked, &calls);
    let drawing = draw(&calls, &view.figures);
    page.part("troubles", workloads::troubles(&view.troubles))
        .part("graph", shell::card("Who calls whom", "", drawing))
        .part("edges", table("The same as a table", &calls, None))
}

/// One for each kind between which there are edges.
fn commands(asked: &Asked, calls: &[Call]) -> Vec<String> {
    let mut kinds: BTreeSet<&str> = calls.iter().map(|call| &*call.to.kind).collect();
    if kinds.is_empty() {
        kinds.insert("deployment");
    }
    let time = ["-t", Window::asked(asked).name(), "-o", "wide"];
    let command =
        |kind| shell::command(["edges", kind].into_iter().chain(shell::place(asked)).chain(time));
    kinds.into_iter().map(command).collect()
}

fn namespace_select(asked: &Asked, namespaces: &[String]) -> super::html::Element {
    let options = namespaces.iter().map(|name| (name.clone(), name.clone()));
    shell::select(
        "namespace",
        "Namespace",
        asked.value("namespace"),
        [(String::new(), "all".to_string())].into_iter().chain(options),
    )
}

fn chosen(asked: &Asked, mut calls: Vec<Call>) -> Vec<Call> {
    let wanted = asked.value("q").to_lowercase();
    let namespace = asked.value("namespace");
    calls.retain(|call| {
        let Call { from, to, client, server, .. } = call;
        let texts = [&from.name, &to.name, client, server];
        (namespace.is_empty() || from.namespace == namespace || to.namespace == namespace)
            && (wanted.is_empty() || texts.iter().any(|text| text.to_lowercase().contains(&wanted)))
            && match asked.value("secured") {
                "yes" => call.is_secured(),
                "no" => !call.is_secured(),
                _ => true,
            }
    });
    calls
}

/// A table of edges; put in order and cut into pages where an address says how.
pub(crate) fn table(caption: &str, calls: &[Call], asked: Option<&Asked>) -> Html {
    let mut columns = vec![
        words("from", "Source"),
        words("to", "Destination"),
        words("secured", "Secured"),
        words("client", "Client identity"),
        words("server", "Server identity"),
        number("rps", "RPS"),
    ];
    if asked.is_none() {
        columns.iter_mut().for_each(|column| column.key = "");
    }
    let mut calls: Vec<&Call> = calls.iter().collect();
    calls.sort_by(|a, b| (&a.from, &a.to).cmp(&(&b.from, &b.to)));
    let nothing = Asked::default();
    let order = Order::asked(asked.unwrap_or(&nothing), &columns, "secured");
    table::sort(&mut calls, &order, |call, column| match column {
        "from" => Key::Word(format!("{} {}", call.from.namespace, call.from.name)),
        "to" => Key::Word(format!("{} {}", call.to.namespace, call.to.name)),
        "client" => Key::Word(call.client.clone()),
        "server" => Key::Word(call.server.clone()),
        // What is plain comes first.
        "secured" => Key::Word(if call.is_secured() { "1" } else { "0" }.to_string()),
        _ => call.figures.key(column),
    });
    let all = calls.len();
    let paging = asked.map(|asked| Paging::asked(asked, all));
    let calls = match paging {
        Some(paging) => paging.of(calls),
        None => calls.into_iter().take(table::PAGE_ROWS).collect(),
    };
    let rows = calls.into_iter().map(row).collect::<Vec<_>>();
    let here =
        asked.map(|asked| asked.keep(Link::to("/edges"), &["namespace", "q", "secured", "sort"]));
    let table = Table {
        id: "edge-table",
        caption: caption.to_string(),
        note: all.to_string(),
        columns: &columns,
        rows,
        order: here.map(|here| (order, here)),
        paging,
        empty: Html::text("No proxy has told of a connection here."),
    };
    table.render()
}

fn row(call: &Call) -> Row {
    let secured = match call.is_secured() {
        true => shell::sign(State::Good, "mutual TLS"),
        false => shell::sign(State::Warn, &call.plain_because),
    };
    let identity = |identity: &str| match identity {
        "" => el("span").class("muted").text(format::NONE),
        identity => {
            el("span").class("mono id").attr("title", identity).text(short_identity(identity))
        }
    };
    let cells = vec![
        figures::named(&call.from, true, true),
        figures::named(&call.to, true, true),
        secured,
        identity(&call.client).into(),
        identity(&call.server).into(),
        Html::text(format::rate(call.figures.rps)),
    ];
    let key = |name: &Name| format!("{}/{}", name.namespace, name.of_command());
    Row { key: format!("{} {}", key(&call.from), key(&call.to)), cells }
}

/// `web.demo` of `web.demo.serviceaccount.identity.linkerd.cluster.local`: what tells it from others.
fn short_identity(identity: &str) -> &str {
    identity.split_once(".serviceaccount.identity.").map_or(identity, |(short, _)| short)
}

/// A call as a line of a drawing.
pub(crate) fn drawn(call: &Call, from: usize, to: usize) -> Edge {
    let rate = call.figures.rps.filter(|rate| *rate > 0.0);
    Edge {
        from,
        to,
        weight: rate.unwrap_or(0.0),
        state: State::of_success(call.figures.success),
        label: rate.map_or(String::new(), |rate| format!("{}/s", format::rate(Some(rate)))),
        is_secured: call.is_secured(),
    }
}

fn draw(calls: &[Call], known: &BTreeMap<Name, Figures>) -> Html {
    let mut weights: BTreeMap<&Name, f64> = BTreeMap::new();
    // Of some callers only the identity is known.
    let calls = || calls.iter().filter(|call| !call.from.name.is_empty());
    for call in calls() {
        let weight = call.figures.rps.unwrap_or(0.0) + 1e-6;
        *weights.entry(&call.from).or_default() += weight;
        *weights.entry(&call.to).or_default() += weight;
    }
    if weights.is_empty() {
        let text = "No proxy has told of a call in this time.";
        return el("p").class("muted").text(text).into();
    }
    let mut names: Vec<(&Name, f64)> = weights.into_iter().collect();
    names.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(b.0)));
    let left_out = names.len().saturating_sub(NODES_MAX);
    names.truncate(NODES_MAX);
    names.sort_by(|a, b| a.0.cmp(b.0));
    let places: BTreeMap<&Name, usize> =
        names.iter().enumerate().map(|(place, (name, _))| (*name, place)).collect();
    let namespaces = names.iter().map(|(name, _)| &name.namespace);
    let is_one = namespaces.collect::<std::collections::BTreeSet<_>>().len() == 1;
    let mut sent: BTreeMap<&Name, f64> = BTreeMap::new();
    for call in calls() {
        *sent.entry(&call.from).or_default() += call.figures.rps.unwrap_or(0.0);
    }
    let none = Figures::default();
    let nodes: Vec<Node> = names
        .iter()
        .map(|(name, _)| {
            let figures = known.get(*name).unwrap_or(&none);
            Node {
                title: name.name.clone(),
                note: match is_one {
                    true => name.kind.clone(),
                    false => format!("{} \u{203a} {}", name.namespace, name.kind),
                },
                // Of a client alone, what it sends is all that there is to tell.
                figures: match sent.get(*name) {
                    Some(rps) if figures.success.is_none() && *rps > 0.0 => {
                        format!("sends {} rps", format::rate(Some(*rps)))
                    }
                    _ => figures.short(),
                },
                state: State::of_success(figures.success),
                link: Some(name.link()),
                is_self: false,
            }
        })
        .collect();
    let edges: Vec<Edge> = calls()
        .filter_map(|call| Some(drawn(call, *places.get(&call.from)?, *places.get(&call.to)?)))
        .collect();
    let what = format!(
        "{} and {} between them; the table below says the same",
        format::plural(nodes.len(), "workload", "workloads"),
        format::plural(edges.len(), "call", "calls")
    );
    let drawing = graph::render(&nodes, &edges, &what);
    let note = (left_out > 0).then(|| {
        let text =
            format!("The {NODES_MAX} busiest are drawn; {left_out} are not. Choose a namespace.");
        el("p").class("muted").text(text)
    });
    Html::all([drawing, note.into()])
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(from: &str, to: &str, plain_because: &str) -> Call {
        Call {
            from: Name::new("demo", "deployment", from),
            to: Name::new("demo", "deployment", to),
            client: format!("{from}.demo.serviceaccount.identity.linkerd.cluster.local"),
            plain_because: plain_because.to_string(),
            ..Call::default()
        }
    }

    #[test]
    fn what_is_plain_comes_first_and_says_why() {
        let calls = [call("a", "b", ""), call("b", "c", "loopback")];
        let html = table("Edges", &calls, Some(&Asked::default())).into_string();
        assert!(html.find("loopback").unwrap() < html.find("mutual TLS").unwrap());
        assert!(html.contains(">a.demo<"), "{html}");
    }

    #[test]
    fn a_search_finds_identities() {
        let calls = vec![call("a", "b", ""), call("b", "c", "")];
        let asked = Asked::read("/edges", "q=a.demo");
        assert_eq!(chosen(&asked, calls).len(), 1);
    }
}
