//! Spans of requests: begun where a request comes, ended where its response is over, and sent to a
//! collector in batches. Absent where no collector is set; then a request costs one comparison.
//!
//! Law: each span that was begun is queued once, however its request ends; no request waits for a
//! collector.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use http::header::{self, HeaderName};
use http::{StatusCode, Version};

use super::config::Tracing;
use super::control_talk;
use crate::api::client::ApiError;
use crate::api::otlp::SpanCollector;
use crate::model::span::{Span, SpanId, SpanKind, SpanValue, TraceId};
use crate::runtime::{Clock, Runtime};
use crate::telemetry::Telemetry;
use crate::telemetry::labels::VALUE_BYTES_MAX;
use crate::telemetry::metrics::StreamError;
use crate::telemetry::spans::{SpanLoss, SpanMetrics, SpanQueue};
use crate::telemetry::trace_context::{self, TraceContext};
use crate::time::Timestamp;
use crate::traffic::classify::{Class, is_grpc};
use crate::wire::http::Request;
use crate::wire::tls::Credentials;

/// Longest time that a span waits to be sent, as in Linkerd.
const BATCH_DELAY: Duration = Duration::from_secs(10);

/// For one batch to be answered.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(10);

/// How often one batch is sent to a collector that cannot be reached; waits between grow to 5 s.
const EXPORT_ATTEMPTS_MAX: usize = 3;

/// Bytes of a file of attributes that are read.
const ATTRIBUTES_BYTES_MAX: usize = 64 * 1024;

/// Attributes of this process that are sent.
const ATTRIBUTES_MAX: usize = 128;

/// Parameters of a query whose values are secrets, in lower case.
const SECRETS: [&str; 14] = [
    "access_token",
    "api_key",
    "apikey",
    "awsaccesskeyid",
    "client_secret",
    "id_token",
    "password",
    "secret",
    "sig",
    "signature",
    "token",
    "x-amz-security-token",
    "x-amz-signature",
    "x-goog-signature",
];

/// Begins spans.
pub struct Tracer {
    runtime: Runtime,
    queue: Arc<SpanQueue>,
    root_ratio: f64,
}

/// Begins a request's span, where there is a tracer and the request's trace is recorded: the span
/// is the parent of what comes after. `client`: who sent it, where that is worth telling.
pub fn begin(
    tracer: &Option<Arc<Tracer>>,
    kind: SpanKind,
    request: &mut Request,
    client: Option<SocketAddr>,
) -> Option<Box<OpenSpan>> {
    tracer.as_ref()?.begin(kind, request, client)
}

impl Tracer {
    fn begin(
        &self,
        kind: SpanKind,
        request: &mut Request,
        client: Option<SocketAddr>,
    ) -> Option<Box<OpenSpan>> {
        let id = SpanId::of_random(self.random());
        let (trace, parent) = match TraceContext::read(request.headers()) {
            Some(context) if !context.is_sampled => return None,
            Some(context) => {
                context.go_on(id, request.headers_mut());
                (context.trace, Some(context.parent))
            }
            None => (self.begin_trace(id, request)?, None),
        };
        let clock = &self.runtime.clock;
        let wall = clock.wall();
        let span = Span {
            trace,
            id,
            parent,
            state: trace_context::state(request.headers()),
            name: name(request),
            kind,
            began: wall,
            ended: wall,
            attributes: attributes(request, client),
            is_failure: false,
        };
        Some(Box::new(OpenSpan {
            queue: self.queue.clone(),
            clock: clock.clone(),
            began: clock.now(),
            is_grpc: is_grpc(request.headers()),
            span: Some(span),
        }))
    }

    /// A trace that begins here, if it is to be recorded. The request says so either way: whether a
    /// trace is recorded is decided once.
    #[cold]
    fn begin_trace(&self, id: SpanId, request: &mut Request) -> Option<TraceId> {
        if self.root_ratio <= 0.0 {
            return None;
        }
        let trace = TraceId::of_random(self.random());
        let is_sampled = trace_context::is_wanted(trace, self.root_ratio);
        TraceContext { trace, parent: id, is_sampled }.begin(request.headers_mut());
        is_sampled.then_some(trace)
    }

    fn random<const N: usize>(&self) -> [u8; N] {
        let mut bytes = [0; N];
        self.runtime.entropy.fill(&mut bytes);
        bytes
    }
}

/// A request's span. Dropped before it was ended, the request was given up.
pub struct OpenSpan {
    queue: Arc<SpanQueue>,
    clock: Arc<dyn Clock>,
    began: Timestamp,
    is_grpc: bool,
    /// None once queued.
    span: Option<Span>,
}

