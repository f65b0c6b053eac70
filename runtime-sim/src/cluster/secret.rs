//! Secrets, as an API server keeps them: it compares versions, and nothing else.

use std::collections::BTreeMap;

use mesh_core::runtime::cluster::{ClusterError, Secret};

/// Secrets by namespace and name.
#[derive(Debug, Default)]
pub(super) struct Secrets {
    kept: BTreeMap<(String, String), Secret>,
    writes: u64,
}

impl Secrets {
    /// Makes or replaces a secret, where it is still of the version that the writer knows.
    pub(super) fn write(
        &mut self,
        namespace: &str,
        name: &str,
        mut secret: Secret,
    ) -> Result<Secret, ClusterError> {
        let key = (namespace.to_owned(), name.to_owned());
        let known = self.kept.get(&key);
        if known.and_then(|known| known.version.clone()) != secret.version {
            return Err(ClusterError::Conflict(format!("secret {namespace}/{name}")));
        }
        if known.is_some_and(|known| known.kind != secret.kind) {
            let fault = format!("secret {namespace}/{name}: type cannot be changed");
            return Err(ClusterError::Invalid(fault));
        }
        self.writes += 1;
        secret.version = Some(self.writes.to_string());
        self.kept.insert(key, secret.clone());
        Ok(secret)
    }

    pub(super) fn find(&self, namespace: &str, name: &str) -> Option<Secret> {
        self.kept.get(&(namespace.to_owned(), name.to_owned())).cloned()
    }

    pub(super) fn remove(&mut self, namespace: &str, name: &str) -> bool {
        self.kept.remove(&(namespace.to_owned(), name.to_owned())).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secret(content: &str) -> Secret {
        let data = [("tls.crt".to_owned(), content.into())].into();
        Secret { version: None, kind: "kubernetes.io/tls".to_owned(), data }
    }

    #[test]
    fn a_secret_is_replaced_by_whoever_knows_its_version() {
        let mut secrets = Secrets::default();
        let first = secrets.write("linkerd", "tls", secret("a")).expect("there was none");
        assert!(matches!(
            secrets.write("linkerd", "tls", secret("b")),
            Err(ClusterError::Conflict(_))
        ));
        let next = Secret { version: first.version.clone(), ..secret("b") };
        secrets.write("linkerd", "tls", next).expect("of its version");
        assert!(secrets.write("linkerd", "tls", first).is_err());
        let kept = secrets.find("linkerd", "tls").expect("it was written");
        assert_eq!(kept.data, secret("b").data);
        assert!(secrets.remove("linkerd", "tls") && !secrets.remove("linkerd", "tls"));
    }
}
