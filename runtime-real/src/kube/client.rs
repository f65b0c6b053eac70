//! Requests to an API server and what its answers mean. Knows paths and statuses, and no kinds.
//!
//! Law: every request ends in bounded time, and no answer is kept beyond its bound.

use std::time::Duration;

use bytes::{Buf as _, Bytes, BytesMut};
use http::header::{ACCEPT, CONTENT_TYPE, RETRY_AFTER};
use http::{Method, Request, StatusCode};
use http_body_util::BodyExt as _;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;
use kube::client::Body;
use mesh_core::runtime::cluster::ClusterError;
use tokio::time::timeout;

use super::connect::{self, KubeConfigError, KubeOptions};

/// A page of a list, or any other answer, is no longer than this.
const ANSWER_BYTES_MAX: usize = 128 << 20;
/// One event of a watch: an object is at most 1.5 MiB in etcd, and JSON may say it longer.
const LINE_BYTES_MAX: usize = 16 << 20;
/// The longest answer of an error that is read.
const ERROR_BYTES_MAX: usize = 64 << 10;
/// How long one request may take, its answer's body included.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);
/// The longest that a server's Retry-After is followed.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(60);

/// The client of an API server. Cloning shares its connections.
#[derive(Clone)]
pub struct ApiClient {
    client: kube::Client,
    server: String,
}

/// Why a request was not answered as asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApiError {
    /// The server's status; none where it could not be asked.
    pub status: Option<StatusCode>,
    /// What it said.
    pub reason: String,
    /// How long it asks to be left alone.
    pub retry_after: Option<Duration>,
}

/// How a body of a request is to be read.
pub(super) const JSON: &str = "application/json";
/// A patch that replaces the fields that it names.
pub(super) const MERGE_PATCH: &str = "application/merge-patch+json";

impl ApiClient {
    /// Reads the configuration. Connects when it is first asked something.
    ///
    /// # Errors
    /// [`KubeConfigError`].
    pub async fn open(options: &KubeOptions) -> Result<Self, KubeConfigError> {
        let config = connect::configuration(options).await?;
        let server = config.cluster_url.to_string();
        Ok(Self { client: connect::client(config)?, server })
    }

    /// The server's URL.
    pub fn server(&self) -> &str {
        &self.server
    }

    /// kube's own client of the same connections, for what is no plain request: ports of pods.
    pub fn kube(&self) -> kube::Client {
        self.client.clone()
    }

    /// What is at a path, such as `/api/v1/namespaces/linkerd/pods`, as JSON.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn find(&self, path: &str) -> Result<Bytes, ApiError> {
        self.find_as(path, JSON).await
    }

    /// What is at a path, in a form of JSON.
    pub(super) async fn find_as(&self, path: &str, form: &str) -> Result<Bytes, ApiError> {
        within(async {
            let body = self.send(Method::GET, path, (form, JSON), Vec::new()).await?;
            collect(body, ANSWER_BYTES_MAX).await
        })
        .await
    }

    /// One request with JSON of a kind as its body, and its answer.
    ///
    /// # Errors
    /// [`ApiError`].
    pub async fn call(
        &self,
        method: Method,
        path: &str,
        content_type: &str,
        body: Vec<u8>,
    ) -> Result<Bytes, ApiError> {
        within(async {
            let body = self.send(method, path, (JSON, content_type), body).await?;
            collect(body, ANSWER_BYTES_MAX).await
        })
        .await
    }

    /// Opens a stream of lines. It is the reader's to give up on it.
    pub(super) async fn lines(&self, path: &str, form: &str) -> Result<Lines, ApiError> {
        let body = within(self.send(Method::GET, path, (form, JSON), Vec::new())).await?;
        Ok(Lines { body, read: BytesMut::new(), searched: 0 })
    }

    async fn send(
        &self,
        method: Method,
        path: &str,
        (accept, content_type): (&str, &str),
        body: Vec<u8>,
    ) -> Result<Body, ApiError> {
        let request = Request::builder().method(method).uri(path);
        let request = request.header(ACCEPT, accept).header(CONTENT_TYPE, content_type);
        let request = request.body(Body::from(body)).map_err(|error| broken(&error))?;
        let response = self.client.send(request).await.map_err(|error| broken(&error))?;
        let (head, body) = response.into_parts();
        if head.status.is_success() {
            return Ok(body);
        }
        let text = collect(body, ERROR_BYTES_MAX).await.unwrap_or_default();
        let said = serde_json::from_slice::<Status>(&text).ok().and_then(|status| status.message);
        let reason = said.unwrap_or_else(|| format!("answered {}", head.status));
        let seconds = head.headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok());
        let seconds = seconds.and_then(|text| text.parse().ok()).map(Duration::from_secs);
        let retry_after = seconds.map(|wait| wait.min(RETRY_AFTER_MAX));
        Err(ApiError { status: Some(head.status), reason, retry_after })
    }
}

