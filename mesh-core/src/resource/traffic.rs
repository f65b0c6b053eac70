//! Annotations about traffic, read: `timeout.linkerd.io`, `retry.linkerd.io`, `balancer.linkerd.io`.
//! What each may say, in one place for those who check objects and those who compile them.

use std::time::Duration;

/// Time limits: of the whole, from the request's end, and without a frame either way.
pub const TIMEOUTS: [&str; 3] =
    ["timeout.linkerd.io/request", "timeout.linkerd.io/response", "timeout.linkerd.io/idle"];

/// After which HTTP statuses a request is tried again: `5xx,gateway-error,429,500-503`.
pub const RETRY_HTTP: &str = "retry.linkerd.io/http";
/// After which gRPC statuses: `cancelled,deadline-exceeded,internal,resource-exhausted,unavailable`.
pub const RETRY_GRPC: &str = "retry.linkerd.io/grpc";
/// How often; once where nothing is said.
pub const RETRY_LIMIT: &str = "retry.linkerd.io/limit";
/// Time for each attempt's response to begin.
pub const RETRY_TIMEOUT: &str = "retry.linkerd.io/timeout";
/// All annotations about retries.
pub const RETRIES: [&str; 4] = [RETRY_HTTP, RETRY_GRPC, RETRY_LIMIT, RETRY_TIMEOUT];

/// Circuit breaking: `consecutive` or `unified`.
pub const ACCRUAL: &str = "balancer.linkerd.io/failure-accrual";
/// Failures in a row.
pub const ACCRUAL_MAX_FAILURES: &str =
    "balancer.linkerd.io/failure-accrual-consecutive-max-failures";
/// The first penalty.
pub const ACCRUAL_MIN_PENALTY: &str = "balancer.linkerd.io/failure-accrual-consecutive-min-penalty";
/// The longest penalty.
pub const ACCRUAL_MAX_PENALTY: &str = "balancer.linkerd.io/failure-accrual-consecutive-max-penalty";
/// The random share of penalties.
pub const ACCRUAL_JITTER_RATIO: &str =
    "balancer.linkerd.io/failure-accrual-consecutive-jitter-ratio";
/// The lowest rate of success.
pub const ACCRUAL_THRESHOLD: &str =
    "balancer.alpha.linkerd.io/failure-accrual-success-rate-threshold";
/// The window of that rate.
pub const ACCRUAL_WINDOW: &str = "balancer.alpha.linkerd.io/failure-accrual-success-rate-window";
/// Requests below which that rate does not count.
pub const ACCRUAL_MIN_REQUESTS: &str =
    "balancer.alpha.linkerd.io/failure-accrual-success-rate-min-requests";
/// Whether `Retry-After` sets penalties.
pub const ACCRUAL_RETRY_AFTER: &str = "balancer.alpha.linkerd.io/failure-accrual-honor-retry-after";

/// `true`: failures count as latency.
pub const PENALIZE_FAILURES: &str = "balancer.alpha.linkerd.io/penalize-failures";
/// As how much.
pub const LOAD_PENALTY: &str = "balancer.alpha.linkerd.io/load-biaser-penalty";
/// The longest `Retry-After` that is heeded.
pub const LOAD_MAX_RETRY_AFTER: &str = "balancer.alpha.linkerd.io/load-biaser-max-retry-after";

/// The longest window and the most requests that a rate is measured over.
const WINDOW_MIN: Duration = Duration::from_millis(10);
const MIN_REQUESTS_MAX: u32 = 1_000_000;

/// Circuit breaking, as annotations say it.
#[derive(Clone, Debug, PartialEq)]
pub struct Accrual {
    /// Failures in a row.
    pub max_failures: u32,
    /// The first penalty.
    pub min_penalty: Duration,
    /// The longest penalty.
    pub max_penalty: Duration,
    /// The random share of penalties.
    pub jitter_ratio: f64,
    /// `Retry-After` sets penalties.
    pub honors_retry_after: bool,
    /// `unified`: by the rate of success too.
    pub success_rate: Option<SuccessRate>,
}

/// A lowest rate of success.
#[derive(Clone, Debug, PartialEq)]
pub struct SuccessRate {
    /// From 0 to 1.
    pub threshold: f64,
    /// Over which time.
    pub window: Duration,
    /// And over how many requests at least.
    pub min_requests: u32,
}

/// A condition of gRPC retries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GrpcCondition {
    /// 1.
    Cancelled,
    /// 4.
    DeadlineExceeded,
    /// 8.
    ResourceExhausted,
    /// 13.
    Internal,
    /// 14.
    Unavailable,
}

