//! A table of shared things that cost something to make: destinations, backends, ports. Each is
//! kept while anybody holds it and for a while after, so that short connections in a row find it.
//!
//! Law: at most as many as the bound, and none that was idle for longer than one and a half of
//! the idle time, except while what they are made from cannot be had.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
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
    /// An empty table. `name` is its sweeping task's. While `in_outage`, idle things are dropped
    /// only to make room: they could not be made again.
    pub fn new(
        runtime: &Runtime,
        name: &'static str,
        idle_timeout: Duration,
        entries_max: usize,
        in_outage: impl Fn() -> bool + Send + 'static,
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
                if !in_outage() {
                    table.sweep();
                }
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
        let mut entries = self.entries();
        if let Some(entry) = entries.get_mut(&key) {
            entry.last_used = now;
            return Ok(entry.value.clone());
        }
        if entries.len() >= self.entries_max {
            drop(entries);
            self.sweep();
            entries = self.entries();
        }
        if entries.len() >= self.entries_max {
            return Err(Full);
        }
        let value = make(&key);
        entries.insert(key, Entry { value: value.clone(), last_used: now });
        Ok(value)
    }

    fn sweep(&self) {
        let now = self.runtime.now();
        let mut dropped = Vec::new();
        let mut entries = self.entries();
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

    fn entries(&self) -> MutexGuard<'_, BTreeMap<K, Entry<V>>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::runtime::testing;

    const IDLE: Duration = Duration::from_secs(5);

    fn table(entries_max: usize) -> (Arc<IdleTable<u8, u8>>, Arc<AtomicBool>) {
        let outage = Arc::new(AtomicBool::new(false));
        let asked = outage.clone();
        let in_outage = move || asked.load(Ordering::Relaxed);
        let table = IdleTable::new(&testing::runtime(), "test", IDLE, entries_max, in_outage);
        (table, outage)
    }

    fn find(table: &IdleTable<u8, u8>, key: u8) -> Result<Arc<u8>, Full> {
        table.find(key, |key| Arc::new(*key))
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_held_stays_and_what_is_idle_goes() {
        let (table, _) = table(10);
        let held = find(&table, 1).unwrap();
        find(&table, 2).unwrap();
        tokio::time::sleep(2 * IDLE).await;
        assert_eq!(table.entries().keys().copied().collect::<Vec<_>>(), [1]);
        assert!(Arc::ptr_eq(&held, &find(&table, 1).unwrap()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_keeps_what_is_idle() {
        let (table, outage) = table(10);
        find(&table, 1).unwrap();
        outage.store(true, Ordering::Relaxed);
        tokio::time::sleep(100 * IDLE).await;
        assert_eq!(table.entries().len(), 1);
        outage.store(false, Ordering::Relaxed);
        tokio::time::sleep(2 * IDLE).await;
        assert_eq!(table.entries().len(), 0);
    }

    #[tokio::test(start_paused = true)]
    async fn a_full_table_makes_room_of_what_is_idle_even_in_an_outage() {
        let (table, outage) = table(2);
        outage.store(true, Ordering::Relaxed);
        let held = find(&table, 1).unwrap();
        find(&table, 2).unwrap();
        assert_eq!(find(&table, 3).unwrap_err(), Full);
        tokio::time::sleep(2 * IDLE).await;
        assert_eq!(find(&table, 3).as_deref(), Ok(&3));
        assert!(Arc::ptr_eq(&held, &find(&table, 1).unwrap()));
    }
}
