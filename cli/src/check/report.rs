//! What was checked, and how it is told: as a table, as the faults alone, or as JSON. The forms are
//! Linkerd's.

use std::fmt::Write as _;

use serde_json::{Map, Value, json};

/// Checks that belong together.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Category {
    /// `linkerd-identity`.
    pub(super) name: &'static str,
    pub(super) checks: Vec<Check>,
}

/// One thing that should hold.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Check {
    /// What should hold.
    pub(super) description: String,
    /// What does not.
    pub(super) fault: Option<Fault>,
}

/// What does not hold.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Fault {
    /// It should be seen to, and nothing fails for it yet.
    pub(super) is_warning: bool,
    /// It may be so because it needs time.
    pub(super) may_pass: bool,
    /// What is wrong.
    pub(super) error: String,
    /// What to do.
    pub(super) hint: String,
}

impl Fault {
    /// Something that does not work.
    pub(super) fn error(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { is_warning: false, may_pass: false, error: error.into(), hint: hint.into() }
    }

    /// Something to see to.
    pub(super) fn warning(error: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { is_warning: true, ..Self::error(error, hint) }
    }

    /// The same, where waiting may help.
    pub(super) fn may_pass(self) -> Self {
        Self { may_pass: true, ..self }
    }
}

impl Category {
    pub(super) fn new(name: &'static str) -> Self {
        Self { name, checks: Vec::new() }
    }

    /// Adds a check. Whether what it says holds.
    pub(super) fn check(
        &mut self,
        description: impl Into<String>,
        result: Result<(), Fault>,
    ) -> bool {
        let fault = result.err();
        let holds = fault.as_ref().is_none_or(|fault| fault.is_warning);
        self.checks.push(Check { description: description.into(), fault });
        holds
    }
}

/// How it all went.
pub(super) fn succeeded(categories: &[Category]) -> bool {
    faults(categories).all(|fault| fault.is_warning)
}

/// Whether waiting may help.
pub(super) fn may_pass(categories: &[Category]) -> bool {
    let mut errors = faults(categories).filter(|fault| !fault.is_warning).peekable();
    errors.peek().is_some() && errors.all(|fault| fault.may_pass)
}

fn faults(categories: &[Category]) -> impl Iterator<Item = &Fault> {
    categories.iter().flat_map(|category| &category.checks).filter_map(|check| check.fault.as_ref())
}

/// A heading for each category and a line for each check; `short`: faults alone.
pub(super) fn table(categories: &[Category], short: bool) -> String {
    let mut text = String::new();
    for Category { name, checks } in categories {
        let told = checks.iter().filter(|check| !short || check.fault.is_some());
        let mut told = told.peekable();
        if told.peek().is_none() {
            continue;
        }
        // Writing to a string does not fail.
        let _ = writeln!(text, "{name}\n{}", "-".repeat(name.len()));
        for Check { description, fault } in told {
            let Some(fault) = fault else {
                let _ = writeln!(text, "√ {description}");
                continue;
            };
            let mark = if fault.is_warning { '‼' } else { '×' };
            let _ = writeln!(text, "{mark} {description}");
            for line in fault.error.lines() {
                let _ = writeln!(text, "    {line}");
            }
            if !fault.hint.is_empty() {
                let _ = writeln!(text, "    to do: {}", fault.hint);
            }
        }
        text.push('\n');
    }
    let mark = if succeeded(categories) { '√' } else { '×' };
    let _ = writeln!(text, "Status check results are {mark}");
    text
}

/// Linkerd's JSON.
pub(super) fn json(categories: &[Category]) -> Value {
    let check = |check: &Check| {
        let mut told = Map::from_iter([("description".into(), check.description.as_str().into())]);
        let result = match &check.fault {
            None => "success",
            Some(fault) => {
                told.insert("error".into(), fault.error.as_str().into());
                if !fault.hint.is_empty() {
                    told.insert("hint".into(), fault.hint.as_str().into());
                }
                if fault.is_warning { "warning" } else { "error" }
            }
        };
        told.insert("result".into(), result.into());
        Value::from(told)
    };
    let category = |category: &Category| {
        let checks: Vec<_> = category.checks.iter().map(check).collect();
        json!({"categoryName": category.name, "checks": checks})
    };
    let categories_json: Vec<_> = categories.iter().map(category).collect();
    json!({"success": succeeded(categories), "categories": categories_json})
}
