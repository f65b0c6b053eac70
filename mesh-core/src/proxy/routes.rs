//! A policy of HTTP as it lives in the proxy: its routes, their backends, and where requests are
//! counted. Decides everything that is decided before a request is sent; sends nothing.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::model::client_policy::{
    self, ClientPolicy, ClientProtocol, Distribution, FailureAccrual, RouteBackend, Rule,
};
use crate::model::metadata::Metadata;
use crate::model::route::http::Timeouts;
use crate::proxy::backend::{Backend, Backends};
use crate::proxy::discover::outbound::Known;
use crate::proxy::refusal::{Refusal, permit};
use crate::runtime::Entropy;
use crate::telemetry::labels::{RouteBackendLabels, RouteLabels};
use crate::telemetry::metrics::{RouteBackendMetrics, RouteMetrics, RouteProtocol};
use crate::telemetry::{BalancerProtocol, Telemetry};
use crate::traffic::filter::Filter;
use crate::traffic::retry::{Attempts, Conditions};
use crate::traffic::{distribute, select};
use crate::wire::http::Request;

/// A policy with what lives behind it, shared by all connections to its destination.
pub struct Routes {
    known: Known,
    backends: Vec<(Arc<client_policy::Backend>, Arc<Backend>)>,
    /// By route and backend; at most one for each backend of each rule.
    metrics: Mutex<Vec<(Metadata, Metadata, Arc<RouteHandles>)>>,
}

/// Metrics of one route and backend.
pub struct RouteHandles {
    /// What its requests are.
    pub protocol: RouteProtocol,
    /// Of the route.
    pub requests: Arc<RouteMetrics>,
    /// Of the route and the backend.
    pub attempts: Arc<RouteBackendMetrics>,
}

/// What is decided for one request.
pub struct Plan {
    /// Where it goes.
    pub backend: Arc<Backend>,
    /// How long it may take.
    pub timeout: Option<Duration>,
    /// Its other limits.
    pub timeouts: Timeouts,
    /// When it is sent again.
    pub attempts: Option<Attempts>,
    /// Where it is counted.
    pub handles: Arc<RouteHandles>,
}

impl Routes {
    /// The routes of a policy of HTTP, with their backends alive.
    pub fn new(backends: &Backends, known: Known) -> Self {
        let parent = &known.policy.parent;
        let mut live = Vec::new();
        for_each_backend(&known.policy, &mut |backend| {
            if !live.iter().any(|(have, _)| Arc::ptr_eq(have, backend)) {
                let accrual = accrual_of(&known.policy);
                let found = backends.find(parent, backend, BalancerProtocol::Http, accrual);
                live.push((backend.clone(), found));
            }
        });
        Self { known, backends: live, metrics: Mutex::default() }
    }

    /// Whether these are the routes of what is known.
    pub fn are_of(&self, known: &Known) -> bool {
        Arc::ptr_eq(&self.known.policy, &known.policy)
    }

    /// Route, filters, backend: everything that is decided before the request is sent.
    ///
    /// # Errors
    /// A [`Refusal`] where no route is for the request, or one refuses it.
    pub fn plan(
        &self,
        entropy: &dyn Entropy,
        telemetry: &Telemetry,
        request: &Request,
    ) -> Result<Plan, Refusal> {
        let from = (entropy, telemetry);
        let http = match &self.known.policy.protocol {
            ClientProtocol::Detect { http2, .. } if request.version() == http::Version::HTTP_2 => {
                http2
            }
            ClientProtocol::Detect { http1, .. } => http1,
            ClientProtocol::Http1(routes) | ClientProtocol::Http2(routes) => routes,
            ClientProtocol::Grpc(routes) => {
                let selected =
                    select::client_grpc(&routes.routes, request.into()).ok_or(Refusal::NoRoute)?;
                let route = &selected.route.metadata;
                return self.follow(from, route, selected.rule, RouteProtocol::Grpc);
            }
            ClientProtocol::Opaque(_) | ClientProtocol::Tls(_) => return Err(Refusal::NoRoute),
        };
        let selected = select::client_http(&http.routes, request.into()).ok_or(Refusal::NoRoute)?;
        self.follow(from, &selected.route.metadata, selected.rule, RouteProtocol::Http)
    }

    fn follow<M, F: Filter, C: Conditions>(
        &self,
        (entropy, telemetry): (&dyn Entropy, &Telemetry),
        route: &Metadata,
        rule: &Rule<M, F, C>,
        protocol: RouteProtocol,
    ) -> Result<Plan, Refusal> {
        permit(&rule.filters)?;
        let random = entropy.next_u64();
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
        let handles = self.handles(telemetry, route, &chosen.backend.metadata, protocol);
        let attempts = rule.retry.as_ref().map(Attempts::new);
        Ok(Plan { backend, timeout, timeouts: rule.timeouts, attempts, handles })
    }

    /// The route whose requests are counted there.
    pub fn route_of(&self, handles: &Arc<RouteHandles>) -> Option<Metadata> {
        let known = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().find(|(_, _, of)| Arc::ptr_eq(of, handles));
        found.map(|(route, _, _)| route.clone())
    }

    fn live(&self, backend: &Arc<client_policy::Backend>) -> Option<&Arc<Backend>> {
        self.backends.iter().find(|(model, _)| Arc::ptr_eq(model, backend)).map(|(_, live)| live)
    }

    fn handles(
        &self,
        telemetry: &Telemetry,
        route: &Metadata,
        backend: &Metadata,
        protocol: RouteProtocol,
    ) -> Arc<RouteHandles> {
        let mut known = self.metrics.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter().find(|(of, to, _)| of == route && to == backend);
        if let Some((_, _, handles)) = found {
            return handles.clone();
        }
        let parent = self.known.policy.parent.clone();
        let requests = RouteLabels { parent: parent.clone(), route: route.clone(), hostname: None };
        let attempts =
            RouteBackendLabels { parent, route: route.clone(), backend: backend.clone() };
        let handles = Arc::new(RouteHandles {
            protocol,
            requests: telemetry.outbound.route(protocol, &requests),
            attempts: telemetry.outbound.route_backend(protocol, &attempts),
        });
        known.push((route.clone(), backend.clone(), handles.clone()));
        handles
    }
}

/// When endpoints that fail are taken out; the same for every protocol of a policy.
fn accrual_of(policy: &ClientPolicy) -> Option<&FailureAccrual> {
    match &policy.protocol {
        ClientProtocol::Detect { http1: routes, .. }
        | ClientProtocol::Http1(routes)
        | ClientProtocol::Http2(routes) => routes.breaker.as_ref(),
        ClientProtocol::Grpc(routes) => routes.breaker.as_ref(),
        ClientProtocol::Opaque(_) | ClientProtocol::Tls(_) => None,
    }
}

/// Whether a policy routes HTTP.
pub fn speaks_http(policy: &ClientPolicy) -> bool {
    !matches!(policy.protocol, ClientProtocol::Opaque(_) | ClientProtocol::Tls(_))
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
