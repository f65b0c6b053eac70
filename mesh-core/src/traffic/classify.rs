//! Classifies responses as successes and failures, for metrics and for balancing.
//!
//! Not the conditions of retries, which routes state themselves. Law: a response has one class,
//! known at its end; its head alone may settle it.

use http::header::CONTENT_TYPE;
use http::{HeaderMap, HeaderName, StatusCode};

use crate::model::profile::{ResponseClass, ResponseMatch};

const GRPC_STATUS: HeaderName = HeaderName::from_static("grpc-status");

/// What became of a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Class {
    /// Whether it failed.
    pub is_failure: bool,
    /// The gRPC status, where it was gRPC.
    pub grpc_status: Option<u16>,
}

impl Class {
    /// A response that broke off, or never came.
    pub const BROKEN: Self = Self { is_failure: true, grpc_status: None };
}

/// Whether a request is gRPC, by its content type: `application/grpc`, `application/grpc+proto`,
/// `application/grpc;...`, but not `application/grpc-web`.
pub fn is_grpc(request_headers: &HeaderMap) -> bool {
    let content_type = request_headers.get(CONTENT_TYPE).and_then(|v| v.to_str().ok());
    content_type
        .and_then(|value| value.strip_prefix("application/grpc"))
        .is_some_and(|rest| rest.is_empty() || rest.starts_with(['+', ';', ' ']))
}

/// A response of which the head has been seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// The head settles it.
    Settled(Class),
    /// Trailers may tell; this is the class if they do not.
    Open(Class),
}

impl Head {
    /// Looks at a response's head. Order: the profile's classes, if it has any, then a gRPC
    /// status, then the HTTP status, of which 5xx are failures. The trailers of a 5xx response
    /// tell only where the request was gRPC.
    pub fn of(
        request_is_grpc: bool,
        classes: &[ResponseClass],
        status: StatusCode,
        headers: &HeaderMap,
    ) -> Self {
        if let Some(class) = classes.iter().find(|c| matches(&c.condition, status)) {
            return Self::Settled(Class {
                is_failure: class.is_failure,
                grpc_status: grpc_status(headers),
            });
        }
        if let Some(code) = grpc_status(headers) {
            return Self::Settled(Class {
                is_failure: is_grpc_failure(code),
                grpc_status: Some(code),
            });
        }
        let class = Class { is_failure: status.is_server_error(), grpc_status: None };
        if class.is_failure && !request_is_grpc { Self::Settled(class) } else { Self::Open(class) }
    }

    /// The class once the response has ended, with or without trailers.
    pub fn end(self, trailers: Option<&HeaderMap>) -> Class {
        self.end_with(trailers.and_then(grpc_status))
    }

    /// The class once the response has ended, by the `grpc-status` of its trailers, if any.
    pub fn end_with(self, grpc_status: Option<u16>) -> Class {
        match self {
            Self::Settled(class) => class,
            Self::Open(class) => grpc_status.map_or(class, |code| Class {
                is_failure: is_grpc_failure(code),
                grpc_status: Some(code),
            }),
        }
    }
}

/// Whether a gRPC status is the server's fault: UNKNOWN (2), DEADLINE_EXCEEDED (4),
/// PERMISSION_DENIED (7), INTERNAL (13), UNAVAILABLE (14), DATA_LOSS (15).
pub const fn is_grpc_failure(code: u16) -> bool {
    matches!(code, 2 | 4 | 7 | 13 | 14 | 15)
}

/// The `grpc-status` of a head or of trailers.
pub fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get(GRPC_STATUS)?.to_str().ok()?.parse().ok()
}

