//! Requests on the way out. `handle` is the whole way of one, top to bottom.

use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use http::header::{self, HeaderName, HeaderValue};

use super::{Accepted, Outbound};
use crate::model::client_policy::{
    self, ClientPolicy, ClientProtocol, Distribution, RouteBackend, Rule,
};
use crate::model::metadata::Metadata;
use crate::model::protocol::HttpVersion;
use crate::model::target::Target;
use crate::proxy::backend::Backend;
use crate::proxy::backend::flight::Flight;
use crate::proxy::discover::outbound::{Destination, Known};
use crate::proxy::observe::{self, Awaiting, End, Observer};
use crate::proxy::orig_proto;
use crate::proxy::refusal::{Asked, L5D_PROXY_CONNECTION, L5D_PROXY_ERROR, Refusal, permit};
use crate::runtime::BoxFuture;
use crate::telemetry::BalancerProtocol;
use crate::telemetry::labels::{OutboundProtocol, ProtocolLabels, RouteBackendLabels, RouteLabels};
use crate::telemetry::metrics::{
    RouteBackendMetrics, RouteMetrics, RouteProtocol, StreamEnd, StreamError,
};
use crate::time::Timestamp;
use crate::traffic::classify::{Head, is_grpc};
use crate::traffic::filter::Filter;
use crate::traffic::{distribute, select};
use crate::wire::drain::{self, DrainSignal};
use crate::wire::http::{DrainWatch, Request, Response, Service, server};

const L5D_REQUIRE_ID: HeaderName = HeaderName::from_static("l5d-require-id");

/// Serves a connection of HTTP.
pub(super) async fn serve(
    outbound: &Arc<Outbound>,
    accepted: Accepted,
    version: HttpVersion,
    drain: DrainWatch,
) {
    let Accepted { io, target, destination } = accepted;
    let (closing, close) = drain::channel();
    let http = Http::new(outbound, target, destination, Some(closing));
    if let Some(known) = http.0.destination.known() {
        let protocol = match version {
            HttpVersion::Http1 => OutboundProtocol::Http1,
            HttpVersion::Http2 => OutboundProtocol::Http2,
        };
        let parent = known.policy.parent.clone();
        outbound
            .telemetry
            .outbound
            .protocol_connections(&ProtocolLabels { protocol, parent })
            .increment();
    }
    let inner = http.0.clone();
    let options = &outbound.config.server;
    let served = server::serve(&outbound.runtime, io, version, options, Arc::new(http), close);
    let mut served = pin!(served);
    let served = tokio::select! {
        biased;
        served = &mut served => served,
        () = drain.draining() => {
            inner.close();
            served.await
        }
    };
    if let Err(error) = served {
        tracing::debug!(%error, "connection of HTTP ended");
    }
}

/// Answers the requests for one destination.
#[derive(Clone)]
pub(super) struct Http(Arc<Inner>);

struct Inner {
    outbound: Arc<Outbound>,
    target: Target,
    destination: Arc<Destination>,
    /// Closes the connection once what is in flight is answered. None where it has other
    /// destinations too.
    closing: Option<DrainSignal>,
    /// The routes of the policy last used.
    resolved: Mutex<Option<Arc<Resolved>>>,
}

/// A policy with what lives behind it.
struct Resolved {
    known: Known,
    backends: Vec<(Arc<client_policy::Backend>, Arc<Backend>)>,
    metrics: Mutex<Vec<RouteHandles>>,
}

/// Metrics of one route and backend.
#[derive(Clone)]
struct RouteHandles {
    protocol: RouteProtocol,
    route: Metadata,
    backend: Metadata,
    requests: Arc<RouteMetrics>,
    attempts: Arc<RouteBackendMetrics>,
}

impl Service for Http {
    fn call(&self, request: Request) -> BoxFuture<'static, Response> {
        Box::pin(self.clone().handle(request))
    }
}

impl Inner {
    fn close(&self) {
        if let Some(closing) = &self.closing {
            closing.start();
        }
    }
}

