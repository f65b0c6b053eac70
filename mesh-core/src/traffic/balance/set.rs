//! The endpoints of a backend as discovery tells them, each with its load and whatever its owner
//! keeps for it (`T`: a connection pool, metrics).
//!
//! Cloning is cheap: endpoints are shared. Law: an endpoint that was removed is never picked.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::Arc;

use indexmap::IndexMap;

use super::p2c;
use super::peak_ewma::PeakEwma;
use crate::model::client_policy::Load;
use crate::model::endpoint::{Endpoint, EndpointUpdate};
use crate::model::labels::Labels;
use crate::time::Timestamp;

/// Endpoints that a set holds at most; more are refused and counted in [`Changes`]. Ten times what
/// Kubernetes supports behind one Service.
pub const ENDPOINTS_MAX: usize = 50_000;

/// An endpoint in a set.
#[derive(Debug)]
pub struct Member<T> {
    /// The endpoint.
    pub endpoint: Endpoint,
    /// Its labels and its set's.
    pub labels: Labels,
    /// Its load; kept where the endpoint changes.
    pub load: Arc<PeakEwma>,
    /// What its owner keeps for it.
    pub state: T,
}

/// An endpoint that changed at its address.
#[derive(Debug)]
pub struct Changed<T> {
    /// As it was: requests in flight go on, no new ones come.
    pub before: Arc<Member<T>>,
    /// As it is.
    pub after: Arc<Member<T>>,
}

/// What an update changed.
#[derive(Debug)]
pub struct Changes<T> {
    /// New ones.
    pub added: Vec<Arc<Member<T>>>,
    /// Changed ones.
    pub changed: Vec<Changed<T>>,
    /// Removed ones: requests in flight go on, no new ones come.
    pub removed: Vec<Arc<Member<T>>>,
    /// New ones that did not fit.
    pub refused: usize,
}

impl<T> Default for Changes<T> {
    fn default() -> Self {
        Self { added: Vec::new(), changed: Vec::new(), removed: Vec::new(), refused: 0 }
    }
}

impl<T> Changes<T> {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        self.added.is_empty() && self.changed.is_empty() && self.removed.is_empty()
    }
}

/// The endpoints of a backend.
#[derive(Debug)]
pub struct EndpointSet<T> {
    load: Load,
    members: IndexMap<SocketAddr, Arc<Member<T>>>,
    /// Whether the backend's service exists, once discovery told.
    exists: Option<bool>,
    resync: bool,
}

impl<T> Clone for EndpointSet<T> {
    fn clone(&self) -> Self {
        Self {
            load: self.load,
            members: self.members.clone(),
            exists: self.exists,
            resync: self.resync,
        }
    }
}

impl<T> EndpointSet<T> {
    /// An empty set, of which discovery has told nothing yet.
    pub fn new(load: Load) -> Self {
        Self { load, members: IndexMap::new(), exists: None, resync: false }
    }

    /// A new stream of updates begins: the endpoints that it tells of first replace all that are
    /// known. Until then those stay in use.
    pub fn resync(&mut self) {
        self.resync = true;
    }

    /// Applies an update. `state` makes what the owner keeps for an endpoint that is new or
    /// changed, of which it is given the former member.
    pub fn apply(
        &mut self,
        update: EndpointUpdate,
        now: Timestamp,
        mut state: impl FnMut(&Endpoint, &Labels, Option<&Member<T>>) -> T,
    ) -> Changes<T> {
        let mut changes = Changes::default();
        match update {
            EndpointUpdate::Add { endpoints, labels } => {
                self.exists = Some(true);
                if std::mem::take(&mut self.resync) && !planted!("new-list-merged") {
                    let told: BTreeSet<SocketAddr> = endpoints.iter().map(|e| e.address).collect();
                    self.retain(|address| told.contains(address), &mut changes);
                }
                for endpoint in endpoints {
                    let labels = labels.extended(&endpoint.labels);
                    self.add(endpoint, labels, now, &mut state, &mut changes);
                }
            }
            EndpointUpdate::Remove(_) if planted!("removed-endpoint-kept") => {}
            EndpointUpdate::Remove(addresses) => {
                let gone = addresses.iter().filter_map(|a| self.members.swap_remove(a));
                changes.removed.extend(gone);
            }
            EndpointUpdate::NoEndpoints { exists } => {
                self.exists = Some(exists);
                self.resync = false;
                self.retain(|_| false, &mut changes);
            }
        }
        changes
    }

