//! Labels of the outbound side: endpoints, routes, backends, balancers.

use std::fmt::{self, Display};
use std::net::SocketAddr;
use std::sync::Arc;

use super::{ClientTlsLabel, LabelWriter, Labels, NoServerTls, ServerTlsLabel, TargetLabels};
use crate::model::labels::Labels as ModelLabels;
use crate::model::metadata::Metadata;

/// A kind of connection that the workload opens to the outbound side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundTransport {
    /// Where the workload wanted to go.
    pub target_addr: SocketAddr,
}

impl Labels for OutboundTransport {
    fn write(&self, out: &mut LabelWriter) {
        out.few("direction", "outbound");
        out.few("peer", "src");
        TargetLabels(self.target_addr).write(out);
        ServerTlsLabel::NoIdentity(NoServerTls::Loopback).write(out);
    }
}

/// An endpoint of the outbound side: for its connections and its requests.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OutboundEndpoint {
    /// The logical destination, such as `web.emojivoto.svc.cluster.local:80`.
    pub authority: Option<Arc<str>>,
    /// Its address.
    pub target_addr: SocketAddr,
    /// Its TLS.
    pub tls: ClientTlsLabel,
    /// Its labels joined with its set's; printed with `dst_` before each name.
    pub labels: ModelLabels,
}

impl OutboundEndpoint {
    fn write_endpoint(&self, out: &mut LabelWriter) {
        if let Some(authority) = &self.authority {
            out.label("authority", authority);
        }
        TargetLabels(self.target_addr).write(out);
        self.tls.write(out);
        if out.folded {
            // Names come from the control plane: they would make many shapes of one set.
            return;
        }
        for (name, value) in self.labels.iter().filter(|(name, _)| is_label_name(name)) {
            out.few(&format!("dst_{name}"), value);
        }
    }
}

impl Labels for OutboundEndpoint {
    fn write(&self, out: &mut LabelWriter) {
        out.few("direction", "outbound");
        self.write_endpoint(out);
    }
}

/// The same for connections.
pub(crate) struct EndpointTransport<'a>(pub(crate) &'a OutboundEndpoint);

impl Labels for EndpointTransport<'_> {
    fn write(&self, out: &mut LabelWriter) {
        out.few("direction", "outbound");
        out.few("peer", "dst");
        self.0.write_endpoint(out);
    }
}

// A name with other characters would spoil the whole exposition; changing it could make two equal.
fn is_label_name(name: &str) -> bool {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    !name.is_empty() && name.len() <= 128 && name.bytes().all(plain)
}

/// An object that routes hang on: `parent_{group,kind,namespace,name,port,section_name}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ParentLabels(pub Metadata);

impl Labels for ParentLabels {
    fn write(&self, out: &mut LabelWriter) {
        out.label("parent_group", self.0.group());
        out.label("parent_kind", self.0.kind());
        out.label("parent_namespace", self.0.namespace());
        out.label("parent_name", self.0.name());
        out.label("parent_port", Port(self.0.port()));
        out.label("parent_section_name", self.0.section());
    }
}

struct Port(Option<u16>);

impl Display for Port {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.map_or(Ok(()), |port| port.fmt(f))
    }
}

struct RouteRef<'a>(&'a Metadata);

impl Labels for RouteRef<'_> {
    fn write(&self, out: &mut LabelWriter) {
        out.label("route_group", self.0.group());
        out.label("route_kind", self.0.kind());
        out.label("route_namespace", self.0.namespace());
        out.label("route_name", self.0.name());
    }
}

struct BackendRef<'a>(&'a Metadata);

impl Labels for BackendRef<'_> {
    fn write(&self, out: &mut LabelWriter) {
        out.label("backend_group", self.0.group());
        out.label("backend_kind", self.0.kind());
        out.label("backend_namespace", self.0.namespace());
        out.label("backend_name", self.0.name());
        out.label("backend_port", Port(self.0.port()));
        out.label("backend_section_name", self.0.section());
    }
}

/// A route of the outbound side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteLabels {
    /// What it hangs on.
    pub parent: Metadata,
    /// The route.
    pub route: Metadata,
    /// The request's host, only where `LINKERD2_PROXY_OUTBOUND_METRICS_HOSTNAME_LABELS` asks for
    /// it; the label itself is always printed.
    pub hostname: Option<Arc<str>>,
}

impl Labels for RouteLabels {
    fn write(&self, out: &mut LabelWriter) {
        ParentLabels(self.parent.clone()).write(out);
        RouteRef(&self.route).write(out);
        out.label("hostname", self.hostname.as_deref().unwrap_or_default());
    }
}

/// A backend of a route of the outbound side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouteBackendLabels {
    /// What the route hangs on.
    pub parent: Metadata,
    /// The route.
    pub route: Metadata,
    /// The backend.
    pub backend: Metadata,
}

impl Labels for RouteBackendLabels {
    fn write(&self, out: &mut LabelWriter) {
        ParentLabels(self.parent.clone()).write(out);
        RouteRef(&self.route).write(out);
        BackendRef(&self.backend).write(out);
    }
}

/// A balancer: a backend as one parent uses it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BalancerLabels {
    /// What the routes hang on.
    pub parent: Metadata,
    /// The backend.
    pub backend: Metadata,
}

impl Labels for BalancerLabels {
    fn write(&self, out: &mut LabelWriter) {
        ParentLabels(self.parent.clone()).write(out);
        BackendRef(&self.backend).write(out);
    }
}

/// A route for connections of the outbound side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnectionRouteLabels {
    /// What the route hangs on.
    pub parent: Metadata,
    /// The route.
    pub route: Metadata,
    /// Where the workload wanted to go.
    pub target_addr: SocketAddr,
}

impl Labels for ConnectionRouteLabels {
    fn write(&self, out: &mut LabelWriter) {
        ParentLabels(self.parent.clone()).write(out);
        RouteRef(&self.route).write(out);
        out.label("target_ip", self.target_addr.ip());
        out.label("target_port", self.target_addr.port());
    }
}

/// What an outbound connection was found to speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProtocolLabels {
    /// The protocol.
    pub protocol: OutboundProtocol,
    /// The destination.
    pub parent: Metadata,
}

/// What an outbound connection was found to speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum OutboundProtocol {
    /// HTTP/1.
    Http1,
    /// HTTP/2, gRPC too.
    Http2,
    /// TLS that the application brings.
    Tls,
    /// Bytes.
    Opaque,
}

impl Labels for ProtocolLabels {
    fn write(&self, out: &mut LabelWriter) {
        out.few(
            "protocol",
            match self.protocol {
                OutboundProtocol::Http1 => "http/1",
                OutboundProtocol::Http2 => "http/2",
                OutboundProtocol::Tls => "tls",
                OutboundProtocol::Opaque => "opaq",
            },
        );
        ParentLabels(self.parent.clone()).write(out);
    }
}
