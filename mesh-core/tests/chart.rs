//! The Helm charts in `deploy/chart` are what `weft install` prints. What needs Helm is tried where
//! there is one: on the path, or where `HELM` says. After a change of values:
//! `UPDATE_CHART=1 cargo test -p mesh-core --test chart`, which writes the schema.

// A test of files in the repository reads them itself.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use mesh_core::manifest::Values;
use mesh_core::manifest::install::{self, CONFIG, CONFIG_KEY};
use mesh_core::manifest::values::layers::{self, Layer};
use mesh_core::manifest::values::{self, set};
use serde_json::{Value, json};

const CONTROL_PLANE: &str = "weft-control-plane";
const CRDS: &str = "weft-crds";

/// Values that hold what the user wants, whose insides are not the chart's to explain.
const FREE: [&str; 5] =
    ["nodeSelector", "deploymentStrategy", "namespaceSelector", "objectSelector", "probeNetworks"];

fn chart(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/chart").join(name)
}

fn text(chart_name: &str, file: &str) -> String {
    let path = chart(chart_name).join(file);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(chart_name: &str, file: &str) -> Value {
    serde_yaml_ng::from_str(&text(chart_name, file)).unwrap()
}

#[test]
fn the_charts_values_are_the_values() {
    let values = serde_json::to_value(Values::default()).unwrap();
    assert_eq!(yaml(CONTROL_PLANE, "values.yaml"), values);
    assert_eq!(yaml(CONTROL_PLANE, "values-ha.yaml"), Values::ha());
    for (name, value) in yaml(CRDS, "values.yaml").as_object().unwrap() {
        assert_eq!(value, &values[name], "{name}");
    }
}

#[test]
fn every_value_of_the_charts_is_documented() {
    for file in ["weft-control-plane/values.yaml", "weft-crds/values.yaml"] {
        let text = text("", file);
        let mut free_below = usize::MAX;
        let mut before = "";
        for line in text.lines() {
            let indent = line.len() - line.trim_start().len();
            let is_free = indent > free_below;
            if !is_free
                && let Some((name, _)) = line.trim_start().split_once(':')
                && !line.trim_start().starts_with('#')
            {
                assert!(before.trim_start().starts_with("# "), "{file}: {name}");
                free_below = if FREE.contains(&name) { indent } else { usize::MAX };
            }
            before = line;
        }
    }
}

#[test]
fn the_charts_schema_is_that_of_the_values() {
    let path = chart(CONTROL_PLANE).join("values.schema.json");
    let schema = serde_json::to_string_pretty(&values::schema()).unwrap() + "\n";
    if std::env::var_os("UPDATE_CHART").is_some() {
        fs::write(&path, &schema).unwrap();
    }
    assert_eq!(fs::read_to_string(&path).unwrap(), schema, "{} is not current", path.display());
}

#[test]
fn the_charts_have_this_version() {
    for name in [CONTROL_PLANE, CRDS] {
        let chart = yaml(name, "Chart.yaml");
        assert_eq!(chart["version"], env!("CARGO_PKG_VERSION"), "{name}");
        assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"), "{name}");
    }
}

#[test]
fn the_control_planes_chart_is_what_is_installed() {
    let Some(helm) = Helm::find() else { return };
    for case in cases() {
        let rendered = helm.template(CONTROL_PLANE, &case, &[]).unwrap();
        assert_same(case.name, documents(&rendered), install::install(&case.installed()));
    }
}

#[test]
fn the_definitions_chart_is_what_is_installed() {
    let Some(helm) = Helm::find() else { return };
    let labelled = json!({"linkerdNamespace": "mesh", "commonLabels": {"a": "b"}});
    for values in [json!({}), labelled] {
        let case = Case { name: "definitions", values, ..Case::default() };
        let rendered = helm.template(CRDS, &case, &[]).unwrap();
        assert_same(case.name, documents(&rendered), install::crds(&case.installed()));
    }
}

#[test]
fn a_namespace_that_helm_has_made_is_left_to_it() {
    let Some(helm) = Helm::find() else { return };
    let case = Case { name: "namespace", values: keys(), ..Case::default() };
    let rendered = helm.template(CONTROL_PLANE, &case, &["--namespace", "linkerd"]).unwrap();
    let mut installed = install::install(&case.installed());
    installed.retain(|document| document["kind"] != "Namespace");
    assert_same(case.name, documents(&rendered), installed);
}

#[test]
fn what_is_missing_or_means_nothing_is_told() {
    let Some(helm) = Helm::find() else { return };
    let issuer = |issuer: Value| json!({"identity": {"issuer": issuer}});
    let anchors = json!({"identityTrustAnchorsPEM": "anchors"});
    let certificate = issuer(json!({"tls": {"crtPEM": "certificate"}}));
    let external = issuer(json!({"scheme": "kubernetes.io/tls"}));
    for (given, told) in [
        (vec![], "trust anchors are missing"),
        (vec![anchors.clone()], "the issuer's certificate is missing"),
        (vec![anchors, certificate], "the issuer's key is missing"),
        (vec![external], "an external issuer needs its trust anchors"),
        (vec![keys(), json!({"proxy": {"uuid": 1}})], "uuid"),
        (vec![keys(), json!({"cniEnabled": "perhaps"})], "cniEnabled"),
        (vec![keys(), json!({"webhookFailurePolicy": "Maybe"})], "webhookFailurePolicy"),
    ] {
        let mut values = json!({});
        given.iter().for_each(|given| merge(&mut values, given));
        let case = Case { name: "refused", values, ..Case::default() };
        let error = helm.template(CONTROL_PLANE, &case, &[]).unwrap_err();
        assert!(error.contains(told), "{told}: {error}");
    }
}

/// Values of an installation.
#[derive(Default)]
struct Case {
    name: &'static str,
    is_ha: bool,
    values: Value,
    set: &'static str,
}

impl Case {
    /// The values, as `weft install` takes them.
    fn installed(&self) -> Values {
        let layer = |values: Value| Layer { source: self.name.into(), values };
        let mut layers = Vec::new();
        if self.is_ha {
            layers.push(layer(Values::ha()));
        }
        layers.push(layer(self.values.clone()));
        layers.extend(set::parse(self.set).unwrap());
        layers::merge(&layers).unwrap().values
    }
}

/// Keys, which the chart does not look into.
fn keys() -> Value {
    let pem = |what| format!("-----BEGIN {what}-----\nAQID\n-----END {what}-----\n");
    json!({
        "identityTrustAnchorsPEM": pem("CERTIFICATE"),
        "identity": {"issuer": {"tls": {"crtPEM": pem("CERTIFICATE"), "keyPEM": pem("KEY")}}},
    })
}

/// Installations that differ in everything that changes their form.
fn cases() -> Vec<Case> {
    let with = |given: &Value| {
        let mut values = keys();
        merge(&mut values, given);
        values
    };
    let external =
        json!({"identity": {"externalCA": true, "issuer": {"scheme": "kubernetes.io/tls"}}});
    let anchors = json!({
        "identityTrustAnchorsPEM": "anchors",
        "identity": {"issuer": {"scheme": "kubernetes.io/tls"}},
    });
    let is_ha = true;
    vec![
        Case { name: "default", values: keys(), ..Case::default() },
        Case { name: "ha", is_ha, values: keys(), ..Case::default() },
        Case { name: "pods", values: with(&pods()), ..Case::default() },
        Case { name: "pods-ha", is_ha, values: with(&pods()), ..Case::default() },
        Case { name: "sidecars", values: with(&sidecars()), ..Case::default() },
        Case { name: "cni", is_ha, values: with(&sidecars()), set: "cniEnabled=true" },
        Case { name: "webhooks", values: with(&webhooks()), ..Case::default() },
        Case { name: "external-ca", values: external.clone(), ..Case::default() },
        Case { name: "external-issuer", values: anchors, ..Case::default() },
        Case { name: "keys-of-kubernetes", values: with(&external), ..Case::default() },
        Case {
            name: "set",
            values: keys(),
            set: "controllerReplicas=2,proxy.opaquePorts=8080,proxy.resources.cpu.request=1,\
                  nodeSelector.kubernetes\\.io/arch=arm64,policyController.probeNetworks={10.0.0.0/8},\
                  proxyInit.ignoreInboundPorts=,proxyInit.ignoreOutboundPorts=25-30,\
                  podMonitor.enabled=true,podMonitor.proxy.enabled=false,disableHeartBeat=true",
            ..Case::default()
        },
    ]
}

/// What changes the control plane's pods and names. Some texts look like numbers to YAML.
fn pods() -> Value {
    json!({
        "linkerdNamespace": "1e3", "linkerdVersion": "9.10", "clusterDomain": "cluster.example",
        "identityTrustDomain": "mesh.example", "clusterNetworks": "10.0.0.0/8",
        "controllerImage": "registry.example/weft", "controllerImageVersion": "edge",
        "controllerUID": 1_000_650_000, "controllerGID": -1, "controllerLogFormat": "json",
        "controllerLogLevel": "warn,\"weft\"=debug", "imagePullPolicy": "Always",
        "imagePullSecrets": [{"name": "registry"}], "revisionHistoryLimit": 2,
        "tolerations": [{"key": "dedicated", "operator": "Exists"}],
        "nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [
            {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]},
        ]}},
        "priorityClassName": "system-cluster-critical", "runtimeClassName": "runc",
        "podAnnotations": {"a": "yes", "linkerd.io/created-by": "somebody"},
        "podLabels": {"c": "1"},
        "commonLabels": {"e": "f", "linkerd.io/control-plane-component": "other"},
        "controllerResources": {"cpu": {"limit": "1"}},
        "destinationResources": {"memory": {"request": "1Gi"}},
        "destinationProxyResources": {"cpu": {"request": "200m"}, "ephemeral-storage": {"limit": "1Gi"}},
        "identity": {"issuer": {"issuanceLifetime": "1h30m0.5s", "clockSkewAllowance": "1500ms"}},
        "podMonitor": {"enabled": true, "labels": {"release": "prometheus"}, "scrapeInterval": "1m",
            "proxy": {"namespaceSelector": {"matchNames": ["shop"]}}},
        "enableH2Upgrade": false, "egress": {"globalEgressNetworkNamespace": "egress"},
    })
}

