//! Requests, and who sends them.

use std::time::Duration;

use serde::Deserialize;

use super::Span;

/// Requests from the pods of a deployment.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Workload {
    /// Unique in the scenario.
    pub name: String,
    /// A Deployment of this file; its first pod sends.
    pub from: String,
    /// Host and port: `web.shop.svc.cluster.local:80`.
    pub to: String,
    /// What is spoken.
    pub protocol: Protocol,
    /// When requests come.
    pub arrivals: Arrivals,
    /// Requests at most.
    pub requests: Option<u64>,
    /// When the first may come; after the mesh has started where nothing is said.
    #[serde(default = "after_start")]
    pub start: Span,
    /// When the last may come; the end of the scenario where nothing is said.
    pub stop: Option<Span>,
    /// How long one request may take.
    #[serde(default = "ten_seconds")]
    pub timeout: Span,
}

fn after_start() -> Span {
    Span(Duration::from_secs(2))
}

fn ten_seconds() -> Span {
    Span(Duration::from_secs(10))
}

/// What a workload speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// HTTP/1.1 on pooled connections.
    Http1,
    /// HTTP/2 with prior knowledge on one connection.
    H2,
    /// A line each way per connection, the client first.
    Tcp,
    /// As `tcp`, after the server's greeting.
    ServerFirstTcp,
}

/// When requests come.
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Arrivals {
    /// So many a second, whatever becomes of them.
    Constant {
        /// Requests per second.
        rate: f64,
    },
    /// So many callers, each of which sends the next when it has its answer.
    Closed {
        /// Callers.
        concurrency: u32,
        /// Between an answer and the next request.
        #[serde(default)]
        think: Span,
    },
}