/// Circuit breaking, out of the annotations that `find` finds; none where none is wanted.
///
/// # Errors
/// The annotation that makes no sense.
pub fn accrual<'a>(
    find: impl Fn(&'static str) -> Option<&'a str>,
) -> Result<Option<Accrual>, &'static str> {
    let Some(mode) = find(ACCRUAL) else {
        return Ok(None);
    };
    let is_unified = match mode {
        "consecutive" => false,
        "unified" => true,
        _ => return Err(ACCRUAL),
    };
    fn read<T>(
        name: &'static str,
        text: Option<&str>,
        default: T,
        parse: impl Fn(&str) -> Option<T>,
    ) -> Result<T, &'static str> {
        text.map_or(Ok(default), |text| parse(text.trim()).ok_or(name))
    }
    let time = |name, default: u64| read(name, find(name), Duration::from_secs(default), duration);
    let ratio = |text: &str| text.parse().ok().filter(|ratio| (0.0..=100.0).contains(ratio));
    let accrual = Accrual {
        max_failures: read(ACCRUAL_MAX_FAILURES, find(ACCRUAL_MAX_FAILURES), 7, |text| {
            text.parse().ok().filter(|failures| *failures > 0)
        })?,
        min_penalty: time(ACCRUAL_MIN_PENALTY, 1)?,
        max_penalty: time(ACCRUAL_MAX_PENALTY, 60)?,
        jitter_ratio: read(ACCRUAL_JITTER_RATIO, find(ACCRUAL_JITTER_RATIO), 0.5, ratio)?,
        honors_retry_after: read(ACCRUAL_RETRY_AFTER, find(ACCRUAL_RETRY_AFTER), false, |text| {
            text.parse().ok()
        })?,
        success_rate: match is_unified {
            false => None,
            true => Some(SuccessRate {
                threshold: read(ACCRUAL_THRESHOLD, find(ACCRUAL_THRESHOLD), 0.8, |text| {
                    ratio(text).filter(|ratio| *ratio <= 1.0)
                })?,
                window: time(ACCRUAL_WINDOW, 10)?,
                min_requests: read(ACCRUAL_MIN_REQUESTS, find(ACCRUAL_MIN_REQUESTS), 5, |text| {
                    text.parse().ok().filter(|requests| *requests <= MIN_REQUESTS_MAX)
                })?,
            }),
        },
    };
    if accrual.min_penalty.is_zero() || accrual.min_penalty > accrual.max_penalty {
        return Err(ACCRUAL_MIN_PENALTY);
    }
    match &accrual.success_rate {
        Some(rate) if rate.window < WINDOW_MIN => Err(ACCRUAL_WINDOW),
        _ => Ok(Some(accrual)),
    }
}

/// Statuses as inclusive ranges; none where a part makes no sense.
pub fn http_conditions(text: &str) -> Option<Vec<(u16, u16)>> {
    let status = |text: &str| text.trim().parse().ok().filter(|code| (100..600).contains(code));
    let one = |part: &str| match part.trim() {
        "5xx" => Some((500, 599)),
        "gateway-error" => Some((502, 504)),
        part => match part.split_once('-') {
            Some((low, high)) => {
                Some((status(low)?, status(high)?)).filter(|(low, high)| low <= high)
            }
            None => status(part).map(|code| (code, code)),
        },
    };
    text.split(',').map(one).collect()
}

/// gRPC statuses; none where a part makes no sense.
pub fn grpc_conditions(text: &str) -> Option<Vec<GrpcCondition>> {
    let one = |part: &str| {
        Some(match part.trim().to_ascii_lowercase().as_str() {
            "cancelled" => GrpcCondition::Cancelled,
            "deadline-exceeded" => GrpcCondition::DeadlineExceeded,
            "resource-exhausted" => GrpcCondition::ResourceExhausted,
            "internal" => GrpcCondition::Internal,
            "unavailable" => GrpcCondition::Unavailable,
            _ => return None,
        })
    };
    text.split(',').map(one).collect()
}

/// A duration as annotations have it: those of Kubernetes' objects, and days.
pub fn duration(text: &str) -> Option<Duration> {
    let text = text.trim();
    if let Some(days) = text.strip_suffix('d').and_then(|days| days.parse::<u32>().ok()) {
        return Some(Duration::from_secs(24 * 60 * 60) * days);
    }
    super::duration::parse(text)
}

