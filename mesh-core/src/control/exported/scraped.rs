//! Labels that scraping adds: what a scrape configuration makes of a target's own.

use std::collections::BTreeMap;

use regex_lite::Regex;
use serde_json::Value;

/// One step of relabelling, from Prometheus' configuration or from a PodMonitor.
struct Step {
    action: String,
    sources: Vec<String>,
    regex: Regex,
    target: String,
    replacement: String,
}

/// What is said of a meshed pod to begin with. `kind`: what owns it.
pub(super) fn pod(kind: &str, container: &str, port: &str) -> BTreeMap<String, String> {
    let label = |name: &str| format!("pod_label_{name}");
    let meta = [
        ("namespace".to_string(), "shop"),
        ("pod_name".to_string(), "web-1"),
        ("pod_container_name".to_string(), container),
        ("pod_container_port_name".to_string(), port),
        (label("app"), "web"),
        (label("linkerd_io_control_plane_ns"), "linkerd"),
        (label("linkerd_io_workload_ns"), "shop"),
        (label(&format!("linkerd_io_proxy_{kind}")), "web"),
    ];
    let meta = meta.map(|(name, value)| (format!("__meta_kubernetes_{name}"), value.to_string()));
    meta.into_iter().collect()
}

/// The labels that a target has once it is scraped; none where it is not.
pub(super) fn relabelled(
    steps: &[Value],
    mut labels: BTreeMap<String, String>,
) -> Option<BTreeMap<String, String>> {
    for step in steps.iter().map(Step::read) {
        let source = step.sources.iter().map(|name| labels.get(name).map_or("", String::as_str));
        let source = source.collect::<Vec<_>>().join(";");
        let is_match = step.regex.is_match(&source);
        match step.action.as_str() {
            "keep" if !is_match => return None,
            "drop" if is_match => return None,
            "keep" | "drop" => {}
            "replace" if is_match => {
                let value = step.regex.replace(&source, step.replacement.as_str()).into_owned();
                labels.insert(step.target, value);
                labels.retain(|_, value| !value.is_empty());
            }
            "replace" => {}
            "labelmap" => {
                let found: Vec<_> =
                    labels.iter().filter(|(name, _)| step.regex.is_match(name)).collect();
                let renamed = found.into_iter().map(|(name, value)| {
                    let to = step.regex.replace(name, step.replacement.as_str());
                    (to.into_owned(), value.clone())
                });
                let renamed: Vec<_> = renamed.collect();
                labels.extend(renamed);
            }
            "labeldrop" => labels.retain(|name, _| !step.regex.is_match(name)),
            action => panic!("{action} is not known here"),
        }
    }
    labels.retain(|name, _| !name.starts_with("__"));
    Some(labels)
}

impl Step {
    fn read(value: &Value) -> Self {
        let text = |names: [&str; 2], default: &str| {
            let found = names.iter().find_map(|name| value[*name].as_str());
            found.unwrap_or(default).to_string()
        };
        let sources = [&value["source_labels"], &value["sourceLabels"]];
        let sources = sources.into_iter().find_map(Value::as_array).into_iter().flatten();
        let regex = text(["regex", "regex"], "(.*)");
        Self {
            action: text(["action", "action"], "replace"),
            sources: sources.map(|name| name.as_str().unwrap().to_string()).collect(),
            regex: Regex::new(&format!("^(?:{})$", regex.trim_matches(['^', '$']))).unwrap(),
            target: text(["target_label", "targetLabel"], ""),
            // `$1_x` means the first group there, and a group of that name here.
            replacement: text(["replacement", "replacement"], "$1").replace("$1", "${1}"),
        }
    }
}
