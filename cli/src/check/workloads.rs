//! Checks of pods: the control plane's, and those with its sidecars.

use std::collections::{BTreeMap, BTreeSet};

use ipnet::IpNet;
use mesh_core::manifest::{annotations, inject};
use serde_json::Value;

use super::facts::{COMPONENTS, Facts, KUBE_SYSTEM, NODES, Question};
use super::identity::anchors;
use super::judge::{text, unknown, values};
use super::report::{Category, Fault};

/// Most objects that one fault names.
const NAMED_MAX: usize = 8;
const SIDECAR: &str = "linkerd-proxy";

pub(super) fn deployments_ready(question: &Question, facts: &Facts) -> Result<(), Fault> {
    let deployments = facts.items(&question.deployments()).map_err(unknown)?;
    let number = |deployment: &Value, path: &str| deployment.pointer(path).and_then(Value::as_u64);
    let mut faults = Vec::new();
    for component in &COMPONENTS {
        let name = component.deployment;
        let Some(found) = deployments.iter().find(|d| text(d, "/metadata/name") == name) else {
            faults.push(format!("there is no Deployment {name}"));
            continue;
        };
        let wanted = number(found, "/spec/replicas").unwrap_or(1);
        let ready = number(found, "/status/readyReplicas").unwrap_or(0);
        if ready < wanted {
            faults.push(format!("{name}: {ready} of {wanted} pods are ready"));
        }
    }
    let hint = "kubectl -n NAMESPACE describe pods, and their logs";
    told(faults, |fault| Fault::error(fault, hint.replace("NAMESPACE", &question.namespace)))
}

pub(super) fn schedulable(question: &Question, facts: &Facts) -> Result<(), Fault> {
    let pods = facts.items(&question.pods()).map_err(unknown)?;
    let mut faults = Vec::new();
    for pod in pods {
        let conditions = pod["status"]["conditions"].as_array().into_iter().flatten();
        for condition in conditions.filter(|c| c["reason"] == "Unschedulable") {
            faults.push(format!("{}: {}", name(pod), text(condition, "/message")));
        }
    }
    told(faults, |fault| Fault::error(fault, "give the cluster nodes that can take these pods"))
}

pub(super) fn pods_ready(question: &Question, facts: &Facts) -> Result<(), Fault> {
    let pods = facts.items(&question.pods()).map_err(unknown)?;
    let mut faults = Vec::new();
    for component in &COMPONENTS {
        let label = "/metadata/labels/linkerd.io~1control-plane-component";
        let own = |pod: &&Value| text(pod, label) == component.name && is_alive(pod);
        let mut running = pods.iter().filter(own).peekable();
        if running.peek().is_none() {
            faults.push(format!("no running pods for \"{}\"", component.deployment));
        }
        for pod in running {
            faults.extend(unready(pod).map(|why| format!("{}: {why}", name(pod))));
        }
    }
    told(faults, |fault| Fault::error(fault, "see the logs of these containers"))
}

/// Pods that have not ended.
pub(super) fn is_alive(pod: &Value) -> bool {
    !matches!(text(pod, "/status/phase"), "Succeeded" | "Failed")
        && pod["metadata"]["deletionTimestamp"].is_null()
}

/// The first container that is not ready, and why.
fn unready(pod: &Value) -> Option<String> {
    let statuses = pod["status"]["containerStatuses"].as_array().into_iter().flatten();
    let waiting = statuses.clone().find(|status| status["ready"] != true);
    match waiting {
        None if statuses.count() == 0 => Some("no container of it was started".into()),
        None => None,
        Some(status) => {
            let reason = ["/state/waiting/reason", "/state/terminated/reason"];
            let reason = reason.iter().map(|path| text(status, path)).find(|text| !text.is_empty());
            let reason = reason.map_or(String::new(), |reason| format!(": {reason}"));
            Some(format!("container {} is not ready{reason}", text(status, "/name")))
        }
    }
}

