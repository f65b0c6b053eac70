//! Figures of traffic as the views take them, and how tables show them. Pure.

use std::time::Duration;

use super::chart::{self, Series};
use super::format;
use super::graph::State;
use super::html::{Html, el};
use super::inventory::Name;
use super::link::Asked;
use super::shell;
use super::table::{Column, Key, number};

/// What something did over the window.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Figures {
    /// The share of requests that succeeded; none without requests.
    pub(crate) success: Option<f64>,
    /// Requests a second.
    pub(crate) rps: Option<f64>,
    /// Latencies, in milliseconds.
    pub(crate) p50: Option<f64>,
    /// The same.
    pub(crate) p95: Option<f64>,
    /// The same.
    pub(crate) p99: Option<f64>,
    /// Connections that are open.
    pub(crate) connections: Option<f64>,
    /// Bytes a second that came in.
    pub(crate) read: Option<f64>,
    /// Bytes a second that went out.
    pub(crate) written: Option<f64>,
}

/// A workload in a table.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Line {
    /// What it is.
    pub(crate) name: Name,
    /// Its instances that have a proxy, and all; none where nobody counts them.
    pub(crate) meshed: Option<(usize, usize)>,
    /// What it did.
    pub(crate) figures: Figures,
    /// Requests or bytes a second, over the last minutes.
    pub(crate) history: Series,
}

/// Who called whom.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Call {
    /// The caller.
    pub(crate) from: Name,
    /// The called.
    pub(crate) to: Name,
    /// The caller's identity; empty where it showed none.
    pub(crate) client: String,
    /// The called's identity; empty where it showed none.
    pub(crate) server: String,
    /// Why it is not secured; empty where it is.
    pub(crate) plain_because: String,
    /// What went there.
    pub(crate) figures: Figures,
}

impl Call {
    /// Whether it has mutual TLS.
    pub(crate) fn is_secured(&self) -> bool {
        self.plain_because.is_empty()
    }
}

/// Over how much time figures are taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window(pub(crate) Duration);

/// Those that can be chosen.
const WINDOWS: [(&str, u64); 5] =
    [("30s", 30), ("1m", 60), ("5m", 300), ("10m", 600), ("30m", 1_800)];

const USUAL: &str = "1m";

impl Window {
    /// `t=5m`; a minute where nothing else is asked for.
    pub(crate) fn asked(asked: &Asked) -> Self {
        let known = WINDOWS.iter().find(|(name, _)| *name == asked.value("t"));
        Self(Duration::from_secs(known.map_or(60, |(_, seconds)| *seconds)))
    }

    /// As addresses and commands have it.
    pub(crate) fn name(self) -> &'static str {
        let known = WINDOWS.iter().find(|(_, seconds)| *seconds == self.0.as_secs());
        known.map_or(USUAL, |(name, _)| name)
    }

    /// The choice of one.
    pub(crate) fn select(self) -> super::html::Element {
        let options = WINDOWS.iter().map(|(name, seconds)| {
            // What is usual need not be in the address.
            let value = if *name == USUAL { "" } else { name };
            let span = format::duration(Duration::from_secs(*seconds));
            (value.to_string(), format!("last {span}"))
        });
        let chosen = if self.name() == USUAL { "" } else { self.name() };
        shell::select("t", "Figures of the", chosen, options)
    }
}

/// Which figures a table has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sort {
    /// Of requests.
    Http,
    /// Of bytes.
    Tcp,
}

/// The columns of figures of requests.
pub(crate) const HTTP: [Column; 6] = [
    number("success", "Success"),
    number("rps", "RPS"),
    number("", "Last 10 min"),
    number("p50", "P50"),
    number("p95", "P95"),
    number("p99", "P99"),
];

/// The columns of figures of bytes.
pub(crate) const TCP: [Column; 4] = [
    number("connections", "Connections"),
    number("read", "Read"),
    number("written", "Written"),
    number("", "Last 10 min"),
];

impl Sort {
    /// `view=tcp`, or else requests.
    pub(crate) fn asked(asked: &Asked) -> Self {
        if asked.value("view") == "tcp" { Self::Tcp } else { Self::Http }
    }

