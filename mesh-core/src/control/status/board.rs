//! Which statuses may have to be written: those of objects whose facts changed. Compiles them when
//! asked, one at a time. Kept by the control plane that holds the lease alone.
//!
//! Law: an object is due at most once, however often it changes, so that what waits is bounded by
//! the objects that there are.

use std::collections::{BTreeMap, BTreeSet};

use super::{CONTROLLER_NAME, compile, conditions, says_the_same};
use crate::control::config::MeshConfig;
use crate::control::index::{Fact, Index, View};
use crate::resource::{Kind, Object, ObjectRef};
use crate::time::WallTime;

/// How many conditions say the same, by kind, type and status.
pub(in crate::control) type ConditionCounts = BTreeMap<(Kind, String, String), u64>;

/// Statuses, and what they were compiled from.
#[derive(Debug, Default)]
pub(in crate::control) struct Board {
    is_kept: bool,
    due: BTreeSet<ObjectRef>,
    known: BTreeMap<ObjectRef, Known>,
    by_fact: BTreeMap<Fact, BTreeSet<ObjectRef>>,
}

#[derive(Debug)]
struct Known {
    facts: BTreeSet<Fact>,
    status: Object,
    /// The source keeps no statuses: it was told to people, and need not be told again.
    told: bool,
}

impl Board {
    /// Begins to keep statuses: all are due.
    pub(in crate::control) fn begin(&mut self, index: &Index) {
        let kinds = Kind::ALL.iter().filter(|kind| kind.has_status());
        self.due = kinds.flat_map(|kind| index.names(*kind)).cloned().collect();
        self.is_kept = true;
    }

    /// Keeps none any more.
    pub(in crate::control) fn end(&mut self) {
        *self = Self::default();
    }

    /// Takes in what changed.
    pub(in crate::control) fn changed(&mut self, facts: &BTreeSet<Fact>) {
        if !self.is_kept {
            return;
        }
        for fact in facts {
            self.due.extend(self.by_fact.get(fact).into_iter().flatten().cloned());
            if let Fact::Object(name) = fact
                && name.kind.has_status()
            {
                self.due.insert(name.clone());
            }
        }
    }

    /// An object is due again: what was to be written was not.
    pub(in crate::control) fn put_back(&mut self, name: &ObjectRef) {
        if self.is_kept {
            self.due.insert(name.clone());
        }
    }

    /// The source keeps no statuses, so that people were told instead.
    pub(in crate::control) fn told(&mut self, name: &ObjectRef) {
        if let Some(known) = self.known.get_mut(name) {
            known.told = true;
        }
    }

    /// The next object whose status is to be written, with that status.
    pub(in crate::control) fn next(
        &mut self,
        index: &Index,
        mesh: &MeshConfig,
        now: WallTime,
    ) -> Option<Object> {
        while let Some(name) = self.due.pop_first() {
            let view = View::new(index, mesh);
            let status = compile(&view, &name, now);
            let is_written = match (&status, view.find(&name)) {
                (Some(status), Some(object)) => says_the_same(status, object),
                _ => true,
            };
            let before = self.forget(&name);
            let Some(status) = status else {
                continue;
            };
            let facts = view.into_facts();
            for fact in &facts {
                self.by_fact.entry(fact.clone()).or_default().insert(name.clone());
            }
            let told =
                before.is_some_and(|known| known.told && says_the_same(&known.status, &status));
            let is_due = !is_written && !told;
            self.known.insert(name, Known { facts, status: status.clone(), told });
            if is_due {
                return Some(status);
            }
        }
        None
    }

    /// How many conditions say what.
    pub(in crate::control) fn counts(&self) -> ConditionCounts {
        let mut counts = ConditionCounts::new();
        for (name, known) in &self.known {
            for condition in conditions(&known.status) {
                let key = (name.kind, condition.type_.clone(), condition.status.clone());
                *counts.entry(key).or_default() += 1;
            }
        }
        counts
    }

    fn forget(&mut self, name: &ObjectRef) -> Option<Known> {
        let known = self.known.remove(name)?;
        for fact in &known.facts {
            if let Some(names) = self.by_fact.get_mut(fact) {
                names.remove(name);
                if names.is_empty() {
                    self.by_fact.remove(fact);
                }
            }
        }
        Some(known)
    }
}

/// Says to people what no status can say: of a source that keeps none.
pub(super) fn tell_people(object: &Object) {
    let name = object.object_ref();
    for condition in conditions(object) {
        let (type_, reason, message) = (&condition.type_, &condition.reason, &condition.message);
        match condition.status.as_str() {
            "True" => tracing::debug!(%name, type_, "holds"),
            _ => tracing::info!(%name, type_, reason, message, controller = CONTROLLER_NAME),
        }
    }
}
