//! What clients are told, under each fault.

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::net::Ipv4Addr;
use std::time::Duration;

use mesh_core::resource::route::{ParentRef, RouteParentStatus, RouteStatus};
use mesh_core::resource::{HTTPRoute, Namespace};
use mesh_core::runtime::Runtime;
use mesh_core::time::WallTime;

use super::*;
use crate::engine::Engine;
use crate::topology::{HostSpec, Role};
use crate::trace::Trace;

const LIMIT: Timestamp = Timestamp::from_millis(600_000);

/// Runs a client called `one` against a server, in a world with a second client called `two`.
fn play<F>(test: impl FnOnce(ApiServer, Runtime, Runtime) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let api = ApiServer::default();
    let mut engine = Engine::new(1, Trace::new(false), api.clone());
    let mut start = |name: &str, last: u8| {
        let host = engine.add_host(HostSpec::new(name, Ipv4Addr::new(10, 0, 0, last).into()));
        engine.start(host, name, Role::App)
    };
    let (one, two) = (start("one", 1), start("two", 2));
    engine.block_on(&one, LIMIT, test(api, one.clone(), two));
}

fn object(name: &str, label: &str) -> Object {
    let mut namespace = Namespace::default();
    namespace.metadata.name = Some(name.to_owned());
    namespace.metadata.labels = Some([("label".to_owned(), label.to_owned())].into());
    namespace.into()
}

fn named(name: &str) -> ObjectRef {
    object(name, "").object_ref()
}

/// What a client knows by its watch, which must keep the law and never go back in time.
struct Client {
    runtime: Runtime,
    watch: BoxStream<Item>,
    known: BTreeMap<String, Object>,
    list: Option<BTreeMap<String, Object>>,
    lists: usize,
    errors: usize,
}

impl Client {
    fn new(runtime: &Runtime) -> Self {
        Self {
            runtime: runtime.clone(),
            watch: runtime.cluster.watch(Kind::Namespace),
            known: BTreeMap::new(),
            list: None,
            lists: 0,
            errors: 0,
        }
    }

    /// Follows for so long and tells what it knows then: names and labels.
    async fn after(&mut self, time: Duration) -> String {
        let until = self.runtime.now() + time;
        loop {
            let next = poll_fn(|context| self.watch.as_mut().poll_next(context));
            match self.runtime.deadline(until, next).await {
                Ok(event) => self.take(event.expect("a watch does not end")),
                Err(_) => return self.shows(),
            }
        }
    }

    async fn now(&mut self) -> String {
        self.after(Duration::from_millis(1)).await
    }

    fn shows(&self) -> String {
        let one = |(name, object): (&String, &Object)| {
            let labels = object.meta().labels.as_ref().expect("labelled here");
            format!("{name}={}", labels["label"])
        };
        self.known.iter().map(one).collect::<Vec<_>>().join(" ")
    }

    fn take(&mut self, event: Item) {
        match event {
            Err(_) => self.errors += 1,
            Ok(WatchEvent::Init) => self.list = Some(BTreeMap::new()),
            Ok(WatchEvent::InitApply(object)) => {
                let list = self.list.as_mut().expect("inside a list");
                list.insert(object.object_ref().name, object);
            }
            Ok(WatchEvent::InitDone) => {
                let list = self.list.take().expect("inside a list");
                for (name, object) in &list {
                    self.is_no_older(name, object);
                }
                self.known = list;
                self.lists += 1;
            }
            Ok(WatchEvent::Apply(object)) => {
                assert!(self.list.is_none() && self.lists > 0, "a change outside of lists");
                let name = object.object_ref().name;
                self.is_no_older(&name, &object);
                self.known.insert(name, object);
            }
            Ok(WatchEvent::Delete(name)) => {
                assert!(self.list.is_none() && self.lists > 0, "a change outside of lists");
                self.known.remove(&name.name);
            }
        }
    }

    fn is_no_older(&self, name: &str, object: &Object) {
        let version = |object: &Object| {
            let version = object.meta().resource_version.as_ref();
            version.and_then(|v| v.parse::<u64>().ok()).expect("a version")
        };
        if let Some(known) = self.known.get(name) {
            assert!(version(object) >= version(known), "{name} went back in time");
        }
    }
}

#[test]
fn changes_are_told_at_once() {
    play(async |api, one, _| {
        let mut client = Client::new(&one);
        api.apply(object("a", "1"));
        assert_eq!(client.now().await, "a=1");
        api.apply(object("a", "2"));
        api.apply(object("b", "1"));
        assert_eq!(client.now().await, "a=2 b=1");
        api.delete(&named("a"));
        assert_eq!(client.now().await, "b=1");
        assert_eq!((client.lists, client.errors), (1, 0));
    });
}