/// What the installation calls the cluster, and what the cluster has.
pub(super) fn networks(
    question: &Question,
    facts: &Facts,
) -> Vec<(&'static str, Result<(), Fault>)> {
    let networks = values(question, facts).map(|values| values.cluster_networks);
    let networks: Vec<IpNet> = match &networks {
        Ok(text) => text.split(',').filter_map(|text| text.trim().parse().ok()).collect(),
        Err(_) => return Vec::new(),
    };
    let hint = "weft upgrade --set clusterNetworks='10.0.0.0/8\\,…' | kubectl apply -f -";
    let outside = |what: Vec<(String, IpNet)>| {
        let outside = what
            .into_iter()
            .filter(|(_, network)| !networks.iter().any(|known| known.contains(network)));
        let outside = outside.map(|(name, network)| format!("{name}: {network}")).collect();
        told(outside, |fault| Fault::error(format!("not in clusterNetworks: {fault}"), hint))
    };
    let nodes = facts.items(NODES).map_err(unknown).and_then(|nodes| {
        let of = |node: &Value| {
            let ranges = node["spec"]["podCIDRs"].as_array().cloned().unwrap_or_default();
            let ranges = ranges.iter().filter_map(|range| range.as_str()?.parse().ok());
            ranges.map(|range| (name(node), range)).collect::<Vec<(String, IpNet)>>()
        };
        outside(nodes.iter().flat_map(of).collect())
    });
    let pods = facts.items(&question.pods()).map_err(unknown).and_then(|pods| {
        let on_pod_network = pods.iter().filter(|pod| pod["spec"]["hostNetwork"] != true);
        let of = |pod: &Value| {
            let address = text(pod, "/status/podIP").parse::<std::net::IpAddr>().ok()?;
            Some((name(pod), IpNet::from(address)))
        };
        outside(on_pod_network.filter_map(of).collect())
    });
    vec![
        ("cluster networks contains all node podCIDRs", nodes),
        ("cluster networks contains all pods", pods),
    ]
}

/// `control-plane-version`.
pub(super) fn version(question: &Question, facts: &Facts) -> Category {
    let mut category = Category::new("control-plane-version");
    let installed = values(question, facts).map(|values| values.linkerd_version);
    let wanted = &question.version;
    match installed {
        Err(error) => {
            category.check("can retrieve the control plane version", Err(unknown(error)));
        }
        Ok(installed) => {
            category.check("can retrieve the control plane version", Ok(()));
            let same = match installed == *wanted {
                true => Ok(()),
                false => Err(Fault::warning(
                    format!("the control plane is {installed}, and {wanted} is expected"),
                    "weft upgrade --crds | kubectl apply -f - and weft upgrade | kubectl apply -f -, \
                     or use the weft of that version",
                )),
            };
            category.check("control plane and cli versions match", same);
        }
    }
    category
}

/// `linkerd-control-plane-proxy`.
pub(super) fn control_plane_proxies(question: &Question, facts: &Facts) -> Category {
    let mut category = Category::new("linkerd-control-plane-proxy");
    match facts.items(&question.pods()) {
        Err(error) => {
            category.check("control plane proxies are healthy", Err(unknown(error)));
        }
        Ok(pods) => {
            let pods: Vec<_> = pods.iter().filter(|pod| is_alive(pod)).collect();
            category.check("control plane proxies are healthy", healthy(&pods));
            let same = same_version(&pods, &question.version);
            category.check("control plane proxies and cli versions match", same);
        }
    }
    category
}

fn sidecar_ready(pod: &Value) -> Option<bool> {
    let lists = ["containerStatuses", "initContainerStatuses"];
    let statuses = lists.iter().filter_map(|list| pod["status"][list].as_array()).flatten();
    let own = |status: &&Value| status["name"] == SIDECAR;
    statuses.into_iter().find(own).map(|status| status["ready"] == true)
}

pub(super) fn healthy(pods: &[&Value]) -> Result<(), Fault> {
    let faults = pods.iter().filter_map(|pod| match sidecar_ready(pod) {
        Some(true) => None,
        Some(false) => Some(format!("{}: its {SIDECAR} is not ready", name(pod))),
        None => Some(format!("{} has no running {SIDECAR}", name(pod))),
    });
    told(faults.collect(), |fault| {
        Fault::error(fault, "see the log of these containers: kubectl logs POD -c linkerd-proxy")
            .may_pass()
    })
}

fn same_version(pods: &[&Value], wanted: &str) -> Result<(), Fault> {
    let faults = pods.iter().filter_map(|pod| {
        let version = text(pod, "/metadata/annotations/linkerd.io~1proxy-version");
        (version != wanted).then(|| format!("{}: {version}", name(pod)))
    });
    told(faults.collect(), |fault| {
        Fault::warning(
            format!("sidecars of another version than {wanted}: {fault}"),
            "restart these pods once the control plane is upgraded: kubectl rollout restart",
        )
    })
}

