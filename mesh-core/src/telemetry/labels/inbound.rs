//! Labels of the inbound side: ports, routes of ports, decisions.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{
    ClientTlsLabel, LabelWriter, Labels, NoClientTls, ServerTlsLabel, TargetLabels, write_object,
};
use crate::model::identity::Identity;
use crate::model::metadata::Metadata;

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

/// The inbound side's connections to its own workload.
pub(crate) struct LocalTransport;

impl Labels for LocalTransport {
    fn write(&self, out: &mut LabelWriter) {
        out.few("direction", "inbound");
        out.few("peer", "dst");
        ClientTlsLabel::NoIdentity(NoClientTls::Loopback).write(out);
    }
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
