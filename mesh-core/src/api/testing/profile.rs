//! Arbitrary profiles.

use proptest::collection::vec;
use proptest::option::of;
use proptest::prelude::*;

use super::{duration, endpoint, few, labels, metadata, method, name_addr, pattern, ratio};
use crate::model::profile::*;

fn request_match() -> impl Strategy<Value = RequestMatch> {
    let leaf = prop_oneof![
        pattern().prop_map(RequestMatch::Path),
        method().prop_map(RequestMatch::Method),
    ];
    leaf.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(RequestMatch::All),
            vec(inner.clone(), 0..3).prop_map(RequestMatch::Any),
            inner.prop_map(|inner| RequestMatch::Not(Box::new(inner))),
        ]
    })
}

fn response_match() -> impl Strategy<Value = ResponseMatch> {
    let leaf = (1_u16.., 1_u16..).prop_map(|(min, max)| ResponseMatch::Status { min, max });
    leaf.prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            vec(inner.clone(), 0..3).prop_map(ResponseMatch::All),
            vec(inner.clone(), 0..3).prop_map(ResponseMatch::Any),
            inner.prop_map(|inner| ResponseMatch::Not(Box::new(inner))),
        ]
    })
}

/// What `Destination.GetProfile` yields.
pub(in crate::api) fn profile() -> impl Strategy<Value = Profile> {
    let class = (response_match(), any::<bool>())
        .prop_map(|(condition, is_failure)| ResponseClass { condition, is_failure });
    let route = (request_match(), few(class), labels(), any::<bool>(), of(duration())).prop_map(
        |(condition, response_classes, labels, retryable, timeout)| ProfileRoute {
            condition,
            response_classes,
            labels,
            retryable,
            timeout,
        },
    );
    let budget = (ratio(), any::<u32>(), duration()).prop_map(|(retry_ratio, min, ttl)| {
        RetryBudget { retry_ratio, min_retries_per_second: min, ttl }
    });
    let split =
        (name_addr(), any::<u32>(), of(metadata())).prop_map(|(authority, weight, backend)| {
            WeightedDestination { authority, weight, backend }
        });
    let routes = (few(route), of(budget), few(split));
    let origin = (of(endpoint()), of(metadata()), of(metadata()));
    (of(".{1,12}"), any::<bool>(), routes, origin).prop_map(|(name, opaque, routes, origin)| {
        Profile {
            fully_qualified_name: name,
            opaque,
            routes: routes.0,
            retry_budget: routes.1,
            dst_overrides: routes.2,
            endpoint: origin.0,
            parent: origin.1,
            profile: origin.2,
        }
    })
}
