//! `weft list`.

use clap::Args;
use mesh_core::control::public_api::pods::PodRow;
use mesh_core::control::public_api::statistics::Answer;

use super::args::{Form, ScopeArgs};
use super::cells::NONE;
use super::table::{left, render};
use super::{ask, finish, json};
use crate::Failure;
use crate::cluster::ClusterArgs;

#[derive(Debug, Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    scope: ScopeArgs,
    /// A table, a wider one, or JSON
    #[arg(long, short, value_enum, default_value_t = Form::Table)]
    output: Form,
}

/// Asks, and prints the answer.
pub(crate) async fn run(args: ListArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let question = [args.scope.question(), ("meshed", "true".to_string())];
    let answer: Answer<PodRow> = ask(cluster, "pods", &question).await?;
    match args.output {
        Form::Json => finish(&answer, &json(&answer.rows), ""),
        form => finish(&answer, &table(&answer.rows, form == Form::Wide), "No meshed pods found."),
    }
}

fn table(rows: &[PodRow], is_wide: bool) -> String {
    let mut columns: Vec<_> =
        ["NAMESPACE", "NAME", "WORKLOAD", "STATUS", "METRICS", "TAP"].map(left).into();
    if is_wide {
        columns.extend(["ADDRESS", "VERSION", "IDENTITY", "FAULT"].map(left));
    }
    let cells = |row: &PodRow| {
        let or_none = |text: Option<String>| text.unwrap_or(NONE.to_string());
        let owner = row.owner.as_ref();
        let mut cells = vec![
            row.namespace.clone(),
            row.name.clone(),
            or_none(owner.map(|owner| format!("{}/{}", owner.kind.short(), owner.name))),
            row.status.clone(),
            match row.scraped {
                None => NONE.to_string(),
                Some(true) => "√".to_string(),
                Some(false) => "×".to_string(),
            },
            if row.tap_disabled { "disabled" } else { "√" }.to_string(),
        ];
        if is_wide {
            cells.push(or_none(row.addresses.first().cloned()));
            cells.push(or_none(row.proxy_version.clone()));
            cells.push(or_none(row.identity.clone()));
            cells.push(or_none(row.fault.clone()));
        }
        cells
    };
    render(&columns, &rows.iter().map(cells).collect::<Vec<_>>())
}

#[cfg(test)]
mod tests {
    use mesh_core::control::public_api::resource::{Resource, ResourceKind};

    use super::*;

    #[test]
    fn pods_say_whether_they_are_heard() {
        let owner = Resource {
            kind: ResourceKind::Deployment,
            namespace: "shop".into(),
            name: "web".into(),
        };
        let good = PodRow {
            namespace: "shop".into(),
            name: "web-1".into(),
            owner: Some(owner),
            addresses: vec!["10.0.0.1".into()],
            status: "Running".into(),
            meshed: true,
            proxy_version: Some("0.1.0".into()),
            identity: Some("web.shop.serviceaccount.identity.linkerd.cluster.local".into()),
            scraped: Some(true),
            fault: None,
            tap_disabled: false,
        };
        let late = PodRow {
            name: "web-2".into(),
            owner: None,
            scraped: Some(false),
            fault: Some("no whole answer within 5s".into()),
            tap_disabled: true,
            ..good.clone()
        };
        let rows = [good, late];
        insta::assert_snapshot!(table(&rows, false), @r#"
        NAMESPACE   NAME    WORKLOAD     STATUS    METRICS   TAP
        shop        web-1   deploy/web   Running   √         √
        shop        web-2   -            Running   ×         disabled
        "#);
        insta::assert_snapshot!(table(&rows, true), @r#"
        NAMESPACE   NAME    WORKLOAD     STATUS    METRICS   TAP        ADDRESS    VERSION   IDENTITY                                                 FAULT
        shop        web-1   deploy/web   Running   √         √          10.0.0.1   0.1.0     web.shop.serviceaccount.identity.linkerd.cluster.local   -
        shop        web-2   -            Running   ×         disabled   10.0.0.1   0.1.0     web.shop.serviceaccount.identity.linkerd.cluster.local   no whole answer within 5s
        "#);
    }
}
