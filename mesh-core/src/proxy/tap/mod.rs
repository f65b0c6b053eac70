//! Taps: who looks at the requests that pass through this proxy, and what they are told.
//!
//! Here: which taps there are, and whom a request is told to. `record` tells of one request from
//! its beginning to its end, `queue` keeps what is told until the client takes it, `server` is
//! `io.linkerd.proxy.tap.Tap/Observe`.
//!
//! Law: where nobody taps, a request costs one relaxed load. A tap never delays a request: what its
//! client does not take in time is lost to it, and counted.

mod body;
mod queue;
mod record;
mod server;

pub use record::{Tapped, failed};
pub use server::{Server, serve_connection};

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::model::labels::Labels;
use crate::model::metadata::Metadata;
use crate::model::tap::{Direction, Observe, StreamId};
use crate::proxy::config;
use crate::runtime::Runtime;
use crate::time::Timestamp;
use crate::traffic::tap::{Facts, has_headers, matches};
use crate::wire::http::Request;
use queue::Queue;
use record::Head;

/// Taps at once. With [`queue::BYTES_MAX`] each, 8 MiB.
pub const TAPS_MAX: usize = 8;

/// What [`Observe::per_second`] counts over.
const WINDOW: Duration = Duration::from_secs(1);

/// The taps of a proxy.
pub struct Taps {
    runtime: Runtime,
    /// None: nobody may tap.
    config: Option<Arc<config::Tap>>,
    /// How many there are.
    watched: AtomicUsize,
    all: Mutex<Vec<Arc<Tap>>>,
    /// This proxy's number, and the next request's.
    base: u32,
    next: AtomicU64,
}

/// Why there is no further tap.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TapError {
    /// There are enough.
    #[error("{TAPS_MAX} taps are open here already; try again when one has ended")]
    TooMany,
    /// A header that is never shown may not be guessed either.
    #[error("header {0} is redacted here, so it cannot be matched")]
    Redacted(String),
}

/// One tap.
struct Tap {
    observe: Observe,
    queue: Arc<Queue>,
    allowance: Mutex<Allowance>,
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.queue.close();
    }
}

/// What a tap was told of.
#[derive(Default)]
struct Allowance {
    /// Requests of this window, or at all where there is none.
    told: u32,
    window: Timestamp,
}

/// What is known of a request beside itself.
pub struct Meta {
    /// The client.
    pub source: SocketAddr,
    /// Of it.
    pub source_labels: Labels,
    /// The endpoint.
    pub destination: SocketAddr,
    /// Of it.
    pub destination_labels: Labels,
    /// Of the route.
    pub route_labels: Labels,
    /// Where this proxy stands.
    pub direction: Direction,
}

impl Taps {
    /// None yet. None ever, where nobody may.
    pub fn new(runtime: &Runtime, config: Option<&config::Tap>) -> Arc<Self> {
        // Chance is drawn only where there is use for it.
        let base = config.map_or(0, |_| runtime.entropy.next_u64() as u32);
        Arc::new(Self {
            runtime: runtime.clone(),
            config: config.cloned().map(Arc::new),
            watched: AtomicUsize::new(0),
            all: Mutex::default(),
            base,
            next: AtomicU64::new(0),
        })
    }