/// `linkerd-ha-checks`.
pub(super) fn high_availability(question: &Question, facts: &Facts) -> Category {
    let mut category = Category::new("linkerd-ha-checks");
    let replicas = facts.items(&question.deployments()).map_err(unknown).and_then(|deployments| {
        let few = deployments.iter().filter(|d| d["status"]["readyReplicas"].as_u64() < Some(2));
        let few = few.map(|d| format!("{} has fewer than two pods ready", name(d))).collect();
        told(few, |fault| Fault::warning(fault, "give the cluster nodes for them").may_pass())
    });
    category.check("multiple replicas of control plane pods", replicas);
    let label = "/metadata/labels/config.linkerd.io~1admission-webhooks";
    let disabled = facts.at(KUBE_SYSTEM).map_err(unknown).and_then(|namespace| {
        match text(namespace.unwrap_or(&Value::Null), label) {
            "disabled" => Ok(()),
            _ => Err(Fault::warning(
                "while the injector is down, pods of kube-system cannot be created",
                "kubectl label namespace kube-system config.linkerd.io/admission-webhooks=disabled",
            )),
        }
    });
    category.check("pod injection disabled on kube-system", disabled);
    category
}

/// `linkerd-identity-data-plane`.
pub(super) fn certificates(question: &Question, facts: &Facts) -> Category {
    let mut category = Category::new("linkerd-identity-data-plane");
    let anchors = anchors(question, facts);
    let pods = facts.items(&question.meshed_pods()).map_err(unknown);
    let result = anchors.and_then(|anchors| Ok((anchors, pods?))).and_then(|(anchors, pods)| {
        let wanted = inject::sha256(&anchors);
        let other = pods.iter().filter(|pod| is_alive(pod)).filter_map(|pod| {
            let began = text(pod, "/metadata/annotations/linkerd.io~1trust-root-sha256");
            (!began.is_empty() && began != wanted).then(|| name(pod))
        });
        told(other.collect(), |fault| {
            Fault::warning(
                format!("sidecars that began with other trust anchors: {fault}"),
                "restart these pods: kubectl rollout restart",
            )
        })
    });
    category.check("data plane proxies certificate match CA", result);
    category
}

/// `linkerd-data-plane`.
pub(super) fn data_plane(question: &Question, facts: &Facts) -> Category {
    let mut category = Category::new("linkerd-data-plane");
    if let (Some(path), Some(namespace)) = (question.workloads_namespace(), &question.workloads) {
        let exists = match facts.at(&path) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Fault::error(
                format!("there is no namespace {namespace}"),
                "give another with --namespace",
            )),
            Err(error) => Err(unknown(error)),
        };
        if !category.check("data plane namespace exists", exists) {
            return category;
        }
    }
    let pods = match facts.items(&question.meshed_pods()) {
        Ok(pods) => pods,
        Err(error) => {
            category.check("data plane proxies are ready", Err(unknown(error)));
            return category;
        }
    };
    let meshed = pods.iter().filter(|pod| is_alive(pod));
    let meshed = meshed.filter(|pod| text(pod, "/metadata/namespace") != question.namespace);
    let meshed: Vec<_> = meshed.collect();
    let ready = match meshed.is_empty() {
        true => Err(Fault::warning(
            "no pod has a sidecar of this control plane",
            "kubectl get deploy -o yaml | weft inject - | kubectl apply -f -",
        )),
        false => healthy(&meshed),
    };
    category.check("data plane proxies are ready", ready);
    let same = same_version(&meshed, &question.version);
    category.check("data plane and cli versions match", same);
    category.check("data plane pod annotations mean something", meaningful(&meshed));
    let services = facts.items(&question.services()).map_err(unknown);
    let misplaced = services.and_then(|services| {
        let label = "/metadata/labels/config.linkerd.io~1opaque-ports";
        let wrong = services.iter().filter(|service| service.pointer(label).is_some());
        told(wrong.map(name).collect(), |fault| {
            Fault::warning(
                format!(
                    "config.linkerd.io/opaque-ports is a label, where an annotation counts: {fault}"
                ),
                "make it an annotation of these services",
            )
        })
    });
    category.check("data plane service annotations are configured correctly", misplaced);
    category
}

