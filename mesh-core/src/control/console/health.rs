//! The control plane: what it checks of itself and of the mesh, what it knows, what it counts. Pure:
//! facts in, findings and a page out.

use crate::time::WallTime;

use super::certificates::{self, Authority};
use super::format;
use super::graph::State;
use super::html::{Html, el};
use super::link::Link;
use super::overview::Finding;
use super::shell::{self, Page, Section};
use super::table::{Row, Table, number, words};
use super::workloads;

/// How many names a finding tells.
const NAMES_MAX: usize = 5;

/// What is known of the control plane.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Its version.
    pub(crate) version: &'static str,
    /// Its namespace.
    pub(crate) namespace: String,
    /// Suffix of identities.
    pub(crate) trust_domain: String,
    /// Suffix of service names.
    pub(crate) cluster_domain: String,
    /// Who may use ports that no Server selects.
    pub(crate) default_policy: &'static str,
    /// Now.
    pub(crate) now: WallTime,
    /// Whether every kind was listed.
    pub(crate) is_synced: bool,
    /// How many objects there are of each kind.
    pub(crate) objects: Vec<(String, usize)>,
    /// What it counts: a name and a figure.
    pub(crate) counts: Vec<(&'static str, u64)>,
    /// Troubles that the cluster's watches told of since the start.
    pub(crate) watch_errors: u64,
    /// Reads of the authority's files that failed.
    pub(crate) reload_errors: u64,
    /// Anchors and issuer.
    pub(crate) authorities: Vec<Authority>,
    /// Proxies: those whose metrics came, and all that are asked for them.
    pub(crate) scraped: Option<(usize, usize)>,
    /// Why metrics of proxies did not come, by proxy.
    pub(crate) unscraped: Vec<(String, String)>,
    /// Instances without a proxy in namespaces that have others with one.
    pub(crate) unmeshed: Vec<String>,
    /// Routes and policies that are not in force, and why.
    pub(crate) conditions: Vec<(String, String)>,
    /// What could not be had.
    pub(crate) troubles: Vec<String>,
}

/// What the control plane can check by itself.
pub(crate) fn findings(view: &View) -> Vec<Finding> {
    let finding = |state, title: &str, text: String, link: Option<Link>| Finding {
        state,
        title: title.to_string(),
        text,
        link,
    };
    let mut found = Vec::new();
    found.push(match view.is_synced {
        true => {
            let all: usize = view.objects.iter().map(|(_, count)| count).sum();
            let text = format!("every kind was listed, {} objects", format::count(all as u64));
            finding(State::Good, "The cluster is followed", text, None)
        }
        false => finding(
            State::Bad,
            "The cluster is followed",
            "not every kind has been listed yet: what is shown may be incomplete".to_string(),
            None,
        ),
    });
    let errors = view.watch_errors;
    found.push(match errors {
        0 => finding(State::Good, "Watches", "no trouble since the start".to_string(), None),
        _ => {
            let text = format!(
                "{} since the start; the controller's log says which",
                format::plural(errors as usize, "trouble", "troubles")
            );
            finding(State::Warn, "Watches", text, None)
        }
    });
    for authority in &view.authorities {
        let state = certificates::state_of(authority.expires, view.now);
        let ends = certificates::left(authority.expires, view.now);
        let text = match authority.expires > view.now {
            true => format!("ends {ends}"),
            false => format!("ended {ends}: proxies can have no new certificates"),
        };
        found.push(finding(state, &authority.title, text, Some(Section::Certificates.link())));
    }
    if view.reload_errors > 0 {
        let text = "files of the authority could not be read again; those read before are in use";
        found.push(finding(State::Warn, "Issuer's files", text.to_string(), None));
    }
    found.extend(scraping(view));
    found.push(match view.unmeshed.as_slice() {
        [] => {
            let text = "every instance beside meshed ones has a proxy".to_string();
            finding(State::Good, "Proxies", text, None)
        }
        names => {
            let text = format!("without one, among meshed ones: {}", some(names));
            let link = Link::to("/workloads").query("meshed", "no");
            finding(State::Warn, "Proxies", text, Some(link))
        }
    });
    found.push(match view.conditions.as_slice() {
        [] => finding(State::Good, "Routes and policies", "none is refused".to_string(), None),
        conditions => {
            let names: Vec<String> = conditions.iter().map(|(name, _)| name.clone()).collect();
            let text = format!("not in force as written: {}", some(&names));
            finding(State::Warn, "Routes and policies", text, Some(Section::Health.link()))
        }
    });
    found
}

fn scraping(view: &View) -> Option<Finding> {
    let (scraped, all) = view.scraped?;
    let title = "Metrics of proxies".to_string();
    let link = None;
    Some(match (scraped, all) {
        (_, 0) => {
            Finding { state: State::Good, title, text: "there is no proxy".to_string(), link }
        }
        (scraped, all) if scraped == all => {
            let text = format!("{} answer", format::plural(all, "proxy", "proxies"));
            let text = if all == 1 { "1 proxy answers".to_string() } else { text };
            Finding { state: State::Good, title, text, link }
        }
        (scraped, all) => {
            let names: Vec<String> = view.unscraped.iter().map(|(name, _)| name.clone()).collect();
            let text = format!("{scraped} of {all} answer; not: {}", some(&names));
            Finding { state: State::Warn, title, text, link: Some(Section::Health.link()) }
        }
    })
}

