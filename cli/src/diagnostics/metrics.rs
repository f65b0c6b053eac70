//! Metrics of pods, as they give them.

use mesh_core::manifest::install::COMPONENT;
use runtime_real::kube::ApiClient;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::ProxyMetricsArgs;
use crate::cluster::ClusterArgs;
use crate::pods::{self, PodRef};
use crate::{Failure, forward, say};

/// The longest answer that is read.
const METRICS_BYTES_MAX: u64 = 64 << 20;

/// Prints the metrics of a resource's sidecars.
pub(super) async fn proxies(args: ProxyMetricsArgs, cluster: &ClusterArgs) -> Result<(), Failure> {
    let client = cluster.client().await?;
    let pods = pods::of_resource(&client, &args.namespace, &args.resource).await?;
    let meshed = pods.iter().filter_map(|pod| Some((pod, sidecar(pod)?)));
    print_all(&client, meshed.collect()).await
}

/// Prints the metrics of every pod of the control plane.
pub(super) async fn controllers(cluster: &ClusterArgs) -> Result<(), Failure> {
    let client = cluster.client().await?;
    let namespace = &cluster.linkerd_namespace;
    let selector = COMPONENT.replace('/', "%2F");
    let pods = pods::labelled(&client, namespace, &selector).await?;
    let admin = |pod: &PodRef| {
        let mut ports = pod.ports.iter();
        ports.find(|(_, name, _)| name == "admin").map(|(.., port)| *port)
    };
    let served = pods.iter().filter_map(|pod| Some((pod, admin(pod)?)));
    print_all(&client, served.collect()).await
}

fn sidecar(pod: &PodRef) -> Option<u16> {
    pod.port("linkerd-proxy", "linkerd-admin")
}

async fn print_all(client: &ApiClient, pods: Vec<(&PodRef, u16)>) -> Result<(), Failure> {
    if pods.is_empty() {
        return Err(Failure::failed("no running pod of it has such metrics"));
    }
    let of = pods.len();
    for (index, (pod, port)) in pods.into_iter().enumerate() {
        let metrics = scrape(client, pod, port).await.map_err(Failure::failed)?;
        say(format!("#\n# POD {} ({} of {of})\n#\n", pod.name, index + 1))?;
        say(&metrics)?;
    }
    Ok(())
}

/// `GET /metrics` of a pod, in the plainest HTTP there is: one answer, and the connection's end.
async fn scrape(client: &ApiClient, pod: &PodRef, port: u16) -> Result<Vec<u8>, String> {
    let PodRef { namespace, name, .. } = pod;
    let mut stream = forward::connect(client, namespace, name, port).await?;
    let failed = |error: &dyn std::fmt::Display| format!("{namespace}/{name}:{port}: {error}");
    let request = b"GET /metrics HTTP/1.0\r\nhost: localhost\r\n\r\n";
    stream.write_all(request).await.map_err(|error| failed(&error))?;
    let mut answer = Vec::new();
    let read = stream.take(METRICS_BYTES_MAX).read_to_end(&mut answer).await;
    read.map_err(|error| failed(&error))?;
    body(&answer).map(<[u8]>::to_vec).map_err(|fault| failed(&fault))
}

/// What follows the head of a good answer.
fn body(answer: &[u8]) -> Result<&[u8], String> {
    let end = answer.windows(4).position(|four| four == b"\r\n\r\n");
    let (head, body) = answer.split_at(end.ok_or("the answer is no HTTP")? + 4);
    let head = String::from_utf8_lossy(head);
    let status = head.lines().next().unwrap_or_default();
    match status.split(' ').nth(1) {
        Some("200") => Ok(body),
        _ => Err(format!("answered {status}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_metrics_are_what_follows_the_head() {
        let answer = b"HTTP/1.0 200 OK\r\ncontent-type: text/plain\r\n\r\na 1\n";
        assert_eq!(body(answer), Ok(&b"a 1\n"[..]));
        assert!(body(b"HTTP/1.0 403 Forbidden\r\n\r\n").unwrap_err().contains("403"));
        assert!(body(b"SSH-2.0").is_err());
    }
}
