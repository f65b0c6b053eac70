//! Backends: where endpoints come from, how load is measured, and the queue in front.

use std::sync::Arc;
use std::time::Duration;

use linkerd2_proxy_api::outbound as proto;
use proto::backend::balance_p2c as loads;
use proto::backend::endpoint_discovery as discoveries;

use crate::api::codec::{
    Codec, DecodeError, Decoded, decode_duration, encode_duration, field, required,
};
use crate::model::client_policy::{Backend, Dispatcher, Load, Queue};

impl Codec for Arc<Backend> {
    type Proto = proto::Backend;

    fn encode(&self) -> Self::Proto {
        use proto::backend::Kind;
        let kind = match &self.dispatcher {
            Dispatcher::Forward(endpoint) => Some(Kind::Forward(endpoint.encode())),
            Dispatcher::Balance { path, load } => {
                let get = discoveries::DestinationGet { path: path.clone() };
                Some(Kind::Balancer(proto::backend::BalanceP2c {
                    discovery: Some(proto::backend::EndpointDiscovery {
                        kind: Some(discoveries::Kind::Dst(get)),
                    }),
                    load: Some(encode_load(load)),
                }))
            }
            Dispatcher::Fail => None,
        };
        proto::Backend {
            metadata: Some(self.metadata.encode()),
            queue: Some(self.queue.encode()),
            kind,
        }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        use proto::backend::Kind;
        Ok(Self::new(Backend {
            metadata: required("metadata", proto.metadata, Codec::decode)?,
            queue: required("queue", proto.queue, Codec::decode)?,
            dispatcher: match proto.kind {
                Some(Kind::Forward(endpoint)) => {
                    field("forward", endpoint, Codec::decode).map(Dispatcher::Forward)?
                }
                Some(Kind::Balancer(balancer)) => field("balancer", balancer, decode_balancer)?,
                None => Dispatcher::Fail,
            },
        }))
    }
}

fn decode_balancer(balancer: proto::backend::BalanceP2c) -> Decoded<Dispatcher> {
    let path = required("discovery", balancer.discovery, |discovery| match discovery.kind {
        Some(discoveries::Kind::Dst(get)) => Ok(get.path),
        None => Err(DecodeError::new("is a discovery this proxy does not know")),
    })?;
    Ok(Dispatcher::Balance { path, load: required("load", balancer.load, decode_load)? })
}

fn encode_load(load: &Load) -> loads::Load {
    let encode = |time: Duration| Some(encode_duration(time));
    match *load {
        Load::PeakEwma { default_rtt, decay } => loads::Load::PeakEwma(loads::PeakEwma {
            default_rtt: encode(default_rtt),
            decay: encode(decay),
        }),
        Load::PenaltyPeakEwma { default_rtt, decay, penalty, max_retry_after, penalty_decay } => {
            loads::Load::PenaltyPeakEwma(loads::PenaltyPeakEwma {
                default_rtt: encode(default_rtt),
                decay: encode(decay),
                penalty: encode(penalty),
                max_retry_after: encode(max_retry_after),
                penalty_decay: encode(penalty_decay),
            })
        }
    }
}

fn decode_load(load: loads::Load) -> Decoded<Load> {
    match load {
        loads::Load::PeakEwma(ewma) => Ok(Load::PeakEwma {
            default_rtt: required("default_rtt", ewma.default_rtt, decode_duration)?,
            decay: required("decay", ewma.decay, decode_duration)?,
        }),
        loads::Load::PenaltyPeakEwma(ewma) => Ok(Load::PenaltyPeakEwma {
            default_rtt: required("default_rtt", ewma.default_rtt, decode_duration)?,
            decay: required("decay", ewma.decay, decode_duration)?,
            penalty: required("penalty", ewma.penalty, decode_duration)?,
            max_retry_after: required("max_retry_after", ewma.max_retry_after, decode_duration)?,
            penalty_decay: required("penalty_decay", ewma.penalty_decay, decode_duration)?,
        }),
    }
}

impl Codec for Queue {
    type Proto = proto::Queue;

    fn encode(&self) -> Self::Proto {
        proto::Queue {
            capacity: self.capacity,
            failfast_timeout: Some(encode_duration(self.failfast_timeout)),
        }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        let timeout = proto.failfast_timeout;
        Ok(Self {
            capacity: proto.capacity,
            failfast_timeout: required("failfast_timeout", timeout, decode_duration)?,
        })
    }
}
