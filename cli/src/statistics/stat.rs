//! `weft stat`.

use clap::Args;
use mesh_core::control::public_api::resource::{ResourceKind, ResourceQuery};
use mesh_core::control::public_api::stat::{Meshed, StatRow};
use mesh_core::control::public_api::statistics::Answer;
use serde::Serialize;

use super::args::{self, Form, ScopeArgs};
use super::cells::{NONE, bytes, latencies, percent, rps};
use super::table::{left, render, right};
use super::{ask, finish, json};
use crate::Failure;
use crate::cluster::ClusterArgs;

#[derive(Debug, Args)]
pub(crate) struct StatArgs {
    /// Kinds or names: deploy, deploy,sts, deploy/web, deploy web api, ns, svc, po, sts, ds, rs, rc, job, cj,
    /// authority, server, all
    #[arg(value_name = "RESOURCE", required = true)]
    resources: Vec<String>,
    #[command(flatten)]
    scope: ScopeArgs,
    /// Over how long, up to now
    #[arg(long, short = 't', value_name = "TIME", default_value = "1m", value_parser = args::window)]
    time_window: String,
    /// Only what goes to this: svc/web
    #[arg(long, value_name = "RESOURCE", value_parser = args::resource, conflicts_with = "from")]
    to: Option<String>,
    /// The namespace of --to [default: the same]
    #[arg(long, value_name = "NAME", conflicts_with = "from")]
    to_namespace: Option<String>,
    /// Only what comes from this: deploy/web
    #[arg(long, value_name = "RESOURCE", value_parser = args::resource)]
    from: Option<String>,
    /// The namespace of --from [default: the same]
    #[arg(long, value_name = "NAME")]
    from_namespace: Option<String>,
    /// Only what has these labels: app=web,tier!=db
    #[arg(long, short = 'l', value_name = "LABELS")]
    selector: Option<String>,
    /// What has no proxy as well
    #[arg(long)]
    unmeshed: bool,
    /// A table, a wider one, or JSON
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    output: Form,
}

/// Asks, and prints the answer.
pub(crate) async fn run(args: StatArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let wrong = |message: String| Failure { code: 2, message };
    let resources = args::resources(&args.resources).map_err(wrong)?;
    let mut question = vec![args.scope.question(), ("window", args.time_window.clone())];
    question.extend(resources.iter().map(|resource| ("resource", resource.clone())));
    for (name, value) in [
        ("to", &args.to),
        ("to_namespace", &args.to_namespace),
        ("from", &args.from),
        ("from_namespace", &args.from_namespace),
        ("selector", &args.selector),
    ] {
        question.extend(value.clone().map(|value| (name, value)));
    }
    if args.unmeshed {
        question.push(("unmeshed", "true".to_string()));
    }
    let answer: Answer<StatRow> = ask(cluster, "stat", &question).await?;
    let text = match args.output {
        Form::Json => json(&answer.rows.iter().map(Flat::from).collect::<Vec<_>>()),
        form => tables(
            &answer.rows,
            form == Form::Wide,
            args.scope.all_namespaces,
            args::is_of_many_kinds(&resources),
        ),
    };
    let nothing = if args.output == Form::Json { "" } else { "No traffic found." };
    let told = finish(&answer, &text, nothing);
    missing(&resources, &answer.rows).and(told)
}

/// What was asked for by name has to be there.
fn missing(resources: &[String], rows: &[StatRow]) -> Result<(), Failure> {
    let named = resources.iter().flat_map(|text| ResourceQuery::read(text).unwrap_or_default());
    let is_there = |one: &ResourceQuery| {
        one.name.is_none()
            || rows.iter().any(|row| {
                row.resource.kind == one.kind && Some(&row.resource.name) == one.name.as_ref()
            })
    };
    let gone: Vec<_> = named.filter(|one| !is_there(one)).collect();
    match gone.as_slice() {
        [] => Ok(()),
        [first, ..] => Err(Failure::failed(format!(
            "there is no {} {} with a proxy or traffic; see --namespace and --unmeshed",
            first.kind,
            first.name.as_deref().unwrap_or_default()
        ))),
    }
}

/// A table for each kind: their columns differ.
fn tables(rows: &[StatRow], is_wide: bool, all_namespaces: bool, is_prefixed: bool) -> String {
    let mut tables = Vec::new();
    for of_kind in rows.chunk_by(|a, b| a.resource.kind == b.resource.kind) {
        let kind = of_kind[0].resource.kind;
        tables.push(table(of_kind, kind, is_wide, all_namespaces, is_prefixed));
    }
    tables.join("\n")
}

