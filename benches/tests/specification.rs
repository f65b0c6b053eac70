//! What `docs/SPECIFICATION.md` says that a number is enforced by exists, and every gate is in it.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use benches::budget::Gates;

const SPECIFICATION: &str = include_str!("../../docs/SPECIFICATION.md");
const BUDGET: &str = include_str!("../budget.toml");

/// The second cells of the tables' rows, each a list of `path: name` or `path`, in backticks.
fn enforcers() -> Vec<(&'static str, Vec<&'static str>)> {
    let rows = SPECIFICATION.lines().filter(|line| line.starts_with("| "));
    let cells = rows.filter_map(|row| row.trim_matches('|').split_once('|'));
    cells
        .filter(|(promise, _)| !matches!(promise.trim(), "promise" | "count"))
        .map(|(promise, enforcers)| {
            (promise.trim(), enforcers.split('`').skip(1).step_by(2).collect())
        })
        .collect()
}

#[test]
fn every_number_is_enforced_by_something_that_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut missing = Vec::new();
    for (promise, enforcers) in enforcers() {
        if enforcers.is_empty() {
            missing.push(format!("{promise}: enforced by nothing"));
        }
        for enforcer in enforcers {
            let (path, name) = enforcer.split_once(": ").unwrap_or((enforcer, ""));
            let text = fs::read_to_string(root.join(path)).unwrap_or_default();
            let is_there = match path.rsplit_once('.') {
                Some((_, "rs")) => !name.is_empty() && text.contains(&format!("fn {name}(")),
                Some((_, "toml")) => Gates::parse(&text).unwrap().of(name).is_some(),
                _ if path == ".ci/run" => text.contains(&format!("\nstep {name} ")),
                _ => text.contains("expect:"),
            };
            if !is_there {
                missing.push(format!("{promise}: there is no {enforcer}"));
            }
        }
    }
    assert!(missing.is_empty(), "docs/SPECIFICATION.md:\n{}", missing.join("\n"));
}

#[test]
fn every_gate_is_specified() {
    let named: BTreeSet<_> = enforcers()
        .into_iter()
        .flat_map(|(_, enforcers)| enforcers)
        .filter_map(|enforcer| enforcer.strip_prefix("benches/budget.toml: "))
        .collect();
    let gates = Gates::parse(BUDGET).unwrap();
    let unnamed: Vec<_> = gates.names().filter(|gate| !named.contains(gate)).collect();
    assert!(unnamed.is_empty(), "docs/SPECIFICATION.md says nothing of {unnamed:?}");
}
