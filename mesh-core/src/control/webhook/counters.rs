//! What webhooks count. The injector's names and labels are those of Linkerd's, but for the labels
//! that repeat a pod's annotations.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::{Mutex, PoisonError};

use super::validate::Checked;
use crate::control::injector::{Decision, Subject};
use crate::telemetry::format::{Format, Kind};
use crate::telemetry::labels::{LabelWriter, Named, OTHER};

/// Sets of labels that are kept apart; what comes beyond is counted together, as `other`.
const SETS_MAX: usize = 2_000;

const FOLDED_HELP: &str =
    "How often labels were counted under `other` because their group was full.";

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
    /// How often labels were counted as `other`.
    folded: u64,
}

impl AdmissionCounters {
    /// One answer of the injector.
    pub(super) fn injected(&self, subject: &Subject, decision: Decision) {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut kind =
            subject.owner.as_ref().map_or(String::new(), |owner| owner.kind.to_lowercase());
        let mut namespace = subject.namespace.clone();
        let at = subject.annotation_at;
        let (skip, reason) = match decision {
            Decision::Skipped(skip) => (true, skip.as_str()),
            _ => (false, ""),
        };
        let mut key = (kind.clone(), namespace.clone(), at, skip, reason);
        if counts.responses.len() >= SETS_MAX && !counts.responses.contains_key(&key) {
            counts.folded += 1;
            (kind, namespace) = (OTHER.to_string(), OTHER.to_string());
            key = (kind.clone(), namespace.clone(), at, skip, reason);
        }
        *counts.requests.entry((kind, namespace, at)).or_default() += 1;
        *counts.responses.entry(key).or_default() += 1;
    }

    /// With one of everything.
    #[cfg(test)]
    pub(in crate::control) fn test() -> Self {
        let counters = Self::default();
        let subject = Subject {
            kind: "Pod".into(),
            namespace: "shop".into(),
            owner: None,
            annotation_at: "namespace",
        };
        counters.injected(&subject, Decision::Injected);
        counters.validated(Checked::Policy, true);
        counters
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

    /// As text; nothing where nothing was asked.
    pub fn render(&self, format: Format) -> String {
        let counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut text = String::new();
        let mut family = |name: &str, help: &str, samples: Vec<(String, u64)>| {
            if !samples.is_empty() {
                format.write_head(&mut text, name, Kind::Counter, help, None);
            }
            for (labels, value) in samples {
                let _ = writeln!(text, "{name}{{{labels}}} {value}");
            }
        };
        let requests = counts.requests.iter().map(|((kind, namespace, at), count)| {
            let labels =
                [("owner_kind", kind.as_str()), ("namespace", namespace), ("annotation_at", at)];
            (LabelWriter::print(&Named(labels)), *count)
        });
        let name = "proxy_inject_admission_requests_total";
        family(name, "Reviews that the injector was asked for.", requests.collect());
        let responses =
            counts.responses.iter().map(|((kind, namespace, at, skip, reason), count)| {
                let labels = [
                    ("owner_kind", kind.as_str()),
                    ("namespace", namespace),
                    ("skip", if *skip { "true" } else { "false" }),
                    ("skip_reason", reason),
                    ("annotation_at", at),
                ];
                (LabelWriter::print(&Named(labels)), *count)
            });
        let name = "proxy_inject_admission_responses_total";
        family(name, "Reviews that the injector answered.", responses.collect());
        let folded = (!counts.responses.is_empty())
            .then(|| ("group=\"proxy_inject_admission\"".to_string(), counts.folded));
        let name = "weft_metrics_label_sets_folded_total";
        family(name, FOLDED_HELP, folded.into_iter().collect());
        let validated = counts.validated.iter().map(|((webhook, allowed), count)| {
            (format!("webhook={webhook:?},allowed=\"{allowed}\""), *count)
        });
        family("weft_control_validations_total", "Resources checked.", validated.collect());
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn namespaces_beyond_the_bound_are_counted_together() {
        let counters = AdmissionCounters::default();
        let review = |namespace: String| {
            let subject =
                Subject { kind: String::new(), namespace, owner: None, annotation_at: "" };
            counters.injected(&subject, Decision::Injected);
        };
        (0..SETS_MAX + 3).for_each(|n| review(format!("ns-{n}")));
        review("ns-0".into());
        let text = counters.render(Format::Text);
        let requests = "proxy_inject_admission_requests_total{owner_kind=";
        assert!(
            text.contains(&format!(
                "{requests}\"other\",namespace=\"other\",annotation_at=\"\"}} 3"
            ))
        );
        assert!(
            text.contains(&format!("{requests}\"\",namespace=\"ns-0\",annotation_at=\"\"}} 2"))
        );
        assert!(text.contains("folded_total{group=\"proxy_inject_admission\"} 3"), "{text}");
        assert_eq!(text.matches(requests).count(), SETS_MAX + 1);
    }
}
