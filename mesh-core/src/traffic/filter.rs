//! Decides what a list of filters does to a request or connection.
//!
//! Law: no filter is dropped silently. What refuses, refuses; what is not enforced yet is named, so
//! that the proxy counts and logs it.

use std::fmt;

use http::StatusCode;

use crate::model::client_policy::{ConnectionFilter, GrpcFilter, HttpFilter};
use crate::model::route::grpc::GrpcFailure;
use crate::model::route::http::{HttpFailure, Share};
use crate::model::server_policy::{ServerGrpcFilter, ServerHttpFilter};

/// gRPC's INTERNAL.
const GRPC_INTERNAL: u16 = 13;
/// gRPC's PERMISSION_DENIED.
const GRPC_PERMISSION_DENIED: u16 = 7;

/// A filter refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused<'p> {
    /// The route is wrong: 500, INTERNAL, or the connection is refused.
    #[error("the route is invalid: {0}")]
    Invalid(&'p str),
    /// Not allowed: 403, PERMISSION_DENIED, or the connection is refused.
    #[error("the route is forbidden")]
    Forbidden,
    /// The filter is unknown to this proxy: 500, INTERNAL, or the connection is refused.
    #[error("the route has a filter that this proxy does not know")]
    Unknown,
}

/// A kind of filter that is decoded but not enforced yet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FilterKind {
    /// Fails a share of requests.
    FailureInjector,
    /// Changes request headers.
    RequestHeaderModifier,
    /// Changes response headers.
    ResponseHeaderModifier,
    /// Redirects.
    RequestRedirect,
}

impl FilterKind {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::FailureInjector,
        Self::RequestHeaderModifier,
        Self::ResponseHeaderModifier,
        Self::RequestRedirect,
    ];

    /// Its name in Gateway API, or in Linkerd's where that has none.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FailureInjector => "FailureInjector",
            Self::RequestHeaderModifier => "RequestHeaderModifier",
            Self::ResponseHeaderModifier => "ResponseHeaderModifier",
            Self::RequestRedirect => "RequestRedirect",
        }
    }
}

impl fmt::Display for FilterKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The kinds of filters that a request passed without being filtered.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NotYetEnforced {
    bits: u8,
}

impl NotYetEnforced {
    /// Whether all were enforced.
    pub const fn is_empty(self) -> bool {
        self.bits == 0
    }

    /// These and `more`: of a rule and of its backend.
    pub const fn union(self, more: Self) -> Self {
        Self { bits: self.bits | more.bits }
    }

    /// The kinds, each once.
    pub fn iter(self) -> impl Iterator<Item = FilterKind> {
        FilterKind::ALL.into_iter().filter(move |kind| self.bits & 1 << *kind as u8 != 0)
    }

    fn add(&mut self, kind: FilterKind) {
        self.bits |= 1 << kind as u8;
    }
}

/// A filter of any list.
pub trait Filter {
    /// What it does.
    fn effect(&self) -> Effect<'_>;
}

/// What one filter does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect<'p> {
    /// It refuses.
    Refuse(Refused<'p>),
    /// It ought to do this.
    Ignored(FilterKind),
}

/// What a list of filters does: the first that refuses decides.
///
/// # Errors
/// [`Refused`] where one does.
pub fn apply<F: Filter>(filters: &[F]) -> Result<NotYetEnforced, Refused<'_>> {
    let mut ignored = NotYetEnforced::default();
    for filter in filters {
        match filter.effect() {
            Effect::Refuse(refused) => return Err(refused),
            Effect::Ignored(kind) => ignored.add(kind),
        }
    }
    Ok(ignored)
}

impl Filter for HttpFilter {
    fn effect(&self) -> Effect<'_> {
        match self {
            Self::Failure(failure) => http_failure(failure),
            Self::RequestHeaders(_) => Effect::Ignored(FilterKind::RequestHeaderModifier),
            Self::Redirect(_) => Effect::Ignored(FilterKind::RequestRedirect),
            Self::ResponseHeaders(_) => Effect::Ignored(FilterKind::ResponseHeaderModifier),
            Self::Unknown => Effect::Refuse(Refused::Unknown),
        }
    }
}

impl Filter for GrpcFilter {
    fn effect(&self) -> Effect<'_> {
        match self {
            Self::Failure(failure) => grpc_failure(failure),
            Self::RequestHeaders(_) => Effect::Ignored(FilterKind::RequestHeaderModifier),
            Self::Unknown => Effect::Refuse(Refused::Unknown),
        }
    }
}

impl Filter for ServerHttpFilter {
    fn effect(&self) -> Effect<'_> {
        match self {
            Self::Failure(failure) => http_failure(failure),
            Self::RequestHeaders(_) => Effect::Ignored(FilterKind::RequestHeaderModifier),
            Self::Redirect(_) => Effect::Ignored(FilterKind::RequestRedirect),
            Self::Unknown => Effect::Refuse(Refused::Unknown),
        }
    }
}

impl Filter for ServerGrpcFilter {
    fn effect(&self) -> Effect<'_> {
        match self {
            Self::Failure(failure) => grpc_failure(failure),
            Self::RequestHeaders(_) => Effect::Ignored(FilterKind::RequestHeaderModifier),
            Self::Unknown => Effect::Refuse(Refused::Unknown),
        }
    }
}

/// A control plane fails the requests of a rule that it cannot compile by this filter: such a rule is
/// invalid; and those that it does not allow. Other injected failures are not enforced yet.
fn http_failure(failure: &HttpFailure) -> Effect<'_> {
    match failure.status {
        _ if !is_all(failure.share) => Effect::Ignored(FilterKind::FailureInjector),
        StatusCode::INTERNAL_SERVER_ERROR => Effect::Refuse(Refused::Invalid(&failure.message)),
        StatusCode::FORBIDDEN => Effect::Refuse(Refused::Forbidden),
        _ => Effect::Ignored(FilterKind::FailureInjector),
    }
}

