//! What the proxy answers itself when it does not pass a request on: the one place that maps
//! faults to statuses (Linkerd's error map).

use http::header::HeaderName;
use http::{HeaderValue, StatusCode, Version, header};

use crate::proxy::observe;
use crate::telemetry::metrics::StreamError;
use crate::telemetry::{InboundError, OutboundError};
use crate::traffic::classify::is_grpc;
use crate::traffic::denial::DenialId;
use crate::traffic::filter::{self, Filter, Refused};
use crate::wire::http::{Body, Error, Reset, Response};

/// Why the proxy refused, for people.
pub const L5D_PROXY_ERROR: HeaderName = HeaderName::from_static("l5d-proxy-error");
/// `close`: the proxy that reads it is to close its client's connection.
pub const L5D_PROXY_CONNECTION: HeaderName = HeaderName::from_static("l5d-proxy-connection");
/// The reference of a denial, for the client's application: no proxy takes it off.
const WEFT_REFERENCE: HeaderName = HeaderName::from_static("weft-reference");

/// Why a request is not passed on, or its response is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Too much waits or is in flight.
    #[error("service unavailable")]
    LoadShed,
    /// The backend has had no endpoint for too long.
    #[error("service in fail-fast")]
    FailFast,
    /// The route's time for the request ran out.
    #[error("request timed out")]
    RequestTimeout,
    /// The route's time for the response ran out.
    #[error("response timed out")]
    ResponseTimeout,
    /// Nothing passed either way for the route's time.
    #[error("idle for too long")]
    IdleTimeout,
    /// No connection in time.
    #[error("connect timed out")]
    ConnectTimeout,
    /// No connection.
    #[error("connect failed: {0}")]
    Connect(String),
    /// The endpoint's proxy could not reach its application, nor was there another endpoint to try.
    #[error("connect failed: {0}")]
    Unreachable(String),
    /// The connection broke before a response.
    #[error("{0}")]
    Broken(String),
    /// The server reset the stream with this HTTP/2 code, before a response.
    #[error("stream reset by the server: {}", Reset::new(*.0))]
    Reset(u32),
    /// The endpoint is not who the client asked for (`l5d-require-id`).
    #[error("required identity {0}")]
    IdentityRequired(String),
    /// No route is for this request.
    #[error("no route found for request")]
    NoRoute,
    /// A route's filters are wrong or unknown here.
    #[error("invalid client policy configuration")]
    InvalidPolicy,
    /// A route forbids it.
    #[error("route is forbidden")]
    Forbidden,
    /// The client, or all of them, sent more than the port takes.
    #[error("rate limit exceeded")]
    RateLimited,
    /// No authorization allows it; by this reference it can be explained.
    #[error("client not authorized (reference {0})")]
    Unauthorized(DenialId),
    /// The request has no destination this proxy can know.
    #[error("{0}")]
    BadRequest(String),
}

impl Refusal {
    /// What a request that was not sent is refused with.
    pub fn of_unsent(error: &Error) -> Self {
        match error {
            Error::Timeout("connect") => Self::ConnectTimeout,
            Error::Unreachable => Self::Unreachable(error.to_string()),
            Error::Io(error) => Self::Connect(error.to_string()),
            other => Self::Connect(other.to_string()),
        }
    }

