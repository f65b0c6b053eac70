//! Live requests: tap and top. The server makes the form and an empty table; the browser fills it
//! from the stream of `/api/v1/tap`. Pure.

use super::html::{Element, Html, el};
use super::link::{Asked, Link};
use super::shell::{self, Page, Section, asset};

/// Fields of the form that go to the stream as they are.
const FIELDS: [&str; 9] = [
    "resource",
    "namespace",
    "to",
    "to_namespace",
    "scheme",
    "method",
    "authority",
    "path",
    "max_rps",
];

/// What the forms propose.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Resources, as commands take them.
    pub(crate) resources: Vec<String>,
    /// Namespaces that can be chosen.
    pub(crate) namespaces: Vec<String>,
}

/// The page of single requests.
pub(crate) fn tap(asked: &Asked, view: &View) -> Page {
    let mut page = begun(Section::Tap, "Tap", asked, view);
    page.lead = "Requests as they pass the proxies, sampled; the newest first.".to_string();
    let columns =
        ["Time", "Direction", "Source", "Destination", "TLS", "Request", "Status", "Latency"];
    page.part("rows", table("tap", "Requests", &columns, asked))
}

/// The page of requests by where they go.
pub(crate) fn top(asked: &Asked, view: &View) -> Page {
    let mut page = begun(Section::Top, "Top", asked, view);
    page.lead = "The same requests counted together, the most frequent first.".to_string();
    let columns =
        ["Source", "Destination", "Method", "Path", "Count", "Best", "Worst", "Last", "Success"];
    page.part("rows", table("top", "Requests by path", &columns, asked))
}

fn begun(section: Section, title: &str, asked: &Asked, view: &View) -> Page {
    let mut page = Page::new(section, title);
    page.is_live = false;
    page.script = Some(asset("tap.js"));
    page.commands = vec![command(section, asked)];
    page.controls = shell::card("Which requests", "", form(&section.link(), asked, view));
    page
}

fn command(section: Section, asked: &Asked) -> String {
    let verb = if section == Section::Tap { "tap" } else { "top" };
    let resource = match asked.value("resource") {
        "" => "deploy/NAME",
        resource => resource,
    };
    let flags = FIELDS[1..].iter().filter(|name| !asked.value(name).is_empty());
    let flags: Vec<(String, &str)> = flags
        .map(|name| match *name {
            "namespace" => ("-n".to_string(), asked.value(name)),
            name => (format!("--{}", name.replace('_', "-")), asked.value(name)),
        })
        .collect();
    let flags = flags.iter().flat_map(|(flag, value)| [flag.as_str(), *value]);
    shell::command([verb, resource].into_iter().chain(flags))
}

fn form(action: &Link, asked: &Asked, view: &View) -> Element {
    let field = |name: &'static str, label: &str, hint: &str| {
        shell::field("text", name, label, asked.value(name), hint)
    };
    let proposed = view.resources.iter().map(|name| el("option").attr("value", name));
    let resource = el("label").text("Resource").child(
        el("input")
            .attr("type", "text")
            .attr("name", "resource")
            .attr("value", asked.value("resource"))
            .attr("placeholder", "deploy/web")
            .attr("list", "resources")
            .flag("required", true)
            .attr("autocomplete", "off")
            .attr("spellcheck", "false"),
    );
    let namespaces = || {
        let all = view.namespaces.iter().map(|name| (name.clone(), name.clone()));
        [(String::new(), "any".to_string())].into_iter().chain(all)
    };
    let methods = ["", "GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"];
    let methods = methods.map(|method| {
        (method.to_string(), if method.is_empty() { "any" } else { method }.to_string())
    });
    el("form")
        .class("ask")
        .attr("id", "tap-form")
        .action(action)
        .child(resource.child(el("datalist").attr("id", "resources").children(proposed)))
        .child(shell::select("namespace", "Namespace", asked.value("namespace"), namespaces()))
        .child(field("to", "To", "deploy/api"))
        .child(shell::select("method", "Method", asked.value("method"), methods))
        .child(field("path", "Path begins with", "/"))
        .child(field("authority", "Authority", "web.shop"))
        .child(field("max_rps", "At most, a second", "100"))
        .child(
            el("div")
                .class("actions")
                .child(el("button").attr("type", "submit").class("primary").text("Start"))
                .child(
                    el("button")
                        .attr("type", "button")
                        .attr("id", "tap-stop")
                        .flag("hidden", true)
                        .text("Stop"),
                ),
        )
}

/// An empty table that the script fills, with where it asks.
fn table(kind: &'static str, caption: &str, columns: &[&'static str], asked: &Asked) -> Html {
    let stream = if kind == "top" { "/api/v1/top" } else { "/api/v1/tap" };
    let stream = asked.keep(Link::to(stream), &FIELDS);
    let stream = (!asked.value("resource").is_empty()).then_some(stream);
    let is_number = |title: &str| {
        ["Count", "Best", "Worst", "Last", "Success", "Latency", "Status"].contains(&title)
    };
    let heading = |title: &&'static str| {
        el("th")
            .attr("scope", "col")
            .maybe("class", is_number(title).then_some("number"))
            .text(title)
    };
    let says = match stream {
        None => "Say which requests, and start.",
        Some(_) => "Waiting for the first request \u{2026}",
    };
    let without_script = el("noscript").child(
        el("p")
            .class("empty")
            .text("Live requests need JavaScript. The command below shows the same."),
    );
    el("section")
        .class("card tap")
        .attr("id", "tap")
        .attr("data-kind", kind)
        .maybe("data-stream", stream.as_ref())
        .child(el("p").class("tap-state").attr("id", "tap-state").attr("role", "status").text(says))
        .child(without_script)
        .child(
            el("div")
                .class("scroll")
                .attr("role", "region")
                .attr("tabindex", "0")
                .attr("aria-label", caption)
                .child(
                    el("table")
                        .child(el("caption").text(caption))
                        .child(el("thead").child(el("tr").children(columns.iter().map(heading))))
                        .child(el("tbody")),
                ),
        )
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_address_says_what_is_tapped() {
        let asked = Asked::read("/tap", "resource=deploy%2Fweb&path=%2Fx&other=1");
        let page = tap(&asked, &View::default());
        let html = page.parts[0].1.as_str();
        assert!(html.contains("data-stream=\"/api/v1/tap?resource=deploy%2Fweb&amp;path=%2Fx\""));
        assert_eq!(page.commands, ["weft tap deploy/web --path /x"]);
    }

    #[test]
    fn top_is_summed_up_by_the_controller() {
        let page = top(&Asked::read("/top", "resource=deploy%2Fweb"), &View::default());
        let html = page.parts[0].1.as_str();
        assert!(html.contains("data-stream=\"/api/v1/top?resource=deploy%2Fweb\""));
    }

    #[test]
    fn without_a_resource_nothing_is_asked() {
        let page = top(&Asked::default(), &View::default());
        assert!(!page.parts[0].1.as_str().contains("data-stream"));
    }
}
