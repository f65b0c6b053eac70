//! Label sets as types, printed with Linkerd's names in Linkerd's order. Resolved to handles once
//! for each endpoint, route or kind of connection; never on the way of a request.

use std::fmt::{self, Display, Write};
use std::net::SocketAddr;
use std::sync::Arc;

use crate::model::identity::Identity;
use crate::model::labels::Labels as ModelLabels;
use crate::model::metadata::Metadata;

/// Bytes of a label's value that are kept: as many as a SPIFFE identity may have.
pub const VALUE_BYTES_MAX: usize = 2048;

/// The value that stands for all others once a group of label sets is full.
pub const OTHER: &str = "other";

/// Something that prints as labels.
pub trait Labels {
    /// Prints them, in order.
    fn write(&self, out: &mut LabelWriter);
}

/// Prints labels: `name="value"`, separated by commas, values escaped.
#[derive(Debug, Default)]
pub struct LabelWriter {
    text: String,
    folded: bool,
}

impl LabelWriter {
    pub(crate) fn print(labels: &impl Labels) -> String {
        let mut writer = Self::default();
        labels.write(&mut writer);
        writer.text
    }

    /// With [`OTHER`] instead of every value that has no small range.
    pub(crate) fn print_folded(labels: &impl Labels) -> String {
        let mut writer = Self {
            folded: true,
            ..Self::default()
        };
        labels.write(&mut writer);
        writer.text
    }

    /// A label whose values are few.
    pub fn few(&mut self, name: &str, value: impl Display) {
        if !self.text.is_empty() {
            self.text.push(',');
        }
        let _ = write!(self.text, "{name}=\"");
        let mut escaped = Escaped {
            text: &mut self.text,
            left: VALUE_BYTES_MAX,
        };
        let _ = write!(escaped, "{value}");
        self.text.push('"');
    }

    /// A label whose values are many.
    pub fn label(&mut self, name: &str, value: impl Display) {
        if self.folded {
            self.few(name, OTHER);
        } else {
            self.few(name, value);
        }
    }
}

struct Escaped<'a> {
    text: &'a mut String,
    left: usize,
}

impl fmt::Write for Escaped<'_> {
    fn write_str(&mut self, value: &str) -> fmt::Result {
        for c in value.chars() {
            let Some(left) = self.left.checked_sub(c.len_utf8()) else {
                return Err(fmt::Error);
            };
            self.left = left;
            match c {
                '\\' => self.text.push_str("\\\\"),
                '"' => self.text.push_str("\\\""),
                '\n' => self.text.push_str("\\n"),
                c => self.text.push(c),
            }
        }
        Ok(())
    }
}

/// Which way traffic goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Direction {
    /// From clients to this workload.
    Inbound,
    /// From this workload to servers.
    Outbound,
}

impl Direction {
    /// As printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

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
                out.few(
                    "no_tls_reason",
                    match reason {
                        NoServerTls::Loopback => "loopback",
                        NoServerTls::PortSkipped => "port_skipped",
                        NoServerTls::NoTlsFromRemote => "no_tls_from_remote",
                    },
                );
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

/// `target_addr`, `target_ip`, `target_port`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TargetLabels(pub SocketAddr);

impl Labels for TargetLabels {
    fn write(&self, out: &mut LabelWriter) {
        out.label("target_addr", self.0);
        out.label("target_ip", self.0.ip());
        out.label("target_port", self.0.port());
    }
}

/// The Server that governs a port: `srv_group`, `srv_kind`, `srv_name`, `srv_port`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerLabels {
    /// `ServerPolicy::server`.
    pub server: Metadata,
    /// The port.
    pub port: u16,
}

impl Labels for ServerLabels {
    fn write(&self, out: &mut LabelWriter) {
        write_object(out, ["srv_group", "srv_kind", "srv_name"], &self.server);
        out.label("srv_port", self.port);
    }
}

/// A kind of connection that clients open to the inbound side.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundTransport {
    /// Where the client wanted to go.
    pub target_addr: SocketAddr,
    /// Its TLS.
    pub tls: ServerTlsLabel,
    /// The port's policy.
    pub server: ServerLabels,
}

impl Labels for InboundTransport {
    fn write(&self, out: &mut LabelWriter) {
        out.few("direction", "inbound");
        out.few("peer", "src");
        TargetLabels(self.target_addr).write(out);
        self.tls.write(out);
        self.server.write(out);
    }
}

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

/// The inbound side's connections to its own workload.
pub(crate) struct LocalTransport;

