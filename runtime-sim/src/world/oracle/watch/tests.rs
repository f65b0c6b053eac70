//! Each probe fails on a planted world, says where it is, and passes without.

use super::*;

/// An engine that does not count.
const UNCOUNTED: Held = Held { tasks: 0, sockets: 0, timers: 0, heap_bytes: None };

/// A world whose one proxy, and whose controller, are as they are told.
#[derive(Default)]
struct Planted {
    metrics: String,
    /// Last numbers of the addresses that the cluster has, and that the proxy knows: whether up.
    endpoints: &'static [u8],
    known: &'static [(u8, bool)],
    hinted: bool,
    servers: &'static [&'static str],
    held: Held,
}

fn address(last: u8) -> SocketAddr {
    SocketAddr::from(([10, 1, 0, last], 8080))
}

impl Scene for Planted {
    fn names(&self) -> Vec<Arc<str>> {
        vec!["web-0".into()]
    }

    fn metrics(&self, _: &str) -> Option<Metrics> {
        Some(Metrics::read(&self.metrics))
    }

    fn services(&self) -> BTreeMap<String, Expected> {
        let addresses = self.endpoints.iter().map(|last| address(*last)).collect();
        [("web.shop:80".to_owned(), Expected { addresses, hinted: self.hinted })].into()
    }

    fn known(&self, _: &str) -> Option<Vec<(String, BTreeMap<SocketAddr, bool>)>> {
        let known = self.known.iter().map(|(last, up)| (address(*last), *up)).collect();
        Some(vec![("web.shop:80".to_owned(), known), ("unknown:80".to_owned(), BTreeMap::new())])
    }

    fn servers(&self, _: &str) -> Option<BTreeSet<Arc<str>>> {
        Some(self.servers.iter().map(|name| Arc::from(*name)).collect())
    }

    fn heap_peaks(&self) -> BTreeMap<Arc<str>, u64> {
        self.held.heap_bytes.map(|bytes| ("web-0".into(), bytes)).into_iter().collect()
    }

    fn held(&self, _: &str) -> Option<Held> {
        (self.held != UNCOUNTED).then_some(self.held)
    }
}

fn spec(expect: &str) -> Spec {
    let text = format!(
        "about: a test\nduration: 10s\nworkloads:\n- name: w\n  from: client\n  to: web:80\n  \
         protocol: http1\n  arrivals: {{constant: {{rate: 1}}}}\nfaults:\n- at: 4s\n  for: 1s\n  \
         do: {{watch_lag: {{by: 1s}}}}\nexpect: [{expect}]\n"
    );
    let deserializer = serde_yaml_ng::Deserializer::from_str(&text);
    serde_yaml_ng::with::singleton_map_recursive::deserialize(deserializer).expect("a spec")
}

/// Runs ten seconds of a world that `plant` makes for each moment, in milliseconds.
fn found(expect: &str, plant: impl Fn(u64) -> Planted) -> Finding {
    let spec = spec(expect);
    let mut watch = Watch::new(&spec);
    let mut now = Timestamp::ZERO;
    let end = Timestamp::from_millis(10_000);
    while let Some(at) = watch.next(now).filter(|at| *at <= end) {
        watch.look(at, &plant(at.as_nanos() / 1_000_000));
        assert_ne!(watch.next(at), Some(at), "it was just looked at");
        now = at;
    }
    watch.look_for_leaks(end, 2, &plant(10_000));
    watch.finding(&spec.expect[0])
}

fn metric(value: u64) -> Planted {
    Planted { metrics: format!("a{{x=\"1\"}} {value}\n"), ..Planted::default() }
}

fn first_millis(finding: &Finding) -> Option<u64> {
    finding.first.as_ref().map(|first| first.at.as_nanos() / 1_000_000)
}

#[test]
fn a_value_that_comes_late_is_eventual_only_in_a_window_that_has_it() {
    let comes = |millis| metric(if millis >= 6_000 { 3 } else { 2 });
    let eventually = |window: &str| {
        let expect =
            format!("{{eventually: {{metric: 'a{{x=\"1\"}}', equals: 3, window: {window}}}}}");
        found(&expect, comes).holds
    };
    assert!(eventually("{from: 5s}"));
    assert!(!eventually("{to: 5s}"));
    assert!(!found("{eventually: {metric: b, at_least: 0}}", comes).holds, "it is not there");
}