impl Http {
    pub(super) fn new(
        outbound: &Arc<Outbound>,
        target: Target,
        destination: Arc<Destination>,
        closing: Option<DrainSignal>,
    ) -> Self {
        let outbound = outbound.clone();
        Self(Arc::new(Inner { outbound, target, destination, closing, resolved: Mutex::default() }))
    }

    /// Answers one request: from an endpoint, or with a refusal.
    pub(super) async fn handle(self, request: Request) -> Response {
        let asked = Asked::of(&request);
        match self.proxy(request).await {
            Ok(response) => response,
            Err(refusal) => {
                let outbound = &self.0.outbound;
                tracing::info!(target = %self.0.target, %refusal, "request failed");
                outbound.telemetry.outbound.http_error(refusal.outbound_error());
                refusal.response(&asked, outbound.config.informational_headers, false)
            }
        }
    }

    async fn proxy(&self, mut request: Request) -> Result<Response, Refusal> {
        let outbound = &self.0.outbound;
        let admitted = Admitted::new(outbound).ok_or(Refusal::LoadShed)?;
        let began = outbound.runtime.now();
        let resolved = self.resolve().ok_or(Refusal::FailFast)?;
        let plan = resolved.plan(outbound, &request)?;
        let deadline = plan.timeout.map(|timeout| began + timeout);
        let required = take_required_identity(&mut request);
        self.normalize(&mut request)?;

        let frames = plan.handles.requests.clone();
        let request = request
            .map(|body| observe::count_frames(body, move |bytes| frames.request_frame(bytes)));
        let clock = &outbound.runtime.clock;
        let record = Record::new(&plan, began, admitted, is_grpc(request.headers()));
        let record = Awaiting::new(record, clock);
        let sent = plan.backend.send(request, required.as_deref(), deadline).await;
        let mut record = record.done();
        let (mut response, flight) = match sent {
            Ok(sent) => sent,
            Err(refusal) => {
                record.refused(&refusal, outbound.runtime.now());
                return Err(refusal);
            }
        };
        self.obey(&mut response);
        record.answered(&response, flight);
        Ok(response.map(|body| observe::observe(body, clock, deadline, record)))
    }

    /// Takes off what the endpoint's proxy says to this one, and closes where it says so.
    fn obey(&self, response: &mut Response) {
        let http1 = response.version() != http::Version::HTTP_2;
        let headers = response.headers_mut();
        headers.remove(L5D_PROXY_ERROR);
        let close = headers.remove(L5D_PROXY_CONNECTION).is_some_and(|value| value == "close");
        if close {
            if http1 {
                headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            self.0.close();
        }
    }

    /// The policy in force, with its live backends.
    fn resolve(&self) -> Option<Arc<Resolved>> {
        let known = self.0.destination.known()?;
        let mut resolved = self.0.resolved.lock().unwrap_or_else(PoisonError::into_inner);
        // Where the destination is no longer HTTP, connections of HTTP go on by the last policy
        // under which it was; new ones obey the new policy.
        if let Some(current) = &*resolved
            && (Arc::ptr_eq(&current.known.policy, &known.policy) || !speaks_http(&known.policy))
        {
            return Some(current.clone());
        }
        let current = Arc::new(Resolved::new(&self.0.outbound, known));
        *resolved = Some(current.clone());
        Some(current)
    }

    /// Gives the request what each version needs: HTTP/2 an absolute target.
    fn normalize(&self, request: &mut Request) -> Result<(), Refusal> {
        if request.version() != http::Version::HTTP_2 || request.uri().authority().is_some() {
            return Ok(());
        }
        let authority = orig_proto::authority_of(request, || self.0.target.to_string())
            .ok_or_else(|| Refusal::BadRequest("request without a usable host".into()))?;
        orig_proto::set_absolute(request, authority);
        Ok(())
    }
}

/// What is decided for one request.
struct Plan {
    backend: Arc<Backend>,
    timeout: Option<std::time::Duration>,
    handles: RouteHandles,
}

impl Resolved {
    fn new(outbound: &Outbound, known: Known) -> Self {
        let parent = &known.policy.parent;
        let mut backends = Vec::new();
        for_each_backend(&known.policy, &mut |backend| {
            if !backends.iter().any(|(have, _)| Arc::ptr_eq(have, backend)) {
                let live = outbound.backends.find(parent, backend, BalancerProtocol::Http);
                backends.push((backend.clone(), live));
            }
        });
        Self { known, backends, metrics: Mutex::default() }
    }

