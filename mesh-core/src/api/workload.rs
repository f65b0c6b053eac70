//! Who asks: the texts that an injected proxy sends with its questions, read.
//!
//! Both come from the proxy's environment and were put there by an injector, ours or Linkerd's.

use std::fmt;

use serde::Deserialize;

use super::codec::DecodeError;

/// A workload that asks for policy: `{"ns":…,"pod":…}`, `{"ns":…,"external_workload":…}` or the
/// older `ns:pod`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Workload {
    /// Its namespace.
    pub namespace: String,
    /// What it is there.
    pub kind: WorkloadKind,
}

/// What a workload is.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum WorkloadKind {
    /// A Pod of this name.
    Pod(String),
    /// An ExternalWorkload of this name.
    External(String),
}

/// Where a proxy that asks for endpoints or a profile is: `{"ns":…,"nodeName":…,"pod":…}`. What is
/// not known is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
#[serde(default)]
pub struct ContextToken {
    /// Namespace.
    #[serde(rename = "ns")]
    pub namespace: String,
    /// Node.
    #[serde(rename = "nodeName")]
    pub node: String,
    /// Pod.
    pub pod: String,
}

/// Longest text read, in bytes: three names in JSON, every character of them escaped.
const TEXT_BYTES_MAX: usize = 8 * 1024;

/// Longest name, in bytes: Kubernetes has none longer.
const NAME_BYTES_MAX: usize = 253;

impl Workload {
    /// A pod.
    pub fn pod(namespace: &str, name: &str) -> Self {
        Self { namespace: namespace.to_string(), kind: WorkloadKind::Pod(name.to_string()) }
    }

    /// Its name, whatever it is.
    pub fn name(&self) -> &str {
        match &self.kind {
            WorkloadKind::Pod(name) | WorkloadKind::External(name) => name,
        }
    }

    /// Reads any of the three forms.
    ///
    /// # Errors
    /// [`DecodeError`] where the text is none of them or lacks namespace or name.
    pub fn parse(text: &str) -> Result<Self, DecodeError> {
        #[derive(Default, Deserialize)]
        #[serde(default)]
        struct Json {
            ns: String,
            pod: String,
            external_workload: String,
        }
        if text.len() > TEXT_BYTES_MAX {
            return Err(invalid("is too long"));
        }
        let (namespace, kind) = if text.starts_with('{') {
            let json: Json = serde_json::from_str(text).map_err(DecodeError::new)?;
            let kind = match (json.pod.is_empty(), json.external_workload.is_empty()) {
                (false, true) => WorkloadKind::Pod(json.pod),
                (true, false) => WorkloadKind::External(json.external_workload),
                _ => return Err(invalid("must name one of pod and external_workload")),
            };
            (json.ns, kind)
        } else {
            match text.split_once(':') {
                Some((ns, pod)) if !pod.is_empty() && !pod.contains(':') => {
                    (ns.to_string(), WorkloadKind::Pod(pod.to_string()))
                }
                _ => return Err(invalid(format!("{text:?} is neither JSON nor ns:pod"))),
            }
        };
        if namespace.is_empty() {
            return Err(invalid("has no namespace"));
        }
        let workload = Self { namespace, kind };
        if workload.namespace.len().max(workload.name().len()) > NAME_BYTES_MAX {
            return Err(invalid(format!("has a name longer than {NAME_BYTES_MAX} bytes")));
        }
        Ok(workload)
    }
}

impl fmt::Display for Workload {
    /// The form that is sent: JSON.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = match self.kind {
            WorkloadKind::Pod(_) => "pod",
            WorkloadKind::External(_) => "external_workload",
        };
        let json = serde_json::json!({ "ns": self.namespace, key: self.name() });
        json.fmt(f)
    }
}

impl ContextToken {
    /// Reads the JSON form or the older `ns:NAMESPACE`. A token only refines answers, so one that
    /// cannot be read counts as empty, as it does for Linkerd; so does a name that is too long.
    pub fn parse(text: &str) -> Self {
        if text.is_empty() || text.len() > TEXT_BYTES_MAX {
            return Self::default();
        }
        let mut token = Self::parse_any(text);
        for name in [&mut token.namespace, &mut token.node, &mut token.pod] {
            if name.len() > NAME_BYTES_MAX {
                name.clear();
            }
        }
        token
    }

