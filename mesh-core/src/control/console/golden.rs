//! Golden figures and their histories, of the whole mesh or a part of it, asked of statistics.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::control::public_api::figures::{HttpFigures, TcpFigures};
use crate::control::public_api::resource::{Resource, ResourceKind, ResourceQuery};
use crate::control::public_api::stat::{self, Scope, StatQuestion};
use crate::control::query::{Query, RangeRow, Row};

use super::chart::Series;
use super::figures::{Figures, Sort};
use super::inventory::Name;
use super::overview::Histories;
use super::source::{OVER, Source, Troubles, name_of, rows_of};

/// From point to point of a graph.
const STEP: Duration = Duration::from_secs(10);
/// From point to point of a line in a table.
const SPARK_STEP: Duration = Duration::from_secs(20);
/// What each point looks back on: four scrapes, so that one that fails leaves no gap.
const POINT: Duration = Duration::from_secs(40);

/// What a resource takes in, or of a service what its clients send to it; of the whole mesh where
/// none is named. Figures over the window, and histories.
pub(crate) async fn of(
    source: &Source<'_>,
    resource: Option<(ResourceKind, &Name)>,
    troubles: &mut Troubles,
) -> (Figures, Histories) {
    let scope = match resource {
        None => Ok(Scope::mesh()),
        Some((kind, name)) => {
            let namespace = Some(name.namespace.clone()).filter(|name| !name.is_empty());
            let question = StatQuestion { namespace, ..StatQuestion::all(kind) };
            question.scope(&ResourceQuery { kind, name: Some(name.name.clone()) })
        }
    };
    let scope = match scope {
        Ok(scope) => scope,
        Err(error) => {
            troubles.insert(error.to_string());
            return Default::default();
        }
    };
    let whole = source.statistics().whole(&scope, source.window.0).await;
    let figures = rows_of(whole, troubles).into_iter().next().map(|(http, tcp)| {
        let http = Some(http).filter(|http| http.requests > 0.0);
        figures_of(http.as_ref(), Some(&tcp))
    });
    (figures.unwrap_or_default(), histories(source, &scope, troubles).await)
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
        (read, Query::rate("tcp_read_bytes_total", scope.of_connections(), &[], POINT)),
        (written, Query::rate("tcp_write_bytes_total", scope.of_connections(), &[], POINT)),
    ];
    for (series, query) in queries {
        *series = grid.empty();
        for row in ask_range(source, &query, STEP, troubles).await {
            grid.add(series, &row);
        }
    }
    histories
}

/// Lines of the last minutes for every resource of a kind that a question is about.
pub(crate) async fn sparks(
    source: &Source<'_>,
    question: &StatQuestion,
    kind: ResourceKind,
    sort: Sort,
    troubles: &mut Troubles,
) -> BTreeMap<Name, Series> {
    // Where it cannot be, there were no rows either.
    let Ok(scope) = question.scope(&ResourceQuery::all(kind)) else { return BTreeMap::new() };
    let (family, matchers) = match sort {
        Sort::Http => ("response_total", scope.matchers.clone()),
        Sort::Tcp => ("tcp_read_bytes_total", scope.of_connections()),
    };
    let query = Query::rate(family, matchers, &scope.by, POINT);
    let grid = Grid::now(source, SPARK_STEP);
    let mut found: BTreeMap<Name, Series> = BTreeMap::new();
    for row in ask_range(source, &query, SPARK_STEP, troubles).await {
        let (namespace, name) = stat::named(&row.labels);
        let name = name_of(&Resource { kind, namespace, name });
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
    rows_of(source.statistics().ask(query).await, troubles)
}

async fn ask_range(
    source: &Source<'_>,
    query: &Query,
    step: Duration,
    troubles: &mut Troubles,
) -> Vec<RangeRow> {
    rows_of(source.statistics().ask_range(query, OVER, step).await, troubles)
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
