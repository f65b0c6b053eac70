//! Who may talk to whom, and why: what is allowed at each port, and the derivation of a decision.
//! Pure: what was compiled and explained in, a page out.

use super::figures;
use super::format;
use super::graph::State;
use super::html::{Element, Html, el};
use super::inventory::Name;
use super::link::{Asked, Link};
use super::shell::{self, Page, Section};
use super::table::{self, Key, Order, Paging, Row, Table, words};
use super::workloads;

/// Whom something allows.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Allowed {
    /// What allows: `authorizationpolicy web-from-front`, `default all-unauthenticated`.
    pub(crate) by: String,
    /// Who: `front.shop`, `anybody`.
    pub(crate) who: String,
    /// From where; empty for everywhere.
    pub(crate) from: String,
}

/// A port of a workload.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Port {
    /// Whose it is.
    pub(crate) of: Name,
    /// Its number.
    pub(crate) port: u16,
    /// The Server that selects it, or the default.
    pub(crate) server: String,
    /// Whether no Server selects it.
    pub(crate) is_default: bool,
    /// What it speaks.
    pub(crate) protocol: &'static str,
    /// Whom the port allows, beside its own host.
    pub(crate) allowed: Vec<Allowed>,
    /// Whom its routes allow beside.
    pub(crate) routes: Vec<(String, Vec<Allowed>)>,
}

/// A step of the derivation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// Which: `discovery`.
    pub(crate) title: String,
    /// Whether it goes on.
    pub(crate) state: State,
    /// What happens.
    pub(crate) says: String,
    /// What it follows from.
    pub(crate) because: Vec<String>,
    /// The objects that it follows from.
    pub(crate) objects: Vec<String>,
}

/// What would become of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Explained {
    /// Who sends.
    pub(crate) from: String,
    /// Where to.
    pub(crate) to: String,
    /// What is sent.
    pub(crate) request: String,
    /// What happens at the sender.
    pub(crate) steps: Vec<Step>,
    /// How it goes on: a heading, steps, how it ends.
    pub(crate) ways: Vec<(String, Vec<Step>, (State, String))>,
    /// How it ends.
    pub(crate) verdict: (State, String),
}

/// What the page is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Ports.
    pub(crate) ports: Vec<Port>,
    /// Namespaces that can be chosen.
    pub(crate) namespaces: Vec<String>,
    /// The answer to the form, where it was filled in.
    pub(crate) explained: Option<Result<Explained, String>>,
    /// Names that the form proposes.
    pub(crate) sources: Vec<String>,
    /// The same.
    pub(crate) targets: Vec<String>,
    /// What could not be had.
    pub(crate) troubles: Vec<String>,
}

/// The page.
pub(crate) fn page(asked: &Asked, view: View) -> Page {
    let mut page = Page::new(Section::Policy, "Policy");
    page.lead =
        "Who may talk to whom, as the control plane compiled it for the proxies.".to_string();
    page.commands = vec![command(asked)];
    page.controls = shell::card(
        "What would become of a request?",
        "Nothing is sent: the policies that proxies have are asked.",
        form(asked, &view),
    );
    let answer = view.explained.as_ref().map(|explained| match explained {
        Ok(explained) => self::explained(explained),
        Err(error) => shell::notice("bad", Html::text(error)),
    });
    let ports = ports(asked, view.ports, &view.namespaces);
    page.part("troubles", workloads::troubles(&view.troubles))
        .part("explained", Html::from(answer))
        .part("ports", ports)
}

fn command(asked: &Asked) -> String {
    let value = |name| asked.value(name);
    if !value("reference").is_empty() {
        return shell::command(["explain", value("reference")]);
    }
    if value("from").is_empty() || value("to").is_empty() {
        return shell::command(["authz", "deploy"].into_iter().chain(shell::place(asked)));
    }
    let flags = [
        ("-n", "namespace"),
        ("--protocol", "protocol"),
        ("--method", "method"),
        ("--path", "path"),
        ("--header", "header"),
    ];
    let given = flags.into_iter().filter(|(_, name)| !value(name).is_empty());
    let given = given.flat_map(|(flag, name)| [flag, value(name)]);
    shell::command(["explain", value("from"), value("to")].into_iter().chain(given))
}

