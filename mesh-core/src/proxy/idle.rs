//! A table of shared things that cost something to make: destinations, backends, ports. Each is
//! kept while anybody holds it and for a while after, so that short connections in a row find it.
//!
//! Law: at most as many as the bound, and none that was idle for longer than one and a half of
//! the idle time.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crate::runtime::Runtime;
use crate::time::Timestamp;

/// The table.
pub struct IdleTable<K, V> {
    runtime: Runtime,
    idle_timeout: Duration,
    entries_max: usize,
    entries: Mutex<BTreeMap<K, Entry<V>>>,
}

struct Entry<V> {
    value: Arc<V>,
    last_used: Timestamp,
}

/// The table holds as many as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many at once")]
pub struct Full;

impl<K: Ord + Send + 'static, V: Send + Sync + 'static> IdleTable<K, V> {
    /// An empty table. `name` is its sweeping task's.
    pub fn new(
        runtime: &Runtime,
        name: &'static str,
        idle_timeout: Duration,
        entries_max: usize,
    ) -> Arc<Self> {
        let table = Arc::new(Self {
            runtime: runtime.clone(),
            idle_timeout,
            entries_max,
            entries: Mutex::default(),
        });
        let weak = Arc::downgrade(&table);
        let sweeping = runtime.clone();
        let every = (idle_timeout / 2).max(Duration::from_millis(500));
        runtime.spawn(name, async move {
            loop {
                sweeping.sleep(every).await;
                let Some(table) = weak.upgrade() else { return };
                table.sweep();
            }
        });
        table
    }

    /// The value of a key, made where there is none.
    ///
    /// # Errors
    /// [`Full`] where there is none and no room for it.
    pub fn find(&self, key: K, make: impl FnOnce(&K) -> Arc<V>) -> Result<Arc<V>, Full> {
        let now = self.runtime.now();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(entry) = entries.get_mut(&key) {
            entry.last_used = now;
            return Ok(entry.value.clone());
        }
        if entries.len() >= self.entries_max {
            return Err(Full);
        }
        let value = make(&key);
        entries.insert(
            key,
            Entry {
                value: value.clone(),
                last_used: now,
            },
        );
        Ok(value)
    }

    fn sweep(&self) {
        let now = self.runtime.now();
        let mut dropped = Vec::new();
        let mut entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.retain(|_, entry| {
            if Arc::strong_count(&entry.value) > 1 {
                entry.last_used = now;
            }
            let stays = now.since(entry.last_used) < self.idle_timeout;
            if !stays {
                dropped.push(entry.value.clone());
            }
            stays
        });
        // Dropped outside of the lock: what they own may look things up in turn.
        drop(entries);
        drop(dropped);
    }
}
