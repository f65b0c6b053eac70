//! A Prometheus that others run, asked over its HTTP API. Writes nothing and keeps nothing.

use std::net::SocketAddr;
use std::str::FromStr;
use std::time::Duration;

use ::http::header::{ACCEPT, HOST};
use ::http::{HeaderValue, StatusCode, Uri};
use serde::Deserialize;

use super::fetch::{FetchError, Patience, fetch};
use super::public_api::query::encode;
use super::query::{Query, RangeRow, Row};
use crate::runtime::Runtime;
use crate::wire::http::{Body, Request};

/// How long an answer may take.
const TIMEOUT: Duration = Duration::from_secs(15);
/// Bytes of an answer.
const BYTES_MAX: usize = 64 << 20;
/// Characters of what a Prometheus says that are passed on to people.
const SAID_MAX: usize = 300;

/// Where a Prometheus is: `http://HOST[:PORT][/PATH]`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PrometheusUrl {
    host: String,
    port: u16,
    /// Begins with a slash, and does not end with one.
    path: String,
    text: String,
}

/// What is no such address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is no address of a Prometheus: {fault}; give one such as http://prometheus:9090")]
pub struct InvalidPrometheusUrl {
    text: String,
    fault: &'static str,
}

impl FromStr for PrometheusUrl {
    type Err = InvalidPrometheusUrl;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let invalid = |fault| InvalidPrometheusUrl { text: text.to_string(), fault };
        let uri: Uri = text.parse().map_err(|_| invalid("it cannot be read"))?;
        match uri.scheme_str() {
            Some("http") => {}
            Some("https") => {
                return Err(invalid("only plain http is spoken; let a sidecar bring TLS"));
            }
            _ => return Err(invalid("it does not begin with http://")),
        }
        let authority = uri.authority().ok_or_else(|| invalid("it has no host"))?;
        if authority.as_str().contains('@') {
            return Err(invalid("it has a password"));
        }
        if uri.query().is_some() {
            return Err(invalid("it has a query"));
        }
        let host = authority.host().trim_start_matches('[').trim_end_matches(']');
        if host.is_empty() {
            return Err(invalid("it has no host"));
        }
        Ok(Self {
            host: host.to_string(),
            port: authority.port_u16().unwrap_or(80),
            path: uri.path().trim_end_matches('/').to_string(),
            text: text.to_string(),
        })
    }
}

/// Why a Prometheus gives no answer.
#[derive(Debug, thiserror::Error)]
pub enum PrometheusError {
    /// Its name cannot be resolved, or nobody is there, or it takes too long.
    #[error("the Prometheus at {url} {fault}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        fault: String,
    },
    /// It says that it cannot answer.
    #[error("the Prometheus at {url} answers {status}: {said}")]
    Refused {
        /// Where.
        url: String,
        /// How.
        status: StatusCode,
        /// What it says.
        said: String,
    },
    /// What it says is not what a Prometheus says.
    #[error("what answers at {url} is no Prometheus: {fault}")]
    Garbage {
        /// Where.
        url: String,
        /// Why.
        fault: String,
    },
}

/// A Prometheus.
#[derive(Clone)]
pub struct Prometheus {
    url: PrometheusUrl,
    runtime: Runtime,
}

/// An answer, and what a Prometheus warns of.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer<R> {
    /// In order of labels.
    pub rows: Vec<R>,
    /// Why it may not be whole.
    pub warnings: Vec<String>,
}

impl Prometheus {
    /// The one at an address. Asks nothing yet.
    pub fn new(runtime: &Runtime, url: PrometheusUrl) -> Self {
        Self { url, runtime: runtime.clone() }
    }

    /// The answer at a moment, in milliseconds since 1970.
    ///
    /// # Errors
    /// [`PrometheusError`].
    pub async fn evaluate(
        &self,
        query: &Query,
        at_ms: i64,
    ) -> Result<Answer<Row>, PrometheusError> {
        let path = format!("query?query={}&time={}", encode(&query.promql()), seconds(at_ms));
        let Said { result, warnings } = self.ask(&path).await?;
        let row = |series: Samples| {
            let (_, value) = series.value?;
            let value = number(&value)?;
            Some(Row { labels: labels(query, &series.metric), value })
        };
        let mut rows: Vec<_> = result.into_iter().filter_map(row).collect();
        rows.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(Answer { rows, warnings })
    }