    /// What a request that may have been processed is refused with.
    pub fn of(error: &Error) -> Self {
        match error {
            Error::Reset(reset) => Self::Reset(reset.code()),
            other => Self::Broken(other.to_string()),
        }
    }

    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::LoadShed => StatusCode::SERVICE_UNAVAILABLE,
            Self::FailFast
            | Self::RequestTimeout
            | Self::ResponseTimeout
            | Self::IdleTimeout
            | Self::ConnectTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::Connect(_)
            | Self::Unreachable(_)
            | Self::Broken(_)
            | Self::Reset(_)
            | Self::IdentityRequired(_) => StatusCode::BAD_GATEWAY,
            Self::RateLimited => StatusCode::TOO_MANY_REQUESTS,
            Self::NoRoute => StatusCode::NOT_FOUND,
            Self::Forbidden | Self::Unauthorized(_) => StatusCode::FORBIDDEN,
            Self::BadRequest(_) => StatusCode::BAD_REQUEST,
            Self::InvalidPolicy => StatusCode::INTERNAL_SERVER_ERROR,
        }
    }

    /// The gRPC status code.
    pub fn grpc_code(&self) -> u16 {
        match self {
            Self::RequestTimeout
            | Self::ResponseTimeout
            | Self::IdleTimeout
            | Self::ConnectTimeout => 4,
            Self::RateLimited => 8,
            Self::NoRoute => 5,
            Self::Forbidden | Self::Unauthorized(_) => 7,
            Self::BadRequest(_) | Self::InvalidPolicy => 13,
            Self::LoadShed
            | Self::FailFast
            | Self::Connect(_)
            | Self::Unreachable(_)
            | Self::Broken(_)
            | Self::Reset(_)
            | Self::IdentityRequired(_) => 14,
        }
    }

    /// The name under which `outbound_…_errors_total` counts it.
    pub fn outbound_error(&self) -> OutboundError {
        match self {
            Self::LoadShed => OutboundError::LoadShed,
            Self::FailFast => OutboundError::FailFast,
            Self::RequestTimeout | Self::ResponseTimeout | Self::IdleTimeout => {
                OutboundError::ResponseTimeout
            }
            Self::IdentityRequired(_) => OutboundError::IdentityRequired,
            Self::Connect(_) | Self::Unreachable(_) | Self::ConnectTimeout | Self::Broken(_) => {
                OutboundError::Io
            }
            _ => OutboundError::Unexpected,
        }
    }

    /// The name under which `inbound_…_errors_total` counts it.
    pub fn inbound_error(&self) -> InboundError {
        match self {
            Self::LoadShed => InboundError::LoadShed,
            Self::FailFast => InboundError::FailFast,
            Self::Connect(_) | Self::Unreachable(_) | Self::ConnectTimeout | Self::Broken(_) => {
                InboundError::Io
            }
            _ => InboundError::Unexpected,
        }
    }

    /// The name under which routes' `…_statuses_total` count it.
    pub fn stream_error(&self) -> StreamError {
        match self {
            Self::LoadShed => StreamError::LoadShed,
            Self::FailFast => StreamError::FailFast,
            Self::RequestTimeout => StreamError::RequestTimeout,
            Self::ResponseTimeout => StreamError::ResponseHeadersTimeout,
            Self::IdleTimeout => StreamError::IdleTimeout,
            Self::Connect(_) | Self::Unreachable(_) | Self::ConnectTimeout | Self::Broken(_) => {
                StreamError::Io
            }
            Self::Reset(code) => observe::stream_error(&Error::reset(*code)),
            _ => StreamError::Unknown,
        }
    }

    /// The response. Says `l5d-proxy-error` where `informative`, and asks the other proxy to close
    /// its client's connection where `close`.
    pub fn response(&self, asked: &Asked, informative: bool, close: bool) -> Response {
        let mut response = Response::new(Body::empty());
        if let (Self::Reset(code), Version::HTTP_2) = (self, asked.version) {
            // As Linkerd does: what the server did to its stream is done to the client's.
            response.extensions_mut().insert(Reset::new(*code));
            return response;
        }
        let text = HeaderValue::from_str(&self.to_string())
            .unwrap_or(HeaderValue::from_static("unexpected error"));
        let headers = response.headers_mut();
        if asked.grpc {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            headers.insert("grpc-status", HeaderValue::from(self.grpc_code()));
            headers.insert("grpc-message", text.clone());
        }
        if informative {
            headers.insert(L5D_PROXY_ERROR, text);
            if let Self::Unauthorized(reference) = self
                && let Ok(reference) = HeaderValue::from_str(&reference.to_string())
            {
                headers.insert(WEFT_REFERENCE, reference);
            }
            if close {
                headers.insert(L5D_PROXY_CONNECTION, HeaderValue::from_static("close"));
            }
        }
        if !asked.grpc {
            *response.status_mut() = self.status();
            response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(0));
        }
        *response.version_mut() = asked.version;
        response
    }
}

