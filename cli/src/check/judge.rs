//! The checks themselves: facts in, verdicts out. Asks nobody and knows no clock.
//!
//! Law: what cannot be known is told as unknown, never as fine. A check that another one makes
//! pointless is left out.

use mesh_core::manifest::Values;
use mesh_core::manifest::install::CONFIG_KEY;
use serde_json::Value;

use super::facts::{
    COMPONENTS, CREATED, Facts, GATEWAY_CRDS, Question, Stage, VERSION, WEBHOOKS, cluster_role,
    crd, crd_names,
};
use super::identity::{self, Now};
use super::report::{Category, Fault};
use super::{around, workloads};

/// The oldest Kubernetes that works: EndpointSlices as `discovery.k8s.io/v1` are from 1.21 on.
const KUBERNETES_MIN: (u32, u32) = (1, 21);

/// Every check that is asked for.
pub(super) fn judge(question: &Question, facts: &Facts, now: &Now<'_>) -> Vec<Category> {
    let mut categories = Vec::new();
    let reached = api(facts, &mut categories);
    if !reached {
        return categories;
    }
    categories.push(kubernetes_version(facts));
    match question.stage {
        Stage::Before => {
            categories.push(gateway(facts));
            categories.push(before(question, facts, now));
        }
        Stage::Crds => {
            categories.push(gateway(facts));
            categories.push(definitions(facts));
        }
        Stage::After => after(question, facts, now, &mut categories),
    }
    categories
}

fn after(question: &Question, facts: &Facts, now: &Now<'_>, categories: &mut Vec<Category>) {
    categories.push(definitions(facts));
    let (existence, is_there) = existence(question, facts);
    categories.push(existence);
    if !is_there {
        return;
    }
    categories.push(config(question, facts));
    categories.push(identity::certificates(question, facts, now));
    categories.push(identity::webhooks(question, facts, now));
    categories.push(workloads::version(question, facts));
    categories.push(workloads::control_plane_proxies(question, facts));
    categories.extend(around::cni(question, facts));
    if is_ha(question, facts) {
        categories.push(workloads::high_availability(question, facts));
    }
    if question.proxies {
        categories.push(workloads::certificates(question, facts));
        categories.push(workloads::data_plane(question, facts));
        categories.push(workloads::opaque_ports(question, facts));
    }
    categories.extend(around::extensions(facts));
}

fn is_ha(question: &Question, facts: &Facts) -> bool {
    values(question, facts).is_ok_and(|values| values.controller_replicas > 1)
}

/// The installation's values.
pub(super) fn values(question: &Question, facts: &Facts) -> Result<Values, String> {
    let config = facts.at(&question.config())?.ok_or("there is no ConfigMap linkerd-config")?;
    let text = config["data"][CONFIG_KEY].as_str().ok_or("linkerd-config has no `values`")?;
    Values::read(text).map_err(|error| format!("linkerd-config: {error}"))
}

fn api(facts: &Facts, categories: &mut Vec<Category>) -> bool {
    let mut category = Category::new("kubernetes-api");
    let client = match &facts.no_client {
        None => Ok(()),
        Some(reason) => Err(Fault::error(
            reason.clone(),
            "give a kubeconfig with --kubeconfig or $KUBECONFIG, and a context of it with --context",
        )),
    };
    let mut reached = category.check("can initialize the client", client);
    if reached {
        let answered = facts.at(VERSION).map(|_| ()).map_err(|error| {
            let hint =
                "see that the API server of the kubeconfig runs and can be reached from here";
            Fault::error(error, hint).may_pass()
        });
        reached = category.check("can query the Kubernetes API", answered);
    }
    categories.push(category);
    reached
}

fn kubernetes_version(facts: &Facts) -> Category {
    let mut category = Category::new("kubernetes-version");
    let version = facts.at(VERSION).ok().flatten().cloned().unwrap_or_default();
    let number = |field: &str| {
        let text = version[field].as_str().unwrap_or_default();
        text.trim_end_matches(|c: char| !c.is_ascii_digit()).parse::<u32>().ok()
    };
    let told = version["gitVersion"].as_str().unwrap_or("unknown");
    let (major, minor) = KUBERNETES_MIN;
    let result = match (number("major"), number("minor")) {
        (Some(x), Some(y)) if (x, y) >= KUBERNETES_MIN => Ok(()),
        (Some(_), Some(_)) => Err(Fault::warning(
            format!("Kubernetes is {told}, older than {major}.{minor}"),
            "upgrade Kubernetes; until then, EndpointSlices have to be served as \
             discovery.k8s.io/v1, and values have to leave out what it lacks: \
             proxy.nativeSidecar=false, enablePodDisruptionBudget=false",
        )),
        _ => Err(Fault::warning(format!("Kubernetes says its version is {told}"), "")),
    };
    category.check("is running the minimum Kubernetes API version", result);
    category
}

fn gateway(facts: &Facts) -> Category {
    let mut category = Category::new("gateway-api-crd");
    for name in GATEWAY_CRDS {
        let result = match facts.at(&crd(name)) {
            Ok(Some(_)) => Ok(()),
            Ok(None) => Err(Fault::warning(
                format!("there is no {name}"),
                "routes of Gateway API need it: apply the standard channel of \
                 https://github.com/kubernetes-sigs/gateway-api/releases",
            )),
            Err(error) => Err(unknown(error)),
        };
        category.check(format!("{name} exists"), result);
    }
    category
}

