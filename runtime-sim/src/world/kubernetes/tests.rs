//! Facts about the controllers.

use std::net::IpAddr;

use k8s_openapi::api::discovery::v1::Endpoint;
use proptest::prelude::*;

use super::*;
use crate::topology::DnsAnswer;

const CLUSTER: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec:
  selector: {app: web}
  ports: [{name: http, port: 80, targetPort: http}]
";

fn deployment(spec: &str, environment: &str) -> Deployment {
    let text = format!(
        "{{metadata: {{name: web, namespace: shop}}, spec: {{{spec}, selector: {{}}, template: {{
            metadata: {{labels: {{app: web}}}}, spec: {{containers: [{{name: web,
            image: simulated/http, env: [{environment}],
            ports: [{{name: http, containerPort: 8080}}]}}]}}}}}}}}"
    );
    serde_yaml_ng::from_str(&text).expect("a deployment")
}

fn seconds(seconds: f64) -> Timestamp {
    Timestamp::ZERO + Duration::from_secs_f64(seconds)
}

fn cluster(settings: Settings, spec: &str) -> Kubernetes {
    let mut kubernetes = Kubernetes::new(ApiServer::default(), settings);
    let read = mesh_core::resource::yaml::read("test", CLUSTER).expect("manifests");
    kubernetes.apply_objects(read.objects);
    kubernetes.apply(deployment(spec, "")).expect("a deployment");
    kubernetes
}

/// Goes on to a moment, as a world does; tells the events with their times in milliseconds.
fn run(kubernetes: &mut Kubernetes, until: Timestamp) -> Vec<String> {
    let mut log = Vec::new();
    let now = kubernetes.now;
    let mut take = |kubernetes: &mut Kubernetes, at: Timestamp| {
        for event in kubernetes.advance(at) {
            let (what, pod) = match event {
                PodEvent::Start(plan) => ("start", plan.name.clone()),
                PodEvent::Restart(pod) => ("restart", pod),
                PodEvent::Crash(pod) => ("crash", pod),
                PodEvent::RestartApp(pod) => ("restart app", pod),
                PodEvent::Terminate(pod) => ("terminate", pod),
                PodEvent::Kill(pod) => ("kill", pod),
                PodEvent::PowerOff(pod) => ("off", pod),
                PodEvent::PowerOn(pod) => ("on", pod),
                PodEvent::Service(_) => continue,
            };
            log.push(format!("{} {what} {pod}", at.as_nanos() / 1_000_000));
        }
        check(kubernetes);
    };
    take(kubernetes, now);
    while let Some(at) = kubernetes.next().filter(|at| *at <= until) {
        take(kubernetes, at);
    }
    take(kubernetes, until);
    log
}

fn endpoints(kubernetes: &Kubernetes) -> Vec<Endpoint> {
    let slices = kubernetes.api.list(Kind::EndpointSlice).into_iter();
    let of = slices.flat_map(|object| match object {
        Object::EndpointSlice(slice) => slice.endpoints.clone(),
        _ => Vec::new(),
    });
    of.collect()
}

fn with(kubernetes: &Kubernetes, wanted: impl Fn(bool, bool, bool) -> bool) -> String {
    let endpoints = endpoints(kubernetes);
    let chosen = endpoints.iter().filter(|endpoint| {
        let conditions = endpoint.conditions.clone().unwrap_or_default();
        let is = |condition: Option<bool>| condition == Some(true);
        wanted(is(conditions.ready), is(conditions.serving), is(conditions.terminating))
    });
    let mut names: Vec<_> =
        chosen.map(|e| e.target_ref.clone().and_then(|t| t.name).unwrap_or_default()).collect();
    names.sort();
    names.join(" ")
}

fn ready(kubernetes: &Kubernetes) -> String {
    with(kubernetes, |ready, _, _| ready)
}

/// What holds at every moment where slices do not lag.
fn check(kubernetes: &Kubernetes) {
    let addresses: BTreeSet<IpAddr> = kubernetes.pods.values().map(|pod| pod.plan.ip).collect();
    assert_eq!(addresses.len(), kubernetes.pods.len(), "two pods have one address");
    if kubernetes.settings.slice_lag.is_zero() {
        let of = |pod: &&Pod| pod.condition.ready && pod.condition.deleted.is_none();
        let mut pods: Vec<_> =
            kubernetes.pods.values().filter(of).map(|pod| pod.plan.name.to_string()).collect();
        pods.sort();
        assert_eq!(ready(kubernetes), pods.join(" "), "slices equal the ready set");
    }
}