#[test]
fn a_value_that_must_never_be_is_told_with_its_moment() {
    let never = |most| {
        let comes = |millis| metric(if millis >= 6_000 { most } else { 2 });
        found("{never: {metric: a, at_least: 3, window: {from: 1s}}}", comes)
    };
    assert!(never(2).holds);
    assert_eq!(first_millis(&never(3)), Some(6_000));
    assert!(!found("{never: {metric: a, window: {from: 20s}}}", |_| metric(0)).holds);
}

/// What is found where a proxy knows something a second after the fault, which is from 4 s to 5 s.
fn converged(known: &'static [(u8, bool)], hinted: bool) -> Finding {
    let plant = |millis| {
        let known = if millis < 6_500 { &[(1, true)] } else { known };
        Planted { endpoints: &[1, 2, 3], known, hinted, ..Planted::default() }
    };
    found("{converged: {within: 2s}}", plant)
}

#[test]
fn a_balancer_with_other_addresses_or_one_down_after_a_fault_has_not_converged() {
    assert!(converged(&[(1, true), (2, true), (3, true)], false).holds);
    // As many as the cluster has, but not the same.
    assert_eq!(first_millis(&converged(&[(1, true), (2, true), (9, true)], false)), Some(7_000));
    assert_eq!(first_millis(&converged(&[(1, true), (2, true)], false)), Some(7_000));
    assert_eq!(first_millis(&converged(&[(1, true), (2, true), (3, false)], false)), Some(7_000));
    assert!(
        !found("{converged: {within: 9s}}", |_| Planted::default()).holds,
        "no moment is meant"
    );
}

#[test]
fn a_proxy_may_have_the_endpoints_of_its_zone_alone_but_one_and_no_other() {
    assert!(converged(&[(2, true)], true).holds);
    assert!(!converged(&[], true).holds);
    assert!(!converged(&[(9, true)], true).holds);
}

#[test]
fn a_change_that_is_on_its_way_is_no_difference() {
    let plant = |millis| {
        let known = if millis < 7_100 { &[(1, true)][..] } else { &[(1, true), (2, true)] };
        Planted { endpoints: &[1, 2], known, ..Planted::default() }
    };
    assert!(found("{converged: {within: 2s}}", plant).holds);
}

#[test]
fn those_who_may_answer_are_all_that_might_at_any_moment() {
    let spec = spec("{identity: {workload: w}}");
    let mut watch = Watch::new(&spec);
    for (millis, servers) in [(0, &["web-0", "web-1"][..]), (500, &["web-1", "web-2"])] {
        let at = Timestamp::from_millis(millis);
        watch.look(at, &Planted { servers, ..Planted::default() });
    }
    let servers: Vec<_> = watch.servers("w").expect("looked at").iter().map(|s| &**s).collect();
    assert_eq!(servers, ["web-0", "web-1", "web-2"]);
    assert_eq!(watch.servers("other"), None);
}

fn held(tasks: u64, heap_bytes: u64) -> Planted {
    let held = Held { tasks, sockets: 2, timers: 2, heap_bytes: Some(heap_bytes) };
    Planted { held, ..Planted::default() }
}

#[test]
fn a_process_beyond_its_bound_is_told_with_its_moment() {
    let bounded = |expect: &str| {
        let peak = |millis| held(if (3_000..4_000).contains(&millis) { 50 } else { 10 }, 1 << 20);
        found(&format!("{{bounded: {expect}}}"), peak)
    };
    assert!(bounded("{tasks_at_most: 50, heap_at_most: 1MiB, growth_at_most: 0.1}").holds);
    assert_eq!(first_millis(&bounded("{tasks_at_most: 49}")), Some(3_000));
    assert_eq!(first_millis(&bounded("{heap_at_most: 1023KiB}")), Some(0));
}

#[test]
fn what_does_not_go_back_to_what_it_was_has_grown() {
    let grows = |millis| held(10, if millis > 5_000 { 1_200 } else { 1_000 });
    assert!(found("{bounded: {growth_at_most: 0.2}}", grows).holds);
    assert_eq!(first_millis(&found("{bounded: {growth_at_most: 0.1}}", grows)), Some(10_000));
}

#[test]
fn tasks_that_are_left_over_are_a_leak() {
    let leaks = |more: u64| move |millis| held(if millis > 5_000 { 10 + more } else { 10 }, 0);
    assert!(found("{no_leak: {tolerance: 2}}", leaks(2)).holds);
    assert_eq!(first_millis(&found("{no_leak: {tolerance: 2}}", leaks(3))), Some(10_000));
}

#[test]
fn an_engine_that_counts_nothing_shows_no_leak_and_no_bound() {
    assert!(found("{no_leak: {}}", |_| Planted::default()).holds);
    assert!(!found("{bounded: {tasks_at_most: 9}}", |_| Planted::default()).holds);
}
