//! Questions to the control plane's APIs, as proxies ask them.

use std::future::Future;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use mesh_core::api::client::{ApiError, ApiStream, ControlAddress, ControlClient};
use mesh_core::manifest::install::{self, COMPONENT, Format};
use mesh_core::model::endpoint::{Endpoint, EndpointUpdate};
use mesh_core::model::identity::{DnsName, Identity, ServerTls};
use mesh_core::model::target::Target;
use mesh_core::wire::tls::Credentials;
use runtime_real::kube::ApiClient;
use runtime_real::no_cluster::NoCluster;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{EndpointsArgs, Form, PolicyArgs, ProfileArgs, form};
use crate::cluster::{ClusterArgs, object};
use crate::forward::Forwarded;
use crate::install::Output;
use crate::{Failure, pods, say};

const DESTINATION_PORT: u16 = 8086;
const POLICY_PORT: u16 = 8090;
/// How long an answer may take.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(10);

/// The control plane's API, and what leads there.
struct Asked {
    control: ControlClient,
    _forwarded: Option<Forwarded>,
}

/// Prints the endpoints of names.
pub(super) async fn endpoints(args: EndpointsArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let asked = ask(cluster, args.destination_pod.as_deref(), DESTINATION_PORT).await?;
    let mut found = Vec::new();
    for authority in &args.authorities {
        let answer = first(asked.control.watch_endpoints(authority, &args.token)).await;
        match answer.map_err(|error| Failure::failed(format!("{authority}: {error}")))? {
            EndpointUpdate::Add { endpoints, labels } => {
                found.extend(endpoints.into_iter().map(|endpoint| Endpoint {
                    labels: labels.extended(&endpoint.labels),
                    ..endpoint
                }))
            }
            EndpointUpdate::Remove(_) => {}
            EndpointUpdate::NoEndpoints { exists } => eprintln!(
                "weft: {authority}: {}",
                if exists { "the service has no endpoints" } else { "there is no such service" }
            ),
        }
    }
    match args.output {
        Form::Table => say(table(&found)),
        Form::Json => say(format!("{:#}\n", Value::from_iter(found.iter().map(in_json)))),
    }
}

fn label<'a>(endpoint: &'a Endpoint, name: &str) -> &'a str {
    endpoint.labels.value(name).unwrap_or_default()
}

/// Linkerd's columns.
fn table(endpoints: &[Endpoint]) -> String {
    let mut rows = vec![["NAMESPACE", "IP", "PORT", "POD", "SERVICE"].map(ToString::to_string)];
    rows.extend(endpoints.iter().map(|endpoint| {
        let service = format!("{}.{}", label(endpoint, "service"), label(endpoint, "namespace"));
        [
            label(endpoint, "namespace").into(),
            endpoint.address.ip().to_string(),
            endpoint.address.port().to_string(),
            label(endpoint, "pod").into(),
            service,
        ]
    }));
    let width = |column: usize| rows.iter().map(|row| row[column].len()).max().unwrap_or(0);
    let widths: Vec<_> = (0..5).map(width).collect();
    let line = |row: &[String; 5]| {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        cells.collect::<Vec<_>>().join("   ").trim_end().to_string() + "\n"
    };
    rows.iter().map(line).collect()
}

fn in_json(endpoint: &Endpoint) -> Value {
    let labels: serde_json::Map<_, _> =
        endpoint.labels.iter().map(|(name, value)| (name.to_string(), value.into())).collect();
    json!({
        "namespace": label(endpoint, "namespace"),
        "ip": endpoint.address.ip().to_string(),
        "port": endpoint.address.port(),
        "pod": label(endpoint, "pod"),
        "service": label(endpoint, "service"),
        "weight": endpoint.weight,
        "tlsIdentity": endpoint.tls.as_ref().map(|tls| tls.server_name.to_string()),
        "inboundPort": endpoint.inbound_port,
        "labels": labels,
    })
}

/// Prints the policy of a pod's port, or of traffic to a service.
pub(super) async fn policy(args: PolicyArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let client = cluster.client().await?;
    let asked = ask(cluster, args.destination_pod.as_deref(), POLICY_PORT).await?;
    let PolicyArgs { resource, port, namespace, .. } = &args;
    let failed = |error: String| Failure::failed(format!("{resource} {port}: {error}"));
    let service = ["svc/", "service/", "services/"].iter().find_map(|p| resource.strip_prefix(p));
    if let Some(name) = service {
        let address = cluster_ip(&client, namespace, name).await?;
        let target = Target::Address(SocketAddr::new(address, *port));
        // Who asks is a pod; which one matters to nothing but routes of its namespace.
        let workload = json!({"ns": namespace, "pod": "weft-diagnostics"}).to_string();
        let answer = first(asked.control.watch_client_policy(&workload, &target)).await;
        return tell(form::client_policy(&answer.map_err(failed)?), args.output);
    }
    let pods = pods::of_resource(&client, namespace, resource).await?;
    let pod = pods.first();
    let pod = pod.ok_or_else(|| Failure::failed(format!("{resource} has no running pods")))?;
    let workload = json!({"ns": namespace, "pod": pod.name}).to_string();
    let answer = first(asked.control.watch_server_policy(&workload, *port)).await;
    tell(form::server_policy(&answer.map_err(failed)?), args.output)
}

