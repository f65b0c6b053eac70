//! Checks of what is around a control plane: the nodes' clocks, Linkerd's CNI plugin, extensions.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use mesh_core::time::WallTime;
use serde_json::Value;

use super::facts::{CNI_DAEMONSETS, EXTENSION_PODS, Facts, NODES, Question};
use super::judge::{text, unknown, values};
use super::report::{Category, Fault};
use super::workloads::{healthy, is_alive, name, told};

/// What a node's clock may be ahead of this host's.
const AHEAD_MAX: Duration = Duration::from_secs(60);
/// Kubelets tell every five minutes at least that they are there.
const SILENT_MAX: Duration = Duration::from_secs(6 * 60);

/// Nodes say when they were last there, by their own clocks.
pub(super) fn clocks(facts: &Facts, now: WallTime) -> Result<(), Fault> {
    let nodes = facts.items(NODES).map_err(unknown)?;
    let mut faults = Vec::new();
    for node in nodes {
        let conditions = node["status"]["conditions"].as_array().into_iter().flatten();
        let ready = conditions.into_iter().find(|condition| condition["type"] == "Ready");
        let Some(ready) = ready.filter(|ready| ready["status"] == "True") else { continue };
        let told = serde_json::from_value::<Time>(ready["lastHeartbeatTime"].clone());
        let Some(told) = told.ok().and_then(|time| u64::try_from(time.0.as_second()).ok()) else {
            continue;
        };
        let told = WallTime::from_unix_secs(told);
        if told > now + AHEAD_MAX {
            faults.push(format!("{}: its clock is ahead of this host's", name(node)));
        } else if told + SILENT_MAX < now {
            faults.push(format!("{}: it was last there at {told}, by its clock", name(node)));
        }
    }
    told(faults, |fault| {
        Fault::warning(
            fault,
            "let the nodes, and this host, keep time by NTP: certificates need it",
        )
    })
}

/// `linkerd-cni-plugin`, where the installation relies on it.
pub(super) fn cni(question: &Question, facts: &Facts) -> Option<Category> {
    if !values(question, facts).is_ok_and(|values| values.cni_enabled) {
        return None;
    }
    let mut category = Category::new("linkerd-cni-plugin");
    let install = "install Linkerd's CNI plugin, or set cniEnabled=false";
    let sets = match facts.items(CNI_DAEMONSETS) {
        Ok(sets) => sets,
        Err(error) => {
            category.check("cni plugin DaemonSet exists", Err(unknown(error)));
            return Some(category);
        }
    };
    let exists = match sets {
        [] => Err(Fault::error("there is no DaemonSet of the CNI plugin", install)),
        _ => Ok(()),
    };
    if category.check("cni plugin DaemonSet exists", exists) {
        let number = |set: &Value, field: &str| set["status"][field].as_u64().unwrap_or(0);
        let waiting = sets.iter().filter_map(|set| {
            let (ready, wanted) =
                (number(set, "numberReady"), number(set, "desiredNumberScheduled"));
            (ready < wanted).then(|| format!("{}: ready on {ready} of {wanted} nodes", name(set)))
        });
        let ready = told(waiting.collect(), |fault| {
            Fault::error(fault, "see the logs of these pods: pods on such nodes do not start")
                .may_pass()
        });
        category.check("cni plugin pods are running on all nodes", ready);
    }
    Some(category)
}

/// `linkerd-extension-checks`, where there are extensions.
pub(super) fn extensions(facts: &Facts) -> Option<Category> {
    let mut category = Category::new("linkerd-extension-checks");
    let pods = match facts.items(EXTENSION_PODS) {
        Ok([]) => return None,
        Ok(pods) => pods,
        Err(error) => {
            category.check("extensions' pods can be listed", Err(unknown(error)));
            return Some(category);
        }
    };
    let mut by_name: BTreeMap<&str, Vec<&Value>> = BTreeMap::new();
    for pod in pods.iter().filter(|pod| is_alive(pod)) {
        by_name.entry(text(pod, "/metadata/labels/linkerd.io~1extension")).or_default().push(pod);
    }
    for (extension, pods) in by_name {
        category.check(format!("{extension} extension's pods are running"), healthy(&pods));
    }
    Some(category)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::facts::Found;
    use super::*;

    fn facts(path: &str, items: Value) -> Facts {
        let mut facts = Facts::default();
        facts.found.insert(path.to_string(), Found::Object(json!({"items": items})));
        facts
    }

    #[test]
    fn clocks_that_are_ahead_and_nodes_that_are_silent_are_told() {
        let node = |name: &str, at: &str| {
            let ready = json!({"type": "Ready", "status": "True", "lastHeartbeatTime": at});
            json!({"metadata": {"name": name}, "status": {"conditions": [ready]}})
        };
        let now = WallTime::from_unix_secs(1_767_225_600); // 2026-01-01
        let fine = facts(NODES, json!([node("a", "2025-12-31T23:56:00Z"), {"status": {}}]));
        assert_eq!(clocks(&fine, now), Ok(()));
        for (wrong, what) in [("2026-01-01T00:02:00Z", "ahead"), ("2025-12-31T23:50:00Z", "last")] {
            let fault = clocks(&facts(NODES, json!([node("b", wrong)])), now).unwrap_err();
            assert!(fault.is_warning && fault.error.contains(what), "{fault:?}");
        }
    }

    #[test]
    fn extensions_are_told_where_there_are_any() {
        assert_eq!(extensions(&facts(EXTENSION_PODS, json!([]))), None);
        let pod = json!({
            "metadata": {"name": "tap", "labels": {"linkerd.io/extension": "viz"}},
            "status": {"phase": "Running", "containerStatuses": [{"name": "tap", "ready": false}]},
        });
        let category = extensions(&facts(EXTENSION_PODS, json!([pod]))).unwrap();
        assert_eq!(category.checks[0].description, "viz extension's pods are running");
        assert!(category.checks[0].fault.is_some());
    }
}
