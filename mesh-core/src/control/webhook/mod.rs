//! The webhooks: what an API server asks before it stores something. One HTTPS listener a process;
//! `mutate` gives pods a sidecar, [`validate`] refuses resources that make no sense.
//!
//! Law: every question is answered in less time than an API server waits, and what cannot be read is
//! answered with the reason. A review that is malformed harms nobody but itself.

pub mod certificate;
mod counters;
mod keep;
mod mutate;
#[cfg(test)]
mod tests;
pub mod validate;
#[cfg(test)]
mod validate_tests;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{ALLOW, CONTENT_TYPE};
use ::http::{HeaderValue, Method, StatusCode};
use tokio::sync::Semaphore;

use crate::model::identity::{DnsName, Identity, ServerTls};
use crate::model::protocol::HttpVersion;
use crate::resource::Kind;
use crate::runtime::cluster::WebhookKind;
use crate::runtime::{BoxFuture, Connection, Listener, Runtime};
use crate::wire::drain::DrainWatch;
use crate::wire::http::server::{ServerOptions, serve};
use crate::wire::http::{Body, Request, Response, Service};
use crate::wire::tls::credentials::Credentials;
use crate::wire::tls::server::accept;

use super::ControlError;
use super::config::MeshConfig;
use super::metrics::ControlMetrics;
use super::publish::Publisher;
use super::review::{self, REVIEW_BYTES_MAX, ReviewError};
use super::serve::next_connection;

use keep::Keeper;
use mutate::Injector;
use validate::Checked;

pub use counters::AdmissionCounters;

/// Connections at once; an API server has few and keeps them. Beyond, they wait to be accepted.
const CONNECTIONS_MAX: usize = 256;
/// Reviews that are worked on at once, each of at most [`REVIEW_BYTES_MAX`]: 64 MiB. Others wait.
const REVIEWS_MAX: usize = 16;
/// An API server waits 10 s where its configuration says nothing.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(8);
/// How long a review's body may take.
const BODY_TIMEOUT: Duration = Duration::from_secs(3);
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(5);
/// Between two looks at an index that is still being filled.
const SYNC_INTERVAL: Duration = Duration::from_millis(50);

/// What the injector must know of a cluster, where nothing else is followed.
pub(super) const INJECTOR_KINDS: [Kind; 3] = [Kind::Namespace, Kind::ReplicaSet, Kind::Job];

/// What a process's webhooks are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookConfig {
    /// Where they are served (8443).
    pub listen: SocketAddr,
    /// Pods and services are changed as they are made (`/mutate`), with the installation's values
    /// from this file.
    pub values: Option<PathBuf>,
    /// The trust anchors that sidecars begin with are this file's, where it is there: whoever keeps
    /// it may change them. Else they are the values'.
    pub trust_roots: Option<PathBuf>,
    /// Resources of the mesh are checked before they are stored (`/validate/policy`,
    /// `/validate/profile`).
    pub validates: bool,
}

impl WebhookConfig {
    /// The services that API servers reach these webhooks by.
    fn services(&self) -> Vec<&'static str> {
        let mut services = Vec::new();
        if self.values.is_some() {
            services.push("linkerd-proxy-injector");
        }
        if self.validates {
            services.extend(["linkerd-policy-validator", "linkerd-sp-validator"]);
        }
        services
    }

    /// The Secret that replicas share their certificate by.
    fn secret(&self) -> String {
        let service = self.services().first().copied().unwrap_or("linkerd-webhook");
        format!("{service}-k8s-tls")
    }

    /// The configurations that say whose certificate is to be trusted.
    fn configurations(&self) -> Vec<(WebhookKind, String)> {
        let kind = |service: &str| match service {
            "linkerd-proxy-injector" => WebhookKind::Mutating,
            _ => WebhookKind::Validating,
        };
        let services = self.services().into_iter();
        services.map(|service| (kind(service), format!("{service}-webhook-config"))).collect()
    }

    /// The names that the certificate has.
    pub(super) fn names(&self, mesh: &MeshConfig) -> Result<Vec<DnsName>, ControlError> {
        let MeshConfig { control_namespace, cluster_domain, .. } = mesh;
        let named = self.services().into_iter().flat_map(|service| {
            let short = format!("{service}.{control_namespace}.svc");
            [short.clone(), format!("{short}.{cluster_domain}")]
        });
        let name = |name: String| {
            let wrong = |_| ControlError::Mesh(format!("{name:?} is no DNS name"));
            DnsName::new(&name).map_err(wrong)
        };
        named.map(name).collect()
    }
}

