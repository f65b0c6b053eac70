//! The envelope in which an API server asks a webhook, and the one in which it is answered:
//! AdmissionReviews of `admission.k8s.io/v1`. Decides nothing.

use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The largest review that is read: the API server's own limit for an object is 1.5 MiB.
pub const REVIEW_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most warnings of one answer; the API server cuts what is longer.
const WARNINGS_MAX: usize = 16;

/// What is wrong with a review: there is nothing that could be answered.
#[derive(Debug, thiserror::Error)]
pub enum ReviewError {
    /// It is too large.
    #[error("the review has {0} bytes, more than {REVIEW_BYTES_MAX}")]
    TooLarge(usize),
    /// It is no AdmissionReview.
    #[error("not an AdmissionReview of admission.k8s.io/v1: {0}")]
    Malformed(String),
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Review {
    api_version: String,
    kind: String,
    request: Option<Request>,
}

/// What an API server asks.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Request {
    pub(super) uid: String,
    #[serde(default)]
    pub(super) namespace: String,
    /// `CREATE`, `UPDATE`, `DELETE` or `CONNECT`.
    #[serde(default)]
    pub(super) operation: String,
    #[serde(default)]
    pub(super) object: Value,
    #[serde(default)]
    pub(super) old_object: Value,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Reviewed<'a> {
    api_version: &'a str,
    kind: &'a str,
    response: Response,
}

/// What it is answered.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Response {
    uid: String,
    allowed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<Status>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch_type: Option<&'static str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    patch: Option<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// Why something is refused, as `kubectl` shows it.
#[derive(Debug, Serialize)]
struct Status {
    code: u16,
    message: String,
}

impl Request {
    /// Reads a review.
    pub(super) fn read(review: &[u8]) -> Result<Self, ReviewError> {
        if review.len() > REVIEW_BYTES_MAX {
            return Err(ReviewError::TooLarge(review.len()));
        }
        let malformed = |fault: String| ReviewError::Malformed(fault);
        let review = std::str::from_utf8(review).map_err(|error| malformed(error.to_string()))?;
        let Review { api_version, kind, request } =
            serde_json::from_str(review).map_err(|error| malformed(error.to_string()))?;
        if kind != "AdmissionReview" || api_version != "admission.k8s.io/v1" {
            return Err(malformed(format!("it is a {kind} of {api_version}")));
        }
        request.ok_or_else(|| malformed("it has no request".into()))
    }

    /// Lets it through, with a patch (base64) where something is to be changed first.
    pub(super) fn allow(&self, patch: Option<String>, warnings: Vec<String>) -> Response {
        Response {
            uid: self.uid.clone(),
            allowed: true,
            patch_type: patch.is_some().then_some("JSONPatch"),
            patch,
            warnings,
            status: None,
        }
    }

    /// Refuses it. Without a `reason`: for `Invalid` kubectl looks for details instead, and shows no
    /// message.
    pub(super) fn deny(&self, message: String) -> Response {
        let status = Status { code: 400, message };
        Response { uid: self.uid.clone(), status: Some(status), ..Response::default() }
    }
}

impl Response {
    pub(super) fn is_allowed(&self) -> bool {
        self.allowed
    }

    /// The AdmissionReview to send.
    pub(super) fn review(mut self) -> Vec<u8> {
        self.warnings.truncate(WARNINGS_MAX);
        let (api_version, kind) = ("admission.k8s.io/v1", "AdmissionReview");
        let reviewed = Reviewed { api_version, kind, response: self };
        serde_json::to_vec(&reviewed).expect("plain data serializes")
    }
}
