//! What values have to be, beyond their kind.

use ipnet::IpNet;
use k8s_openapi::api::core::v1::EnvVar;
use serde_json::Value;

use super::super::settings::{DEFAULT_POLICIES, are_ports, is_quantity};
use super::{Quantities, Resources, Values};
use crate::resource::duration;

/// Texts that are one of a few.
pub(super) const CHOICES: [(&str, &[&str]); 10] = [
    ("imagePullPolicy", &["Always", "IfNotPresent", "Never"]),
    ("webhookFailurePolicy", &["Ignore", "Fail"]),
    ("controllerLogFormat", &["plain", "json"]),
    ("identity.issuer.scheme", &["linkerd.io/tls", "kubernetes.io/tls"]),
    ("proxy.logFormat", &["plain", "json"]),
    ("proxy.logHTTPHeaders", &["off", "insecure", ""]),
    ("proxy.accessLog", &["apache", "json", ""]),
    ("proxy.defaultInboundPolicy", &DEFAULT_POLICIES),
    ("proxy.outboundTransportMode", &["transport-header", "transparent"]),
    ("proxyInit.iptablesMode", &["nft", "legacy", "plain"]),
];

/// Everything that is wrong with values, each with its path.
pub(super) fn faults(values: &Values) -> Vec<String> {
    let mut check = Check(Vec::new());
    check.choices(values);
    check.lists(values);
    check.durations(values);
    let resources = [
        ("controllerResources", &values.controller_resources),
        ("destinationResources", &values.destination_resources),
        ("destinationProxyResources", &values.destination_proxy_resources),
        ("identityResources", &values.identity_resources),
        ("identityProxyResources", &values.identity_proxy_resources),
        ("proxyInjectorResources", &values.proxy_injector_resources),
        ("proxyInjectorProxyResources", &values.proxy_injector_proxy_resources),
        ("viz.resources", &values.viz.resources),
        ("viz.proxyResources", &values.viz.proxy_resources),
        ("proxy.resources", &values.proxy.resources),
        ("proxyInit.resources", &values.proxy_init.resources),
    ];
    for (path, resources) in resources {
        check.resources(path, resources);
    }
    for variable in &values.proxy.additional_env {
        let holds = serde_json::from_value::<EnvVar>(variable.clone()).is_ok();
        let wanted = "variables as containers have them: {name: A, value: b}";
        check.that(holds, "proxy.additionalEnv", &variable.to_string(), wanted);
    }
    let workers = &values.proxy.runtime.workers;
    if let Some(share) = workers.maximum_cpu_ratio {
        let path = "proxy.runtime.workers.maximumCPURatio";
        check.that((0.0..=1.0).contains(&share), path, &share.to_string(), "a share from 0 to 1");
    }
    let tracing = &values.proxy.tracing;
    if tracing.enabled {
        let collector = &tracing.collector;
        let endpoint = &collector.endpoint;
        let holds = endpoint.rsplit_once(':').is_some_and(|(host, port)| {
            !host.is_empty() && port.parse::<u16>().is_ok_and(|port| port > 0)
        });
        let wanted = "a host and a port, such as collector.tracing:4317";
        check.that(holds, "proxy.tracing.collector.endpoint", endpoint, wanted);
        let whom = &collector.mesh_identity;
        for (name, said) in
            [("serviceAccountName", &whom.service_account_name), ("namespace", &whom.namespace)]
        {
            let path = format!("proxy.tracing.collector.meshIdentity.{name}");
            check.that(
                !said.is_empty(),
                &path,
                said,
                "that of the collector's pod, which is meshed",
            );
        }
    }
    let ports = &values.proxy.ports;
    for (name, port) in [
        ("admin", ports.admin),
        ("control", ports.control),
        ("inbound", ports.inbound),
        ("outbound", ports.outbound),
    ] {
        check.that(port > 0, &format!("proxy.ports.{name}"), "0", "a port from 1 to 65535");
    }
    check.0
}

struct Check(Vec<String>);

impl Check {
    fn that(&mut self, holds: bool, path: &str, value: &str, wanted: &str) {
        if !holds {
            self.0.push(format!("{path}: `{value}` cannot be used; it takes {wanted}"));
        }
    }