impl OpenSpan {
    /// The response is over.
    pub fn ended(
        mut self,
        at: Timestamp,
        status: Option<StatusCode>,
        class: Class,
        error: Option<StreamError>,
    ) {
        let is_grpc = self.is_grpc;
        self.queue(at, |span| {
            let is_refused = span.kind == SpanKind::Client
                && status.is_some_and(|status| status.is_client_error());
            span.is_failure = class.is_failure || is_refused;
            if let Some(status) = status {
                let code = i64::from(status.as_u16());
                span.attributes.push(("http.response.status_code", SpanValue::Number(code)));
            }
            if let Some(code) = class.grpc_status.filter(|_| is_grpc) {
                span.attributes.push(("rpc.grpc.status_code", SpanValue::Number(code.into())));
            }
            let kind = match (error, class.grpc_status.filter(|_| is_grpc), status) {
                (Some(error), ..) => Some(error.as_str().to_string()),
                _ if !span.is_failure => None,
                (_, Some(code), _) => Some(code.to_string()),
                (.., status) => status.map(|status| status.as_u16().to_string()),
            };
            span.attributes.extend(kind.map(|kind| ("error.type", SpanValue::Text(kind))));
        });
    }

    /// This proxy answered itself, with a status and a reason.
    pub fn refused(self, status: StatusCode, error: StreamError) {
        let at = self.clock.now();
        self.ended(at, Some(status), Class::BROKEN, Some(error));
    }

    fn queue(&mut self, at: Timestamp, complete: impl FnOnce(&mut Span)) {
        let Some(mut span) = self.span.take() else { return };
        span.ended = span.began + at.since(self.began);
        complete(&mut span);
        self.queue.push(span);
    }
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        let at = self.clock.now();
        self.queue(at, |span| {
            let canceled = StreamError::Cancel.as_str().to_string();
            span.is_failure = true;
            span.attributes.push(("error.type", SpanValue::Text(canceled)));
        });
    }
}

/// gRPC's method, else HTTP's: a path has too many values.
fn name(request: &Request) -> String {
    match is_grpc(request.headers()) {
        true => cut(request.uri().path().trim_start_matches('/')),
        false => request.method().as_str().to_string(),
    }
}

fn attributes(request: &Request, client: Option<SocketAddr>) -> Vec<(&'static str, SpanValue)> {
    let text = |text: &str| SpanValue::Text(cut(text));
    let told = |name: HeaderName| request.headers().get(name).and_then(|value| value.to_str().ok());
    let uri = request.uri();
    let authority = uri.authority().map(|authority| authority.as_str());
    let authority = authority.or_else(|| told(header::HOST)).unwrap_or_default();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let url = url(uri.scheme_str().unwrap_or("http"), authority, path);
    let version = match request.version() {
        Version::HTTP_2 => "2",
        Version::HTTP_10 => "1.0",
        _ => "1.1",
    };
    let mut attributes = vec![
        ("http.request.method", text(request.method().as_str())),
        ("url.full", text(&url)),
        ("network.transport", text("tcp")),
        ("network.protocol.name", text("http")),
        ("network.protocol.version", text(version)),
    ];
    let host = authority.rsplit('@').next().unwrap_or_default();
    attributes.push(("server.address", text(host)));
    if let Some(client) = client {
        attributes.push(("client.address", text(&client.ip().to_string())));
    }
    if let Some(agent) = told(header::USER_AGENT) {
        attributes.push(("user_agent.original", text(agent)));
    }
    attributes
}

/// A whole URL without its secrets.
fn url(scheme: &str, authority: &str, path_and_query: &str) -> String {
    let host = match authority.rsplit_once('@') {
        Some((user, host)) if user.contains(':') => format!("REDACTED:REDACTED@{host}"),
        Some((_, host)) => format!("REDACTED@{host}"),
        None => authority.to_string(),
    };
    let Some((path, query)) = path_and_query.split_once('?') else {
        return format!("{scheme}://{host}{path_and_query}");
    };
    let redacted = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) if SECRETS.contains(&name.to_ascii_lowercase().as_str()) => {
            format!("{name}=REDACTED")
        }
        _ => pair.to_string(),
    });
    format!("{scheme}://{host}{path}?{}", redacted.collect::<Vec<_>>().join("&"))
}

fn cut(text: &str) -> String {
    text[..text.floor_char_boundary(VALUE_BYTES_MAX)].to_string()
}

/// Sends what tracers queue.
pub struct Exporter {
    runtime: Runtime,
    collector: SpanCollector,
    queue: Arc<SpanQueue>,
    metrics: Arc<SpanMetrics>,
    attributes: Vec<(String, String)>,
}

