//! What all pages have around them: the way to the others, a heading, and the commands that say the
//! same in a terminal. Pure.

use ::http::StatusCode;

use super::graph::State;
use super::html::{Element, Html, el};
use super::link::{Asked, Link};

/// A page.
#[derive(Clone, Debug)]
pub(crate) struct Page {
    /// What it is about.
    pub(crate) title: String,
    /// Which of the sections it is of.
    pub(crate) section: Section,
    /// What it is below, outermost first.
    pub(crate) above: Vec<(String, Link)>,
    /// What it is, in a sentence.
    pub(crate) lead: String,
    /// Filters and forms: they stay as they are while the page is looked at.
    pub(crate) controls: Html,
    /// What is shown, by ids: it changes while the page is looked at.
    pub(crate) parts: Vec<(&'static str, Html)>,
    /// What says the same in a terminal.
    pub(crate) commands: Vec<String>,
    /// Whether it changes by itself.
    pub(crate) is_live: bool,
    /// Whether there is such a page.
    pub(crate) status: StatusCode,
    /// A script of its own.
    pub(crate) script: Option<Link>,
}

impl Page {
    /// A page with nothing on it.
    pub(crate) fn new(section: Section, title: impl Into<String>) -> Self {
        Self {
            title: title.into(),
            section,
            above: Vec::new(),
            lead: String::new(),
            controls: Html::default(),
            parts: Vec::new(),
            commands: Vec::new(),
            is_live: true,
            status: StatusCode::OK,
            script: None,
        }
    }

    /// There is nothing like what was asked for.
    pub(crate) fn missing(section: Section, what: &str) -> Self {
        let mut page = Self::new(section, "Not found");
        page.lead = format!("There is no {what}. It may have gone since.");
        page.status = StatusCode::NOT_FOUND;
        page.is_live = false;
        page
    }

    /// Adds a part.
    pub(crate) fn part(mut self, id: &'static str, html: impl Into<Html>) -> Self {
        self.parts.push((id, html.into()));
        self
    }

    /// The whole document. `mesh` is the control plane's namespace.
    pub(crate) fn render(&self, mesh: &str) -> String {
        let head = el("head")
            .child(el("meta").attr("charset", "utf-8"))
            .child(
                el("meta")
                    .attr("name", "viewport")
                    .attr("content", "width=device-width, initial-scale=1"),
            )
            .child(el("meta").attr("name", "color-scheme").attr("content", "light dark"))
            .child(el("title").text(format!("{} \u{b7} Weft", self.title)))
            .child(
                el("link")
                    .attr("rel", "icon")
                    .attr("type", "image/svg+xml")
                    .href(&asset("icon.svg")),
            )
            .child(el("script").src(&asset("theme.js")))
            .child(el("link").attr("rel", "stylesheet").href(&asset("console.css")))
            .child(el("script").attr("type", "module").src(&asset("console.js")))
            .child(
                self.script.as_ref().map(|script| el("script").attr("type", "module").src(script)),
            );
        let body = el("body")
            .child(el("a").class("skip").href(&Link::here("main")).text("Skip to content"))
            .child(self.side(mesh))
            .child(el("div").class("wide").child(self.main()).child(self.foot()))
            .child(el("p").attr("id", "announce").class("hidden").attr("role", "status"));
        let html = Html::from(el("html").attr("lang", "en").child(head).child(body));
        format!("<!doctype html>\n{}\n", html.as_str())
    }

    fn side(&self, mesh: &str) -> Element {
        let group = |(title, sections): &(&'static str, &'static [Section])| {
            let link = |section: &Section| {
                let current = (*section == self.section).then_some("page");
                el("li").child(
                    el("a")
                        .href(&section.link())
                        .maybe("aria-current", current)
                        .text(section.title()),
                )
            };
            el("div")
                .child(el("h2").text(title))
                .child(el("ul").children(sections.iter().map(link)))
        };
        let live = el("div")
            .class("live")
            .attr("data-state", "begin")
            .flag("hidden", true)
            .child(el("span").class("dot").attr("aria-hidden", "true"))
            .child(el("span").class("said").text("Connecting"))
            .child(el("button").attr("type", "button").class("quiet").text("Pause"));
        let theme = el("button")
            .attr("type", "button")
            .class("quiet")
            .attr("id", "theme")
            .flag("hidden", true)
            .text("Theme");
        el("header")
            .class("side")
            .child(
                el("a")
                    .class("brand")
                    .href(&Link::to("/"))
                    .child(Html::literal(MARK))
                    .child(el("span").text("Weft").child(el("small").text(mesh))),
            )
            .child(el("nav").attr("aria-label", "Views").children(SECTIONS.iter().map(group)))
            .child(el("footer").child(self.is_live.then_some(live)).child(theme))
    }

