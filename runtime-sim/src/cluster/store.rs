//! What an API server stores: objects, their resource versions, and the changes that led here, as
//! far as it remembers them. Knows no clients and no faults, and is told the time.
//!
//! Law: replaying the changes after a version onto the objects as they were then gives the objects
//! as they are now. A write that changes nothing has no version.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use mesh_core::resource::{Kind, Object, ObjectRef};
use mesh_core::time::Timestamp;

/// Changes of a kind that are remembered; a watch that is further behind must list again.
const HISTORY_MAX: usize = 8_192;

#[derive(Debug, Default)]
pub(super) struct Store {
    version: u64,
    uids: u64,
    objects: BTreeMap<ObjectRef, Object>,
    history: BTreeMap<Kind, History>,
}

#[derive(Debug, Default)]
struct History {
    /// By version, ascending.
    changes: VecDeque<Changed>,
    /// The latest change that is no longer known.
    forgotten: u64,
}

/// A change.
#[derive(Clone, Debug)]
pub(super) struct Changed {
    pub(super) version: u64,
    pub(super) change: Change,
    at: Timestamp,
    /// What the object was until then, where there was one.
    pub(super) before: Option<Object>,
}

/// What became of an object.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Put(Object),
    Gone(ObjectRef),
}

/// The objects of one moment.
#[derive(Clone, Debug)]
pub(super) struct Snapshot {
    pub(super) version: u64,
    pub(super) objects: BTreeMap<ObjectRef, Object>,
}

impl Store {
    /// An empty one whose versions come after this one.
    pub(super) fn resuming_after(version: u64) -> Self {
        Self { version, ..Self::default() }
    }

    /// The latest write.
    pub(super) fn version(&self) -> u64 {
        self.version
    }

    pub(super) fn find(&self, name: &ObjectRef) -> Option<&Object> {
        self.objects.get(name)
    }

    /// Objects of a kind, by namespace and name.
    pub(super) fn list(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        of_kind(&self.objects, kind)
    }

    /// The objects as they were so long before `now`, as far as that is remembered.
    pub(super) fn snapshot_before(&self, now: Timestamp, by: Duration) -> Snapshot {
        let mut objects = self.objects.clone();
        let mut version = 0;
        for history in self.history.values() {
            // What happens in this very moment counts as seen where the replica is not behind.
            let is_later = |changed: &&Changed| now.since(changed.at) < by;
            for changed in history.changes.iter().rev().take_while(is_later) {
                let name = changed.change.object_ref();
                match &changed.before {
                    Some(before) => objects.insert(name, before.clone()),
                    None => objects.remove(&name),
                };
            }
            let seen = history.changes.iter().rev().find(|changed| !is_later(changed));
            version = seen.map_or(history.forgotten, |changed| changed.version).max(version);
        }
        Snapshot { version, objects }
    }

    /// Makes or replaces an object. Tells whether anything changed.
    pub(super) fn put(&mut self, mut object: Object, now: Timestamp) -> bool {
        let name = object.object_ref();
        let old = self.objects.get(&name);
        let old_meta = old.map(Object::meta);
        let uid = old_meta.and_then(|meta| meta.uid.clone()).unwrap_or_else(|| {
            self.uids += 1;
            format!("uid-{}", self.uids)
        });
        let meta = object.meta_mut();
        meta.uid = Some(uid);
        meta.resource_version = old_meta.and_then(|meta| meta.resource_version.clone());
        if old == Some(&object) {
            return false;
        }
        self.version += 1;
        object.meta_mut().resource_version = Some(self.version.to_string());
        let before = self.objects.insert(name, object.clone());
        self.remember(Change::Put(object), before, now);
        true
    }

    /// Removes an object. Tells whether there was one.
    pub(super) fn remove(&mut self, name: &ObjectRef, now: Timestamp) -> bool {
        let before = self.objects.remove(name);
        let existed = before.is_some();
        if existed {
            self.version += 1;
            self.remember(Change::Gone(name.clone()), before, now);
        }
        existed
    }

    /// What changed after `after`, up to `limit`, with versions. `None` where that is no longer
    /// known.
    pub(super) fn changes(
        &self,
        kind: Kind,
        after: u64,
        limit: u64,
    ) -> Option<impl Iterator<Item = &Changed>> {
        static NOTHING: History = History { changes: VecDeque::new(), forgotten: 0 };
        let history = self.history.get(&kind).unwrap_or(&NOTHING);
        let first = history.changes.partition_point(|known| known.version <= after);
        let changes = history.changes.range(first..);
        (after >= history.forgotten)
            .then(|| changes.take_while(move |changed| changed.version <= limit))
    }

