//! Certificates and when they end: the trust anchors, the issuer, those of proxies. Pure: times in,
//! a page out.

use std::time::Duration;

use crate::time::WallTime;

use super::chart;
use super::figures;
use super::format;
use super::graph::State;
use super::html::{Html, el};
use super::inventory::Name;
use super::link::{Asked, Link};
use super::shell::{self, Page, Section};
use super::table::{self, Key, Order, Paging, Row, Table, number, words};
use super::workloads;

const DAY: Duration = Duration::from_secs(86_400);
/// What signs others is to be seen to when it has less left than `weft check` asks for.
const AUTHORITY_WARN: Duration = DAY.saturating_mul(60);
/// Where it has less than this it does not last a holiday.
const AUTHORITY_BAD: Duration = DAY.saturating_mul(7);
/// Proxies take a new one when seven tenths are over: with less than this left, something keeps
/// them from it.
const LEAF_WARN_SHARE: f64 = 0.25;

/// A certificate that others are signed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Authority {
    /// What it is: `Issuer`, `Trust anchor`.
    pub(crate) title: String,
    /// What tells it from others.
    pub(crate) fingerprint: String,
    /// When it ends.
    pub(crate) expires: WallTime,
}

/// A proxy's certificate.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Leaf {
    /// The instance.
    pub(crate) name: Name,
    /// When it ends, in seconds since 1970; none where the proxy does not say.
    pub(crate) expires: Option<f64>,
    /// When the proxy last took a new one.
    pub(crate) refreshed: Option<f64>,
}

/// What the page is made of.
#[derive(Clone, Debug, Default)]
pub(crate) struct View {
    /// Now.
    pub(crate) now: WallTime,
    /// Anchors and issuer; empty where this control plane knows none.
    pub(crate) authorities: Vec<Authority>,
    /// Of proxies.
    pub(crate) leaves: Vec<Leaf>,
    /// How long certificates of proxies live.
    pub(crate) lifetime: Option<Duration>,
    /// What could not be had.
    pub(crate) troubles: Vec<String>,
}

/// How a certificate is that signs others.
pub(crate) fn state_of(expires: WallTime, now: WallTime) -> State {
    match expires.since(now) {
        left if left < AUTHORITY_BAD => State::Bad,
        left if left < AUTHORITY_WARN => State::Warn,
        _ => State::Good,
    }
}

/// In how long something ends, or that it has ended.
pub(crate) fn left(expires: WallTime, now: WallTime) -> String {
    match expires > now {
        true => format!("in {}", format::duration(expires.since(now))),
        false => format!("{} ago", format::duration(now.since(expires))),
    }
}

/// The page.
pub(crate) fn page(asked: &Asked, view: View) -> Page {
    let mut page = Page::new(Section::Certificates, "Certificates");
    page.lead = "What identities rest on, and until when.".to_string();
    page.commands = vec![shell::command(["check", "--proxy"])];
    let fields = [shell::field("search", "q", "Proxy", asked.value("q"), "Part of a name")];
    page.controls = shell::filters(&Link::to("/certificates"), asked, &["sort"], fields);
    let leaves = leaves(asked, &view);
    page.part("troubles", workloads::troubles(&view.troubles))
        .part("authorities", authorities(&view))
        .part("proxies", leaves)
}

fn authorities(view: &View) -> Html {
    let columns = [
        words("", "Certificate"),
        words("", "Fingerprint"),
        words("", "State"),
        words("", "Ends"),
        words("", "Date"),
    ];
    let rows = view.authorities.iter().map(|authority| {
        let Authority { title, fingerprint, expires } = authority;
        let state = state_of(*expires, view.now);
        let says = match state {
            State::Good => "good",
            State::Warn => "to be replaced soon",
            _ if *expires <= view.now => "ended",
            _ => "to be replaced now",
        };
        let cells = vec![
            Html::text(title),
            el("span").class("mono").text(fingerprint).into(),
            shell::sign(state, says),
            Html::text(left(*expires, view.now)),
            el("span").class("mono").text(date(*expires)).into(),
        ];
        Row { key: format!("{title} {fingerprint}"), cells }
    });
    let table = Table {
        id: "authority-table",
        caption: "Anchors and issuer".to_string(),
        note: String::new(),
        columns: &columns,
        rows: rows.collect(),
        order: None,
        paging: None,
        empty: Html::all([
            Html::text("This process issues no certificates, so it does not know the issuer. "),
            el("code").text("weft check").into(),
            Html::text(" reads it from the cluster."),
        ]),
    };
    table.render()
}