#[test]
fn lag_holds_back_what_is_told_to_its_client_alone() {
    play(async |api, one, two| {
        let (mut late, mut prompt) = (Client::new(&one), Client::new(&two));
        late.now().await;
        api.set_fault(Some("one"), ApiFault::Lag(Duration::from_secs(5)));
        api.apply(object("a", "1"));
        assert_eq!(prompt.now().await, "a=1");
        assert_eq!(late.after(Duration::from_millis(4_990)).await, "");
        assert_eq!(late.after(Duration::from_millis(20)).await, "a=1");
    });
}

#[test]
fn a_delete_missed_while_disconnected_is_told_on_resuming() {
    play(async |api, one, _| {
        api.apply(object("a", "1"));
        let mut client = Client::new(&one);
        client.now().await;
        api.set_fault(None, ApiFault::WatchOutage);
        assert_eq!(client.now().await, "a=1");
        api.delete(&named("a"));
        api.apply(object("b", "1"));
        assert_eq!(client.after(Duration::from_secs(10)).await, "a=1");
        assert!(client.errors > 1, "it tries again");
        api.clear_fault(None, ApiFault::WatchOutage);
        assert_eq!(client.after(Duration::from_secs(31)).await, "b=1");
        assert_eq!(client.lists, 1, "it resumed by version");
    });
}

#[test]
fn a_delete_missed_while_the_history_was_lost_shows_by_its_absence_from_the_list() {
    play(async |api, one, _| {
        api.apply(object("a", "1"));
        let mut client = Client::new(&one);
        client.now().await;
        api.set_fault(None, ApiFault::Compacted);
        api.set_fault(None, ApiFault::Outage);
        client.now().await;
        api.delete(&named("a"));
        api.clear_fault(None, ApiFault::Outage);
        assert_eq!(client.after(Duration::from_secs(31)).await, "");
        assert_eq!(client.lists, 2);
    });
}

#[test]
fn an_object_deleted_and_made_again_while_away_is_the_new_one() {
    play(async |api, one, _| {
        api.apply(object("a", "1"));
        let mut client = Client::new(&one);
        client.now().await;
        let uid = client.known["a"].meta().uid.clone();
        api.disconnect(Some("one"));
        api.delete(&named("a"));
        api.apply(object("a", "2"));
        assert_eq!(client.after(Duration::from_secs(2)).await, "a=2");
        assert_ne!(client.known["a"].meta().uid, uid);
    });
}

#[test]
fn a_stale_list_brings_back_nothing_that_was_seen_to_go() {
    play(async |api, one, _| {
        api.apply(object("a", "1"));
        let mut client = Client::new(&one);
        client.now().await;
        // The replica stands still here; the client's own goes on.
        api.set_fault(Some("one"), ApiFault::Stale(Duration::ZERO));
        api.delete(&named("a"));
        api.apply(object("b", "1"));
        assert_eq!(client.now().await, "b=1");
        api.relist(Some("one"));
        assert_eq!(client.after(Duration::from_secs(20)).await, "b=1");
        assert!(client.errors > 1, "it asks for a list that is not older than what it knows");
        api.clear_fault(Some("one"), ApiFault::Stale(Duration::ZERO));
        assert_eq!(client.after(Duration::from_secs(31)).await, "b=1");
        assert_eq!(client.lists, 2);
    });
}

#[test]
fn a_client_that_knows_nothing_believes_a_stale_list_until_the_replica_goes_on() {
    play(async |api, one, _| {
        api.apply(object("a", "1"));
        api.set_fault(Some("one"), ApiFault::Stale(Duration::ZERO));
        api.delete(&named("a"));
        let mut client = Client::new(&one);
        assert_eq!(client.after(Duration::from_secs(60)).await, "a=1");
        api.clear_fault(Some("one"), ApiFault::Stale(Duration::ZERO));
        assert_eq!(client.now().await, "");
        assert_eq!((client.lists, client.errors), (1, 0));
    });
}

#[test]
fn a_replica_may_have_been_behind_before_the_fault_began() {
    play(async |api, one, _| {
        api.apply(object("a", "1"));
        one.sleep(Duration::from_secs(10)).await;
        api.delete(&named("a"));
        one.sleep(Duration::from_secs(10)).await;
        api.set_fault(Some("one"), ApiFault::Stale(Duration::from_secs(15)));
        let mut client = Client::new(&one);
        assert_eq!(client.now().await, "a=1");
        api.clear_faults(None);
        assert_eq!(client.now().await, "");
    });
}

#[test]
fn a_stalled_watch_says_nothing_and_goes_on_where_it_was() {
    play(async |api, one, _| {
        let mut client = Client::new(&one);
        client.now().await;
        api.set_fault(None, ApiFault::Stall);
        api.apply(object("a", "1"));
        assert_eq!(client.after(Duration::from_secs(60)).await, "");
        api.clear_faults(None);
        assert_eq!(client.now().await, "a=1");
        assert_eq!((client.lists, client.errors), (1, 0));
    });
}

#[test]
fn a_list_that_breaks_off_begins_again() {
    play(async |api, one, _| {
        api.apply(object("a", "1"));
        api.set_fault(None, ApiFault::Lag(Duration::from_secs(5)));
        let mut client = Client::new(&one);
        assert_eq!(client.after(Duration::from_secs(3)).await, "");
        api.disconnect(None);
        api.clear_faults(None);
        assert_eq!(client.after(Duration::from_secs(2)).await, "a=1");
        assert_eq!((client.lists, client.errors), (1, 1));
    });
}

