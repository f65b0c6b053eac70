//! What injection and its undoing do, and the laws they keep.

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde_json::{Value, json};

use super::documents::{self, Options};
use super::inject::{self, Skip, Surroundings};
use super::{Outcome, Settings, Values, patch, report, uninject};

fn deployment(pod: Value) -> Value {
    json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
        "spec": {"replicas": 2, "template": pod}})
}

fn template() -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{
            "name": "web", "image": "web:1",
            "ports": [{"containerPort": 8080}, {"containerPort": 53, "protocol": "UDP"}],
        }]},
    })
}

fn yaml(value: &Value) -> String {
    serde_yaml_ng::to_string(value).unwrap()
}

fn manual() -> Options {
    let values = Values { linkerd_version: "1.2.3".into(), ..Values::default() };
    Options { manual: Some(values), ..Options::default() }
}

#[test]
fn a_deployment_is_annotated_for_the_clusters_injector() {
    let options = Options {
        annotations: BTreeMap::from([("config.linkerd.io/skip-inbound-ports".into(), "25".into())]),
        ..Options::default()
    };
    let text = yaml(&deployment(template()));
    let injected = documents::inject("web.yaml", &text, &options).unwrap();
    insta::assert_snapshot!(injected.text, @r#"
    apiVersion: apps/v1
    kind: Deployment
    metadata:
      name: web
    spec:
      replicas: 2
      template:
        metadata:
          annotations:
            config.linkerd.io/skip-inbound-ports: '25'
            linkerd.io/inject: enabled
          labels:
            app: web
        spec:
          containers:
          - image: web:1
            name: web
            ports:
            - containerPort: 8080
            - containerPort: 53
              protocol: UDP
    "#);
}

#[test]
fn a_pod_gets_a_native_sidecar_and_what_redirects_to_it() {
    let mut pod = template();
    let surroundings = Surroundings {
        namespace: "shop".into(),
        owner: Some(("deployment".into(), "web".into())),
        ..Surroundings::default()
    };
    inject::pod(&mut pod, manual().manual.as_ref().unwrap(), &surroundings).unwrap();
    insta::assert_snapshot!(yaml(&pod));
}

#[test]
fn what_cannot_be_injected_is_left_as_it_was_and_reported() {
    let mut host = deployment(template());
    host["metadata"]["name"] = "host".into();
    host["spec"]["template"]["spec"]["hostNetwork"] = true.into();
    let mut refused = deployment(template());
    refused["spec"]["template"]["metadata"]["annotations"] =
        json!({"linkerd.io/inject": "disabled", "config.linkerd.io/proxy-log-levle": "debug"});
    let text = format!(
        "# Kept.\nkind: ConfigMap\nmetadata: {{name: c}} # as it was\n---\n{}---\n{}---\n{}---\n{}",
        yaml(&host),
        yaml(&refused),
        yaml(&deployment(template())),
        "apiVersion: v1\nkind: Namespace\nmetadata:\n  name: shop\n",
    );
    let injected = documents::inject("all.yaml", &text, &Options::default()).unwrap();
    assert!(
        injected.text.starts_with("# Kept.\nkind: ConfigMap\nmetadata: {name: c} # as it was\n")
    );
    insta::assert_snapshot!(report::of_injection(&injected.objects, true), @r#"
    ‼ "hostNetwork: true" detected in deployment/host
    √ pods do not have a 3rd party proxy or initContainer already injected
    ‼ "linkerd.io/inject: disabled" annotation set on deployment/web
    √ at least one resource can be injected or annotated
    ‼ UDP ports, whose traffic is not proxied, detected in deployment/host, deployment/web, deployment/web
    ‼ deployment/web: annotation config.linkerd.io/proxy-log-levle means nothing; did you mean config.linkerd.io/proxy-log-level?

    configmap "c" skipped
    deployment "host" skipped
    deployment "web" skipped
    deployment "web" injected
    namespace "shop" annotated
    "#);
    let undone = documents::uninject("all.yaml", &injected.text).unwrap();
    assert_eq!(undone.text, text);
}

#[test]
fn annotations_that_cannot_be_used_are_all_told() {
    let annotations = [
        ("config.linkerd.io/inbound-port", "0"),
        ("config.linkerd.io/proxy-cpu-request", "lots"),
        ("config.linkerd.io/skip-inbound-ports", "90-80"),
        ("config.linkerd.io/skip-subnets", "10.0.0.0/33"),
        ("config.linkerd.io/default-inbound-policy", "none"),
        ("config.linkerd.io/proxy-outbound-connect-timeout", "soon"),
        ("config.linkerd.io/proxy-additional-env", "A=b"),
        ("config.alpha.linkerd.io/proxy-enable-native-sidecar", "maybe"),
        ("config.linkerd.io/proxy-cpu-ratio-limit", "2"),
        ("config.linkerd.io/proxy-await", "enabled"),
    ];
    let annotations = annotations.map(|(name, value)| (name.into(), value.into())).into();
    let faults = Settings::new(&Values::default(), &BTreeMap::new(), &annotations).unwrap_err();
    let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
    insta::assert_snapshot!(faults.join("\n"), @r#"
    annotation config.linkerd.io/inbound-port: `0` cannot be used; it takes a port from 1 to 65535
    annotation config.linkerd.io/skip-inbound-ports: `90-80` cannot be used; it takes ports and ranges separated by commas: 25,80-90
    annotation config.linkerd.io/skip-subnets: `10.0.0.0/33` cannot be used; it takes networks separated by commas: 10.0.0.0/8
    annotation config.linkerd.io/proxy-cpu-request: `lots` cannot be used; it takes a quantity such as 100m, 20Mi or 1Gi
    annotation config.linkerd.io/proxy-cpu-ratio-limit: `2` cannot be used; it takes a share from 0 to 1
    annotation config.linkerd.io/default-inbound-policy: `none` cannot be used; it takes one of: all-unauthenticated, all-authenticated, cluster-unauthenticated, cluster-authenticated, all-tls-unauthenticated, cluster-tls-unauthenticated, audit, deny
    annotation config.alpha.linkerd.io/proxy-enable-native-sidecar: `maybe` cannot be used; it takes true or false
    annotation config.linkerd.io/proxy-additional-env: `A=b` cannot be used; it takes a list of variables in JSON: [{"name": "A", "value": "b"}]
    annotation config.linkerd.io/proxy-outbound-connect-timeout: `soon` cannot be used; it takes a duration such as 100ms, 10s or 5m
    "#);
}

#[test]
fn a_pods_annotation_wins_over_its_namespaces() {
    let of =
        |value: &str| BTreeMap::from([("config.linkerd.io/proxy-log-level".into(), value.into())]);
    let level = |namespace, pod| {
        Settings::new(&Values::default(), &namespace, &pod).unwrap().values.proxy.log_level
    };
    assert_eq!(level(of("debug"), BTreeMap::new()), "debug");
    assert_eq!(level(of("debug"), of("error")), "error");
}

#[test]
fn who_is_asked_for_and_who_is_not() {
    let asked = |pod: &Value, namespace: Option<&str>| {
        let mut surroundings = Surroundings::default();
        if let Some(mode) = namespace {
            let annotations = &mut surroundings.namespace_annotations;
            annotations.insert("linkerd.io/inject".into(), mode.into());
        }
        inject::is_asked(pod, &surroundings)
    };
    let with = |mode: &str| {
        let mut pod = template();
        inject::annotate(&mut pod, "linkerd.io/inject", mode);
        pod
    };
    assert_eq!(asked(&template(), None), Err(Skip::NotAsked));
    assert_eq!(asked(&template(), Some("enabled")), Ok(()));
    assert_eq!(asked(&with("disabled"), Some("enabled")), Err(Skip::Disabled));
    assert_eq!(asked(&with("ingress"), None), Ok(()));
    let mut injected = with("enabled");
    inject::pod(&mut injected, &Values::default(), &Surroundings::default()).unwrap();
    assert_eq!(asked(&injected, None), Err(Skip::HasSidecar));
}

#[test]
fn a_text_that_is_no_yaml_says_where() {
    let error = documents::inject("bad.yaml", "kind: [", &Options::default()).unwrap_err();
    assert!(error.to_string().starts_with("bad.yaml, document 1: "), "{error}");
    let list = "kind: List\nitems:\n- kind: Pod\n  metadata: {name: a}\n  spec: {containers: []}\n";
    let injected = documents::inject("list.yaml", list, &Options::default()).unwrap();
    let outcomes: Vec<_> = injected.objects.iter().map(|o| (&*o.name, o.outcome)).collect();
    assert_eq!(outcomes, [("a", Outcome::Injected)]);
}

/// Any pod: few containers and volumes, some with names that the mesh uses too.
fn pods() -> impl Strategy<Value = Value> {
    let name = prop_oneof![Just("web"), Just("db"), Just("init"), Just("linkerd-like")];
    let container = (name.clone(), 1..9000_u16)
        .prop_map(|(name, port)| json!({"name": name, "ports": [{"containerPort": port}]}));
    let containers = || prop::collection::vec(container.clone(), 1..3);
    let volumes = prop::option::of(prop::collection::vec(
        name.prop_map(|name| json!({"name": name, "emptyDir": {}})),
        1..3,
    ));
    let annotations = prop::option::of(prop::collection::btree_map(
        prop_oneof![Just("example.com/a"), Just("config.linkerd.io/proxy-await")],
        Just("enabled"),
        1..3,
    ));
    (containers(), prop::option::of(containers()), volumes, annotations).prop_map(
        |(containers, init, volumes, annotations)| {
            let mut pod = json!({"spec": {"containers": containers}});
            for (field, value) in [("initContainers", init), ("volumes", volumes)] {
                if let Some(value) = value {
                    pod["spec"][field] = value.into();
                }
            }
            if let Some(annotations) = annotations {
                pod["metadata"] = json!({"annotations": annotations});
            }
            pod
        },
    )
}

fn values() -> impl Strategy<Value = Values> {
    (any::<bool>(), any::<bool>(), any::<bool>()).prop_map(|(native, cni, ipv6)| {
        let mut values = Values { cni_enabled: cni, disable_ipv6: !ipv6, ..Values::default() };
        values.proxy.native_sidecar = native;
        values
    })
}

/// Carries out a JSON Patch, as an API server does.
fn apply(mut to: Value, patch: &[Value]) -> Value {
    for operation in patch {
        let path = operation["path"].as_str().unwrap();
        let (parent, last) = path.rsplit_once('/').unwrap();
        let last = last.replace("~1", "/").replace("~0", "~");
        let value = operation["value"].clone();
        match (to.pointer_mut(parent).unwrap(), operation["op"].as_str().unwrap()) {
            (Value::Object(map), "remove") => drop(map.remove(&last).unwrap()),
            (Value::Object(map), "replace") => drop(map.insert(last, value).unwrap()),
            (Value::Object(map), "add") => assert!(map.insert(last, value).is_none()),
            (Value::Array(list), "remove") => drop(list.remove(last.parse().unwrap())),
            (Value::Array(list), "replace") => list[last.parse::<usize>().unwrap()] = value,
            (Value::Array(list), "add") => list.insert(last.parse().unwrap(), value),
            other => panic!("{other:?}"),
        }
    }
    to
}

proptest! {
    #[test]
    fn undoing_an_injection_gives_back_what_was_injected(pod in pods(), values in values()) {
        let mut injected = pod.clone();
        inject::pod(&mut injected, &values, &Surroundings::default()).unwrap();
        prop_assert_ne!(&injected, &pod);
        prop_assert_eq!(inject::check(&injected), Err(Skip::HasSidecar));
        prop_assert!(uninject::pod(&mut injected));
        prop_assert_eq!(injected, pod);
    }

    #[test]
    fn a_patch_makes_the_first_into_the_second(from in pods(), to in pods(), values in values()) {
        let mut injected = from.clone();
        inject::pod(&mut injected, &values, &Surroundings::default()).unwrap();
        for to in [&to, &injected] {
            prop_assert_eq!(&apply(from.clone(), &patch::difference(&from, to)), to);
        }
    }
}

#[test]
fn sidecars_are_told_of_a_collector_of_spans_where_there_is_one() {
    let mut values = Values { linkerd_version: "1.2.3".into(), ..Values::default() };
    values.proxy.tracing.enabled = true;
    let collector = &mut values.proxy.tracing.collector;
    collector.endpoint = "collector.tracing:4317".into();
    collector.mesh_identity.service_account_name = "collector".into();
    collector.mesh_identity.namespace = "tracing".into();
    let options = Options { manual: Some(values), ..Options::default() };
    let mut pod = template();
    pod["metadata"]["annotations"] = json!({"resource.opentelemetry.io/service.name": "web", "other": "x",
            "resource.opentelemetry.io/note": "two\nlines=1"});
    let injected = documents::inject("web.yaml", &yaml(&deployment(pod)), &options).unwrap();
    let document: Value = serde_yaml_ng::from_str(&injected.text).unwrap();
    let spec = &document["spec"]["template"]["spec"];
    let mut sidecars = spec["initContainers"].as_array().unwrap().iter();
    let sidecar = sidecars.find(|container| container["name"] == "linkerd-proxy").unwrap();
    let env = sidecar["env"].as_array().unwrap().iter();
    let of_traces = env.filter(|one| one["name"].as_str().unwrap().contains("_TRACE_"));
    let lines: Vec<_> = of_traces
        .map(|one| format!("{}={}", one["name"].as_str().unwrap(), one["value"]))
        .collect();
    insta::assert_snapshot!(lines.join("\n"), @r#"
    LINKERD2_PROXY_TRACE_COLLECTOR_SVC_ADDR="collector.tracing:4317"
    LINKERD2_PROXY_TRACE_COLLECTOR_SVC_NAME="collector.tracing.serviceaccount.identity.linkerd.cluster.local"
    LINKERD2_PROXY_TRACE_SERVICE_NAME="linkerd-proxy"
    LINKERD2_PROXY_TRACE_EXTRA_ATTRIBUTES="k8s.namespace.name=$(_pod_ns)\nk8s.pod.name=$(_pod_name)\nk8s.pod.uid=$(_pod_uid)\nk8s.node.name=$(_pod_nodeName)\nk8s.container.name=linkerd-proxy\nnote=two lines=1\nservice.name=web\n"
    "#);
}