#[test]
fn a_world_begins_with_ready_pods() {
    let mut kubernetes = cluster(Settings::default(), "replicas: 2");
    let log = run(&mut kubernetes, Timestamp::ZERO);
    assert_eq!(log, ["0 start web-0", "0 start web-1"]);
    assert_eq!(ready(&kubernetes), "web-0 web-1");
}

#[test]
fn a_deleted_pod_ends_with_grace_and_is_replaced_at_once() {
    let mut kubernetes = cluster(Settings::default(), "replicas: 2");
    run(&mut kubernetes, seconds(5.0));
    assert!(kubernetes.delete_pod("web-1", None));
    assert!(!kubernetes.delete_pod("web-1", None), "it is deleted already");
    let log = run(&mut kubernetes, seconds(5.5));
    assert_eq!(log, ["5000 terminate web-1", "5000 start web-2"]);
    assert_eq!(ready(&kubernetes), "web-0");
    assert_eq!(with(&kubernetes, |_, serving, ending| serving && ending), "web-1");
    let log = run(&mut kubernetes, seconds(60.0));
    assert_eq!(log, ["35000 kill web-1"]);
    assert_eq!(ready(&kubernetes), "web-0 web-2");
}

#[test]
fn a_deleted_pod_is_gone_when_its_programs_have_ended() {
    let mut kubernetes = cluster(Settings::default(), "replicas: 2");
    run(&mut kubernetes, seconds(5.0));
    kubernetes.ended(&"web-0".into());
    assert!(kubernetes.delete_pod("web-1", None));
    run(&mut kubernetes, seconds(8.0));
    kubernetes.ended(&"web-1".into());
    assert_eq!(run(&mut kubernetes, seconds(9.0)), ["8000 kill web-1"]);
    assert_eq!(with(&kubernetes, |_, _, ending| ending), "");
    assert!(run(&mut kubernetes, seconds(60.0)).is_empty(), "its grace is nobody's");
    assert_eq!(ready(&kubernetes), "web-0 web-2");
}

#[test]
fn a_rollout_replaces_every_pod_with_all_of_them_available() {
    let mut kubernetes = cluster(Settings::default(), "replicas: 2");
    run(&mut kubernetes, seconds(5.0));
    kubernetes.rollout("web").expect("a deployment");
    let log = run(&mut kubernetes, seconds(120.0));
    let expected = "5000 start web-2|6000 terminate web-0|6000 start web-3|7000 terminate web-1|\
                    36000 kill web-0|37000 kill web-1";
    assert_eq!(log.join("|"), expected);
    assert_eq!(ready(&kubernetes), "web-2 web-3");
}

#[test]
fn a_rollout_waits_for_pods_whose_probes_fail() {
    let settings = Settings { probed: true, ..Settings::default() };
    let mut kubernetes = cluster(settings, "replicas: 1");
    run(&mut kubernetes, seconds(5.0));
    assert_eq!(ready(&kubernetes), "web-0", "what a world begins with is ready");
    kubernetes.rollout("web").expect("a deployment");
    assert_eq!(run(&mut kubernetes, seconds(20.0)), ["5000 start web-1"]);
    assert_eq!(ready(&kubernetes), "web-0");
    kubernetes.probed("web-1", true);
    assert_eq!(run(&mut kubernetes, seconds(21.0)), ["20000 terminate web-0"]);
    assert_eq!(ready(&kubernetes), "web-1");
    kubernetes.probed("web-1", false);
    run(&mut kubernetes, seconds(22.0));
    assert_eq!(ready(&kubernetes), "");
    kubernetes.probed("web-1", true);
    run(&mut kubernetes, seconds(23.0));
    assert_eq!(ready(&kubernetes), "web-1");
}

#[test]
fn a_deployment_scales_up_and_back() {
    let mut kubernetes = cluster(Settings::default(), "replicas: 1");
    run(&mut kubernetes, seconds(1.0));
    kubernetes.scale("web", Some(3)).expect("a deployment");
    run(&mut kubernetes, seconds(3.0));
    assert_eq!(ready(&kubernetes), "web-0 web-1 web-2");
    kubernetes.scale("web", None).expect("a deployment");
    run(&mut kubernetes, seconds(4.0));
    assert_eq!(ready(&kubernetes), "web-0");
}

