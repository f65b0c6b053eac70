//! What is known of a cluster, by the API's paths. Gathering it asks; judging it does not.

use std::collections::BTreeMap;

use serde_json::{Value, json};

/// What was found at a path.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Found {
    /// This.
    Object(Value),
    /// Nothing.
    Absent,
    /// It could not be asked: why.
    Unknown(String),
}

/// What is known.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Facts {
    /// Why there is no client; none where there is one.
    pub(super) no_client: Option<String>,
    /// By path.
    pub(super) found: BTreeMap<String, Found>,
    /// What may be done, by what it is: `create namespaces`.
    pub(super) allowed: BTreeMap<String, Found>,
}

/// What is asked for, and of what.
#[derive(Clone, Debug)]
pub(super) struct Question {
    /// The control plane's namespace.
    pub(super) namespace: String,
    /// What is to be checked.
    pub(super) stage: Stage,
    /// Sidecars too.
    pub(super) proxies: bool,
    /// Sidecars of this namespace alone.
    pub(super) workloads: Option<String>,
    /// The version that everything is to have.
    pub(super) version: String,
}

/// When the check is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// Before an installation.
    Before,
    /// After its custom resource definitions.
    Crds,
    /// After it.
    After,
}

impl Facts {
    /// What is at a path.
    pub(super) fn at(&self, path: &str) -> Result<Option<&Value>, String> {
        match self.found.get(path) {
            Some(Found::Object(object)) => Ok(Some(object)),
            Some(Found::Absent) => Ok(None),
            Some(Found::Unknown(reason)) => Err(format!("{path}: {reason}")),
            None => Err(format!("{path} was not asked for")),
        }
    }

    /// The items of a list.
    pub(super) fn items(&self, path: &str) -> Result<&[Value], String> {
        let list = self.at(path)?.and_then(|list| list["items"].as_array());
        Ok(list.map(Vec::as_slice).unwrap_or_default())
    }
}

impl Question {
    fn own(&self, rest: &str) -> String {
        format!("/api/v1/namespaces/{}{rest}", self.namespace)
    }

    pub(super) fn namespace_path(&self) -> String {
        self.own("")
    }

    pub(super) fn config(&self) -> String {
        self.own("/configmaps/linkerd-config")
    }

    pub(super) fn trust_roots(&self) -> String {
        self.own("/configmaps/linkerd-identity-trust-roots")
    }

    pub(super) fn secret(&self, name: &str) -> String {
        self.own(&format!("/secrets/{name}"))
    }

    pub(super) fn account(&self, name: &str) -> String {
        self.own(&format!("/serviceaccounts/{name}"))
    }

    pub(super) fn pods(&self) -> String {
        self.own("/pods")
    }

    pub(super) fn deployments(&self) -> String {
        format!("/apis/apps/v1/namespaces/{}/deployments", self.namespace)
    }

    /// Pods with sidecars of this control plane.
    pub(super) fn meshed_pods(&self) -> String {
        let label = format!("labelSelector=linkerd.io/control-plane-ns%3D{}", self.namespace);
        match &self.workloads {
            Some(namespace) => format!("/api/v1/namespaces/{namespace}/pods?{label}"),
            None => format!("/api/v1/pods?{label}"),
        }
    }

    pub(super) fn services(&self) -> String {
        match &self.workloads {
            Some(namespace) => format!("/api/v1/namespaces/{namespace}/services"),
            None => "/api/v1/services".into(),
        }
    }

    pub(super) fn workloads_namespace(&self) -> Option<String> {
        self.workloads.as_ref().map(|namespace| format!("/api/v1/namespaces/{namespace}"))
    }

    /// Every path that the checks look at.
    pub(super) fn paths(&self) -> Vec<String> {
        let mut paths = vec![VERSION.to_string(), self.namespace_path()];
        paths.extend(GATEWAY_CRDS.iter().map(|name| crd(name)));
        if self.stage == Stage::Before {
            paths.push(NODES.into());
            return paths;
        }
        paths.extend(crd_names().iter().map(|name| crd(name)));
        if self.stage == Stage::Crds {
            return paths;
        }
        paths.extend([
            self.config(),
            self.trust_roots(),
            self.secret("linkerd-identity-issuer"),
            self.pods(),
            self.deployments(),
            NODES.into(),
            KUBE_SYSTEM.into(),
            CNI_DAEMONSETS.into(),
            EXTENSION_PODS.into(),
        ]);
        for component in &COMPONENTS {
            paths.push(self.account(component.deployment));
            for kind in ["clusterroles", "clusterrolebindings"] {
                paths.push(cluster_role(kind, &self.namespace, component.name));
            }
        }
        for webhook in &WEBHOOKS {
            paths.extend([webhook.path(), self.secret(webhook.secret)]);
        }
        if self.proxies {
            paths.extend([self.meshed_pods(), self.services()]);
            paths.extend(self.workloads_namespace());
        }
        paths.sort();
        paths.dedup();
        paths
    }