/// What changes the control plane's sidecars.
fn sidecars() -> Value {
    json!({
        "disableIPv6": false,
        "proxy": {
            "image": {"name": "registry.example/proxy", "version": "1.0", "pullPolicy": "Never"},
            "ports": {"admin": 1, "control": 2, "inbound": 3, "outbound": 4},
            "resources": {"cpu": {"request": "1m"}, "memory": {"limit": "1Gi"}},
            "runtime": {"workers": {"minimum": 2, "maximumCPURatio": 0.5}},
            "uid": 1_000_650_001, "gid": 2102, "accessLog": "json", "logFormat": "json",
            "nativeSidecar": false, "isGateway": true, "isIngress": true, "opaquePorts": "25,80-90",
            "podInboundPorts": "7000", "requireIdentityOnInboundPorts": "1-2",
            "enableExternalProfiles": true, "enableShutdownEndpoint": true,
            "defaultInboundPolicy": "deny", "outboundTransportMode": "transparent",
            "disableInboundProtocolDetectTimeout": true, "disableOutboundProtocolDetectTimeout": true,
            "metrics": {"hostnameLabels": true}, "shutdownGracePeriod": "30s",
            "tracing": {"enabled": true, "traceServiceName": "1e3", "collector": {
                "endpoint": "collector.tracing:4317",
                "meshIdentity": {"serviceAccountName": "collector", "namespace": "tracing"},
            }},
            "waitBeforeExitSeconds": 3, "control": {"streams": {"lifetime": "2h"}},
            "additionalEnv": [
                {"name": "A", "value": "b"},
                {"name": "LINKERD2_PROXY_LOG", "value": "trace"},
                {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}},
            ],
        },
        "proxyInit": {
            "closeWaitTimeoutSecs": 5, "skipSubnets": "10.0.0.0/8", "iptablesMode": "legacy",
            "kubeAPIServerPorts": "", "resources": {"cpu": {"request": ""}},
        },
    })
}