#[test]
fn a_pod_whose_program_ends_starts_again_ever_later() {
    let mut kubernetes = Kubernetes::new(ApiServer::default(), Settings::default());
    let crashing = deployment("replicas: 1", "{name: CRASH_AFTER, value: 5s}");
    kubernetes.apply(crashing).expect("a deployment");
    let log = run_unchecked(&mut kubernetes, seconds(60.0));
    let expected = "0 start web-0|5000 crash web-0|5000 restart app web-0|10000 crash web-0|\
                    20000 restart app web-0|25000 crash web-0|45000 restart app web-0|\
                    50000 crash web-0";
    assert_eq!(log.join("|"), expected);
}

/// As [`run`], without a service.
fn run_unchecked(kubernetes: &mut Kubernetes, until: Timestamp) -> Vec<String> {
    kubernetes.settings.slice_lag = Duration::from_nanos(1);
    run(kubernetes, until)
}

fn two_nodes() -> Settings {
    let node = |name: &str, zone: &str| (name.to_owned(), Some(zone.to_owned()));
    Settings { nodes: vec![node("1", "a"), node("2", "b")], ..Settings::default() }
}

#[test]
fn a_lost_nodes_pods_are_silent_then_not_ready_then_evicted() {
    let mut kubernetes = cluster(two_nodes(), "replicas: 2");
    run(&mut kubernetes, seconds(10.0));
    assert!(kubernetes.lose_node("2"));
    assert_eq!(run(&mut kubernetes, seconds(49.0)), ["10000 off web-1"]);
    assert_eq!(ready(&kubernetes), "web-0 web-1", "nobody has noticed");
    assert_eq!(run(&mut kubernetes, seconds(51.0)), [""; 0]);
    assert_eq!(ready(&kubernetes), "web-0");
    assert_eq!(run(&mut kubernetes, seconds(352.0)), ["350000 start web-2"]);
    assert_eq!(ready(&kubernetes), "web-0 web-2");
    assert_eq!(&*kubernetes.pods["web-2"].plan.node, "1");
    kubernetes.restore_node("2");
    let log = run(&mut kubernetes, seconds(400.0));
    assert_eq!(log, ["352000 on web-1", "352000 kill web-1"]);
}

#[test]
fn a_node_that_comes_back_soon_starts_its_pods_again() {
    let mut kubernetes = cluster(two_nodes(), "replicas: 2");
    run(&mut kubernetes, seconds(10.0));
    for node in kubernetes.nodes_of("b") {
        kubernetes.lose_node(&node);
    }
    run(&mut kubernetes, seconds(60.0));
    kubernetes.restore_node("2");
    let log = run(&mut kubernetes, seconds(70.0));
    assert_eq!(log, ["60000 on web-1", "60000 restart web-1"]);
    assert_eq!(ready(&kubernetes), "web-0 web-1");
}

#[test]
fn slices_hold_a_hundred_and_the_others_stay_as_they_are() {
    let mut kubernetes = cluster(Settings::default(), "replicas: 250");
    run(&mut kubernetes, seconds(5.0));
    let slices = |kubernetes: &Kubernetes| -> Vec<_> {
        let slices = kubernetes.api.list(Kind::EndpointSlice).into_iter();
        slices
            .filter_map(|object| match object {
                Object::EndpointSlice(slice) => {
                    Some((slice.endpoints.len(), slice.metadata.resource_version.clone()))
                }
                _ => None,
            })
            .collect()
    };
    let before = slices(&kubernetes);
    assert_eq!(before.iter().map(|slice| slice.0).collect::<Vec<_>>(), [100, 100, 50]);
    kubernetes.scale("web", Some(240)).expect("a deployment");
    run(&mut kubernetes, seconds(50.0));
    let after = slices(&kubernetes);
    let changed = before.iter().zip(&after).filter(|(before, after)| before != after).count();
    assert_eq!(changed, 1, "the ten youngest were in one slice");
}

#[test]
fn slices_lag_and_rules_lag_behind_them() {
    let lag = Duration::from_secs(2);
    let settings = Settings { slice_lag: lag, rules_lag: lag, ..Settings::default() };
    let mut kubernetes = cluster(settings, "replicas: 1");
    assert_eq!(run(&mut kubernetes, seconds(1.9)), ["0 start web-0"]);
    assert_eq!(ready(&kubernetes), "");
    let mut events = Vec::new();
    for at in [2.0, 3.9, 4.0] {
        events.push(kubernetes.advance(seconds(at)).len());
    }
    assert_eq!(ready(&kubernetes), "web-0");
    assert_eq!(events, [0, 0, 2], "a name and an address");
}

