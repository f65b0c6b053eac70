//! The public API: what people and programs ask about the mesh, under `/api/v1/`. JSON, and streams
//! as server-sent events.
//!
//! Law: what is asked for wrongly is answered with what is wrong and what to write instead; nothing
//! that was asked is ignored.

pub mod authz;
mod census;
pub mod check;
pub mod edges;
mod explain;
pub mod figures;
pub mod history;
pub mod pods;
pub mod query;
pub mod resource;
pub mod routes;
pub mod stat;
pub mod statistics;
#[cfg(test)]
mod tests;
pub mod top;
mod top_events;

use ::http::header::CONTENT_TYPE;
use ::http::{HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::json;

use super::viz::Viz;
use crate::wire::http::{Body, Request, Response};
use crate::wire::tls::Credentials;
use authz::AuthzQuestion;
use edges::EdgesQuestion;
use history::HistoryQuestion;
use pods::PodsQuestion;
use query::{InvalidQuery, Query};
use routes::RoutesQuestion;
use stat::StatQuestion;

const ROOT: &str = "/api/v1/";

/// Whether a path is of this API.
pub(super) fn is_asked(path: &str) -> bool {
    path.starts_with("/api/")
}

/// Answers a request whose path is of this API.
pub(super) async fn answer(viz: &Viz, request: Request) -> Response {
    let query = Query::of(request.uri());
    let path = request.uri().path();
    let answered = match path.strip_prefix(ROOT) {
        Some("version") => version(viz, &query),
        Some(path) if STATISTICS.contains(&path) => statistics(viz, path, &query).await,
        Some("tap") => super::tap::answer(viz, &query),
        Some("top") => top_events::answer(viz, &query),
        Some("check") => check(viz, &query),
        Some("explain") => explain::answer(viz, &query),
        _ => {
            let all = STATISTICS.join(", ");
            let remedy =
                format!("ask for {ROOT} and one of version, check, tap, top, explain, {all}");
            Err(ApiError::new(StatusCode::NOT_FOUND, format!("there is no {path}"), remedy))
        }
    };
    answered.unwrap_or_else(|error| error.response())
}

fn version(viz: &Viz, query: &Query) -> Result<Response, ApiError> {
    query.only(&[])?;
    let parts = viz.parts();
    Ok(json_response(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "control_namespace": parts.mesh.control_namespace,
        "is_synced": parts.publisher.is_synced(),
        "issues_certificates": parts.issuer.is_some(),
        "has_identity": parts.credentials.as_ref().is_some_and(Credentials::is_ready),
    })))
}

fn check(viz: &Viz, query: &Query) -> Result<Response, ApiError> {
    query.only(&[])?;
    let rows = super::console::checks(viz);
    Ok(json_response(&viz.parts().statistics.of_index(rows)))
}

async fn statistics(viz: &Viz, path: &str, query: &Query) -> Result<Response, ApiError> {
    let known = &viz.parts().statistics;
    Ok(match path {
        "stat" => json_response(&known.stat(&StatQuestion::read(query)?).await?),
        "history" => json_response(&known.history(&HistoryQuestion::read(query)?).await?),
        "edges" => json_response(&known.edges(&EdgesQuestion::read(query)?).await?),
        "stat-inbound" => json_response(&known.stat_inbound(&RoutesQuestion::read(query)?).await?),
        "stat-outbound" => {
            json_response(&known.stat_outbound(&RoutesQuestion::read(query)?).await?)
        }
        "routes" => json_response(&known.routes(&RoutesQuestion::read(query)?).await?),
        "authz" => json_response(&known.authz(&AuthzQuestion::read(query)?).await?),
        "policies" => json_response(&known.policies(&AuthzQuestion::read(query)?)),
        "pods" => json_response(&known.pods(&PodsQuestion::read(query)?)),
        _ => json_response(&known.services(&PodsQuestion::read(query)?)),
    })
}

/// What [`statistics`] answers.
const STATISTICS: [&str; 10] = [
    "stat",
    "history",
    "edges",
    "stat-inbound",
    "stat-outbound",
    "routes",
    "authz",
    "policies",
    "pods",
    "services",
];

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}; {remedy}")]
pub struct ApiError {
    /// As the answer's status.
    pub status: StatusCode,
    /// What is wrong.
    pub message: String,
    /// What to do.
    pub remedy: String,
}

impl ApiError {
    /// An error.
    pub fn new(status: StatusCode, message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { status, message: message.into(), remedy: remedy.into() }
    }

    /// The question is wrong.
    pub fn bad(message: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message, remedy)
    }

    /// As an answer: `{"error": {"message": …, "remedy": …}}`.
    pub fn response(&self) -> Response {
        let Self { status, message, remedy } = self;
        let body = json!({"error": {"message": message, "remedy": remedy}});
        let mut response = json_response(&body);
        *response.status_mut() = *status;
        response
    }
}

impl From<InvalidQuery> for ApiError {
    fn from(invalid: InvalidQuery) -> Self {
        Self::bad(invalid.message, invalid.remedy)
    }
}

/// A value as an answer.
pub fn json_response(value: &impl Serialize) -> Response {
    let body = serde_json::to_vec(value).expect("what is answered has only strings for keys");
    let mut response = Response::new(Body::full(body));
    let kind = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
