//! What the mesh writes to an API server and asks of it: statuses, leases, secrets, webhooks'
//! authorities, events, and whose a token is.
//!
//! Law: a write that somebody else's came before is a conflict, never lost and never overwritten;
//! labels and annotations that others put on an object stay.

use http::Method;
use k8s_openapi::ByteString;
use k8s_openapi::api::authentication::v1::TokenReview as Review;
use k8s_openapi::api::coordination::v1::Lease as KubeLease;
use k8s_openapi::api::core::v1::Secret as KubeSecret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff;
use mesh_core::resource::Object;
use mesh_core::runtime::cluster::{ClusterError, Lease, Secret, TokenReview, WebhookKind};
use mesh_core::time::WallTime;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::client::{ApiClient, ApiError, JSON, MERGE_PATCH};
use super::paths::{self, Versions, escaped};

const JSON_PATCH: &str = "application/json-patch+json";
const MICROS: u64 = 1_000_000;

/// Replaces an object's status, and nothing else of it.
pub(super) async fn status(
    client: &ApiClient,
    versions: &Versions,
    object: Object,
) -> Result<(), ClusterError> {
    let name = object.object_ref();
    let what = format!("write the status of {name}");
    if !name.kind.has_status() {
        return Err(ClusterError::Invalid(format!("{name} has no status")));
    }
    let version = versions.find(name.kind).unwrap_or_else(|| name.kind.api_version());
    let path = format!("{}/status", paths::object(&name, &version));
    let mut whole = object.to_json();
    let patch = json!({
        "metadata": { "resourceVersion": object.meta().resource_version },
        "status": whole.get_mut("status").map(Value::take),
    });
    patched(client, &path, MERGE_PATCH, &without_nulls(patch), &what).await.map(drop)
}

/// The lease of that name.
pub(super) async fn lease(
    client: &ApiClient,
    namespace: &str,
    name: &str,
) -> Result<Option<Lease>, ClusterError> {
    let path = format!("{}/{}", leases(namespace), escaped(name));
    let found = find::<KubeLease>(client, &path, &format!("read lease {namespace}/{name}")).await?;
    Ok(found.map(read_lease))
}

/// Makes or replaces a lease.
pub(super) async fn write_lease(
    client: &ApiClient,
    namespace: &str,
    name: &str,
    lease: Lease,
) -> Result<Lease, ClusterError> {
    let what = format!("write lease {namespace}/{name}");
    let mut object = json!({
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": { "name": name, "namespace": namespace },
        "spec": {
            // Kubernetes takes no empty name for "nobody".
            "holderIdentity": (!lease.holder.is_empty()).then_some(&lease.holder),
            "leaseDurationSeconds": lease.duration.as_secs().max(1),
            "acquireTime": micro_time(lease.acquired),
            "renewTime": micro_time(lease.renewed),
            "leaseTransitions": lease.transitions,
        },
    });
    let written = match &lease.version {
        None => made(client, &leases(namespace), &without_nulls(object), &what).await?,
        Some(version) => {
            object["metadata"]["resourceVersion"] = json!(version);
            let path = format!("{}/{}", leases(namespace), escaped(name));
            patched(client, &path, MERGE_PATCH, &object, &what).await?
        }
    };
    Ok(read_lease(read(&written, &what)?))
}

fn leases(namespace: &str) -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{}/leases", escaped(namespace))
}

fn read_lease(lease: KubeLease) -> Lease {
    let spec = lease.spec.unwrap_or_default();
    let seconds = u64::try_from(spec.lease_duration_seconds.unwrap_or(0)).unwrap_or(0);
    Lease {
        version: lease.metadata.resource_version,
        holder: spec.holder_identity.unwrap_or_default(),
        duration: std::time::Duration::from_secs(seconds),
        acquired: wall_time(spec.acquire_time),
        renewed: wall_time(spec.renew_time),
        transitions: u32::try_from(spec.lease_transitions.unwrap_or(0)).unwrap_or(0),
    }
}