/// What is wrong with one annotation about traffic, where it is one: what to write instead.
pub fn fault(name: &str, value: &str) -> Option<&'static str> {
    const DURATION: &str = "use a duration such as 300ms, 10s or 1m";
    let (good, remedy) = match name {
        name if TIMEOUTS.contains(&name) => (duration(value).is_some(), DURATION),
        RETRY_TIMEOUT | LOAD_PENALTY | LOAD_MAX_RETRY_AFTER => {
            (duration(value).is_some(), DURATION)
        }
        RETRY_LIMIT => (value.trim().parse::<u16>().is_ok(), "use a number from 0 to 65535"),
        RETRY_HTTP => {
            let remedy = "list statuses: 5xx, gateway-error, 503, 500-504";
            (http_conditions(value).is_some(), remedy)
        }
        RETRY_GRPC => {
            let remedy = "list cancelled, deadline-exceeded, internal, resource-exhausted or \
                          unavailable";
            (grpc_conditions(value).is_some(), remedy)
        }
        PENALIZE_FAILURES => (matches!(value, "true" | "false"), "use true or false"),
        name if name.contains("failure-accrual") && name.starts_with("balancer.") => {
            let find = |wanted: &'static str| match wanted {
                ACCRUAL if wanted != name => Some("unified"),
                _ => (wanted == name).then_some(value),
            };
            // The shortest penalty is compared with the longest only where both are at hand.
            let good = accrual(find).is_ok()
                || matches!(name, ACCRUAL_MIN_PENALTY | ACCRUAL_MAX_PENALTY)
                    && duration(value).is_some_and(|penalty| !penalty.is_zero());
            let remedy = match name {
                ACCRUAL => "use consecutive or unified",
                ACCRUAL_JITTER_RATIO | ACCRUAL_THRESHOLD => "use a share such as 0.5",
                ACCRUAL_MAX_FAILURES | ACCRUAL_MIN_REQUESTS => "use a number such as 7",
                ACCRUAL_RETRY_AFTER => "use true or false",
                _ => DURATION,
            };
            (good, remedy)
        }
        _ => return None,
    };
    (!good).then_some(remedy)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn accrual_of(
        annotations: &[(&'static str, &'static str)],
    ) -> Result<Option<Accrual>, &'static str> {
        accrual(|name| annotations.iter().find(|(known, _)| *known == name).map(|(_, text)| *text))
    }

    #[test]
    fn accrual_has_linkerds_defaults() {
        assert_eq!(accrual_of(&[]), Ok(None));
        let consecutive = accrual_of(&[(ACCRUAL, "consecutive")]).unwrap().unwrap();
        assert_eq!(
            (consecutive.max_failures, consecutive.min_penalty, consecutive.max_penalty),
            (7, Duration::from_secs(1), Duration::from_secs(60))
        );
        assert_eq!((consecutive.jitter_ratio, consecutive.success_rate), (0.5, None));
        let unified = accrual_of(&[(ACCRUAL, "unified"), (ACCRUAL_WINDOW, "20s")]).unwrap();
        let window = Duration::from_secs(20);
        let rate = SuccessRate { threshold: 0.8, window, min_requests: 5 };
        assert_eq!(unified.unwrap().success_rate, Some(rate));
    }

    #[test]
    fn accrual_that_makes_no_sense_names_its_annotation() {
        for (name, value) in [
            (ACCRUAL_MAX_FAILURES, "0"),
            (ACCRUAL_MAX_FAILURES, "many"),
            (ACCRUAL_JITTER_RATIO, "-1"),
            (ACCRUAL_MIN_PENALTY, "2m"),
            (ACCRUAL_MAX_PENALTY, "soon"),
        ] {
            assert_eq!(accrual_of(&[(ACCRUAL, "consecutive"), (name, value)]), Err(name));
        }
        assert_eq!(accrual_of(&[(ACCRUAL, "sometimes")]), Err(ACCRUAL));
    }

    #[test]
    fn conditions_of_retries_are_lists() {
        assert_eq!(http_conditions("5xx"), Some(vec![(500, 599)]));
        assert_eq!(
            http_conditions("gateway-error, 429,500-501"),
            Some(vec![(502, 504), (429, 429), (500, 501)])
        );
        for wrong in ["", "6xx", "99", "503-500", "500,", "all"] {
            assert_eq!(http_conditions(wrong), None, "{wrong}");
        }
        let some = vec![GrpcCondition::Unavailable, GrpcCondition::Internal];
        assert_eq!(grpc_conditions("unavailable,INTERNAL"), Some(some));
        assert_eq!(grpc_conditions("unavailable,unknown"), None);
    }

    #[test]
    fn faults_say_what_to_write_instead() {
        assert_eq!(fault("timeout.linkerd.io/request", "10s"), None);
        assert_eq!(fault("example.com/other", "what"), None);
        assert_eq!(fault(ACCRUAL_MIN_PENALTY, "2m"), None, "the longest one may be longer");
        for (name, value) in [
            ("timeout.linkerd.io/idle", "soon"),
            (RETRY_HTTP, "bad"),
            (RETRY_GRPC, "ok"),
            (RETRY_LIMIT, "-1"),
            (ACCRUAL, "yes"),
            (ACCRUAL_THRESHOLD, "2"),
            (PENALIZE_FAILURES, "1"),
        ] {
            assert!(fault(name, value).is_some(), "{name}: {value}");
        }
    }
}