impl std::fmt::Debug for ApiClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ApiClient").field("server", &self.server).finish_non_exhaustive()
    }
}

impl ApiError {
    /// Whether this is the status.
    pub fn is(&self, status: StatusCode) -> bool {
        self.status == Some(status)
    }

    /// What it means to those behind the door; `what` was asked for.
    pub fn told_as(self, what: &str) -> ClusterError {
        let reason = format!("{what}: {}", self.reason);
        match self.status {
            Some(StatusCode::UNAUTHORIZED) => ClusterError::Denied(format!(
                "{what}: the API server does not know the credentials: {}",
                self.reason
            )),
            Some(StatusCode::FORBIDDEN) => ClusterError::Denied(reason),
            Some(StatusCode::NOT_FOUND) => ClusterError::NotFound(reason),
            Some(StatusCode::CONFLICT) => ClusterError::Conflict(reason),
            Some(StatusCode::BAD_REQUEST | StatusCode::UNPROCESSABLE_ENTITY) => {
                ClusterError::Invalid(reason)
            }
            _ => ClusterError::Unavailable(reason),
        }
    }
}

async fn within<T>(work: impl Future<Output = Result<T, ApiError>>) -> Result<T, ApiError> {
    timeout(REQUEST_TIMEOUT, work).await.unwrap_or_else(|_| {
        let reason = format!("no answer within {} s", REQUEST_TIMEOUT.as_secs());
        Err(ApiError { status: None, reason, retry_after: None })
    })
}

fn broken(error: &(dyn std::error::Error + 'static)) -> ApiError {
    ApiError { status: None, reason: connect::chain(error), retry_after: None }
}

fn too_long(bytes_max: usize) -> ApiError {
    let reason = format!("the answer is longer than {bytes_max} bytes");
    ApiError { status: None, reason, retry_after: None }
}

async fn collect(mut body: Body, bytes_max: usize) -> Result<Bytes, ApiError> {
    let mut read = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| broken(&error))?;
        if let Ok(data) = frame.into_data() {
            if read.len() + data.len() > bytes_max {
                return Err(too_long(bytes_max));
            }
            read.extend_from_slice(&data);
        }
    }
    Ok(read.freeze())
}

/// The lines of an answer as they come.
pub(super) struct Lines {
    body: Body,
    read: BytesMut,
    /// Bytes of `read` that hold no end of line.
    searched: usize,
}

impl Lines {
    /// The next line that is not empty, without its end; `None` where the answer has ended. A line
    /// that was broken off counts for nothing. May be given up between two awaits, and called again.
    pub(super) async fn next(&mut self) -> Result<Option<Bytes>, ApiError> {
        loop {
            if let Some(at) = self.read[self.searched..].iter().position(|byte| *byte == b'\n') {
                let line = self.read.split_to(self.searched + at).freeze();
                self.read.advance(1);
                self.searched = 0;
                if line.is_empty() {
                    continue;
                }
                return Ok(Some(line));
            }
            self.searched = self.read.len();
            if self.read.len() > LINE_BYTES_MAX {
                return Err(too_long(LINE_BYTES_MAX));
            }
            let Some(frame) = self.body.frame().await else {
                return Ok(None);
            };
            let frame = frame.map_err(|error| broken(&error))?;
            if let Ok(data) = frame.into_data() {
                self.read.extend_from_slice(&data);
            }
        }
    }
}