fn before(question: &Question, facts: &Facts, now: &Now<'_>) -> Category {
    let mut category = Category::new("pre-kubernetes-setup");
    let namespace = &question.namespace;
    let free = match facts.at(&question.namespace_path()) {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err(Fault::error(
            format!("the \"{namespace}\" namespace already exists"),
            "use `weft upgrade` where it is an installation, or another --linkerd-namespace",
        )),
        Err(error) => Err(unknown(error)),
    };
    category.check("control plane namespace does not already exist", free);
    for (_, resource, _) in CREATED {
        let review = facts.allowed.get(&format!("create {resource}"));
        let allowed = match review {
            Some(super::facts::Found::Object(review)) => {
                match review["status"]["allowed"] == true {
                    true => Ok(()),
                    false => Err(Fault::error(
                        format!("not allowed to create {resource}"),
                        "install with credentials that may, such as of the group system:masters or \
                     with the ClusterRole cluster-admin",
                    )),
                }
            }
            Some(super::facts::Found::Unknown(reason)) => Err(unknown(reason.clone())),
            _ => Err(unknown("the API server was not asked".into())),
        };
        category.check(format!("can create {resource}"), allowed);
    }
    category.check("no clock skew detected", around::clocks(facts, now.time));
    category
}

fn definitions(facts: &Facts) -> Category {
    let mut category = Category::new("linkerd-crd");
    let mut missing = Vec::new();
    for name in crd_names() {
        match facts.at(&crd(&name)) {
            Ok(Some(_)) => {}
            Ok(None) => missing.push(name),
            Err(error) => {
                category
                    .check("control plane CustomResourceDefinitions exist", Err(unknown(error)));
                return category;
            }
        }
    }
    let result = match missing.is_empty() {
        true => Ok(()),
        false => Err(Fault::error(
            format!("missing: {}", missing.join(", ")),
            "weft install --crds | kubectl apply -f -",
        )),
    };
    category.check("control plane CustomResourceDefinitions exist", result);
    category
}

fn existence(question: &Question, facts: &Facts) -> (Category, bool) {
    let mut category = Category::new("linkerd-existence");
    let namespace = &question.namespace;
    let config = match facts.at(&question.config()) {
        Ok(Some(_)) => values(question, facts).map(|_| ()).map_err(|error| {
            Fault::error(error, "weft upgrade, with values that this version knows")
        }),
        Ok(None) => Err(Fault::error(
            format!("there is no ConfigMap linkerd-config in namespace {namespace}"),
            "weft install | kubectl apply -f -, or say where the control plane is with \
             --linkerd-namespace",
        )
        .may_pass()),
        Err(error) => Err(unknown(error)),
    };
    if !category.check("'linkerd-config' config map exists", config) {
        return (category, false);
    }
    let ready = workloads::deployments_ready(question, facts);
    category.check("control plane replica sets are ready", ready);
    category.check("no unschedulable pods", workloads::schedulable(question, facts));
    category.check("control plane pods are ready", workloads::pods_ready(question, facts));
    for (description, result) in workloads::networks(question, facts) {
        category.check(description, result);
    }
    (category, true)
}

fn config(question: &Question, facts: &Facts) -> Category {
    let mut category = Category::new("linkerd-config");
    let again = "weft upgrade | kubectl apply -f -";
    let all = |paths: Vec<String>| {
        let mut missing = Vec::new();
        for path in paths {
            match facts.at(&path) {
                Ok(Some(_)) => {}
                Ok(None) => missing.push(path.rsplit('/').next().unwrap_or_default().to_string()),
                Err(error) => return Err(unknown(error)),
            }
        }
        match missing.is_empty() {
            true => Ok(()),
            false => Err(Fault::error(format!("missing: {}", missing.join(", ")), again)),
        }
    };
    let namespace = &question.namespace;
    let roles = |kind| COMPONENTS.iter().map(|c| cluster_role(kind, namespace, c.name)).collect();
    let accounts = COMPONENTS.iter().map(|c| question.account(c.deployment)).collect();
    let webhooks = |is_mutating| {
        let of_kind = WEBHOOKS.iter().filter(|webhook| webhook.is_mutating() == is_mutating);
        of_kind.map(super::facts::WebhookFacts::path).collect()
    };
    category.check("control plane Namespace exists", all(vec![question.namespace_path()]));
    category.check("control plane ClusterRoles exist", all(roles("clusterroles")));
    category.check("control plane ClusterRoleBindings exist", all(roles("clusterrolebindings")));
    category.check("control plane ServiceAccounts exist", all(accounts));
    category.check("control plane MutatingWebhookConfigurations exist", all(webhooks(true)));
    category.check("control plane ValidatingWebhookConfigurations exist", all(webhooks(false)));
    category
}

/// What could not be asked.
pub(super) fn unknown(error: String) -> Fault {
    Fault::error(error, "see that the credentials may read it").may_pass()
}

/// A text within an object.
pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}
