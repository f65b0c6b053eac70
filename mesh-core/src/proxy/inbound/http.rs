//! Requests on the way in. `handle` is the whole way of one, top to bottom.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::Ordering;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::header::{HeaderName, HeaderValue};

use super::{Inbound, Session, client};
use crate::model::endpoint;
use crate::model::labels::Labels;
use crate::model::metadata::Metadata;
use crate::model::protocol::HttpVersion;
use crate::model::server_policy::{Authorization, RateLimit, ServerPolicy, ServerProtocol};
use crate::model::span::SpanKind;
use crate::model::tap::Direction;
use crate::proxy::backend::endpoint::{Common, Endpoint, EndpointMetrics};
use crate::proxy::discover::inbound::PolicyWatch;
use crate::proxy::idle::{Full, IdleTable};
use crate::proxy::observe::{self, Awaiting, End, Observer};
use crate::proxy::orig_proto;
use crate::proxy::refusal::{Asked, L5D_PROXY_CONNECTION, L5D_PROXY_ERROR, Refusal, permit};
use crate::proxy::spans::{self, OpenSpan};
use crate::proxy::tap::{self, Tapped};
use crate::runtime::{BoxFuture, pinned};
use crate::telemetry::Telemetry;
use crate::telemetry::access_log::{AccessRequest, AccessResponse};
use crate::telemetry::labels::{
    AuthorizationLabels, InboundEndpoint, InboundRoute, ServerLabels, ServerTlsLabel,
};
use crate::telemetry::metrics::{
    self, Classification, Counter, HttpMetrics, InboundRouteMetrics, RouteProtocol, StreamEnd,
};
use crate::time::Timestamp;
use crate::traffic::authorize::{Client, ClientTls, Denied, authorize};
use crate::traffic::classify::Head;
use crate::traffic::denial::DenialId;
use crate::traffic::rate_limit::{RateLimiter, Scope};
use crate::traffic::select;
use crate::wire::http::client::UNSENT;
use crate::wire::http::{DrainWatch, Request, Response, SendError, Service, server};

const L5D_CLIENT_ID: HeaderName = HeaderName::from_static("l5d-client-id");
const L5D_DST_CANONICAL: HeaderName = HeaderName::from_static("l5d-dst-canonical");

/// Serves a connection of HTTP.
pub(super) async fn serve(
    inbound: &Arc<Inbound>,
    session: Session,
    version: HttpVersion,
    drain: DrainWatch,
) {
    let Session { io, target, peer, tls, policy } = session;
    let http = Http(Arc::new(Inner {
        application: inbound.applications.find(inbound.application(target)),
        inbound: inbound.clone(),
        target,
        peer,
        client_id: client_id(&tls),
        tls,
        policy,
        handles: Mutex::default(),
    }));
    let options = &inbound.config.server;
    let served = server::serve(&inbound.runtime, io, version, options, Arc::new(http), drain).await;
    if let Err(error) = served {
        tracing::debug!(%error, client = %peer, "connection of HTTP ended");
    }
}

#[derive(Clone)]
struct Http(Arc<Inner>);

/// How long the application took to answer; travels with its response to the access log.
#[derive(Clone, Copy)]
struct AnsweredIn(Duration);

struct Inner {
    inbound: Arc<Inbound>,
    application: Arc<Endpoint>,
    target: SocketAddr,
    peer: SocketAddr,
    tls: ServerTlsLabel,
    /// What `l5d-client-id` says of this connection's client.
    client_id: Option<HeaderValue>,
    policy: PolicyWatch,
    /// Metrics by the policy and what allowed the request; few for one connection.
    handles: Mutex<Vec<(Allowed, Arc<Handles>)>>,
}

/// What let a request through.
struct Allowed {
    server: Metadata,
    route: Metadata,
    authorization: Metadata,
    protocol: RouteProtocol,
}

/// Where an allowed request is counted.
struct Handles {
    endpoint: Arc<HttpMetrics>,
    route: Arc<InboundRouteMetrics>,
    allowed: Arc<Counter>,
}

impl Service for Http {
    fn call(&self, mut request: Request) -> BoxFuture<'static, Response> {
        let this = self.clone();
        pinned(|| async move { this.handle(&mut request).await })
    }
}

