//! What an installation is, as text, and the laws it keeps. The types of Kubernetes' own OpenAPI
//! schema are the judge of its form.

use std::collections::BTreeSet;

use k8s_openapi::Metadata;
use k8s_openapi::api::admissionregistration::v1::{
    MutatingWebhookConfiguration, ValidatingWebhookConfiguration,
};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Secret, Service, ServiceAccount};
use k8s_openapi::api::policy::v1::PodDisruptionBudget;
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding, Role, RoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use serde::de::DeserializeOwned;

use super::super::values::layers::{self, Layer};
use super::*;

const ANCHORS: &str = "-----BEGIN CERTIFICATE-----\nanchors\n-----END CERTIFICATE-----\n";

fn values(layered: &[Value]) -> Values {
    let known = json!({
        "linkerdVersion": "1.2.3",
        "identityTrustAnchorsPEM": ANCHORS,
        "identity": {"issuer": {"tls": {"crtPEM": "certificate", "keyPEM": "key"}}},
    });
    let layer = |values: &Value| Layer { source: "test".into(), values: values.clone() };
    let layers: Vec<_> = [&known].into_iter().chain(layered).map(layer).collect();
    layers::merge(&layers).unwrap().values
}

/// Installations that differ in everything that changes their form.
fn installations() -> Vec<Vec<Value>> {
    let all = json!({
        "cniEnabled": true, "disableIPv6": false,
        "imagePullSecrets": [{"name": "registry"}],
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]},
        ]}},
        "priorityClassName": "system-cluster-critical", "runtimeClassName": "runc",
        "podAnnotations": {"a": "b"}, "podLabels": {"c": "d"}, "commonLabels": {"e": "f"},
        "podMonitor": {"enabled": true, "labels": {"release": "prometheus"}},
        "identity": {"externalCA": true, "issuer": {"scheme": "kubernetes.io/tls"}},
        "proxyInjector": {"caBundle": "bundle", "crtPEM": "c", "keyPEM": "k",
            "injectCaFrom": "linkerd/injector"},
        "proxyInit": {"closeWaitTimeoutSecs": 5},
        "proxy": {"waitBeforeExitSeconds": 3, "additionalEnv": [{"name": "A", "value": "b"}]},
        "destinationProxyResources": {"cpu": {"request": "200m"}},
    });
    let sets = [vec![], vec![Values::ha()], vec![all.clone()], vec![Values::ha(), all]];
    sets.iter().map(|layered| install(&values(layered))).collect()
}

/// Reads a document as the type that Kubernetes' schema has for it: nothing of it may be unknown.
fn read<T: DeserializeOwned + Metadata>(document: &Value) -> T {
    let mut unknown = Vec::new();
    let read = serde_ignored::deserialize(document, |path| unknown.push(path.to_string()));
    let names = object_of(document);
    let read: T = read.unwrap_or_else(|error| panic!("{names:?}: {error}"));
    assert_eq!(unknown, Vec::<String>::new(), "{names:?}");
    read
}

fn of_kind<'a>(documents: &'a [Value], kind: &str) -> impl Iterator<Item = &'a Value> {
    documents.iter().filter(move |document| document["kind"] == kind)
}

#[test]
fn the_installation_by_default() {
    insta::assert_snapshot!(render(&install(&values(&[])), Format::Yaml));
}

#[test]
fn what_differs_with_high_availability() {
    let default = install(&values(&[]));
    let mut documents = install(&values(&[Values::ha()]));
    documents.retain(|document| !default.contains(document) && document["kind"] != "ConfigMap");
    insta::assert_snapshot!(render(&documents, Format::Yaml));
}

#[test]
fn every_document_has_the_form_of_kubernetes() {
    for documents in installations() {
        for document in &documents {
            match document["kind"].as_str().unwrap() {
                "Namespace" => drop(read::<Namespace>(document)),
                "ConfigMap" => drop(read::<ConfigMap>(document)),
                "Secret" => drop(read::<Secret>(document)),
                "Service" => drop(read::<Service>(document)),
                "ServiceAccount" => drop(read::<ServiceAccount>(document)),
                "ClusterRole" => drop(read::<ClusterRole>(document)),
                "ClusterRoleBinding" => drop(read::<ClusterRoleBinding>(document)),
                "Role" => drop(read::<Role>(document)),
                "RoleBinding" => drop(read::<RoleBinding>(document)),
                "Deployment" => drop(read::<Deployment>(document)),
                "PodDisruptionBudget" => drop(read::<PodDisruptionBudget>(document)),
                "MutatingWebhookConfiguration" => {
                    drop(read::<MutatingWebhookConfiguration>(document));
                }
                "ValidatingWebhookConfiguration" => {
                    drop(read::<ValidatingWebhookConfiguration>(document));
                }
                // Not Kubernetes' own.
                "PodMonitor" => {}
                other => panic!("{other} is judged by nobody"),
            }
        }
    }
    for definition in crds(&values(&[])) {
        read::<CustomResourceDefinition>(&definition);
    }
}

#[test]
fn no_document_is_there_twice() {
    for documents in installations() {
        let names: BTreeSet<_> = documents.iter().map(object_of).collect();
        assert_eq!(names.len(), documents.len());
    }
}