fn micro_time(at: WallTime) -> MicroTime {
    let micros = i64::try_from(at.as_duration().as_micros()).unwrap_or(i64::MAX);
    MicroTime(jiff::Timestamp::from_microsecond(micros).unwrap_or(jiff::Timestamp::MAX))
}

fn wall_time(at: Option<MicroTime>) -> WallTime {
    let micros = at.map_or(0, |at| u64::try_from(at.0.as_microsecond()).unwrap_or(0));
    let whole = std::time::Duration::from_secs(micros / MICROS);
    WallTime::since_unix_epoch(whole + std::time::Duration::from_micros(micros % MICROS))
}

/// Whose a token is: one for `audience`, or else, as Linkerd takes them too, one for the API server
/// itself, as pods have that were injected long ago.
pub(super) async fn review(
    client: &ApiClient,
    token: &str,
    audience: &str,
) -> Result<TokenReview, ClusterError> {
    let first = review_for(client, token, Some(audience)).await?;
    let reviewed = match first {
        Ok(review) => Ok(review),
        Err(reason) => review_for(client, token, None).await?.map_err(|_| reason),
    };
    reviewed.map_err(ClusterError::Denied)
}

async fn review_for(
    client: &ApiClient,
    token: &str,
    audience: Option<&str>,
) -> Result<Result<TokenReview, String>, ClusterError> {
    let what = "review a token";
    let ask = json!({
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": { "token": token, "audiences": audience.map(|audience| [audience]) },
    });
    let path = "/apis/authentication.k8s.io/v1/tokenreviews";
    let answer = match made(client, path, &without_nulls(ask), what).await {
        Ok(answer) => answer,
        // Whoever asks may not: that is not the token's fault, and may be mended.
        Err(ClusterError::Denied(reason)) => return Err(ClusterError::Unavailable(reason)),
        Err(error) => return Err(error),
    };
    let status = read::<Review>(&answer, what)?.status.unwrap_or_default();
    let reason = status.error.unwrap_or_else(|| "the token is not authentic".to_owned());
    if status.authenticated != Some(true) {
        return Ok(Err(reason));
    }
    let is_for = |audience| status.audiences.iter().flatten().any(|known| known == audience);
    // A server that knows nothing of audiences does not repeat them.
    if let Some(audience) = audience
        && !is_for(audience)
    {
        return Ok(Err(format!("the token is not for {audience}")));
    }
    let user = status.user.unwrap_or_default();
    Ok(Ok(TokenReview {
        username: user.username.unwrap_or_default(),
        extra: user.extra.unwrap_or_default(),
    }))
}

/// A Secret.
pub(super) async fn secret(
    client: &ApiClient,
    namespace: &str,
    name: &str,
) -> Result<Option<Secret>, ClusterError> {
    let path = format!("{}/{}", secrets(namespace), escaped(name));
    let what = format!("read secret {namespace}/{name}");
    let found = find::<KubeSecret>(client, &path, &what).await?;
    Ok(found.map(read_secret))
}

/// Makes a Secret, or replaces its data.
pub(super) async fn write_secret(
    client: &ApiClient,
    namespace: &str,
    name: &str,
    secret: Secret,
) -> Result<Secret, ClusterError> {
    let what = format!("write secret {namespace}/{name}");
    let data = secret.data.into_iter().map(|(file, content)| (file, ByteString(content)));
    let data: std::collections::BTreeMap<_, _> = data.collect();
    let written = match &secret.version {
        None => {
            let object = json!({
                "apiVersion": "v1",
                "kind": "Secret",
                "metadata": { "name": name, "namespace": namespace },
                "type": secret.kind,
                "data": data,
            });
            made(client, &secrets(namespace), &object, &what).await?
        }
        Some(version) => {
            let patch = json!([
                { "op": "replace", "path": "/metadata/resourceVersion", "value": version },
                { "op": "add", "path": "/data", "value": data },
            ]);
            let path = format!("{}/{}", secrets(namespace), escaped(name));
            patched(client, &path, JSON_PATCH, &patch, &what).await?
        }
    };
    Ok(read_secret(read(&written, &what)?))
}

