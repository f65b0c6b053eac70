//! Where endpoints and their clients are, and which endpoints a client is told of for it:
//! `internalTrafficPolicy: Local` and topology hints, as kube-proxy and Linkerd heed them.
//!
//! Law: a set is compiled once, whoever asks. Clients at one place share what they are told.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use super::endpoints::EndpointSet;

/// Most places that one compiled set is kept for; beyond, each client has a copy of its own.
const PLACES_MAX: usize = 1024;

/// Where a client is. Empty: that is not known.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Place {
    /// The node.
    pub node: String,
    /// The node's zone.
    pub zone: String,
}

/// Where an endpoint is, as its slice says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Placement {
    /// Where.
    pub place: Place,
    /// Zones whose clients it is for. Empty: its slice gives no hints.
    pub for_zones: Vec<String>,
}

/// The endpoints of a service, of which each client is told those that are for its place.
#[derive(Debug, Default)]
pub struct Placed {
    all: Arc<EndpointSet>,
    /// Of those endpoints that say where they are.
    placements: BTreeMap<SocketAddr, Placement>,
    /// Clients use endpoints of their own node alone.
    is_local: bool,
    /// What was worked out already.
    seen: Mutex<BTreeMap<Place, Arc<EndpointSet>>>,
}

impl PartialEq for Placed {
    fn eq(&self, other: &Self) -> bool {
        self.all == other.all
            && self.placements == other.placements
            && self.is_local == other.is_local
    }
}

impl Placed {
    /// Endpoints, and where they are.
    pub fn new(
        all: EndpointSet,
        placements: BTreeMap<SocketAddr, Placement>,
        is_local: bool,
    ) -> Self {
        Self { all: Arc::new(all), placements, is_local, seen: Mutex::default() }
    }

    /// How many endpoints there are, wherever they are.
    pub fn len(&self) -> usize {
        self.all.endpoints.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.all.endpoints.is_empty()
    }

    /// The endpoints that a client at `place` is told of, with their locality.
    pub fn seen_from(&self, place: &Place) -> Arc<EndpointSet> {
        let has_zones = self.placements.values().any(|placement| !placement.place.zone.is_empty());
        let place = Place {
            node: if self.is_local { place.node.clone() } else { String::new() },
            zone: if has_zones { place.zone.clone() } else { String::new() },
        };
        if !self.is_local && !has_zones {
            return self.all.clone();
        }
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(set) = seen.get(&place) {
            return set.clone();
        }
        let set = Arc::new(self.work_out(&place));
        if seen.len() < PLACES_MAX {
            seen.insert(place, set.clone());
        }
        set
    }

    fn work_out(&self, place: &Place) -> EndpointSet {
        let mut set = EndpointSet::clone(&self.all);
        let nowhere = Placement::default();
        let placement = |address: &SocketAddr| self.placements.get(address).unwrap_or(&nowhere);
        let is_for = |address: &SocketAddr| placement(address).for_zones.contains(&place.zone);
        let hinted = |address: &SocketAddr| !placement(address).for_zones.is_empty();
        if self.is_local {
            let here = |address: &SocketAddr| placement(address).place.node == place.node;
            set.endpoints.retain(|address, _| !place.node.is_empty() && here(address));
        } else if set.endpoints.keys().all(hinted) && set.endpoints.keys().any(is_for) {
            set.endpoints.retain(|address, _| is_for(address));
        }
        for (address, endpoint) in &mut set.endpoints {
            let locality = match (placement(address).place.zone.as_str(), place.zone.as_str()) {
                ("", _) => continue,
                (_, "") => "unknown",
                (its, own) if its == own => "local",
                _ => "remote",
            };
            let label = [("zone_locality", locality)].into_iter().collect();
            endpoint.labels = endpoint.labels.extended(&label);
        }
        set
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::endpoint::Endpoint;

    fn address(host: u8) -> SocketAddr {
        ([10, 1, 0, host], 80).into()
    }

    /// Endpoints 1, 2, … by `node/zone/zones that it is for`.
    fn placed(endpoints: &[&str], is_local: bool) -> Placed {
        let mut all = EndpointSet { exists: true, ..EndpointSet::default() };
        let mut placements = BTreeMap::new();
        for (host, text) in (1..).zip(endpoints) {
            let [node, zone, zones]: [&str; 3] =
                text.split('/').collect::<Vec<_>>().try_into().unwrap();
            all.endpoints.insert(address(host), Endpoint::new(address(host)));
            let place = Place { node: node.into(), zone: zone.into() };
            let for_zones = zones.split_terminator('+').map(String::from).collect();
            placements.insert(address(host), Placement { place, for_zones });
        }
        Placed::new(all, placements, is_local)
    }

    fn seen(placed: &Placed, node: &str, zone: &str) -> Vec<String> {
        let set = placed.seen_from(&Place { node: node.into(), zone: zone.into() });
        let told = set.endpoints.iter().map(|(address, endpoint)| {
            let locality = endpoint.labels.value("zone_locality").unwrap_or("-");
            format!("{} {locality}", address.ip())
        });
        told.collect()
    }

    #[test]
    fn without_hints_all_are_told_and_how_near_they_are() {
        let placed = placed(&["a/east/", "b/west/", "c//"], false);
        assert_eq!(seen(&placed, "a", "east"), ["10.1.0.1 local", "10.1.0.2 remote", "10.1.0.3 -"]);
        assert_eq!(seen(&placed, "", ""), ["10.1.0.1 unknown", "10.1.0.2 unknown", "10.1.0.3 -"]);
    }

    #[test]
    fn hints_are_heeded_where_every_endpoint_has_them_and_one_is_for_the_zone() {
        let hinted = placed(&["a/east/east", "b/west/west+north"], false);
        assert_eq!(seen(&hinted, "a", "east"), ["10.1.0.1 local"]);
        assert_eq!(seen(&hinted, "d", "north"), ["10.1.0.2 remote"]);
        assert_eq!(seen(&hinted, "e", "south").len(), 2, "none is for it");
        assert_eq!(seen(&hinted, "", "").len(), 2, "nobody knows where it is");
        let partly = placed(&["a/east/east", "b/west/"], false);
        assert_eq!(seen(&partly, "a", "east").len(), 2);
    }

    #[test]
    fn a_local_service_has_the_endpoints_of_the_clients_node_alone() {
        let local = placed(&["a//", "b//", "a//"], true);
        assert_eq!(seen(&local, "a", ""), ["10.1.0.1 -", "10.1.0.3 -"]);
        assert!(seen(&local, "c", "").is_empty());
        assert!(seen(&local, "", "").is_empty(), "nobody knows where it is");
    }

    #[test]
    fn clients_at_one_place_share_what_they_are_told() {
        let placed = placed(&["a/east/", "b/west/"], false);
        let east = |node: &str| placed.seen_from(&Place { node: node.into(), zone: "east".into() });
        assert!(Arc::ptr_eq(&east("a"), &east("c")));
        for zone in 0..2 * PLACES_MAX {
            placed.seen_from(&Place { node: String::new(), zone: format!("z{zone}") });
        }
        assert_eq!(placed.seen.lock().unwrap().len(), PLACES_MAX);
    }
}