impl Http {
    /// Answers one request: from the application, or with a refusal.
    async fn handle(&self, request: &mut Request) -> Response {
        let carried = orig_proto::restore(request);
        let asked = Asked::of(request);
        let logged = self.0.inbound.access_log.is_some().then(|| self.logged(request));
        let (tracer, peer) = (&self.0.inbound.tracer, Some(self.0.peer));
        let mut span = spans::begin(tracer, SpanKind::Server, request, peer);
        let mut response = match self.proxy(request, asked.grpc, &mut span).await {
            Ok(response) => response,
            Err(refusal) => {
                if let Some(span) = span {
                    span.refused(refusal.status(), refusal.stream_error());
                }
                self.refuse(&refusal, &asked)
            }
        };
        if let Some((logged, began)) = logged {
            self.log(&logged, began, &mut response);
        }
        if carried {
            orig_proto::mark_response(&mut response);
        }
        response
    }

    async fn proxy(
        &self,
        request: &mut Request,
        grpc: bool,
        span: &mut Option<Box<OpenSpan>>,
    ) -> Result<Response, Refusal> {
        let Inner { inbound, application, peer, tls, .. } = &*self.0;
        let admitted = Admitted::new(inbound).ok_or(Refusal::LoadShed)?;
        let began = inbound.runtime.now();
        let policy = self.0.policy.current();
        let (route, authorizations, protocol) = self.route(&policy, request)?;
        let allowed = authorize(&policy.authorizations, authorizations, client(*peer, tls));
        let handles = match allowed {
            Ok(by) => self.handles(&policy.server, route, &by.metadata, protocol),
            Err(denied) => match self.handles_before() {
                Some(handles) if planted!("authorized-once") => handles,
                _ => return Err(self.deny(&policy, route, denied)),
            },
        };
        handles.allowed.increment();
        if let Some(limit) = rate_limit(&policy) {
            let (port, client) = (self.0.target.port(), client(*peer, tls));
            inbound.limits.admit(port, limit, client, inbound.runtime.now()).map_err(|scope| {
                mark!("request-rate-limited");
                tracing::info!(client = %peer, target = %self.0.target, ?scope, "rate limited");
                Refusal::RateLimited
            })?;
        }
        handles.endpoint.request();
        handles.route.request();

        self.stamp(request);
        let watched = inbound.taps.is_watched();
        let tapped = watched.then(|| self.tap(route, request)).flatten();
        observe::each_data(request.body_mut(), || {
            let handles = handles.clone();
            move |data: &Bytes| handles.route.request_frame(data.len())
        });
        let clock = &inbound.runtime.clock;
        let record = Record {
            handles,
            protocol,
            began,
            grpc,
            head: None,
            status: None,
            span: None,
            _admitted: admitted,
        };
        let record = Awaiting::new(record, clock);
        let sent_at = inbound.access_log.is_some().then(|| inbound.runtime.now());
        let sent = application.send(request, &mut || {}).await;
        let mut record = record.done();
        let mut response = match sent {
            Ok(response) => response,
            Err(error) => {
                let refusal = match &error {
                    SendError::Unsent(error) => Refusal::of_unsent(error),
                    SendError::Failed(error) => Refusal::of(error),
                };
                let at = inbound.runtime.now();
                tap::failed(tapped, error.error());
                record.end(End::new(at, None, Some(refusal.stream_error())));
                return Err(refusal);
            }
        };
        if let Some(sent_at) = sent_at {
            let took = AnsweredIn(inbound.runtime.now().since(sent_at));
            response.extensions_mut().insert(took);
        }
        self.disown(&mut response);
        if let Some(tapped) = tapped {
            response = tapped.answered(response);
        }
        record.status = Some(response.status());
        record.head = Some(Head::of(grpc, &[], response.status(), response.headers()));
        record.span = span.take();
        Ok(response.map(|body| observe::observe(body, clock, None, record)))
    }

    /// Tells those who look of a request that is about to be passed on.
    #[cold]
    fn tap(&self, route: &Metadata, request: &mut Request) -> Option<Box<Tapped>> {
        let source_labels: Labels = match &self.0.tls {
            ServerTlsLabel::True { client_id } => {
                let client = client_id.iter().map(|client| ("client_id", client.as_str()));
                [("tls", "true")].into_iter().chain(client).collect()
            }
            ServerTlsLabel::Opaque { .. } => [("tls", "opaque")].into_iter().collect(),
            ServerTlsLabel::NoIdentity(reason) => [("tls", reason.as_str())].into_iter().collect(),
        };
        let meta = tap::Meta {
            source: self.0.peer,
            source_labels,
            destination: self.0.target,
            destination_labels: Labels::default(),
            route_labels: tap::route_labels(route),
            direction: Direction::Inbound,
        };
        self.0.inbound.taps.begin(meta, request)
    }

