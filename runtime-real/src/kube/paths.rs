//! Where things are at an API server.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use mesh_core::resource::{Kind, ObjectRef};

/// The versions of kinds that the server has, as far as they were listed. Cloning shares it.
#[derive(Clone, Debug, Default)]
pub(super) struct Versions(Arc<Mutex<BTreeMap<Kind, String>>>);

impl Versions {
    pub(super) fn set(&self, kind: Kind, version: String) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(kind, version);
    }

    pub(super) fn find(&self, kind: Kind) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(&kind).cloned()
    }
}

/// The path of all objects of a kind, in every namespace.
pub(super) fn collection(kind: Kind, version: &str) -> String {
    format!("{}/{}", root(version), kind.plural())
}

/// The path of an object.
pub(super) fn object(name: &ObjectRef, version: &str) -> String {
    let ObjectRef { kind, namespace, name } = name;
    let (root, plural) = (root(version), kind.plural());
    let (namespace, name) = (escaped(namespace), escaped(name));
    match kind.is_namespaced() {
        true => format!("{root}/namespaces/{namespace}/{plural}/{name}"),
        false => format!("{root}/{plural}/{name}"),
    }
}

/// What a role has to name: `servers.policy.linkerd.io`.
pub(super) fn resource(kind: Kind) -> String {
    match kind.group().as_str() {
        "" => kind.plural(),
        group => format!("{}.{group}", kind.plural()),
    }
}

fn root(version: &str) -> String {
    let prefix = if version.contains('/') { "/apis" } else { "/api" };
    format!("{prefix}/{version}")
}

/// Percent-encoded, as a part of a path or of a query.
pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => {
                escaped.push(char::from(byte));
            }
            _ => escaped.push_str(&format!("%{byte:02X}")),
        }
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_kubernetes() {
        let name = |kind, namespace: &str| ObjectRef {
            kind,
            namespace: namespace.to_owned(),
            name: "a/b".to_owned(),
        };
        assert_eq!(collection(Kind::Pod, "v1"), "/api/v1/pods");
        assert_eq!(object(&name(Kind::Namespace, ""), "v1"), "/api/v1/namespaces/a%2Fb");
        assert_eq!(
            object(&name(Kind::HTTPRoute, "shop"), "gateway.networking.k8s.io/v1"),
            "/apis/gateway.networking.k8s.io/v1/namespaces/shop/httproutes/a%2Fb"
        );
        assert_eq!(resource(Kind::Server), "servers.policy.linkerd.io");
        assert_eq!(resource(Kind::Pod), "pods");
    }
}
