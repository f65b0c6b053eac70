//! Profiles (`destination.DestinationProfile`).
//!
//! A route, class or split that makes no sense is left out with a warning, as Linkerd's proxy
//! does: profiles refine traffic, and the rest of one still tells opaqueness and the endpoint.

use linkerd2_proxy_api::destination as proto;

use super::codec::{
    Codec, DecodeError, Decoded, decode_duration, decode_ratio, decode_u16, each, each_valid,
    encode_duration, field, non_empty, optional, required,
};
use super::endpoint::decode_authority;
use super::http_route::decode_pattern;
use super::http_types::{decode_method, encode_method};
use super::metadata::{decode_labels, encode_labels};
use crate::model::profile::{
    MATCH_DEPTH_MAX, Profile, ProfileRoute, RequestMatch, ResponseClass, ResponseMatch,
    RetryBudget, WeightedDestination,
};

impl Codec for Profile {
    type Proto = proto::DestinationProfile;

    fn encode(&self) -> Self::Proto {
        proto::DestinationProfile {
            fully_qualified_name: self.fully_qualified_name.clone().unwrap_or_default(),
            opaque_protocol: self.opaque,
            routes: self.routes.iter().map(Codec::encode).collect(),
            retry_budget: self.retry_budget.as_ref().map(Codec::encode),
            dst_overrides: self.dst_overrides.iter().map(Codec::encode).collect(),
            endpoint: self.endpoint.as_ref().map(Codec::encode),
            parent_ref: self.parent.as_ref().map(Codec::encode),
            profile_ref: self.profile.as_ref().map(Codec::encode),
        }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        Ok(Self {
            fully_qualified_name: non_empty(proto.fully_qualified_name),
            opaque: proto.opaque_protocol,
            routes: each_valid("routes", proto.routes, Codec::decode)?,
            retry_budget: optional("retry_budget", proto.retry_budget, Codec::decode)?,
            dst_overrides: each_valid("dst_overrides", proto.dst_overrides, Codec::decode)?,
            endpoint: optional("endpoint", proto.endpoint, Codec::decode)?,
            parent: optional("parent_ref", proto.parent_ref, Codec::decode)?,
            profile: optional("profile_ref", proto.profile_ref, Codec::decode)?,
        })
    }
}

impl Codec for ProfileRoute {
    type Proto = proto::Route;

    fn encode(&self) -> Self::Proto {
        let encode_class = |class: &ResponseClass| proto::ResponseClass {
            condition: Some(encode_response(&class.condition)),
            is_failure: class.is_failure,
        };
        proto::Route {
            condition: Some(encode_request(&self.condition)),
            response_classes: self.response_classes.iter().map(encode_class).collect(),
            metrics_labels: encode_labels(&self.labels),
            is_retryable: self.retryable,
            timeout: self.timeout.map(encode_duration),
        }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        let request = |condition| decode_request(condition, MATCH_DEPTH_MAX);
        let decode_class = |class: proto::ResponseClass| {
            let response = |condition| decode_response(condition, MATCH_DEPTH_MAX);
            Ok(ResponseClass {
                condition: required("condition", class.condition, response)?,
                is_failure: class.is_failure,
            })
        };
        Ok(Self {
            condition: required("condition", proto.condition, request)?,
            response_classes: each_valid("response_classes", proto.response_classes, decode_class)?,
            labels: decode_labels(proto.metrics_labels),
            retryable: proto.is_retryable,
            timeout: optional("timeout", proto.timeout, decode_duration)?,
        })
    }
}

fn encode_request(condition: &RequestMatch) -> proto::RequestMatch {
    use proto::request_match::{Match, Seq};
    let seq =
        |matches: &[RequestMatch]| Seq { matches: matches.iter().map(encode_request).collect() };
    let condition = match condition {
        RequestMatch::All(all) => Match::All(seq(all)),
        RequestMatch::Any(any) => Match::Any(seq(any)),
        RequestMatch::Not(not) => Match::Not(Box::new(encode_request(not))),
        RequestMatch::Path(pattern) => {
            Match::Path(proto::PathMatch { regex: pattern.as_str().to_string() })
        }
        RequestMatch::Method(method) => Match::Method(encode_method(method)),
    };
    proto::RequestMatch { r#match: Some(condition) }
}

/// `depth`: how deep this condition may still nest, itself included.
fn decode_request(condition: proto::RequestMatch, depth: usize) -> Decoded<RequestMatch> {
    use proto::request_match::{Match, Seq};
    let depth = less_deep(depth)?;
    let seq = |field, seq: Seq| each(field, seq.matches, |inner| decode_request(inner, depth));
    match condition.r#match {
        Some(Match::All(all)) => seq("all", all).map(RequestMatch::All),
        Some(Match::Any(any)) => seq("any", any).map(RequestMatch::Any),
        Some(Match::Not(not)) => field("not", *not, |not| decode_request(not, depth))
            .map(|not| RequestMatch::Not(Box::new(not))),
        Some(Match::Path(path)) => {
            field("path", path.regex, decode_pattern).map(RequestMatch::Path)
        }
        Some(Match::Method(method)) => {
            field("method", method, decode_method).map(RequestMatch::Method)
        }
        None => Err(DecodeError::new("is a condition this proxy does not know")),
    }
}

