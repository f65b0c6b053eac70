//! Connections of bytes on the way out: route, filter, one endpoint, copy.

use std::sync::Arc;

use super::{Accepted, Outbound};
use crate::model::client_policy::{ConnectionRule, OpaqueRoute, TlsRoute};
use crate::model::metadata::Metadata;
use crate::model::target::Target;
use crate::proxy::backend::flight::Flight;
use crate::proxy::detect::Dialed;
use crate::proxy::refusal::{Refusal, permit};
use crate::telemetry::labels::ConnectionRouteLabels;
use crate::telemetry::metrics::RouteRefusal;
use crate::telemetry::{BalancerProtocol, ConnectionProtocol, OutboundError};
use crate::traffic::detect::TlsFound;
use crate::traffic::{distribute, select};
use crate::wire::http::DrainWatch;
use crate::wire::opaque::copy_bidirectional;
use crate::wire::sniff::{self, Sniffed};

/// A connection to an endpoint that carries bytes, and what is counted of it.
pub(super) type Server = Dialed<Flight>;

/// Serves a connection by the destination's opaque routes.
pub(super) async fn serve(
    outbound: &Arc<Outbound>,
    accepted: Accepted,
    parent: &Metadata,
    routes: &[OpaqueRoute],
    drain: DrainWatch,
) {
    let route = routes.first();
    let count = Count::new(outbound, ConnectionProtocol::Tcp, parent, route_of(route), &accepted);
    let dialed = match route {
        Some(route) => dial(outbound, parent, route).await,
        None => Err(Refusal::NoRoute),
    };
    carry(outbound, accepted, dialed, count, drain).await;
}

/// Serves a connection with a server that was dialed while sniffing.
pub(super) async fn join(
    outbound: &Arc<Outbound>,
    accepted: Accepted,
    parent: &Metadata,
    route: Option<&OpaqueRoute>,
    server: Server,
    drain: DrainWatch,
) {
    let count = Count::new(outbound, ConnectionProtocol::Tcp, parent, route_of(route), &accepted);
    carry(outbound, accepted, Ok(server), count, drain).await;
}

/// Serves a connection of TLS that the application brings, routed by SNI.
pub(super) async fn serve_tls(
    outbound: &Arc<Outbound>,
    mut accepted: Accepted,
    parent: &Metadata,
    routes: &[TlsRoute],
    drain: DrainWatch,
) {
    let timeout = outbound.config.detect_timeout;
    let (found, io) = match sniff::sniff_tls(&*outbound.runtime.clock, accepted.io, timeout).await {
        Ok(sniffed) => sniffed,
        Err(_) => return outbound.telemetry.outbound.tcp_error(OutboundError::Io),
    };
    accepted.io = io;
    let Sniffed::Found(TlsFound::Sni(sni)) = found else {
        tracing::info!(target = %accepted.target, "no TLS with SNI on a TLS port; closed");
        outbound.telemetry.outbound.tcp_error(OutboundError::Unexpected);
        return;
    };
    let selected = select::sni(routes, &sni);
    let metadata = selected.map(|(route, _)| &route.metadata);
    let count = Count::new(outbound, ConnectionProtocol::Tls, parent, metadata, &accepted);
    let dialed = match selected {
        Some((_, rule)) => dial_rule(outbound, parent, rule, BalancerProtocol::Tls).await,
        None => Err(Refusal::NoRoute),
    };
    carry(outbound, accepted, dialed, count, drain).await;
}

/// Opens a connection to an endpoint of a route.
///
/// # Errors
/// A [`Refusal`] where the route forbids it or no endpoint could be reached.
pub(super) async fn dial(
    outbound: &Outbound,
    parent: &Metadata,
    route: &OpaqueRoute,
) -> Result<Server, Refusal> {
    let rule = route.rules.first().ok_or(Refusal::NoRoute)?;
    dial_rule(outbound, parent, rule, BalancerProtocol::Tcp).await
}

async fn dial_rule(
    outbound: &Outbound,
    parent: &Metadata,
    rule: &ConnectionRule,
    protocol: BalancerProtocol,
) -> Result<Server, Refusal> {
    let live = |backend: &_| outbound.backends.find(parent, backend, protocol, None);
    permit(&rule.filters)?;
    let random = outbound.runtime.entropy.next_u64();
    let chosen = distribute::choose(&rule.backends, random, |backend| live(backend).is_available())
        .ok_or(Refusal::InvalidPolicy)?;
    permit(&chosen.filters)?;
    live(&chosen.backend).open().await
}

async fn carry(
    outbound: &Outbound,
    accepted: Accepted,
    dialed: Result<Server, Refusal>,
    count: Count,
    drain: DrainWatch,
) {
    let (server, mut flight) = match dialed {
        Ok(server) => server,
        Err(refusal) => {
            tracing::info!(target = %accepted.target, %refusal, "connection refused");
            outbound.telemetry.outbound.tcp_error(refusal.outbound_error());
            count.refused(&refusal);
            return;
        }
    };
    // A drain waits for connections of bytes to end by themselves: the watch is held, not heard.
    let copied = copy_bidirectional(accepted.io, server, Some(&outbound.bulk)).await;
    drop(drain);
    match copied {
        Ok(_) => flight.succeeded(outbound.runtime.now()),
        Err(error) => {
            tracing::debug!(target = %accepted.target, %error, "connection broke");
            flight.canceled();
        }
    }
    count.done();
}

fn route_of(route: Option<&OpaqueRoute>) -> Option<&Metadata> {
    route.map(|route| &route.metadata)
}

/// Counts one connection on its route.
struct Count(Option<Arc<crate::telemetry::metrics::ConnectionRouteMetrics>>);

impl Count {
    fn new(
        outbound: &Outbound,
        protocol: ConnectionProtocol,
        parent: &Metadata,
        route: Option<&Metadata>,
        accepted: &Accepted,
    ) -> Self {
        let Target::Address(target_addr) = accepted.target else {
            return Self(None);
        };
        let Some(route) = route else {
            return Self(None);
        };
        let labels =
            ConnectionRouteLabels { parent: parent.clone(), route: route.clone(), target_addr };
        let metrics = outbound.telemetry.outbound.connection_route(protocol, &labels);
        metrics.opened();
        Self(Some(metrics))
    }

    fn refused(self, refusal: &Refusal) {
        if let Some(metrics) = self.0 {
            metrics.closed(Some(match refusal {
                Refusal::Forbidden => RouteRefusal::Forbidden,
                Refusal::InvalidPolicy => RouteRefusal::InvalidPolicy,
                _ => RouteRefusal::Unexpected,
            }));
        }
    }

    fn done(self) {
        if let Some(metrics) = self.0 {
            metrics.closed(None);
        }
    }
}
