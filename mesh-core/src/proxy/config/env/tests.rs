//! Facts of the configuration and its faults.

use std::cell::RefCell;
use std::time::Duration;

use super::{Config, ConfigErrors, SECOND, local, read};
use crate::proxy::config::OutboundDestination;

const MINIMAL: &[(&str, &str)] = &[
    ("LINKERD2_PROXY_DESTINATION_SVC_ADDR", "127.0.0.1:8086"),
    ("LINKERD2_PROXY_POLICY_SVC_ADDR", "localhost:8090"),
    ("LINKERD2_PROXY_IDENTITY_SVC_ADDR", "linkerd-identity:8080"),
    ("LINKERD2_PROXY_IDENTITY_SVC_NAME", "linkerd-identity.linkerd.example"),
    ("LINKERD2_PROXY_IDENTITY_LOCAL_NAME", "web.ns.serviceaccount.identity.linkerd.example"),
    ("LINKERD2_PROXY_IDENTITY_TOKEN_FILE", "/token"),
    ("LINKERD2_PROXY_IDENTITY_TRUST_ANCHORS", "-----BEGIN CERTIFICATE-----"),
    ("LINKERD2_PROXY_POLICY_WORKLOAD", "ns:web-1"),
];

fn read_with(changes: &[(&str, &str)]) -> Result<Config, ConfigErrors> {
    read(&|name| {
        let of = |list: &[(&str, &str)]| {
            list.iter().find(|(n, _)| *n == name).map(|(_, value)| value.to_string())
        };
        of(changes).or_else(|| of(MINIMAL))
    })
}

#[test]
fn the_defaults_are_linkerds() {
    let config = read_with(&[]).unwrap();
    let outbound = config.outbound.unwrap();
    assert_eq!(outbound.listeners[0].at, local(4140));
    assert_eq!(outbound.failfast_timeout, 3 * SECOND);
    let inbound = config.inbound.unwrap();
    assert_eq!(inbound.direct_port, 4143);
    assert_eq!(inbound.connect.timeout, Duration::from_millis(300));
    assert!(config.discovery.policy.tls.is_none());
    assert!(config.identity.service.tls.is_some());
}