fn grpc_failure(failure: &GrpcFailure) -> Effect<'_> {
    match failure.code {
        _ if !is_all(failure.share) => Effect::Ignored(FilterKind::FailureInjector),
        GRPC_INTERNAL => Effect::Refuse(Refused::Invalid(&failure.message)),
        GRPC_PERMISSION_DENIED => Effect::Refuse(Refused::Forbidden),
        _ => Effect::Ignored(FilterKind::FailureInjector),
    }
}

fn is_all(share: Share) -> bool {
    share.numerator >= share.denominator
}

impl Filter for ConnectionFilter {
    fn effect(&self) -> Effect<'_> {
        Effect::Refuse(match self {
            Self::Invalid(reason) => Refused::Invalid(reason),
            Self::Forbidden => Refused::Forbidden,
            Self::Unknown => Refused::Unknown,
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::model::route::http::{HeaderModifier, Redirect};

    #[test]
    fn the_first_refusal_decides() {
        let filters =
            [ConnectionFilter::Invalid("no such backend".into()), ConnectionFilter::Forbidden];
        assert_eq!(apply(&filters), Err(Refused::Invalid("no such backend")));
        assert_eq!(apply(&filters[1..]), Err(Refused::Forbidden));
        assert_eq!(apply::<ConnectionFilter>(&[]), Ok(NotYetEnforced::default()));
        let unknown = [HttpFilter::Redirect(Redirect::default()), HttpFilter::Unknown];
        assert_eq!(apply(&unknown), Err(Refused::Unknown));
    }

    #[test]
    fn a_rule_that_a_control_plane_fails_as_a_whole_is_invalid() {
        let failure = |status, numerator| {
            let message = "no such backend".to_string();
            let share = Share { numerator, denominator: 2 };
            [HttpFilter::Failure(HttpFailure { status, message, share })]
        };
        let all = failure(StatusCode::INTERNAL_SERVER_ERROR, 2);
        assert_eq!(apply(&all), Err(Refused::Invalid("no such backend")));
        assert!(apply(&failure(StatusCode::INTERNAL_SERVER_ERROR, 1)).is_ok());
        assert!(apply(&failure(StatusCode::NOT_FOUND, 2)).is_ok());
        assert_eq!(apply(&failure(StatusCode::FORBIDDEN, 2)), Err(Refused::Forbidden));
        assert!(apply(&failure(StatusCode::FORBIDDEN, 1)).is_ok());
        let message = "no such backend".to_string();
        let share = Share { numerator: 0, denominator: 0 };
        let grpc = [GrpcFilter::Failure(GrpcFailure { code: GRPC_INTERNAL, message, share })];
        assert_eq!(apply(&grpc), Err(Refused::Invalid("no such backend")));
    }

    #[test]
    fn what_is_not_enforced_is_named_once() {
        let headers = || HttpFilter::RequestHeaders(HeaderModifier::default());
        let filters = [headers(), HttpFilter::Redirect(Redirect::default()), headers()];
        let ignored = apply(&filters).unwrap();
        let names: Vec<_> = ignored.iter().map(FilterKind::name).collect();
        assert_eq!(names, ["RequestHeaderModifier", "RequestRedirect"]);
        assert!(!ignored.is_empty() && NotYetEnforced::default().is_empty());
        let response = apply(&[HttpFilter::ResponseHeaders(HeaderModifier::default())]).unwrap();
        assert_eq!(ignored.union(response).iter().count(), 3);
    }

    /// A filter that does what its number says: refuses, or is of a kind that is not enforced.
    #[derive(Debug)]
    struct Numbered(u8);

    impl Filter for Numbered {
        fn effect(&self) -> Effect<'_> {
            match self.0 {
                0 => Effect::Refuse(Refused::Unknown),
                1 => Effect::Refuse(Refused::Forbidden),
                2 => Effect::Refuse(Refused::Invalid("no backend")),
                kind => Effect::Ignored(FilterKind::ALL[usize::from(kind) % 4]),
            }
        }
    }

    proptest! {
        #[test]
        fn no_filter_is_dropped(
            filters in prop::collection::vec((0u8..20).prop_map(Numbered), 0..8),
        ) {
            let refusals: Vec<_> = filters
                .iter()
                .filter_map(|filter| match filter.effect() {
                    Effect::Refuse(refused) => Some(refused),
                    Effect::Ignored(_) => None,
                })
                .collect();
            match apply(&filters) {
                Err(refused) => prop_assert_eq!(Some(&refused), refusals.first()),
                Ok(ignored) => {
                    prop_assert!(refusals.is_empty());
                    for filter in &filters {
                        let Effect::Ignored(kind) = filter.effect() else { unreachable!() };
                        prop_assert!(ignored.iter().any(|named| named == kind));
                    }
                    prop_assert!(ignored.iter().count() <= filters.len());
                }
            }
        }

        #[test]
        fn a_union_names_what_either_names(
            (a, b) in (prop::collection::vec(0usize..4, 0..4), prop::collection::vec(0usize..4, 0..4)),
        ) {
            let set = |kinds: &[usize]| {
                let mut set = NotYetEnforced::default();
                kinds.iter().for_each(|kind| set.add(FilterKind::ALL[*kind]));
                set
            };
            let union: Vec<_> = set(&a).union(set(&b)).iter().collect();
            let named = |kind: &FilterKind| {
                set(&a).iter().chain(set(&b).iter()).any(|named| named == *kind)
            };
            prop_assert_eq!(union, FilterKind::ALL.into_iter().filter(named).collect::<Vec<_>>());
        }
    }
}
