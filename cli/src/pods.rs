//! Pods by what people call them: `deploy/web`, `po/web-1`, or a name alone.

use runtime_real::kube::ApiClient;
use serde_json::Value;

use crate::Failure;
use crate::cluster::object;

/// A pod, as far as commands need it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodRef {
    pub(crate) namespace: String,
    pub(crate) name: String,
    pub(crate) service_account: String,
    /// Its containers' ports, with the containers' and ports' names.
    pub(crate) ports: Vec<(String, String, u16)>,
}

/// Kinds that have pods, by their short and long names: where they are.
const KINDS: [(&[&str], &str); 6] = [
    (&["deploy", "deployment", "deployments"], "/apis/apps/v1"),
    (&["sts", "statefulset", "statefulsets"], "/apis/apps/v1"),
    (&["ds", "daemonset", "daemonsets"], "/apis/apps/v1"),
    (&["rs", "replicaset", "replicasets"], "/apis/apps/v1"),
    (&["job", "jobs"], "/apis/batch/v1"),
    (&["svc", "service", "services"], "/api/v1"),
];

/// The running pods of a resource, such as `deploy/web` or `web-1`.
pub(crate) async fn of_resource(
    client: &ApiClient,
    namespace: &str,
    resource: &str,
) -> Result<Vec<PodRef>, Failure> {
    let (kind, name) = resource.split_once('/').unwrap_or(("pod", resource));
    if matches!(kind, "po" | "pod" | "pods") {
        let path = format!("/api/v1/namespaces/{namespace}/pods/{name}");
        let pod = required(client, &path, resource).await?;
        return Ok(vec![read(&pod)]);
    }
    let known = KINDS.iter().find(|(names, _)| names.contains(&kind));
    let (names, group) = known.ok_or_else(|| {
        Failure::misconfigured(format!(
            "{resource}: {kind} has no pods; give a pod, deploy, sts, ds, rs, job or svc"
        ))
    })?;
    let plural = names.last().expect("each has names");
    let path = format!("{group}/namespaces/{namespace}/{plural}/{name}");
    let found = required(client, &path, resource).await?;
    let selector = match found["spec"]["selector"]["matchLabels"].as_object() {
        Some(labels) => Some(labels),
        None => found["spec"]["selector"].as_object(),
    };
    let label = |(name, value): (&String, &Value)| {
        format!("{}%3D{}", name.replace('/', "%2F"), value.as_str().unwrap_or_default())
    };
    let selector: Vec<_> = selector.into_iter().flatten().map(label).collect();
    if selector.is_empty() {
        return Err(Failure::failed(format!("{resource} selects no pods")));
    }
    labelled(client, namespace, &selector.join(",")).await
}

/// The running pods with labels, `a%3Db,c%3Dd`.
pub(crate) async fn labelled(
    client: &ApiClient,
    namespace: &str,
    selector: &str,
) -> Result<Vec<PodRef>, Failure> {
    let path = format!("/api/v1/namespaces/{namespace}/pods?labelSelector={selector}");
    let list = object(client, &path).await.map_err(|error| Failure::failed(error.reason))?;
    let list = list.unwrap_or_default();
    let running = list["items"].as_array().into_iter().flatten();
    let running = running.filter(|pod| pod["status"]["phase"] == "Running");
    Ok(running.map(read).collect())
}

async fn required(client: &ApiClient, path: &str, what: &str) -> Result<Value, Failure> {
    match object(client, path).await {
        Ok(Some(found)) => Ok(found),
        Ok(None) => Err(Failure::failed(format!("there is no {what}; say where with --namespace"))),
        Err(error) => Err(Failure::failed(format!("{what}: {}", error.reason))),
    }
}

fn read(pod: &Value) -> PodRef {
    let text = |path: &str| pod.pointer(path).and_then(Value::as_str).unwrap_or_default().into();
    let lists = ["/spec/containers", "/spec/initContainers"];
    let containers = lists.iter().filter_map(|list| pod.pointer(list)?.as_array()).flatten();
    let ports = containers.flat_map(|container| {
        let of = container["name"].as_str().unwrap_or_default();
        let ports = container["ports"].as_array().into_iter().flatten();
        ports.filter_map(move |port| {
            let number = u16::try_from(port["containerPort"].as_u64()?).ok()?;
            Some((of.to_string(), port["name"].as_str().unwrap_or_default().to_string(), number))
        })
    });
    PodRef {
        namespace: text("/metadata/namespace"),
        name: text("/metadata/name"),
        service_account: text("/spec/serviceAccountName"),
        ports: ports.collect(),
    }
}

impl PodRef {
    /// A port by its container's and its own name.
    pub(crate) fn port(&self, container: &str, name: &str) -> Option<u16> {
        let mut ports = self.ports.iter();
        ports.find(|(of, named, _)| of == container && named == name).map(|(.., port)| *port)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn ports_are_found_by_name_in_every_container() {
        let pod = read(&json!({
            "metadata": {"namespace": "shop", "name": "web-1"},
            "spec": {
                "serviceAccountName": "web",
                "containers": [{"name": "web", "ports": [{"containerPort": 8080}]}],
                "initContainers": [{"name": "linkerd-proxy", "ports": [
                    {"name": "linkerd-admin", "containerPort": 4191},
                ]}],
            },
        }));
        assert_eq!(pod.port("linkerd-proxy", "linkerd-admin"), Some(4191));
        assert_eq!(pod.port("web", "linkerd-admin"), None);
        assert_eq!((&*pod.name, &*pod.service_account), ("web-1", "web"));
    }
}