#[test]
fn every_fault_is_reported_at_once_with_its_remedy() {
    let errors = read_with(&[
        ("LINKERD2_PROXY_POLICY_SVC_ADDR", "linkerd-policy:8090"),
        ("LINKERD2_PROXY_OUTBOUND_DETECT_TIMEOUT", "10"),
        ("LINKERD2_PROXY_IDENTITY_LOCAL_NAME", ""),
        ("WEFT_OUTBOUND_LISTENERS", "9001=web"),
        ("WEFT_MODE", "sideways"),
    ])
    .unwrap_err();
    insta::assert_snapshot!(errors.to_string(), @r#"
    invalid configuration:
      WEFT_MODE="sideways" is not valid: give both, outbound or inbound
      WEFT_OUTBOUND_LISTENERS="9001=web" is not valid: "9001=web": give LISTEN=HOST:PORT, such as 127.0.0.1:9001=web.default.svc.cluster.local:80
      LINKERD2_PROXY_OUTBOUND_DETECT_TIMEOUT="10" is not valid: give a unit: ms, s, m, h or d
      LINKERD2_PROXY_IDENTITY_LOCAL_NAME="" is not valid: give this workload's identity, such as web.emojivoto.serviceaccount.identity.linkerd.cluster.local
      LINKERD2_PROXY_POLICY_SVC_NAME is not set: give the service's identity
    "#);
}

#[test]
fn explicit_listeners_are_read() {
    let config = read_with(&[
        ("LINKERD2_PROXY_OUTBOUND_LISTEN_ADDR", "none"),
        ("WEFT_OUTBOUND_LISTENERS", "127.0.0.1:9001=web.ns.svc.cluster.local:80"),
        ("WEFT_OUTBOUND_HTTP_PROXY_LISTEN_ADDRS", "127.0.0.1:4141"),
        ("WEFT_INBOUND_LISTENERS", "0.0.0.0:8080=127.0.0.1:8081"),
    ])
    .unwrap();
    let listeners = config.outbound.unwrap().listeners;
    assert_eq!(listeners.len(), 2);
    assert_eq!(listeners[1].destination, OutboundDestination::HttpProxy);
    assert_eq!(
        config.inbound.unwrap().listeners[1].forward,
        Some("127.0.0.1:8081".parse().unwrap())
    );
}

#[test]
fn a_mode_leaves_the_other_direction_out() {
    let config = read_with(&[("WEFT_MODE", "inbound")]).unwrap();
    assert!(config.outbound.is_none() && config.inbound.is_some());
}

#[test]
fn every_variable_that_is_read_is_documented() {
    let documentation = include_str!("../../../../../docs/environment.md");
    let asked = RefCell::new(std::collections::BTreeSet::new());
    let minimal = |name: &str| {
        asked.borrow_mut().insert(name.to_string());
        let found = MINIMAL.iter().find(|(n, _)| *n == name);
        found.map(|(_, value)| value.to_string())
    };
    read(&minimal).unwrap();
    let missing: Vec<String> = asked
        .into_inner()
        .into_iter()
        .filter(|name| !documentation.contains(&format!("`{name}`")))
        .collect();
    assert!(missing.is_empty(), "not in docs/environment.md: {missing:#?}");
}

#[test]
fn spans_are_sent_where_there_is_a_collector() {
    assert!(read_with(&[]).unwrap().tracing.is_none());
    let tracing = read_with(&[
        ("LINKERD2_PROXY_TRACE_COLLECTOR_SVC_ADDR", "collector.tracing:4317"),
        ("LINKERD2_PROXY_TRACE_COLLECTOR_SVC_NAME", "collector.tracing.example"),
        ("LINKERD2_PROXY_TRACE_EXTRA_ATTRIBUTES", "k8s.pod.ip=10.0.0.1\nzone=eu"),
        ("OTEL_RESOURCE_ATTRIBUTES", "zone=us,team=web"),
        ("WEFT_TRACE_ROOT_RATIO", "0.01"),
    ])
    .unwrap()
    .tracing
    .unwrap();
    assert_eq!((tracing.service_name.as_str(), tracing.root_ratio), ("linkerd-proxy", 0.01));
    assert!(tracing.collector.tls.is_some());
    let names: Vec<_> =
        tracing.attributes.iter().map(|(name, value)| format!("{name}={value}")).collect();
    assert_eq!(names, ["k8s.pod.ip=10.0.0.1", "zone=eu", "zone=us", "team=web"]);
}

#[test]
fn traces_need_a_collector_and_its_identity() {
    let errors = read_with(&[("WEFT_TRACE_ROOT_RATIO", "0.5")]).unwrap_err();
    insta::assert_snapshot!(errors.to_string(), @r#"
    invalid configuration:
      WEFT_TRACE_ROOT_RATIO="0.5" is not valid: traces need a collector: set LINKERD2_PROXY_TRACE_COLLECTOR_SVC_ADDR too
    "#);
    let collector = ("LINKERD2_PROXY_TRACE_COLLECTOR_SVC_ADDR", "collector:4317");
    let errors = read_with(&[collector, ("WEFT_TRACE_ROOT_RATIO", "2")]).unwrap_err();
    insta::assert_snapshot!(errors.to_string(), @r#"
    invalid configuration:
      WEFT_TRACE_ROOT_RATIO="2" is not valid: give a share from 0 to 1, such as 0.01
      LINKERD2_PROXY_TRACE_COLLECTOR_SVC_NAME is not set: give the service's identity
    "#);
}

#[test]
fn a_mapping_to_the_proxy_itself_is_refused() {
    let errors = read_with(&[
        ("WEFT_OUTBOUND_LISTENERS", "127.0.0.1:9001=web:80,127.0.0.1:9002=127.0.0.1:9001"),
        ("WEFT_INBOUND_LISTENERS", "0.0.0.0:8080=127.0.0.1:8080"),
    ])
    .unwrap_err();
    insta::assert_snapshot!(errors.to_string(), @r#"
    invalid configuration:
      WEFT_OUTBOUND_LISTENERS="127.0.0.1:9001=web:80,127.0.0.1:9002=127.0.0.1:9001" is not valid: this proxy itself listens at 127.0.0.1:9001; give another address
      WEFT_INBOUND_LISTENERS="0.0.0.0:8080=127.0.0.1:8080" is not valid: this proxy itself listens at 127.0.0.1:8080; give another address
    "#);
}
