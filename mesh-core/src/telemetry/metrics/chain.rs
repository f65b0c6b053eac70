//! A small append-only map that is read without locks: for labels that only a response tells.

use std::sync::OnceLock;

/// Entries in order of arrival, at most `ENTRIES_MAX`; what comes later shares one entry more, kept
/// under the key it is given for that. A handful of statuses makes up nearly all traffic, so that a
/// walk from the start finds its entry at once.
#[derive(Debug)]
pub(crate) struct Chain<K, V> {
    first: Link<K, V>,
}

/// Entries of a chain. A peer that answers with ever new statuses fills no more.
pub(crate) const ENTRIES_MAX: usize = 64;

type Link<K, V> = OnceLock<Box<Entry<K, V>>>;

#[derive(Debug)]
struct Entry<K, V> {
    key: K,
    value: V,
    next: Link<K, V>,
}

impl<K, V> Default for Chain<K, V> {
    fn default() -> Self {
        Self { first: OnceLock::new() }
    }
}

impl<K: Eq + Clone, V> Chain<K, V> {
    /// The value under `key`, made by `new` where there is none; under `overflow` where the chain
    /// is full.
    pub(crate) fn entry(&self, key: &K, overflow: &K, new: impl Fn() -> V) -> &V {
        let mut link = &self.first;
        for _ in 0..ENTRIES_MAX {
            let entry = link.get_or_init(|| Entry::boxed(key, new()));
            if entry.key == *key {
                return &entry.value;
            }
            link = &entry.next;
        }
        // It may have come as a key of its own before; one key never has two entries.
        if let Some((_, value)) = self.iter().find(|(key, _)| *key == overflow) {
            return value;
        }
        &link.get_or_init(|| Entry::boxed(overflow, new())).value
    }

    /// Keys and values, in order of arrival.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&K, &V)> {
        let mut link = &self.first;
        std::iter::from_fn(move || {
            let entry = link.get()?;
            link = &entry.next;
            Some((&entry.key, &entry.value))
        })
    }
}

impl<K: Clone, V> Entry<K, V> {
    fn boxed(key: &K, value: V) -> Box<Self> {
        Box::new(Self { key: key.clone(), value, next: OnceLock::new() })
    }
}

#[cfg(test)]
mod tests {
    use super::super::Counter;
    use super::*;

    #[test]
    fn equal_keys_share_a_value_and_later_ones_share_the_overflow() {
        let chain: Chain<u32, Counter> = Chain::default();
        for round in 0..3 {
            for key in 0..200 {
                chain.entry(&key, &u32::MAX, Counter::default).increment();
            }
            assert_eq!(chain.iter().count(), ENTRIES_MAX + 1, "round {round}");
        }
        let total: u64 = chain.iter().map(|(_, counter)| counter.value()).sum();
        assert_eq!(total, 600);
        let (last, counter) = chain.iter().last().unwrap();
        assert_eq!(*last, u32::MAX);
        assert_eq!(counter.value(), 3 * (200 - ENTRIES_MAX as u64));
    }
    #[test]
    fn a_key_that_is_also_the_overflow_has_one_entry() {
        let chain: Chain<u32, Counter> = Chain::default();
        for key in 0..200 {
            chain.entry(&key, &7, Counter::default).increment();
        }
        assert_eq!(chain.iter().count(), ENTRIES_MAX);
        let sevens: Vec<_> = chain.iter().filter(|(key, _)| **key == 7).collect();
        assert_eq!(sevens.len(), 1);
        assert_eq!(sevens[0].1.value(), 1 + 200 - ENTRIES_MAX as u64);
    }
}
