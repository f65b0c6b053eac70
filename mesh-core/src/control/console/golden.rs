//! Golden figures and their histories, of the whole mesh or a part of it, asked of statistics.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::control::public_api::figures::{HttpFigures, TcpFigures};
use crate::control::public_api::resource::ResourceKind;
use crate::control::query::{Matcher, Query, RangeRow, Row};

use super::chart::Series;
use super::figures::{Figures, Sort};
use super::inventory::Name;
use super::overview::Histories;
use super::source::{OVER, Source, Troubles, rows_of};

/// From point to point of a graph.
const STEP: Duration = Duration::from_secs(10);
/// From point to point of a line in a table.
const SPARK_STEP: Duration = Duration::from_secs(20);
/// What each point looks back on: four scrapes, so that one that fails leaves no gap.
const POINT: Duration = Duration::from_secs(40);

/// Whose traffic.
#[derive(Clone, Debug)]
pub(crate) struct Scope {
    matchers: Vec<Matcher>,
    /// Which end of connections counts them.
    peer: &'static str,
}

impl Scope {
    /// All that meshed servers take in.
    pub(crate) fn mesh() -> Self {
        Self { matchers: vec![Matcher::is("direction", "inbound")], peer: "src" }
    }

    /// What the workloads of a namespace take in.
    pub(crate) fn namespace(name: &str) -> Self {
        let mut scope = Self::mesh();
        scope.matchers.push(Matcher::is("namespace", name));
        scope
    }

    /// What a workload takes in; of a service, what its clients send to it.
    pub(crate) fn resource(kind: ResourceKind, namespace: &str, name: &str) -> Self {
        match kind.label() {
            "" => Self {
                matchers: vec![
                    Matcher::is("direction", "outbound"),
                    Matcher::is("dst_namespace", namespace),
                    Matcher::is(kind.dst_label(), name),
                ],
                peer: "dst",
            },
            label => {
                let mut scope = Self::namespace(namespace);
                scope.matchers.push(Matcher::is(label, name));
                scope
            }
        }
    }

    fn of_peer(&self) -> Vec<Matcher> {
        let mut matchers = self.matchers.clone();
        matchers.push(Matcher::is("peer", self.peer));
        matchers
    }
}

/// Figures over the window, and histories.
pub(crate) async fn of(
    source: &Source<'_>,
    scope: &Scope,
    troubles: &mut Troubles,
) -> (Figures, Histories) {
    let window = source.window.0;
    let matchers = || scope.matchers.clone();
    let rated = Query::rate("response_total", matchers(), &["classification"], window);
    let (mut good, mut all) = (0.0, 0.0);
    for row in ask(source, &rated, troubles).await {
        all += row.value;
        if row.labels.first().is_some_and(|class| class == "success") {
            good += row.value;
        }
    }
    let has_requests = all > 0.0;
    let mut figures = Figures {
        success: has_requests.then(|| good / all),
        rps: has_requests.then_some(all),
        ..Figures::default()
    };
    let family = "response_latency_ms_bucket";
    for (share, slot) in quantiles(&mut figures) {
        let query = Query::quantile(share, family, matchers(), &[], window);
        *slot = one(ask(source, &query, troubles).await).filter(|_| has_requests);
    }
    let open = Query::last("tcp_open_connections", scope.of_peer(), &[]);
    figures.connections = one(ask(source, &open, troubles).await);
    let read = Query::rate("tcp_read_bytes_total", scope.of_peer(), &[], window);
    figures.read = one(ask(source, &read, troubles).await);
    let written = Query::rate("tcp_write_bytes_total", scope.of_peer(), &[], window);
    figures.written = one(ask(source, &written, troubles).await);
    (figures, histories(source, scope, troubles).await)
}

fn quantiles(figures: &mut Figures) -> [(f64, &mut Option<f64>); 3] {
    let Figures { p50, p95, p99, .. } = figures;
    [(0.5, p50), (0.95, p95), (0.99, p99)]
}

async fn histories(source: &Source<'_>, scope: &Scope, troubles: &mut Troubles) -> Histories {
    let matchers = || scope.matchers.clone();
    let rated = Query::rate("response_total", matchers(), &["classification"], POINT);
    let grid = Grid::now(source, STEP);
    let (mut good, mut all) = (grid.empty(), grid.empty());
    for row in ask_range(source, &rated, STEP, troubles).await {
        let is_good = row.labels.first().is_some_and(|class| class == "success");
        grid.add(&mut all, &row);
        if is_good {
            grid.add(&mut good, &row);
        }
    }
    let share = |(all, good): (&Option<f64>, &Option<f64>)| {
        let all = all.filter(|all| *all > 0.0)?;
        Some((good.unwrap_or(0.0) / all).clamp(0.0, 1.0))
    };
    let success = all.iter().zip(&good).map(share).collect();
    let mut histories = Histories { span: OVER, success, rps: all, ..Histories::default() };
    let family = "response_latency_ms_bucket";
    let Histories { p50, p95, p99, read, written, .. } = &mut histories;
    let queries = [
        (p50, Query::quantile(0.5, family, matchers(), &[], POINT)),
        (p95, Query::quantile(0.95, family, matchers(), &[], POINT)),
        (p99, Query::quantile(0.99, family, matchers(), &[], POINT)),
        (read, Query::rate("tcp_read_bytes_total", scope.of_peer(), &[], POINT)),
        (written, Query::rate("tcp_write_bytes_total", scope.of_peer(), &[], POINT)),
    ];
    for (series, query) in queries {
        *series = grid.empty();
        for row in ask_range(source, &query, STEP, troubles).await {
            grid.add(series, &row);
        }
    }
    histories
}

