//! What the API server asks the control plane about. The control plane makes the certificates and
//! says whom to trust for them itself, unless somebody else does.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::super::values::{Values, Webhook};
use super::component::Component;
use super::{cluster_metadata, metadata};

/// What asks the injector.
pub(super) const INJECTOR_CONFIG: &str = "linkerd-proxy-injector-webhook-config";
/// What asks about policies.
pub(super) const POLICY_VALIDATOR_CONFIG: &str = "linkerd-policy-validator-webhook-config";
/// What asks about ServiceProfiles.
pub(super) const PROFILE_VALIDATOR_CONFIG: &str = "linkerd-sp-validator-webhook-config";
/// The injector's certificate.
pub(super) const INJECTOR_SECRET: &str = "linkerd-proxy-injector-k8s-tls";
/// The validators' certificate: one process answers both.
pub(super) const POLICY_VALIDATOR_SECRET: &str = "linkerd-policy-validator-k8s-tls";

/// The configurations, for the whole cluster.
pub(super) fn documents(values: &Values) -> Vec<Value> {
    let injector = webhook(
        values,
        &values.proxy_injector,
        ("linkerd-proxy-injector", "/mutate"),
        &[("", &["v1"], &["pods", "services"], &["CREATE"])],
    );
    let policies = webhook(
        values,
        &values.policy_validator,
        ("linkerd-policy-validator", "/validate/policy"),
        &[
            (
                "policy.linkerd.io",
                &["*"],
                &[
                    "authorizationpolicies",
                    "egressnetworks",
                    "httplocalratelimitpolicies",
                    "httproutes",
                    "meshtlsauthentications",
                    "networkauthentications",
                    "serverauthorizations",
                    "servers",
                ],
                &["CREATE", "UPDATE"],
            ),
            (
                "gateway.networking.k8s.io",
                &["*"],
                &["grpcroutes", "httproutes", "tcproutes", "tlsroutes"],
                &["CREATE", "UPDATE"],
            ),
        ],
    );
    let profiles = webhook(
        values,
        &values.profile_validator,
        ("linkerd-sp-validator", "/validate/profile"),
        &[("linkerd.io", &["v1alpha1", "v1alpha2"], &["serviceprofiles"], &["CREATE", "UPDATE"])],
    );
    let configuration = |kind: &str, name: &str, of: &str, said: &Webhook, webhook: Value| {
        let mut metadata = cluster_metadata(values, name, Some(of));
        for (annotation, source) in [
            ("cert-manager.io/inject-ca-from", &said.inject_ca_from),
            ("cert-manager.io/inject-ca-from-secret", &said.inject_ca_from_secret),
        ] {
            if !source.is_empty() {
                metadata["annotations"][annotation] = source.as_str().into();
            }
        }
        json!({
            "apiVersion": "admissionregistration.k8s.io/v1",
            "kind": kind,
            "metadata": metadata,
            "webhooks": [webhook],
        })
    };
    let validating = "ValidatingWebhookConfiguration";
    vec![
        configuration(
            "MutatingWebhookConfiguration",
            INJECTOR_CONFIG,
            "proxy-injector",
            &values.proxy_injector,
            injector,
        ),
        configuration(
            validating,
            POLICY_VALIDATOR_CONFIG,
            "destination",
            &values.policy_validator,
            policies,
        ),
        configuration(
            validating,
            PROFILE_VALIDATOR_CONFIG,
            "destination",
            &values.profile_validator,
            profiles,
        ),
    ]
}

type Rule<'a> = (&'a str, &'a [&'a str], &'a [&'a str], &'a [&'a str]);

fn webhook(
    values: &Values,
    said: &Webhook,
    (service, path): (&str, &str),
    rules: &[Rule<'_>],
) -> Value {
    let rules = rules.iter().map(|(group, versions, resources, operations)| {
        json!({
            "apiGroups": [group], "apiVersions": versions, "resources": resources,
            "operations": operations, "scope": "Namespaced",
        })
    });
    let mut client = json!({"service": {
        "name": service, "namespace": values.linkerd_namespace, "path": path,
    }});
    // Left out, what the control plane has written there stays when the document is applied again.
    if !said.ca_bundle.is_empty() {
        client["caBundle"] = STANDARD.encode(&said.ca_bundle).into();
    }
    let mut webhook = json!({
        "name": format!("{service}.linkerd.io"),
        "clientConfig": client,
        "rules": rules.collect::<Vec<_>>(),
        "namespaceSelector": said.namespace_selector,
        "failurePolicy": values.webhook_failure_policy,
        "admissionReviewVersions": ["v1"],
        "sideEffects": "None",
        "timeoutSeconds": said.timeout_seconds,
    });
    if said.object_selector.as_object().is_some_and(|selector| !selector.is_empty()) {
        webhook["objectSelector"] = said.object_selector.clone();
    }
    webhook
}

/// A component's certificate for its webhooks, where one was given.
pub(super) fn secrets(values: &Values, component: &Component) -> Option<Value> {
    let (said, name) = match component.name {
        "destination" => (&values.policy_validator, POLICY_VALIDATOR_SECRET),
        "proxy-injector" => (&values.proxy_injector, INJECTOR_SECRET),
        _ => return None,
    };
    if said.external_secret || said.certificate_pem.is_empty() || said.key_pem.is_empty() {
        return None;
    }
    Some(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(values, name, Some(component.name)),
        "type": "kubernetes.io/tls",
        "data": {
            "tls.crt": STANDARD.encode(&said.certificate_pem),
            "tls.key": STANDARD.encode(&said.key_pem),
        },
    }))
}
