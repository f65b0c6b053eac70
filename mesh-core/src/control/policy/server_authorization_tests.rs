//! Whom ServerAuthorizations allow.

use super::server;
use crate::control::config::MeshConfig;
use crate::control::index::View;
use crate::control::testing;
use crate::model::server_policy::Authentication;

const MESH: &str = "
apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {name: web, namespace: shop, labels: {app: web}}
spec: {addresses: [10.2.0.1], ports: [{name: http, port: 80}], proxy: {}}
---
apiVersion: policy.linkerd.io/v1beta3
kind: Server
metadata: {name: http, namespace: shop, labels: {tier: front}}
spec: {podSelector: {matchLabels: {app: web}}, port: http}
---
apiVersion: policy.linkerd.io/v1alpha1
kind: ServerAuthorization
metadata: {name: by-label, namespace: shop}
spec:
  server: {selector: {matchLabels: {tier: front}}}
  client:
    networks: [{cidr: 10.0.0.0/8, except: [10.1.0.0/16]}]
    meshTLS: {identities: ['*.jobs'], serviceAccounts: [{name: web}, {name: api, namespace: back}]}
---
apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata: {name: by-name, namespace: shop}
spec: {server: {name: http}, client: {meshTLS: {unauthenticatedTLS: true}}}
---
apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata: {name: everybody, namespace: shop}
spec: {server: {name: http}, client: {unauthenticated: true}}
---
apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata: {name: of-another, namespace: shop}
spec: {server: {name: other}, client: {unauthenticated: true}}
---
apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata: {name: of-other-labels, namespace: shop}
spec: {server: {selector: {matchLabels: {tier: back}}}, client: {unauthenticated: true}}
---
apiVersion: policy.linkerd.io/v1beta1
kind: ServerAuthorization
metadata: {name: elsewhere, namespace: back}
spec: {server: {name: http}, client: {unauthenticated: true}}
";

#[test]
fn they_allow_clients_by_the_name_or_the_labels_of_a_server() {
    let (index, mesh) = (testing::index(MESH), MeshConfig::default());
    let view = View::new(&index, &mesh);
    let policy = server::compile(&view, "shop", "web", 80).unwrap();
    let told = policy.authorizations.iter().skip(1).map(|authorization| {
        let networks = authorization.networks.iter();
        let networks: Vec<_> =
            networks.map(|one| format!("{} without {:?}", one.net, one.except)).collect();
        let who = match &authorization.authentication {
            Authentication::TlsAuthenticated { identities, suffixes } => {
                let names = identities.iter().map(|identity| identity.as_str().to_string());
                let suffixes =
                    suffixes.iter().map(|suffix| format!("*.{}", suffix.parts.join(".")));
                names.chain(suffixes).collect::<Vec<_>>().join(", ")
            }
            other => format!("{other:?}"),
        };
        format!("{:?}\n  from {}\n  {who}", authorization.metadata, networks.join(", "))
    });
    insta::assert_snapshot!(told.collect::<Vec<_>>().join("\n"), @r#"
    Resource(ResourceRef { group: "policy.linkerd.io", kind: "serverauthorization", name: "by-label", namespace: "shop", section: "", port: 0 })
      from 10.0.0.0/8 without [10.1.0.0/16]
      web.shop.serviceaccount.identity.linkerd.cluster.local, api.back.serviceaccount.identity.linkerd.cluster.local, *.jobs
    Resource(ResourceRef { group: "policy.linkerd.io", kind: "serverauthorization", name: "by-name", namespace: "shop", section: "", port: 0 })
      from 0.0.0.0/0 without [], ::/0 without []
      TlsUnauthenticated
    Resource(ResourceRef { group: "policy.linkerd.io", kind: "serverauthorization", name: "everybody", namespace: "shop", section: "", port: 0 })
      from 0.0.0.0/0 without [], ::/0 without []
      Unauthenticated
    "#);
}
