//! The control plane's admin port: `/metrics`, `/ready`, `/live` in plain HTTP/1.

use std::sync::Arc;

use ::http::header::{ACCEPT, ALLOW, CONTENT_TYPE};
use ::http::{HeaderMap, HeaderValue, Method, StatusCode};

use crate::model::protocol::HttpVersion;
use crate::runtime::{BoxFuture, Clock, Listener, Runtime};
use crate::telemetry::format::Format;
use crate::wire::drain::DrainWatch;
use crate::wire::http::server::{ServerOptions, serve};
use crate::wire::http::{Body, Request, Response, Service};

use super::identity::IdentityIssuer;
use super::metrics::{ControlMetrics, IndexFigures};
use super::publish::Publisher;
use super::serve::next_connection;
use super::webhook::Webhook;

/// What the admin port shows.
#[derive(Clone)]
pub(super) struct Admin {
    /// Where destinations and policies are served.
    pub(super) publisher: Option<Publisher>,
    /// Where certificates are.
    pub(super) issuer: Option<IdentityIssuer>,
    /// Where pods get their sidecars, or resources are checked.
    pub(super) webhook: Option<Webhook>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<ControlMetrics>,
}

impl Admin {
    /// Serves every connection of a listener until the drain begins.
    pub(super) async fn accept_loop(
        self,
        runtime: Runtime,
        listener: Box<dyn Listener>,
        drain: DrainWatch,
    ) {
        let service: Arc<dyn Service> = Arc::new(self);
        while let Some(connection) = next_connection(&runtime, &*listener, &drain).await {
            let (of_task, service, drain) = (runtime.clone(), service.clone(), drain.clone());
            runtime.spawn("control admin connection", async move {
                let options = ServerOptions::default();
                let (io, version) = (connection.io, HttpVersion::Http1);
                if let Err(error) = serve(&of_task, io, version, &options, service, drain).await {
                    tracing::debug!(peer = %connection.peer, %error, "admin connection ended");
                }
            });
        }
    }

    fn answer(&self, request: &Request) -> Response {
        if !matches!(*request.method(), Method::GET | Method::HEAD) {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "use GET\n".to_string());
            let headers = response.headers_mut();
            headers.insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
            return response;
        }
        match request.uri().path() {
            "/metrics" => self.metrics(request.headers()),
            "/ready" => match self.unready() {
                None => text(StatusCode::OK, "ready\n".to_string()),
                Some(reason) => {
                    text(StatusCode::SERVICE_UNAVAILABLE, format!("not ready: {reason}\n"))
                }
            },
            "/live" => text(StatusCode::OK, "live\n".to_string()),
            "/ping" => text(StatusCode::OK, "pong\n".to_string()),
            _ => text(StatusCode::NOT_FOUND, "/metrics /ready /live\n".to_string()),
        }
    }
}

impl Admin {
    fn metrics(&self, headers: &HeaderMap) -> Response {
        let accept = headers.get(ACCEPT).and_then(|value| value.to_str().ok());
        let format = accept.map_or(Format::Text, Format::negotiate);
        let authority = self.issuer.as_ref().map(IdentityIssuer::authority);
        let index = self.publisher.as_ref().map(|publisher| IndexFigures {
            objects: publisher.objects(),
            conditions: publisher.condition_counts(),
            is_synced: publisher.is_synced(),
        });
        let (index, authority) = (index.as_ref(), authority.as_deref());
        let now = self.clock.wall();
        let mut response = text(StatusCode::OK, self.metrics.render(format, index, authority, now));
        let content_type = HeaderValue::from_static(format.content_type());
        response.headers_mut().insert(CONTENT_TYPE, content_type);
        response
    }

    /// Why it is not ready; nothing where it is.
    fn unready(&self) -> Option<&'static str> {
        if !self.publisher.as_ref().is_none_or(Publisher::is_synced) {
            return Some("the cluster's objects have not all been listed");
        }
        self.webhook.as_ref().and_then(Webhook::unready)
    }
}

impl Service for Admin {
    fn call(&self, request: Request) -> BoxFuture<'static, Response> {
        let response = self.answer(&request);
        Box::pin(std::future::ready(response))
    }
}

fn text(status: StatusCode, text: String) -> Response {
    let mut response = Response::new(Body::full(text));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}
