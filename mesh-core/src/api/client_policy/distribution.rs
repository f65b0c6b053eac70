//! How traffic is spread over backends. linkerd2-proxy-api has this four times over, once for each
//! kind of route, so one macro writes the four.

/// Writes the module `$name` with `encode` and `decode` of `Distribution<$filter>` to and from
/// `outbound::$name::Distribution`. Backends of requests have the field `$request_timeout`.
macro_rules! distribution {
    ($name:ident, $filter:ty, $encode_filter:path, $decode_filter:path
     $(, $request_timeout:ident)?) => {
        pub(super) mod $name {
            use linkerd2_proxy_api::outbound::$name as proto;
            use proto::distribution::{Empty, FirstAvailable, Kind, RandomAvailable};

            use crate::api::codec::{Codec, DecodeError, Decoded, each, required};
            $(use crate::api::codec::{
                decode_duration, encode_duration, optional as $request_timeout,
            };)?
            use crate::model::client_policy::{Distribution, RouteBackend, WeightedBackend};

            pub(in crate::api::client_policy) fn encode(
                distribution: &Distribution<$filter>,
            ) -> proto::Distribution {
                let kind = match distribution {
                    Distribution::Empty => Kind::Empty(Empty {}),
                    Distribution::FirstAvailable(backends) => {
                        Kind::FirstAvailable(FirstAvailable {
                            backends: backends.iter().map(encode_backend).collect(),
                        })
                    }
                    Distribution::RandomAvailable(backends) => {
                        let encode_weighted =
                            |weighted: &WeightedBackend<$filter>| proto::WeightedRouteBackend {
                                backend: Some(encode_backend(&weighted.backend)),
                                weight: weighted.weight,
                            };
                        Kind::RandomAvailable(RandomAvailable {
                            backends: backends.iter().map(encode_weighted).collect(),
                        })
                    }
                };
                proto::Distribution { kind: Some(kind) }
            }

            pub(in crate::api::client_policy) fn decode(
                distribution: proto::Distribution,
            ) -> Decoded<Distribution<$filter>> {
                match distribution.kind {
                    Some(Kind::Empty(Empty {})) => Ok(Distribution::Empty),
                    Some(Kind::FirstAvailable(first)) => {
                        each("first_available.backends", first.backends, decode_backend)
                            .map(Distribution::FirstAvailable)
                    }
                    Some(Kind::RandomAvailable(random)) => {
                        each("random_available.backends", random.backends, |weighted| {
                            Ok(WeightedBackend {
                                backend: required("backend", weighted.backend, decode_backend)?,
                                weight: weighted.weight,
                            })
                        })
                        .map(Distribution::RandomAvailable)
                    }
                    None => Err(DecodeError::new(
                        "is a distribution this proxy does not know",
                    )),
                }
            }

            #[allow(deprecated)]
            fn encode_backend(backend: &RouteBackend<$filter>) -> proto::RouteBackend {
                proto::RouteBackend {
                    backend: Some(backend.backend.encode()),
                    filters: backend.filters.iter().map($encode_filter).collect(),
                    $($request_timeout: backend.request_timeout.map(encode_duration),)?
                }
            }

            #[allow(deprecated)]
            fn decode_backend(proto: proto::RouteBackend) -> Decoded<RouteBackend<$filter>> {
                Ok(RouteBackend {
                    backend: required("backend", proto.backend, Codec::decode)?,
                    filters: each("filters", proto.filters, $decode_filter)?,
                    request_timeout: None
                        $(.or($request_timeout(
                            "requestTimeout",
                            proto.$request_timeout,
                            decode_duration,
                        )?))?,
                })
            }
        }
    };
}

distribution!(
    http_route,
    crate::model::client_policy::HttpFilter,
    crate::api::codec::Codec::encode,
    crate::api::codec::Codec::decode,
    request_timeout
);
distribution!(
    grpc_route,
    crate::model::client_policy::GrpcFilter,
    crate::api::codec::Codec::encode,
    crate::api::codec::Codec::decode,
    request_timeout
);
distribution!(
    opaque_route,
    crate::model::client_policy::ConnectionFilter,
    super::super::connection_route::encode_opaque_filter,
    super::super::connection_route::decode_opaque_filter
);
distribution!(
    tls_route,
    crate::model::client_policy::ConnectionFilter,
    super::super::connection_route::encode_tls_filter,
    super::super::connection_route::decode_tls_filter
);
