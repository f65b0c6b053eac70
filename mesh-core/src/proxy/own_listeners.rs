//! Where this proxy itself listens: whatever it sent there would come back to it, for ever.

use std::net::{IpAddr, SocketAddr};

/// Listeners that a connection must not lead to.
#[derive(Clone, Debug, Default)]
pub struct OwnListeners {
    listeners: Vec<SocketAddr>,
    own_ips: Vec<IpAddr>,
}

impl OwnListeners {
    /// These listeners of a workload that has these addresses besides loopback.
    pub fn new(listeners: impl IntoIterator<Item = SocketAddr>, own_ips: &[IpAddr]) -> Self {
        Self {
            listeners: listeners.into_iter().collect(),
            own_ips: own_ips.iter().map(IpAddr::to_canonical).collect(),
        }
    }

    /// Whether a connection to an address reaches one of them.
    pub fn are_reached_at(&self, address: SocketAddr) -> bool {
        let ip = address.ip().to_canonical();
        // Connecting to no address in particular reaches this host.
        let own = || ip.is_loopback() || ip.is_unspecified() || self.own_ips.contains(&ip);
        self.listeners.iter().any(|listener| {
            let at = listener.ip().to_canonical();
            listener.port() == address.port() && (at == ip || (at.is_unspecified() && own()))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_own_listener_is_reached_at_its_address_or_at_any_own_one_where_it_has_none() {
        let at = |text: &str| text.parse().unwrap();
        let own_ips = ["10.0.0.1".parse().unwrap()];
        let listeners = ["127.0.0.1:4140", "0.0.0.0:4143", "[::1]:4140"].map(at);
        let own = OwnListeners::new(listeners, &own_ips);
        for reached in [
            "127.0.0.1:4140",
            "[::ffff:127.0.0.1]:4140",
            "[::1]:4140",
            "10.0.0.1:4143",
            "127.0.0.5:4143",
            "0.0.0.0:4143",
        ] {
            assert!(own.are_reached_at(at(reached)), "{reached}");
        }
        for other in ["10.0.0.1:4140", "127.0.0.2:4140", "10.0.0.2:4143", "127.0.0.1:80"] {
            assert!(!own.are_reached_at(at(other)), "{other}");
        }
    }
}
