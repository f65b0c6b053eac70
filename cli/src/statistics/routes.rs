//! `weft stat-inbound`, `weft stat-outbound` and `weft routes`.

use std::sync::Arc;

use clap::Args;
use mesh_core::control::MeshConfig;
use mesh_core::control::metrics::ControlMetrics;
use mesh_core::control::prometheus::{Prometheus, PrometheusUrl};
use mesh_core::control::public_api::ApiError;
use mesh_core::control::public_api::resource::ResourceQuery;
use mesh_core::control::public_api::routes::{
    InboundRow, OutboundRow, RouteFigures, RouteRow, RoutesQuestion,
};
use mesh_core::control::public_api::statistics::{Answer, Source, Statistics, read_window};
use mesh_core::control::publish::Publisher;
use runtime_real::no_cluster::NoCluster;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::args::{self, Form, ScopeArgs};
use super::cells::{NONE, kind, latencies, percent, rps};
use super::table::{left, render, right};
use super::{ask, finish, json};
use crate::Failure;
use crate::cluster::ClusterArgs;

#[derive(Debug, Args)]
pub(crate) struct RouteStatArgs {
    /// A kind or a name: deploy, deploy/web, po
    #[arg(value_name = "RESOURCE", value_parser = args::resource)]
    resource: String,
    #[command(flatten)]
    scope: ScopeArgs,
    /// Over how long, up to now
    #[arg(long, short = 't', value_name = "TIME", default_value = "1m", value_parser = args::window)]
    time_window: String,
    /// A table, or JSON
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    output: Form,
    /// Ask this Prometheus, such as http://localhost:9090, and no controller
    #[arg(long = "prometheusURL", visible_alias = "prometheus-url", value_name = "URL")]
    prometheus_url: Option<PrometheusUrl>,
}

#[derive(Debug, Args)]
pub(crate) struct RoutesArgs {
    /// A kind or a name: svc/web, deploy/web, po
    #[arg(value_name = "RESOURCE", value_parser = args::resource)]
    resource: String,
    #[command(flatten)]
    scope: ScopeArgs,
    /// Over how long, up to now
    #[arg(long, short = 't', value_name = "TIME", default_value = "1m", value_parser = args::window)]
    time_window: String,
    /// Only what goes to this service: svc/web
    #[arg(long, value_name = "SERVICE", value_parser = args::resource)]
    to: Option<String>,
    /// The namespace of --to [default: the same]
    #[arg(long, value_name = "NAME")]
    to_namespace: Option<String>,
    /// A table, one that tells requests and attempts apart, or JSON
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    output: Form,
}

