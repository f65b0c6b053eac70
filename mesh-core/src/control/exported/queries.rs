//! Every query of rules and dashboards names metrics and labels that a proxy or a controller
//! exports, or that scraping adds.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use regex_lite::Regex;
use serde_json::Value;

use super::foreign::ask;
use super::promql::{self, Names};
use super::{controller, proxy, scraped};
use crate::control::config::MeshConfig;
use crate::control::destination::endpoints;
use crate::control::index::View;
use crate::control::testing;
use crate::manifest::values::Values;
use crate::model::endpoint::EndpointUpdate;
use crate::telemetry::format::Format;
use crate::telemetry::samples;

/// What pods are owned by, as their labels say.
const OWNERS: [&str; 7] = [
    "deployment",
    "statefulset",
    "daemonset",
    "replicaset",
    "replicationcontroller",
    "job",
    "cronjob",
];

/// A service whose one pod has all that destinations are labelled with.
const SERVICE: &str = "
apiVersion: v1
kind: Service
metadata: {name: web, namespace: shop}
spec: {clusterIP: 10.96.0.1, ports: [{port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: web-x, namespace: shop, labels: {kubernetes.io/service-name: web}}
addressType: IPv4
ports: [{port: 80}]
endpoints: [{addresses: [10.1.0.1], zone: east, targetRef: {kind: Pod, name: web-1, namespace: shop}}]
---
apiVersion: v1
kind: Pod
metadata:
  name: web-1
  namespace: shop
  labels: {linkerd.io/control-plane-ns: linkerd, pod-template-hash: 5d8f}
  ownerReferences: [{apiVersion: apps/v1, kind: ReplicaSet, name: web-5d8f, uid: x, controller: true}]
spec: {serviceAccountName: web, containers: []}
status: {podIP: 10.1.0.1}
";

/// Metrics with the labels that their samples may have.
type Inventory = BTreeMap<String, BTreeSet<String>>;

/// A query, and where it stands.
struct Query {
    place: String,
    text: String,
    /// Labels that are shown of its result.
    shown: Vec<String>,
}

fn deploy(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy").join(path)
}

#[allow(clippy::disallowed_methods, reason = "a test of files of the repository")]
fn text(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn yaml(path: &str) -> Value {
    serde_yaml_ng::from_str(&text(&deploy(path))).unwrap()
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// The labels that scraping adds to metrics of a job.
fn labels_of_job(job: &str) -> BTreeSet<String> {
    let config = yaml("prometheus/kubernetes.yaml");
    let mut jobs = list(&config["scrape_configs"]).iter();
    let steps = list(&jobs.find(|found| found["job_name"] == job).unwrap()["relabel_configs"]);
    let targets = match job {
        "linkerd-proxy" => {
            OWNERS.map(|owner| scraped::pod(owner, "linkerd-proxy", "linkerd-admin")).to_vec()
        }
        _ => vec![scraped::pod("deployment", "destination", "dest-admin")],
    };
    let of_targets = targets.into_iter().map(|target| scraped::relabelled(steps, target).unwrap());
    let mut labels: BTreeSet<_> = of_targets.flat_map(BTreeMap::into_keys).collect();
    labels.extend(["job", "instance"].map(String::from));
    labels
}

/// The names of the labels that the control plane gives to a destination.
fn labels_of_destination() -> BTreeSet<String> {
    let (index, mesh) = (testing::index(SERVICE), MeshConfig::default());
    let path = "web.shop.svc.cluster.local:80".parse().unwrap();
    let placed = endpoints::compile(&View::new(&index, &mesh), &path).unwrap();
    let updates = placed.seen_from(&Default::default()).updates_since(None);
    let [EndpointUpdate::Add { endpoints, labels }] = &updates[..] else { panic!("{updates:?}") };
    let all = labels.iter().chain(endpoints[0].labels.iter());
    all.map(|(name, _)| format!("dst_{name}")).collect()
}

async fn inventory() -> Inventory {
    let mut inventory = Inventory::new();
    let texts = [
        (proxy(Format::Text), labels_of_job("linkerd-proxy")),
        (controller(Format::Text).await, labels_of_job("linkerd-controller")),
    ];
    for (text, of_job) in texts {
        for sample in samples::parse(&text).unwrap() {
            let labels = inventory.entry(sample.name).or_default();
            labels.extend(sample.labels.into_iter().map(|(name, _)| name));
            labels.extend(of_job.iter().cloned());
        }
        inventory.entry("up".to_string()).or_default().extend(of_job);
    }
    let of_destination = labels_of_destination();
    for (_, labels) in inventory.iter_mut().filter(|(_, labels)| labels.contains("dst_pod")) {
        labels.extend(of_destination.iter().cloned());
    }
    for rule in rules() {
        if let Some(name) = rule["record"].as_str() {
            let names = promql::read(rule["expr"].as_str().unwrap());
            let labels = names.grouped.unwrap().into_iter().filter(|label| label != "le");
            inventory.insert(name.to_string(), labels.collect());
        }
    }
    inventory
}

fn rules() -> Vec<Value> {
    let rules = yaml("prometheus/rules.yaml");
    list(&rules["groups"]).iter().flat_map(|group| list(&group["rules"]).to_vec()).collect()
}

/// `{{ $labels.NAME }}` in rules, `{{NAME}}` in legends.
fn shown(pattern: &str, text: &str) -> Vec<String> {
    let found = Regex::new(pattern).unwrap();
    found.captures_iter(text).map(|found| found[1].to_string()).collect()
}

fn queries_of_rules() -> Vec<Query> {
    let query = |rule: &Value| {
        let name = rule["alert"].as_str().or(rule["record"].as_str()).unwrap();
        let annotations = rule["annotations"].to_string();
        Query {
            place: format!("rules.yaml: {name}"),
            text: rule["expr"].as_str().unwrap().to_string(),
            shown: shown(r"\$labels\.(\w+)", &annotations),
        }
    };
    rules().iter().map(query).collect()
}

#[allow(clippy::disallowed_methods, reason = "a test of files of the repository")]
fn dashboards() -> Vec<(String, Value)> {
    let files = std::fs::read_dir(deploy("grafana")).unwrap();
    let files = files.map(|file| file.unwrap().path());
    let json = files.filter(|path| path.extension().is_some_and(|extension| extension == "json"));
    let read = |path: PathBuf| {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        (name, serde_json::from_str(&text(&path)).unwrap())
    };
    json.map(read).collect()
}

/// The queries of a dashboard, of its panels and its variables. Where a variable stands for a
/// label's name, each of its values does.
fn queries_of(name: &str, dashboard: &Value) -> Vec<Query> {
    let variables = list(&dashboard["templating"]["list"]);
    let mut queries = Vec::new();
    for panel in list(&dashboard["panels"]) {
        for target in list(&panel["targets"]) {
            queries.push(Query {
                place: format!("{name}: {}", panel["title"]),
                text: target["expr"].as_str().unwrap().to_string(),
                shown: shown(r"\{\{(\w+)\}\}", target["legendFormat"].as_str().unwrap()),
            });
        }
    }
    for variable in variables.iter().filter(|variable| variable["type"] == "query") {
        let definition = variable["definition"].as_str().unwrap();
        let asked =
            definition.strip_prefix("label_values(").and_then(|rest| rest.strip_suffix(")"));
        let (query, label) = asked.unwrap().rsplit_once(", ").unwrap();
        queries.push(Query {
            place: format!("{name}: variable {}", variable["name"]),
            text: query.to_string(),
            shown: vec![label.to_string()],
        });
    }
    for variable in variables.iter().filter(|variable| variable["type"] == "custom") {
        let name = &format!("${}", variable["name"].as_str().unwrap());
        let values = variable["query"].as_str().unwrap().split(',');
        let each = values.flat_map(|value| {
            queries.iter().map(move |query| Query {
                place: format!("{} ({value})", query.place),
                text: query.text.replace(name, value),
                shown: query.shown.iter().map(|label| label.replace(name, value)).collect(),
            })
        });
        queries = each.collect();
    }
    queries
}

fn faults(query: &Query, inventory: &Inventory) -> Vec<String> {
    let Names { metrics, grouped } = promql::read(&query.text);
    let mut faults = Vec::new();
    let mut known = BTreeSet::new();
    for named in &metrics {
        let Some(labels) = inventory.get(&named.metric) else {
            faults.push(format!("{}: there is no metric {}", query.place, named.metric));
            continue;
        };
        known.extend(labels.iter().cloned());
        let missing = named.labels.iter().filter(|label| !labels.contains(*label));
        faults.extend(
            missing.map(|label| format!("{}: {} has no label {label}", query.place, named.metric)),
        );
    }
    if metrics.is_empty() {
        faults.push(format!("{}: names no metric: {}", query.place, query.text));
    }
    let shown = query.shown.iter();
    let lost = shown
        .filter(|label| !grouped.as_ref().map_or(known.contains(*label), |by| by.contains(label)));
    faults.extend(lost.map(|label| format!("{}: shows {label}, which is not there", query.place)));
    faults
}

fn all_queries() -> Vec<Query> {
    let of_dashboards = dashboards();
    let of_dashboards = of_dashboards.iter().flat_map(|(name, board)| queries_of(name, board));
    queries_of_rules().into_iter().chain(of_dashboards).collect()
}

#[tokio::test(start_paused = true)]
async fn queries_name_what_is_exported() {
    let inventory = inventory().await;
    assert!(inventory["response_total"].is_superset(
        &["dst_service", "dst_deployment", "k8s_job", "app", "pod"].map(String::from).into()
    ));
    assert!(dashboards().len() >= 10);
    let faults: Vec<_> = all_queries().iter().flat_map(|query| faults(query, &inventory)).collect();
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

#[tokio::test(start_paused = true)]
async fn a_query_of_something_else_is_a_fault() {
    let inventory = inventory().await;
    let found = |text: &str| {
        let shown = vec!["pod".to_string()];
        let query = Query { place: "here".into(), text: text.into(), shown };
        faults(&query, &inventory)
    };
    assert!(found("sum by (pod) (rate(request_total[5m]))").is_empty());
    for (text, fault) in [
        // What Linkerd's dashboards ask for, and no proxy has.
        ("tcp_connection_duration_ms", "here: there is no metric tcp_connection_duration_ms"),
        ("request_total{colour=\"red\"}", "here: request_total has no label colour"),
        (
            "sum by (pod, status_code) (request_total)",
            "here: request_total has no label status_code",
        ),
        (
            "weft_control_synced{deployment=\"a\"}",
            "here: weft_control_synced has no label deployment",
        ),
        ("sum(request_total) by (peer)", "here: shows pod, which is not there"),
        ("vector(0)", "here: names no metric: vector(0)"),
    ] {
        assert!(found(text).contains(&fault.to_string()), "{text}: {:?}", found(text));
    }
}

#[test]
fn alerts_say_what_they_mean_and_where_to_read_on() {
    let page = text(&deploy("../docs/alerts.md"));
    let headings = page.lines().filter_map(|line| line.strip_prefix("## "));
    let anchors: BTreeSet<_> = headings.map(str::to_lowercase).collect();
    let mut seen = BTreeSet::new();
    for rule in rules() {
        let Some(alert) = rule["alert"].as_str() else { continue };
        let annotation = |name: &str| rule["annotations"][name].as_str().unwrap_or_default();
        assert!(
            !annotation("summary").is_empty() && !annotation("description").is_empty(),
            "{alert}"
        );
        let anchor = alert.to_lowercase();
        assert_eq!(annotation("runbook_url"), format!("docs/alerts.md#{anchor}"));
        assert!(anchors.contains(&anchor), "docs/alerts.md has nothing on {alert}");
        assert!(
            ["info", "warning", "critical"].map(Value::from).contains(&rule["labels"]["severity"])
        );
        seen.insert(anchor);
    }
    let stale: Vec<_> = anchors
        .iter()
        .filter(|anchor| anchor.starts_with("weft") && !seen.contains(*anchor))
        .collect();
    assert!(stale.is_empty(), "docs/alerts.md speaks of {stale:?}");
    let tests = text(&deploy("prometheus/rules_test.yaml"));
    for rule in rules() {
        let name = rule["alert"].as_str().unwrap_or("weft:");
        assert!(tests.contains(name), "rules_test.yaml has nothing on {name}");
    }
}

#[test]
fn pod_monitors_give_the_same_labels() {
    let mut values = Values::default();
    values.pod_monitor.enabled = true;
    values.pod_monitor.controller.enabled = true;
    values.pod_monitor.proxy.enabled = true;
    let config = yaml("prometheus/kubernetes.yaml");
    let documents = crate::manifest::install::install(&values);
    let monitors: Vec<_> = documents.iter().filter(|one| one["kind"] == "PodMonitor").collect();
    assert_eq!(monitors.len(), 2);
    for monitor in monitors {
        let name = monitor["metadata"]["name"].as_str().unwrap();
        let own = list(&monitor["spec"]["podMetricsEndpoints"][0]["relabelings"]);
        let mut jobs = list(&config["scrape_configs"]).iter();
        let job = jobs.find(|job| job["job_name"] == name).unwrap();
        let steps = list(&job["relabel_configs"]);
        let is_proxy = name == "linkerd-proxy";
        for owner in OWNERS {
            let (container, port) = if is_proxy {
                ("linkerd-proxy", "linkerd-admin")
            } else {
                ("destination", "admin")
            };
            let pod = scraped::pod(owner, container, port);
            let scraped_by = |steps| scraped::relabelled(steps, pod.clone()).unwrap();
            let mut by_monitor = scraped_by(own);
            // The operator itself says where a pod is, and takes labels of pods where it is told to.
            by_monitor
                .extend([("namespace".into(), "shop".into()), ("pod".into(), "web-1".into())]);
            let mut by_config = scraped_by(steps);
            by_config.remove("app");
            assert_eq!(by_monitor, by_config, "{name} of a {owner}");
        }
    }
}

#[test]
fn promtool_takes_the_configuration_the_rules_and_every_query() {
    let run = |arguments: &[&str]| {
        let Some((said, is_content)) = ask("promtool", arguments, "") else {
            println!("skipped: promtool is not installed (Debian's package prometheus)");
            return false;
        };
        assert!(is_content, "promtool {}: {said}", arguments.join(" "));
        true
    };
    let path = |name: &str| deploy(name).to_string_lossy().into_owned();
    if !run(&["check", "rules", &path("prometheus/rules.yaml")]) {
        return;
    }
    run(&["test", "rules", &path("prometheus/rules_test.yaml")]);
    run(&["check", "config", &path("prometheus/standalone.yaml")]);
    // Debian's promtool knows nothing of Kubernetes: the rest of that configuration is checked.
    let mut config = yaml("prometheus/kubernetes.yaml");
    config["rule_files"] = Value::Null;
    for job in config["scrape_configs"].as_array_mut().unwrap() {
        job.as_object_mut().unwrap().remove("kubernetes_sd_configs").unwrap();
    }
    let temporary = std::env::temp_dir().join(format!("weft-promtool-{}", std::process::id()));
    let check = |name: &str, what: &str, text: &str| {
        let path = temporary.with_extension(name);
        write(&path, text);
        run(&["check", what, &path.to_string_lossy()]);
        std::fs::remove_file(path).unwrap();
    };
    check("config.yaml", "config", &serde_json::to_string(&config).unwrap());
    let queries = all_queries().into_iter().enumerate().map(|(number, query)| {
        let text = query.text.replace("$__rate_interval", "5m");
        serde_json::json!({"record": format!("q:{number}"), "expr": text})
    });
    let rules =
        serde_json::json!({"groups": [{"name": "all", "rules": queries.collect::<Vec<_>>()}]});
    check("queries.yaml", "rules", &rules.to_string());
}

#[allow(clippy::disallowed_methods, reason = "a test that asks another program")]
fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap();
}
