//! Requests on the way out. `handle` is the whole way of one, top to bottom.

use std::future::Future;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use http::header::{self, HeaderName, HeaderValue};

use super::limits::Limits;
use super::retry::{Sending, Sent};
use super::{Accepted, Outbound};
use crate::model::protocol::HttpVersion;
use crate::model::span::SpanKind;
use crate::model::target::Target;
use crate::proxy::backend::Terms;
use crate::proxy::backend::flight::Flight;
use crate::proxy::discover::outbound::Destination;
use crate::proxy::observe::{self, Awaiting, End, Observer};
use crate::proxy::orig_proto;
use crate::proxy::refusal::{Asked, L5D_PROXY_CONNECTION, L5D_PROXY_ERROR, Refusal};
use crate::proxy::routes::{Plan, RouteHandles, Routes, speaks_http};
use crate::proxy::spans::{self, OpenSpan};
use crate::proxy::tap::{self, Tapping};
use crate::runtime::{BoxFuture, Runtime, pinned};
use crate::telemetry::labels::{OutboundProtocol, ProtocolLabels};
use crate::telemetry::metrics::{RouteProtocol, StreamEnd};
use crate::time::Timestamp;
use crate::traffic::classify::{Class, Head};
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
    let Accepted { io, peer, target, destination } = accepted;
    let (closing, close) = drain::channel();
    let http = Http::new(outbound, peer, target, destination, closing.clone());
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
    let options = &outbound.config.server;
    // Pinned in its place: moved on, it would be in this future twice.
    let served =
        pin!(server::serve(&outbound.runtime, io, version, options, Arc::new(http), close));
    if let Err(error) = until_drained(served, &drain, &closing).await {
        tracing::debug!(%error, "connection of HTTP ended");
    }
}

/// Serves a connection, which `closing` drains once all connections are to be drained.
pub(super) async fn until_drained<F: Future>(
    mut served: Pin<&mut F>,
    drain: &DrainWatch,
    closing: &DrainSignal,
) -> F::Output {
    tokio::select! {
        biased;
        served = served.as_mut() => served,
        () = drain.draining() => {
            closing.start();
            served.await
        }
    }
}

/// Answers the requests for one destination.
#[derive(Clone)]
pub(super) struct Http(Arc<Inner>);

struct Inner {
    outbound: Arc<Outbound>,
    /// The application's end.
    peer: SocketAddr,
    target: Target,
    destination: Arc<Destination>,
    /// Closes the connection once what is in flight is answered.
    closing: DrainSignal,
    /// The routes of the policy last used.
    routes: Mutex<Option<Arc<Routes>>>,
}

impl Service for Http {
    fn call(&self, mut request: Request) -> BoxFuture<'static, Response> {
        let this = self.clone();
        pinned(|| async move { this.handle(&mut request).await })
    }
}

impl Http {
    pub(super) fn new(
        outbound: &Arc<Outbound>,
        peer: SocketAddr,
        target: Target,
        destination: Arc<Destination>,
        closing: DrainSignal,
    ) -> Self {
        let outbound = outbound.clone();
        let routes = Mutex::default();
        Self(Arc::new(Inner { outbound, peer, target, destination, closing, routes }))
    }

    /// Answers one request: from an endpoint, or with a refusal.
    pub(super) async fn handle(&self, request: &mut Request) -> Response {
        let asked = Asked::of(request);
        let tracer = &self.0.outbound.tracer;
        let mut span = spans::begin(tracer, SpanKind::Client, request, None);
        match self.proxy(request, asked.grpc, &mut span).await {
            Ok(response) => response,
            Err(refusal) => {
                let outbound = &self.0.outbound;
                tracing::info!(target = %self.0.target, %refusal, "request failed");
                outbound.telemetry.outbound.http_error(refusal.outbound_error());
                let informative = outbound.config.informational_headers;
                let mut response = refusal.response(&asked, informative, false);
                // As Linkerd does: what an application's own connection would tell, this one does.
                if matches!(refusal, Refusal::Unreachable(_)) {
                    self.close(&mut response);
                }
                if let Some(span) = span {
                    span.refused(refusal.status(), refusal.stream_error());
                }
                response
            }
        }
    }