fn secrets(namespace: &str) -> String {
    format!("/api/v1/namespaces/{}/secrets", escaped(namespace))
}

fn read_secret(secret: KubeSecret) -> Secret {
    let data = secret.data.unwrap_or_default().into_iter();
    Secret {
        version: secret.metadata.resource_version,
        kind: secret.type_.unwrap_or_default(),
        data: data.map(|(file, content)| (file, content.0)).collect(),
    }
}

/// Sets the authority of every webhook of a configuration, where it is another.
pub(super) async fn ca_bundle(
    client: &ApiClient,
    webhook: WebhookKind,
    name: &str,
    pem: &str,
) -> Result<(), ClusterError> {
    let kind = match webhook {
        WebhookKind::Mutating => "mutatingwebhookconfigurations",
        WebhookKind::Validating => "validatingwebhookconfigurations",
    };
    let what = format!("set the CA bundle of {kind} {name}");
    let path = format!("/apis/admissionregistration.k8s.io/v1/{kind}/{}", escaped(name));
    let mut found = find::<Value>(client, &path, &what)
        .await?
        .ok_or_else(|| ClusterError::NotFound(format!("{what}: there is none")))?;
    let bundle = json!(ByteString(pem.as_bytes().to_vec()));
    let mut is_changed = false;
    for webhook in found["webhooks"].as_array_mut().into_iter().flatten() {
        let known = &mut webhook["clientConfig"]["caBundle"];
        is_changed |= *known != bundle;
        *known = bundle.clone();
    }
    if !is_changed {
        return Ok(());
    }
    let patch = json!({
        "metadata": { "resourceVersion": found["metadata"]["resourceVersion"] },
        "webhooks": found["webhooks"],
    });
    patched(client, &path, MERGE_PATCH, &patch, &what).await.map(drop)
}

/// What is at a path; none where nothing is.
pub(super) async fn find<T: DeserializeOwned>(
    client: &ApiClient,
    path: &str,
    what: &str,
) -> Result<Option<T>, ClusterError> {
    match client.find(path).await {
        Ok(answer) => read(&answer, what).map(Some),
        Err(error) if error.is(http::StatusCode::NOT_FOUND) => Ok(None),
        Err(error) => Err(error.told_as(what)),
    }
}

/// Makes what is to be in a collection.
pub(super) async fn made(
    client: &ApiClient,
    collection: &str,
    object: &Value,
    what: &str,
) -> Result<bytes::Bytes, ClusterError> {
    let answer = client.call(Method::POST, collection, JSON, object.to_string().into_bytes()).await;
    answer.map_err(|error| error.told_as(what))
}

/// Patches what is at a path.
pub(super) async fn patched(
    client: &ApiClient,
    path: &str,
    form: &str,
    patch: &Value,
    what: &str,
) -> Result<bytes::Bytes, ClusterError> {
    let answer = client.call(Method::PATCH, path, form, patch.to_string().into_bytes()).await;
    answer.map_err(|error: ApiError| error.told_as(what))
}

fn read<T: DeserializeOwned>(answer: &[u8], what: &str) -> Result<T, ClusterError> {
    serde_json::from_slice(answer)
        .map_err(|error| ClusterError::Unavailable(format!("{what}: the answer: {error}")))
}

/// In a merge patch a null removes; what nobody said is to stay.
fn without_nulls(value: Value) -> Value {
    match value {
        Value::Object(fields) => {
            let fields = fields.into_iter().filter(|(_, value)| !value.is_null());
            Value::Object(fields.map(|(name, value)| (name, without_nulls(value))).collect())
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_of_leases_have_six_digits_as_the_server_asks() {
        let at = WallTime::since_unix_epoch(std::time::Duration::from_millis(1_700_000_000_250));
        let text = serde_json::to_string(&micro_time(at)).expect("plain");
        assert_eq!(text, r#""2023-11-14T22:13:20.250000Z""#);
        assert_eq!(wall_time(Some(micro_time(at))), at);
    }
}
