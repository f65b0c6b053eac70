//! Pods' addresses: 10.1.0.1 and on.
//!
//! Law: two pods that are not both gone never share an address. A freed one is given again only where
//! that is asked for: then at once, to the next pod, the latest first.

use std::net::{IpAddr, Ipv4Addr};

const FIRST: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 1);

#[derive(Debug)]
pub(super) struct Addresses {
    next: u32,
    reuse: bool,
    /// With whether redirect rules are there, which stay with the host.
    freed: Vec<(IpAddr, bool)>,
}

impl Addresses {
    pub(super) fn new(reuse: bool) -> Self {
        Self { next: u32::from(FIRST), reuse, freed: Vec::new() }
    }

    pub(super) fn take(&mut self, meshed: bool) -> IpAddr {
        let fit = self.freed.iter().rposition(|(_, was_meshed)| *was_meshed == meshed);
        if let Some(index) = fit {
            return self.freed.remove(index).0;
        }
        let address = Ipv4Addr::from(self.next);
        self.next += 1;
        address.into()
    }

    pub(super) fn free(&mut self, address: IpAddr, meshed: bool) {
        if self.reuse {
            self.freed.push((address, meshed));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn no_two_pods_share_an_address(
            reuse: bool,
            steps in proptest::collection::vec((any::<bool>(), any::<bool>(), any::<u8>()), 0..80),
        ) {
            let mut addresses = Addresses::new(reuse);
            let mut held: Vec<(IpAddr, bool)> = Vec::new();
            for (take, meshed, pick) in steps {
                if take || held.is_empty() {
                    held.push((addresses.take(meshed), meshed));
                } else {
                    let (address, meshed) = held.remove(usize::from(pick) % held.len());
                    addresses.free(address, meshed);
                }
                let distinct: BTreeSet<_> = held.iter().map(|(address, _)| address).collect();
                prop_assert_eq!(distinct.len(), held.len());
            }
        }
    }

    #[test]
    fn a_freed_address_goes_to_the_next_pod_where_that_is_asked_for() {
        for reuse in [false, true] {
            let mut addresses = Addresses::new(reuse);
            let first = addresses.take(true);
            addresses.free(first, true);
            assert_ne!(addresses.take(false), first, "rules stay with the host");
            assert_eq!(addresses.take(true) == first, reuse);
        }
    }
}
