//! TLS as labels: what was terminated here, and what was opened from here.

use std::sync::Arc;

use super::{LabelWriter, Labels};
use crate::model::identity::Identity;

/// TLS of a connection that a client opened to this proxy.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ServerTlsLabel {
    /// Mesh TLS was terminated here.
    True {
        /// Who the client is, where it sent a certificate.
        client_id: Option<Identity>,
    },
    /// TLS for the application, passed through.
    Opaque {
        /// The name the client asked for.
        sni: Arc<str>,
    },
    /// No TLS.
    NoIdentity(NoServerTls),
}

/// Why a client's connection has no TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoServerTls {
    /// It comes from this workload itself.
    Loopback,
    /// The port is opaque, TLS was not looked for.
    PortSkipped,
    /// The client spoke no TLS.
    NoTlsFromRemote,
}

impl NoServerTls {
    /// As printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Loopback => "loopback",
            Self::PortSkipped => "port_skipped",
            Self::NoTlsFromRemote => "no_tls_from_remote",
        }
    }
}

/// TLS of a connection that this proxy opened to a server.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ClientTlsLabel {
    /// Mesh TLS.
    True {
        /// Who the server is.
        server_id: Identity,
    },
    /// No TLS.
    NoIdentity(NoClientTls),
}

/// Why a connection to a server has no TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum NoClientTls {
    /// TLS is switched off here.
    Disabled,
    /// It goes to this workload itself.
    Loopback,
    /// Discovery gave no identity for the endpoint.
    NotProvidedByServiceDiscovery,
    /// Ingress mode, and the request named no destination.
    IngressWithoutOverride,
}

impl Labels for ServerTlsLabel {
    fn write(&self, out: &mut LabelWriter) {
        match self {
            Self::True { client_id } => {
                out.few("tls", "true");
                out.label("client_id", client_id.as_ref().map_or("", Identity::as_str));
            }
            Self::Opaque { sni } => {
                out.few("tls", "opaque");
                out.label("sni", sni);
            }
            Self::NoIdentity(reason) => {
                out.few("tls", "no_identity");
                out.few("no_tls_reason", reason.as_str());
            }
        }
    }
}

impl Labels for ClientTlsLabel {
    fn write(&self, out: &mut LabelWriter) {
        let reason = match self {
            Self::True { server_id } => {
                out.few("tls", "true");
                return out.label("server_id", server_id);
            }
            // As Linkerd prints it: no reason beside `disabled`.
            Self::NoIdentity(NoClientTls::Disabled) => return out.few("tls", "disabled"),
            Self::NoIdentity(NoClientTls::Loopback) => "loopback",
            Self::NoIdentity(NoClientTls::NotProvidedByServiceDiscovery) => {
                "not_provided_by_service_discovery"
            }
            Self::NoIdentity(NoClientTls::IngressWithoutOverride) => "ingress_without_override",
        };
        out.few("tls", "no_identity");
        out.few("no_tls_reason", reason);
    }
}
