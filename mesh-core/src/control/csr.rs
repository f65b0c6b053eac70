//! Checks certificate signing requests. Makes none: the proxy does.
//!
//! Law: what passes asks for exactly the one name that the caller was authenticated as, with a
//! P-256 key that the caller holds.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ECDSA_WITH_SHA256, OID_X509_COMMON_NAME,
};
use x509_parser::prelude::FromDer;

use crate::model::identity::DnsName;
use crate::runtime::Crypto;

use super::signature;

/// The largest request that is looked at; a P-256 request with one name has under 600 bytes.
pub const CSR_BYTES_MAX: usize = 4 * 1024;

/// Why a request is not signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CsrError {
    /// It is no PKCS#10 request, or has bytes left over.
    #[error("not a DER certificate signing request")]
    Malformed,
    /// It is larger than [`CSR_BYTES_MAX`].
    #[error("larger than {CSR_BYTES_MAX} bytes")]
    TooLarge,
    /// The key is of another kind.
    #[error("the key is not ECDSA P-256")]
    Key,
    /// It is not signed with its key.
    #[error("the signature is not that of its key")]
    Signature,
    /// Its names are not the one that is allowed.
    #[error("must have exactly one name, the DNS name {0}")]
    Names(DnsName),
}

/// The public key, an uncompressed point, of a request for `name` and for nothing else.
///
/// # Errors
/// [`CsrError`].
pub fn check(crypto: &dyn Crypto, csr_der: &[u8], name: &DnsName) -> Result<Vec<u8>, CsrError> {
    if csr_der.len() > CSR_BYTES_MAX {
        return Err(CsrError::TooLarge);
    }
    let (rest, csr) =
        X509CertificationRequest::from_der(csr_der).map_err(|_| CsrError::Malformed)?;
    if !rest.is_empty() {
        return Err(CsrError::Malformed);
    }
    let key = public_key(&csr).ok_or(CsrError::Key)?;
    let info = &csr.certification_request_info;
    let signed_as_claimed = csr.signature_algorithm.algorithm == OID_SIG_ECDSA_WITH_SHA256;
    let signature = &csr.signature_value.data;
    if !signed_as_claimed || !signature::verify_p256(crypto, key, info.raw, signature) {
        return Err(CsrError::Signature);
    }
    if !asks_only_for(&csr, name.as_str()) {
        return Err(CsrError::Names(name.clone()));
    }
    Ok(key.to_vec())
}

fn public_key<'a>(csr: &'a X509CertificationRequest<'_>) -> Option<&'a [u8]> {
    let info = &csr.certification_request_info.subject_pki;
    let curve = info.algorithm.parameters.as_ref()?.as_oid().ok()?;
    let key = info.subject_public_key.data.as_ref();
    let good = info.algorithm.algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY
        && curve == OID_EC_P256
        && key.len() == 65
        && key[0] == 4;
    good.then_some(key)
}

/// Whether the request's subject is empty or the name as common name, and its only subject
/// alternative name is `name`.
fn asks_only_for(csr: &X509CertificationRequest<'_>, name: &str) -> bool {
    let info = &csr.certification_request_info;
    let is_name = |text: &str| text.eq_ignore_ascii_case(name);
    let subject_is_good = info.subject.iter_attributes().all(|attribute| {
        *attribute.attr_type() == OID_X509_COMMON_NAME
            && attribute.as_str().is_ok_and(|text| text.is_empty() || is_name(text))
    });
    let mut lists = Vec::new();
    for attribute in info.iter_attributes() {
        if let ParsedCriAttribute::ExtensionRequest(request) = attribute.parsed_attribute() {
            for extension in &request.extensions {
                match extension.parsed_extension() {
                    ParsedExtension::SubjectAlternativeName(names) => {
                        lists.push(&names.general_names);
                    }
                    ParsedExtension::ParseError { .. } => return false,
                    // Usages and constraints that are asked for are not granted but replaced.
                    _ => {}
                }
            }
        }
    }
    let names_are_good = match lists.as_slice() {
        [names] => matches!(names.as_slice(), [GeneralName::DNSName(text)] if is_name(text)),
        _ => false,
    };
    subject_is_good && names_are_good
}