fn table(
    rows: &[StatRow],
    kind: ResourceKind,
    is_wide: bool,
    all_namespaces: bool,
    is_prefixed: bool,
) -> String {
    let has_namespace = all_namespaces && kind != ResourceKind::Namespace;
    let is_pod = kind == ResourceKind::Pod;
    let is_server = kind == ResourceKind::Server;
    let mut columns = Vec::new();
    columns.extend(has_namespace.then(|| left("NAMESPACE")));
    columns.push(left("NAME"));
    columns.extend(is_pod.then(|| left("STATUS")));
    columns.extend((!is_server).then(|| right("MESHED")));
    columns.extend(is_server.then(|| right("UNAUTHORIZED")));
    columns.extend(
        ["SUCCESS", "RPS", "LATENCY_P50", "LATENCY_P95", "LATENCY_P99", "TCP_CONN"].map(right),
    );
    if is_wide {
        columns.extend(["READ_BYTES/SEC", "WRITE_BYTES/SEC"].map(right));
    }
    let cells = |row: &StatRow| {
        let mut cells = Vec::new();
        let name = &row.resource.name;
        cells.extend(has_namespace.then(|| row.resource.namespace.clone()));
        cells.push(if is_prefixed { format!("{}/{name}", kind.short()) } else { name.clone() });
        cells.extend(is_pod.then(|| row.status.clone().unwrap_or(NONE.to_string())));
        cells.extend((!is_server).then(|| meshed(row.meshed)));
        cells.extend(is_server.then(|| row.unauthorized_rps.map_or(NONE.to_string(), rps)));
        match &row.http {
            Some(http) => {
                cells.extend([percent(http.success_rate), rps(http.rps)]);
                cells.extend(latencies(&http.latency_ms));
            }
            None => cells.extend([NONE; 5].map(str::to_string)),
        }
        let tcp = |cell: fn(&_) -> String| row.tcp.as_ref().map_or(NONE.to_string(), cell);
        cells.push(tcp(|tcp| format!("{:.0}", tcp.connections)));
        if is_wide {
            cells.push(tcp(|tcp| bytes(tcp.read_bytes_per_second)));
            cells.push(tcp(|tcp| bytes(tcp.write_bytes_per_second)));
        }
        cells
    };
    render(&columns, &rows.iter().map(cells).collect::<Vec<_>>())
}

fn meshed(meshed: Option<Meshed>) -> String {
    meshed.map_or(NONE.to_string(), |meshed| format!("{}/{}", meshed.meshed, meshed.running))
}

/// A row as Linkerd's JSON has it.
#[derive(Serialize)]
struct Flat<'a> {
    namespace: &'a str,
    kind: ResourceKind,
    name: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    meshed: Option<String>,
    success: Option<f64>,
    rps: Option<f64>,
    latency_ms_p50: Option<f64>,
    latency_ms_p95: Option<f64>,
    latency_ms_p99: Option<f64>,
    tcp_open_connections: Option<f64>,
    tcp_read_bytes_rate: Option<f64>,
    tcp_write_bytes_rate: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unauthorized_rps: Option<f64>,
    /// The share of requests over mutual TLS.
    secured: Option<f64>,
}

impl<'a> From<&'a StatRow> for Flat<'a> {
    fn from(row: &'a StatRow) -> Self {
        let StatRow { resource, status, http, tcp, unauthorized_rps, .. } = row;
        let latency = http.map(|http| http.latency_ms).unwrap_or_default();
        Self {
            namespace: &resource.namespace,
            kind: resource.kind,
            name: &resource.name,
            status: status.as_deref(),
            meshed: row.meshed.map(|count| meshed(Some(count))),
            success: http.and_then(|http| http.success_rate),
            rps: http.map(|http| http.rps),
            latency_ms_p50: latency.p50,
            latency_ms_p95: latency.p95,
            latency_ms_p99: latency.p99,
            tcp_open_connections: tcp.map(|tcp| tcp.connections),
            tcp_read_bytes_rate: tcp.map(|tcp| tcp.read_bytes_per_second),
            tcp_write_bytes_rate: tcp.map(|tcp| tcp.write_bytes_per_second),
            unauthorized_rps: *unauthorized_rps,
            secured: http.and_then(|http| http.secured),
        }
    }
}

#[cfg(test)]
mod tests {
    use mesh_core::control::public_api::figures::{HttpFigures, Quantiles, TcpFigures};
    use mesh_core::control::public_api::resource::Resource;

