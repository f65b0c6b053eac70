//! A span: one request as a distributed trace shows it. Plain data; `telemetry::trace_context` reads
//! and writes the headers that tie spans together, `api::otlp` sends spans to a collector.

use std::fmt;

use crate::time::WallTime;

/// A trace's identity; never all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TraceId([u8; 16]);

/// A span's identity within its trace; never all zero.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpanId([u8; 8]);

macro_rules! ids {
    ($($id:ident, $bytes:literal);*) => {$(
        impl $id {
            /// Of bytes; none where all are zero.
            pub fn new(bytes: [u8; $bytes]) -> Option<Self> {
                (bytes != [0; $bytes]).then_some(Self(bytes))
            }

            /// Of random bytes.
            pub fn of_random(mut bytes: [u8; $bytes]) -> Self {
                if bytes == [0; $bytes] {
                    bytes[0] = 1;
                }
                Self(bytes)
            }

            /// As bytes, the first first.
            pub fn as_bytes(&self) -> &[u8; $bytes] {
                &self.0
            }
        }

        /// As hexadecimal digits in lower case.
        impl fmt::Display for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }

        impl fmt::Debug for $id {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
    )*};
}

ids!(TraceId, 16; SpanId, 8);

/// Which end of a request a span is of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// The side that answers.
    Server,
    /// The side that asks.
    Client,
}

/// What an attribute says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpanValue {
    /// A text.
    Text(String),
    /// A number.
    Number(i64),
}

/// One request, seen from one proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Span {
    /// Its trace.
    pub trace: TraceId,
    /// Itself.
    pub id: SpanId,
    /// The span that caused it; none where it is the trace's first.
    pub parent: Option<SpanId>,
    /// What vendors of tracers said of the trace (`tracestate`), as it came.
    pub state: String,
    /// What was asked for, of few values.
    pub name: String,
    /// Which end.
    pub kind: SpanKind,
    /// When the request came.
    pub began: WallTime,
    /// When its response was over.
    pub ended: WallTime,
    /// By OpenTelemetry's names.
    pub attributes: Vec<(&'static str, SpanValue)>,
    /// Whether it failed.
    pub is_failure: bool,
}