    /// Route, filters, backend: everything that is decided before the request is sent.
    fn plan(&self, outbound: &Outbound, request: &Request) -> Result<Plan, Refusal> {
        match &self.known.policy.protocol {
            ClientProtocol::Detect { http1, http2, .. } => {
                let routes = if request.version() == http::Version::HTTP_2 { http2 } else { http1 };
                let (metadata, rule) = select::client_http(&routes.routes, request.into())
                    .map(|selected| (&selected.route.metadata, selected.rule))
                    .ok_or(Refusal::NoRoute)?;
                self.follow(outbound, metadata, rule, RouteProtocol::Http)
            }
            ClientProtocol::Http1(routes) | ClientProtocol::Http2(routes) => {
                let selected =
                    select::client_http(&routes.routes, request.into()).ok_or(Refusal::NoRoute)?;
                let (metadata, rule) = (&selected.route.metadata, selected.rule);
                self.follow(outbound, metadata, rule, RouteProtocol::Http)
            }
            ClientProtocol::Grpc(routes) => {
                let selected =
                    select::client_grpc(&routes.routes, request.into()).ok_or(Refusal::NoRoute)?;
                let (metadata, rule) = (&selected.route.metadata, selected.rule);
                self.follow(outbound, metadata, rule, RouteProtocol::Grpc)
            }
            ClientProtocol::Opaque(_) | ClientProtocol::Tls(_) => Err(Refusal::NoRoute),
        }
    }

    fn follow<M, F: Filter, C>(
        &self,
        outbound: &Outbound,
        route: &Metadata,
        rule: &Rule<M, F, C>,
        protocol: RouteProtocol,
    ) -> Result<Plan, Refusal> {
        permit(&rule.filters)?;
        let random = outbound.runtime.entropy.next_u64();
        let chosen = distribute::choose(&rule.backends, random, |backend| {
            self.live(backend).is_some_and(|live| live.is_available())
        })
        .ok_or(Refusal::InvalidPolicy)?;
        permit(&chosen.filters)?;
        let backend = self.live(&chosen.backend).ok_or(Refusal::InvalidPolicy)?.clone();
        let timeout = [rule.timeouts.request, chosen.request_timeout]
            .into_iter()
            .flatten()
            .filter(|timeout| !timeout.is_zero())
            .min();
        let handles = self.handles(outbound, route, &chosen.backend.metadata, protocol);
        Ok(Plan { backend, timeout, handles })
    }

    fn live(&self, backend: &Arc<client_policy::Backend>) -> Option<&Arc<Backend>> {
        self.backends.iter().find(|(model, _)| Arc::ptr_eq(model, backend)).map(|(_, live)| live)
    }

    fn handles(
        &self,
        outbound: &Outbound,
        route: &Metadata,
        backend: &Metadata,
        protocol: RouteProtocol,
    ) -> RouteHandles {
        let mut known = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |have: &&RouteHandles| have.route == *route && have.backend == *backend;
        if let Some(handles) = known.iter().find(same) {
            return handles.clone();
        }
        let parent = self.known.policy.parent.clone();
        let requests = RouteLabels { parent: parent.clone(), route: route.clone(), hostname: None };
        let attempts =
            RouteBackendLabels { parent, route: route.clone(), backend: backend.clone() };
        let handles = RouteHandles {
            protocol,
            route: route.clone(),
            backend: backend.clone(),
            requests: outbound.telemetry.outbound.route(protocol, &requests),
            attempts: outbound.telemetry.outbound.route_backend(protocol, &attempts),
        };
        known.push(handles.clone());
        handles
    }
}

/// A request in flight; given back when dropped.
struct Admitted(Arc<Outbound>);

impl Admitted {
    fn new(outbound: &Arc<Outbound>) -> Option<Self> {
        let before = outbound.in_flight.fetch_add(1, Ordering::Relaxed);
        let admitted = Self(outbound.clone());
        (before < outbound.config.in_flight_max).then_some(admitted)
    }
}

impl Drop for Admitted {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Counts one request: on its route, its backend and its endpoint.
struct Record {
    handles: RouteHandles,
    began: Timestamp,
    grpc: bool,
    status: Option<http::StatusCode>,
    head: Option<Head>,
    flight: Option<Flight>,
    _admitted: Admitted,
}

impl Record {
    fn new(plan: &Plan, began: Timestamp, admitted: Admitted, grpc: bool) -> Self {
        plan.handles.attempts.request();
        Self {
            handles: plan.handles.clone(),
            began,
            grpc,
            status: None,
            head: None,
            flight: None,
            _admitted: admitted,
        }
    }