    fn parse_any(text: &str) -> Self {
        serde_json::from_str(text).unwrap_or_else(|_| Self {
            namespace: text
                .strip_prefix("ns:")
                .filter(|namespace| !namespace.contains(':'))
                .unwrap_or_default()
                .to_string(),
            ..Self::default()
        })
    }
}

impl fmt::Display for ContextToken {
    /// The form that is sent: JSON, without what is not known.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = [("ns", &self.namespace), ("nodeName", &self.node), ("pod", &self.pod)];
        let json: serde_json::Map<_, _> = known
            .into_iter()
            .filter(|(_, value)| !value.is_empty())
            .map(|(key, value)| (key.to_string(), value.as_str().into()))
            .collect();
        serde_json::Value::Object(json).fmt(f)
    }
}

fn invalid(reason: impl fmt::Display) -> DecodeError {
    DecodeError::new(reason).at("workload")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn workloads_are_read_in_three_forms() {
        let web = Ok(Workload::pod("emojivoto", "web-1"));
        assert_eq!(Workload::parse(r#"{"ns":"emojivoto","pod":"web-1"}"#), web);
        assert_eq!(Workload::parse("emojivoto:web-1"), web);
        let external = Workload::parse(r#"{"ns":"vms","external_workload":"db"}"#).unwrap();
        assert_eq!(external.kind, WorkloadKind::External("db".into()));
        for wrong in [
            "",
            "web",
            ":web",
            "ns:",
            "a:b:c",
            "{",
            "{}",
            r#"{"ns":"a"}"#,
            r#"{"pod":"a"}"#,
            r#"{"ns":"a","pod":"b","external_workload":"c"}"#,
        ] {
            assert!(Workload::parse(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn names_have_a_bound_so_that_what_was_read_can_be_sent_on() {
        let long = "\u{1}".repeat(NAME_BYTES_MAX + 1);
        assert!(Workload::parse(&format!("ns:{long}")).is_err());
        assert!(Workload::parse(&format!("{long}:web")).is_err());
        assert_eq!(ContextToken::parse(&format!("ns:{long}")), ContextToken::default());
        let longest = "\u{1}".repeat(NAME_BYTES_MAX);
        let workload = Workload::parse(&format!("{longest}:{longest}")).unwrap();
        assert_eq!(Workload::parse(&workload.to_string()), Ok(workload));
        let token =
            ContextToken { namespace: longest.clone(), node: longest.clone(), pod: longest };
        assert_eq!(ContextToken::parse(&token.to_string()), token);
    }

    #[test]
    fn context_tokens_are_read_leniently() {
        let full = ContextToken::parse(r#"{"ns":"a","nodeName":"n1","pod":"p","more":1}"#);
        assert_eq!(full.node, "n1");
        assert_eq!(full.to_string(), r#"{"nodeName":"n1","ns":"a","pod":"p"}"#);
        assert_eq!(ContextToken::parse("ns:emojivoto").namespace, "emojivoto");
        for unreadable in ["", "{", "x", "ns:a:b", "[]", r#"{"ns":7}"#] {
            assert_eq!(ContextToken::parse(unreadable), ContextToken::default());
        }
    }

    proptest! {
        #[test]
        fn what_is_written_reads_back(ns in ".{1,20}", name in ".{1,20}", external: bool) {
            let kind = if external { WorkloadKind::External } else { WorkloadKind::Pod };
            let workload = Workload { namespace: ns.clone(), kind: kind(name.clone()) };
            prop_assert_eq!(Workload::parse(&workload.to_string()), Ok(workload));
            let token = ContextToken { namespace: ns, node: String::new(), pod: name };
            prop_assert_eq!(ContextToken::parse(&token.to_string()), token);
        }

        #[test]
        fn any_text_is_read_or_refused(text: String) {
            let _ = Workload::parse(&text);
            let _ = ContextToken::parse(&text);
        }
    }
}