fn encode_response(condition: &ResponseMatch) -> proto::ResponseMatch {
    use proto::response_match::{Match, Seq};
    let seq =
        |matches: &[ResponseMatch]| Seq { matches: matches.iter().map(encode_response).collect() };
    let condition = match condition {
        ResponseMatch::All(all) => Match::All(seq(all)),
        ResponseMatch::Any(any) => Match::Any(seq(any)),
        ResponseMatch::Not(not) => Match::Not(Box::new(encode_response(not))),
        ResponseMatch::Status { min, max } => {
            Match::Status(proto::HttpStatusRange { min: u32::from(*min), max: u32::from(*max) })
        }
    };
    proto::ResponseMatch { r#match: Some(condition) }
}

/// `depth`: how deep this condition may still nest, itself included.
fn decode_response(condition: proto::ResponseMatch, depth: usize) -> Decoded<ResponseMatch> {
    use proto::response_match::{Match, Seq};
    let depth = less_deep(depth)?;
    let seq = |field, seq: Seq| each(field, seq.matches, |inner| decode_response(inner, depth));
    match condition.r#match {
        Some(Match::All(all)) => seq("all", all).map(ResponseMatch::All),
        Some(Match::Any(any)) => seq("any", any).map(ResponseMatch::Any),
        Some(Match::Not(not)) => field("not", *not, |not| decode_response(not, depth))
            .map(|not| ResponseMatch::Not(Box::new(not))),
        Some(Match::Status(range)) => field("status", range, decode_statuses),
        None => Err(DecodeError::new("is a condition this proxy does not know")),
    }
}

fn less_deep(depth: usize) -> Decoded<usize> {
    depth.checked_sub(1).ok_or_else(|| {
        DecodeError::new(format!("is nested deeper than {MATCH_DEPTH_MAX} conditions"))
    })
}

/// Where one end is not given, the other is the only status meant.
fn decode_statuses(range: proto::HttpStatusRange) -> Decoded<ResponseMatch> {
    let (min, max) = match (range.min, range.max) {
        (0, 0) => return Err(DecodeError::new("is empty")),
        (0, one) | (one, 0) => (one, one),
        both => both,
    };
    Ok(ResponseMatch::Status {
        min: field("min", min, decode_u16)?,
        max: field("max", max, decode_u16)?,
    })
}

impl Codec for RetryBudget {
    type Proto = proto::RetryBudget;

    fn encode(&self) -> Self::Proto {
        proto::RetryBudget {
            retry_ratio: self.retry_ratio.as_f64() as f32,
            min_retries_per_second: self.min_retries_per_second,
            ttl: Some(encode_duration(self.ttl)),
        }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        let ratio = f64::from(proto.retry_ratio);
        Ok(Self {
            retry_ratio: field("retry_ratio", ratio, decode_ratio)?,
            min_retries_per_second: proto.min_retries_per_second,
            ttl: required("ttl", proto.ttl, decode_duration)?,
        })
    }
}

impl Codec for WeightedDestination {
    type Proto = proto::WeightedDst;

    fn encode(&self) -> Self::Proto {
        proto::WeightedDst {
            authority: self.authority.to_string(),
            weight: self.weight,
            backend_ref: self.backend.as_ref().map(Codec::encode),
        }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        Ok(Self {
            authority: field("authority", proto.authority, decode_authority)?,
            weight: proto.weight,
            backend: optional("backend_ref", proto.backend_ref, Codec::decode)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn nested(depth: usize) -> proto::RequestMatch {
        let method = RequestMatch::Method(http::Method::GET);
        (1..depth).fold(encode_request(&method), |inner, _| proto::RequestMatch {
            r#match: Some(proto::request_match::Match::Not(Box::new(inner))),
        })
    }

    #[test]
    fn conditions_nest_as_deep_as_allowed_and_no_deeper() {
        let decode = |depth| decode_request(nested(depth), MATCH_DEPTH_MAX);
        assert!(decode(MATCH_DEPTH_MAX).is_ok());
        let error = decode(MATCH_DEPTH_MAX + 1).unwrap_err();
        assert_eq!(error.fault(), "is nested deeper than 32 conditions");
    }

    #[test]
    fn half_a_range_is_one_status() {
        let decode = |min, max| decode_statuses(proto::HttpStatusRange { min, max });
        let one = ResponseMatch::Status { min: 503, max: 503 };
        assert_eq!(decode(503, 0), Ok(one.clone()));
        assert_eq!(decode(0, 503), Ok(one));
        assert!(decode(0, 0).is_err());
    }

    #[test]
    fn a_route_that_cannot_be_read_does_not_spoil_the_profile() {
        let good = proto::Route { condition: Some(nested(1)), ..proto::Route::default() };
        let profile = Profile::decode(proto::DestinationProfile {
            opaque_protocol: true,
            routes: vec![proto::Route::default(), good],
            ..proto::DestinationProfile::default()
        })
        .unwrap();
        assert!(profile.opaque);
        assert_eq!(profile.routes.len(), 1);
    }
}
