//! OpenTelemetry's protocol, as far as spans are sent: `TraceService/Export`, over this crate's own
//! HTTP/2. The messages are written here by hand: a proxy sends few of their fields.

use std::sync::Arc;

use http::Uri;
use http::uri::PathAndQuery;
use tonic::client::Grpc;
use tonic::{Request, Status};
use tonic_prost::ProstCodec;

use super::channel::Channel;
use super::client::{ApiError, ControlAddress, ControlObserver, origin};
use crate::model::span::{Span, SpanKind, SpanValue};
use crate::model::target::NameAddr;
use crate::runtime::Runtime;
use crate::time::WallTime;
use crate::wire::tls::Credentials;

const EXPORT: &str = "/opentelemetry.proto.collector.trace.v1.TraceService/Export";

/// A collector of spans. Clones share one HTTP/2 connection, as of
/// [`ControlClient`](super::client::ControlClient).
#[derive(Clone)]
pub struct SpanCollector {
    channel: Channel,
    origin: Uri,
}

impl SpanCollector {
    /// A collector that is not connected to yet.
    pub fn new(
        runtime: &Runtime,
        address: ControlAddress,
        credentials: Credentials,
        observer: Arc<dyn ControlObserver>,
    ) -> Self {
        Self {
            origin: origin(&address.authority),
            channel: Channel::new(runtime, address, credentials, Some(observer)),
        }
    }

    /// Where it is.
    pub fn address(&self) -> &NameAddr {
        &self.channel.address().authority
    }

    /// Sends spans of a resource (a process with its attributes); how many the collector did not
    /// want.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn export(
        &self,
        resource: &[(String, String)],
        spans: &[Span],
    ) -> Result<u64, ApiError> {
        let request = Request::new(Export::new(resource, spans));
        let mut grpc = Grpc::with_origin(self.channel.clone(), self.origin.clone());
        let ready: Result<(), Status> = grpc.ready().await;
        ready.map_err(ApiError::from_status)?;
        let codec: ProstCodec<Export, Exported> = ProstCodec::default();
        let answer = grpc.unary(request, PathAndQuery::from_static(EXPORT), codec).await;
        let answer = answer.map_err(ApiError::from_status)?.into_inner();
        let partly = answer.partial_success.unwrap_or_default();
        Ok(u64::try_from(partly.rejected).unwrap_or(0))
    }
}

/// `ExportTraceServiceRequest`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Export {
    #[prost(message, repeated, tag = "1")]
    pub(super) resource_spans: Vec<ResourceSpans>,
}

/// `ExportTraceServiceResponse`
#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct Exported {
    #[prost(message, optional, tag = "1")]
    partial_success: Option<PartialSuccess>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct PartialSuccess {
    #[prost(int64, tag = "1")]
    rejected: i64,
}

