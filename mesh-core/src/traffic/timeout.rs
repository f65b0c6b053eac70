//! Time limits of requests: from a route, a backend, or the client's own `l5d-*` headers. Sets no
//! timer.

use std::time::Duration;

use http::{HeaderMap, HeaderName};

use crate::model::route::http::Timeouts;
use crate::time::Timestamp;

/// The client's limit for the whole request; wins over [`L5D_TIMEOUT`].
pub const L5D_REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("l5d-request-timeout");
/// The client's limit for the whole request.
pub const L5D_TIMEOUT: HeaderName = HeaderName::from_static("l5d-timeout");
/// The client's limit from its request's end to the response's end.
pub const L5D_RESPONSE_TIMEOUT: HeaderName = HeaderName::from_static("l5d-response-timeout");

/// When the whole of a request must be over that began at `now`: the earlier of the route's limit
/// and the backend's. `None` where there is no limit; a limit of zero is none, as in HTTPRoute.
pub fn deadline(
    now: Timestamp,
    timeouts: &Timeouts,
    backend: Option<Duration>,
) -> Option<Timestamp> {
    let limits = [timeouts.request, backend];
    let shortest = limits.into_iter().flatten().filter(|limit| !limit.is_zero()).min()?;
    Some(now + shortest)
}

/// A route's limits with the client's own in their place. What is no duration counts as absent.
/// Only for routes with `allow_l5d_request_headers`; the headers are for the proxy to strip.
pub fn overridden(timeouts: &Timeouts, headers: &HeaderMap) -> Timeouts {
    let wish = |name: &HeaderName| parse_duration(headers.get(name)?.to_str().ok()?).ok();
    let request = wish(&L5D_REQUEST_TIMEOUT).or_else(|| wish(&L5D_TIMEOUT));
    Timeouts {
        request: request.or(timeouts.request),
        response: wish(&L5D_RESPONSE_TIMEOUT).or(timeouts.response),
        idle: timeouts.idle,
    }
}

/// A text that is no duration.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a duration: write a whole number and ms, s, m, h or d, such as 300ms")]
pub struct InvalidDuration(pub String);