impl RouteStatArgs {
    fn question(&self) -> [(&'static str, String); 3] {
        [
            ("resource", self.resource.clone()),
            self.scope.question(),
            ("window", self.time_window.clone()),
        ]
    }

    /// The same for a Prometheus.
    fn of_prometheus(&self) -> Result<RoutesQuestion, ApiError> {
        Ok(RoutesQuestion {
            resource: ResourceQuery::read_one(&self.resource)?,
            namespace: (!self.scope.all_namespaces).then(|| self.scope.namespace.clone()),
            window: read_window(&self.time_window)?,
            to: None,
        })
    }
}

/// What a Prometheus alone can tell: routes are names of labels, and need no index.
fn statistics(url: &PrometheusUrl) -> Statistics {
    let runtime = runtime_real::runtime(Arc::new(NoCluster));
    let metrics = Arc::new(ControlMetrics::default());
    let publisher = Publisher::new(MeshConfig::default(), 0, metrics);
    let source = Source::Prometheus(Prometheus::new(&runtime, url.clone()));
    Statistics::new(&runtime, publisher, source)
}

/// Prints routes of servers' ports.
pub(crate) async fn inbound(args: RouteStatArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let alone = async |known: Statistics, asked| known.stat_inbound(&asked).await;
    tell(args, cluster, "stat-inbound", alone, inbound_table).await
}

/// Prints routes of clients.
pub(crate) async fn outbound(args: RouteStatArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let alone = async |known: Statistics, asked| known.stat_outbound(&asked).await;
    tell(args, cluster, "stat-outbound", alone, outbound_table).await
}

/// Asks a controller at a path, or a Prometheus `alone`, and prints the answer.
async fn tell<R: Serialize + DeserializeOwned>(
    args: RouteStatArgs,
    cluster: &ClusterArgs,
    path: &str,
    alone: impl AsyncFnOnce(Statistics, RoutesQuestion) -> Result<Answer<R>, ApiError>,
    table: fn(&[R], bool) -> String,
) -> Result<(), Failure> {
    let answer = match &args.prometheus_url {
        None => ask(cluster, path, &args.question()).await?,
        Some(url) => {
            let question = args.of_prometheus().map_err(Failure::misconfigured)?;
            alone(statistics(url), question).await.map_err(Failure::failed)?
        }
    };
    let all_namespaces = args.scope.all_namespaces;
    match args.output {
        Form::Json => finish(&answer, &json(&answer.rows), ""),
        _ => finish(&answer, &table(&answer.rows, all_namespaces), "No traffic found."),
    }
}

/// Prints routes.
pub(crate) async fn routes(args: RoutesArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let mut question = vec![
        ("resource", args.resource.clone()),
        args.scope.question(),
        ("window", args.time_window.clone()),
    ];
    question.extend(args.to.clone().map(|to| ("to", to)));
    question.extend(args.to_namespace.clone().map(|name| ("to_namespace", name)));
    let answer: Answer<RouteRow> = ask(cluster, "routes", &question).await?;
    match args.output {
        Form::Json => finish(&answer, &json(&answer.rows), ""),
        form => {
            finish(&answer, &route_table(&answer.rows, form == Form::Wide), "No traffic found.")
        }
    }
}

/// The columns of [`figures`].
const FIGURES: [&str; 5] = ["SUCCESS", "RPS", "LATENCY_P50", "LATENCY_P95", "LATENCY_P99"];

fn inbound_table(rows: &[InboundRow], all_namespaces: bool) -> String {
    let mut columns = Vec::new();
    columns.extend(all_namespaces.then(|| left("NAMESPACE")));
    columns.extend(["NAME", "SERVER", "ROUTE", "TYPE"].map(left));
    columns.extend(FIGURES.map(right));
    let cells = |row: &InboundRow| {
        let mut cells = Vec::new();
        cells.extend(all_namespaces.then(|| row.resource.namespace.clone()));
        cells.push(row.resource.name.clone());
        cells.extend([row.server.of_port(), row.route.of_policy(), kind(&row.route)]);
        cells.extend(figures(&row.http.into()));
        cells
    };
    render(&columns, &rows.iter().map(cells).collect::<Vec<_>>())
}

fn outbound_table(rows: &[OutboundRow], all_namespaces: bool) -> String {
    let mut columns = Vec::new();
    columns.extend(all_namespaces.then(|| left("NAMESPACE")));
    columns.extend(["NAME", "SERVICE", "ROUTE", "TYPE", "BACKEND"].map(left));
    columns.extend(FIGURES.map(right));
    columns.extend(["TIMEOUTS", "RETRIES"].map(right));
    let mut cells = Vec::new();
    for row in rows {
        let mut line = Vec::new();
        line.extend(all_namespaces.then(|| row.resource.namespace.clone()));
        line.push(row.resource.name.clone());
        line.extend([
            row.service.of_port(),
            row.route.of_policy(),
            kind(&row.route),
            String::new(),
        ]);
        line.extend(figures(&row.figures));
        line.extend([percent(row.timeouts), percent(row.retries)]);
        cells.push(line);
        for (nth, backend) in row.backends.iter().enumerate() {
            let is_last = nth + 1 == row.backends.len();
            let mut line = Vec::new();
            line.extend(all_namespaces.then(String::new));
            line.extend([String::new(), if is_last { "└─" } else { "├─" }.to_string()]);
            line.extend([String::new(), String::new(), backend.backend.of_port()]);
            line.extend(figures(&backend.figures));
            cells.push(line);
        }
    }
    render(&columns, &cells)
}

fn route_table(rows: &[RouteRow], is_wide: bool) -> String {
    let mut columns: Vec<_> = ["ROUTE", "SERVICE"].map(left).into();
    match is_wide {
        true => columns.extend(
            ["EFFECTIVE_SUCCESS", "EFFECTIVE_RPS", "ACTUAL_SUCCESS", "ACTUAL_RPS"].map(right),
        ),
        false => columns.extend(["SUCCESS", "RPS"].map(right)),
    }
    columns.extend(["LATENCY_P50", "LATENCY_P95", "LATENCY_P99"].map(right));
    let cells = |row: &RouteRow| {
        let [success, rate, latencies @ ..] = figures(&row.effective);
        let mut cells = vec![row.route.of_policy(), row.service.of_port(), success, rate];
        if is_wide {
            let actual = row.actual.as_ref().map(figures);
            let [success, rate, ..] = actual.unwrap_or([NONE; 5].map(str::to_string));
            cells.extend([success, rate]);
        }
        cells.extend(latencies);
        cells
    };
    render(&columns, &rows.iter().map(cells).collect::<Vec<_>>())
}

fn figures(figures: &RouteFigures) -> [String; 5] {
    let [p50, p95, p99] = latencies(&figures.latency_ms);
    [percent(figures.success_rate), rps(figures.rps), p50, p95, p99]
}

#[cfg(test)]
mod tests {
    use mesh_core::control::public_api::figures::{HttpFigures, Quantiles};
    use mesh_core::control::public_api::resource::{Resource, ResourceKind};
    use mesh_core::control::public_api::routes::{BackendRow, PolicyName};