    /// Picks an endpoint, none of `excluded` unless that leaves none. `None` where the set is empty.
    pub fn pick(
        &self,
        now: Timestamp,
        random: u64,
        excluded: &[SocketAddr],
    ) -> Option<&Arc<Member<T>>> {
        let mut holes: Vec<usize> =
            excluded.iter().filter_map(|address| self.members.get_index_of(address)).collect();
        holes.sort_unstable();
        holes.dedup();
        let load = |at: usize| self.members[at].load.load(now);
        p2c::pick(self.members.len(), &holes, random, load).map(|pick| self.take(pick))
    }

    /// Picks an endpoint that is `eligible`; `None` where none is.
    pub fn pick_where(
        &self,
        now: Timestamp,
        random: u64,
        eligible: impl Fn(&Member<T>) -> bool,
    ) -> Option<&Arc<Member<T>>> {
        let load = |at: usize| self.members[at].load.load(now);
        let eligible = |at: usize| eligible(&self.members[at]);
        p2c::pick_where(self.members.len(), random, eligible, load).map(|pick| self.take(pick))
    }

    fn take(&self, pick: p2c::Pick) -> &Arc<Member<T>> {
        if let Some(other) = pick.passed_over {
            self.members[other].load.passed_over();
        }
        &self.members[pick.chosen]
    }

    /// The endpoint at an address.
    pub fn member(&self, address: &SocketAddr) -> Option<&Arc<Member<T>>> {
        self.members.get(address)
    }