    /// The answers at moments `step_ms` apart.
    ///
    /// # Errors
    /// [`PrometheusError`].
    pub async fn evaluate_range(
        &self,
        query: &Query,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    ) -> Result<Answer<RangeRow>, PrometheusError> {
        let (start, end) = (seconds(start_ms), seconds(end_ms));
        let (promql, step) = (encode(&query.promql()), seconds(step_ms.max(1)));
        let path = format!("query_range?query={promql}&start={start}&end={end}&step={step}");
        let Said { result, warnings } = self.ask(&path).await?;
        let row = |series: Samples| {
            let points = series.values.iter().filter_map(|(at, value)| {
                // Milliseconds, that came as a fraction of seconds.
                Some(((at * 1000.0).round() as i64, number(value)?))
            });
            RangeRow { labels: labels(query, &series.metric), points: points.collect() }
        };
        let rows = result.into_iter().map(row).filter(|row| !row.points.is_empty());
        let mut rows: Vec<_> = rows.collect();
        rows.sort_by(|a, b| a.labels.cmp(&b.labels));
        Ok(Answer { rows, warnings })
    }

    /// Where it is, as it was given.
    pub fn url(&self) -> &str {
        &self.url.text
    }

    async fn ask(&self, path: &str) -> Result<Said, PrometheusError> {
        let PrometheusUrl { host, port, path: root, text: url } = &self.url;
        let url = || url.clone();
        let garbage = |fault: String| PrometheusError::Garbage { url: url(), fault };
        let to = self.address().await?;
        let mut request = Request::new(Body::empty());
        let uri = format!("{root}/api/v1/{path}");
        *request.uri_mut() = uri.parse().map_err(|_| garbage(format!("{uri} is too long")))?;
        let host = HeaderValue::from_str(&format!("{host}:{port}"));
        let headers = request.headers_mut();
        headers.insert(HOST, host.map_err(|_| garbage("its name is none".to_string()))?);
        headers.insert(ACCEPT, HeaderValue::from_static("application/json"));
        let patience = Patience { timeout: TIMEOUT, bytes_max: BYTES_MAX };
        let (status, body) =
            fetch(&self.runtime, to, request, patience).await.map_err(|error| match error {
                FetchError::Broken(error) => garbage(error.to_string()),
                error => PrometheusError::Unreachable { url: url(), fault: error.to_string() },
            })?;
        let reply: Result<Reply, _> = serde_json::from_slice(&body);
        match (status, reply) {
            (StatusCode::OK, Ok(Reply { status, data: Some(data), warnings, .. }))
                if status == "success" =>
            {
                Ok(Said { result: data.result, warnings })
            }
            (status, Ok(Reply { error: Some(said), .. })) => {
                Err(PrometheusError::Refused { url: url(), status, said: cut(&said) })
            }
            (StatusCode::OK, Err(error)) => Err(garbage(error.to_string())),
            (StatusCode::OK, Ok(_)) => Err(garbage("the answer has no result".to_string())),
            (status, _) => Err(PrometheusError::Refused {
                url: url(),
                status,
                said: cut(&String::from_utf8_lossy(&body)),
            }),
        }
    }

    async fn address(&self) -> Result<SocketAddr, PrometheusError> {
        let PrometheusUrl { host, port, text, .. } = &self.url;
        if let Ok(ip) = host.parse() {
            return Ok(SocketAddr::new(ip, *port));
        }
        let unresolved = |fault: &dyn std::fmt::Display| PrometheusError::Unreachable {
            url: text.clone(),
            fault: format!("cannot be found: {fault}"),
        };
        let resolved = self.runtime.timeout(TIMEOUT, self.runtime.net.resolve(host)).await;
        let resolved = resolved.map_err(|elapsed| unresolved(&elapsed))?;
        let addresses = resolved.map_err(|error| unresolved(&error))?;
        let first = addresses.first().ok_or_else(|| unresolved(&"its name has no address"))?;
        Ok(SocketAddr::new(*first, *port))
    }
}

/// What is answered, as far as it is read.
#[derive(Deserialize)]
struct Reply {
    status: String,
    data: Option<Data>,
    error: Option<String>,
    #[serde(default)]
    warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Data {
    result: Vec<Samples>,
}

#[derive(Deserialize)]
struct Samples {
    #[serde(default)]
    metric: std::collections::BTreeMap<String, String>,
    value: Option<(f64, String)>,
    #[serde(default)]
    values: Vec<(f64, String)>,
}

struct Said {
    result: Vec<Samples>,
    warnings: Vec<String>,
}

fn labels(query: &Query, metric: &std::collections::BTreeMap<String, String>) -> Vec<String> {
    query.by.iter().map(|name| metric.get(*name).cloned().unwrap_or_default()).collect()
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok().filter(|number: &f64| !number.is_nan())
}

fn seconds(ms: i64) -> String {
    format!("{}.{:03}", ms.div_euclid(1000), ms.rem_euclid(1000))
}

fn cut(text: &str) -> String {
    text.trim().chars().take(SAID_MAX).map(|c| if c.is_control() { ' ' } else { c }).collect()
}

#[cfg(test)]
mod tests;