    async fn proxy(
        &self,
        request: &mut Request,
        grpc: bool,
        span: &mut Option<Box<OpenSpan>>,
    ) -> Result<Response, Refusal> {
        let outbound = &self.0.outbound;
        let admitted = Admitted::new(outbound).ok_or(Refusal::LoadShed)?;
        let began = outbound.runtime.now();
        let routes = self.routes().ok_or(Refusal::FailFast)?;
        let mut plan = self.plan(&routes, request)?;
        let timeout = plan.timeout.filter(|_| !planted!("deadline-forgotten"));
        let deadline = timeout.map(|timeout| began + timeout);
        let required = take_required_identity(request);
        self.normalize(request)?;
        let tapping = outbound.taps.is_watched().then(|| self.tapping(&routes, &plan));

        observe::each_data(request.body_mut(), || {
            let frames = plan.handles.requests.clone();
            move |data: &Bytes| frames.request_frame(data.len())
        });
        let clock = &outbound.runtime.clock;
        let record = Record::new(&plan, began, admitted, grpc);
        let mut record = Awaiting::new(record, clock);
        let limits = Limits::new(&plan.timeouts, clock);
        let attempts = plan.attempts.take_if(|_| may_retry(request));
        let (required, tapping) = (required.as_deref(), tapping.as_deref());
        let terms = Terms { began, required, deadline, tapping };
        let sent = match (attempts, &limits) {
            (None, None) => plan.backend.send(request, terms).await,
            (attempts, limits) => {
                let sending = Sending { http: self, routes: &routes, terms };
                // On the heap: most routes retry nothing, and have no such limits.
                let sent = sending.limited(request, plan, attempts, limits.as_ref(), &mut record);
                Box::pin(sent).await
            }
        };
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
        record.span = span.take();
        if let Some(limits) = limits {
            response = response.map(|body| limits.response(body));
        }
        Ok(response.map(|body| observe::observe(body, clock, deadline, record)))
    }

    /// What is told of a request to those who look at it.
    #[cold]
    fn tapping(&self, routes: &Routes, plan: &Plan) -> Box<Tapping> {
        let route = routes.route_of(&plan.handles);
        let route_labels = route.as_ref().map(tap::route_labels).unwrap_or_default();
        Box::new(Tapping { taps: self.0.outbound.taps.clone(), source: self.0.peer, route_labels })
    }

    /// The outside.
    pub(super) fn runtime(&self) -> &Runtime {
        &self.0.outbound.runtime
    }

    /// What is decided for a request, or for another attempt at it.
    pub(super) fn plan(&self, routes: &Routes, request: &Request) -> Result<Plan, Refusal> {
        let outbound = &self.0.outbound;
        routes.plan(&*outbound.runtime.entropy, &outbound.telemetry, request)
    }

    /// Takes off what the endpoint's proxy says to this one, and closes where it says so.
    fn obey(&self, response: &mut Response) {
        let headers = response.headers_mut();
        headers.remove(L5D_PROXY_ERROR);
        if headers.remove(L5D_PROXY_CONNECTION).is_some_and(|value| value == "close") {
            self.close(response);
        }
    }

