//! The certificate authority: trust anchors, an issuer below them, and the leaves it signs. Made
//! on first start, or given as files (`issuer`), as Linkerd's identity service takes them.
//!
//! Law: a leaf never outlives its issuer, and its issuer is signed by one of the anchors.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue,
    ExtendedKeyUsagePurpose, IsCa, Issuer, KeyIdMethod, KeyUsagePurpose, PublicKeyData, SanType,
    SerialNumber,
};
use sha2::{Digest, Sha256};
use x509_parser::asn1_rs::Tag;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::ParsedExtension;
use x509_parser::prelude::FromDer;

use crate::model::identity::DnsName;
use crate::runtime::crypto::KeyPair;
use crate::runtime::{Crypto, Entropy};
use crate::time::WallTime;
use crate::wire::tls::csr::RcgenKey;

use super::{pem, signature};

/// Signs leaves. Holds the issuer's key; prints nothing of it.
pub struct Authority {
    anchors_pem: String,
    anchors: Vec<Anchor>,
    issuer_der: Vec<u8>,
    /// Certificates between the issuer and an anchor, the issuer's signer first.
    intermediates_der: Vec<Vec<u8>>,
    issuer: Issuer<'static, RcgenKey>,
    /// The issuer's subject as it stands in its certificate.
    subject_der: Vec<u8>,
    expires: WallTime,
}

/// A leaf and what a peer needs to verify it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuedLeaf {
    /// The leaf.
    pub leaf_der: Vec<u8>,
    /// Certificates between the leaf and an anchor, the leaf's issuer first.
    pub intermediates_der: Vec<Vec<u8>>,
    /// When the leaf ends.
    pub valid_until: WallTime,
}

/// A trust anchor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Anchor {
    /// The first 16 hexadecimal digits of its SHA-256.
    pub fingerprint: String,
    /// When it ends.
    pub expires: WallTime,
}

/// When a certificate is valid.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Validity {
    /// From.
    pub from: WallTime,
    /// Until.
    pub until: WallTime,
}

impl Validity {
    /// `lifetime` from `now`, and `skew` before it for clocks that are behind.
    pub fn new(now: WallTime, lifetime: Duration, skew: Duration) -> Self {
        Self { from: now - skew, until: now + lifetime }
    }
}

/// Why certificates cannot be issued.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CaError {
    /// A file is not what it should be.
    #[error("{file}: {fault}")]
    File {
        /// `ca.crt`, `issuer.crt` or `issuer.key`.
        file: &'static str,
        /// What is wrong, and what to do.
        fault: String,
    },
    /// The time of the anchor that signed the issuer is over.
    #[error(
        "the trust anchor that signed the issuer expired at {0}; give an issuer below another anchor"
    )]
    AnchorExpired(WallTime),
    /// The issuer's time is over.
    #[error("the issuer certificate expired at {0}; give a new issuer.crt and issuer.key")]
    Expired(WallTime),
    /// A certificate could not be made.
    #[error("signing failed: {0}")]
    Signing(String),
}