/// Reads a duration as Linkerd writes them in headers, annotations and the environment: a whole
/// number and a unit, `10ms`, `5s`, `2m`, `1h`, `1d`; of `0` the unit may be missing.
///
/// # Errors
/// [`InvalidDuration`] where it is none, or longer than `u64` milliseconds.
pub fn parse_duration(text: &str) -> Result<Duration, InvalidDuration> {
    let invalid = || InvalidDuration(text.to_string());
    let trimmed = text.trim();
    let digits = trimmed.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = trimmed.split_at(digits);
    let number: u64 = number.parse().map_err(|_| invalid())?;
    let unit_ms: u64 = match unit {
        "ms" => 1,
        "s" => 1_000,
        "m" => 60 * 1_000,
        "h" => 60 * 60 * 1_000,
        "d" => 24 * 60 * 60 * 1_000,
        "" if number == 0 => 1,
        _ => return Err(invalid()),
    };
    let millis = number.checked_mul(unit_ms).ok_or_else(invalid)?;
    Ok(Duration::from_millis(millis))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const fn secs(secs: u64) -> Option<Duration> {
        Some(Duration::from_secs(secs))
    }

    #[test]
    fn durations_are_whole_numbers_with_a_unit() {
        let millis = |text| parse_duration(text).map(|d| d.as_millis());
        assert_eq!(millis("10ms"), Ok(10));
        assert_eq!(millis(" 5s "), Ok(5_000));
        assert_eq!(millis("2m"), Ok(120_000));
        assert_eq!(millis("1h"), Ok(3_600_000));
        assert_eq!(millis("1d"), Ok(86_400_000));
        assert_eq!(millis("0"), Ok(0));
        for wrong in ["", "5", "s", "1.5s", "-1s", "1 s", "1us", "1ms2", "99999999999999999999d"] {
            assert!(parse_duration(wrong).is_err(), "{wrong}");
        }
        assert!(parse_duration(&format!("{}d", u64::MAX)).is_err());
    }

    #[test]
    fn the_earlier_limit_is_the_deadline_and_zero_is_none() {
        let at = Timestamp::from_millis(1_000);
        let with = |request, backend| {
            let timeouts = Timeouts { request, ..Timeouts::default() };
            deadline(at, &timeouts, backend).map(|t| t.as_nanos() / 1_000_000)
        };
        assert_eq!(with(None, None), None);
        assert_eq!(with(secs(0), None), None);
        assert_eq!(with(secs(3), None), Some(4_000));
        assert_eq!(with(secs(3), secs(2)), Some(3_000));
        assert_eq!(with(secs(0), secs(2)), Some(3_000));
        assert_eq!(with(Some(Duration::MAX), None).map(|_| ()), Some(()));
    }

    #[test]
    fn a_clients_wishes_replace_the_routes_limits() {
        let route = Timeouts { response: secs(1), request: secs(2), idle: secs(3) };
        let mut headers = HeaderMap::new();
        assert_eq!(overridden(&route, &headers), route);
        headers.insert(L5D_TIMEOUT, "7s".parse().unwrap());
        headers.insert(L5D_RESPONSE_TIMEOUT, "soon".parse().unwrap());
        assert_eq!(overridden(&route, &headers), Timeouts { request: secs(7), ..route });
        headers.insert(L5D_REQUEST_TIMEOUT, "8s".parse().unwrap());
        assert_eq!(overridden(&route, &headers).request, secs(8));
    }

    proptest! {
        #[test]
        fn reading_a_duration_never_panics(text in "[0-9]{0,25}[a-z]{0,3}|\\PC*") {
            let _ = parse_duration(&text);
        }

        #[test]
        fn a_duration_is_its_number_of_its_unit(
            number in any::<u32>(),
            (unit, unit_ms) in prop::sample::select(vec![
                ("ms", 1u64), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000),
            ]),
        ) {
            let millis = Duration::from_millis(u64::from(number) * unit_ms);
            prop_assert_eq!(parse_duration(&format!("{number}{unit}")), Ok(millis));
        }

        /// A deadline is after its request's begin, no limit allows more, and one limit is it.
        #[test]
        fn the_deadline_is_the_shortest_limit(
            now_ms in 0u64..1_000_000,
            limits in prop::array::uniform2(prop::option::of(0u64..100_000)),
        ) {
            let now = Timestamp::from_millis(now_ms);
            let [request, backend] = limits.map(|limit| limit.map(Duration::from_millis));
            let timeouts = Timeouts { request, ..Timeouts::default() };
            let found = deadline(now, &timeouts, backend);
            let set: Vec<_> =
                [request, backend].into_iter().flatten().filter(|l| !l.is_zero()).collect();
            prop_assert_eq!(found.is_some(), !set.is_empty());
            if let Some(found) = found {
                prop_assert!(found > now && set.iter().all(|limit| found <= now + *limit));
                prop_assert!(set.iter().any(|limit| found == now + *limit));
            }
        }

        /// The client's wishes replace the route's limits one by one; what makes no sense is none.
        #[test]
        fn wishes_replace_limits_one_by_one(
            values in prop::array::uniform3(prop::option::of("[0-9]{1,3}(ms|s|x)?")),
            route in prop::array::uniform3(prop::option::of(1u64..1_000)),
        ) {
            let [request, response, idle] = route.map(|limit| limit.map(Duration::from_millis));
            let timeouts = Timeouts { request, response, idle };
            let mut headers = HeaderMap::new();
            let names = [L5D_REQUEST_TIMEOUT, L5D_TIMEOUT, L5D_RESPONSE_TIMEOUT];
            for (name, value) in names.into_iter().zip(&values) {
                headers.extend(value.iter().map(|v| (name.clone(), v.parse().unwrap())));
            }
            let wish = |at: usize| values[at].as_ref().and_then(|text| parse_duration(text).ok());
            let found = overridden(&timeouts, &headers);
            prop_assert_eq!(found.request, wish(0).or(wish(1)).or(request));
            prop_assert_eq!(found.response, wish(2).or(response));
            prop_assert_eq!(found.idle, idle);
        }
    }
}
