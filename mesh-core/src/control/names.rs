//! Reads names that proxies ask for: services of the cluster, and instances of headless ones.

use super::config::MeshConfig;
use super::index::ServiceRef;

/// A name under the cluster's domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ServiceName {
    /// The service.
    pub service: ServiceRef,
    /// One instance of it, by host name: `db-0` of `db-0.db.ns.svc.cluster.local`.
    pub instance: Option<String>,
}

/// Reads `[INSTANCE.]NAME.NAMESPACE.svc.DOMAIN`, or `NAME.NAMESPACE.svc`, which says the same.
pub(super) fn parse_full(mesh: &MeshConfig, host: &str) -> Option<ServiceName> {
    let host = host.strip_suffix('.').unwrap_or(host);
    let host = host
        .strip_suffix(mesh.cluster_domain.as_str())
        .and_then(|host| host.strip_suffix('.'))
        .unwrap_or(host);
    let mut labels = host.strip_suffix(".svc")?.rsplit('.');
    let (namespace, name) = (labels.next()?, labels.next()?);
    let (instance, rest) = (labels.next(), labels.next());
    if rest.is_some() || namespace.is_empty() || name.is_empty() {
        return None;
    }
    Some(ServiceName {
        service: ServiceRef { namespace: namespace.to_string(), name: name.to_string() },
        instance: instance.map(str::to_string),
    })
}

/// Every service that a client in `namespace` can mean by `host`, likeliest first: as a resolver
/// with Kubernetes' search path would, so that explicit proxies can be given `http://web/`.
pub(super) fn candidates(mesh: &MeshConfig, namespace: &str, host: &str) -> Vec<ServiceName> {
    if let Some(full) = parse_full(mesh, host) {
        return vec![full];
    }
    let service = |namespace: &str, name: &str| ServiceName {
        service: ServiceRef { namespace: namespace.to_string(), name: name.to_string() },
        instance: None,
    };
    let labels: Vec<_> = host.split('.').collect();
    match labels.as_slice() {
        [name] if !namespace.is_empty() => vec![service(namespace, name)],
        [name, namespace] => vec![service(namespace, name)],
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_as_a_resolver_would() {
        let mesh = MeshConfig::default();
        let read = |host| {
            let names = candidates(&mesh, "shop", host);
            let print = |name: &ServiceName| {
                let ServiceRef { namespace, name: service } = &name.service;
                format!("{:?} {service} {namespace}", name.instance)
            };
            names.iter().map(print).collect::<Vec<_>>().join(";")
        };
        assert_eq!(read("web.ns.svc.cluster.local"), "None web ns");
        assert_eq!(read("web.ns.svc"), "None web ns");
        assert_eq!(read("db-0.db.ns.svc.cluster.local"), "Some(\"db-0\") db ns");
        assert_eq!(read("web"), "None web shop");
        assert_eq!(read("web.ns"), "None web ns");
        assert_eq!(read("a.b.c.ns.svc.cluster.local"), "");
        assert_eq!(read("www.example.com"), "");
    }
}
