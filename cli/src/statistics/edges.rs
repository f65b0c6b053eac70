//! `weft edges`.

use clap::Args;
use mesh_core::control::public_api::edges::EdgeRow;
use mesh_core::control::public_api::statistics::Answer;

use super::args::{self, Form, ScopeArgs};
use super::cells::{NONE, identity};
use super::table::{left, render};
use super::{ask, finish, json};
use crate::Failure;
use crate::cluster::ClusterArgs;

#[derive(Debug, Args)]
pub(crate) struct EdgesArgs {
    /// A kind or a name: deploy, deploy/web, po, ns
    #[arg(value_name = "RESOURCE", value_parser = args::resource)]
    resource: String,
    #[command(flatten)]
    scope: ScopeArgs,
    /// Over how long, up to now
    #[arg(long, short = 't', value_name = "TIME", default_value = "1m", value_parser = args::window)]
    time_window: String,
    /// A table, one with identities, or JSON
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    output: Form,
}

/// Asks, and prints the answer.
pub(crate) async fn run(args: EdgesArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let question =
        [("resource", args.resource), args.scope.question(), ("window", args.time_window)];
    let answer: Answer<EdgeRow> = ask(cluster, "edges", &question).await?;
    match args.output {
        Form::Json => finish(&answer, &json(&answer.rows), ""),
        form => finish(&answer, &table(&answer.rows, form == Form::Wide), "No edges found."),
    }
}

fn table(rows: &[EdgeRow], is_wide: bool) -> String {
    let mut columns = vec![left("SRC"), left("DST"), left("SRC_NS"), left("DST_NS")];
    if is_wide {
        columns.extend([left("CLIENT_ID"), left("SERVER_ID")]);
    }
    columns.push(left("SECURED"));
    let or_none = |text: &str| if text.is_empty() { NONE.to_string() } else { text.to_string() };
    let cells = |row: &EdgeRow| {
        let EdgeRow { src, dst, .. } = row;
        let mut cells: Vec<_> =
            [&src.name, &dst.name, &src.namespace, &dst.namespace].map(|name| or_none(name)).into();
        if is_wide {
            cells.extend([&row.client_id, &row.server_id].map(|id| or_none(&identity(id))));
        }
        cells.push(if row.secured { "√".to_string() } else { or_none(&row.no_tls_reason) });
        cells
    };
    render(&columns, &rows.iter().map(cells).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use mesh_core::control::public_api::resource::{Resource, ResourceKind};

    use super::*;

    #[test]
    fn edges_say_whether_they_are_secured() {
        let resource = |name: &str| Resource {
            kind: ResourceKind::Deployment,
            namespace: if name.is_empty() { String::new() } else { "shop".to_string() },
            name: name.to_string(),
        };
        let id = |name: &str| format!("{name}.shop.serviceaccount.identity.linkerd.cluster.local");
        let secured = EdgeRow {
            src: resource("web"),
            dst: resource("api"),
            client_id: id("web"),
            server_id: id("api"),
            secured: true,
            no_tls_reason: String::new(),
            connections: 1.0,
            http: None,
        };
        let plain = EdgeRow {
            dst: resource("legacy"),
            client_id: String::new(),
            server_id: String::new(),
            secured: false,
            no_tls_reason: "not_provided_by_service_discovery".into(),
            ..secured.clone()
        };
        let stranger = EdgeRow { src: resource(""), client_id: id("cron"), ..secured.clone() };
        let rows = [secured, plain, stranger];
        insta::assert_snapshot!(table(&rows, false), @r#"
        SRC   DST      SRC_NS   DST_NS   SECURED
        web   api      shop     shop     √
        web   legacy   shop     shop     not_provided_by_service_discovery
        -     api      -        shop     √
        "#);
        insta::assert_snapshot!(table(&rows, true), @r#"
        SRC   DST      SRC_NS   DST_NS   CLIENT_ID   SERVER_ID   SECURED
        web   api      shop     shop     web.shop    api.shop    √
        web   legacy   shop     shop     -           -           not_provided_by_service_discovery
        -     api      -        shop     cron.shop   api.shop    √
        "#);
    }
}
