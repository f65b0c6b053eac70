//! Names of places to send traffic to.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;

/// A host name or address with a port, as in an HTTP authority: `web.ns.svc.cluster.local:80`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NameAddr {
    host: Arc<str>,
    port: u16,
}

/// What discovery is asked about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Target {
    /// The address that a connection was going to.
    Address(SocketAddr),
    /// A name, where no address is known (explicit proxying, ingress mode, gateways).
    Name(NameAddr),
}

/// A text that is not `host:port`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not host:port")]
pub struct InvalidNameAddr(pub String);

impl NameAddr {
    /// A host, folded to lower case, and a port other than 0.
    ///
    /// # Errors
    /// [`InvalidNameAddr`] where the host or one of its labels is empty, where it is longer than 253
    /// bytes or has other characters than names and addresses have, or where the port is 0.
    pub fn new(host: &str, port: u16) -> Result<Self, InvalidNameAddr> {
        let bare = host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host);
        let bare = bare.strip_suffix('.').unwrap_or(bare);
        // An address has one spelling here, however it was written.
        let address = bare.parse::<IpAddr>().ok();
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_');
        let is_name = |host: &str| {
            let is_label = |label: &str| !label.is_empty() && label.bytes().all(fits);
            host.len() <= 253 && host.split('.').all(is_label)
        };
        if port == 0 || (address.is_none() && !is_name(bare)) {
            return Err(InvalidNameAddr(format!("{host}:{port}")));
        }
        let host = address.map_or_else(|| bare.to_ascii_lowercase(), |ip| ip.to_string());
        Ok(Self { host: host.into(), port })
    }

    /// Reads `host:port`, or `host` alone with `default_port`.
    ///
    /// # Errors
    /// [`InvalidNameAddr`] as for [`NameAddr::new`].
    pub fn with_default_port(authority: &str, default_port: u16) -> Result<Self, InvalidNameAddr> {
        if let Ok(address) = authority.parse::<SocketAddr>() {
            return Self::new(&address.ip().to_string(), address.port());
        }
        match authority.rsplit_once(':') {
            Some((host, port)) if !host.contains(':') || host.ends_with(']') => {
                let port = port.parse().map_err(|_| InvalidNameAddr(authority.to_string()))?;
                Self::new(host, port)
            }
            _ => Self::new(authority, default_port),
        }
    }

    /// The host, without brackets or a trailing dot.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// The port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// As an address, where the host is one.
    pub fn as_address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.host.parse().ok()?, self.port))
    }
}

impl From<SocketAddr> for NameAddr {
    fn from(address: SocketAddr) -> Self {
        Self { host: address.ip().to_string().into(), port: address.port() }
    }
}

impl FromStr for NameAddr {
    type Err = InvalidNameAddr;

    fn from_str(text: &str) -> Result<Self, InvalidNameAddr> {
        Self::with_default_port(text, 0)
    }
}

impl fmt::Display for NameAddr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.host.contains(':') {
            write!(f, "[{}]:{}", self.host, self.port)
        } else {
            write!(f, "{}:{}", self.host, self.port)
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Name(name) => name.fmt(f),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn authorities_are_read_with_and_without_port() {
        let read = |text| NameAddr::with_default_port(text, 80).map(|name| name.to_string());
        assert_eq!(read("Web.ns").unwrap(), "web.ns:80");
        assert_eq!(read("web.ns.:8080").unwrap(), "web.ns:8080");
        assert_eq!(read("10.0.0.1:1").unwrap(), "10.0.0.1:1");
        assert_eq!(read("[::1]:90").unwrap(), "[::1]:90");
        assert_eq!(read("[::1]").unwrap(), "[::1]:80");
        assert_eq!(read("[0:0::0:1]").unwrap(), "[::1]:80");
        for wrong in ["", ":80", "a:b", "a b", "web:0", "web:70000", "a/b", "a..", "a..b", ".a"] {
            assert!(read(wrong).is_err(), "{wrong}");
        }
        assert!("web".parse::<NameAddr>().is_err());
    }
}
