//! How values are read: what wins, and what is said of what cannot be used.

use serde_json::json;

use super::layers::{self, Layer};
use super::*;

fn layer(source: &str, values: Value) -> Layer {
    Layer { source: source.into(), values }
}

fn faults(yaml: &str) -> String {
    Values::read(yaml).unwrap_err().to_string()
}

#[test]
fn nothing_said_is_the_defaults() {
    assert_eq!(Values::read("").unwrap(), Values::default());
    assert_eq!(Values::read("# nothing\n").unwrap(), Values::default());
}

#[test]
fn what_is_written_is_read_again() {
    let mut values = Values { controller_replicas: 5, ..Values::default() };
    values.proxy.runtime.workers.maximum_cpu_ratio = Some(0.5);
    let yaml = serde_yaml_ng::to_string(&values).unwrap();
    assert_eq!(Values::read(&yaml).unwrap(), values);
}

#[test]
fn later_layers_win_and_maps_are_merged() {
    let layers = [
        layer("a", json!({"proxy": {"uid": 1, "gid": 2}, "tolerations": [{"key": "a"}]})),
        layer(
            "b",
            json!({"proxy": {"uid": 3}, "tolerations": [], "nodeSelector": {"disk": "ssd"}}),
        ),
    ];
    let values = layers::merge(&layers).unwrap().values;
    assert_eq!((values.proxy.uid, values.proxy.gid), (3, 2));
    assert!(values.tolerations.is_empty());
    assert_eq!(values.node_selector.len(), 2);
    let taken_back = layer("c", json!({"proxy": {"uid": null}}));
    let layers = [layers.as_slice(), &[taken_back]].concat();
    assert_eq!(layers::merge(&layers).unwrap().values.proxy.uid, 2102);
}

#[test]
fn a_name_that_means_nothing_is_told_with_what_was_meant() {
    insta::assert_snapshot!(
        faults("{controllerReplica: 3, proxy: {uuid: 1}, logLevel: debug, entirely: {else: 1}}"),
        @"
    values: controllerReplica: there is no such value; did you mean controllerReplicas?
    values: entirely: there is no such value; see docs/install.md for what there is
    values: logLevel: there is no such value; did you mean proxy.logLevel?
    values: proxy.uuid: there is no such value; did you mean proxy.uid?
    "
    );
}

#[test]
fn a_value_of_the_wrong_kind_is_told_with_its_path() {
    insta::assert_snapshot!(
        faults("{controllerReplicas: many, cniEnabled: 1, proxy: [], tolerations: {}}"),
        @"
    values: cniEnabled: `1` cannot be used; it takes true or false
    values: controllerReplicas: `many` cannot be used; it takes a number
    values: proxy: `[]` cannot be used; it takes a map
    values: tolerations: `{}` cannot be used; it takes a list
    "
    );
    insta::assert_snapshot!(
        faults("proxy: {ports: {admin: 70000}}"),
        @"proxy.ports.admin: invalid value: integer `70000`, expected u16"
    );
}

#[test]
fn a_value_out_of_range_is_told_with_what_it_takes() {
    let yaml = "{proxy: {resources: {cpu: {request: lots}}, opaquePorts: 90-80, \
                defaultInboundPolicy: none, ports: {inbound: 0}}, clusterNetworks: all, \
                webhookFailurePolicy: Maybe, identity: {issuer: {issuanceLifetime: long}}}";
    insta::assert_snapshot!(faults(yaml), @"
    webhookFailurePolicy: `Maybe` cannot be used; it takes one of: Ignore, Fail
    proxy.defaultInboundPolicy: `none` cannot be used; it takes one of: all-unauthenticated, all-authenticated, cluster-unauthenticated, cluster-authenticated, all-tls-unauthenticated, cluster-tls-unauthenticated, audit, deny
    proxy.opaquePorts: `90-80` cannot be used; it takes ports and ranges separated by commas: 25,80-90
    clusterNetworks: `all` cannot be used; it takes networks separated by commas: 10.0.0.0/8
    identity.issuer.issuanceLifetime: `long` cannot be used; it takes a duration such as 100ms, 10s or 5m
    proxy.resources.cpu.request: `lots` cannot be used; it takes a quantity such as 100m, 20Mi or 1Gi
    proxy.ports.inbound: `0` cannot be used; it takes a port from 1 to 65535
    ");
}

#[test]
fn what_linkerds_chart_has_beyond_is_passed_over_and_remarked_on() {
    let values = json!({
        "disableHeartBeat": true,
        "proxyInit": {"xtMountPath": {"name": "lock"}, "kubeAPIServerPorts": "443"},
        "policyController": {"image": {"name": "x"}, "probeNetworks": ["10.0.0.0/8"]},
    });
    let merged = layers::merge(&[layer("chart.yaml", values)]).unwrap();
    assert_eq!(merged.values.policy_controller.probe_networks, ["10.0.0.0/8"]);
    insta::assert_snapshot!(merged.remarks.join("\n"), @"
    chart.yaml: disableHeartBeat has no effect in Weft
    chart.yaml: policyController.image has no effect in Weft
    chart.yaml: proxyInit.xtMountPath has no effect in Weft
    ");
}

#[test]
fn assignments_are_read_as_helm_does() {
    let read = |text: &str| {
        let layers = set::parse(text).unwrap();
        layers.into_iter().map(|layer| layer.values).collect::<Vec<_>>()
    };
    assert_eq!(
        read("a.b=1,c=true,d=x=y,e={1,two},f\\.g=h\\,i,j[1].k=l,m=007,n="),
        [
            json!({"a": {"b": 1}}),
            json!({"c": true}),
            json!({"d": "x=y"}),
            json!({"e": [1, "two"]}),
            json!({"f.g": "h,i"}),
            json!({"j": [null, {"k": "l"}]}),
            json!({"m": "007"}),
            json!({"n": ""}),
        ]
    );
    for wrong in ["a", "=1", "a..b=1", "a[x]=1", "a[100]=1"] {
        assert!(set::parse(wrong).is_err(), "{wrong}");
    }
    let layers = set::parse("nodeSelector.kubernetes\\.io/arch=arm64").unwrap();
    let values = layers::merge(&layers).unwrap().values;
    assert_eq!(values.node_selector["kubernetes.io/arch"], "arm64");
}

#[test]
fn what_the_cluster_keeps_has_no_keys() {
    let mut values = Values::default();
    values.identity.issuer.tls.key_pem = "secret".into();
    values.policy_validator.key_pem = "secret".into();
    let kept = serde_yaml_ng::to_string(&values.without_keys()).unwrap();
    assert!(!kept.contains("secret"));
}

#[test]
fn the_values_of_high_availability_are_values() {
    let merged = layers::merge(&[layer("--ha", Values::ha())]).unwrap();
    assert_eq!(merged.values.controller_replicas, 3);
    assert!(merged.remarks.is_empty());
}