    fn answered(&mut self, response: &Response, mut flight: Flight) {
        let head = Head::of(self.grpc, &[], response.status(), response.headers());
        if let Head::Settled(class) = head
            && class.is_failure
        {
            flight.failed();
        }
        self.status = Some(response.status());
        self.head = Some(head);
        self.flight = Some(flight);
    }

    fn refused(self, refusal: &Refusal, at: Timestamp) {
        self.end(End { at, grpc_status: None, error: Some(refusal.stream_error()) });
    }
}

impl Observer for Record {
    fn data(&mut self, _: Timestamp, bytes: usize) {
        self.handles.attempts.response_frame(bytes);
        // Latency is measured to here, as Linkerd does; a failure was measured at the head.
        if let Some(flight) = &mut self.flight {
            flight.succeeded();
        }
    }

    fn end(self, end: End) {
        let latency = end.at.since(self.began);
        let class = end.class(self.head);
        let status = self.status.map(|status| status.as_u16());
        let ended = match self.handles.protocol {
            RouteProtocol::Http => StreamEnd { status, error: end.error },
            RouteProtocol::Grpc => StreamEnd { status: class.grpc_status, error: end.error },
        };
        self.handles.requests.ended(ended, latency);
        self.handles.attempts.ended(ended, latency);
        if let Some(flight) = self.flight {
            let error = end.error.map(StreamError::as_str);
            flight.ended(end.at, self.status, class, error);
        }
    }
}

fn speaks_http(policy: &ClientPolicy) -> bool {
    !matches!(policy.protocol, ClientProtocol::Opaque(_) | ClientProtocol::Tls(_))
}

/// Takes `l5d-require-id` off a request: whom the client wants its server to be.
fn take_required_identity(request: &mut Request) -> Option<String> {
    let value = request.headers_mut().remove(L5D_REQUIRE_ID)?;
    Some(value.to_str().unwrap_or_default().to_string())
}

fn for_each_backend(policy: &ClientPolicy, visit: &mut dyn FnMut(&Arc<client_policy::Backend>)) {
    fn of<F>(distribution: &Distribution<F>, visit: &mut dyn FnMut(&Arc<client_policy::Backend>)) {
        let mut each = |backend: &RouteBackend<F>| visit(&backend.backend);
        match distribution {
            Distribution::Empty => {}
            Distribution::FirstAvailable(backends) => backends.iter().for_each(each),
            Distribution::RandomAvailable(backends) => {
                backends.iter().for_each(|weighted| each(&weighted.backend));
            }
        }
    }
    let mut http = |routes: &client_policy::HttpRoutes| {
        let rules = routes.routes.iter().flat_map(|route| &route.rules);
        rules.for_each(|rule| of(&rule.backends, visit));
    };
    match &policy.protocol {
        ClientProtocol::Detect { http1, http2, .. } => {
            http(http1);
            http(http2);
        }
        ClientProtocol::Http1(routes) | ClientProtocol::Http2(routes) => http(routes),
        ClientProtocol::Grpc(routes) => {
            let rules = routes.routes.iter().flat_map(|route| &route.rules);
            rules.for_each(|rule| of(&rule.backends, visit));
        }
        ClientProtocol::Opaque(_) | ClientProtocol::Tls(_) => {}
    }
}