/// A tracer, and what sends its spans.
pub async fn open(
    runtime: &Runtime,
    config: &Tracing,
    credentials: &Credentials,
    telemetry: &Arc<Telemetry>,
) -> (Arc<Tracer>, Arc<Exporter>) {
    let address = config.collector.clone();
    let observer = control_talk::observer("trace-collector", &address, telemetry);
    let queue = Arc::new(SpanQueue::new(&telemetry.spans));
    let tracer =
        Tracer { runtime: runtime.clone(), queue: queue.clone(), root_ratio: config.root_ratio };
    let exporter = Exporter {
        runtime: runtime.clone(),
        collector: SpanCollector::new(runtime, address, credentials.clone(), observer),
        queue,
        metrics: telemetry.spans.clone(),
        attributes: process_attributes(runtime, config).await,
    };
    (Arc::new(tracer), Arc::new(exporter))
}

/// What this process says of itself: the service's name, then labels of the pod, then what
/// variables say; of one name the last counts.
async fn process_attributes(runtime: &Runtime, config: &Tracing) -> Vec<(String, String)> {
    let mut attributes = vec![("service.name".to_string(), config.service_name.clone())];
    if let Some(path) = &config.attributes_path {
        attributes.extend(read_attributes(runtime, path).await);
    }
    attributes.extend(config.attributes.iter().cloned());
    let mut last: Vec<(String, String)> = Vec::new();
    for (name, value) in attributes {
        match last.iter().position(|(known, _)| *known == name) {
            Some(at) => last[at].1 = value,
            None if last.len() < ATTRIBUTES_MAX => last.push((name, value)),
            None => {}
        }
    }
    last
}

async fn read_attributes(runtime: &Runtime, path: &Path) -> Vec<(String, String)> {
    match runtime.files.read(path, ATTRIBUTES_BYTES_MAX).await {
        Ok(bytes) => super::config::attribute_lines(&String::from_utf8_lossy(&bytes)),
        Err(error) => {
            tracing::warn!(path = %path.display(), %error, "cannot read attributes of spans");
            Vec::new()
        }
    }
}

impl Exporter {
    /// Sends batches, for ever.
    pub async fn run(self: Arc<Self>) {
        let mut is_down = false;
        loop {
            tokio::select! {
                biased;
                () = self.queue.is_batch() => {}
                () = self.runtime.sleep(BATCH_DELAY) => {}
            }
            is_down = self.send_waiting(is_down).await;
        }
    }

    /// Sends what waits; whether the collector could not be reached. `was_down`: as of the time
    /// before, so that trouble is told once.
    pub async fn send_waiting(&self, was_down: bool) -> bool {
        let mut is_down = was_down;
        loop {
            let batch = self.queue.take();
            if batch.is_empty() {
                return is_down;
            }
            match self.send(&batch).await {
                Ok(rejected) => {
                    if std::mem::take(&mut is_down) {
                        tracing::info!("the collector of spans is back");
                    }
                    let rejected = batch.len().min(usize::try_from(rejected).unwrap_or(usize::MAX));
                    self.metrics.exported(batch.len() - rejected);
                    self.metrics.lost(SpanLoss::Rejected, rejected);
                }
                Err((why, error)) => {
                    if !std::mem::replace(&mut is_down, true) {
                        let collector = self.collector.address();
                        tracing::warn!(%collector, %error, "spans are lost");
                    }
                    self.metrics.lost(why, batch.len());
                }
            }
        }
    }

    async fn send(&self, batch: &[Span]) -> Result<u64, (SpanLoss, ApiError)> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            self.metrics.requested();
            let export = self.collector.export(&self.attributes, batch);
            let error = match self.runtime.timeout(EXPORT_TIMEOUT, export).await {
                Ok(Ok(rejected)) => return Ok(rejected),
                Ok(Err(error)) => error,
                Err(elapsed) => ApiError::Unavailable(elapsed.to_string()),
            };
            match error {
                ApiError::Unavailable(_) if attempts < EXPORT_ATTEMPTS_MAX => {}
                ApiError::Unavailable(_) => return Err((SpanLoss::Unreachable, error)),
                _ => return Err((SpanLoss::Rejected, error)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_told_without_their_secrets() {
        let secrets = "/a/b?x=1&sig=abc&Token=t&tokens=u&X-Amz-Signature=v&flag";
        insta::assert_snapshot!(url("http", "me:secret@web:80", secrets), @"http://REDACTED:REDACTED@web:80/a/b?x=1&sig=REDACTED&Token=REDACTED&tokens=u&X-Amz-Signature=REDACTED&flag");
        insta::assert_snapshot!(url("https", "me@web", "/"), @"https://REDACTED@web/");
        insta::assert_snapshot!(url("http", "web.ns", "/?"), @"http://web.ns/?");
    }

    #[test]
    fn long_texts_are_cut_between_characters() {
        assert_eq!(cut("short"), "short");
        let long = format!("{}é", "a".repeat(VALUE_BYTES_MAX - 1));
        assert_eq!(cut(&long).len(), VALUE_BYTES_MAX - 1);
    }
}
