//! Metric labels that the control plane gives: names and values, shared, in order of name.

use std::collections::BTreeMap;
use std::sync::Arc;

/// An immutable, shared, ordered set of labels. Cloning shares it.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Labels(Arc<BTreeMap<String, String>>);

impl Labels {
    /// The value of a label.
    pub fn value(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(String::as_str)
    }

    /// Names and values, in order of name.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(name, value)| (name.as_str(), value.as_str()))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// These labels and `more`; where both name one, `more` wins.
    pub fn extended(&self, more: &Self) -> Self {
        if more.is_empty() {
            return self.clone();
        }
        if self.is_empty() {
            return more.clone();
        }
        let mut all = BTreeMap::clone(&self.0);
        all.extend(more.0.iter().map(|(name, value)| (name.clone(), value.clone())));
        Self(Arc::new(all))
    }
}

impl From<BTreeMap<String, String>> for Labels {
    fn from(labels: BTreeMap<String, String>) -> Self {
        Self(Arc::new(labels))
    }
}

impl<N: Into<String>, V: Into<String>> FromIterator<(N, V)> for Labels {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(labels: I) -> Self {
        Self(Arc::new(labels.into_iter().map(|(n, v)| (n.into(), v.into())).collect()))
    }
}