    fn main(&self) -> Element {
        let crumb = |(title, link): &(String, Link)| el("li").child(el("a").href(link).text(title));
        let crumbs = (!self.above.is_empty()).then(|| {
            el("nav")
                .class("crumbs")
                .attr("aria-label", "Above")
                .child(el("ol").children(self.above.iter().map(crumb)))
        });
        let head = el("div").class("head").child(
            el("div")
                .child(crumbs)
                .child(el("h1").text(&self.title))
                .child((!self.lead.is_empty()).then(|| el("p").text(&self.lead))),
        );
        let head = head.child(self.controls.clone());
        let part = |(id, html): &(&'static str, Html)| {
            el("div").class("part").attr("id", id).child(html.clone())
        };
        el("main")
            .attr("id", "main")
            .attr("tabindex", "-1")
            .child(head)
            .children(self.parts.iter().map(part))
    }

    fn foot(&self) -> Element {
        let foot = el("footer").class("command");
        if self.commands.is_empty() {
            return foot.flag("hidden", true);
        }
        let copy = || {
            el("button")
                .attr("type", "button")
                .class("quiet")
                .flag("data-copy", true)
                .flag("hidden", true)
                .text("Copy")
        };
        let command = |command: &String| el("div").child(el("code").text(command)).child(copy());
        foot.child(el("span").text("The same in a terminal:"))
            .children(self.commands.iter().map(command))
    }
}

/// A view that the others lead to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Overview,
    Topology,
    Namespaces,
    Workloads,
    Routes,
    Authorities,
    Edges,
    Tap,
    Top,
    Policy,
    Certificates,
    Health,
}

const SECTIONS: [(&str, &[Section]); 4] = [
    ("Mesh", &[Section::Overview, Section::Topology, Section::Health]),
    (
        "Traffic",
        &[
            Section::Namespaces,
            Section::Workloads,
            Section::Routes,
            Section::Authorities,
            Section::Edges,
        ],
    ),
    ("Live", &[Section::Tap, Section::Top]),
    ("Security", &[Section::Policy, Section::Certificates]),
];

/// The sign of the mesh: threads over and under each other.
const MARK: &str = "<svg viewBox=\"0 0 24 24\" fill=\"none\" stroke=\"currentColor\" \
    stroke-width=\"2.4\" stroke-linecap=\"round\" aria-hidden=\"true\"><path \
    d=\"M6 2v4M6 10v12M12 2v12M12 18v4M18 2v4M18 10v12M2 8h14M20 8h2M2 16h2M8 16h14\"/></svg>";

impl Section {
    /// Its name.
    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Overview => "Overview",
            Self::Topology => "Topology",
            Self::Namespaces => "Namespaces",
            Self::Workloads => "Workloads",
            Self::Routes => "Routes",
            Self::Authorities => "Authorities",
            Self::Edges => "Edges",
            Self::Tap => "Tap",
            Self::Top => "Top",
            Self::Policy => "Policy",
            Self::Certificates => "Certificates",
            Self::Health => "Control plane",
        }
    }

    /// Where it is.
    pub(crate) fn link(self) -> Link {
        Link::to(match self {
            Self::Overview => "/",
            Self::Topology => "/topology",
            Self::Namespaces => "/namespaces",
            Self::Workloads => "/workloads",
            Self::Routes => "/routes",
            Self::Authorities => "/authorities",
            Self::Edges => "/edges",
            Self::Tap => "/tap",
            Self::Top => "/top",
            Self::Policy => "/policy",
            Self::Certificates => "/certificates",
            Self::Health => "/health",
        })
    }
}