/// What changes webhooks.
fn webhooks() -> Value {
    json!({
        "webhookFailurePolicy": "Fail",
        "proxyInjector": {
            "caBundle": "bundle", "crtPEM": "certificate", "keyPEM": "key", "timeoutSeconds": 3,
            "injectCaFrom": "linkerd/injector", "podAnnotations": {"g": "h"},
            "namespaceSelector": {"matchLabels": {"i": "j"}},
        },
        "policyValidator": {
            "externalSecret": true, "crtPEM": "certificate", "keyPEM": "key",
            "injectCaFromSecret": "linkerd/validator", "podAnnotations": {"k": "l"},
            "objectSelector": {"matchLabels": {"m": "n"}},
        },
        "profileValidator": {"crtPEM": "certificate", "keyPEM": "key"},
    })
}

/// Helm, where there is one.
struct Helm(PathBuf);

impl Helm {
    fn find() -> Option<Self> {
        if let Some(path) = std::env::var_os("HELM") {
            return Some(Self(path.into()));
        }
        let is_there = Command::new("helm").arg("version").output().is_ok();
        if !is_there {
            eprintln!("skipped: there is no Helm; HELM says where one is");
        }
        is_there.then(|| Self("helm".into()))
    }

    /// What a chart is with these values, or what Helm says against them.
    fn template(&self, name: &str, case: &Case, more: &[&str]) -> Result<String, String> {
        let mut command = Command::new(&self.0);
        command.args(["template", "weft"]).arg(chart(name)).args(more);
        if case.is_ha {
            command.arg("--values").arg(chart(name).join("values-ha.yaml"));
        }
        // JSON is YAML.
        let test = std::thread::current().name().unwrap_or_default().to_string();
        let file = format!("{test}-{name}-{}.json", case.name);
        let file = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
        fs::write(&file, case.values.to_string()).unwrap();
        command.arg("--values").arg(&file);
        if !case.set.is_empty() {
            command.args(["--set", case.set]);
        }
        let output = command.output();
        let Output { status, stdout, stderr } =
            output.unwrap_or_else(|error| panic!("{}: {error}", self.0.display()));
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap();
        if status.success() { Ok(text(stdout)) } else { Err(text(stderr)) }
    }
}