    /// Ends the client's connection with a response, once what else is in flight is answered.
    fn close(&self, response: &mut Response) {
        if response.version() != http::Version::HTTP_2 {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        self.0.closing.start();
    }

    /// The routes of the policy in force.
    fn routes(&self) -> Option<Arc<Routes>> {
        let known = self.0.destination.known()?;
        let mut last = self.0.routes.lock().unwrap_or_else(PoisonError::into_inner);
        // Where the destination is no longer HTTP, connections of HTTP go on by the last policy
        // under which it was; new ones obey the new policy.
        if let Some(routes) = &*last
            && (routes.are_of(&known) || !speaks_http(&known.policy))
        {
            return Some(routes.clone());
        }
        let make = |known| Routes::new(&self.0.outbound.backends, known);
        let routes = self.0.destination.routes(known, make);
        *last = Some(routes.clone());
        Some(routes)
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

/// A request in flight; given back when dropped.
struct Admitted(Arc<Outbound>);

impl Admitted {
    fn new(outbound: &Arc<Outbound>) -> Option<Self> {
        let before = outbound.in_flight.fetch_add(1, Ordering::Relaxed);
        let admitted = Self(outbound.clone());
        if before >= outbound.config.in_flight_max {
            mark!("outbound-requests-at-bound");
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

/// Whether a request can be sent again at all: one that becomes a tunnel cannot.
fn may_retry(request: &Request) -> bool {
    *request.method() != http::Method::CONNECT && !request.headers().contains_key(header::UPGRADE)
}

/// Counts one request: on its route, its backend and its endpoint.
pub(super) struct Record {
    handles: Arc<RouteHandles>,
    began: Timestamp,
    /// When the last attempt began.
    attempt: Timestamp,
    grpc: bool,
    status: Option<http::StatusCode>,
    head: Option<Head>,
    flight: Option<Flight>,
    /// None until there is a response.
    span: Option<Box<OpenSpan>>,
    _admitted: Admitted,
}

impl Record {
    fn new(plan: &Plan, began: Timestamp, admitted: Admitted, grpc: bool) -> Self {
        plan.handles.attempts.request();
        Self {
            handles: plan.handles.clone(),
            began,
            attempt: began,
            grpc,
            status: None,
            head: None,
            flight: None,
            span: None,
            _admitted: admitted,
        }
    }

    /// An attempt is over that another follows.
    pub(super) fn attempt_ended(&mut self, sent: Sent, at: Timestamp) {
        let (status, class, error) = match sent {
            Ok((response, flight)) => {
                let head = Head::of(self.grpc, &[], response.status(), response.headers());
                let class = Class { is_failure: true, ..head.end(None) };
                flight.ended(at, Some(response.status()), class, None);
                (Some(response.status().as_u16()), class, None)
            }
            Err(refusal) => (None, Class::BROKEN, Some(refusal.stream_error())),
        };
        let status = match self.handles.protocol {
            RouteProtocol::Http => status,
            RouteProtocol::Grpc => class.grpc_status,
        };
        self.handles.attempts.ended(StreamEnd { status, error }, at.since(self.attempt));
    }

    /// Another attempt begins.
    pub(super) fn attempt_began(&mut self, plan: &Plan, at: Timestamp) {
        plan.handles.attempts.request();
        self.handles = plan.handles.clone();
        self.attempt = at;
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
        self.end(End::new(at, None, Some(refusal.stream_error())));
    }
}

impl Observer for Record {
    fn data(&mut self, at: Timestamp, bytes: usize) {
        self.handles.attempts.response_frame(bytes);
        // Latency is measured to here, as Linkerd does; a failure was measured at the head.
        if let Some(flight) = &mut self.flight {
            flight.succeeded(at);
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
        if planted!("responses-counted-twice") {
            self.handles.requests.ended(ended, latency);
        }
        self.handles.attempts.ended(ended, end.at.since(self.attempt));
        if let Some(span) = self.span {
            span.ended(end.at, self.status, class, end.error);
        }
        if let Some(flight) = self.flight {
            flight.ended(end.at, self.status, class, end.error);
        }
    }
}

/// Takes `l5d-require-id` off a request: whom the client wants its server to be.
fn take_required_identity(request: &mut Request) -> Option<String> {
    let value = request.headers_mut().remove(L5D_REQUIRE_ID)?;
    Some(value.to_str().unwrap_or_default().to_string())
}
