//! One line for each inbound request, as Apache's common log or as JSON. Writes to a sink that the
//! runtime gives.
//!
//! Law: of a request's headers, only these are ever logged: host, user-agent, content-length and
//! the trace id. A line is one line whatever a client sends.

use std::fmt::{self, Write};
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use http::header::{CONTENT_LENGTH, HOST, USER_AGENT};
use http::{HeaderMap, StatusCode};
use serde::Serialize;

use crate::model::identity::Identity;
use crate::time::WallTime;

/// Bytes of a value that are logged; the rest is cut off.
pub const VALUE_BYTES_MAX: usize = 4096;

/// How lines look (`LINKERD2_PROXY_ACCESS_LOG`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum AccessLogFormat {
    /// `client-address client-identity - [time] "method uri version" status response-bytes`.
    Apache,
    /// A JSON object.
    Json,
}

/// A text that names no format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not an access log format; use `apache` or `json`")]
pub struct InvalidAccessLogFormat(pub String);

impl FromStr for AccessLogFormat {
    type Err = InvalidAccessLogFormat;

    fn from_str(text: &str) -> Result<Self, InvalidAccessLogFormat> {
        match text {
            "apache" => Ok(Self::Apache),
            "json" => Ok(Self::Json),
            other => Err(InvalidAccessLogFormat(other.to_string())),
        }
    }
}

/// Takes a line, without its end.
pub type AccessLogSink = Arc<dyn Fn(&str) + Send + Sync>;

/// Writes the log. Cloning shares the sink.
#[derive(Clone)]
pub struct AccessLog {
    format: AccessLogFormat,
    sink: AccessLogSink,
}

/// What is logged of a request, taken before it is changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessRequest {
    client_addr: SocketAddr,
    client_id: Option<Identity>,
    received: WallTime,
    method: String,
    uri: String,
    version: &'static str,
    trace_id: String,
    request_bytes: String,
    user_agent: String,
    host: String,
}

/// What is logged of a response, at its head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AccessResponse {
    /// The status.
    pub status: StatusCode,
    /// Its `content-length`; empty where there is none.
    pub response_bytes: String,
    /// From the request's head to the response's.
    pub total: Duration,
    /// The part of it that the proxy was at work.
    pub processing: Duration,
}

impl AccessRequest {
    /// What is logged of `request`.
    pub fn new<B>(
        client_addr: SocketAddr,
        client_id: Option<Identity>,
        received: WallTime,
        request: &http::Request<B>,
    ) -> Self {
        let headers = request.headers();
        let trace_ids = ["x-b3-traceid", "x-request-id", "x-amzn-trace-id"];
        let trace_id = trace_ids.iter().find(|name| headers.contains_key(**name));
        let mut uri = request.uri().to_string();
        cut(&mut uri);
        Self {
            client_addr,
            client_id,
            received,
            method: request.method().to_string(),
            uri,
            version: match request.version() {
                http::Version::HTTP_09 => "HTTP/0.9",
                http::Version::HTTP_10 => "HTTP/1.0",
                http::Version::HTTP_2 => "HTTP/2.0",
                http::Version::HTTP_3 => "HTTP/3.0",
                _ => "HTTP/1.1",
            },
            trace_id: trace_id.map_or_else(String::new, |name| text(headers, name)),
            request_bytes: text(headers, CONTENT_LENGTH.as_str()),
            user_agent: text(headers, USER_AGENT.as_str()),
            host: text(headers, HOST.as_str()),
        }
    }
}

impl AccessResponse {
    /// What is logged of `response`.
    pub fn new<B>(response: &http::Response<B>, total: Duration, processing: Duration) -> Self {
        Self {
            status: response.status(),
            response_bytes: text(response.headers(), CONTENT_LENGTH.as_str()),
            total,
            processing,
        }
    }
}

/// A header's first value; empty where it is none or not plain text.
fn text(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    let mut value = value.unwrap_or_default().to_string();
    cut(&mut value);
    value
}

fn cut(value: &mut String) {
    value.truncate(value.floor_char_boundary(VALUE_BYTES_MAX));
}

impl AccessLog {
    /// A log in `format` to `sink`.
    pub fn new(format: AccessLogFormat, sink: AccessLogSink) -> Self {
        Self { format, sink }
    }

    /// Writes a line.
    pub fn write(&self, request: &AccessRequest, response: &AccessResponse) {
        let line = match self.format {
            AccessLogFormat::Apache => apache(request, response),
            AccessLogFormat::Json => json(request, response),
        };
        (self.sink)(&line);
    }
}

impl fmt::Debug for AccessLog {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AccessLog").field("format", &self.format).finish_non_exhaustive()
    }
}

fn apache(request: &AccessRequest, response: &AccessResponse) -> String {
    let client_id = request.client_id.as_ref().map_or("-", Identity::as_str);
    let response_bytes = match response.response_bytes.as_str() {
        "" => "-",
        bytes => bytes,
    };
    let mut line = String::new();
    let (at, client) = (Rfc3339(request.received), request.client_addr);
    let _ = write!(line, "{client} {client_id} - [{at}] \"");
    write_escaped(&mut line, &request.method);
    line.push(' ');
    write_escaped(&mut line, &request.uri);
    let status = response.status.as_u16();
    let _ = write!(line, " {}\" {status} ", request.version);
    write_escaped(&mut line, response_bytes);
    line
}

