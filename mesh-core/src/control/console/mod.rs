//! The console: the mesh as pages for people, made by the server.

use ::http::header::CONTENT_TYPE;
use ::http::{HeaderValue, StatusCode};

use super::viz::Viz;
use crate::wire::http::{Body, Request, Response};

/// Answers a request for a page.
pub(super) async fn answer(viz: &Viz, request: Request) -> Response {
    let (status, text) = match request.uri().path() {
        "/" => {
            let namespace = &viz.parts().mesh.control_namespace;
            (StatusCode::OK, format!("weft, with its control plane in {namespace}\n"))
        }
        path => (StatusCode::NOT_FOUND, format!("there is no page {path}\n")),
    };
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = status;
    let kind = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, kind);
    response
}