/// A process's webhooks. Cloning shares them.
#[derive(Clone)]
pub(super) struct Webhook(Arc<Shared>);

struct Shared {
    runtime: Runtime,
    publisher: Publisher,
    injector: Option<Injector>,
    validates: bool,
    credentials: Credentials,
    keeper: Keeper,
    reviews: Semaphore,
    connections: Arc<Semaphore>,
    options: ServerOptions,
    metrics: Arc<ControlMetrics>,
}

impl Webhook {
    pub(super) fn new(
        runtime: &Runtime,
        config: &WebhookConfig,
        mesh: &MeshConfig,
        publisher: Publisher,
        metrics: Arc<ControlMetrics>,
    ) -> Result<Self, ControlError> {
        let names = config.names(mesh)?;
        let Some(server_name) = names.first().cloned() else {
            return Err(ControlError::Mesh("a webhook without anything to do".to_string()));
        };
        let local = ServerTls { identity: Identity::Dns(server_name.clone()), server_name };
        let credentials = Credentials::new(runtime, local);
        let keeper = Keeper {
            runtime: runtime.clone(),
            credentials: credentials.clone(),
            namespace: mesh.control_namespace.clone(),
            secret: config.secret(),
            configurations: config.configurations(),
            names,
            metrics: metrics.clone(),
        };
        let injector = config.values.as_ref().map(|values| {
            let files = (values.clone(), config.trust_roots.clone());
            Injector::new(runtime, files, publisher.clone(), metrics.clone())
        });
        Ok(Self(Arc::new(Shared {
            runtime: runtime.clone(),
            publisher,
            injector,
            validates: config.validates,
            credentials,
            keeper,
            reviews: Semaphore::new(REVIEWS_MAX),
            connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)),
            options: ServerOptions {
                idle_timeout: Some(Duration::from_secs(300)),
                ..ServerOptions::default()
            },
            metrics,
        })))
    }

    /// Why pods cannot be given sidecars yet; nothing where they can. Resources that cannot be checked
    /// are no reason: what is served beside the webhook does not depend on it.
    pub(super) fn unready(&self) -> Option<&'static str> {
        let injector = self.0.injector.as_ref()?;
        let is_listed = self.0.publisher.has_listed(Kind::Namespace);
        match (self.0.credentials.is_ready(), injector.is_ready(), is_listed) {
            (false, ..) => Some("the webhook has no certificate yet"),
            (_, false, _) => Some("the installation's values cannot be read"),
            (.., false) => Some("the cluster's namespaces have not been listed"),
            (true, true, true) => None,
        }
    }

    /// Serves every connection of a listener until the drain begins, and keeps the certificate and
    /// the values good.
    pub(super) async fn serve(self, listener: Box<dyn Listener>, drain: DrainWatch) {
        let shared = &self.0;
        let keeping = shared.keeper.clone().keep();
        let _keeping = shared.runtime.spawn_guarded("webhook certificate", keeping);
        let _following = shared.injector.clone().map(|injector| {
            shared.runtime.spawn_guarded("webhook values", injector.follow_values())
        });
        loop {
            let open = tokio::select! {
                biased;
                () = drain.draining() => return,
                open = shared.connections.clone().acquire_owned() => open,
            };
            let Some(connection) = next_connection(&shared.runtime, &*listener, &drain).await
            else {
                return;
            };
            let (webhook, drain) = (self.clone(), drain.clone());
            shared.runtime.spawn("webhook connection", async move {
                let _open = open;
                webhook.serve_connection(connection, drain).await;
            });
        }
    }

    async fn serve_connection(&self, connection: Connection, drain: DrainWatch) {
        let Shared { runtime, credentials, options, metrics, .. } = &*self.0;
        let peer = connection.peer;
        let handshake = accept(connection.io, credentials, &[b"h2", b"http/1.1"]);
        let session = match runtime.timeout(HANDSHAKE_TIMEOUT, handshake).await {
            Ok(Ok(session)) => session,
            failed => {
                metrics.handshake_errors.increment();
                let error = match failed {
                    Ok(Err(error)) => error.to_string(),
                    _ => "timed out".to_string(),
                };
                tracing::debug!(%peer, error, "TLS handshake of a webhook failed");
                return;
            }
        };
        let version = match session.alpn.as_deref() {
            Some(b"h2") => HttpVersion::Http2,
            _ => HttpVersion::Http1,
        };
        let service = Arc::new(self.clone());
        if let Err(error) = serve(runtime, session.io, version, options, service, drain).await {
            tracing::debug!(%peer, %error, "webhook connection ended");
        }
    }

    async fn answer(self, request: Request) -> Response {
        let asked = match self.asked(request.uri().path()) {
            Some(asked) => asked,
            None => return text(StatusCode::NOT_FOUND, "there is no such webhook here\n"),
        };
        if *request.method() != Method::POST {
            let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "use POST\n");
            response.headers_mut().insert(ALLOW, HeaderValue::from_static("POST"));
            return response;
        }
        let runtime = &self.0.runtime;
        match runtime.timeout(ANSWER_TIMEOUT, self.review(asked, request.into_body())).await {
            Ok(response) => response,
            Err(_) => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "not answered in time: too many reviews, or the cluster's objects are not listed\n",
            ),
        }
    }

    /// Which webhook a path is, where this process serves it.
    fn asked(&self, path: &str) -> Option<Asked> {
        match path {
            "/mutate" if self.0.injector.is_some() => Some(Asked::Mutate),
            "/validate/policy" if self.0.validates => Some(Asked::Validate(Checked::Policy)),
            "/validate/profile" if self.0.validates => Some(Asked::Validate(Checked::Profile)),
            _ => None,
        }
    }

    async fn review(&self, asked: Asked, body: Body) -> Response {
        let Shared { runtime, publisher, injector, reviews, metrics, .. } = &*self.0;
        // Never closed.
        let _turn = reviews.acquire().await;
        let body = match runtime.timeout(BODY_TIMEOUT, body.read_to_end(REVIEW_BYTES_MAX)).await {
            Ok(Ok(body)) => body,
            Ok(Err(crate::wire::http::Error::TooLarge(_))) => {
                let fault = format!("the review has more than {REVIEW_BYTES_MAX} bytes\n");
                return text(StatusCode::PAYLOAD_TOO_LARGE, &fault);
            }
            Ok(Err(error)) => return text(StatusCode::BAD_REQUEST, &format!("{error}\n")),
            Err(_) => return text(StatusCode::REQUEST_TIMEOUT, "the review did not come whole\n"),
        };
        let request = match review::Request::read(&body) {
            Ok(request) => request,
            Err(error) => return malformed(&error),
        };
        // Before, a pod would miss a sidecar that its namespace asks for.
        let is_synced = || match asked {
            Asked::Mutate => publisher.has_listed(Kind::Namespace),
            Asked::Validate(_) => publisher.is_synced(),
        };
        while !is_synced() {
            runtime.sleep(SYNC_INTERVAL).await;
        }
        match (asked, injector) {
            (Asked::Mutate, Some(injector)) => match injector.answer(&request).await {
                Ok(review) => json(review),
                Err(fault) => text(StatusCode::SERVICE_UNAVAILABLE, &format!("{fault}\n")),
            },
            (Asked::Validate(checked), _) => {
                let response = publisher.read(|view| validate::judge(&request, checked, view));
                metrics.admission.validated(checked, response.is_allowed());
                json(response.review())
            }
            (Asked::Mutate, None) => text(StatusCode::NOT_FOUND, "there is no injector here\n"),
        }
    }
}

#[derive(Clone, Copy)]
enum Asked {
    Mutate,
    Validate(Checked),
}

impl Service for Webhook {
    fn call(&self, request: Request) -> BoxFuture<'static, Response> {
        Box::pin(self.clone().answer(request))
    }
}

fn malformed(error: &ReviewError) -> Response {
    tracing::warn!(%error, "a review was not understood");
    text(StatusCode::BAD_REQUEST, &format!("{error}\n"))
}

fn json(review: Vec<u8>) -> Response {
    let mut response = Response::new(Body::full(review));
    let json = HeaderValue::from_static("application/json");
    response.headers_mut().insert(CONTENT_TYPE, json);
    response
}

fn text(status: StatusCode, text: &str) -> Response {
    let mut response = Response::new(Body::full(text.to_string()));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(CONTENT_TYPE, plain);
    response
}
