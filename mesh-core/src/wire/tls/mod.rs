//! Mesh TLS: who we are, whom we trust, servers and clients.
//!
//! Law: TLS 1.3 only, no resumption. A certificate counts where its chain ends at one of the trust
//! anchors now in force and its subject alternative name (DNS or URI) is the identity expected; host
//! names are not looked at. A client's certificate is asked for and, where given, verified; whether
//! it is needed is policy's business. Keys are never logged.

pub mod client;
pub mod credentials;
pub mod csr;
mod read_ahead;
pub mod server;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;

use std::io;

use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::model::identity::{DnsName, Identity};
use crate::time::WallTime;

pub use credentials::{Credentials, CredentialsError};

/// Encrypted bytes that wait to be written, and so what one write carries in bulk: a little less than
/// the kernel hands to a network device at once (64 kB), lest each write end with a small packet.
const WAITING_BYTES_MAX: usize = 62 * 1024;

/// Why a TLS handshake failed. How long one may take is the caller's to say.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// There are no trust anchors yet, or no certificate yet to serve with.
    #[error("no certificate yet")]
    NoCertificate,
    /// The peer's certificate is in order but names somebody else.
    #[error("peer is {}, expected {expected}", found.as_ref().map_or("nobody", Identity::as_str))]
    WrongIdentity {
        /// Whom we wanted.
        expected: Identity,
        /// The first identity in the certificate.
        found: Option<Identity>,
    },
    /// The peer's certificate has run out, or is not yet valid.
    #[error("peer's certificate is expired or not yet valid")]
    Expired,
    /// The peer's certificate does not chain to a trust anchor.
    #[error("peer's certificate is signed by an unknown issuer")]
    UnknownIssuer,
    /// The peer's certificate is unusable otherwise.
    #[error("peer's certificate is refused: {0}")]
    BadCertificate(String),
    /// The peer ended the handshake with an alert: what it says.
    #[error("peer refused: {0}")]
    Alert(String),
    /// The peer closed the connection before the handshake was complete.
    #[error("peer closed the connection during the handshake")]
    Closed,
    /// The stream below failed.
    #[error("i/o error: {0}")]
    Io(#[source] io::Error),
    /// The peer does not speak TLS 1.3 as it should.
    #[error("protocol error: {0}")]
    Protocol(String),
}

impl TlsError {
    /// What tokio-rustls wraps in an I/O error.
    fn from_io(error: io::Error) -> Self {
        match error.get_ref().and_then(|e| e.downcast_ref::<rustls::Error>()) {
            Some(tls) => Self::from_rustls(tls),
            None if error.kind() == io::ErrorKind::UnexpectedEof => Self::Closed,
            None => Self::Io(error),
        }
    }

    fn from_rustls(error: &rustls::Error) -> Self {
        use rustls::CertificateError as Certificate;
        match error {
            rustls::Error::AlertReceived(alert) => Self::Alert(format!("{alert:?}")),
            rustls::Error::InvalidCertificate(fault) => match fault {
                Certificate::Expired
                | Certificate::ExpiredContext { .. }
                | Certificate::NotValidYet
                | Certificate::NotValidYetContext { .. } => Self::Expired,
                Certificate::UnknownIssuer => Self::UnknownIssuer,
                Certificate::Other(other) => match other.0.downcast_ref::<WrongIdentity>() {
                    Some(wrong) => Self::WrongIdentity {
                        expected: wrong.expected.clone(),
                        found: wrong.found.clone(),
                    },
                    None => Self::BadCertificate(other.to_string()),
                },
                other => Self::BadCertificate(other.to_string()),
            },
            other => Self::Protocol(other.to_string()),
        }
    }
}

/// [`TlsError::WrongIdentity`] on its way through rustls.
#[derive(Debug, thiserror::Error)]
#[error("certificate is not for {expected}")]
struct WrongIdentity {
    expected: Identity,
    found: Option<Identity>,
}

/// The first identity (DNS name or `spiffe://` URI) among a certificate's subject alternative
/// names; `None` where it has none or is no certificate.
pub fn identity_of(certificate_der: &[u8]) -> Option<Identity> {
    identities_of(certificate_der).into_iter().next()
}

/// All identities among a certificate's subject alternative names, in their order.
pub fn identities_of(certificate_der: &[u8]) -> Vec<Identity> {
    let Ok((_, certificate)) = X509Certificate::from_der(certificate_der) else {
        return Vec::new();
    };
    let Ok(Some(names)) = certificate.subject_alternative_name() else {
        return Vec::new();
    };
    let identity = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => DnsName::new(name).ok().map(Identity::Dns),
        GeneralName::URI(uri) => match Identity::new(uri) {
            Ok(Identity::Uri(uri)) => Some(Identity::Uri(uri)),
            _ => None,
        },
        _ => None,
    };
    names.value.general_names.iter().filter_map(identity).collect()
}

/// From when until when a certificate is valid; `None` where it is no certificate.
pub fn validity_of(certificate_der: &[u8]) -> Option<(WallTime, WallTime)> {
    let (_, certificate) = X509Certificate::from_der(certificate_der).ok()?;
    let at = |secs: i64| WallTime::from_unix_secs(u64::try_from(secs).unwrap_or(0));
    let validity = certificate.validity();
    Some((at(validity.not_before.timestamp()), at(validity.not_after.timestamp())))
}