#[derive(Clone, PartialEq, prost::Message)]
pub(super) struct ResourceSpans {
    #[prost(message, optional, tag = "1")]
    resource: Option<Resource>,
    #[prost(message, repeated, tag = "2")]
    scope_spans: Vec<ScopeSpans>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Resource {
    #[prost(message, repeated, tag = "1")]
    attributes: Vec<Attribute>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct ScopeSpans {
    #[prost(message, optional, tag = "1")]
    scope: Option<Scope>,
    #[prost(message, repeated, tag = "2")]
    spans: Vec<SpanMessage>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct Scope {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(string, tag = "2")]
    version: String,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SpanMessage {
    #[prost(bytes = "vec", tag = "1")]
    trace_id: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    span_id: Vec<u8>,
    #[prost(string, tag = "3")]
    trace_state: String,
    #[prost(bytes = "vec", tag = "4")]
    parent_span_id: Vec<u8>,
    #[prost(string, tag = "5")]
    name: String,
    #[prost(int32, tag = "6")]
    kind: i32,
    #[prost(fixed64, tag = "7")]
    start_time_unix_nano: u64,
    #[prost(fixed64, tag = "8")]
    end_time_unix_nano: u64,
    #[prost(message, repeated, tag = "9")]
    attributes: Vec<Attribute>,
    #[prost(message, optional, tag = "15")]
    status: Option<SpanStatus>,
    #[prost(fixed32, tag = "16")]
    flags: u32,
}

#[derive(Clone, PartialEq, prost::Message)]
struct SpanStatus {
    #[prost(int32, tag = "3")]
    code: i32,
}

/// `KeyValue`
#[derive(Clone, PartialEq, prost::Message)]
struct Attribute {
    #[prost(string, tag = "1")]
    key: String,
    #[prost(message, optional, tag = "2")]
    value: Option<AnyValue>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct AnyValue {
    #[prost(oneof = "Value", tags = "1, 3")]
    value: Option<Value>,
}

#[derive(Clone, PartialEq, prost::Oneof)]
enum Value {
    #[prost(string, tag = "1")]
    Text(String),
    #[prost(int64, tag = "3")]
    Number(i64),
}

/// `SPAN_KIND_SERVER`
const SERVER: i32 = 2;
/// `SPAN_KIND_CLIENT`
const CLIENT: i32 = 3;
/// `STATUS_CODE_ERROR`
const ERROR: i32 = 2;
/// W3C's flag of a trace that is recorded, and that the parent is known to be another process's.
const SAMPLED_OF_REMOTE_PARENT: u32 = 0x301;

impl Export {
    fn new(resource: &[(String, String)], spans: &[Span]) -> Self {
        let attribute =
            |(key, text): &(String, String)| Attribute::new(key, Value::Text(text.clone()));
        let resource = Resource { attributes: resource.iter().map(attribute).collect() };
        let scope = Scope { name: "weft-proxy".into(), version: env!("CARGO_PKG_VERSION").into() };
        let spans = spans.iter().map(SpanMessage::new).collect();
        let scope_spans = vec![ScopeSpans { scope: Some(scope), spans }];
        Self { resource_spans: vec![ResourceSpans { resource: Some(resource), scope_spans }] }
    }
}

impl Attribute {
    fn new(key: &str, value: Value) -> Self {
        Self { key: key.to_string(), value: Some(AnyValue { value: Some(value) }) }
    }
}

impl SpanMessage {
    fn new(span: &Span) -> Self {
        let attribute = |(key, value): &(&'static str, SpanValue)| {
            let value = match value {
                SpanValue::Text(text) => Value::Text(text.clone()),
                SpanValue::Number(number) => Value::Number(*number),
            };
            Attribute::new(key, value)
        };
        Self {
            trace_id: span.trace.as_bytes().to_vec(),
            span_id: span.id.as_bytes().to_vec(),
            trace_state: span.state.clone(),
            parent_span_id: span.parent.map_or_else(Vec::new, |id| id.as_bytes().to_vec()),
            name: span.name.clone(),
            kind: match span.kind {
                SpanKind::Server => SERVER,
                SpanKind::Client => CLIENT,
            },
            start_time_unix_nano: nanos(span.began),
            end_time_unix_nano: nanos(span.ended),
            attributes: span.attributes.iter().map(attribute).collect(),
            status: span.is_failure.then_some(SpanStatus { code: ERROR }),
            flags: if span.parent.is_some() { SAMPLED_OF_REMOTE_PARENT } else { 1 },
        }
    }
}

fn nanos(at: WallTime) -> u64 {
    u64::try_from(at.as_duration().as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
pub(crate) mod testing {
    //! What a collector reads.

    use prost::Message as _;

    use super::{AnyValue, Attribute, Export, SERVER, Value};

    /// Spans as lines: the service, which end, the name, the identities of trace, span and parent,
    /// and the attributes. `message` is a gRPC message with its prefix.
    pub(crate) fn lines(message: &[u8]) -> Vec<String> {
        let export = Export::decode(&message[5..]).unwrap();
        let mut lines = Vec::new();
        for of_resource in export.resource_spans {
            let resource = of_resource.resource.unwrap().attributes;
            let resource: Vec<_> = resource.iter().map(text).collect();
            for span in of_resource.scope_spans.into_iter().flat_map(|of_scope| of_scope.spans) {
                let kind = if span.kind == SERVER { "server" } else { "client" };
                let attributes: Vec<_> = span.attributes.iter().map(text).collect();
                let took = span.end_time_unix_nano - span.start_time_unix_nano;
                lines.push(format!(
                    "{} | {kind} {} {}/{}<-{} {}ms{} | {}",
                    resource.join(" "),
                    span.name,
                    hex(&span.trace_id),
                    hex(&span.span_id),
                    hex(&span.parent_span_id),
                    took / 1_000_000,
                    span.status.map_or("", |_| " failed"),
                    attributes.join(" ")
                ));
            }
        }
        lines
    }

    fn text(attribute: &Attribute) -> String {
        let AnyValue { value } = attribute.value.clone().unwrap();
        match value.unwrap() {
            Value::Text(text) => format!("{}={text}", attribute.key),
            Value::Number(number) => format!("{}={number}", attribute.key),
        }
    }

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}
