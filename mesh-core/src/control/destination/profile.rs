//! Compiles profiles: whether a destination is opaque, its name, and the endpoint behind a pod's
//! address.

use std::net::SocketAddr;
use std::time::Duration;

use crate::api::server::Refusal;
use crate::control::index::View;
use crate::control::names;
use crate::control::protocol::{self, PortProtocol};
use crate::model::endpoint::{Endpoint, ProtocolHint};
use crate::model::metadata::{Metadata, ResourceRef};
use crate::model::profile::{Profile, RetryBudget};
use crate::model::ratio::Ratio;
use crate::model::target::NameAddr;
use crate::resource::Service;

use super::endpoints;

/// Linkerd's, where a ServiceProfile gives none.
const RETRY_BUDGET: RetryBudget = RetryBudget {
    retry_ratio: Ratio::from_millionths(200_000),
    min_retries_per_second: 10,
    ttl: Duration::from_secs(10),
};

/// The profile of an address or name.
///
/// # Errors
/// [`Refusal::InvalidArgument`] for names that are no service's: there can be no profile.
pub fn compile(view: &View<'_>, path: &NameAddr) -> Result<Profile, Refusal> {
    if let Some(address) = path.as_address() {
        return Ok(of_address(view, address));
    }
    let no_service = || Refusal::InvalidArgument(format!("{} is not a service", path.host()));
    let name = names::parse_full(view.mesh, path.host()).ok_or_else(no_service)?;
    let service = view.service(&name.service.namespace, &name.service.name);
    let mut profile = of_service(view, service.ok_or_else(no_service)?, path.port());
    if name.instance.is_some() {
        profile.fully_qualified_name = Some(path.host().to_string());
    }
    Ok(profile)
}

fn of_address(view: &View<'_>, address: SocketAddr) -> Profile {
    if let Some(service) = view.service_at(address.ip()) {
        return of_service(view, service, address.port());
    }
    let (endpoint, opaque) = match view.instance_at(address) {
        Some(instance) => {
            let endpoint = endpoints::of_instance(view, instance, address);
            let opaque = endpoint.protocol_hint == ProtocolHint::Opaque;
            (endpoint, opaque)
        }
        None => {
            let opaque = view.mesh.opaque_ports.contains(address.port());
            (Endpoint::new(address), opaque)
        }
    };
    Profile {
        opaque,
        endpoint: Some(endpoint),
        retry_budget: Some(RETRY_BUDGET),
        ..Profile::default()
    }
}

fn of_service(view: &View<'_>, service: &Service, port: u16) -> Profile {
    let namespace = service.metadata.namespace.as_deref().unwrap_or_default();
    let name = service.metadata.name.as_deref().unwrap_or_default();
    let mut ports = service.spec.iter().flat_map(|spec| spec.ports.iter().flatten());
    let opaque = match ports.find(|found| found.port == i32::from(port)) {
        Some(port) => protocol::of_service_port(view, service, port) == PortProtocol::Opaque,
        None => false,
    };
    Profile {
        fully_qualified_name: Some(view.mesh.service_name(namespace, name)),
        opaque,
        retry_budget: Some(RETRY_BUDGET),
        parent: Some(Metadata::new_resource(ResourceRef {
            group: "core".to_string(),
            kind: "Service".to_string(),
            name: name.to_string(),
            namespace: namespace.to_string(),
            section: String::new(),
            port,
        })),
        ..Profile::default()
    }
}