/// Annotations that nothing reads.
fn meaningful(pods: &[&Value]) -> Result<(), Fault> {
    let faults = pods.iter().flat_map(|pod| {
        let annotated = pod["metadata"]["annotations"].as_object().into_iter().flatten();
        let annotated = annotated.map(|(name, value)| (name.clone(), value.to_string()));
        let unknown = annotations::unknown(&annotated.collect::<BTreeMap<_, _>>());
        unknown.into_iter().map(|remark| format!("{}: {remark}", name(pod))).collect::<Vec<_>>()
    });
    told(faults.collect(), |fault| Fault::warning(fault, "mend them where the pods come from"))
}

/// `linkerd-opaque-ports-definition`: a port that is opaque at one end is opaque at the other.
pub(super) fn opaque_ports(question: &Question, facts: &Facts) -> Category {
    let mut category = Category::new("linkerd-opaque-ports-definition");
    let result = facts.items(&question.services()).map_err(unknown).and_then(|services| {
        let pods = facts.items(&question.meshed_pods()).map_err(unknown)?;
        let mut faults = Vec::new();
        for service in services {
            for pod in pods.iter().filter(|pod| selects(service, pod)) {
                faults.extend(disagreement(service, pod));
            }
        }
        faults.sort();
        faults.dedup();
        told(faults, |fault| {
            Fault::warning(fault, "annotate the service and its pods with the same opaque ports")
        })
    });
    category.check("opaque ports are properly annotated", result);
    category
}

fn selects(service: &Value, pod: &Value) -> bool {
    let selector = service["spec"]["selector"].as_object();
    let is_near = service["metadata"]["namespace"] == pod["metadata"]["namespace"];
    let labels = &pod["metadata"]["labels"];
    is_near
        && selector.is_some_and(|selector| {
            !selector.is_empty() && selector.iter().all(|(name, value)| labels[name] == *value)
        })
}

fn disagreement(service: &Value, pod: &Value) -> Option<String> {
    let opaque = |object: &Value| {
        let path = "/metadata/annotations/config.linkerd.io~1opaque-ports";
        object.pointer(path).and_then(Value::as_str).map(ports)
    };
    let (at_service, at_pod) = (opaque(service)?, opaque(pod));
    let declared = service["spec"]["ports"].as_array().into_iter().flatten();
    for port in declared {
        let number = port["port"].as_u64()?;
        let target = match &port["targetPort"] {
            Value::String(name) => named_port(pod, name)?,
            target => target.as_u64().unwrap_or(number),
        };
        let is_opaque = at_service.contains(&number);
        let pod_says = at_pod.as_ref().map(|ports| ports.contains(&target));
        if is_opaque && pod_says == Some(false) {
            return Some(format!(
                "service {} has port {number} opaque, and pod {} has not {target}",
                name(service),
                name(pod)
            ));
        }
    }
    None
}

/// A port of a pod's containers by its name.
fn named_port(pod: &Value, name: &str) -> Option<u64> {
    let containers = pod["spec"]["containers"].as_array().into_iter().flatten();
    let mut ports = containers.filter_map(|container| container["ports"].as_array()).flatten();
    ports.find(|port| port["name"] == name).and_then(|port| port["containerPort"].as_u64())
}

/// The ports of `25,80-90`.
fn ports(text: &str) -> BTreeSet<u64> {
    let range = |text: &str| {
        let (first, last) = text.trim().split_once('-').unwrap_or((text.trim(), text.trim()));
        let (first, last) = (first.parse::<u16>().ok()?, last.parse::<u16>().ok()?);
        Some(u64::from(first)..=u64::from(last))
    };
    text.split(',').filter_map(range).flatten().collect()
}

pub(super) fn name(object: &Value) -> String {
    match text(object, "/metadata/namespace") {
        "" => text(object, "/metadata/name").to_string(),
        namespace => format!("{namespace}/{}", text(object, "/metadata/name")),
    }
}

/// No faults are none; many are told in one, the first of them by name.
pub(super) fn told(
    mut faults: Vec<String>,
    fault: impl FnOnce(String) -> Fault,
) -> Result<(), Fault> {
    if faults.is_empty() {
        return Ok(());
    }
    if faults.len() > NAMED_MAX {
        let more = faults.len() - NAMED_MAX;
        faults.truncate(NAMED_MAX);
        faults.push(format!("and {more} more"));
    }
    Err(fault(faults.join("\n")).may_pass())
}