fn tell(answer: Value, output: Output) -> Result<(), Failure> {
    match output {
        Output::Yaml => say(install::render(&[answer], Format::Yaml)),
        Output::Json => say(format!("{answer:#}\n")),
    }
}

async fn cluster_ip(client: &ApiClient, namespace: &str, name: &str) -> Result<IpAddr, Failure> {
    let path = format!("/api/v1/namespaces/{namespace}/services/{name}");
    let service = object(client, &path).await.map_err(|error| Failure::failed(error.reason))?;
    let service = service.ok_or_else(|| Failure::failed(format!("there is no svc/{name}")))?;
    let address = service["spec"]["clusterIP"].as_str().unwrap_or_default().parse();
    address.map_err(|_| Failure::failed(format!("svc/{name} has no cluster IP; ask of its pods")))
}

/// Prints the profile of an address or name.
pub(super) async fn profile(args: ProfileArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let asked = ask(cluster, args.destination_pod.as_deref(), DESTINATION_PORT).await?;
    let answer = first(asked.control.watch_profile(&args.address, &args.token)).await;
    let answer = answer.map_err(|error| Failure::failed(format!("{}: {error}", args.address)))?;
    tell(form::profile(&answer), args.output)
}

/// The first answer to a question.
async fn first<T>(
    question: impl Future<Output = Result<ApiStream<T>, ApiError>>,
) -> Result<T, String> {
    let answer = async {
        let mut stream = question.await.map_err(|error| error.to_string())?;
        let answer = stream.next().await.ok_or("the control plane gave no answer")?;
        answer.map_err(|error| error.to_string())
    };
    let late = |_| Err(format!("no answer within {} s", ANSWER_TIMEOUT.as_secs()));
    timeout(ANSWER_TIMEOUT, answer).await.unwrap_or_else(late)
}

/// The control plane's API at a port: where `--api-addr` says, or through the API server.
async fn ask(cluster: &ClusterArgs, pod: Option<&str>, port: u16) -> Result<Asked, Failure> {
    let (address, forwarded) = match &cluster.api_addr {
        Some(address) => {
            let parsed = address.parse::<SocketAddr>();
            let wrong =
                |_| Failure::misconfigured(format!("--api-addr {address}: give ADDRESS:PORT"));
            (parsed.map_err(wrong)?, None)
        }
        None => {
            let client = cluster.client().await?;
            let forwarded = forward(&client, cluster, pod, port).await?;
            (forwarded.address, Some(forwarded))
        }
    };
    let runtime = runtime_real::runtime(Arc::new(NoCluster));
    let address = ControlAddress { authority: address.into(), tls: None };
    // In plaintext nobody's are asked for.
    let nobody = DnsName::new("weft-cli").expect("a name written here");
    let nobody = ServerTls { identity: Identity::Dns(nobody.clone()), server_name: nobody };
    let credentials = Credentials::new(&runtime, nobody);
    let control = ControlClient::new(&runtime, address, credentials);
    Ok(Asked { control, _forwarded: forwarded })
}

async fn forward(
    client: &ApiClient,
    cluster: &ClusterArgs,
    pod: Option<&str>,
    port: u16,
) -> Result<Forwarded, Failure> {
    let namespace = &cluster.linkerd_namespace;
    let name = match pod {
        Some(pod) => pod.to_string(),
        None => {
            let selector = format!("{}%3Ddestination", COMPONENT.replace('/', "%2F"));
            let pods = pods::labelled(client, namespace, &selector).await?;
            let pod = pods.into_iter().next().ok_or_else(|| {
                Failure::failed(format!(
                    "no pod of linkerd-destination runs in namespace {namespace}; see weft check"
                ))
            })?;
            pod.name
        }
    };
    Forwarded::open(client, namespace, &name, port).await.map_err(Failure::failed)
}

#[cfg(test)]
mod tests {
    use mesh_core::model::labels::Labels;

    use super::*;

    #[test]
    fn endpoints_are_told_in_linkerds_columns() {
        let mut endpoint = Endpoint::new("10.1.0.12:8080".parse().unwrap());
        let labels = [("namespace", "shop"), ("service", "web"), ("pod", "web-6d4cf56db6-8kbql")];
        endpoint.labels = labels.iter().map(|(n, v)| (n.to_string(), v.to_string())).collect();
        let _: &Labels = &endpoint.labels;
        insta::assert_snapshot!(table(&[endpoint]), @"
        NAMESPACE   IP          PORT   POD                    SERVICE
        shop        10.1.0.12   8080   web-6d4cf56db6-8kbql   web.shop
        ");
    }
}
