//! Facts about the cluster's door: the law of its watches.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::{Bed, ClusterEditor, declare_cases};
use crate::resource::{Kind, Namespace, Object, ObjectRef, ServiceAccount};
use crate::runtime::cluster::WatchEvent;
use crate::runtime::{BoxStream, Runtime};

declare_cases! { "cluster";
    a_watch_of_nothing_lists_nothing,
    a_watch_follows_changes_after_its_list,
    a_late_watch_lists_what_exists,
    kinds_are_watched_apart,
    a_delete_that_nobody_heard_of_shows_in_the_next_list,
    a_watch_does_not_go_back_to_a_list_that_is_older,
    a_token_nobody_issued_is_not_reviewed,
}

/// What a watch has told so far. Keeps the law: objects of the list come between `Init` and
/// `InitDone`, changes after it.
struct Mirror {
    watch: BoxStream<Result<WatchEvent, crate::runtime::cluster::ClusterError>>,
    listing: Option<BTreeMap<ObjectRef, Object>>,
    objects: Option<BTreeMap<ObjectRef, Object>>,
}

impl Mirror {
    fn of(runtime: &Runtime, kind: Kind) -> Self {
        Self { watch: runtime.cluster.watch(kind), listing: None, objects: None }
    }

    fn take(&mut self, event: WatchEvent) {
        match event {
            WatchEvent::Init => self.listing = Some(BTreeMap::new()),
            WatchEvent::InitApply(object) => {
                let listing = self.listing.as_mut().expect("inside a list");
                let twice = listing.insert(object.object_ref(), object);
                assert!(twice.is_none(), "listed twice: {twice:?}");
            }
            WatchEvent::InitDone => {
                self.objects = Some(self.listing.take().expect("inside a list"));
            }
            WatchEvent::Apply(object) => {
                assert!(self.listing.is_none(), "a change inside a list");
                let objects = self.objects.as_mut().expect("after a list");
                objects.insert(object.object_ref(), object);
            }
            WatchEvent::Delete(name) => {
                assert!(self.listing.is_none(), "a change inside a list");
                let objects = self.objects.as_mut().expect("after a list");
                objects.remove(&name);
            }
        }
    }

    /// Follows the watch for a while, in which it shows nothing of this name.
    async fn never_shows(&mut self, runtime: &Runtime, name: &str, lasts: Duration) {
        let deadline = runtime.now() + lasts;
        loop {
            let next = poll_fn(|context| self.watch.as_mut().poll_next(context));
            match runtime.deadline(deadline, next).await {
                Ok(Some(Ok(event))) => self.take(event),
                Ok(Some(Err(_))) => {}
                Ok(None) => panic!("the watch ended"),
                Err(_) => return,
            }
            let shown = self.objects.iter().flat_map(|objects| objects.keys());
            assert!(!shown.into_iter().any(|key| key.name == name), "it shows `{name}` again");
        }
    }

    /// Follows the watch until it shows exactly these names.
    async fn shows(&mut self, runtime: &Runtime, names: &[&str]) {
        let deadline = runtime.now() + Duration::from_secs(5);
        loop {
            let shown: Option<Vec<_>> = self
                .objects
                .as_ref()
                .map(|objects| objects.keys().map(|key| key.name.as_str()).collect());
            if self.listing.is_none() && shown.as_deref() == Some(names) {
                return;
            }
            let next = poll_fn(|context| self.watch.as_mut().poll_next(context));
            match runtime.deadline(deadline, next).await {
                Ok(Some(Ok(event))) => self.take(event),
                Ok(Some(Err(_))) => {}
                Ok(None) => panic!("the watch ended"),
                Err(_) => panic!("expected {names:?}, the watch shows {shown:?}"),
            }
        }
    }
}

fn service_account(name: &str, marked: bool) -> Object {
    let labels = marked.then(|| [("marked".to_owned(), "yes".to_owned())].into());
    let metadata = ObjectMeta {
        name: Some(name.to_owned()),
        namespace: Some("contract".to_owned()),
        labels,
        ..ObjectMeta::default()
    };
    Object::from(ServiceAccount { metadata, ..ServiceAccount::default() })
}