fn form(asked: &Asked, view: &View) -> Element {
    let with_list = |mut element: Element, list: &'static str, names: &[String]| {
        let options = names.iter().map(|name| el("option").attr("value", name));
        element = element.child(el("datalist").attr("id", list).children(options));
        element
    };
    let listed = |name: &'static str, label: &str, list: &'static str, hint: &str| {
        el("label").text(label).child(
            el("input")
                .attr("type", "text")
                .attr("name", name)
                .attr("value", asked.value(name))
                .attr("placeholder", hint)
                .attr("list", list)
                .attr("autocomplete", "off")
                .attr("spellcheck", "false"),
        )
    };
    let from = listed("from", "Who sends", "sources", "deploy/web");
    let to = listed("to", "Where to", "targets", "svc/api:80");
    let namespaces = view.namespaces.iter().map(|name| (name.clone(), name.clone()));
    let methods = ["", "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    let methods = methods.map(|method| {
        (method.to_string(), if method.is_empty() { "GET" } else { method }.to_string())
    });
    let protocols = [("", "HTTP/1"), ("http2", "HTTP/2"), ("grpc", "gRPC"), ("tcp", "bytes (TCP)")];
    let protocols = protocols.map(|(value, text)| (value.to_string(), text.to_string()));
    el("form")
        .class("ask")
        .action(&Link::to("/policy"))
        .flag("data-swap", true)
        .child(with_list(from, "sources", &view.sources))
        .child(with_list(to, "targets", &view.targets))
        .child(shell::select(
            "namespace",
            "Namespace",
            asked.value("namespace"),
            [(String::new(), "all".to_string())].into_iter().chain(namespaces),
        ))
        .child(shell::select("protocol", "Speaking", asked.value("protocol"), protocols))
        .child(shell::select("method", "Method", asked.value("method"), methods))
        .child(shell::field("text", "path", "Path", asked.value("path"), "/"))
        .child(shell::field("text", "header", "Header", asked.value("header"), "name=value"))
        .child(shell::field(
            "text",
            "reference",
            "Or the reference of a denial",
            asked.value("reference"),
            "as a proxy told it",
        ))
        .child(
            el("div")
                .class("actions")
                .child(el("button").attr("type", "submit").class("primary").text("Explain"))
                .child(el("a").class("button").href(&Link::to("/policy")).text("Clear")),
        )
}

fn explained(explained: &Explained) -> Html {
    let Explained { from, to, request, steps, ways, verdict } = explained;
    let list = |steps: &[Step]| el("ol").class("steps").children(steps.iter().map(step));
    let one = ways.len() == 1;
    let ways = ways.iter().map(|(title, steps, (state, says))| {
        let verdict = (!one).then(|| el("p").child(shell::sign(*state, says)));
        el("details")
            .flag("open", one)
            .attr("data-key", title)
            .child(el("summary").child(shell::sign(*state, title)))
            .child(list(steps))
            .child(verdict)
    });
    let (state, says) = verdict;
    el("section")
        .class("card explained")
        .child(
            el("header")
                .child(el("h2").text(format!("{from} \u{2192} {to}")))
                .child(el("p").text(request)),
        )
        .child(
            el("div")
                .class("body")
                .child(
                    el("p")
                        .class(format!("verdict {}", state.class()))
                        .child(shell::sign(*state, says)),
                )
                .child(list(steps))
                .children(ways),
        )
        .into()
}

fn step(step: &Step) -> Element {
    let Step { title, state, says, because, objects } = step;
    let because = (!because.is_empty()).then(|| {
        el("ul").class("because").children(because.iter().map(|line| el("li").text(line)))
    });
    let objects = objects.iter().map(|object| el("code").class("chip").text(object));
    el("li").attr("data-key", title).child(
        el("div")
            .child(el("h3").child(match state {
                State::Good | State::None => Html::text(title),
                _ => shell::sign(*state, title),
            }))
            .child(el("p").class("says").text(says))
            .child(because)
            .child(el("p").class("objects").children(objects)),
    )
}

