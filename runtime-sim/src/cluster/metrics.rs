//! What an API server shows of itself: whose its leases are, who wrote statuses, what they
//! say, and what it was told happened.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use mesh_core::resource::Kind;

use super::State;

pub(super) fn render(state: &State) -> String {
    let mut text = String::new();
    for (name, lease) in state.leases.all().filter(|(_, lease)| !lease.holder.is_empty()) {
        let holder = &lease.holder;
        let _ = writeln!(text, "apiserver_lease_holder{{name=\"{name}\",holder=\"{holder}\"}} 1");
        let transitions = state.leases.transitions(name);
        let _ = writeln!(text, "apiserver_lease_transitions{{name=\"{name}\"}} {transitions}");
    }
    let strays: u64 = state.writes.values().map(|(_, strays)| strays).sum();
    let _ = writeln!(text, "apiserver_stray_writes_total {strays}");
    for (client, (writes, _)) in &state.writes {
        let _ = writeln!(text, "apiserver_status_writes_total{{client=\"{client}\"}} {writes}");
    }
    let mut events: BTreeMap<_, u64> = BTreeMap::new();
    for event in &state.events {
        let about = (&event.reason, &event.kind, &event.namespace, &event.name);
        *events.entry(about).or_default() += 1;
    }
    for ((reason, kind, namespace, name), count) in events {
        let _ = writeln!(
            text,
            "apiserver_events{{reason=\"{reason}\",kind=\"{kind}\",namespace=\"{namespace}\",\
             name=\"{name}\"}} {count}"
        );
    }
    for kind in Kind::ALL.iter().filter(|kind| kind.has_status()) {
        for object in state.store.list(*kind) {
            let name = object.object_ref();
            for condition in object.conditions() {
                let _ = writeln!(
                    text,
                    "apiserver_conditions{{kind=\"{kind}\",namespace=\"{}\",name=\"{}\",\
                     type=\"{}\",status=\"{}\",reason=\"{}\"}} 1",
                    name.namespace, name.name, condition.type_, condition.status, condition.reason
                );
            }
        }
    }
    text
}