    /// Where an earlier request of this connection was counted.
    fn handles_before(&self) -> Option<Arc<Handles>> {
        let known = self.0.handles.lock().unwrap_or_else(PoisonError::into_inner);
        known.first().map(|(_, handles)| handles.clone())
    }

    /// What the access log will say of a request, and when it came.
    fn logged(&self, request: &Request) -> (AccessRequest, Timestamp) {
        let client = match &self.0.tls {
            ServerTlsLabel::True { client_id } => client_id.clone(),
            _ => None,
        };
        let runtime = &self.0.inbound.runtime;
        let wall = runtime.clock.wall();
        let logged = AccessRequest::new(self.0.peer, client, wall, request);
        (logged, runtime.now())
    }

    fn log(&self, logged: &AccessRequest, began: Timestamp, response: &mut Response) {
        let total = self.0.inbound.runtime.now().since(began);
        let answered = response.extensions_mut().remove::<AnsweredIn>();
        let processing = total.saturating_sub(answered.map_or(Duration::ZERO, |took| took.0));
        if let Some(log) = &self.0.inbound.access_log {
            log.write(logged, &AccessResponse::new(response, total, processing));
        }
    }

    /// The route of a request, and who may use it beside those whom the port allows.
    fn route<'p>(
        &self,
        policy: &'p ServerPolicy,
        request: &Request,
    ) -> Result<(&'p Metadata, &'p [Authorization], RouteProtocol), Refusal> {
        let routes = match &policy.protocol {
            ServerProtocol::Detect { routes, .. } => routes,
            ServerProtocol::Http1(http) | ServerProtocol::Http2(http) => &http.routes,
            ServerProtocol::Grpc(routes) => {
                if routes.is_empty() {
                    return Ok((&DEFAULT_ROUTE, &[], RouteProtocol::Grpc));
                }
                let selected = select::server_grpc(routes, request.into())
                    .ok_or_else(|| self.no_route(policy))?;
                permit(&selected.rule.filters)?;
                let route = selected.route;
                return Ok((&route.metadata, &route.authorizations, RouteProtocol::Grpc));
            }
            ServerProtocol::Opaque | ServerProtocol::Tls => {
                // The policy changed under a connection of HTTP; the port's authorizations hold.
                return Ok((&DEFAULT_ROUTE, &[], RouteProtocol::Http));
            }
        };
        if routes.is_empty() {
            return Ok((&DEFAULT_ROUTE, &[], RouteProtocol::Http));
        }
        let selected =
            select::server_http(routes, request.into()).ok_or_else(|| self.no_route(policy))?;
        permit(&selected.rule.filters)?;
        let route = selected.route;
        Ok((&route.metadata, &route.authorizations, RouteProtocol::Http))
    }

    /// Says who the client is, whatever the request itself says.
    fn stamp(&self, request: &mut Request) {
        let headers = request.headers_mut();
        if planted!("client-id-kept") && headers.contains_key(L5D_CLIENT_ID) {
            return;
        }
        headers.remove(L5D_CLIENT_ID);
        headers.remove(L5D_DST_CANONICAL);
        if let Some(client_id) = &self.0.client_id {
            headers.insert(L5D_CLIENT_ID, client_id.clone());
        }
    }

    /// Takes off what only this proxy may say to the client's. Clients without one get what the
    /// application says, as from Linkerd's proxy.
    fn disown(&self, response: &mut Response) {
        let headers = response.headers_mut();
        headers.remove(UNSENT);
        if matches!(self.0.tls, ServerTlsLabel::True { .. }) {
            headers.remove(L5D_PROXY_ERROR);
            headers.remove(L5D_PROXY_CONNECTION);
        }
    }

    fn refuse(&self, refusal: &Refusal, asked: &Asked) -> Response {
        let inbound = &self.0.inbound;
        tracing::info!(client = %self.0.peer, target = %self.0.target, %refusal, "request failed");
        inbound.telemetry.inbound.http_error(refusal.inbound_error());
        // Applications are not told: only another proxy understands, and strips it.
        let meshed = matches!(self.0.tls, ServerTlsLabel::True { .. });
        let unsent = matches!(refusal, Refusal::Connect(_) | Refusal::ConnectTimeout);
        let mut response = refusal.response(asked, meshed, unsent);
        if meshed && unsent {
            response.headers_mut().insert(UNSENT, HeaderValue::from_static("true"));
        }
        response
    }

    fn handles(
        &self,
        server: &Metadata,
        route: &Metadata,
        authorization: &Metadata,
        protocol: RouteProtocol,
    ) -> Arc<Handles> {
        let mut known = self.0.handles.lock().unwrap_or_else(PoisonError::into_inner);
        let is_it = |have: &Allowed| {
            (&have.server, &have.route, &have.authorization, have.protocol)
                == (server, route, authorization, protocol)
        };
        if let Some((_, handles)) = known.iter().find(|(have, _)| is_it(have)) {
            return handles.clone();
        }
        let allowed = Allowed {
            server: server.clone(),
            route: route.clone(),
            authorization: authorization.clone(),
            protocol,
        };
        let telemetry = &self.0.inbound.telemetry.inbound;
        let server = ServerLabels { server: allowed.server.clone(), port: self.0.target.port() };
        let endpoint = InboundEndpoint {
            authority: None,
            target_addr: self.0.target,
            tls: self.0.tls.clone(),
            server: server.clone(),
            route: allowed.route.clone(),
            authorization: allowed.authorization.clone(),
        };
        let route = InboundRoute { server: server.clone(), route: allowed.route.clone() };
        let labels = AuthorizationLabels {
            target_addr: self.0.target,
            server,
            route: Some(allowed.route.clone()),
            authorization: Some(allowed.authorization.clone()),
            tls: self.0.tls.clone(),
        };
        let handles = Arc::new(Handles {
            endpoint: telemetry.endpoint(&endpoint),
            route: telemetry.route(allowed.protocol, &route),
            allowed: telemetry.http_authz_allow(&labels),
        });
        // A policy that keeps changing must not make a long connection grow.
        if known.len() >= HANDLES_MAX {
            known.clear();
        }
        known.push((allowed, handles.clone()));
        handles
    }

    fn no_route(&self, policy: &ServerPolicy) -> Refusal {
        let labels = self.labels(policy, None);
        self.0.inbound.telemetry.inbound.http_route_not_found(&labels).increment();
        Refusal::NoRoute
    }

    /// Says and counts that a request is denied.
    #[cold]
    fn deny(&self, policy: &ServerPolicy, route: &Metadata, denied: Denied) -> Refusal {
        mark!("request-denied");
        let Inner { peer, target, tls, .. } = &*self.0;
        let reference = DenialId::new(client(*peer, tls), *target, Some(route), denied);
        tracing::info!(client = %peer, %target, %denied, %reference, "denied");
        let labels = self.labels(policy, Some(route.clone()));
        self.0.inbound.telemetry.inbound.http_authz_deny(&labels).increment();
        Refusal::Unauthorized(reference)
    }

    fn labels(&self, policy: &ServerPolicy, route: Option<Metadata>) -> AuthorizationLabels {
        AuthorizationLabels {
            target_addr: self.0.target,
            server: ServerLabels { server: policy.server.clone(), port: self.0.target.port() },
            route,
            authorization: None,
            tls: self.0.tls.clone(),
        }
    }
}

