//! Facts of the mesh as flags of the controller: what an installation's values say, for its process.

use std::time::Duration;

use clap::{Args, ValueEnum};
use mesh_core::control::{IdentityConfig, MeshConfig};

use crate::{Failure, duration};

#[derive(Debug, Args)]
#[command(next_help_heading = "Mesh")]
pub(crate) struct MeshArgs {
    /// Ports that are opaque unless annotations say otherwise: 25,3306,9000-9010
    #[arg(long, value_name = "PORTS")]
    opaque_ports: Option<String>,
    /// Networks that probes come from [default: all]
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    probe_networks: Vec<String>,
    /// The namespace whose EgressNetworks are every workload's [default: linkerd-egress]
    #[arg(long, value_name = "NAME")]
    egress_namespace: Option<String>,
    /// Which port of a peer meshed traffic goes to
    #[arg(long, value_enum, value_name = "MODE", default_value_t = TransportMode::TransportHeader)]
    outbound_transport_mode: TransportMode,
    /// Proxies carry no HTTP/1 over HTTP/2 between them
    #[arg(long)]
    disable_h2_upgrade: bool,
    /// Certificates are valid from this much earlier, for clocks that are behind
    #[arg(long, value_name = "TIME", default_value = "20s", value_parser = duration::parse)]
    clock_skew: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum TransportMode {
    /// The proxy's, with a header that says which port is meant
    TransportHeader,
    /// The application's
    Transparent,
}

impl MeshArgs {
    /// What the flags say of the mesh, over what is said elsewhere.
    pub(crate) fn apply(
        &self,
        mesh: &mut MeshConfig,
        identity: &mut IdentityConfig,
    ) -> Result<(), Failure> {
        if let Some(ports) = &self.opaque_ports {
            mesh.opaque_ports = ports.parse().map_err(|_| {
                let remedy = "give ports and ranges separated by commas, such as 25,9000-9010";
                Failure::misconfigured(format!("--opaque-ports: {ports:?}: {remedy}"))
            })?;
        }
        if !self.probe_networks.is_empty() {
            let read = |network: &String| {
                network.parse().map_err(|_| {
                    Failure::misconfigured(format!(
                        "--probe-networks: {network:?} is not a network such as 10.0.0.0/8"
                    ))
                })
            };
            mesh.probe_networks = self.probe_networks.iter().map(read).collect::<Result<_, _>>()?;
        }
        if let Some(namespace) = &self.egress_namespace {
            mesh.egress_namespace.clone_from(namespace);
        }
        mesh.transport_header = self.outbound_transport_mode == TransportMode::TransportHeader;
        mesh.http2_upgrade = !self.disable_h2_upgrade;
        identity.clock_skew = self.clock_skew;
        Ok(())
    }
}
