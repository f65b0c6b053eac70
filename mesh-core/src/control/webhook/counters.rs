//! What webhooks count. The injector's names and labels are those of Linkerd's, but for the labels
//! that repeat a pod's annotations.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use super::validate::Checked;
use crate::control::injector::{Decision, Subject};

/// Sets of labels that are kept apart; what comes beyond is counted with an empty namespace.
const SETS_MAX: usize = 2_000;

/// Counts of reviews.
#[derive(Debug, Default)]
pub struct AdmissionCounters(Mutex<Counts>);

#[derive(Debug, Default)]
struct Counts {
    /// By `owner_kind`, `namespace`, `annotation_at`.
    requests: BTreeMap<(String, String, &'static str), u64>,
    /// By the same, `skip` and `skip_reason`.
    responses: BTreeMap<(String, String, &'static str, bool, &'static str), u64>,
    /// By webhook and whether it was allowed.
    validated: BTreeMap<(&'static str, bool), u64>,
}

impl AdmissionCounters {
    /// One answer of the injector.
    pub(super) fn injected(&self, subject: &Subject, decision: Decision) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let kind = subject.owner.as_ref().map_or(String::new(), |owner| owner.kind.to_lowercase());
        let (skip, reason) = match decision {
            Decision::Skipped(skip) => (true, skip.as_str()),
            _ => (false, ""),
        };
        let is_full = counts.responses.len() >= SETS_MAX;
        let namespace = if is_full { String::new() } else { subject.namespace.clone() };
        let at = subject.annotation_at;
        *counts.requests.entry((kind.clone(), namespace.clone(), at)).or_default() += 1;
        *counts.responses.entry((kind, namespace, at, skip, reason)).or_default() += 1;
    }

    /// One answer of a validator.
    pub(super) fn validated(&self, checked: Checked, is_allowed: bool) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let webhook = match checked {
            Checked::Policy => "policy",
            Checked::Profile => "profile",
        };
        *counts.validated.entry((webhook, is_allowed)).or_default() += 1;
    }

    /// Prometheus' text format; nothing where nothing was asked.
    pub fn render(&self) -> String {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        let mut family = |name: &str, help: &str, samples: Vec<(String, u64)>| {
            if !samples.is_empty() {
                let _ = writeln!(text, "# HELP {name} {help}\n# TYPE {name} counter");
            }
            for (labels, value) in samples {
                let _ = writeln!(text, "{name}{{{labels}}} {value}");
            }
        };
        let requests = counts.requests.iter().map(|((kind, namespace, at), count)| {
            let at = format!("owner_kind={kind:?},namespace={namespace:?},annotation_at={at:?}");
            (at, *count)
        });
        let name = "proxy_inject_admission_requests_total";
        family(name, "Reviews that the injector was asked for.", requests.collect());
        let responses =
            counts.responses.iter().map(|((kind, namespace, at, skip, reason), count)| {
                let labels = format!(
                    "owner_kind={kind:?},namespace={namespace:?},skip=\"{skip}\",\
                     skip_reason={reason:?},annotation_at={at:?}"
                );
                (labels, *count)
            });
        let name = "proxy_inject_admission_responses_total";
        family(name, "Reviews that the injector answered.", responses.collect());
        let validated = counts.validated.iter().map(|((webhook, allowed), count)| {
            (format!("webhook={webhook:?},allowed=\"{allowed}\""), *count)
        });
        family("weft_control_validations_total", "Resources checked.", validated.collect());
        text
    }
}
