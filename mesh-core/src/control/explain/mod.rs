//! Explains what would become of a request, from what the control plane has compiled for proxies,
//! and why: every step names the objects that it follows from. Sends nothing and keeps nothing.
//!
//! Law: the verdict is what the proxies do. Policies are compiled here by the functions that compile
//! them for proxies, and decided by the functions that proxies decide by; what is told besides is
//! told of the same objects.

mod cite;
mod client;
mod parties;
mod reference;
mod server;
mod story;
mod words;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};

use crate::traffic::denial::DenialId;

use super::index::View;

pub use story::{Cited, Outcome, Step, StepName, Verdict, Way};

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// Who sends: `deploy/web`, `pod/web-1`, `NAMESPACE/SERVICEACCOUNT`, an address.
    pub from: String,
    /// Where to: `svc/web:80`, `web.shop:80`, `pod/web-1:8080`, `10.0.0.1:80`.
    pub to: String,
    /// Where names without a namespace are looked for: `default` for who sends, and the sender's own
    /// for where to, unless it is given.
    pub namespace: Option<String>,
    /// What is sent.
    pub request: Asked,
}

/// A request, or bytes.
#[derive(Clone, Debug)]
pub struct Asked {
    /// What is spoken.
    pub speaks: Speaks,
    /// Its method; bytes have none.
    pub method: Method,
    /// Its path, with a query where it has one.
    pub path: String,
    /// Its headers.
    pub headers: HeaderMap,
}

/// What an application speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Speaks {
    /// HTTP/1.
    Http1,
    /// HTTP/2.
    Http2,
    /// gRPC.
    Grpc,
    /// Neither: bytes.
    Tcp,
}

impl Asked {
    /// As people write it: what is spoken (`http1`, `http2`, `grpc` or `tcp`), a method, a path, and
    /// headers as `NAME=VALUE`. What is not said is `GET /` over HTTP/1.
    ///
    /// # Errors
    /// [`ExplainError::Wrong`], with what to write instead.
    pub fn read<'t>(
        protocol: Option<&str>,
        method: Option<&str>,
        path: Option<&str>,
        headers: impl Iterator<Item = &'t str>,
    ) -> Result<Self, ExplainError> {
        let mut asked = Self::default();
        let wrong = |what: String| ExplainError::Wrong(what);
        if let Some(protocol) = protocol {
            asked.speaks = match protocol {
                "http1" | "http" => Speaks::Http1,
                "http2" | "h2" => Speaks::Http2,
                "grpc" => Speaks::Grpc,
                "tcp" => Speaks::Tcp,
                _ => {
                    let remedy = "give http1, http2, grpc or tcp";
                    return Err(wrong(format!("protocol {protocol:?} is not known; {remedy}")));
                }
            };
        }
        if let Some(method) = method {
            asked.method = Method::from_bytes(method.to_ascii_uppercase().as_bytes())
                .map_err(|_| wrong(format!("method {method:?} is none; give one such as POST")))?;
        }
        if let Some(path) = path {
            asked.path = path.to_string();
        }
        for header in headers {
            let parts = header.split_once('=');
            let parts = parts.and_then(|(name, value)| {
                let name = name.trim().parse::<HeaderName>().ok()?;
                Some((name, HeaderValue::from_str(value.trim()).ok()?))
            });
            let remedy = "give NAME=VALUE";
            let (name, value) =
                parts.ok_or_else(|| wrong(format!("header {header:?} is none; {remedy}")))?;
            asked.headers.append(name, value);
        }
        Ok(asked)
    }
}

impl Default for Asked {
    /// `GET /` over HTTP/1.
    fn default() -> Self {
        Self {
            speaks: Speaks::Http1,
            method: Method::GET,
            path: "/".to_string(),
            headers: HeaderMap::new(),
        }
    }
}

/// What would become of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// Who sends, by its name.
    pub from: String,
    /// Where to, by its name.
    pub to: String,
    /// What is sent: `GET / over HTTP/1`.
    pub request: String,
    /// What happens on the sender's side, in order.
    pub steps: Vec<Step>,
    /// How it may go on from there: by each backend, and by each sort of endpoint that it has.
    pub ways: Vec<Way>,
    /// The end of it.
    pub verdict: Verdict,
}

/// Why a question has no answer.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExplainError {
    /// There is none of that name.
    #[error("{what} is not known{}", hint(.near, .known))]
    Unknown {
        /// What was asked for.
        what: String,
        /// Names that are near.
        near: Vec<String>,
        /// Some of those that there are.
        known: Vec<String>,
    },
    /// No port was given where there is not exactly one, or what is there has none of it.
    #[error("{what}: {fault}, after a colon{}", list(.ports))]
    Port {
        /// What was asked for.
        what: String,
        /// What is wrong.
        fault: String,
        /// The ports that there are.
        ports: Vec<String>,
    },
    /// It cannot be read.
    #[error("{0}")]
    Wrong(String),
}

fn hint(near: &[String], known: &[String]) -> String {
    match (near, known) {
        ([], []) => "; there is nothing of that sort".to_string(),
        ([], known) => format!("; there are {}", known.join(", ")),
        (near, _) => format!("; did you mean {}?", near.join(" or ")),
    }
}

fn list(ports: &[String]) -> String {
    match ports {
        [] => String::new(),
        ports => format!("; there are {}", ports.join(", ")),
    }
}

/// Explains what would become of a request.
///
/// # Errors
/// [`ExplainError`] where a name is not known or a port is not given.
pub fn explain(view: &View<'_>, question: &Question) -> Result<Explanation, ExplainError> {
    let default = question.namespace.as_deref();
    let source = parties::source(view, default.unwrap_or("default"), &question.from)?;
    let home = match source.namespace.as_str() {
        "" => "default",
        namespace => namespace,
    };
    let goal = parties::goal(view, default.unwrap_or(home), &question.to)?;
    let request = client::Request::new(&question.request, &goal.host)?;
    let (steps, ways, verdict) = client::follow(view, &source, &goal, &request);
    Ok(Explanation {
        from: source.name,
        to: goal.name,
        request: request.told(),
        steps,
        ways,
        verdict,
    })
}

/// Explains a denial that a proxy gave a reference of: what it was, and what is so now.
///
/// # Errors
/// [`ExplainError`] where no server of the index has such an address.
pub fn explain_denial(view: &View<'_>, denial: DenialId) -> Result<Explanation, ExplainError> {
    reference::explain(view, denial)
}

#[cfg(test)]
mod tests;