fn client_id(tls: &ServerTlsLabel) -> Option<HeaderValue> {
    let ServerTlsLabel::True { client_id } = tls else {
        return None;
    };
    // Through `Bytes`, so that clones share it.
    let bytes = Bytes::from(client_id.as_ref()?.as_str().to_string());
    HeaderValue::from_maybe_shared(bytes).ok()
}

/// Routes and authorizations that one connection keeps metrics at hand for.
const HANDLES_MAX: usize = 16;

/// The limit on requests of a port.
fn rate_limit(policy: &ServerPolicy) -> Option<&RateLimit> {
    match &policy.protocol {
        ServerProtocol::Detect { rate_limit, .. } => rate_limit.as_ref(),
        ServerProtocol::Http1(http) | ServerProtocol::Http2(http) => http.rate_limit.as_ref(),
        ServerProtocol::Grpc(_) | ServerProtocol::Opaque | ServerProtocol::Tls => None,
    }
}

/// How much of the limits of each port is used.
#[derive(Default)]
pub struct Limits(Mutex<BTreeMap<u16, RateLimiter>>);

impl Limits {
    /// Ports that have a limit, at once; more than a workload has.
    const PORTS_MAX: usize = 1_024;

    fn admit(
        &self,
        port: u16,
        limit: &RateLimit,
        client: Client<'_>,
        now: Timestamp,
    ) -> Result<(), Scope> {
        let identity = match client.tls {
            ClientTls::Identity(identity) => Some(identity),
            ClientTls::None | ClientTls::NoIdentity => None,
        };
        let mut limiters = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if limiters.len() >= Self::PORTS_MAX && !limiters.contains_key(&port) {
            limiters.pop_first();
        }
        let limiter = limiters.entry(port).or_insert_with(|| RateLimiter::new(limit));
        if !limiter.is_of(limit) {
            *limiter = RateLimiter::new(limit);
        }
        limiter.admit(now, identity)
    }
}

