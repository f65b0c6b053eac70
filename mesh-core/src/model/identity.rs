//! Who a workload is, as its certificate says.

use std::fmt;
use std::sync::Arc;

/// A TLS identity: a certificate's subject alternative name. Cloning shares it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Identity {
    /// A DNS name, such as `web.emojivoto.serviceaccount.identity.linkerd.cluster.local`.
    Dns(DnsName),
    /// A URI, such as `spiffe://trust.domain/workload`.
    Uri(Arc<str>),
}

/// A lower-case DNS name without a trailing dot, at most 253 bytes, of letters, digits, `-` and `_`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct DnsName(Arc<str>);

/// A text that is not an identity.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is neither a DNS name nor a spiffe:// URI")]
pub struct InvalidIdentity(pub String);

impl DnsName {
    /// Reads a name; upper case is folded and a trailing dot dropped.
    ///
    /// # Errors
    /// [`InvalidIdentity`] where it is not a DNS name.
    pub fn new(name: &str) -> Result<Self, InvalidIdentity> {
        let folded = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
        let label = |label: &str| {
            (1..=63).contains(&label.len())
                && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-' || b == b'_')
        };
        if folded.len() > 253 || !folded.split('.').all(label) {
            return Err(InvalidIdentity(name.to_string()));
        }
        Ok(Self(folded.into()))
    }

    /// The name.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl Identity {
    /// Reads a DNS name or a `spiffe://` URI.
    ///
    /// # Errors
    /// [`InvalidIdentity`] where it is neither.
    pub fn new(text: &str) -> Result<Self, InvalidIdentity> {
        if let Some(rest) = text.strip_prefix("spiffe://") {
            let plain = |b: u8| b.is_ascii_graphic();
            if rest.is_empty() || text.len() > 2048 || !rest.bytes().all(plain) {
                return Err(InvalidIdentity(text.to_string()));
            }
            return Ok(Self::Uri(text.into()));
        }
        DnsName::new(text).map(Self::Dns)
    }

    /// The name or URI.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Dns(name) => name.as_str(),
            Self::Uri(uri) => uri,
        }
    }
}

impl fmt::Display for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for DnsName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whom to expect at the other end of a TLS connection, and how to call them.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServerTls {
    /// The identity that the server's certificate must have.
    pub identity: Identity,
    /// The name sent in SNI. For DNS identities the identity itself unless told otherwise.
    pub server_name: DnsName,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identities_are_dns_names_or_spiffe_uris() {
        let web = "web.emojivoto.serviceaccount.identity.linkerd.cluster.local";
        assert_eq!(Identity::new(web).unwrap().as_str(), web);
        assert_eq!(Identity::new("WEB.example.").unwrap().as_str(), "web.example");
        assert!(matches!(Identity::new("spiffe://root/a"), Ok(Identity::Uri(_))));
        for wrong in ["", ".", "a..b", "spiffe://", "a b", "http://x/", &"a".repeat(300)] {
            assert!(Identity::new(wrong).is_err(), "{wrong}");
        }
    }
}
