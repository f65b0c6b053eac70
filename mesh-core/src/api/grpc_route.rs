//! Matches and filters of gRPC routes (`grpc_route.proto`), for clients and servers alike.

use linkerd2_proxy_api::grpc_route as proto;

use super::codec::{Codec, Decoded, decode_u16, each, field, non_empty};
use super::http_route::{decode_share, encode_share};
use crate::model::route::grpc::{GrpcFailure, GrpcMatch};

impl Codec for GrpcMatch {
    type Proto = proto::GrpcRouteMatch;

    fn encode(&self) -> Self::Proto {
        let any = self.service.is_none() && self.method.is_none();
        proto::GrpcRouteMatch {
            rpc: (!any).then(|| proto::GrpcRpcMatch {
                service: self.service.clone().unwrap_or_default(),
                method: self.method.clone().unwrap_or_default(),
            }),
            headers: self.headers.iter().map(Codec::encode).collect(),
        }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        let rpc = proto.rpc.unwrap_or_default();
        Ok(Self {
            service: non_empty(rpc.service),
            method: non_empty(rpc.method),
            headers: each("headers", proto.headers, Codec::decode)?,
        })
    }
}

impl Codec for GrpcFailure {
    type Proto = proto::GrpcFailureInjector;

    fn encode(&self) -> Self::Proto {
        proto::GrpcFailureInjector {
            code: u32::from(self.code),
            message: self.message.clone(),
            ratio: encode_share(self.share),
        }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        Ok(Self {
            code: field("code", proto.code, decode_u16)?,
            message: proto.message,
            share: decode_share("ratio", proto.ratio)?,
        })
    }
}