/// Of requests that no route is looked for.
static DEFAULT_ROUTE: LazyLock<Metadata> = LazyLock::new(|| Metadata::new_default("default"));

/// A request in flight; given back when dropped.
struct Admitted(Arc<Inbound>);

impl Admitted {
    fn new(inbound: &Arc<Inbound>) -> Option<Self> {
        let before = inbound.in_flight.fetch_add(1, Ordering::Relaxed);
        let admitted = Self(inbound.clone());
        if before >= inbound.config.in_flight_max {
            mark!("inbound-requests-at-bound");
            return None;
        }
        Some(admitted)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts one request.
struct Record {
    handles: Arc<Handles>,
    protocol: RouteProtocol,
    began: Timestamp,
    grpc: bool,
    head: Option<Head>,
    status: Option<http::StatusCode>,
    /// None until there is a response.
    span: Option<Box<OpenSpan>>,
    _admitted: Admitted,
}

impl Observer for Record {
    fn data(&mut self, _: Timestamp, bytes: usize) {
        self.handles.route.response_frame(bytes);
    }

    fn end(self, end: End) {
        let latency = end.at.since(self.began);
        let class = end.class(self.head);
        let grpc_status = class.grpc_status.filter(|_| self.grpc);
        self.handles.endpoint.response(&metrics::Response {
            status: self.status,
            classification: match class.is_failure {
                true => Classification::Failure,
                false => Classification::Success,
            },
            grpc_status,
            error: end.error,
            latency,
        });
        let status = match self.protocol {
            RouteProtocol::Http => self.status.map(|status| status.as_u16()),
            RouteProtocol::Grpc => class.grpc_status,
        };
        let error = end.error;
        let ended = StreamEnd { status, error };
        self.handles.route.ended(ended, latency, latency);
        if let Some(span) = self.span {
            span.ended(end.at, self.status, class, end.error);
        }
    }
}

/// Ports of the application that are connected to at once.
const APPLICATIONS_MAX: usize = 65_536;

/// The applications behind this proxy, one per port. Those that nobody uses are dropped after a
/// while.
pub struct Applications {
    common: Arc<Common>,
    metrics: EndpointMetrics,
    table: Arc<IdleTable<SocketAddr, Endpoint>>,
}

impl Applications {
    /// None yet.
    pub fn new(common: Common, telemetry: &Telemetry, idle_timeout: Duration) -> Self {
        let metrics = EndpointMetrics {
            transport: telemetry.inbound.local_transport(),
            cost: None,
            http: None,
        };
        let runtime = &common.runtime;
        let table = IdleTable::new(
            runtime,
            "sweep-applications",
            idle_timeout,
            APPLICATIONS_MAX,
            // Made of nothing but an address.
            |_: &Endpoint| false,
        );
        Self { common: Arc::new(common), metrics, table }
    }

    fn find(&self, address: SocketAddr) -> Arc<Endpoint> {
        let make = |address: &SocketAddr| {
            let facts = endpoint::Endpoint::new(*address);
            Endpoint::new(facts, self.metrics.clone(), &self.common)
        };
        self.table.find(address, make).unwrap_or_else(|Full| make(&address))
    }
}
