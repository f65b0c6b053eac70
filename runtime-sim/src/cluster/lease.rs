//! Leases, as an API server keeps them: it compares versions, and nothing else. Who may take one is
//! for the candidates to know.

use std::collections::BTreeMap;

use mesh_core::runtime::cluster::{ClusterError, Lease};

#[derive(Debug, Default)]
pub(super) struct Leases {
    kept: BTreeMap<String, Lease>,
    writes: u64,
    /// Times a lease went from one holder to another, deletions included.
    transitions: BTreeMap<String, u32>,
    /// Who held each last.
    last: BTreeMap<String, String>,
}

impl Leases {
    /// Makes or replaces a lease, where it is still of the version that the writer knows.
    pub(super) fn write(&mut self, name: &str, lease: Lease) -> Result<Lease, ClusterError> {
        let version = self.kept.get(name).and_then(|known| known.version.clone());
        if version != lease.version {
            return Err(ClusterError::Conflict(format!("lease {name}")));
        }
        Ok(self.put(name, lease))
    }

    /// Replaces a lease, whatever it was.
    pub(super) fn put(&mut self, name: &str, mut lease: Lease) -> Lease {
        self.writes += 1;
        lease.version = Some(self.writes.to_string());
        self.kept.insert(name.to_owned(), lease.clone());
        if !lease.holder.is_empty() {
            let last = self.last.insert(name.to_owned(), lease.holder.clone());
            if last.is_some_and(|last| last != lease.holder) {
                *self.transitions.entry(name.to_owned()).or_default() += 1;
            }
        }
        lease
    }

    pub(super) fn take_away(&mut self, name: &str) -> Option<Lease> {
        self.kept.remove(name)
    }

    pub(super) fn take_all(&mut self) -> usize {
        std::mem::take(&mut self.kept).len()
    }

    pub(super) fn find(&self, name: &str) -> Option<Lease> {
        self.kept.get(name).cloned()
    }

    /// Every lease, by name.
    pub(super) fn all(&self) -> impl Iterator<Item = (&String, &Lease)> {
        self.kept.iter()
    }

    pub(super) fn transitions(&self, name: &str) -> u32 {
        self.transitions.get(name).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lease(holder: &str) -> Lease {
        Lease { holder: holder.to_owned(), ..Lease::default() }
    }

    #[test]
    fn a_lease_is_replaced_by_whoever_knows_its_version() {
        let mut leases = Leases::default();
        let first = leases.write("write", lease("a")).expect("there was none");
        assert!(leases.write("write", lease("b")).is_err());
        let second = leases.write("write", Lease { holder: "b".to_owned(), ..first.clone() });
        assert_eq!(second.map(|lease| lease.holder), Ok("b".to_owned()));
        assert!(leases.write("write", first).is_err());
        assert_eq!(leases.transitions("write"), 1);
    }

    #[test]
    fn leases_of_other_names_are_apart() {
        let mut leases = Leases::default();
        leases.write("one", lease("a")).expect("there was none");
        leases.write("two", lease("b")).expect("there was none");
        leases.take_away("one");
        assert_eq!(leases.find("one"), None);
        assert_eq!(leases.find("two").map(|lease| lease.holder), Some("b".to_owned()));
        leases.write("one", lease("b")).expect("it was taken away");
        assert_eq!(leases.transitions("one"), 1, "it is remembered whose it was");
    }
}