/// A command of words that others chose: a shell takes each for the one word that it is.
pub(crate) fn command<'a>(words: impl IntoIterator<Item = &'a str>) -> String {
    let quoted = |word: &str| {
        let is_plain = |c: char| c.is_ascii_alphanumeric() || "/.:,-_@=".contains(c);
        match !word.is_empty() && word.chars().all(is_plain) {
            true => word.to_string(),
            false => format!("'{}'", word.replace('\'', "'\\''")),
        }
    };
    ["weft"].into_iter().chain(words).map(quoted).collect::<Vec<_>>().join(" ")
}

/// Where a command looks: `-n shop`, or everywhere.
pub(crate) fn place(asked: &Asked) -> Vec<&str> {
    match asked.value("namespace") {
        "" => vec!["-A"],
        namespace => vec!["-n", namespace],
    }
}

/// A file that pages load.
pub(crate) fn asset(name: &str) -> Link {
    Link::to("/assets").segment(name).query("v", super::assets::version())
}

/// A word with its sign.
pub(crate) fn sign(state: State, text: impl std::fmt::Display) -> Html {
    el("span")
        .class(format!("sign {}", state.class()))
        .child(el("i").attr("aria-hidden", "true").text(state.shape()))
        .child(el("b").text(text))
        .into()
}

/// A card with a heading.
pub(crate) fn card(title: &str, note: &str, body: impl Into<Html>) -> Html {
    el("section")
        .class("card")
        .child(
            el("header")
                .child(el("h2").text(title))
                .child((!note.is_empty()).then(|| el("p").text(note))),
        )
        .child(el("div").class("body").child(body))
        .into()
}

/// Something that people should know first.
pub(crate) fn notice(class: &'static str, text: impl Into<Html>) -> Html {
    el("div").class(format!("notice {class}")).child(text).into()
}

/// Links of which one is where we are.
pub(crate) fn tabs(label: &str, tabs: impl IntoIterator<Item = (String, Link, bool)>) -> Html {
    let tab = |(title, link, is_here): (String, Link, bool)| {
        el("a")
            .href(&link)
            .flag("data-swap", true)
            .maybe("aria-current", is_here.then_some("true"))
            .text(title)
    };
    el("nav").class("tabs").attr("aria-label", label).children(tabs.into_iter().map(tab)).into()
}

/// A choice of one of several.
pub(crate) fn select(
    name: &'static str,
    label: &str,
    chosen: &str,
    options: impl IntoIterator<Item = (String, String)>,
) -> Element {
    let option = |(value, text): (String, String)| {
        let is_chosen = value == chosen;
        el("option").attr("value", value).flag("selected", is_chosen).text(text)
    };
    el("label")
        .text(label)
        .child(el("select").attr("name", name).children(options.into_iter().map(option)))
}

/// A field of text.
pub(crate) fn field(
    kind: &'static str,
    name: &'static str,
    label: &str,
    value: &str,
    hint: &str,
) -> Element {
    el("label").text(label).child(
        el("input")
            .attr("type", kind)
            .attr("name", name)
            .attr("value", value)
            .attr("placeholder", hint)
            .attr("autocomplete", "off")
            .attr("spellcheck", "false"),
    )
}

/// A form whose fields become the address's, with parameters that stay as they are.
pub(crate) fn filters(
    action: &Link,
    asked: &Asked,
    kept: &[&'static str],
    fields: impl IntoIterator<Item = Element>,
) -> Html {
    let hidden = kept.iter().filter(|name| !asked.value(name).is_empty()).map(|name| {
        el("input").attr("type", "hidden").attr("name", name).attr("value", asked.value(name))
    });
    el("form")
        .class("filters")
        .attr("role", "search")
        .action(action)
        .flag("data-swap", true)
        .children(hidden)
        .children(fields)
        .child(el("button").attr("type", "submit").text("Show"))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_address_says_is_one_word_of_a_command() {
        let asked = Asked::read("/", "namespace=x%3Brm+-rf+~");
        let words = ["stat", "deploy/web"].into_iter().chain(place(&asked));
        assert_eq!(command(words), "weft stat deploy/web -n 'x;rm -rf ~'");
        assert_eq!(command(["tap", "a'b", ""]), "weft tap 'a'\\''b' ''");
        assert_eq!(place(&Asked::default()), ["-A"]);
    }
}