    fn remember(&mut self, change: Change, before: Option<Object>, at: Timestamp) {
        let history = self.history.entry(change.object_ref().kind).or_default();
        history.changes.push_back(Changed { version: self.version, change, at, before });
        if history.changes.len() > HISTORY_MAX
            && let Some(oldest) = history.changes.pop_front()
        {
            history.forgotten = oldest.version;
        }
    }
}

impl Change {
    fn object_ref(&self) -> ObjectRef {
        match self {
            Self::Put(object) => object.object_ref(),
            Self::Gone(name) => name.clone(),
        }
    }
}

impl Snapshot {
    pub(super) fn list(&self, kind: Kind) -> impl Iterator<Item = &Object> {
        of_kind(&self.objects, kind)
    }
}

fn of_kind(objects: &BTreeMap<ObjectRef, Object>, kind: Kind) -> impl Iterator<Item = &Object> {
    let first = ObjectRef { kind, namespace: String::new(), name: String::new() };
    let from = objects.range(first..).take_while(move |(name, _)| name.kind == kind);
    from.map(|(_, object)| object)
}

#[cfg(test)]
mod tests {
    use mesh_core::resource::Namespace;
    use proptest::prelude::*;

    use super::*;

    const NOW: Timestamp = Timestamp::ZERO;

    fn namespace(name: &str, label: &str) -> Object {
        let mut namespace = Namespace::default();
        namespace.metadata.name = Some(name.to_owned());
        namespace.metadata.labels = Some([("label".to_owned(), label.to_owned())].into());
        namespace.into()
    }

    #[test]
    fn a_write_that_changes_nothing_has_no_version() {
        let mut store = Store::default();
        assert!(store.put(namespace("a", "1"), NOW));
        assert!(!store.put(namespace("a", "1"), NOW));
        assert_eq!(store.version(), 1);
        assert!(store.put(namespace("a", "2"), NOW));
        assert_eq!(store.version(), 2);
    }

    #[test]
    fn an_object_made_again_is_another() {
        let mut store = Store::default();
        store.put(namespace("a", "1"), NOW);
        let name = namespace("a", "1").object_ref();
        let uid = |store: &Store| store.find(&name).and_then(|o| o.meta().uid.clone());
        let first = uid(&store);
        store.remove(&name, NOW);
        store.put(namespace("a", "1"), NOW);
        assert_ne!(uid(&store), first);
    }

    #[test]
    fn what_is_long_past_is_forgotten() {
        let mut store = Store::default();
        for number in 0..=HISTORY_MAX {
            store.put(namespace("a", &number.to_string()), NOW);
        }
        assert!(store.changes(Kind::Namespace, 0, u64::MAX).is_none());
        assert!(store.changes(Kind::Namespace, 1, u64::MAX).is_some());
        assert!(store.changes(Kind::Pod, 0, u64::MAX).is_some(), "of its own kind only");
    }

    proptest! {
        #[test]
        fn changes_replayed_onto_a_snapshot_give_the_present(
            writes in proptest::collection::vec((0..4_u8, 0..3_u8, any::<bool>()), 0..60),
            at in 0..60_usize,
        ) {
            let mut store = Store::default();
            let second = |index| Timestamp::from_millis(index as u64 * 1_000);
            let mut then = (0, BTreeMap::new());
            for (index, (name, label, put)) in writes.iter().enumerate() {
                if index == at {
                    then = (store.version, store.objects.clone());
                }
                let object = namespace(&format!("n{name}"), &label.to_string());
                match put {
                    true => store.put(object, second(index)),
                    false => store.remove(&object.object_ref(), second(index)),
                };
            }
            if at < writes.len() {
                // The present is half a second after the last write.
                let now = second(writes.len()) - Duration::from_millis(500);
                let by = now.since(second(at)) + Duration::from_millis(1);
                let past = store.snapshot_before(now, by);
                prop_assert_eq!((past.version, past.objects), then.clone());
            }
            let (then, objects) = then;
            let mut replayed = objects;
            let mut last = then;
            let changes = store.changes(Kind::Namespace, then, u64::MAX);
            for Changed { version, change, .. } in changes.expect("remembered") {
                prop_assert!(*version > last, "versions ascend");
                last = *version;
                match change {
                    Change::Put(object) => replayed.insert(object.object_ref(), object.clone()),
                    Change::Gone(name) => replayed.remove(name),
                };
            }
            prop_assert_eq!(&replayed, &store.objects);
            prop_assert_eq!(last, store.version());
        }
    }
}
