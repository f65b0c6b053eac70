//! The proxy's certificate: fetched at start, renewed at 70 % of its life, while connections live
//! on. Also keeps the anchors of trust current where they come from a file.
//!
//! Law: a failed renewal leaves the certificate in force and is tried again; no key is ever logged.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crate::api::client::{ApiError, ControlClient};
use crate::model::client_policy;
use crate::model::ratio::Ratio;
use crate::proxy::config::{Identity, TrustAnchors};
use crate::runtime::{Files, Runtime, crypto::KeyPair};
use crate::telemetry::Telemetry;
use crate::time::WallTime;
use crate::traffic::backoff::Backoff;
use crate::wire::tls::{Credentials, csr};

/// Share of a certificate's life after which it is renewed, in percent.
const RENEW_AT_PERCENT: u32 = 70;

/// Between attempts to be certified. Linkerd waits 10 s from the first; a first certificate is
/// worth asking for sooner, since nothing is served without it.
const RETRY: client_policy::Backoff = client_policy::Backoff {
    min: Duration::from_millis(100),
    max: Duration::from_secs(10),
    jitter: Ratio::from_millionths(100_000),
    respect_retry_after: false,
};

/// Bounds of the files read.
const FILE_BYTES_MAX: usize = 1 << 20;

/// Why the proxy has no certificate.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// A file could not be read.
    #[error("cannot read {file}: {reason}; check that the file exists and its owner")]
    File {
        /// Which.
        file: String,
        /// Why.
        reason: String,
    },
    /// A key, request or certificate is not usable.
    #[error("unusable {what}: {reason}")]
    Unusable {
        /// What.
        what: &'static str,
        /// Why.
        reason: String,
    },
    /// The identity service did not certify.
    #[error("the identity service did not certify: {0}")]
    Service(#[from] ApiError),
}

/// A key, and the request for its certification.
pub struct Request {
    key: Arc<dyn KeyPair>,
    csr_der: Vec<u8>,
}

/// Reads the anchors of trust into the credentials.
///
/// # Errors
/// [`IdentityError`] where they cannot be read or are no certificates.
pub async fn load_trust_anchors(
    runtime: &Runtime,
    anchors: &TrustAnchors,
    credentials: &Credentials,
) -> Result<(), IdentityError> {
    let pem = match anchors {
        TrustAnchors::Pem(pem) => pem.clone().into_bytes(),
        TrustAnchors::File(path) => read(&*runtime.files, path).await?,
    };
    credentials.set_roots(&pem).map_err(|error| unusable("trust anchors", error))
}

/// Keeps the anchors of trust current as their file changes. Does not end.
pub async fn follow_trust_anchors(
    runtime: Runtime,
    file: std::path::PathBuf,
    credentials: Credentials,
) {
    let mut changes = runtime.files.watch(&file);
    let anchors = TrustAnchors::File(file);
    while std::future::poll_fn(|cx| changes.as_mut().poll_next(cx)).await.is_some() {
        match load_trust_anchors(&runtime, &anchors, &credentials).await {
            Ok(()) => {
                mark!("trust-anchors-read-again");
                tracing::info!("trust anchors read again");
            }
            Err(error) => {
                mark!("trust-anchors-kept");
                tracing::warn!(%error, "trust anchors kept as they were");
            }
        }
    }
}

/// The key and request from the configured directory where they are there, else new ones.
///
/// # Errors
/// [`IdentityError`] where files are there and unusable, or no key can be made.
pub async fn request(runtime: &Runtime, config: &Identity) -> Result<Request, IdentityError> {
    if let Some(directory) = &config.directory {
        let key = read(&*runtime.files, &directory.join("key.p8")).await;
        let csr_der = read(&*runtime.files, &directory.join("csr.der")).await;
        if let (Ok(key), Ok(csr_der)) = (key, csr_der) {
            let key = runtime.crypto.load_key(&key).map_err(|error| unusable("key.p8", error))?;
            return Ok(Request { key, csr_der });
        }
    }
    let key = runtime.crypto.generate_key().map_err(|error| unusable("key", error))?;
    let csr_der = csr::csr_der(&key, &config.local.identity)
        .map_err(|error| unusable("certificate request", error))?;
    Ok(Request { key, csr_der })
}

/// Has the credentials certified and renews them in time. Does not end.
pub async fn renew(
    runtime: Runtime,
    config: Identity,
    request: Request,
    client: ControlClient,
    credentials: Credentials,
    telemetry: Arc<Telemetry>,
) {
    let mut backoff = Backoff::new(RETRY);
    loop {
        match certify(&runtime, &config, &request, &client, &credentials).await {
            Ok(expires) => {
                backoff.succeeded();
                let now = runtime.clock.wall();
                telemetry.control.certificate_refreshed(now, expires);
                tracing::info!(identity = %config.local.identity, %expires, "certified");
                runtime.sleep(until_renewal(&config, now, expires)).await;
                if planted!("certificate-not-renewed") {
                    std::future::pending::<()>().await;
                }
                mark!("certificate-due");
            }
            Err(error) => {
                mark!("certification-failed");
                telemetry.control.certificate_failed();
                let wait = backoff.failed(runtime.entropy.next_u64());
                tracing::warn!(%error, retry_in = ?wait, "not certified");
                runtime.sleep(wait).await;
            }
        }
    }
}

async fn certify(
    runtime: &Runtime,
    config: &Identity,
    request: &Request,
    client: &ControlClient,
    credentials: &Credentials,
) -> Result<WallTime, IdentityError> {
    let token = read(&*runtime.files, &config.token_file).await?;
    let token = token.trim_ascii().to_vec();
    let name = config.local.identity.as_str();
    let certificate = runtime
        .timeout(RETRY.max, client.certify(name, token, request.csr_der.clone()))
        .await
        .map_err(|_| ApiError::Unavailable("no answer in time".into()))??;
    credentials
        .set_certificate(certificate.leaf_der, certificate.intermediates_der, request.key.clone())
        .map_err(|error| unusable("certificate", error))?;
    Ok(certificate.valid_until)
}

/// The time from `now` to the renewal of a certificate that ends at `expires`.
fn until_renewal(config: &Identity, now: WallTime, expires: WallTime) -> Duration {
    let life = expires.since(now);
    (life / 100 * RENEW_AT_PERCENT)
        .clamp(config.min_refresh, config.max_refresh.max(config.min_refresh))
}

async fn read(files: &dyn Files, path: &Path) -> Result<Vec<u8>, IdentityError> {
    files.read(path, FILE_BYTES_MAX).await.map_err(|error| IdentityError::File {
        file: path.display().to_string(),
        reason: error.to_string(),
    })
}

fn unusable(what: &'static str, reason: impl ToString) -> IdentityError {
    IdentityError::Unusable { what, reason: reason.to_string() }
}