    /// The columns of its figures.
    pub(crate) fn columns(self) -> &'static [Column] {
        match self {
            Self::Http => &HTTP,
            Self::Tcp => &TCP,
        }
    }

    /// The cells of its columns.
    pub(crate) fn cells(self, figures: &Figures, history: &Series) -> Vec<Html> {
        let text = |text: String| Html::text(text);
        match self {
            Self::Http => vec![
                success(figures.success),
                text(format::rate(figures.rps)),
                chart::spark(history, "requests a second over the last 10 minutes"),
                text(format::millis(figures.p50)),
                text(format::millis(figures.p95)),
                text(format::millis(figures.p99)),
            ],
            Self::Tcp => {
                vec![
                    text(figures.connections.map_or(format::NONE.to_string(), |all| {
                        format::count(all.max(0.0) as u64)
                    })),
                    text(format::bytes_rate(figures.read)),
                    text(format::bytes_rate(figures.written)),
                    chart::spark(history, "bytes a second over the last 10 minutes"),
                ]
            }
        }
    }
}

impl Figures {
    /// What a column is put in order by.
    pub(crate) fn key(&self, column: &str) -> Key {
        Key::Figure(match column {
            // Of those that are equally good the slower are worse; a second is a millionth of a share.
            "success" => self.success.map(|share| share - self.p99.unwrap_or(0.0) * 1e-9),
            "rps" => self.rps,
            "p50" => self.p50,
            "p95" => self.p95,
            "p99" => self.p99,
            "connections" => self.connections,
            "read" => self.read,
            "written" => self.written,
            _ => None,
        })
    }

    /// In short, for drawings: `99.98% · 51.3 rps`.
    pub(crate) fn short(&self) -> String {
        match (self.success, self.rps) {
            (Some(_), rps) => {
                format!("{} \u{b7} {} rps", format::percent(self.success), format::rate(rps))
            }
            _ => match self.connections.filter(|open| *open > 0.0) {
                Some(open) => format!("{open:.0} connections"),
                None => "idle".to_string(),
            },
        }
    }
}

/// A success rate with its sign.
pub(crate) fn success(share: Option<f64>) -> Html {
    match share {
        None => el("span").class("muted").text(format::NONE).into(),
        Some(_) => shell::sign(State::of_success(share), format::percent(share)),
    }
}

/// How many of how many have a proxy.
pub(crate) fn meshed(counts: Option<(usize, usize)>) -> Html {
    let Some((meshed, all)) = counts else { return Html::text(format::NONE) };
    let state = match meshed {
        0 => State::None,
        _ if meshed == all => State::Good,
        _ => State::Warn,
    };
    shell::sign(state, format!("{meshed}/{all}"))
}

/// A name that leads to its page, with its kind beside it where that is not plain.
pub(crate) fn named(name: &Name, with_kind: bool, with_namespace: bool) -> Html {
    if name.name.is_empty() {
        return el("span").class("muted").text("no proxy tells").into();
    }
    let kind = with_kind.then(|| el("span").class("kind").text(format!("{}/", name.kind)));
    let namespace = (with_namespace && !name.namespace.is_empty())
        .then(|| el("span").class("kind").text(format!("{} \u{203a} ", name.namespace)));
    el("a").href(&name.link()).child(namespace).child(kind).text(&name.name).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_equally_good_ones_the_slower_is_worse() {
        let of =
            |success, p99| Figures { success: Some(success), p99: Some(p99), ..Figures::default() };
        let worst_first = |a: &Figures, b: &Figures| match (a.key("success"), b.key("success")) {
            (Key::Figure(a), Key::Figure(b)) => a < b,
            _ => false,
        };
        assert!(worst_first(&of(1.0, 900.0), &of(1.0, 3.0)));
        assert!(worst_first(&of(0.99, 3.0), &of(1.0, 900.0)));
    }

    #[test]
    fn a_rate_has_a_sign_and_not_only_a_color() {
        insta::assert_snapshot!(success(Some(0.942)).as_str(), @r#"<span class="sign bad"><i aria-hidden="true">×</i><b>94.20%</b></span>"#);
        insta::assert_snapshot!(meshed(Some((1, 2))).as_str(), @r#"<span class="sign warn"><i aria-hidden="true">‼</i><b>1/2</b></span>"#);
    }

    #[test]
    fn a_window_that_there_is_not_is_a_minute() {
        assert_eq!(Window::asked(&Asked::read("/", "t=7y")).name(), "1m");
        assert_eq!(Window::asked(&Asked::read("/", "t=5m")).0.as_secs(), 300);
    }
}
