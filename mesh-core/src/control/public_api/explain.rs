//! `GET /api/v1/explain?from=deploy/web&to=cart:80&path=/x`, or `?reference=ID`: what would become of a
//! request, or what a denial was, with every step and the objects that it follows from.

use ::http::StatusCode;

use super::query::Query;
use super::{ApiError, json_response};
use crate::control::explain::{Asked, ExplainError, Question, explain, explain_denial};
use crate::control::viz::Viz;
use crate::wire::http::Response;

const NAMES: [&str; 8] =
    ["from", "to", "namespace", "protocol", "method", "path", "header", "reference"];

pub(super) fn answer(viz: &Viz, query: &Query) -> Result<Response, ApiError> {
    query.only(&NAMES)?;
    let publisher = &viz.parts().publisher;
    if !publisher.is_synced() {
        let remedy = "ask again in a moment";
        return Err(ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the cluster has not been read yet",
            remedy,
        ));
    }
    let explained = match query.value("reference") {
        Some(reference) => {
            let id = reference.parse().map_err(|error| {
                ApiError::bad(format!("reference {reference:?}: {error}"), "give it as it was told")
            })?;
            publisher.read(|view| explain_denial(view, id))
        }
        None => {
            let question = question(query)?;
            publisher.read(|view| explain(view, &question))
        }
    };
    Ok(json_response(&explained?))
}

fn question(query: &Query) -> Result<Question, ApiError> {
    let needed = |name: &str| {
        let remedy = "give from and to, such as from=deploy/web&to=cart:80, or a reference";
        let value = query.value(name).map(ToString::to_string);
        value.ok_or_else(|| ApiError::bad(format!("{name} is missing"), remedy))
    };
    let request = Asked::read(
        query.value("protocol"),
        query.value("method"),
        query.value("path"),
        query.values("header"),
    )?;
    let namespace = query.value("namespace").map(ToString::to_string);
    Ok(Question { from: needed("from")?, to: needed("to")?, namespace, request })
}

impl From<ExplainError> for ApiError {
    fn from(error: ExplainError) -> Self {
        let text = error.to_string();
        let (message, remedy) = text.split_once("; ").unwrap_or((&text, "ask otherwise"));
        let status = match error {
            ExplainError::Unknown { .. } => StatusCode::NOT_FOUND,
            ExplainError::Port { .. } | ExplainError::Wrong(_) => StatusCode::BAD_REQUEST,
        };
        Self::new(status, message, remedy)
    }
}