    use super::*;

    fn row(kind: ResourceKind, name: &str) -> StatRow {
        let resource = Resource { kind, namespace: "shop".into(), name: name.into() };
        StatRow {
            resource,
            status: (kind == ResourceKind::Pod).then(|| "Running".to_string()),
            meshed: Some(Meshed { meshed: 2, running: 3, failed: 0 }),
            http: Some(HttpFigures {
                requests: 750.0,
                rps: 12.5,
                success_rate: Some(0.987_65),
                secured: Some(1.0),
                latency_ms: Quantiles { p50: Some(1.25), p95: Some(19.0), p99: Some(1234.0) },
            }),
            tcp: Some(TcpFigures {
                connections: 4.0,
                read_bytes_per_second: 1234.56,
                write_bytes_per_second: 7.0,
            }),
            unauthorized_rps: (kind == ResourceKind::Server).then_some(0.5),
        }
    }

    fn idle(kind: ResourceKind, name: &str) -> StatRow {
        StatRow { http: None, tcp: None, unauthorized_rps: None, ..row(kind, name) }
    }

    #[test]
    fn tables_have_linkerds_columns() {
        let rows =
            [row(ResourceKind::Deployment, "web"), idle(ResourceKind::Deployment, "a-database")];
        insta::assert_snapshot!(tables(&rows, false, false, false), @r#"
        NAME         MESHED   SUCCESS       RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TCP_CONN
        web             2/3    98.76%   12.5rps         1.2ms          19ms        1234ms          4
        a-database      2/3         -         -             -             -             -          -
        "#);
        insta::assert_snapshot!(tables(&rows, true, true, false), @r#"
        NAMESPACE   NAME         MESHED   SUCCESS       RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TCP_CONN   READ_BYTES/SEC   WRITE_BYTES/SEC
        shop        web             2/3    98.76%   12.5rps         1.2ms          19ms        1234ms          4        1234.6B/s            7.0B/s
        shop        a-database      2/3         -         -             -             -             -          -                -                 -
        "#);
        let pods = [row(ResourceKind::Pod, "web-1"), idle(ResourceKind::Pod, "web-2")];
        insta::assert_snapshot!(tables(&pods, false, false, false), @r#"
        NAME    STATUS    MESHED   SUCCESS       RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TCP_CONN
        web-1   Running      2/3    98.76%   12.5rps         1.2ms          19ms        1234ms          4
        web-2   Running      2/3         -         -             -             -             -          -
        "#);
        insta::assert_snapshot!(tables(&[row(ResourceKind::Server, "web-http")], false, false, false), @r#"
        NAME       UNAUTHORIZED   SUCCESS       RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TCP_CONN
        web-http         0.5rps    98.76%   12.5rps         1.2ms          19ms        1234ms          4
        "#);
    }

    #[test]
    fn kinds_have_a_table_each() {
        let rows = [row(ResourceKind::Deployment, "web"), row(ResourceKind::Pod, "web-1")];
        insta::assert_snapshot!(tables(&rows, false, false, true), @r#"
        NAME         MESHED   SUCCESS       RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TCP_CONN
        deploy/web      2/3    98.76%   12.5rps         1.2ms          19ms        1234ms          4

        NAME       STATUS    MESHED   SUCCESS       RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99   TCP_CONN
        po/web-1   Running      2/3    98.76%   12.5rps         1.2ms          19ms        1234ms          4
        "#);
    }

    #[test]
    fn programs_get_linkerds_fields() {
        let row = row(ResourceKind::Deployment, "web");
        let flat = [Flat::from(&row)];
        insta::assert_snapshot!(json(&flat), @r#"
        [
          {
            "namespace": "shop",
            "kind": "deployment",
            "name": "web",
            "meshed": "2/3",
            "success": 0.98765,
            "rps": 12.5,
            "latency_ms_p50": 1.25,
            "latency_ms_p95": 19.0,
            "latency_ms_p99": 1234.0,
            "tcp_open_connections": 4.0,
            "tcp_read_bytes_rate": 1234.56,
            "tcp_write_bytes_rate": 7.0,
            "secured": 1.0
          }
        ]
        "#);
    }

    #[test]
    fn what_was_asked_for_by_name_has_to_be_there() {
        let rows = [row(ResourceKind::Deployment, "web")];
        let asked = |text: &str| missing(&[text.to_string()], &rows).is_ok();
        assert!(asked("deploy") && asked("deploy/web"));
        assert!(!asked("deploy/api") && !asked("sts/web"));
    }
}
