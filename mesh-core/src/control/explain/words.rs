//! Parts of policies in words.

use std::fmt::Display;
use std::time::Duration;

use crate::model::client_policy::{Backoff, FailureAccrual, Retry, Trip};
use crate::model::route::HostMatch;
use crate::model::route::grpc::GrpcMatch;
use crate::model::route::http::{HeaderMatch, HttpMatch, PathMatch, QueryParamMatch, Timeouts};
use crate::model::server_policy::{Authentication, Authorization, Network};
use crate::traffic::retry::RetryOn;

/// `10s`, `250ms`.
pub(super) fn time(time: Duration) -> String {
    format!("{time:?}")
}

/// What is listed, or `nothing`.
pub(super) fn list<T: Display>(items: impl IntoIterator<Item = T>, nothing: &str) -> String {
    let items: Vec<_> = items.into_iter().map(|item| item.to_string()).collect();
    if items.is_empty() { nothing.to_string() } else { items.join(", ") }
}

/// `1 pod`, `3 pods`.
pub(super) fn count(count: usize, what: &str) -> String {
    format!("{count} {what}{}", if count == 1 { "" } else { "s" })
}

pub(super) fn hosts(hosts: &[HostMatch]) -> String {
    let host = |host: &HostMatch| match host {
        HostMatch::Exact(name) => name.clone(),
        HostMatch::Suffix(labels) => {
            let labels: Vec<_> = labels.iter().rev().map(String::as_str).collect();
            format!("*.{}", labels.join("."))
        }
    };
    list(hosts.iter().map(host), "all hosts")
}

pub(super) fn http_match(wanted: &HttpMatch) -> String {
    let path = wanted.path.as_ref().map(|path| match path {
        PathMatch::Exact(path) => format!("path = {path}"),
        PathMatch::Prefix(path) => format!("path below {path}"),
        PathMatch::Regex(pattern) => format!("path ~ {}", pattern.as_str()),
    });
    let method = wanted.method.as_ref().map(|method| format!("method = {method}"));
    let query = wanted.query_params.iter().map(|query| match query {
        QueryParamMatch::Exact(name, value) => format!("query {name} = {value}"),
        QueryParamMatch::Regex(name, pattern) => format!("query {name} ~ {}", pattern.as_str()),
    });
    let parts = method.into_iter().chain(path).chain(headers(&wanted.headers)).chain(query);
    all_of(parts)
}

pub(super) fn grpc_match(wanted: &GrpcMatch) -> String {
    let service = wanted.service.as_ref().map(|service| format!("service = {service}"));
    let method = wanted.method.as_ref().map(|method| format!("method = {method}"));
    all_of(service.into_iter().chain(method).chain(headers(&wanted.headers)))
}

fn headers(wanted: &[HeaderMatch]) -> impl Iterator<Item = String> + '_ {
    wanted.iter().map(|header| match header {
        HeaderMatch::Exact(name, value) => {
            format!("header {name} = {}", String::from_utf8_lossy(value.as_bytes()))
        }
        HeaderMatch::Regex(name, pattern) => format!("header {name} ~ {}", pattern.as_str()),
    })
}

fn all_of(parts: impl Iterator<Item = String>) -> String {
    let parts: Vec<_> = parts.collect();
    if parts.is_empty() { "everything".to_string() } else { parts.join(" and ") }
}

pub(super) fn timeouts(timeouts: &Timeouts, backend: Option<Duration>) -> Vec<String> {
    let of = |limit: Option<Duration>, what: &str| {
        limit.map(|limit| format!("{} for {what}", time(limit)))
    };
    [
        of(timeouts.request, "the whole of it"),
        of(backend, "the whole of it, by this backend"),
        of(timeouts.response, "the response, from the request's end"),
        of(timeouts.idle, "a silence of both sides"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

pub(super) fn retry<C>(retry: &Retry<C>, on: &RetryOn) -> String {
    let conditions = match on {
        RetryOn::Http(http) => {
            let ranges = http.statuses.iter().map(|(low, high)| match low == high {
                true => low.to_string(),
                false => format!("{low}-{high}"),
            });
            format!("status {}", list(ranges, "none"))
        }
        RetryOn::Grpc(grpc) => {
            let all = [
                (grpc.cancelled, "cancelled"),
                (grpc.deadline_exceeded, "deadline-exceeded"),
                (grpc.resource_exhausted, "resource-exhausted"),
                (grpc.internal, "internal"),
                (grpc.unavailable, "unavailable"),
            ];
            let named = all.iter().filter(|(holds, _)| *holds).map(|(_, name)| *name);
            format!("gRPC status {}", list(named, "none"))
        }
    };
    let each = match retry.timeout {
        Some(timeout) => format!(", each attempt within {}", time(timeout)),
        None => String::new(),
    };
    let times = count(usize::from(retry.max_retries), "time");
    format!("sent again {times} at most, after {conditions}{each}")
}

pub(super) fn breaker(accrual: &FailureAccrual) -> Option<String> {
    let out = |backoff: &Backoff| format!("for {} to {}", time(backoff.min), time(backoff.max));
    Some(match accrual.trip.as_ref()? {
        Trip::Consecutive { max_failures, backoff } => {
            format!("after {max_failures} failures in a row, {}", out(backoff))
        }
        Trip::Unified {
            success_rate_threshold,
            min_requests,
            max_consecutive_failures,
            backoff,
            decay,
        } => format!(
            "after {max_consecutive_failures} failures in a row, or below a success rate of {} \
             over {} of at least {min_requests} requests, {}",
            success_rate_threshold.as_f64(),
            time(*decay),
            out(backoff)
        ),
    })
}

/// Whom an authorization allows.
pub(super) fn allows(authorization: &Authorization) -> String {
    format!("{} from {}", who(&authorization.authentication), networks(&authorization.networks))
}

pub(super) fn who(authentication: &Authentication) -> String {
    match authentication {
        Authentication::Unauthenticated => "anybody".to_string(),
        Authentication::TlsUnauthenticated => "anybody over mesh TLS".to_string(),
        Authentication::TlsAuthenticated { identities, suffixes } => {
            let suffixes = suffixes.iter().map(|suffix| match suffix.parts.as_slice() {
                [] => "every meshed identity".to_string(),
                parts => format!("*.{}", parts.join(".")),
            });
            list(identities.iter().map(ToString::to_string).chain(suffixes), "nobody")
        }
    }
}

pub(super) fn networks(networks: &[Network]) -> String {
    let whole = |network: &Network| network.net.prefix_len() == 0 && network.except.is_empty();
    if networks.iter().any(whole) && networks.iter().all(whole) {
        return "anywhere".to_string();
    }
    let network = |network: &Network| match network.except.as_slice() {
        [] => network.net.to_string(),
        except => format!("{} without {}", network.net, list(except, "")),
    };
    list(networks.iter().map(network), "nowhere")
}