    /// What is to be allowed before an installation: a name, and the review that asks for it.
    pub(super) fn reviews(&self) -> Vec<(String, Value)> {
        if self.stage != Stage::Before {
            return Vec::new();
        }
        let review = |(group, resource, is_namespaced): &(&str, &str, bool)| {
            let mut attributes = json!({"verb": "create", "group": group, "resource": resource});
            if *is_namespaced {
                attributes["namespace"] = self.namespace.as_str().into();
            }
            let review = json!({
                "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
                "spec": {"resourceAttributes": attributes},
            });
            (format!("create {resource}"), review)
        };
        CREATED.iter().map(review).collect()
    }
}

pub(super) use mesh_core::manifest::install::COMPONENTS;

pub(super) const VERSION: &str = "/version";
pub(super) const NODES: &str = "/api/v1/nodes";
pub(super) const KUBE_SYSTEM: &str = "/api/v1/namespaces/kube-system";
/// Linkerd's CNI plugin, wherever it was installed.
pub(super) const CNI_DAEMONSETS: &str =
    "/apis/apps/v1/daemonsets?labelSelector=k8s-app%3Dlinkerd-cni";
/// Pods of extensions, of any of them.
pub(super) const EXTENSION_PODS: &str = "/api/v1/pods?labelSelector=linkerd.io%2Fextension";
pub(super) const GATEWAY_CRDS: [&str; 2] =
    ["httproutes.gateway.networking.k8s.io", "grpcroutes.gateway.networking.k8s.io"];

/// What an installation creates: group, resource, and whether it lives in a namespace.
pub(super) const CREATED: [(&str, &str, bool); 12] = [
    ("", "namespaces", false),
    ("apiextensions.k8s.io", "customresourcedefinitions", false),
    ("rbac.authorization.k8s.io", "clusterroles", false),
    ("rbac.authorization.k8s.io", "clusterrolebindings", false),
    ("admissionregistration.k8s.io", "mutatingwebhookconfigurations", false),
    ("admissionregistration.k8s.io", "validatingwebhookconfigurations", false),
    ("", "serviceaccounts", true),
    ("", "services", true),
    ("apps", "deployments", true),
    ("", "configmaps", true),
    ("", "secrets", true),
    ("rbac.authorization.k8s.io", "roles", true),
];

/// A webhook of the control plane.
pub(super) struct WebhookFacts {
    /// As its checks are called: `proxy-injector`.
    pub(super) name: &'static str,
    kind: &'static str,
    pub(super) configuration: &'static str,
    pub(super) secret: &'static str,
    pub(super) service: &'static str,
}

pub(super) const WEBHOOKS: [WebhookFacts; 3] = [
    WebhookFacts {
        name: "proxy-injector",
        kind: "mutatingwebhookconfigurations",
        configuration: "linkerd-proxy-injector-webhook-config",
        secret: "linkerd-proxy-injector-k8s-tls",
        service: "linkerd-proxy-injector",
    },
    WebhookFacts {
        name: "sp-validator",
        kind: "validatingwebhookconfigurations",
        configuration: "linkerd-sp-validator-webhook-config",
        secret: "linkerd-policy-validator-k8s-tls",
        service: "linkerd-sp-validator",
    },
    WebhookFacts {
        name: "policy-validator",
        kind: "validatingwebhookconfigurations",
        configuration: "linkerd-policy-validator-webhook-config",
        secret: "linkerd-policy-validator-k8s-tls",
        service: "linkerd-policy-validator",
    },
];

impl WebhookFacts {
    pub(super) fn path(&self) -> String {
        let (kind, name) = (self.kind, self.configuration);
        format!("/apis/admissionregistration.k8s.io/v1/{kind}/{name}")
    }

    pub(super) fn is_mutating(&self) -> bool {
        self.kind.starts_with("mutating")
    }
}

pub(super) fn crd(name: &str) -> String {
    format!("/apis/apiextensions.k8s.io/v1/customresourcedefinitions/{name}")
}

/// The names of the mesh's own custom resource definitions.
pub(super) fn crd_names() -> Vec<String> {
    let definitions = mesh_core::resource::crd::definitions().unwrap_or_default();
    definitions.into_iter().map(|(name, _)| name).collect()
}

pub(super) fn cluster_role(kind: &str, namespace: &str, component: &str) -> String {
    format!("/apis/rbac.authorization.k8s.io/v1/{kind}/linkerd-{namespace}-{component}")
}
