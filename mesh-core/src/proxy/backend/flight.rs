//! One request or connection on its way to an endpoint: counted there, and measured for balancing.

use std::sync::Arc;

use super::endpoint::Endpoint;
use crate::runtime::Clock;
use crate::telemetry::metrics::{self, Classification, HttpMetrics, StreamError};
use crate::time::Timestamp;
use crate::traffic::balance::InFlight;
use crate::traffic::breaker::{Outcome, Ticket};
use crate::traffic::classify::Class;

/// A request or connection in flight. Dropped unsettled, it was canceled.
pub struct Flight {
    clock: Arc<dyn Clock>,
    began: Timestamp,
    /// None once measured.
    load: Option<InFlight>,
    /// None for connections, and where the request is not to be counted.
    http: Option<Arc<HttpMetrics>>,
    /// The endpoint's breaker waits for the outcome.
    ticket: Option<(Arc<Endpoint>, Ticket)>,
    /// The request was counted.
    sent: bool,
}

impl Flight {
    pub(super) fn new(
        clock: &Arc<dyn Clock>,
        began: Timestamp,
        load: InFlight,
        http: Option<Arc<HttpMetrics>>,
    ) -> Self {
        Self { clock: clock.clone(), began, load: Some(load), http, ticket: None, sent: false }
    }

    /// A request that the breaker of its endpoint is told of.
    pub(super) fn told_to(mut self, endpoint: &Arc<Endpoint>) -> Self {
        self.ticket = endpoint.admit(self.began).map(|ticket| (endpoint.clone(), ticket));
        self
    }

    fn tell(&mut self, outcome: Option<Outcome>) {
        if let Some((endpoint, ticket)) = self.ticket.take() {
            endpoint.ended(self.clock.now(), ticket, outcome);
        }
    }

    /// A connection was waited for until now: what is measured is the endpoint's answer, not the way
    /// to it.
    pub(super) fn connected(&mut self) {
        self.began = self.clock.now();
        if let Some(load) = &mut self.load {
            load.began(self.began);
        }
    }

    /// The endpoint failed: it could not be reached, broke off, or answered 5xx.
    pub fn failed(&mut self) {
        if let Some(load) = self.load.take() {
            load.failed(self.clock.now(), None);
        }
    }

    /// The endpoint answered well: the head, or the first of the body where there is one.
    pub fn succeeded(&mut self, at: Timestamp) {
        if let Some(load) = self.load.take() {
            load.succeeded(at);
        }
    }

    /// Nobody waits for an answer any more.
    pub fn canceled(&mut self) {
        if let Some(load) = self.load.take() {
            if planted!("in-flight-leaked") {
                return std::mem::forget(load);
            }
            load.canceled(self.clock.now());
        }
    }

    /// Nothing of the request reached the endpoint: it is not one of its requests.
    pub(super) fn unsent(mut self) {
        self.failed();
        self.http = None;
    }

    /// The endpoint took the request and will not answer.
    pub(super) fn broken(self, error: StreamError) {
        let at = self.clock.now();
        self.ended(at, None, Class::BROKEN, Some(error));
    }

    /// The endpoint took the request.
    pub(super) fn sent(&mut self) {
        if !std::mem::replace(&mut self.sent, true)
            && let Some(http) = &self.http
        {
            http.request();
        }
    }

    /// The response is over.
    pub fn ended(
        mut self,
        at: Timestamp,
        status: Option<http::StatusCode>,
        class: Class,
        error: Option<StreamError>,
    ) {
        let is_limited = status == Some(http::StatusCode::TOO_MANY_REQUESTS)
            || class.grpc_status == Some(GRPC_RESOURCE_EXHAUSTED);
        self.tell(match (class.is_failure, error) {
            (_, Some(StreamError::Cancel)) => None,
            _ if is_limited => Some(Outcome::Limited),
            (true, _) => Some(Outcome::Failure),
            (false, _) => Some(Outcome::Success),
        });
        match (class.is_failure, error) {
            (_, Some(StreamError::Cancel)) => self.canceled(),
            (true, _) => self.failed(),
            (false, _) => self.succeeded(at),
        }
        self.sent();
        let Some(http) = &self.http else { return };
        let classification =
            if class.is_failure { Classification::Failure } else { Classification::Success };
        http.response(&metrics::Response {
            status,
            classification,
            grpc_status: class.grpc_status,
            error,
            latency: at.since(self.began),
        });
    }
}

/// gRPC's RESOURCE_EXHAUSTED.
const GRPC_RESOURCE_EXHAUSTED: u16 = 8;

impl Drop for Flight {
    fn drop(&mut self) {
        self.tell(None);
        self.canceled();
        self.sent();
    }
}