fn leaves(asked: &Asked, view: &View) -> Html {
    let columns = [
        words("name", "Proxy"),
        words("", "State"),
        number("left", "Ends"),
        number("", "Life left"),
        number("refreshed", "Issued"),
    ];
    let now = view.now.as_duration().as_secs_f64();
    let lifetime = view.lifetime.map(|life| life.as_secs_f64());
    let wanted = asked.value("q").to_lowercase();
    let is_wanted = |leaf: &&Leaf| {
        let Name { namespace, name, .. } = &leaf.name;
        [namespace, name].iter().any(|text| text.to_lowercase().contains(&wanted))
    };
    let mut leaves: Vec<&Leaf> = view.leaves.iter().filter(is_wanted).collect();
    let order = Order::asked(asked, &columns, "left");
    leaves.sort_by(|a, b| a.name.cmp(&b.name));
    table::sort(&mut leaves, &order, |leaf, column| match column {
        "name" => Key::Word(format!("{} {}", leaf.name.namespace, leaf.name.name)),
        "refreshed" => Key::Figure(leaf.refreshed),
        _ => Key::Figure(leaf.expires),
    });
    let paging = Paging::asked(asked, leaves.len());
    let all = leaves.len();
    let rows = paging.of(leaves).into_iter().map(|leaf| {
        let left = leaf.expires.map(|expires| expires - now);
        let share = left.zip(lifetime_of(leaf, lifetime)).map(|(left, life)| left / life.max(1.0));
        let (state, says) = match (left, share) {
            (None, _) => (State::None, "not told"),
            (Some(left), _) if left <= 0.0 => (State::Bad, "ended"),
            (_, Some(share)) if share < LEAF_WARN_SHARE => (State::Warn, "late to be replaced"),
            _ => (State::Good, "good"),
        };
        let span = |seconds: f64| format::duration(Duration::from_secs_f64(seconds.max(0.0)));
        let ends = match left {
            None => format::NONE.to_string(),
            Some(left) if left > 0.0 => format!("in {}", span(left)),
            Some(left) => format!("{} ago", span(-left)),
        };
        let taken =
            leaf.refreshed.map_or(format::NONE.to_string(), |at| format!("{} ago", span(now - at)));
        let cells = vec![
            figures::named(&leaf.name, false, true),
            shell::sign(state, says),
            Html::text(ends),
            share.map_or(Html::text(format::NONE), |share| {
                el("span").class("life").child(chart::bar(share, state.class())).into()
            }),
            Html::text(taken),
        ];
        Row { key: format!("{}/{}", leaf.name.namespace, leaf.name.name), cells }
    });
    let rows: Vec<Row> = rows.collect();
    let table = Table {
        id: "leaf-table",
        caption: "Proxies, the nearest end first".to_string(),
        note: format::plural(all, "proxy", "proxies"),
        columns: &columns,
        rows,
        order: Some((order, asked.keep(Link::to("/certificates"), &["q", "sort"]))),
        paging: Some(paging),
        empty: Html::text(
            "No proxy has told when its certificate ends. It is read from their metrics.",
        ),
    };
    table.render()
}

fn lifetime_of(leaf: &Leaf, lifetime: Option<f64>) -> Option<f64> {
    lifetime.or_else(|| Some(leaf.expires? - leaf.refreshed?).filter(|life| *life > 0.0))
}

/// A time without what is finer than a minute.
fn date(at: WallTime) -> String {
    let text = at.to_string();
    let (day, time) = text.split_once('T').unwrap_or((&text, ""));
    format!("{day} {} UTC", time.get(..5).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(days: u64) -> WallTime {
        WallTime::from_unix_secs(days * 86_400)
    }

    #[test]
    fn what_ends_soon_is_to_be_seen_to() {
        assert_eq!(state_of(at(365), at(0)), State::Good);
        assert_eq!(state_of(at(59), at(0)), State::Warn);
        assert_eq!(state_of(at(6), at(0)), State::Bad);
        assert_eq!(state_of(at(1), at(9)), State::Bad);
        assert_eq!([left(at(30), at(0)), left(at(1), at(2))], ["in 30 days", "1 day ago"]);
    }

    #[test]
    fn a_proxy_that_takes_no_new_one_is_seen() {
        let name = Name::new("demo", "pod", "web-1");
        let leaf =
            |left: f64| Leaf { name: name.clone(), expires: Some(left), refreshed: Some(0.0) };
        let html = |left| {
            let lifetime = Some(DAY);
            let view = View { leaves: vec![leaf(left)], lifetime, ..View::default() };
            leaves(&Asked::default(), &view).into_string()
        };
        assert!(html(86_000.0).contains("good"));
        assert!(html(10_000.0).contains("late to be replaced"));
        assert!(html(-5.0).contains("ended"));
    }
}