impl Authority {
    /// An issuer from PEM: the anchors, the issuer's certificate and its key.
    ///
    /// # Errors
    /// [`CaError::File`] where one cannot be read or they do not belong together;
    /// [`CaError::Expired`].
    pub fn from_pem(
        crypto: &dyn Crypto,
        anchors: &[u8],
        issuer: &[u8],
        key: &[u8],
        now: WallTime,
    ) -> Result<Self, CaError> {
        let file = |file, fault: &str| CaError::File { file, fault: fault.to_string() };
        let anchors_der = pem::certificates(anchors)
            .ok_or_else(|| file("ca.crt", "holds no PEM certificate; give the trust anchors"))?;
        let mut given = pem::certificates(issuer)
            .ok_or_else(|| file("issuer.crt", "holds no PEM certificate"))?;
        let issuer_der = given.remove(0);
        let key =
            pem::private_key(key).and_then(|der| crypto.load_key(&der).ok()).ok_or_else(|| {
                file(
                    "issuer.key",
                    "is not an ECDSA P-256 key in PEM; make one with `openssl genpkey \
                     -algorithm EC -pkeyopt ec_paramgen_curve:P-256`",
                )
            })?;
        let (_, parsed) = X509Certificate::from_der(&issuer_der)
            .map_err(|_| file("issuer.crt", "is not an X.509 certificate"))?;
        if parsed.public_key().subject_public_key.data.as_ref() != key.public_key() {
            return Err(file("issuer.key", "is not the key of issuer.crt; give its key"));
        }
        if !parsed.is_ca() {
            return Err(file(
                "issuer.crt",
                "may not sign certificates; make it with basic constraint CA:TRUE",
            ));
        }
        let (anchor, intermediates_der) = way_to_anchor(crypto, &issuer_der, given, &anchors_der)
            .ok_or_else(|| {
            file(
                "issuer.crt",
                "is signed by none of the anchors in ca.crt; add the anchor that signed it",
            )
        })?;
        if anchor.expires <= now {
            return Err(CaError::AnchorExpired(anchor.expires));
        }
        let expires = wall_time(parsed.validity().not_after.timestamp());
        if expires <= now {
            return Err(CaError::Expired(expires));
        }
        let issuer = issuer_from(&parsed, key).ok_or_else(|| {
            file(
                "issuer.crt",
                "has a subject of an unusual encoding; make it with a plain common name",
            )
        })?;
        let subject_der = parsed.subject().as_raw().to_vec();
        Ok(Self {
            subject_der,
            anchors_pem: String::from_utf8_lossy(anchors).into_owned(),
            anchors: anchors_der.iter().filter_map(|der| Anchor::of(der)).collect(),
            issuer_der,
            intermediates_der,
            issuer,
            expires,
        })
    }

    /// The trust anchors, PEM: what peers verify against.
    pub fn anchors_pem(&self) -> &str {
        &self.anchors_pem
    }

    /// The trust anchors, in the order of their file.
    pub fn anchors(&self) -> &[Anchor] {
        &self.anchors
    }

    /// The issuer's certificate, DER.
    pub fn issuer_der(&self) -> &[u8] {
        &self.issuer_der
    }

    /// When the issuer ends.
    pub fn expires(&self) -> WallTime {
        self.expires
    }

    /// Signs a leaf for `public_key` (an uncompressed P-256 point) with `names` as its subject
    /// alternative names, for servers and clients.
    ///
    /// # Errors
    /// [`CaError::Expired`], [`CaError::Signing`].
    pub fn issue(
        &self,
        entropy: &dyn Entropy,
        public_key: &[u8],
        names: &[DnsName],
        validity: Validity,
    ) -> Result<IssuedLeaf, CaError> {
        let until = validity.until.min(self.expires);
        if until <= validity.from {
            return Err(CaError::Expired(self.expires));
        }
        let mut params = base_params(entropy, public_key, Validity { until, ..validity });
        let name = |name: &DnsName| Ok(SanType::DnsName(name.as_str().try_into()?));
        params.subject_alt_names =
            names.iter().map(name).collect::<Result<_, rcgen::Error>>().map_err(signing)?;
        params.key_usages =
            vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment];
        params.extended_key_usages =
            vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        params.use_authority_key_identifier_extension = true;
        let leaf = params.signed_by(&PublicKey(public_key), &self.issuer).map_err(signing)?;
        let leaf_names_its_issuer = X509Certificate::from_der(leaf.der())
            .is_ok_and(|(_, leaf)| leaf.issuer().as_raw() == self.subject_der);
        if !leaf_names_its_issuer {
            return Err(CaError::Signing(
                "issuer.crt has a subject that cannot be written again; make it with a plain \
                 common name"
                    .to_string(),
            ));
        }
        Ok(IssuedLeaf {
            leaf_der: leaf.der().to_vec(),
            intermediates_der: std::iter::once(&self.issuer_der)
                .chain(&self.intermediates_der)
                .cloned()
                .collect(),
            valid_until: WallTime::from_unix_secs(until.as_unix_secs()),
        })
    }
}

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authority").field("expires", &self.expires).finish_non_exhaustive()
    }
}