    /// All endpoints, in an order that is the same in every run.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &Arc<Member<T>>> {
        self.members.values()
    }

    /// How many endpoints there are.
    pub fn len(&self) -> usize {
        self.members.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    /// Whether the backend's service exists; `None` before discovery told anything.
    pub fn exists(&self) -> Option<bool> {
        self.exists
    }

    fn add(
        &mut self,
        endpoint: Endpoint,
        labels: Labels,
        now: Timestamp,
        state: &mut impl FnMut(&Endpoint, &Labels, Option<&Member<T>>) -> T,
        changes: &mut Changes<T>,
    ) {
        let address = endpoint.address;
        let before = self.members.get(&address);
        match before {
            Some(member) if member.endpoint == endpoint && member.labels == labels => return,
            None if self.members.len() >= ENDPOINTS_MAX => {
                changes.refused += 1;
                return;
            }
            _ => {}
        }
        let load = match before {
            Some(member) => member.load.clone(),
            None => Arc::new(PeakEwma::new(&self.load, now)),
        };
        let member = Arc::new(Member {
            state: state(&endpoint, &labels, before.map(Arc::as_ref)),
            endpoint,
            labels,
            load,
        });
        match self.members.insert(address, member.clone()) {
            Some(before) => changes.changed.push(Changed { before, after: member }),
            None => changes.added.push(member),
        }
    }

    fn retain(&mut self, stays: impl Fn(&SocketAddr) -> bool, changes: &mut Changes<T>) {
        self.members.retain(|address, member| {
            let stays = stays(address);
            if !stays {
                changes.removed.push(member.clone());
            }
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;

    const LOAD: Load =
        Load::PeakEwma { default_rtt: Duration::from_millis(30), decay: Duration::from_secs(10) };

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, last], 80))
    }

    fn endpoint(last: u8, weight: u32) -> Endpoint {
        Endpoint {
            weight,
            labels: Labels::from_iter([("pod", last.to_string())]),
            ..Endpoint::new(address(last))
        }
    }

    fn add(lasts: &[u8]) -> EndpointUpdate {
        EndpointUpdate::Add {
            endpoints: lasts.iter().map(|last| endpoint(*last, 1)).collect(),
            labels: Labels::from_iter([("dst_service", "web")]),
        }
    }

    /// Applies; each endpoint's state counts how often it was made.
    fn apply(set: &mut EndpointSet<u32>, update: EndpointUpdate) -> Changes<u32> {
        set.apply(update, Timestamp::ZERO, |_, _, before| 1 + before.map_or(0, |m| m.state))
    }

    fn lasts<'m>(members: impl IntoIterator<Item = &'m Arc<Member<u32>>>) -> Vec<u8> {
        let mut lasts: Vec<u8> =
            members.into_iter().map(|m| m.labels.value("pod").unwrap().parse().unwrap()).collect();
        lasts.sort_unstable();
        lasts
    }

    #[test]
    fn updates_tell_what_is_new_changed_and_gone() {
        let mut set = EndpointSet::new(LOAD);
        assert_eq!(set.exists(), None);
        let changes = apply(&mut set, add(&[1, 2, 3]));
        assert_eq!((lasts(&changes.added), set.exists()), (vec![1, 2, 3], Some(true)));
        assert!(apply(&mut set, add(&[2, 3])).is_empty());
        let load = set.member(&address(2)).unwrap().load.clone();
        let update = EndpointUpdate::Add {
            endpoints: vec![endpoint(2, 9)],
            labels: Labels::from_iter([("dst_service", "web")]),
        };
        let changes = apply(&mut set, update);
        assert!(changes.added.is_empty() && changes.removed.is_empty());
        let Changed { before, after } = &changes.changed[0];
        assert_eq!((before.state, after.state, after.endpoint.weight), (1, 2, 9));
        assert!(Arc::ptr_eq(&after.load, &load));
        let changes = apply(&mut set, EndpointUpdate::Remove(vec![address(1), address(9)]));
        assert_eq!((lasts(&changes.removed), lasts(set.iter())), (vec![1], vec![2, 3]));
        let changes = apply(&mut set, EndpointUpdate::NoEndpoints { exists: false });
        assert_eq!((lasts(&changes.removed), set.exists()), (vec![2, 3], Some(false)));
        assert!(set.is_empty() && set.pick(Timestamp::ZERO, 0, &[]).is_none());
    }

    #[test]
    fn a_members_labels_are_its_sets_and_its_own() {
        let mut set = EndpointSet::new(LOAD);
        apply(&mut set, add(&[1]));
        let member = set.member(&address(1)).unwrap();
        let labels: Vec<_> = member.labels.iter().collect();
        assert_eq!(labels, [("dst_service", "web"), ("pod", "1")]);
    }

    #[test]
    fn a_new_stream_replaces_all_with_its_first_update() {
        let mut set = EndpointSet::new(LOAD);
        apply(&mut set, add(&[1, 2, 3]));
        set.resync();
        assert_eq!(set.len(), 3);
        let changes = apply(&mut set, add(&[2, 4]));
        assert_eq!((lasts(&changes.added), lasts(&changes.removed)), (vec![4], vec![1, 3]));
        apply(&mut set, add(&[5]));
        assert_eq!(lasts(set.iter()), [2, 4, 5]);
    }

    #[test]
    fn an_endpoint_that_failed_is_not_tried_twice_while_others_are_left() {
        let mut set = EndpointSet::new(LOAD);
        apply(&mut set, add(&[1, 2]));
        for random in (0..100).map(|i: u64| i.wrapping_mul(0x9e37_79b9_7f4a_7c15)) {
            let excluded = [address(1), address(1), address(7)];
            let pick = |excluded: &[SocketAddr]| {
                set.pick(Timestamp::ZERO, random, excluded).unwrap().endpoint.address
            };
            assert_eq!(pick(&excluded), address(2));
            let second = |m: &Member<u32>| m.endpoint.address == address(2);
            let picked = set.pick_where(Timestamp::ZERO, random, second);
            assert_eq!(picked.unwrap().endpoint.address, address(2));
            assert!(set.pick_where(Timestamp::ZERO, random, |_| false).is_none());
            assert!([address(1), address(2)].contains(&pick(&[address(1), address(2)])));
        }
    }

    fn any_update() -> impl Strategy<Value = EndpointUpdate> {
        let lasts = || prop::collection::vec(0u8..12, 0..6);
        prop_oneof![
            4 => lasts().prop_map(|lasts| add(&lasts)),
            3 => lasts()
                .prop_map(|lasts| EndpointUpdate::Remove(lasts.into_iter().map(address).collect())),
            1 => any::<bool>().prop_map(|exists| EndpointUpdate::NoEndpoints { exists }),
        ]
    }

    proptest! {
        #[test]
        fn a_removed_endpoint_is_never_picked(
            updates in prop::collection::vec((any_update(), any::<bool>()), 0..12),
            randoms in prop::collection::vec(any::<u64>(), 20),
        ) {
            let mut set = EndpointSet::new(LOAD);
            let (mut known, mut stale) = (BTreeSet::new(), false);
            for (update, resync) in updates {
                if resync {
                    set.resync();
                    stale = true;
                }
                if stale && !matches!(update, EndpointUpdate::Remove(_)) {
                    known.clear();
                    stale = false;
                }
                match &update {
                    EndpointUpdate::Add { endpoints, .. } => {
                        known.extend(endpoints.iter().map(|e| e.address));
                    }
                    EndpointUpdate::Remove(gone) => known.retain(|a| !gone.contains(a)),
                    EndpointUpdate::NoEndpoints { .. } => known.clear(),
                }
                apply(&mut set, update);
                let held: BTreeSet<_> = set.iter().map(|m| m.endpoint.address).collect();
                prop_assert_eq!(&held, &known);
                for random in &randoms {
                    let picked = set.pick(Timestamp::ZERO, *random, &[]);
                    prop_assert_eq!(picked.is_none(), known.is_empty());
                    prop_assert!(picked.is_none_or(|m| known.contains(&m.endpoint.address)));
                }
            }
        }

        /// `pick_where` and exclusions keep to the set, and to what is asked while anything is left.
        #[test]
        fn picks_keep_to_the_set_and_to_what_is_asked(
            members in prop::collection::btree_set(0u8..12, 0..8),
            excluded in prop::collection::vec(0u8..14, 0..6),
            randoms in prop::collection::vec(any::<u64>(), 20),
        ) {
            let mut set = EndpointSet::new(LOAD);
            apply(&mut set, add(&members.iter().copied().collect::<Vec<_>>()));
            let left: Vec<_> = members.iter().filter(|last| !excluded.contains(last)).collect();
            let addresses: Vec<_> = excluded.iter().map(|last| address(*last)).collect();
            let is_left = |found: &SocketAddr| left.iter().any(|last| address(**last) == *found);
            for random in randoms {
                let picked = set.pick(Timestamp::ZERO, random, &addresses);
                prop_assert_eq!(picked.is_some(), !members.is_empty());
                if let Some(picked) = picked {
                    prop_assert!(left.is_empty() || is_left(&picked.endpoint.address));
                }
                let wanted = |m: &Member<u32>| is_left(&m.endpoint.address);
                let picked = set.pick_where(Timestamp::ZERO, random, wanted);
                prop_assert_eq!(picked.is_some(), !left.is_empty());
                prop_assert!(picked.is_none_or(|m| wanted(m)));
            }
        }
    }
}
