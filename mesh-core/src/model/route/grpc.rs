//! Matches and filters of gRPC routes (Gateway API GRPCRoute, `grpc_route.proto`).

use super::http::{HeaderMatch, Share};

/// A request matches where all parts do. Empty service or method matches every one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct GrpcMatch {
    /// `package.Service`; `None` matches every one.
    pub service: Option<String>,
    /// Method; `None` matches every one.
    pub method: Option<String>,
    /// On headers; all must hold.
    pub headers: Vec<HeaderMatch>,
}

/// Answers a share of requests with a failure.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GrpcFailure {
    /// gRPC status code.
    pub code: u16,
    /// Text.
    pub message: String,
    /// Which share.
    pub share: Share,
}