/// Makes a self-signed trust anchor, PEM.
///
/// # Errors
/// [`CaError::Signing`].
pub fn make_anchor(
    entropy: &dyn Entropy,
    key: &Arc<dyn KeyPair>,
    common_name: &str,
    validity: Validity,
) -> Result<String, CaError> {
    let params = ca_params(entropy, &**key, common_name, validity, BasicConstraints::Unconstrained);
    let anchor = params.self_signed(&RcgenKey(key.clone())).map_err(signing)?;
    Ok(pem::encode("CERTIFICATE", anchor.der()))
}

/// Makes an issuer below an anchor, PEM. `anchor_pem` is the anchor of `anchor_key`.
///
/// # Errors
/// [`CaError::File`] where the anchor cannot be read, [`CaError::Signing`].
pub fn make_issuer(
    entropy: &dyn Entropy,
    (anchor_pem, anchor_key): (&[u8], &Arc<dyn KeyPair>),
    key: &dyn KeyPair,
    common_name: &str,
    validity: Validity,
) -> Result<String, CaError> {
    let broken = || CaError::File { file: "ca.crt", fault: "holds no PEM certificate".to_string() };
    let anchor_der = pem::certificates(anchor_pem).ok_or_else(broken)?.swap_remove(0);
    let (_, anchor) = X509Certificate::from_der(&anchor_der).map_err(|_| broken())?;
    let anchor = issuer_from(&anchor, anchor_key.clone()).ok_or_else(broken)?;
    // No certificate authority below the issuer: it signs leaves alone.
    let mut params =
        ca_params(entropy, key, common_name, validity, BasicConstraints::Constrained(0));
    params.use_authority_key_identifier_extension = true;
    let issuer = params.signed_by(&PublicKey(key.public_key()), &anchor).map_err(signing)?;
    Ok(pem::encode("CERTIFICATE", issuer.der()))
}

/// An authority below an anchor that may sign authorities itself, PEM.
#[cfg(test)]
pub(super) fn make_intermediate(
    entropy: &dyn Entropy,
    (anchor_pem, anchor_key): (&[u8], &Arc<dyn KeyPair>),
    key: &dyn KeyPair,
    validity: Validity,
) -> String {
    let anchor_der = pem::certificates(anchor_pem).expect("an anchor").swap_remove(0);
    let (_, anchor) = X509Certificate::from_der(&anchor_der).expect("an anchor");
    let anchor = issuer_from(&anchor, anchor_key.clone()).expect("a plain name");
    let params = ca_params(entropy, key, "middle", validity, BasicConstraints::Unconstrained);
    let signed = params.signed_by(&PublicKey(key.public_key()), &anchor).expect("signed");
    pem::encode("CERTIFICATE", signed.der())
}

fn ca_params(
    entropy: &dyn Entropy,
    key: &dyn KeyPair,
    common_name: &str,
    validity: Validity,
    constraints: BasicConstraints,
) -> CertificateParams {
    let mut params = base_params(entropy, key.public_key(), validity);
    params.is_ca = IsCa::Ca(constraints);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    params.distinguished_name = name;
    params
}

fn base_params(entropy: &dyn Entropy, public_key: &[u8], validity: Validity) -> CertificateParams {
    let mut serial = [0; 16];
    entropy.fill(&mut serial);
    // Positive and of full length, as RFC 5280 asks.
    serial[0] = serial[0] & 0x3f | 0x40;
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let mut params = CertificateParams::default();
    params.not_before = epoch + Duration::from_secs(validity.from.as_unix_secs());
    params.not_after = epoch + Duration::from_secs(validity.until.as_unix_secs());
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    params.key_identifier_method = KeyIdMethod::PreSpecified(key_identifier(public_key));
    params
}