    use super::*;

    const LATENCY: Quantiles = Quantiles { p50: Some(1.0), p95: Some(25.0), p99: None };

    fn name(kind: &str, name: &str, port: Option<u16>) -> PolicyName {
        PolicyName { kind: kind.into(), namespace: "shop".into(), name: name.into(), port }
    }

    fn web() -> Resource {
        Resource { kind: ResourceKind::Deployment, namespace: "shop".into(), name: "web".into() }
    }

    fn share(rps: f64, success: f64) -> RouteFigures {
        let requests = rps * 60.0;
        RouteFigures { requests, rps, success_rate: Some(success), latency_ms: LATENCY }
    }

    #[test]
    fn inbound_routes_have_linkerds_columns() {
        let http = HttpFigures {
            requests: 60.0,
            rps: 1.0,
            success_rate: Some(0.5),
            secured: None,
            latency_ms: LATENCY,
        };
        let by_default = InboundRow {
            resource: web(),
            server: name("default", "all-unauthenticated", Some(4191)),
            route: name("default", "probe", None),
            http,
            unauthorized_rps: 0.0,
        };
        let routed = InboundRow {
            server: name("server", "web-http", Some(8080)),
            route: name("HTTPRoute", "admin", None),
            ..by_default.clone()
        };
        insta::assert_snapshot!(inbound_table(&[by_default, routed], false), @r#"
        NAME   SERVER           ROUTE     TYPE        SUCCESS      RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99
        web    [default]:4191   [probe]                50.00%   1.0rps         1.0ms          25ms             -
        web    web-http:8080    admin     HTTPRoute    50.00%   1.0rps         1.0ms          25ms             -
        "#);
    }

    #[test]
    fn backends_hang_on_their_route() {
        let backend = |named: &str, figures| BackendRow {
            backend: name("Service", named, Some(80)),
            figures,
        };
        let row = OutboundRow {
            resource: web(),
            service: name("Service", "api", Some(80)),
            route: name("HTTPRoute", "split", None),
            figures: share(10.0, 1.0),
            timeouts: Some(0.0),
            retries: Some(0.105),
            backends: vec![backend("api", share(9.0, 0.9)), backend("api-v2", share(2.0, 1.0))],
        };
        insta::assert_snapshot!(outbound_table(std::slice::from_ref(&row), false), @r#"
        NAME   SERVICE   ROUTE   TYPE        BACKEND     SUCCESS       RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TIMEOUTS   RETRIES
        web    api:80    split   HTTPRoute               100.00%   10.0rps         1.0ms          25ms             -      0.00%    10.50%
               ├─                            api:80       90.00%    9.0rps         1.0ms          25ms             -
               └─                            api-v2:80   100.00%    2.0rps         1.0ms          25ms             -
        "#);
        insta::assert_snapshot!(outbound_table(&[row], true), @r#"
        NAMESPACE   NAME   SERVICE   ROUTE   TYPE        BACKEND     SUCCESS       RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TIMEOUTS   RETRIES
        shop        web    api:80    split   HTTPRoute               100.00%   10.0rps         1.0ms          25ms             -      0.00%    10.50%
                           ├─                            api:80       90.00%    9.0rps         1.0ms          25ms             -
                           └─                            api-v2:80   100.00%    2.0rps         1.0ms          25ms             -
        "#);
    }

    #[test]
    fn routes_tell_requests_and_attempts_apart() {
        let row = RouteRow {
            route: name("default", "default", None),
            service: name("Service", "api", Some(80)),
            effective: share(10.0, 1.0),
            actual: Some(share(11.0, 0.9)),
        };
        let inbound = RouteRow { actual: None, ..row.clone() };
        insta::assert_snapshot!(route_table(std::slice::from_ref(&row), false), @r#"
        ROUTE       SERVICE   SUCCESS       RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99
        [default]   api:80    100.00%   10.0rps         1.0ms          25ms             -
        "#);
        insta::assert_snapshot!(route_table(&[row, inbound], true), @r#"
        ROUTE       SERVICE   EFFECTIVE_SUCCESS   EFFECTIVE_RPS   ACTUAL_SUCCESS   ACTUAL_RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99
        [default]   api:80              100.00%         10.0rps           90.00%      11.0rps         1.0ms          25ms             -
        [default]   api:80              100.00%         10.0rps                -            -         1.0ms          25ms             -
        "#);
    }
}
