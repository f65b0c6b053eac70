//! `weft authz`: which authorizations there are; `weft viz authz`: what they did.

use clap::Args;
use mesh_core::control::public_api::authz::{AuthzRow, PolicyRow};
use mesh_core::control::public_api::routes::PolicyName;
use mesh_core::control::public_api::statistics::Answer;

use super::args::{self, Form, ScopeArgs};
use super::cells::{NONE, latencies, percent, rps};
use super::table::{left, render, right};
use super::{ask, finish, json};
use crate::Failure;
use crate::cluster::ClusterArgs;

#[derive(Debug, Args)]
pub(crate) struct AuthzArgs {
    /// A kind or a name: deploy/web, po, ns/shop
    #[arg(value_name = "RESOURCE", value_parser = args::resource)]
    resource: String,
    #[command(flatten)]
    scope: ScopeArgs,
    /// Over how long figures are taken, up to now
    #[arg(long, short = 't', value_name = "TIME", default_value = "1m", value_parser = args::window)]
    time_window: String,
    /// A table, or JSON
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    output: Form,
}

impl AuthzArgs {
    fn question(&self) -> [(&'static str, String); 3] {
        [
            ("resource", self.resource.clone()),
            self.scope.question(),
            ("window", self.time_window.clone()),
        ]
    }
}

/// Prints what authorizations let through and refused.
pub(crate) async fn run(args: AuthzArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let answer: Answer<AuthzRow> = ask(cluster, "authz", &args.question()).await?;
    match args.output {
        Form::Json => finish(&answer, &json(&answer.rows), ""),
        _ => finish(&answer, &table(&answer.rows), "No traffic found."),
    }
}

/// Prints the authorizations that there are.
pub(crate) async fn policies(args: AuthzArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let answer: Answer<PolicyRow> = ask(cluster, "policies", &args.question()).await?;
    match args.output {
        Form::Json => finish(&answer, &json(&answer.rows), ""),
        _ => finish(&answer, &policy_table(&answer.rows), "No authorizations found."),
    }
}

fn table(rows: &[AuthzRow]) -> String {
    let mut columns: Vec<_> = ["ROUTE", "SERVER", "AUTHORIZATION"].map(left).into();
    columns.extend(
        ["UNAUTHORIZED", "SUCCESS", "RPS", "LATENCY_P50", "LATENCY_P95", "LATENCY_P99"].map(right),
    );
    let cells = |row: &AuthzRow| {
        let authorization = row.authorization.as_ref().map(authorization);
        let mut cells = vec![
            row.route.of_policy(),
            row.server.of_port(),
            authorization.unwrap_or(NONE.to_string()),
            rps(row.unauthorized_rps),
        ];
        match &row.http {
            Some(http) => {
                cells.extend([percent(http.success_rate), rps(http.rps)]);
                cells.extend(latencies(&http.latency_ms));
            }
            None => cells.extend([NONE; 5].map(str::to_string)),
        }
        cells
    };
    render(&columns, &rows.iter().map(cells).collect::<Vec<_>>())
}

fn authorization(name: &PolicyName) -> String {
    match name.kind.as_str() {
        "default" => format!("[default:{}]", name.name),
        kind => format!("{kind}/{}", name.name),
    }
}

fn policy_table(rows: &[PolicyRow]) -> String {
    let columns = ["ROUTE", "SERVER", "AUTHORIZATION_POLICY", "SERVER_AUTHORIZATION"].map(left);
    let any = || "*".to_string();
    let cells = |row: &PolicyRow| {
        vec![
            row.route.as_ref().map_or_else(any, PolicyName::of_policy),
            row.server.name.clone(),
            row.authorization_policy.clone().unwrap_or_default(),
            row.server_authorization.clone().unwrap_or_default(),
        ]
    };
    let mut cells: Vec<_> = rows.iter().map(cells).collect();
    // A Server is of many pods.
    cells.sort();
    cells.dedup();
    render(&columns, &cells)
}

#[cfg(test)]
mod tests {
    use mesh_core::control::public_api::figures::{HttpFigures, Quantiles};
    use mesh_core::control::public_api::resource::{Resource, ResourceKind};

    use super::*;

    fn name(kind: &str, name: &str, port: Option<u16>) -> PolicyName {
        PolicyName { kind: kind.into(), namespace: String::new(), name: name.into(), port }
    }

    fn resource() -> Resource {
        Resource { kind: ResourceKind::Deployment, namespace: "shop".into(), name: "web".into() }
    }

    #[test]
    fn what_was_refused_has_no_authorization() {
        let latency_ms = Quantiles { p50: Some(1.0), p95: Some(2.0), p99: Some(30.0) };
        let allowed = AuthzRow {
            resource: resource(),
            server: name("server", "web-http", Some(8080)),
            route: name("default", "default", None),
            authorization: Some(name("authorizationpolicy", "from-front", None)),
            unauthorized_rps: 0.0,
            http: Some(HttpFigures {
                requests: 60.0,
                rps: 1.0,
                success_rate: Some(1.0),
                secured: Some(1.0),
                latency_ms,
            }),
            connections_per_second: 0.0,
        };
        let refused =
            AuthzRow { authorization: None, unauthorized_rps: 2.5, http: None, ..allowed.clone() };
        let by_default = AuthzRow {
            server: name("default", "all-unauthenticated", Some(4191)),
            authorization: Some(name("default", "all-unauthenticated", None)),
            ..allowed.clone()
        };
        insta::assert_snapshot!(table(&[allowed, refused, by_default]), @r#"
        ROUTE       SERVER           AUTHORIZATION                    UNAUTHORIZED   SUCCESS      RPS   LATENCY_P50   LATENCY_P95   LATENCY_P99
        [default]   web-http:8080    authorizationpolicy/from-front         0.0rps   100.00%   1.0rps         1.0ms         2.0ms          30ms
        [default]   web-http:8080    -                                      2.5rps         -        -             -             -             -
        [default]   [default]:4191   [default:all-unauthenticated]          0.0rps   100.00%   1.0rps         1.0ms         2.0ms          30ms
        "#);
    }

    #[test]
    fn authorizations_are_of_a_route_or_of_all() {
        let of_all = PolicyRow {
            resource: resource(),
            server: name("server", "web-http", Some(8080)),
            route: None,
            authorization_policy: Some("from-front".into()),
            server_authorization: None,
        };
        let of_route = PolicyRow {
            route: Some(name("HTTPRoute", "admin", None)),
            authorization_policy: None,
            server_authorization: Some("old".into()),
            ..of_all.clone()
        };
        insta::assert_snapshot!(policy_table(&[of_all.clone(), of_route, of_all]), @r#"
        ROUTE   SERVER     AUTHORIZATION_POLICY   SERVER_AUTHORIZATION
        *       web-http   from-front
        admin   web-http                          old
        "#);
    }
}
