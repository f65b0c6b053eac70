//! What certifies workloads: trust anchors for everybody, and the issuer's key for one.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::super::values::Values;
use super::metadata;

/// The config map of the trust anchors.
pub const TRUST_ROOTS: &str = "linkerd-identity-trust-roots";
/// The key of the anchors in it.
pub const ANCHORS_KEY: &str = "ca-bundle.crt";
/// The secret of the issuer.
pub const ISSUER_SECRET: &str = "linkerd-identity-issuer";
/// The secret has `crt.pem` and `key.pem`; the installation makes it.
pub const ISSUER_SCHEME_LINKERD: &str = "linkerd.io/tls";
/// The secret has `tls.crt` and `tls.key`; somebody else makes it, unless the key is given.
pub const ISSUER_SCHEME_KUBERNETES: &str = "kubernetes.io/tls";

/// The anchors and the issuer, as far as the installation makes them.
pub(super) fn documents(values: &Values) -> Vec<Value> {
    let mut documents = Vec::new();
    if !values.identity.external_ca {
        documents.push(json!({
            "apiVersion": "v1",
            "kind": "ConfigMap",
            "metadata": metadata(values, TRUST_ROOTS, Some("identity")),
            "data": {ANCHORS_KEY: values.identity_trust_anchors_pem},
        }));
    }
    let issuer = &values.identity.issuer;
    let (certificate, key) = (&issuer.tls.certificate_pem, &issuer.tls.key_pem);
    if certificate.is_empty() || key.is_empty() {
        return documents;
    }
    let is_kubernetes = issuer.scheme == ISSUER_SCHEME_KUBERNETES;
    let (kind, certificate_name, key_name) = match is_kubernetes {
        true => ("kubernetes.io/tls", "tls.crt", "tls.key"),
        false => ("Opaque", "crt.pem", "key.pem"),
    };
    documents.push(json!({
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(values, ISSUER_SECRET, Some("identity")),
        "type": kind,
        "data": {
            certificate_name: STANDARD.encode(certificate),
            key_name: STANDARD.encode(key),
        },
    }));
    documents
}
