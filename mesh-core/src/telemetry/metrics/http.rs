//! Requests and responses of an endpoint: Linkerd's oldest families, on which its dashboards and
//! `linkerd viz stat` are built.

use std::fmt::Write;
use std::time::Duration;

use http::StatusCode;

use super::Kind;
use super::cell::{Buckets, Counter, Histogram, Unit};
use super::chain::Chain;
use super::registry::{Family, Lines, MetricSet};
use super::route::StreamError;

/// The end of a response, or of a request that got none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Response {
    /// The status; `None` where there was no response.
    pub status: Option<StatusCode>,
    /// Whether it counts as a success.
    pub classification: Classification,
    /// `grpc-status`, where it is a gRPC response.
    pub grpc_status: Option<u16>,
    /// What broke the stream, where something did.
    pub error: Option<StreamError>,
    /// From the request's headers to the end of the response.
    pub latency: Duration,
}

/// Whether a response counts as a success.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Classification {
    /// It does.
    Success,
    /// It does not.
    Failure,
}

/// `request_total`, `response_total`, `response_latency_ms` of one endpoint.
#[derive(Debug, Default)]
pub struct HttpMetrics {
    requests: Counter,
    statuses: Chain<Status, StatusMetrics>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Status {
    Code(StatusCode),
    None,
    Other,
}

#[derive(Debug)]
struct StatusMetrics {
    latency: Histogram,
    classes: Chain<Class, Counter>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    Of { classification: Classification, grpc_status: Option<u16>, error: Option<StreamError> },
    Other,
}

impl HttpMetrics {
    /// A request was sent to the endpoint.
    pub fn request(&self) {
        self.requests.increment();
    }

    /// It is over.
    pub fn response(&self, response: &Response) {
        let status = response.status.map_or(Status::None, Status::Code);
        let metrics = self.statuses.entry(&status, &Status::Other, || StatusMetrics {
            latency: Histogram::new(&LATENCY_MS),
            classes: Chain::default(),
        });
        let &Response { classification, grpc_status, error, .. } = response;
        let class = Class::Of { classification, grpc_status, error };
        metrics.latency.observe_duration(response.latency);
        let counter = metrics.classes.entry(&class, &Class::Other, Counter::default);
        counter.increment();
    }
}

impl MetricSet for HttpMetrics {
    fn write(&self, family: usize, lines: &mut Lines<'_>) {
        if family == 0 {
            return lines.counter("", self.requests.value());
        }
        for (status, metrics) in self.statuses.iter() {
            let mut labels = match status {
                Status::Code(code) => format!("status_code=\"{}\"", code.as_u16()),
                Status::None => String::new(),
                Status::Other => "status_code=\"other\"".to_string(),
            };
            if family == 2 {
                lines.histogram(&labels, &metrics.latency);
                continue;
            }
            if !labels.is_empty() {
                labels.push(',');
            }
            let status_len = labels.len();
            for (class, counter) in metrics.classes.iter() {
                labels.truncate(status_len);
                class.write(&mut labels);
                lines.counter(&labels, counter.value());
            }
        }
    }
}

impl Class {
    fn write(&self, out: &mut String) {
        let (classification, grpc_status, error) = match *self {
            Self::Of { classification, grpc_status, error } => {
                (classification, grpc_status, error.map_or("", StreamError::as_str))
            }
            Self::Other => (Classification::Failure, None, "other"),
        };
        let classification = match classification {
            Classification::Success => "success",
            Classification::Failure => "failure",
        };
        let _ = write!(out, "classification=\"{classification}\",grpc_status=\"");
        if let Some(status) = grpc_status {
            let _ = write!(out, "{status}");
        }
        let _ = write!(out, "\",error=\"{error}\"");
    }
}

static LATENCY_MS: Buckets = Buckets {
    bounds: &[
        1, 2, 3, 4, 5, 10, 20, 30, 40, 50, 100, 200, 300, 400, 500, 1_000, 2_000, 3_000, 4_000,
        5_000, 10_000, 20_000, 30_000, 40_000, 50_000,
    ],
    texts: &[
        "1", "2", "3", "4", "5", "10", "20", "30", "40", "50", "100", "200", "300", "400", "500",
        "1000", "2000", "3000", "4000", "5000", "10000", "20000", "30000", "40000", "50000",
    ],
    unit: Unit::Milliseconds,
};

macro_rules! http_families {
    ($prefix:literal) => {
        [
            Family::legacy(
                Kind::Counter,
                concat!($prefix, "request_total"),
                "Total count of HTTP requests.",
            ),
            Family::legacy(
                Kind::Counter,
                concat!($prefix, "response_total"),
                "Total count of HTTP responses.",
            ),
            Family::legacy(
                Kind::Histogram,
                concat!($prefix, "response_latency_ms"),
                "Elapsed times between a request's headers being received and its response \
                 stream completing",
            ),
        ]
    };
}

pub(crate) static ENDPOINT_HTTP: [Family; 3] = http_families!("");
pub(crate) static CONTROL_HTTP: [Family; 3] = http_families!("control_");
