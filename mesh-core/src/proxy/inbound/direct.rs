//! The port of transport headers (4143): meshed clients alone, who say where they want to go and
//! what they speak.

use std::net::SocketAddr;
use std::sync::Arc;

use super::{FoundHttp, Inbound, opaque};
use crate::model::protocol::HttpVersion;
use crate::model::server_policy::ServerProtocol;
use crate::proxy::discover::inbound::PolicyWatch;
use crate::runtime::BoxIo;
use crate::telemetry::InboundError;
use crate::telemetry::labels::{ServerTlsLabel, TransportHeaderLabels};
use crate::traffic::detect::TlsFound;
use crate::wire::http::DrainWatch;
use crate::wire::sniff::{self, Sniffed};
use crate::wire::transport_header::{self, TransportHeader};

/// Serves one connection to the port of transport headers, up to where it is HTTP.
pub(super) async fn serve(
    inbound: &Arc<Inbound>,
    io: BoxIo,
    peer: SocketAddr,
    local: SocketAddr,
    drain: DrainWatch,
) -> FoundHttp {
    let refuse = |why: &str, error| {
        tracing::info!(client = %peer, why, "direct connection refused");
        inbound.telemetry.inbound.tcp_error(local, error);
        None
    };
    let timeout = inbound.config.detect_timeout;
    let sniffed = Box::pin(sniff::sniff_tls(&*inbound.runtime.clock, io, timeout));
    let io = match sniffed.await {
        Ok((Sniffed::Found(TlsFound::Sni(sni)), io))
            if sni == inbound.credentials.local().server_name =>
        {
            io
        }
        Ok((Sniffed::TimedOut, _)) => return refuse("silent", InboundError::TlsDetectionTimeout),
        Ok(_) => return refuse("mesh TLS is required", InboundError::Unexpected),
        Err(_) => return refuse("closed", InboundError::Io),
    };
    let alpn = [transport_header::ALPN];
    let (mut io, client, agreed) = inbound.accept_tls(io, local, &alpn).await?;
    let Some(identity) = client else {
        return refuse("a client identity is required", InboundError::Unexpected);
    };
    if agreed.as_deref() != Some(transport_header::ALPN) {
        return refuse("a transport header is required", InboundError::Unexpected);
    }
    let header =
        match inbound.runtime.timeout(timeout, Box::pin(transport_header::read(&mut io))).await {
            Ok(Ok(header)) => header,
            Ok(Err(error)) => return refuse(&error.to_string(), InboundError::Io),
            Err(_) => return refuse("no transport header in time", InboundError::Io),
        };
    let labels = TransportHeaderLabels {
        session_protocol: match header.protocol {
            Some(HttpVersion::Http1) => "http/1",
            Some(HttpVersion::Http2) => "http/2",
            None => "",
        },
        target_port: header.port.get(),
        target_name: header.name.as_ref().map_or_else(|| "".into(), |name| name.as_str().into()),
        client_id: identity.clone(),
    };
    inbound.telemetry.inbound.transport_header(&labels).increment();
    let TransportHeader { port, name, protocol } = header;
    if let Some(name) = name {
        // Only gateways take names, and this proxy is none.
        tracing::info!(%name, "gateway domain invalid");
        return refuse("this proxy is no gateway", InboundError::GatewayDomainInvalid);
    }
    let port = if planted!("header-port-ignored") { local.port() } else { port.get() };
    let target = SocketAddr::new(local.ip(), port);
    let policy: PolicyWatch = inbound.ports.find(target.port());
    // A port known to be opaque or TLS carries bytes whatever the client says of its session.
    let carries_bytes =
        matches!(policy.current().protocol, ServerProtocol::Opaque | ServerProtocol::Tls);
    let tls = ServerTlsLabel::True { client_id: Some(identity) };
    let session = inbound.session(io, target, peer, tls, policy);
    let Some(version) = protocol.filter(|_| !carries_bytes) else {
        Box::pin(opaque::serve(inbound, session, drain)).await;
        return None;
    };
    Some((session, version))
}