/// Depth is bounded where conditions are decoded.
fn matches(condition: &ResponseMatch, status: StatusCode) -> bool {
    match condition {
        ResponseMatch::All(all) => all.iter().all(|c| matches(c, status)),
        ResponseMatch::Any(any) => any.iter().any(|c| matches(c, status)),
        ResponseMatch::Not(not) => !matches(not, status),
        ResponseMatch::Status { min, max } => (*min..=*max).contains(&status.as_u16()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn headers(name: &'static str, value: &'static str) -> HeaderMap {
        let pair = (HeaderName::from_static(name), value.parse().unwrap());
        HeaderMap::from_iter([pair])
    }

    fn class(grpc: bool, status: u16, head: &HeaderMap, trailers: Option<&HeaderMap>) -> String {
        let status = StatusCode::from_u16(status).unwrap();
        let class = Head::of(grpc, &[], status, head).end(trailers);
        let result = if class.is_failure { "failure" } else { "success" };
        format!("{result} {:?}", class.grpc_status)
    }

    #[test]
    fn http_fails_with_5xx_alone() {
        let none = HeaderMap::new();
        assert_eq!(class(false, 200, &none, None), "success None");
        assert_eq!(class(false, 404, &none, None), "success None");
        assert_eq!(class(false, 429, &none, None), "success None");
        assert_eq!(class(false, 500, &none, None), "failure None");
        assert_eq!(class(false, 503, &none, Some(&headers("grpc-status", "0"))), "failure None");
    }

    #[test]
    fn grpc_fails_with_statuses_that_are_the_servers_fault() {
        let none = HeaderMap::new();
        let mut failures = vec![];
        for (code, text) in [
            "0", "1", "2", "3", "4", "5", "6", "7", "8", "9", "10", "11", "12", "13", "14", "15",
            "16",
        ]
        .into_iter()
        .enumerate()
        {
            let status = headers("grpc-status", text);
            let in_trailers = class(true, 200, &none, Some(&status));
            assert_eq!(class(true, 200, &status, None), in_trailers);
            if in_trailers.starts_with("failure") {
                failures.push(code);
            }
        }
        assert_eq!(failures, [2, 4, 7, 13, 14, 15]);
        assert_eq!(class(true, 503, &none, Some(&headers("grpc-status", "0"))), "success Some(0)");
        assert_eq!(class(true, 503, &none, None), "failure None");
        assert_eq!(class(true, 200, &none, None), "success None");
        assert_eq!(class(true, 200, &headers("grpc-status", "x"), None), "success None");
    }

    #[test]
    fn a_profiles_classes_go_first_and_the_first_that_matches_decides() {
        let class = |min, max, is_failure| ResponseClass {
            condition: ResponseMatch::All(vec![
                ResponseMatch::Any(vec![ResponseMatch::Status { min, max }]),
                ResponseMatch::Not(Box::new(ResponseMatch::Status { min: 599, max: 599 })),
            ]),
            is_failure,
        };
        let classes = [class(404, 404, true), class(400, 599, false)];
        let of = |status| {
            let status = StatusCode::from_u16(status).unwrap();
            Head::of(false, &classes, status, &HeaderMap::new()).end(None).is_failure
        };
        assert_eq!([of(404), of(500), of(599), of(200)], [true, false, true, false]);
    }

    #[test]
    fn grpc_is_known_by_its_content_type() {
        let is = |value| is_grpc(&headers("content-type", value));
        assert!(is("application/grpc") && is("application/grpc+proto"));
        assert!(is("application/grpc; charset=utf-8"));
        assert!(!is("application/grpc-web") && !is("application/json"));
    }

    fn condition() -> impl Strategy<Value = ResponseMatch> {
        let range = (100u16..600, 0u16..200)
            .prop_map(|(min, width)| ResponseMatch::Status { min, max: min + width });
        range.prop_recursive(3, 12, 3, |inner| {
            let some = || prop::collection::vec(inner.clone(), 0..3);
            prop_oneof![
                some().prop_map(ResponseMatch::All),
                some().prop_map(ResponseMatch::Any),
                inner.clone().prop_map(|not| ResponseMatch::Not(Box::new(not))),
            ]
        })
    }

    fn status_header() -> impl Strategy<Value = HeaderMap> {
        let value = prop_oneof![(0u16..20).prop_map(|code| code.to_string()), "[a-z0-9]{0,6}"];
        prop::option::of(value).prop_map(|value| {
            let pair = |value: String| (GRPC_STATUS, value.parse().unwrap());
            value.map(pair).into_iter().collect()
        })
    }

    proptest! {
        /// What a head settles no trailers change; what it leaves open a status in them decides.
        #[test]
        fn a_response_has_one_class(
            grpc: bool,
            classes in prop::collection::vec((condition(), any::<bool>()), 0..3),
            status in 100u16..600,
            headers in status_header(),
            trailers in status_header(),
        ) {
            let classes: Vec<_> = classes
                .into_iter()
                .map(|(condition, is_failure)| ResponseClass { condition, is_failure })
                .collect();
            let status = StatusCode::from_u16(status).unwrap();
            let head = Head::of(grpc, &classes, status, &headers);
            let class = head.end(Some(&trailers));
            match (head, grpc_status(&trailers)) {
                (Head::Settled(settled), _) => prop_assert_eq!(class, settled),
                (Head::Open(open), None) => prop_assert_eq!(class, open),
                (Head::Open(_), Some(code)) => {
                    prop_assert_eq!(class.grpc_status, Some(code));
                    prop_assert_eq!(class.is_failure, is_grpc_failure(code));
                }
            }
            match classes.iter().find(|class| matches(&class.condition, status)) {
                Some(first) => prop_assert_eq!(class.is_failure, first.is_failure),
                // Without a status of gRPC only 5xx fail.
                None if class.grpc_status.is_none() => {
                    prop_assert_eq!(class.is_failure, status.is_server_error());
                }
                None => {}
            }
        }

        /// De Morgan's law, and that a condition and its negation split every status.
        #[test]
        fn conditions_are_logic(all in prop::collection::vec(condition(), 0..4), status in 100u16..600) {
            let status = StatusCode::from_u16(status).unwrap();
            let not = |c: &ResponseMatch| ResponseMatch::Not(Box::new(c.clone()));
            let every = matches(&ResponseMatch::All(all.clone()), status);
            let none_fails = !matches(&ResponseMatch::Any(all.iter().map(not).collect()), status);
            prop_assert_eq!(every, none_fails);
            for condition in &all {
                prop_assert!(matches(condition, status) != matches(&not(condition), status));
            }
        }

        #[test]
        fn grpc_content_types_are_grpc_and_what_follows_is_set_off(rest in "[ -~]{0,12}") {
            let value = format!("application/grpc{rest}");
            let headers = HeaderMap::from_iter([(CONTENT_TYPE, value.parse().unwrap())]);
            // Blanks at the end are no part of a value's meaning, yet bytes of it here.
            let set_off = rest.is_empty() || rest.starts_with(['+', ';', ' ']);
            prop_assert_eq!(is_grpc(&headers), set_off);
        }
    }
}