/// What matters of a request for the form of a refusal.
#[derive(Clone, Copy, Debug)]
pub struct Asked {
    /// Errors are trailers-only responses with status 200.
    pub grpc: bool,
    /// Version of the request.
    pub version: Version,
}

impl Asked {
    /// Of a request.
    pub fn of<B>(request: &http::Request<B>) -> Self {
        Self { grpc: is_grpc(request.headers()), version: request.version() }
    }
}

/// Refuses where a filter does. What filters are decoded but not enforced is counted where a policy
/// comes into force, not here.
///
/// # Errors
/// [`Refusal::Forbidden`] or [`Refusal::InvalidPolicy`].
pub fn permit<F: Filter>(filters: &[F]) -> Result<(), Refusal> {
    match filter::apply(filters) {
        Ok(_) => Ok(()),
        Err(Refused::Forbidden) => Err(Refusal::Forbidden),
        Err(Refused::Invalid(_) | Refused::Unknown) => Err(Refusal::InvalidPolicy),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::authorize::{Client, ClientTls, Denied};

    #[test]
    fn grpc_errors_are_trailers_only_with_status_200() {
        let asked = Asked { grpc: true, version: Version::HTTP_2 };
        let response = Refusal::FailFast.response(&asked, true, false);
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["grpc-status"], "14");
        assert_eq!(response.headers()["l5d-proxy-error"], "service in fail-fast");
    }

    #[test]
    fn a_reset_is_passed_on_to_http2_clients_alone() {
        let refusal = Refusal::of(&Error::reset(Reset::ENHANCE_YOUR_CALM));
        let to = |version| refusal.response(&Asked { grpc: false, version }, false, false);
        let reset = to(Version::HTTP_2).extensions().get::<Reset>().map(Reset::code);
        assert_eq!(reset, Some(Reset::ENHANCE_YOUR_CALM));
        assert_eq!(to(Version::HTTP_11).status(), 502);
    }

    #[test]
    fn a_denial_is_told_with_its_reference() {
        let client = Client { ip: [10, 0, 0, 1].into(), tls: ClientTls::None };
        let id = DenialId::new(client, ([10, 0, 0, 2], 80).into(), None, Denied::NoTls);
        let asked = Asked { grpc: false, version: Version::HTTP_11 };
        let told = Refusal::Unauthorized(id).response(&asked, true, false);
        assert_eq!(told.status(), 403);
        let reference = told.headers()["weft-reference"].to_str().unwrap();
        assert_eq!(reference.parse(), Ok(id));
        let error = told.headers()["l5d-proxy-error"].to_str().unwrap();
        assert_eq!(error, format!("client not authorized (reference {reference})"));
        let quiet = Refusal::Unauthorized(id).response(&asked, false, false);
        assert!(quiet.headers().get("weft-reference").is_none());
    }

    #[test]
    fn http_errors_have_linkerds_statuses() {
        let asked = Asked { grpc: false, version: Version::HTTP_11 };
        let status = |refusal: Refusal| refusal.response(&asked, false, true).status().as_u16();
        assert_eq!(status(Refusal::LoadShed), 503);
        assert_eq!(status(Refusal::FailFast), 504);
        assert_eq!(status(Refusal::RequestTimeout), 504);
        assert_eq!(status(Refusal::NoRoute), 404);
        assert_eq!(status(Refusal::Connect("refused".into())), 502);
        assert_eq!(status(Refusal::InvalidPolicy), 500);
        let quiet = Refusal::LoadShed.response(&asked, false, true);
        assert!(quiet.headers().get("l5d-proxy-error").is_none());
    }
}
