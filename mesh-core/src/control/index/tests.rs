//! The law of the index, over any events; lists as wholes; what counts as a change.

use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use super::{Fact, Index, ServiceRef};
use crate::control::testing;
use crate::resource::{Kind, Object, ObjectRef};
use crate::runtime::cluster::WatchEvent;

fn workload(name: &str, address: &str, service: &str) -> Object {
    let manifest = format!(
        "apiVersion: workload.weft.sh/v1alpha1
kind: Workload
metadata: {{name: {name}}}
spec: {{addresses: [{address}], service: {service}}}"
    );
    testing::objects(&manifest).remove(0)
}

fn any_object() -> impl Strategy<Value = Object> {
    let name = prop::sample::select(vec!["a", "b", "c"]);
    let address = prop::sample::select(vec!["10.0.0.1", "10.0.0.2", "'fd00::1'"]);
    let service = prop::sample::select(vec!["web", "db"]);
    (0..4_u8, name, address, service).prop_map(|(kind, name, address, service)| {
        let manifest = match kind {
            0 => return workload(name, address, service),
            1 => format!(
                "apiVersion: v1\nkind: Service\nmetadata: {{name: {service}}}\n\
                 spec: {{clusterIP: {address}, ports: [{{port: 80}}]}}"
            ),
            2 => format!(
                "apiVersion: v1\nkind: Pod\nmetadata: {{name: {name}}}\n\
                 status: {{podIP: {address}}}"
            ),
            _ => format!(
                "apiVersion: discovery.k8s.io/v1\nkind: EndpointSlice\nmetadata: {{name: {name}, \
                 labels: {{kubernetes.io/service-name: {service}}}}}\naddressType: IPv4\n\
                 endpoints: []"
            ),
        };
        testing::objects(&manifest).remove(0)
    })
}

#[derive(Clone, Debug)]
enum Step {
    Apply(Object),
    Delete(Object),
    Relist(Kind, Vec<Object>),
}

fn any_step() -> impl Strategy<Value = Step> {
    let kinds = [Kind::Workload, Kind::Service, Kind::Pod, Kind::EndpointSlice];
    let kind = prop::sample::select(kinds.to_vec());
    prop_oneof![
        4 => any_object().prop_map(Step::Apply),
        2 => any_object().prop_map(Step::Delete),
        1 => (kind, prop::collection::vec(any_object(), 0..4))
            .prop_map(|(kind, objects)| Step::Relist(kind, objects)),
    ]
}

proptest! {
    #[test]
    fn an_index_that_followed_events_equals_one_that_was_built(
        steps in prop::collection::vec(any_step(), 0..40),
    ) {
        let mut index = testing::index("");
        let mut left = BTreeMap::new();
        let mut ignored = BTreeSet::new();
        for step in steps {
            match step {
                Step::Apply(object) => {
                    left.insert(object.object_ref(), object.clone());
                    index.apply(object.kind(), WatchEvent::Apply(object), &mut ignored);
                }
                Step::Delete(object) => {
                    let name = object.object_ref();
                    left.remove(&name);
                    index.apply(object.kind(), WatchEvent::Delete(name), &mut ignored);
                }
                Step::Relist(kind, objects) => {
                    left.retain(|name: &ObjectRef, _| name.kind != kind);
                    index.apply(kind, WatchEvent::Init, &mut ignored);
                    for object in objects.into_iter().filter(|object| object.kind() == kind) {
                        left.insert(object.object_ref(), object.clone());
                        index.apply(kind, WatchEvent::InitApply(object), &mut ignored);
                    }
                    index.apply(kind, WatchEvent::InitDone, &mut ignored);
                }
            }
        }
        let mut built = testing::index("");
        for object in left.into_values() {
            testing::put(&mut built, object);
        }
        prop_assert_eq!(index, built);
    }
}

#[test]
fn a_list_takes_effect_as_a_whole_when_it_is_complete() {
    let mut index = testing::index("");
    testing::put(&mut index, workload("a", "10.0.0.1", "web"));
    let before = index.objects.clone();
    let mut changed = BTreeSet::new();
    let other = workload("b", "10.0.0.2", "web");
    index.apply(Kind::Workload, WatchEvent::Init, &mut changed);
    index.apply(Kind::Workload, WatchEvent::InitApply(other), &mut changed);
    assert_eq!(index.objects, before);
    assert!(changed.is_empty());
    index.apply(Kind::Workload, WatchEvent::InitDone, &mut changed);
    let names: Vec<_> = index.objects.keys().map(|name| name.name.as_str()).collect();
    assert_eq!(names, ["b"]);
    let web = ServiceRef { namespace: "default".to_string(), name: "web".to_string() };
    for fact in [
        Fact::Address("10.0.0.1".parse().unwrap()),
        Fact::Address("10.0.0.2".parse().unwrap()),
        Fact::Backends(web),
    ] {
        assert!(changed.contains(&fact), "{fact:?}");
    }
}

#[test]
fn an_object_that_is_applied_unchanged_changes_no_fact() {
    let mut index = testing::index("");
    let object = workload("a", "10.0.0.1", "web");
    assert!(!testing::put(&mut index, object.clone()).is_empty());
    assert!(testing::put(&mut index, object).is_empty());
}

#[test]
fn an_index_is_synced_once_every_kind_was_listed() {
    let mut index = Index::default();
    let mut changed = BTreeSet::new();
    for kind in Kind::ALL {
        assert!(!index.is_synced());
        index.apply(*kind, WatchEvent::Init, &mut changed);
        index.apply(*kind, WatchEvent::InitDone, &mut changed);
    }
    assert!(index.is_synced());
}
