//! Which EgressNetwork an address outside of the cluster is of, and what becomes of traffic that no
//! route of it is for.
//!
//! Laws: a network in the client's namespace goes before one of the namespace that is for everyone,
//! then the smallest network, then the oldest. A network that overlaps the cluster's own is none.

use std::net::IpAddr;

use ipnet::IpNet;

use crate::control::config::MeshConfig;
use crate::control::index::View;
use crate::model::metadata::{Metadata, ResourceRef};
use crate::resource::EgressNetwork;
use crate::resource::check::parse_network;
use crate::resource::policy::NetworkSpec;

/// The network that an address is of, for clients in `namespace`.
pub(super) fn network_of<'a>(
    view: &View<'a>,
    namespace: &str,
    address: IpAddr,
) -> Option<&'a EgressNetwork> {
    let address = address.to_canonical();
    let best = view.egress_networks().filter_map(|network| {
        let own = network.metadata.namespace.as_deref().unwrap_or_default();
        let is_own = own == namespace;
        if !is_own && own != view.mesh.egress_namespace || !is_accepted(view.mesh, network) {
            return None;
        }
        let size = match network.spec.networks.as_deref() {
            Some(networks) => networks.iter().filter_map(|net| size_of(net, address)).min()?,
            None => {
                let mut own = view.mesh.cluster_networks.iter();
                if own.any(|own| own.contains(&address)) {
                    return None;
                }
                IPV6_BITS
            }
        };
        let created = network.metadata.creation_timestamp.as_ref().map(|at| at.0);
        Some(((!is_own, size, created.is_none(), created), network))
    });
    // Of equals the first by namespace and name.
    best.min_by(|(one, _), (other, _)| one.cmp(other)).map(|(_, network)| network)
}

/// Whether none of its networks overlaps those of the cluster.
pub(in crate::control) fn is_accepted(mesh: &MeshConfig, network: &EgressNetwork) -> bool {
    let overlaps = |net: &NetworkSpec| {
        let Some(whole) = parse_network(&net.cidr) else {
            return false;
        };
        let except: Vec<_> =
            net.except.iter().flatten().filter_map(|text| parse_network(text)).collect();
        mesh.cluster_networks.iter().any(|own| {
            let overlap = own.contains(&whole) || whole.contains(own);
            overlap && !except.iter().any(|part| part.contains(own))
        })
    };
    !network.spec.networks.iter().flatten().any(overlaps)
}

/// A network as the parent of policies.
pub(super) fn metadata(network: &EgressNetwork, port: u16) -> Metadata {
    Metadata::new_resource(ResourceRef {
        group: "policy.linkerd.io".to_string(),
        kind: "EgressNetwork".to_string(),
        name: network.metadata.name.clone().unwrap_or_default(),
        namespace: network.metadata.namespace.clone().unwrap_or_default(),
        section: String::new(),
        port,
    })
}

const IPV6_BITS: u8 = 128;

/// The bits that differ within the network, where the address is in it.
fn size_of(net: &NetworkSpec, address: IpAddr) -> Option<u8> {
    let whole = parse_network(&net.cidr)?;
    let mut except = net.except.iter().flatten().filter_map(|text| parse_network(text));
    let is_in = whole.contains(&address) && !except.any(|part: IpNet| part.contains(&address));
    is_in.then(|| whole.max_prefix_len() - whole.prefix_len())
}
