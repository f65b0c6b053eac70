//! One request or connection on its way to an endpoint: counted there, and measured for balancing.

use std::sync::Arc;

use crate::runtime::Runtime;
use crate::telemetry::metrics::{self, Classification, HttpMetrics};
use crate::time::Timestamp;
use crate::traffic::balance::InFlight;
use crate::traffic::classify::Class;

/// A request or connection in flight. Dropped unsettled, it measures nothing.
pub struct Flight {
    runtime: Runtime,
    /// None once measured.
    load: Option<InFlight>,
    http: Option<Arc<HttpMetrics>>,
}

impl Flight {
    pub(super) fn new(runtime: &Runtime, load: InFlight, http: Option<Arc<HttpMetrics>>) -> Self {
        Self {
            runtime: runtime.clone(),
            load: Some(load),
            http,
        }
    }

    /// The endpoint failed: it could not be reached, broke off, or answered 5xx.
    pub fn failed(&mut self) {
        if let Some(load) = self.load.take() {
            load.failed(self.runtime.now(), None);
        }
    }

    /// The endpoint answered well: the head, or the first of the body where there is one.
    pub fn succeeded(&mut self) {
        if let Some(load) = self.load.take() {
            load.succeeded(self.runtime.now());
        }
    }

    /// Nobody waits for an answer any more.
    pub fn canceled(&mut self) {
        if let Some(load) = self.load.take() {
            load.canceled(self.runtime.now());
        }
    }

    /// A request was handed to the endpoint.
    pub(super) fn sent(&self) {
        if let Some(http) = &self.http {
            http.request();
        }
    }

    /// The response is over.
    pub fn ended(
        mut self,
        at: Timestamp,
        began: Timestamp,
        status: Option<http::StatusCode>,
        class: Class,
        error: Option<&'static str>,
    ) {
        match (class.is_failure, error) {
            (_, Some("CANCEL")) => self.canceled(),
            (true, _) => self.failed(),
            (false, _) => self.succeeded(),
        }
        let Some(http) = &self.http else { return };
        let classification = if class.is_failure {
            Classification::Failure
        } else {
            Classification::Success
        };
        http.response(&metrics::Response {
            status,
            classification,
            grpc_status: class.grpc_status,
            error,
            latency: at.since(began),
        });
    }
}
