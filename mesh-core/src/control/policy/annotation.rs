//! What annotations of Services, routes and egress networks say of traffic to them: time limits,
//! retries, circuit breaking, how load is measured.
//!
//! Law, Linkerd's: where a route has any annotation of a subject, its parent's of that subject do
//! not count for it. What is written wrongly counts as not written; whoever checks the object says
//! so to its author.

use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use crate::model::client_policy::{
    Backoff, FailureAccrual, GrpcRetryConditions, HttpRetryConditions, Load, Retry, Trip,
};
use crate::model::ratio::Ratio;
use crate::model::route::http::Timeouts;
use crate::resource::traffic::{self, Accrual, GrpcCondition};

/// Kept of a request for another attempt (Linkerd: 64 KiB).
const RETRY_BYTES_MAX: u32 = 64 * 1024;
/// Between attempts (Linkerd: 25 to 250 ms, doubled at most by chance).
const RETRY_BACKOFF: Backoff = Backoff {
    min: Duration::from_millis(25),
    max: Duration::from_millis(250),
    jitter: Ratio::from_millionths(1_000_000),
    respect_retry_after: false,
};

/// How load is measured where nothing is said.
pub(super) const LOAD: Load =
    Load::PeakEwma { default_rtt: Duration::from_millis(30), decay: Duration::from_secs(10) };
/// How fast a penalty is forgotten.
const PENALTY_DECAY: Duration = Duration::from_secs(10);

/// Time limits; a limit of zero is none.
pub(super) fn timeouts(route: Option<&ObjectMeta>, parent: &ObjectMeta) -> Timeouts {
    let meta = nearest(route, parent, &traffic::TIMEOUTS);
    let limit = |name: &str| {
        let limit = traffic::duration(annotation(meta, name)?);
        limit.filter(|time| !time.is_zero())
    };
    let [request, response, idle] = traffic::TIMEOUTS.map(limit);
    Timeouts { response, request, idle }
}

/// Retries of HTTP.
pub(super) fn http_retry(
    route: Option<&ObjectMeta>,
    parent: &ObjectMeta,
) -> Option<Retry<HttpRetryConditions>> {
    let meta = nearest(route, parent, &traffic::RETRIES);
    let statuses = traffic::http_conditions(annotation(meta, traffic::RETRY_HTTP)?)?;
    Some(retry(meta, HttpRetryConditions { statuses }))
}

/// Retries of gRPC.
pub(super) fn grpc_retry(
    route: Option<&ObjectMeta>,
    parent: &ObjectMeta,
) -> Option<Retry<GrpcRetryConditions>> {
    let meta = nearest(route, parent, &traffic::RETRIES);
    let wanted = traffic::grpc_conditions(annotation(meta, traffic::RETRY_GRPC)?)?;
    let has = |condition| wanted.contains(&condition);
    let conditions = GrpcRetryConditions {
        cancelled: has(GrpcCondition::Cancelled),
        deadline_exceeded: has(GrpcCondition::DeadlineExceeded),
        resource_exhausted: has(GrpcCondition::ResourceExhausted),
        internal: has(GrpcCondition::Internal),
        unavailable: has(GrpcCondition::Unavailable),
    };
    Some(retry(meta, conditions))
}

fn retry<C>(meta: &ObjectMeta, conditions: C) -> Retry<C> {
    let limit = annotation(meta, traffic::RETRY_LIMIT).and_then(|text| text.trim().parse().ok());
    let timeout = annotation(meta, traffic::RETRY_TIMEOUT).and_then(traffic::duration);
    Retry {
        max_retries: limit.unwrap_or(1),
        max_request_bytes: RETRY_BYTES_MAX,
        conditions,
        timeout: timeout.filter(|timeout| !timeout.is_zero()),
        backoff: Some(RETRY_BACKOFF),
    }
}

/// Circuit breaking of a Service's endpoints.
pub(super) fn breaker(parent: &ObjectMeta) -> Option<FailureAccrual> {
    let find = |name: &str| annotation(parent, name);
    let accrual = traffic::accrual(find).ok()??;
    let backoff = |accrual: &Accrual| Backoff {
        min: accrual.min_penalty,
        max: accrual.max_penalty,
        jitter: Ratio::from_f64(accrual.jitter_ratio).unwrap_or_default(),
        respect_retry_after: accrual.honors_retry_after,
    };
    let trip = match &accrual.success_rate {
        None => {
            Trip::Consecutive { max_failures: accrual.max_failures, backoff: backoff(&accrual) }
        }
        Some(rate) => Trip::Unified {
            success_rate_threshold: Ratio::from_f64(rate.threshold).unwrap_or_default(),
            decay: rate.window,
            min_requests: rate.min_requests,
            max_consecutive_failures: accrual.max_failures,
            backoff: backoff(&accrual),
        },
    };
    Some(FailureAccrual { trip: Some(trip), min_ready_endpoints: None })
}

/// How the load of a Service's endpoints is measured.
pub(super) fn load(parent: &ObjectMeta) -> Load {
    if annotation(parent, traffic::PENALIZE_FAILURES) != Some("true") {
        return LOAD;
    }
    let time = |name: &str, default: u64| {
        let given = annotation(parent, name).and_then(traffic::duration);
        given.unwrap_or(Duration::from_secs(default))
    };
    Load::PenaltyPeakEwma {
        default_rtt: Duration::from_millis(30),
        decay: Duration::from_secs(10),
        penalty: time(traffic::LOAD_PENALTY, 5),
        max_retry_after: time(traffic::LOAD_MAX_RETRY_AFTER, 300),
        penalty_decay: PENALTY_DECAY,
    }
}

/// The object whose annotations of a subject count.
fn nearest<'a>(
    route: Option<&'a ObjectMeta>,
    parent: &'a ObjectMeta,
    names: &[&str],
) -> &'a ObjectMeta {
    let has_any = |meta: &&ObjectMeta| names.iter().any(|name| annotation(meta, name).is_some());
    route.filter(has_any).unwrap_or(parent)
}

fn annotation<'a>(meta: &'a ObjectMeta, name: &str) -> Option<&'a str> {
    meta.annotations.as_ref()?.get(name).map(String::as_str)
}