/// A certificate with its key as an issuer. `None` where its subject cannot be written again byte
/// for byte, which verifiers ask for.
fn issuer_from(
    certificate: &X509Certificate<'_>,
    key: Arc<dyn KeyPair>,
) -> Option<Issuer<'static, RcgenKey>> {
    let mut name = DistinguishedName::new();
    for part in certificate.subject().iter() {
        let mut attributes = part.iter();
        let (Some(attribute), None) = (attributes.next(), attributes.next()) else {
            return None;
        };
        let text = std::str::from_utf8(attribute.attr_value().data).ok()?;
        let value = match attribute.attr_value().tag() {
            Tag::Utf8String => DnValue::Utf8String(text.to_string()),
            Tag::PrintableString => DnValue::PrintableString(text.try_into().ok()?),
            Tag::Ia5String => DnValue::Ia5String(text.try_into().ok()?),
            _ => return None,
        };
        let kind = DnType::CustomDnType(attribute.attr_type().iter()?.collect());
        if name.get(&kind).is_some() {
            return None;
        }
        name.push(kind, value);
    }
    let key_identifier = certificate
        .extensions()
        .iter()
        .find_map(|extension| match extension.parsed_extension() {
            ParsedExtension::SubjectKeyIdentifier(identifier) => Some(identifier.0.to_vec()),
            _ => None,
        })
        .unwrap_or_else(|| key_identifier(key.public_key()));
    let mut params = CertificateParams::default();
    params.distinguished_name = name;
    params.key_identifier_method = KeyIdMethod::PreSpecified(key_identifier);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    Some(Issuer::new(params, RcgenKey(key)))
}

fn key_identifier(public_key: &[u8]) -> Vec<u8> {
    Sha256::digest(public_key)[..20].to_vec()
}

impl Anchor {
    fn of(der: &[u8]) -> Option<Self> {
        let (_, certificate) = X509Certificate::from_der(der).ok()?;
        let hash = Sha256::digest(der);
        Some(Self {
            fingerprint: hash[..8].iter().map(|byte| format!("{byte:02x}")).collect(),
            expires: wall_time(certificate.validity().not_after.timestamp()),
        })
    }
}

/// The anchor that an issuer comes from, the one that lasts longest where there are several, and
/// the certificates of `given` in between. `None` where no anchor signed it.
fn way_to_anchor(
    crypto: &dyn Crypto,
    issuer_der: &[u8],
    mut given: Vec<Vec<u8>>,
    anchors_der: &[Vec<u8>],
) -> Option<(Anchor, Vec<Vec<u8>>)> {
    let mut way = Vec::new();
    let mut last = issuer_der.to_vec();
    loop {
        let (_, certificate) = X509Certificate::from_der(&last).ok()?;
        let signers = anchors_der.iter().filter(|anchor| signs(crypto, anchor, &certificate));
        let anchor = signers.filter_map(|der| Anchor::of(der)).max_by_key(|anchor| anchor.expires);
        if let Some(anchor) = anchor {
            return Some((anchor, way));
        }
        let next = given.iter().position(|der| signs(crypto, der, &certificate))?;
        last = given.remove(next);
        way.push(last.clone());
    }
}

/// Whether the certificate `signer_der` signed `certificate`, or is it.
pub(super) fn signs(
    crypto: &dyn Crypto,
    signer_der: &[u8],
    certificate: &X509Certificate<'_>,
) -> bool {
    let Ok((_, signer)) = X509Certificate::from_der(signer_der) else {
        return false;
    };
    signer.subject().as_raw() == certificate.issuer().as_raw()
        && signature::verify_any(
            crypto,
            &signer.public_key().subject_public_key.data,
            certificate.tbs_certificate.as_ref(),
            &certificate.signature_value.data,
        )
}

/// Whether the certificate `signer_der` signed `certificate_der`, or is it.
pub(super) fn is_signed_by(crypto: &dyn Crypto, certificate_der: &[u8], signer_der: &[u8]) -> bool {
    X509Certificate::from_der(certificate_der)
        .is_ok_and(|(_, certificate)| signs(crypto, signer_der, &certificate))
}

/// Whether a certificate is for a key.
pub(super) fn is_for_key(certificate_der: &[u8], key: &dyn KeyPair) -> bool {
    X509Certificate::from_der(certificate_der).is_ok_and(|(_, certificate)| {
        certificate.public_key().subject_public_key.data.as_ref() == key.public_key()
    })
}

pub(super) fn wall_time(unix_secs: i64) -> WallTime {
    WallTime::from_unix_secs(u64::try_from(unix_secs).unwrap_or(0))
}

fn signing(error: rcgen::Error) -> CaError {
    CaError::Signing(error.to_string())
}

/// rcgen's view of a public key alone.
struct PublicKey<'a>(&'a [u8]);

impl PublicKeyData for PublicKey<'_> {
    fn der_bytes(&self) -> &[u8] {
        self.0
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}
