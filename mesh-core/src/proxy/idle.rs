//! A table of shared things that cost something to make: destinations, backends, ports. Each is
//! kept while anybody holds it and for a while after, so that short connections in a row find it.
//!
//! Law: at most as many as the bound, and none that was idle for longer than one and a half of
//! the idle time, except what could not be made again now. Finding one looks at a bounded number.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::runtime::Runtime;
use crate::time::Timestamp;

/// Entries of a full table that one search looks at to make room.
const LOOKED_AT_MAX: usize = 32;

/// The table.
pub struct IdleTable<K, V> {
    runtime: Runtime,
    idle_timeout: Duration,
    entries_max: usize,
    entries: Mutex<Entries<K, V>>,
}

struct Entries<K, V> {
    all: BTreeMap<K, Entry<V>>,
    /// Where the last search for room ended.
    hand: Option<K>,
}

struct Entry<V> {
    value: Arc<V>,
    last_used: Timestamp,
}

/// The table holds as many as it may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("too many at once")]
pub struct Full;

impl<K: Ord + Clone + Send + 'static, V: Send + Sync + 'static> IdleTable<K, V> {
    /// An empty table. `name` is its sweeping task's. What is `irreplaceable` is dropped only to
    /// make room: it could not be made again now.
    pub fn new(
        runtime: &Runtime,
        name: &'static str,
        idle_timeout: Duration,
        entries_max: usize,
        irreplaceable: impl Fn(&V) -> bool + Send + 'static,
    ) -> Arc<Self> {
        let table = Arc::new(Self {
            runtime: runtime.clone(),
            idle_timeout,
            entries_max,
            entries: Mutex::new(Entries { all: BTreeMap::new(), hand: None }),
        });
        let weak = Arc::downgrade(&table);
        let sweeping = runtime.clone();
        let every = (idle_timeout / 2).max(Duration::from_millis(500));
        runtime.spawn(name, async move {
            loop {
                sweeping.sleep(every).await;
                let Some(table) = weak.upgrade() else { return };
                table.sweep(&irreplaceable);
            }
        });
        table
    }

    /// The value of a key, made where there is none.
    ///
    /// # Errors
    /// [`Full`] where there is none, and no room for it was found.
    pub fn find(&self, key: K, make: impl FnOnce(&K) -> Arc<V>) -> Result<Arc<V>, Full> {
        let now = self.runtime.now();
        // What makes room is dropped outside of the lock: what it owns may look things up in turn.
        let _dropped;
        let mut entries = self.entries();
        if let Some(entry) = entries.all.get_mut(&key) {
            entry.last_used = now;
            return Ok(entry.value.clone());
        }
        if entries.all.len() >= self.entries_max {
            let Some(idle) = entries.take_idle(now, self.idle_timeout) else {
                mark!("idle-table-full");
                return Err(Full);
            };
            _dropped = idle;
        }
        let value = make(&key);
        entries.all.insert(key, Entry { value: value.clone(), last_used: now });
        Ok(value)
    }

    /// All of them, which does not count as use.
    pub fn values(&self) -> Vec<Arc<V>> {
        self.entries().all.values().map(|entry| entry.value.clone()).collect()
    }

    fn sweep(&self, irreplaceable: &impl Fn(&V) -> bool) {
        let now = self.runtime.now();
        let mut dropped = Vec::new();
        let mut entries = self.entries();
        entries.all.retain(|_, entry| {
            if !entry.is_idle(now, self.idle_timeout) {
                return true;
            }
            let stays = irreplaceable(&entry.value) || planted!("idle-destination-kept");
            if stays {
                mark!("idle-kept-in-outage");
            } else {
                mark!("idle-dropped");
                dropped.push(entry.value.clone());
            }
            stays
        });
        // Dropped outside of the lock, as above.
        drop(entries);
        drop(dropped);
    }

    fn entries(&self) -> MutexGuard<'_, Entries<K, V>> {
        self.entries.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Ord + Clone, V> Entries<K, V> {
    /// Takes an idle entry out, of the next few in a round through all.
    fn take_idle(&mut self, now: Timestamp, idle_timeout: Duration) -> Option<Entry<V>> {
        let from = match self.hand.take() {
            Some(hand) => Bound::Excluded(hand),
            None => Bound::Unbounded,
        };
        let mut looked_at = 0;
        let mut found = None;
        for (key, entry) in self.all.range_mut((from, Bound::Unbounded)) {
            looked_at += 1;
            let idle = entry.is_idle(now, idle_timeout);
            if idle || looked_at == LOOKED_AT_MAX {
                self.hand = Some(key.clone());
                found = idle.then(|| key.clone());
                break;
            }
        }
        // Past the last, the next round begins with the first.
        self.all.remove(&found?)
    }
}

impl<V> Entry<V> {
    /// Whether nobody holds it, nor did for the idle time.
    fn is_idle(&mut self, now: Timestamp, idle_timeout: Duration) -> bool {
        if Arc::strong_count(&self.value) > 1 {
            self.last_used = now;
        }
        now.since(self.last_used) >= idle_timeout
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
        let in_outage = move |_: &u8| asked.load(Ordering::Relaxed);
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
        assert_eq!(table.entries().all.keys().copied().collect::<Vec<_>>(), [1]);
        assert!(Arc::ptr_eq(&held, &find(&table, 1).unwrap()));
    }

    #[tokio::test(start_paused = true)]
    async fn an_outage_keeps_what_is_idle() {
        let (table, outage) = table(10);
        find(&table, 1).unwrap();
        outage.store(true, Ordering::Relaxed);
        tokio::time::sleep(100 * IDLE).await;
        assert_eq!(table.entries().all.len(), 1);
        outage.store(false, Ordering::Relaxed);
        tokio::time::sleep(2 * IDLE).await;
        assert_eq!(table.entries().all.len(), 0);
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

    #[tokio::test(start_paused = true)]
    async fn a_search_for_room_goes_round_and_looks_at_few() {
        let (table, outage) = table(200);
        outage.store(true, Ordering::Relaxed);
        let held: Vec<_> = (0..199).map(|key| find(&table, key).unwrap()).collect();
        find(&table, 199).unwrap();
        tokio::time::sleep(2 * IDLE).await;
        // The one that is idle is the last; each search looks at 32.
        let searches = (0..10).position(|_| find(&table, 200).is_ok()).expect("room for it");
        assert_eq!(searches, 199 / LOOKED_AT_MAX);
        assert_eq!(find(&table, 201).unwrap_err(), Full);
        drop(held);
        tokio::time::sleep(2 * IDLE).await;
        assert!((201..=255).all(|key| find(&table, key).is_ok()));
        assert_eq!(table.entries().all.len(), 200);
    }
}
