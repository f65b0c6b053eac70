//! `identity.Identity/Certify`: a certificate for a key and a token.
//!
//! The protobuf's comments speak of PEM; what travels is DER, and so it is here.

use std::time::Duration;

use linkerd2_proxy_api::identity as proto;

use super::codec::{Codec, DecodeError, Decoded, required};
use crate::time::WallTime;

/// An issued certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    /// The workload's certificate, DER.
    pub leaf_der: Vec<u8>,
    /// Certificates between it and the trust anchors, leaf's issuer first, DER.
    pub intermediates_der: Vec<Vec<u8>>,
    /// When the leaf expires.
    pub valid_until: WallTime,
}

/// What is asked for one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateQuestion {
    /// The identity wanted.
    pub identity: String,
    /// What proves the right to it.
    pub token: Vec<u8>,
    /// The certificate signing request, DER.
    pub csr_der: Vec<u8>,
}

impl Codec for CertificateQuestion {
    type Proto = proto::CertifyRequest;

    fn encode(&self) -> Self::Proto {
        proto::CertifyRequest {
            identity: self.identity.clone(),
            token: self.token.clone(),
            certificate_signing_request: self.csr_der.clone(),
        }
    }

    /// Whatever it says: who signs checks it.
    fn decode(proto: Self::Proto) -> Decoded<Self> {
        let proto::CertifyRequest { identity, token, certificate_signing_request } = proto;
        Ok(Self { identity, token, csr_der: certificate_signing_request })
    }
}

impl Codec for Certificate {
    type Proto = proto::CertifyResponse;

    fn encode(&self) -> Self::Proto {
        let until = self.valid_until.as_duration();
        proto::CertifyResponse {
            leaf_certificate: self.leaf_der.clone(),
            intermediate_certificates: self.intermediates_der.clone(),
            valid_until: Some(prost_types::Timestamp {
                seconds: i64::try_from(until.as_secs()).unwrap_or(i64::MAX),
                nanos: until.subsec_nanos() as i32,
            }),
        }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        if proto.leaf_certificate.is_empty() {
            return Err(DecodeError::new("required").at("leaf_certificate"));
        }
        Ok(Self {
            leaf_der: proto.leaf_certificate,
            intermediates_der: proto.intermediate_certificates,
            valid_until: required("valid_until", proto.valid_until, decode_time)?,
        })
    }
}

fn decode_time(time: prost_types::Timestamp) -> Decoded<WallTime> {
    match (u64::try_from(time.seconds), u32::try_from(time.nanos)) {
        (Ok(seconds), Ok(nanos)) if nanos < 1_000_000_000 => {
            Ok(WallTime::since_unix_epoch(Duration::new(seconds, nanos)))
        }
        _ => Err(DecodeError::new(format!(
            "{} s and {} ns is not a time since 1970",
            time.seconds, time.nanos
        ))),
    }
}