/// Lines of the last minutes for every resource of a kind.
pub(crate) async fn sparks(
    source: &Source<'_>,
    kind: ResourceKind,
    namespace: Option<&str>,
    sort: Sort,
    troubles: &mut Troubles,
) -> BTreeMap<Name, Series> {
    let (direction, space, label, peer) = match kind.label() {
        "" => ("outbound", "dst_namespace", kind.dst_label(), "dst"),
        label => ("inbound", "namespace", label, "src"),
    };
    let mut matchers = vec![Matcher::is("direction", direction), Matcher::some(label)];
    matchers.extend(namespace.map(|namespace| Matcher::is(space, namespace)));
    let family = match sort {
        Sort::Http => "response_total",
        Sort::Tcp => {
            matchers.push(Matcher::is("peer", peer));
            "tcp_read_bytes_total"
        }
    };
    let by: &[&'static str] = match kind {
        ResourceKind::Namespace => &["namespace"],
        _ => &[space, label],
    };
    let query = Query::rate(family, matchers, by, POINT);
    let grid = Grid::now(source, SPARK_STEP);
    let mut found: BTreeMap<Name, Series> = BTreeMap::new();
    for row in ask_range(source, &query, SPARK_STEP, troubles).await {
        let name = match row.labels.as_slice() {
            [name] => Name::new("", kind.name(), name),
            [namespace, name, ..] => Name::new(namespace, kind.name(), name),
            [] => continue,
        };
        grid.add(found.entry(name).or_insert_with(|| grid.empty()), &row);
    }
    found
}

/// Figures as statistics have them.
pub(crate) fn figures_of(http: Option<&HttpFigures>, tcp: Option<&TcpFigures>) -> Figures {
    Figures {
        success: http.and_then(|http| http.success_rate),
        rps: http.map(|http| http.rps),
        p50: http.and_then(|http| http.latency_ms.p50),
        p95: http.and_then(|http| http.latency_ms.p95),
        p99: http.and_then(|http| http.latency_ms.p99),
        connections: tcp.map(|tcp| tcp.connections),
        read: tcp.map(|tcp| tcp.read_bytes_per_second),
        written: tcp.map(|tcp| tcp.write_bytes_per_second),
    }
}

/// What is answered now; nothing where it cannot be had, which is told.
pub(crate) async fn ask(source: &Source<'_>, query: &Query, troubles: &mut Troubles) -> Vec<Row> {
    match source.viz.parts().statistics.ask(query).await {
        Ok(answer) => rows_of(answer, troubles),
        Err(error) => {
            troubles.insert(error.to_string());
            Vec::new()
        }
    }
}

async fn ask_range(
    source: &Source<'_>,
    query: &Query,
    step: Duration,
    troubles: &mut Troubles,
) -> Vec<RangeRow> {
    match source.viz.parts().statistics.ask_range(query, OVER, step).await {
        Ok(answer) => rows_of(answer, troubles),
        Err(error) => {
            troubles.insert(error.to_string());
            Vec::new()
        }
    }
}

fn one(rows: Vec<Row>) -> Option<f64> {
    rows.into_iter().next().map(|row| row.value)
}

/// The moments of a graph.
#[derive(Clone, Copy, Debug)]
struct Grid {
    start_ms: i64,
    step_ms: i64,
    points: usize,
}

impl Grid {
    /// The same moments as the statistics answer for.
    fn now(source: &Source<'_>, step: Duration) -> Self {
        let now_ms = source.viz.parts().runtime.clock.wall().as_duration().as_millis() as i64;
        Self::until(now_ms, step)
    }

    fn until(now_ms: i64, step: Duration) -> Self {
        let step_ms = (step.as_millis() as i64).max(1);
        let points = OVER.as_millis() as i64 / step_ms;
        let end_ms = now_ms.div_euclid(step_ms) * step_ms;
        Self { start_ms: end_ms - points * step_ms, step_ms, points: points as usize + 1 }
    }

    fn empty(&self) -> Series {
        vec![None; self.points]
    }

    /// Adds the points of a row to those of a line.
    fn add(&self, series: &mut Series, row: &RangeRow) {
        for (at_ms, value) in &row.points {
            let place = usize::try_from((at_ms - self.start_ms) / self.step_ms).ok();
            if let Some(point) = place.and_then(|place| series.get_mut(place)) {
                *point = Some(point.unwrap_or(0.0) + value);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_stand_where_their_moments_are() {
        let grid = Grid::until(600_005, Duration::from_secs(60));
        assert_eq!((grid.start_ms, grid.points), (0, 11));
        let mut series = grid.empty();
        let row = |points: &[(i64, f64)]| RangeRow { labels: vec![], points: points.to_vec() };
        grid.add(&mut series, &row(&[(0, 1.0), (600_000, 2.0), (660_000, 9.0)]));
        grid.add(&mut series, &row(&[(600_000, 0.5)]));
        assert_eq!((series[0], series[1], series[10]), (Some(1.0), None, Some(2.5)));
    }
}