fn documents(rendered: &str) -> Vec<Value> {
    install::documents(rendered).unwrap()
}

/// The same objects, in whatever order, and none twice. The values that the cluster keeps are the
/// same when they are read.
fn assert_same(case: &str, rendered: Vec<Value>, installed: Vec<Value>) {
    let [rendered, installed] = [rendered, installed].map(|documents| {
        let mut named = BTreeMap::new();
        for mut document in documents {
            let name = install::object_of(&document);
            if name.1 == "ConfigMap" && name.3 == CONFIG {
                let kept = Values::read(document["data"][CONFIG_KEY].as_str().unwrap()).unwrap();
                document["data"][CONFIG_KEY] = serde_json::to_value(kept).unwrap();
            }
            // Helm writes 65535.0 as 65535, which is the same.
            let text = serde_json::to_string_pretty(&document).unwrap().replace(".0,\n", ",\n");
            assert_eq!(named.insert(name.clone(), text), None, "{case}: {name:?} is there twice");
        }
        named
    });
    let names = |named: &BTreeMap<_, String>| named.keys().cloned().collect::<Vec<_>>();
    assert_eq!(names(&rendered), names(&installed), "{case}");
    for (name, rendered) in &rendered {
        let installed = &installed[name];
        let mut lines = rendered.lines().zip(installed.lines());
        let first = lines.find(|(rendered, installed)| rendered != installed);
        assert_eq!(rendered, installed, "{case}: {name:?} from {first:?}");
    }
}

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (name, from) in from {
                merge(into.entry(name).or_insert(Value::Null), from);
            }
        }
        (into, from) => *into = from.clone(),
    }
}