/// As Apache does: quotes and backslashes by a backslash, unprintable bytes as `\xhh`.
fn write_escaped(line: &mut String, value: &str) {
    for c in value.chars() {
        match c {
            '"' | '\\' => line.extend(['\\', c]),
            c if c.is_control() => {
                let _ = write!(line, "\\x{:02x}", u32::from(c));
            }
            c => line.push(c),
        }
    }
}

/// Fields in linkerd2-proxy's order, durations as texts like there.
#[derive(Serialize)]
struct JsonLine<'a> {
    #[serde(rename = "client.addr")]
    client_addr: String,
    #[serde(rename = "client.id")]
    client_id: &'a str,
    host: &'a str,
    method: &'a str,
    processing_ns: String,
    request_bytes: &'a str,
    response_bytes: &'a str,
    status: u16,
    timestamp: String,
    total_ns: String,
    trace_id: &'a str,
    uri: &'a str,
    user_agent: &'a str,
    version: &'a str,
}

fn json(request: &AccessRequest, response: &AccessResponse) -> String {
    let line = JsonLine {
        client_addr: request.client_addr.to_string(),
        client_id: request.client_id.as_ref().map_or("-", Identity::as_str),
        host: &request.host,
        method: &request.method,
        processing_ns: response.processing.as_nanos().to_string(),
        request_bytes: &request.request_bytes,
        response_bytes: &response.response_bytes,
        status: response.status.as_u16(),
        timestamp: Rfc3339(request.received).to_string(),
        total_ns: response.total.as_nanos().to_string(),
        trace_id: &request.trace_id,
        uri: &request.uri,
        user_agent: &request.user_agent,
        version: request.version,
    };
    serde_json::to_string(&line).expect("texts and numbers have a JSON form")
}

/// With nanoseconds.
struct Rfc3339(WallTime);

impl fmt::Display for Rfc3339 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let seconds = WallTime::from_unix_secs(self.0.as_unix_secs()).to_string();
        let seconds = seconds.strip_suffix(".000Z").unwrap_or(&seconds);
        write!(f, "{seconds}.{:09}Z", self.0.as_duration().subsec_nanos())
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    fn lines(format: AccessLogFormat, request: &http::Request<()>) -> String {
        let written = Arc::new(Mutex::new(Vec::new()));
        let sink = {
            let written = written.clone();
            Arc::new(move |line: &str| written.lock().unwrap().push(line.to_string()))
        };
        let client_id = Identity::new("web.ns.serviceaccount.identity.linkerd.cluster.local").ok();
        let received = WallTime::since_unix_epoch(Duration::new(1_795_352_937, 7_800_123));
        let client_addr = "10.42.0.63:51160".parse().unwrap();
        let entry = AccessRequest::new(client_addr, client_id, received, request);
        let response = http::Response::builder()
            .status(200)
            .header("content-length", "19627")
            .header("set-cookie", "secret")
            .body(())
            .unwrap();
        let (total, processing) = (Duration::from_nanos(14_441_135), Duration::from_nanos(39_826));
        let response = AccessResponse::new(&response, total, processing);
        AccessLog::new(format, sink).write(&entry, &response);
        written.lock().unwrap().join("\n")
    }

    fn request(uri: &str) -> http::Request<()> {
        http::Request::builder()
            .uri(uri)
            .version(http::Version::HTTP_2)
            .header("host", "webapp:7000")
            .header("user-agent", "Go-\"http\"-client\\1.1")
            .header("x-request-id", "abc")
            .header("authorization", "Bearer secret")
            .header("cookie", "secret")
            .body(())
            .unwrap()
    }

    #[test]
    fn an_apache_line_has_the_common_fields() {
        insta::assert_snapshot!(
            lines(AccessLogFormat::Apache, &request("http://webapp:7000/a?b=c")),
            @r#"10.42.0.63:51160 web.ns.serviceaccount.identity.linkerd.cluster.local - [2026-11-22T13:08:57.007800123Z] "GET http://webapp:7000/a?b=c HTTP/2.0" 200 19627"#
        );
    }

    #[test]
    fn a_json_line_has_every_field() {
        insta::assert_snapshot!(
            lines(AccessLogFormat::Json, &request("http://webapp:7000/")),
            @r#"{"client.addr":"10.42.0.63:51160","client.id":"web.ns.serviceaccount.identity.linkerd.cluster.local","host":"webapp:7000","method":"GET","processing_ns":"39826","request_bytes":"","response_bytes":"19627","status":200,"timestamp":"2026-11-22T13:08:57.007800123Z","total_ns":"14441135","trace_id":"abc","uri":"http://webapp:7000/","user_agent":"Go-\"http\"-client\\1.1","version":"HTTP/2.0"}"#
        );
    }

    #[test]
    fn no_other_header_is_ever_logged() {
        for format in [AccessLogFormat::Apache, AccessLogFormat::Json] {
            let line = lines(format, &request("/"));
            assert!(!line.contains("secret"), "{line}");
        }
    }

    #[test]
    fn a_line_stays_one_line_and_short() {
        let long = format!("/{}", "a".repeat(20_000));
        let line = lines(AccessLogFormat::Apache, &request(&long));
        assert!(line.len() < VALUE_BYTES_MAX + 200);
        let mut escaped = String::new();
        write_escaped(&mut escaped, "a\"b\\c\nd\u{7f}");
        assert_eq!(escaped, "a\\\"b\\\\c\\x0ad\\x7f");
    }

    #[test]
    fn formats_are_named() {
        assert_eq!("apache".parse(), Ok(AccessLogFormat::Apache));
        assert_eq!("json".parse(), Ok(AccessLogFormat::Json));
        assert!("common".parse::<AccessLogFormat>().is_err());
    }
}