    fn choices(&mut self, values: &Values) {
        let values = serde_json::to_value(values).expect("values are plain data");
        for (path, choices) in CHOICES {
            let said = values.pointer(&format!("/{}", path.replace('.', "/")));
            let said = said.and_then(Value::as_str).expect("the path is one of a text");
            let named = choices.iter().copied().filter(|choice| !choice.is_empty());
            let named = named.collect::<Vec<_>>().join(", ");
            self.that(choices.contains(&said), path, said, &format!("one of: {named}"));
        }
    }

    fn lists(&mut self, values: &Values) {
        let (proxy, init) = (&values.proxy, &values.proxy_init);
        for (path, value) in [
            ("proxy.opaquePorts", &proxy.opaque_ports),
            ("proxy.podInboundPorts", &proxy.pod_inbound_ports),
            ("proxy.requireIdentityOnInboundPorts", &proxy.require_identity_on_inbound_ports),
            ("proxyInit.ignoreInboundPorts", &init.ignore_inbound_ports),
            ("proxyInit.ignoreOutboundPorts", &init.ignore_outbound_ports),
            ("proxyInit.kubeAPIServerPorts", &init.kube_api_server_ports),
        ] {
            let wanted = "ports and ranges separated by commas: 25,80-90";
            self.that(are_ports(value), path, value, wanted);
        }
        let is_network = |text: &str| text.trim().parse::<IpNet>().is_ok();
        for (path, value) in [
            ("clusterNetworks", &values.cluster_networks),
            ("proxyInit.skipSubnets", &init.skip_subnets),
        ] {
            let holds = value.is_empty() || value.split(',').all(is_network);
            self.that(holds, path, value, "networks separated by commas: 10.0.0.0/8");
        }
        for network in &values.policy_controller.probe_networks {
            let path = "policyController.probeNetworks";
            self.that(is_network(network), path, network, "networks such as 10.0.0.0/8");
        }
    }

    fn durations(&mut self, values: &Values) {
        let (proxy, issuer) = (&values.proxy, &values.identity.issuer);
        for (path, value) in [
            ("identity.issuer.clockSkewAllowance", &issuer.clock_skew_allowance),
            ("identity.issuer.issuanceLifetime", &issuer.issuance_lifetime),
            ("proxy.inboundConnectTimeout", &proxy.inbound_connect_timeout),
            ("proxy.outboundConnectTimeout", &proxy.outbound_connect_timeout),
            (
                "proxy.inboundDiscoveryCacheUnusedTimeout",
                &proxy.inbound_discovery_cache_unused_timeout,
            ),
            (
                "proxy.outboundDiscoveryCacheUnusedTimeout",
                &proxy.outbound_discovery_cache_unused_timeout,
            ),
            ("proxy.control.streams.initialTimeout", &proxy.control.streams.initial_timeout),
            ("proxy.control.streams.idleTimeout", &proxy.control.streams.idle_timeout),
            ("proxy.control.streams.lifetime", &proxy.control.streams.lifetime),
            ("proxy.shutdownGracePeriod", &proxy.shutdown_grace_period),
            ("podMonitor.scrapeInterval", &values.pod_monitor.scrape_interval),
            ("podMonitor.scrapeTimeout", &values.pod_monitor.scrape_timeout),
        ] {
            let may_be_unsaid = path == "proxy.shutdownGracePeriod";
            let holds = value.is_empty() && may_be_unsaid || duration::parse(value).is_some();
            self.that(holds, path, value, "a duration such as 100ms, 10s or 5m");
        }
    }

    fn resources(&mut self, path: &str, resources: &Resources) {
        for (name, Quantities { request, limit }) in [
            ("cpu", &resources.cpu),
            ("memory", &resources.memory),
            ("ephemeral-storage", &resources.ephemeral_storage),
        ] {
            for (end, value) in [("request", request), ("limit", limit)] {
                let holds = value.is_empty() || is_quantity(value);
                let path = format!("{path}.{name}.{end}");
                self.that(holds, &path, value, "a quantity such as 100m, 20Mi or 1Gi");
            }
        }
    }
}