    /// Whether anybody looks.
    #[inline]
    pub fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Relaxed) > 0
    }

    /// A further tap, whose queue is read by who asked for it.
    fn open(&self, observe: Observe) -> Result<Arc<Queue>, TapError> {
        let config = self.config.as_ref().ok_or(TapError::TooMany)?;
        let hidden = observe.headers.iter().find(|h| config.redacted_headers.contains(&h.name));
        if let Some(hidden) = hidden {
            return Err(TapError::Redacted(hidden.name.to_string()));
        }
        let mut all = self.all();
        if all.len() >= TAPS_MAX {
            mark!("taps-at-bound");
            return Err(TapError::TooMany);
        }
        let queue = Arc::new(Queue::default());
        all.push(Arc::new(Tap { observe, queue: queue.clone(), allowance: Mutex::default() }));
        self.watched.store(all.len(), Ordering::Relaxed);
        Ok(queue)
    }

    /// Ends a tap that nobody reads any more.
    fn close(&self, queue: &Arc<Queue>) {
        queue.close();
        self.retain(|tap| !Arc::ptr_eq(&tap.queue, queue));
    }

    fn retain(&self, keep: impl Fn(&Tap) -> bool) {
        let mut all = self.all();
        all.retain(|tap| keep(tap));
        self.watched.store(all.len(), Ordering::Relaxed);
    }

    /// Tells those who look for such a request that it has come. What is given is told of the rest
    /// of it. `request`'s body is kept as far as they may see it.
    pub fn begin(&self, meta: Meta, request: &mut Request) -> Option<Box<Tapped>> {
        let config = self.config.as_ref()?;
        let now = self.runtime.now();
        let head = Head::of(request);
        let taps = self.interested(&meta, &head, request, now);
        if taps.is_empty() {
            return None;
        }
        let id = StreamId { base: self.base, stream: self.next.fetch_add(1, Ordering::Relaxed) };
        Some(Tapped::begin(&self.runtime, config, taps, (meta, id), head, request))
    }

    /// The taps that are to be told of a request.
    fn interested(
        &self,
        meta: &Meta,
        head: &Head,
        request: &Request,
        now: Timestamp,
    ) -> Vec<Arc<Tap>> {
        let facts = Facts {
            source: Some(meta.source),
            destination: Some(meta.destination),
            destination_labels: &meta.destination_labels,
            route_labels: &meta.route_labels,
            method: request.method(),
            scheme: request.uri().scheme(),
            authority: &head.authority,
            path: request.uri().path(),
            headers: request.headers(),
        };
        let mut interested = Vec::new();
        let mut full = false;
        for tap in self.all().iter() {
            let wanted = planted!("tap-sees-unmatched")
                || matches(&tap.observe.matches, &facts)
                    && has_headers(&tap.observe.headers, request.headers());
            if wanted && tap.admit(now) {
                interested.push(tap.clone());
            }
            full |= tap.is_full();
        }
        if full {
            // Their answers end with the last request that they were told of.
            self.retain(|tap| !tap.is_full());
        }
        interested
    }

    fn all(&self) -> MutexGuard<'_, Vec<Arc<Tap>>> {
        self.all.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tap {
    /// Whether one more request is told of.
    fn admit(&self, now: Timestamp) -> bool {
        let mut allowance = self.allowance();
        let limit = match self.observe.per_second {
            0 => self.observe.limit,
            per_second => {
                if now.since(allowance.window) >= WINDOW {
                    *allowance = Allowance { told: 0, window: now };
                }
                per_second
            }
        };
        let admitted = allowance.told < limit;
        match admitted {
            true => allowance.told += 1,
            false => self.queue.lose(),
        }
        admitted
    }

    fn is_full(&self) -> bool {
        self.observe.per_second == 0 && self.allowance().told >= self.observe.limit
    }

    fn allowance(&self) -> MutexGuard<'_, Allowance> {
        self.allowance.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the way out knows of a request before its endpoint is picked.
pub struct Tapping {
    /// Who looks.
    pub taps: Arc<Taps>,
    /// The client.
    pub source: SocketAddr,
    /// Of the route.
    pub route_labels: Labels,
}

/// A route as labels.
pub fn route_labels(route: &Metadata) -> Labels {
    match route {
        Metadata::Default(name) => [("route", name.as_ref())].into_iter().collect(),
        Metadata::Resource(resource) => [
            ("route", resource.name.as_str()),
            ("route_group", &resource.group),
            ("route_kind", &resource.kind),
            ("route_namespace", &resource.namespace),
        ]
        .into_iter()
        .filter(|(_, value)| !value.is_empty())
        .collect(),
    }
}