fn some(names: &[String]) -> String {
    let more = names.len().saturating_sub(NAMES_MAX);
    let told = names.iter().take(NAMES_MAX).cloned().collect::<Vec<_>>().join(", ");
    if more > 0 { format!("{told} and {more} more") } else { told }
}

/// The page.
pub(crate) fn page(view: View) -> Page {
    let mut page = Page::new(Section::Health, "Control plane");
    page.lead =
        "What it checks of itself and of the mesh, every time this page is made.".to_string();
    page.commands = vec![shell::command(["check", "--proxy"])];
    page.part("troubles", workloads::troubles(&view.troubles))
        .part("checks", checks(&view))
        .part("trouble", trouble(&view))
        .part("figures", figures(&view))
}

fn checks(view: &View) -> Html {
    let columns = [words("", "Check"), words("", "State"), words("", "Finding")];
    let rows = findings(view).into_iter().enumerate().map(|(index, finding)| {
        let says = match finding.state {
            State::Bad => "does not work",
            State::Warn => "to be seen to",
            State::Good | State::None => "holds",
        };
        let text = el("span")
            .class("said-wide")
            .text(&finding.text)
            .text(" ")
            .child(finding.link.as_ref().map(|link| el("a").href(link).text("Look")));
        let cells = vec![Html::text(&finding.title), shell::sign(finding.state, says), text.into()];
        Row { key: format!("{index} {}", finding.title), cells }
    });
    let table = Table {
        id: "check-table",
        caption: "Checks".to_string(),
        note: String::new(),
        columns: &columns,
        rows: rows.collect(),
        order: None,
        paging: None,
        empty: Html::default(),
    };
    table.render()
}

fn trouble(view: &View) -> Html {
    let table = |id, caption: &str, first, rows: &[(String, String)]| {
        let columns = [words("", first), words("", "Why")];
        let all = rows.len();
        let rows = rows.iter().take(super::table::PAGE_ROWS).map(|(name, why)| Row {
            key: name.clone(),
            cells: vec![Html::text(name), el("span").class("said-wide").text(why).into()],
        });
        let table = Table {
            id,
            caption: caption.to_string(),
            note: all.to_string(),
            columns: &columns,
            rows: rows.collect(),
            order: None,
            paging: None,
            empty: Html::default(),
        };
        (all > 0).then(|| table.render())
    };
    let proxies = table("unscraped", "Proxies whose metrics do not come", "Proxy", &view.unscraped);
    let conditions = table("conditions", "Not in force as written", "Object", &view.conditions);
    Html::all([proxies, conditions].into_iter().flatten())
}

fn figures(view: &View) -> Html {
    let facts = [
        ("Version", view.version.to_string()),
        ("Namespace", view.namespace.clone()),
        ("Trust domain", view.trust_domain.clone()),
        ("Cluster domain", view.cluster_domain.clone()),
        ("Ports that no Server selects", view.default_policy.to_string()),
    ];
    let list = facts.map(|(name, text)| {
        Html::all([Html::from(el("dt").text(name)), el("dd").child(Html::text(text)).into()])
    });
    let facts = shell::card("Of this mesh", "", el("dl").class("facts").children(list));
    let table = |id, caption: &str, first, rows: Vec<(String, u64)>| {
        let columns = [words("", first), number("", "Number")];
        let rows = rows.into_iter().map(|(name, count)| Row {
            key: name.clone(),
            cells: vec![Html::text(name), Html::text(format::count(count))],
        });
        let table = Table {
            id,
            caption: caption.to_string(),
            note: String::new(),
            columns: &columns,
            rows: rows.collect(),
            order: None,
            paging: None,
            empty: Html::text("None."),
        };
        table.render()
    };
    let objects = view.objects.iter().filter(|(_, count)| *count > 0);
    let objects = objects.map(|(kind, count)| (kind.clone(), *count as u64)).collect();
    let counts = view.counts.iter().map(|(name, count)| (name.to_string(), *count)).collect();
    el("div")
        .class("grid")
        .child(facts)
        .child(table("counts", "Counted since the start", "What", counts))
        .child(table("objects", "Objects of the cluster", "Kind", objects))
        .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_holds_is_told_as_well() {
        let view = View { is_synced: true, ..View::default() };
        assert!(findings(&view).iter().all(|finding| finding.state == State::Good));
    }

    #[test]
    fn many_names_are_some_and_a_number() {
        let unmeshed = (0..8).map(|n| format!("shop/web-{n}")).collect();
        let view = View { is_synced: true, unmeshed, ..View::default() };
        let found = findings(&view).into_iter().find(|f| f.state == State::Warn).unwrap();
        insta::assert_snapshot!(found.text, @"without one, among meshed ones: shop/web-0, shop/web-1, shop/web-2, shop/web-3, shop/web-4 and 3 more");
    }

    #[test]
    fn an_issuer_that_has_ended_is_bad() {
        let authority = Authority {
            title: "Issuer".to_string(),
            fingerprint: String::new(),
            expires: WallTime::from_unix_secs(0),
        };
        let now = WallTime::from_unix_secs(86_400);
        let view = View { is_synced: true, now, authorities: vec![authority], ..View::default() };
        let bad = findings(&view).into_iter().find(|f| f.state == State::Bad).unwrap();
        assert_eq!(bad.text, "ended 1 day ago: proxies can have no new certificates");
    }
}