#[test]
fn everything_says_whose_it_is() {
    for documents in installations().iter().chain([&crds(&values(&[]))]) {
        for document in documents {
            let owner = &document["metadata"]["labels"][CONTROL_PLANE_NS];
            assert_eq!(owner, "linkerd", "{:?}", object_of(document));
        }
    }
}

#[test]
fn keys_are_in_secrets_alone() {
    let values = values(&[json!({"identity": {"issuer": {"tls": {"keyPEM": "sesame"}}}})]);
    for document in install(&values) {
        let is_secret = document["kind"] == "Secret";
        assert!(
            is_secret || !document.to_string().contains("sesame"),
            "{:?}",
            object_of(&document)
        );
    }
}

#[test]
fn only_what_redirects_traffic_runs_as_root() {
    for documents in installations() {
        for deployment in of_kind(&documents, "Deployment") {
            let spec = &deployment["spec"]["template"]["spec"];
            for container in ["containers", "initContainers"]
                .iter()
                .flat_map(|list| spec[list].as_array().into_iter().flatten())
            {
                let context = &container["securityContext"];
                assert_eq!(context["readOnlyRootFilesystem"], true);
                assert_eq!(context["capabilities"]["drop"], json!(["ALL"]));
                assert_eq!(context["seccompProfile"]["type"], "RuntimeDefault");
                if container["name"] != sidecar_init() {
                    assert_eq!(context["runAsNonRoot"], true);
                    assert_eq!(context["allowPrivilegeEscalation"], false);
                }
            }
        }
    }
}

fn sidecar_init() -> &'static str {
    super::super::sidecar::INIT
}

#[test]
fn what_is_mounted_is_there_and_what_is_there_is_mounted() {
    for documents in installations() {
        for deployment in of_kind(&documents, "Deployment") {
            let spec = &deployment["spec"]["template"]["spec"];
            let names = |list: &Value| -> BTreeSet<String> {
                let items = list.as_array().into_iter().flatten();
                items.map(|item| item["name"].as_str().unwrap().to_string()).collect()
            };
            let containers = ["containers", "initContainers"];
            let containers = containers.iter().filter_map(|list| spec[list].as_array()).flatten();
            let mounted = containers.flat_map(|container| names(&container["volumeMounts"]));
            assert_eq!(mounted.collect::<BTreeSet<_>>(), names(&spec["volumes"]));
        }
    }
}

#[test]
fn services_budgets_and_deployments_select_their_pods() {
    for documents in installations() {
        let pods: Vec<_> = of_kind(&documents, "Deployment")
            .map(|deployment| {
                let template = &deployment["spec"]["template"];
                let wanted = &deployment["spec"]["selector"]["matchLabels"];
                assert!(selects(wanted, template), "{:?}", object_of(deployment));
                template
            })
            .collect();
        let services = of_kind(&documents, "Service").map(|s| (s, &s["spec"]["selector"]));
        let budgets = of_kind(&documents, "PodDisruptionBudget");
        let budgets = budgets.map(|budget| (budget, &budget["spec"]["selector"]["matchLabels"]));
        for (document, wanted) in services.chain(budgets) {
            let selected = pods.iter().filter(|pod| selects(wanted, pod)).count();
            assert_eq!(selected, 1, "{:?}", object_of(document));
        }
    }
}

fn selects(wanted: &Value, pod: &Value) -> bool {
    let labels = &pod["metadata"]["labels"];
    wanted.as_object().unwrap().iter().all(|(name, value)| labels[name] == *value)
}

#[test]
fn services_lead_to_ports_of_their_pods() {
    let documents = install(&values(&[]));
    for service in of_kind(&documents, "Service") {
        let component = &service["spec"]["selector"][COMPONENT];
        let component = COMPONENTS.iter().find(|c| component == c.name).unwrap();
        for port in service["spec"]["ports"].as_array().unwrap() {
            let target = &port["targetPort"];
            let leads = component.ports.iter().any(|(name, port)| target == name || target == port);
            assert!(leads, "{:?}", object_of(service));
        }
    }
}

#[test]
fn webhooks_ask_services_of_the_installation() {
    let documents = install(&values(&[]));
    let services: BTreeSet<_> = of_kind(&documents, "Service").map(|s| object_of(s).3).collect();
    for document in &documents {
        for webhook in document["webhooks"].as_array().into_iter().flatten() {
            let service = &webhook["clientConfig"]["service"];
            assert!(services.contains(service["name"].as_str().unwrap()));
            assert_eq!(webhook["clientConfig"].get("caBundle"), None);
            assert_eq!(webhook["failurePolicy"], "Ignore");
        }
    }
}

#[test]
fn what_the_cluster_keeps_is_what_was_installed() {
    let values = values(&[Values::ha()]);
    let documents = install(&values);
    let config = of_kind(&documents, "ConfigMap").find(|c| object_of(c).3 == CONFIG).unwrap();
    let kept = Values::read(config["data"][CONFIG_KEY].as_str().unwrap()).unwrap();
    assert_eq!(kept, values.without_keys());
}

#[test]
fn an_issuer_of_somebody_else_is_not_made() {
    let given = json!({"identity": {"externalCA": true, "issuer": {
        "scheme": "kubernetes.io/tls", "tls": {"crtPEM": "", "keyPEM": ""},
    }}});
    let documents = install(&values(&[given]));
    let names: Vec<_> = documents.iter().map(|document| object_of(document).3).collect();
    assert!(!names.iter().any(|name| name == ISSUER_SECRET || name == TRUST_ROOTS));
}
