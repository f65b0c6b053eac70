//! Cryptography and certificates for this crate's own tests: AWS-LC behind the crypto door, and a
//! certificate authority. Real bytes, real handshakes; not for production.

use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_ASN1_SIGNING, EcdsaKeyPair, KeyPair as _};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, PKCS_ECDSA_P256_SHA256, PublicKeyData, SerialNumber, SignatureAlgorithm,
};
use rustls::crypto::CryptoProvider;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer;

use super::credentials::Credentials;
use super::csr::{RcgenKey, san};
use crate::model::identity::{DnsName, Identity, ServerTls};
use crate::runtime::crypto::{Crypto, CryptoError, KeyPair};
use crate::runtime::{Runtime, testing};
use crate::time::WallTime;

/// The testing runtime with working cryptography.
pub(crate) fn runtime() -> Runtime {
    Runtime { crypto: Arc::new(AwsLc), ..testing::runtime() }
}

/// The identity and server name `name`.
pub(crate) fn server_tls(name: &str) -> ServerTls {
    let name = DnsName::new(name).unwrap();
    ServerTls { identity: Identity::Dns(name.clone()), server_name: name }
}

/// A certificate authority, valid for years around the testing runtime's wall clock.
pub(crate) struct Authority {
    issuer: Issuer<'static, RcgenKey>,
    pem: String,
}

/// A certificate with its key.
pub(crate) struct Issued {
    pub(crate) leaf_der: Vec<u8>,
    pub(crate) key: Arc<dyn KeyPair>,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let key = RcgenKey(AwsLc.generate_key().unwrap());
        let mut params = params();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(1));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.not_before = rcgen::date_time_ymd(2025, 1, 1);
        params.not_after = rcgen::date_time_ymd(2035, 1, 1);
        let pem = params.self_signed(&key).unwrap().pem();
        let issuer = Issuer::new(params, key);
        Self { issuer, pem }
    }

    /// The trust anchor.
    pub(crate) fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate that is valid from now for `lifetime`.
    pub(crate) fn issue(&self, identity: &Identity, now: WallTime, lifetime: Duration) -> Issued {
        let key = AwsLc.generate_key().unwrap();
        let leaf = leaf_params(identity, now, lifetime)
            .signed_by(&RcgenKey(key.clone()), &self.issuer)
            .unwrap();
        Issued { leaf_der: leaf.der().to_vec(), key }
    }

    /// The leaf that a signing request asks for, valid from now for `lifetime`.
    pub(crate) fn certify(
        &self,
        csr_der: &[u8],
        identity: &Identity,
        now: WallTime,
        lifetime: Duration,
    ) -> Vec<u8> {
        let (_, request) = X509CertificationRequest::from_der(csr_der).unwrap();
        let subject = &request.certification_request_info.subject_pki;
        let key = RequestKey(subject.subject_public_key.data.to_vec());
        let leaf = leaf_params(identity, now, lifetime).signed_by(&key, &self.issuer);
        leaf.unwrap().der().to_vec()
    }

    /// Credentials of `name` that trust this authority and are good for a day.
    pub(crate) fn credentials(&self, runtime: &Runtime, name: &str) -> Credentials {
        let local = server_tls(name);
        let day = Duration::from_secs(86_400);
        let issued = self.issue(&local.identity, runtime.clock.wall(), day);
        let credentials = Credentials::new(runtime, local);
        credentials.set_roots(self.pem.as_bytes()).unwrap();
        credentials.set_certificate(issued.leaf_der, Vec::new(), issued.key).unwrap();
        credentials
    }
}

/// The key that a signing request is for.
struct RequestKey(Vec<u8>);

impl PublicKeyData for RequestKey {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &PKCS_ECDSA_P256_SHA256
    }
}

fn leaf_params(identity: &Identity, now: WallTime, lifetime: Duration) -> CertificateParams {
    let mut params = params();
    params.subject_alt_names = vec![san(identity).unwrap()];
    params.extended_key_usages =
        vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.not_before = rcgen::date_time_ymd(1970, 1, 1) + now.as_duration();
    params.not_after = params.not_before + lifetime;
    params
}

fn params() -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = rcgen::DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from(7));
    params
}

struct AwsLc;

impl Crypto for AwsLc {
    fn tls_provider(&self) -> Arc<CryptoProvider> {
        Arc::new(rustls::crypto::aws_lc_rs::default_provider())
    }

    fn generate_key(&self) -> Result<Arc<dyn KeyPair>, CryptoError> {
        let pair = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_ASN1_SIGNING).unwrap();
        let pkcs8_der = pair.to_pkcs8v1().unwrap().as_ref().to_vec();
        Ok(Arc::new(Key { pair, pkcs8_der }))
    }

    fn load_key(&self, pkcs8_der: &[u8]) -> Result<Arc<dyn KeyPair>, CryptoError> {
        let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_ASN1_SIGNING, pkcs8_der)
            .map_err(|error| CryptoError(error.to_string()))?;
        let pkcs8_der = pkcs8_der.to_vec();
        Ok(Arc::new(Key { pair, pkcs8_der }))
    }
}

struct Key {
    pair: EcdsaKeyPair,
    pkcs8_der: Vec<u8>,
}

impl KeyPair for Key {
    fn public_key(&self) -> &[u8] {
        self.pair.public_key().as_ref()
    }

    fn pkcs8_der(&self) -> &[u8] {
        &self.pkcs8_der
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, CryptoError> {
        let signature = self.pair.sign(&SystemRandom::new(), message).unwrap();
        Ok(signature.as_ref().to_vec())
    }
}
