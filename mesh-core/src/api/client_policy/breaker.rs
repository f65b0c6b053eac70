//! Circuit breaking (`outbound.FailureAccrual`) and growing waits.

use std::time::Duration;

use linkerd2_proxy_api::outbound as proto;
use proto::failure_accrual as trips;

use crate::api::codec::{
    Codec, DecodeError, Decoded, decode_duration, decode_ratio, encode_duration, field, optional,
    required,
};
use crate::model::client_policy::{Backoff, FailureAccrual, Trip};

impl Codec for FailureAccrual {
    type Proto = proto::FailureAccrual;

    fn encode(&self) -> Self::Proto {
        let ejection = self
            .min_ready_endpoints
            .map(|min_ready_endpoints| proto::EjectionConfig { min_ready_endpoints });
        proto::FailureAccrual { ejection, kind: self.trip.as_ref().map(encode_trip) }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        let min_ready = proto.ejection.map(|ejection| ejection.min_ready_endpoints);
        Ok(Self {
            trip: match proto.kind {
                Some(trips::Kind::ConsecutiveFailures(trip)) => {
                    let decode = decode_consecutive;
                    Some(field("consecutive_failures", trip, decode)?)
                }
                Some(trips::Kind::Unified(trip)) => Some(field("unified", trip, decode_unified)?),
                None => None,
            },
            min_ready_endpoints: min_ready.filter(|&min_ready| min_ready != 0),
        })
    }
}

fn encode_trip(trip: &Trip) -> trips::Kind {
    match trip {
        Trip::Consecutive { max_failures, backoff } => {
            trips::Kind::ConsecutiveFailures(trips::ConsecutiveFailures {
                max_failures: *max_failures,
                backoff: Some(backoff.encode()),
            })
        }
        Trip::Unified {
            success_rate_threshold,
            decay,
            min_requests,
            max_consecutive_failures,
            backoff,
        } => trips::Kind::Unified(trips::Unified {
            success_rate_threshold: success_rate_threshold.as_f64(),
            decay: Some(encode_duration(*decay)),
            min_requests: *min_requests,
            max_consecutive_failures: *max_consecutive_failures,
            backoff: Some(backoff.encode()),
        }),
    }
}

fn decode_consecutive(trip: trips::ConsecutiveFailures) -> Decoded<Trip> {
    Ok(Trip::Consecutive {
        max_failures: trip.max_failures,
        backoff: required("backoff", trip.backoff, Codec::decode)?,
    })
}

fn decode_unified(trip: trips::Unified) -> Decoded<Trip> {
    let threshold =
        field(
            "success_rate_threshold",
            trip.success_rate_threshold,
            |threshold| match threshold {
                0.0..=1.0 => decode_ratio(threshold),
                _ => Err(DecodeError::new(format!("{threshold} is not from 0 to 1"))),
            },
        )?;
    let decay = optional("decay", trip.decay, decode_duration)?;
    if decay.is_none() && threshold.as_f64() > 0.0 {
        return Err(DecodeError::new("required").at("decay"));
    }
    Ok(Trip::Unified {
        success_rate_threshold: threshold,
        decay: decay.unwrap_or(Duration::ZERO),
        min_requests: trip.min_requests,
        max_consecutive_failures: trip.max_consecutive_failures,
        backoff: required("backoff", trip.backoff, Codec::decode)?,
    })
}

impl Codec for Backoff {
    type Proto = proto::ExponentialBackoff;

    fn encode(&self) -> Self::Proto {
        proto::ExponentialBackoff {
            min_backoff: Some(encode_duration(self.min)),
            max_backoff: Some(encode_duration(self.max)),
            jitter_ratio: self.jitter.as_f64() as f32,
            respect_retry_after_hint: self.respect_retry_after,
        }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        let min = required("min_backoff", proto.min_backoff, decode_duration)?;
        let max = required("max_backoff", proto.max_backoff, decode_duration)?;
        if max.is_zero() || max < min {
            let fault = format!("{max:?} is zero or below min_backoff, {min:?}");
            return Err(DecodeError::new(fault).at("max_backoff"));
        }
        let jitter = f64::from(proto.jitter_ratio);
        Ok(Self {
            min,
            max,
            jitter: field("jitter_ratio", jitter, decode_ratio)?,
            respect_retry_after: proto.respect_retry_after_hint,
        })
    }
}