fn ports(asked: &Asked, mut ports: Vec<Port>, namespaces: &[String]) -> Html {
    let namespace = asked.value("namespace");
    let wanted = asked.value("q").to_lowercase();
    ports.retain(|port| {
        (namespace.is_empty() || port.of.namespace == namespace)
            && (wanted.is_empty() || port.of.name.to_lowercase().contains(&wanted))
    });
    let columns = [
        words("of", "Workload"),
        words("port", "Port"),
        words("server", "Server"),
        words("protocol", "Speaks"),
        words("", "Who may use it"),
        words("", "By"),
    ];
    let order = Order::asked(asked, &columns, "of");
    ports.sort_by(|a, b| (&a.of, a.port).cmp(&(&b.of, b.port)));
    table::sort(&mut ports, &order, |port, column| {
        Key::Word(match column {
            "port" => format!("{:05}", port.port),
            "server" => port.server.clone(),
            "protocol" => port.protocol.to_string(),
            _ => format!("{} {}", port.of.namespace, port.of.name),
        })
    });
    let paging = Paging::asked(asked, ports.len());
    let note = format::plural(ports.len(), "port", "ports");
    let rows = paging.of(ports).into_iter().map(|port| row(&port)).collect();
    let kept = ["namespace", "q", "sort", "from", "to", "path", "method", "protocol", "header"];
    let table = Table {
        id: "port-table",
        caption: "Who may use which port".to_string(),
        note,
        columns: &columns,
        rows,
        order: Some((order, asked.keep(Link::to("/policy"), &kept))),
        paging: Some(paging),
        empty: Html::text(match namespaces {
            [] => "There is no namespace.",
            _ => "No workload here has a proxy and declares a port.",
        }),
    };
    table.render()
}

fn row(port: &Port) -> Row {
    let who = |allowed: &Allowed| match allowed.from.as_str() {
        "" => allowed.who.clone(),
        from => format!("{} from {from}", allowed.who),
    };
    let lines = |texts: Vec<(String, String)>| {
        Html::from(el("ul").class("lines").children(texts.into_iter().map(|(route, text)| {
            let route =
                (!route.is_empty()).then(|| el("span").class("kind").text(format!("on {route}: ")));
            el("li").child(route).text(text)
        })))
    };
    let all = || {
        let own = port.allowed.iter().map(|allowed| (String::new(), allowed));
        let routes = port.routes.iter();
        own.chain(routes.flat_map(|(route, all)| all.iter().map(|one| (route.clone(), one))))
    };
    let is_open =
        port.allowed.iter().any(|allowed| allowed.who == ANYBODY && allowed.from.is_empty());
    let whom = match all().next() {
        None => shell::sign(State::None, "nobody but its own host"),
        Some(_) => lines(all().map(|(route, allowed)| (route, who(allowed))).collect()),
    };
    let server = match port.is_default {
        true => el("span").class("muted").text(&port.server),
        false => el("span").text(&port.server),
    };
    let chip = is_open.then(|| el("span").class("chip warn").text("open to all"));
    let cells = vec![
        figures::named(&port.of, true, true),
        Html::text(port.port),
        server.into(),
        Html::text(port.protocol),
        Html::all([whom, Html::from(chip)]),
        lines(all().map(|(_, allowed)| (String::new(), allowed.by.clone())).collect()),
    ];
    Row { key: format!("{}/{}:{}", port.of.namespace, port.of.of_command(), port.port), cells }
}

/// Whom an authorization allows that asks for nothing.
pub(crate) const ANYBODY: &str = "anybody";

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_is_the_forms() {
        let of = |query| command(&Asked::read("/policy", query));
        assert_eq!(of(""), "weft authz deploy -A");
        assert_eq!(of("from=deploy/web&to=svc/api:80"), "weft explain deploy/web svc/api:80");
        let quoted =
            of("from=deploy%2Fweb&to=svc%2Fapi&path=%2Fa%27b%20c&method=POST&namespace=shop");
        insta::assert_snapshot!(quoted, @r"weft explain deploy/web svc/api -n shop --method POST --path '/a'\''b c'");
    }

    #[test]
    fn a_port_that_nobody_may_use_says_so() {
        let port = Port { of: Name::new("shop", "deployment", "web"), ..Port::default() };
        let html = Html::all(row(&port).cells).into_string();
        assert!(html.contains("nobody but its own host"));
        let open = Allowed { who: ANYBODY.to_string(), ..Allowed::default() };
        let port = Port { allowed: vec![open], ..port };
        assert!(Html::all(row(&port).cells).as_str().contains("open to all"));
    }
}