impl Labels for LocalTransport {
    fn write(&self, out: &mut LabelWriter) {
        out.few("direction", "inbound");
        out.few("peer", "dst");
        ClientTlsLabel::NoIdentity(NoClientTls::Loopback).write(out);
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
        for (name, value) in self.labels.iter().filter(|(name, _)| is_label_name(name)) {
            out.label(&format!("dst_{name}"), value);
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

/// What an inbound request was allowed by, and where it went: for requests and responses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundEndpoint {
    /// The request's authority; printed only where
    /// `LINKERD2_PROXY_INBOUND_METRICS_AUTHORITY_LABELS=unsafe`, for clients choose it.
    pub authority: Option<Arc<str>>,
    /// Where the client wanted to go.
    pub target_addr: SocketAddr,
    /// The client's TLS.
    pub tls: ServerTlsLabel,
    /// The port's policy.
    pub server: ServerLabels,
    /// The route that matched.
    pub route: Metadata,
    /// The authorization that allowed it.
    pub authorization: Metadata,
}

impl Labels for InboundEndpoint {
    fn write(&self, out: &mut LabelWriter) {
        out.few("direction", "inbound");
        if let Some(authority) = &self.authority {
            out.label("authority", authority);
        }
        TargetLabels(self.target_addr).write(out);
        self.tls.write(out);
        self.server.write(out);
        write_object(out, ROUTE, &self.route);
        write_object(out, AUTHZ, &self.authorization);
    }
}

/// A decision about an inbound request or connection. Which parts are there tells which decision:
/// allowed requests have all, denied ones no authorization, those without a route neither;
/// allowed connections have no route, denied and ended ones neither.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuthorizationLabels {
    /// Where the client wanted to go.
    pub target_addr: SocketAddr,
    /// The port's policy.
    pub server: ServerLabels,
    /// The route that matched.
    pub route: Option<Metadata>,
    /// The authorization that allowed it.
    pub authorization: Option<Metadata>,
    /// The client's TLS.
    pub tls: ServerTlsLabel,
}

impl Labels for AuthorizationLabels {
    fn write(&self, out: &mut LabelWriter) {
        TargetLabels(self.target_addr).write(out);
        self.server.write(out);
        if let Some(route) = &self.route {
            write_object(out, ROUTE, route);
        }
        if let Some(authorization) = &self.authorization {
            write_object(out, AUTHZ, authorization);
        }
        self.tls.write(out);
    }
}

const ROUTE: [&str; 3] = ["route_group", "route_kind", "route_name"];
const AUTHZ: [&str; 3] = ["authz_group", "authz_kind", "authz_name"];

fn write_object(out: &mut LabelWriter, [group, kind, name]: [&str; 3], object: &Metadata) {
    out.label(group, object.group());
    out.label(kind, object.kind());
    out.label(name, object.name());
}

/// A route of an inbound port: `parent_{group,kind,name,port}`, `route_{group,kind,name}`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InboundRoute {
    /// The port's policy.
    pub server: ServerLabels,
    /// The route.
    pub route: Metadata,
}

impl Labels for InboundRoute {
    fn write(&self, out: &mut LabelWriter) {
        let parent = ["parent_group", "parent_kind", "parent_name"];
        write_object(out, parent, &self.server.server);
        out.label("parent_port", self.server.port);
        write_object(out, ROUTE, &self.route);
    }
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

/// A connection that came with a transport header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransportHeaderLabels {
    /// `http/1`, `http/2`, or empty for bytes.
    pub session_protocol: &'static str,
    /// The port asked for.
    pub target_port: u16,
    /// The name asked for; empty unless this is a gateway.
    pub target_name: Arc<str>,
    /// The client.
    pub client_id: Identity,
}

impl Labels for TransportHeaderLabels {
    fn write(&self, out: &mut LabelWriter) {
        out.few("session_protocol", self.session_protocol);
        out.label("target_port", self.target_port);
        out.label("target_name", &self.target_name);
        out.label("client_id", &self.client_id);
    }
}

/// A control plane's address: `addr`, then TLS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlLabels {
    /// Authority.
    pub addr: Arc<str>,
    /// TLS; `NoIdentity(Loopback)` on loopback.
    pub tls: ClientTlsLabel,
}

impl Labels for ControlLabels {
    fn write(&self, out: &mut LabelWriter) {
        out.label("addr", &self.addr);
        self.tls.write(out);
    }
}

/// Labels given by name, for families with one or two of few values.
pub(crate) struct Named<'a, const N: usize>(pub(crate) [(&'static str, &'a str); N]);

impl<const N: usize> Labels for Named<'_, N> {
    fn write(&self, out: &mut LabelWriter) {
        for (name, value) in self.0 {
            out.few(name, value);
        }
    }
}

/// A target with an error.
pub(crate) struct TargetError(pub(crate) SocketAddr, pub(crate) &'static str);

impl Labels for TargetError {
    fn write(&self, out: &mut LabelWriter) {
        TargetLabels(self.0).write(out);
        out.few("error", self.1);
    }
}