#[test]
fn a_freed_address_goes_to_the_next_pod_where_that_is_asked_for() {
    let settings = Settings { reuse_addresses: true, ..Settings::default() };
    let mut kubernetes = cluster(settings, "replicas: 1");
    run(&mut kubernetes, seconds(1.0));
    let first = kubernetes.pods["web-0"].plan.ip;
    kubernetes.delete_pod("web-0", None);
    run(&mut kubernetes, seconds(40.0));
    kubernetes.scale("web", Some(2)).expect("a deployment");
    run(&mut kubernetes, seconds(41.0));
    assert_eq!(kubernetes.pods["web-2"].plan.ip, first);
}

#[test]
fn a_stateful_set_gives_its_names_again_and_they_resolve() {
    let mut kubernetes = Kubernetes::new(ApiServer::default(), Settings::default());
    let headless = CLUSTER.replace("selector:", "clusterIP: None\n  selector:");
    let read = mesh_core::resource::yaml::read("test", &headless).expect("manifests");
    kubernetes.apply_objects(read.objects);
    kubernetes.apply_stateful(deployment("replicas: 2", "")).expect("a set");
    let log = run(&mut kubernetes, seconds(1.0));
    assert_eq!(log, ["0 start web-0", "0 start web-1"]);
    kubernetes.delete_pod("web-0", None);
    let mut names = Vec::new();
    while let Some(at) = kubernetes.next().filter(|at| *at <= seconds(40.0)) {
        names.extend(kubernetes.advance(at).into_iter().filter_map(|event| match event {
            PodEvent::Start(plan) => Some(format!("start {}", plan.name)),
            PodEvent::Service(ServiceFact::Name(name, _)) if name.starts_with("web-0.") => {
                Some(name)
            }
            _ => None,
        }));
    }
    // Withdrawn, and given again.
    let name = "web-0.web.shop.svc.cluster.local";
    assert_eq!(names, [name, "start web-0", name]);
}

proptest! {
    #[test]
    fn whatever_is_asked_the_cluster_comes_to_rest_as_wanted(
        asked in proptest::collection::vec((0..5_u8, 0..6_u32, 0..90_u64), 0..12),
        reuse: bool,
    ) {
        let settings = Settings { reuse_addresses: reuse, ..two_nodes() };
        let mut kubernetes = cluster(settings, "replicas: 3, minReadySeconds: 2");
        let mut at = Timestamp::ZERO;
        let mut wanted = 3;
        run(&mut kubernetes, at);
        for (what, number, later) in asked {
            match what {
                0 => kubernetes.rollout("web").expect("a deployment"),
                1 => {
                    wanted = number;
                    kubernetes.scale("web", Some(number)).expect("a deployment");
                }
                2 => {
                    kubernetes.delete_pod(&format!("web-{number}"), None);
                }
                3 => {
                    kubernetes.lose_node("2");
                }
                _ => kubernetes.restore_node("2"),
            }
            at = at + Duration::from_secs(later);
            run(&mut kubernetes, at);
        }
        kubernetes.restore_node("2");
        run(&mut kubernetes, at + Duration::from_secs(600));
        let revisions: BTreeSet<_> =
            kubernetes.pods.values().map(|pod| pod.plan.revision.clone()).collect();
        prop_assert!(revisions.len() <= 1, "one revision is left");
        prop_assert_eq!(kubernetes.pods.len(), wanted as usize);
        prop_assert!(kubernetes.pods.values().all(|pod| pod.condition.ready));
    }
}

#[test]
fn the_address_and_name_of_a_service_that_is_deleted_lead_nowhere() {
    let mut kubernetes = cluster(Settings::default(), "replicas: 1");
    run(&mut kubernetes, seconds(1.0));
    let namespace = "shop".to_owned();
    let name = ObjectRef { kind: Kind::Service, namespace, name: "web".to_owned() };
    assert!(kubernetes.delete_object(&name));
    let facts = kubernetes.advance(seconds(2.0)).into_iter().filter_map(|event| match event {
        PodEvent::Service(fact) => Some(fact),
        _ => None,
    });
    let address = "10.96.0.1:80".parse().expect("an address");
    let gone = DnsAnswer::NotFound;
    let expected = [
        ServiceFact::Name("web.shop.svc.cluster.local".to_owned(), gone),
        ServiceFact::VirtualAddress(address, Vec::new()),
    ];
    assert_eq!(facts.collect::<Vec<_>>(), expected);
}