fn route(parent: &str) -> HTTPRoute {
    let mut route = HTTPRoute::default();
    route.metadata.name = Some("web".to_owned());
    route.metadata.namespace = Some("shop".to_owned());
    let parent = ParentRef { name: parent.to_owned(), ..ParentRef::default() };
    route.spec.0.parent_refs = Some(vec![parent]);
    route
}

/// A status that `controller` wrote.
fn status(controller: &str) -> RouteStatus {
    let parent = RouteParentStatus { controller_name: controller.to_owned(), ..Default::default() };
    RouteStatus { parents: vec![parent] }
}

#[test]
fn a_status_is_replaced_alone_and_by_whoever_knows_the_objects_version() {
    play(async |api, one, two| {
        api.apply(route("before").into());
        let name = Object::from(route("")).object_ref();
        let find = || api.find(&name).expect("there");
        let read = find();
        let mut written = Object::from(HTTPRoute { status: Some(status("one")), ..route("else") });
        written.meta_mut().resource_version.clone_from(&read.meta().resource_version);
        assert_eq!(one.cluster.write_status(written.clone()).await, Ok(()));
        let expected = HTTPRoute { status: Some(status("one")), ..route("before") };
        let Object::HTTPRoute(now) = find() else { panic!("a route") };
        assert_eq!((&now.spec, &now.status), (&expected.spec, &expected.status));
        let conflict = Err(ClusterError::Conflict("HTTPRoute/shop/web".to_owned()));
        assert_eq!(two.cluster.write_status(written.clone()).await, conflict);
        written.meta_mut().resource_version = None;
        api.set_fault(Some("two"), ApiFault::Conflict);
        assert_eq!(two.cluster.write_status(written.clone()).await, conflict);
        assert_eq!(one.cluster.write_status(written.clone()).await, Ok(()));
        api.delete(&name);
        let missing = Err(ClusterError::NotFound("HTTPRoute/shop/web".to_owned()));
        assert_eq!(one.cluster.write_status(written).await, missing);
        api.apply(object("a", "1"));
        assert!(one.cluster.write_status(object("a", "2")).await.is_err(), "it has no status");
    });
}

#[test]
fn a_lease_is_written_by_whoever_knows_its_version_and_reaches_the_server() {
    play(async |api, one, two| {
        let of = |holder: &str| Lease { holder: holder.to_owned(), ..Lease::default() };
        let first = one.cluster.write_lease("write", of("one")).await.expect("there was none");
        assert_eq!(two.cluster.lease("write").await, Ok(Some(first.clone())));
        let late = two.cluster.write_lease("write", of("two")).await;
        assert_eq!(late, Err(ClusterError::Conflict("lease write".to_owned())));
        let taken = Lease { version: first.version.clone(), ..of("two") };
        assert!(two.cluster.write_lease("write", taken).await.is_ok());
        assert!(one.cluster.write_lease("write", first).await.is_err());
        assert_eq!(api.lease_transitions("write"), 1);
        api.set_fault(Some("one"), ApiFault::Outage);
        assert!(one.cluster.lease("write").await.is_err());
        api.set_lease("write", None);
        assert_eq!(two.cluster.lease("write").await, Ok(None));
    });
}

#[test]
fn a_status_that_is_written_beside_the_leases_holder_is_counted() {
    play(async |api, one, two| {
        api.apply(route("parent").into());
        api.set_lease("write", Some(Lease { holder: "one".to_owned(), ..Lease::default() }));
        let written = |by: &str| HTTPRoute { status: Some(status(by)), ..route("parent") }.into();
        assert_eq!(one.cluster.write_status(written("one")).await, Ok(()));
        assert!(api.metrics().contains("apiserver_stray_writes_total 0\n"));
        assert_eq!(two.cluster.write_status(written("two")).await, Ok(()));
        assert!(api.metrics().contains("apiserver_stray_writes_total 1\n"));
        assert!(api.metrics().contains("apiserver_status_writes_total{client=\"two\"} 1\n"));
    });
}

#[test]
fn a_token_is_reviewed_by_the_servers_clock_and_while_it_can_be_reached() {
    play(async |api, one, _| {
        let token = api.issue(TokenSpec {
            namespace: "shop".to_owned(),
            account: "web".to_owned(),
            audience: "mesh".to_owned(),
            pod: None,
            expires: Some(WallTime::from_unix_secs(START.as_unix_secs() + 60)),
        });
        let valid = async || one.cluster.review_token(&token, "mesh").await.is_ok();
        assert!(valid().await);
        api.set_fault(None, ApiFault::Outage);
        assert!(!valid().await);
        api.clear_faults(None);
        assert!(valid().await);
        one.sleep(Duration::from_secs(61)).await;
        assert!(!valid().await);
    });
}