async fn apply(editor: &dyn ClusterEditor, object: Object) {
    editor.apply(object).await.expect("to apply");
}

async fn a_watch_of_nothing_lists_nothing(bed: Bed) {
    if bed.cluster.is_none() {
        return;
    }
    let runtime = &bed.near.runtime;
    let mut mirror = Mirror::of(runtime, Kind::ServiceAccount);
    mirror.shows(runtime, &[]).await;
}

async fn a_watch_follows_changes_after_its_list(bed: Bed) {
    let Some(editor) = &bed.cluster else { return };
    let runtime = &bed.near.runtime;
    let mut mirror = Mirror::of(runtime, Kind::ServiceAccount);
    mirror.shows(runtime, &[]).await;
    apply(&**editor, service_account("one", false)).await;
    mirror.shows(runtime, &["one"]).await;
    apply(&**editor, service_account("two", false)).await;
    mirror.shows(runtime, &["one", "two"]).await;
    let one = service_account("one", false).object_ref();
    editor.delete(one).await.expect("to delete");
    mirror.shows(runtime, &["two"]).await;
}

async fn a_late_watch_lists_what_exists(bed: Bed) {
    let Some(editor) = &bed.cluster else { return };
    let runtime = &bed.near.runtime;
    let mut early = Mirror::of(runtime, Kind::ServiceAccount);
    apply(&**editor, service_account("one", false)).await;
    apply(&**editor, service_account("one", true)).await;
    early.shows(runtime, &["one"]).await;
    let mut late = Mirror::of(runtime, Kind::ServiceAccount);
    late.shows(runtime, &["one"]).await;
}

async fn kinds_are_watched_apart(bed: Bed) {
    let Some(editor) = &bed.cluster else { return };
    let runtime = &bed.near.runtime;
    let mut accounts = Mirror::of(runtime, Kind::ServiceAccount);
    let mut namespaces = Mirror::of(runtime, Kind::Namespace);
    namespaces.shows(runtime, &[]).await;
    apply(&**editor, service_account("one", false)).await;
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some("contract".to_owned());
    apply(&**editor, namespace.into()).await;
    accounts.shows(runtime, &["one"]).await;
    namespaces.shows(runtime, &["contract"]).await;
}

async fn a_delete_that_nobody_heard_of_shows_in_the_next_list(bed: Bed) {
    let (Some(editor), Some(trouble)) = (&bed.cluster, &bed.cluster_trouble) else { return };
    let runtime = &bed.near.runtime;
    let mut mirror = Mirror::of(runtime, Kind::ServiceAccount);
    apply(&**editor, service_account("one", false)).await;
    apply(&**editor, service_account("two", false)).await;
    mirror.shows(runtime, &["one", "two"]).await;
    trouble.lose_watches();
    editor.delete(service_account("one", false).object_ref()).await.expect("to delete");
    apply(&**editor, service_account("three", false)).await;
    trouble.relist();
    mirror.shows(runtime, &["three", "two"]).await;
}

async fn a_watch_does_not_go_back_to_a_list_that_is_older(bed: Bed) {
    let (Some(editor), Some(trouble)) = (&bed.cluster, &bed.cluster_trouble) else { return };
    let runtime = &bed.near.runtime;
    let mut mirror = Mirror::of(runtime, Kind::ServiceAccount);
    apply(&**editor, service_account("one", false)).await;
    mirror.shows(runtime, &["one"]).await;
    runtime.sleep(Duration::from_secs(3)).await;
    editor.delete(service_account("one", false).object_ref()).await.expect("to delete");
    mirror.shows(runtime, &[]).await;
    trouble.set_stale(Some(Duration::from_secs(2)));
    trouble.relist();
    mirror.never_shows(runtime, "one", Duration::from_secs(3)).await;
    trouble.set_stale(None);
    apply(&**editor, service_account("two", false)).await;
    mirror.shows(runtime, &["two"]).await;
}

async fn a_token_nobody_issued_is_not_reviewed(bed: Bed) {
    let cluster = &bed.near.runtime.cluster;
    let review = cluster.review_token("made up", "identity.l5d.io").await;
    assert!(review.is_err());
}
