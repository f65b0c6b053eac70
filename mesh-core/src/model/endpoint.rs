//! One instance of a backend, and changes of the set of them.

use std::net::SocketAddr;
use std::num::NonZeroU16;

use super::identity::ServerTls;
use super::labels::Labels;
use super::metadata::Metadata;
use super::protocol::Http2Params;
use super::target::NameAddr;

/// An instance of a backend (`destination.WeightedAddr`).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Where it is.
    pub address: SocketAddr,
    /// Relative weight; Linkerd's control plane sends 10,000 for all.
    pub weight: u32,
    /// Its own metric labels, not yet joined with its set's.
    pub labels: Labels,
    /// Who it is, where it is meshed.
    pub tls: Option<ServerTls>,
    /// What it is known to speak.
    pub protocol_hint: ProtocolHint,
    /// The proxy port that takes transport headers (4143), where the endpoint is meshed so.
    pub inbound_port: Option<NonZeroU16>,
    /// The authority to send instead of the request's own (multicluster gateways).
    pub authority_override: Option<NameAddr>,
    /// Parameters for HTTP/2 connections to it.
    pub http2: Option<Http2Params>,
    /// The object it comes from.
    pub resource: Option<Metadata>,
}

impl Endpoint {
    /// An endpoint of which only the address is known.
    pub fn new(address: SocketAddr) -> Self {
        Self {
            address,
            weight: 1,
            labels: Labels::default(),
            tls: None,
            protocol_hint: ProtocolHint::Unknown,
            inbound_port: None,
            authority_override: None,
            http2: None,
            resource: None,
        }
    }
}

/// What an endpoint is known to speak (`destination.ProtocolHint`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum ProtocolHint {
    /// Nothing is known.
    #[default]
    Unknown,
    /// It is a proxy: HTTP/1 may be carried over HTTP/2.
    Http2,
    /// The port is opaque on the server's side.
    Opaque,
}

/// A change of an endpoint set (`destination.Update`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EndpointUpdate {
    /// These exist, new or changed.
    Add {
        /// The endpoints.
        endpoints: Vec<Endpoint>,
        /// Labels of the whole set.
        labels: Labels,
    },
    /// These are gone.
    Remove(Vec<SocketAddr>),
    /// There are none. `exists`: the service itself exists.
    NoEndpoints {
        /// Whether the service exists.
        exists: bool,
    },
}
