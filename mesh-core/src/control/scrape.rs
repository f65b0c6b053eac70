//! The controller's own eyes: every proxy of the mesh is asked for its metrics, again and again, and
//! what it says is kept as [`series`](super::series).
//!
//! Law: a proxy that answers late, garbage or nothing costs its own figures and nobody else's, and is
//! reported with the reason.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use ::http::header::{ACCEPT, HOST};
use ::http::{HeaderValue, StatusCode};
use tokio::sync::mpsc;

use super::fetch::{Patience, fetch};
use super::index::Instance;
use super::publish::Publisher;
use super::query::{Query, RangeRow, Row};
use super::series::{Limits, Series, Usage};
use super::workload;
use crate::model::labels::Labels;
use crate::runtime::Runtime;
use crate::wire::http::{Body, Request};

/// How proxies are scraped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScrapeConfig {
    /// From one scrape of a proxy to the next.
    pub interval: Duration,
    /// How long one may take.
    pub timeout: Duration,
    /// Bytes of a proxy's metrics. More is garbage.
    pub bytes_max: usize,
    /// Proxies that are asked at once.
    pub concurrency: usize,
    /// What is kept of it.
    pub limits: Limits,
}

impl Default for ScrapeConfig {
    /// As Linkerd's Prometheus has it.
    fn default() -> Self {
        Self {
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(5),
            bytes_max: 32 << 20,
            concurrency: 32,
            limits: Limits::default(),
        }
    }
}

/// What was scraped. Cloning shares it.
#[derive(Clone)]
pub struct Scrapes(Arc<Shared>);

struct Shared {
    config: ScrapeConfig,
    /// Never held across an await.
    state: Mutex<State>,
}

struct State {
    series: Series,
    health: BTreeMap<Name, Health>,
    /// When the first round began, in milliseconds since 1970.
    since_ms: Option<i64>,
}

/// Namespace and name of an instance.
type Name = (String, String);

/// What came of the last scrape of a proxy.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// When it began, in milliseconds since 1970.
    pub at_ms: i64,
    /// Why it failed; nothing where it did not.
    pub fault: Option<String>,
}

/// A proxy to be scraped.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Target {
    name: Name,
    /// None where it has no address (yet).
    at: Option<SocketAddr>,
    labels: Labels,
}

impl Scrapes {
    /// Nothing was scraped yet.
    pub fn new(config: ScrapeConfig) -> Self {
        let series = Series::new(config.limits);
        let state = State { series, health: BTreeMap::new(), since_ms: None };
        Self(Arc::new(Shared { config, state: Mutex::new(state) }))
    }

    /// Scrapes every proxy of the index, for ever.
    pub async fn run(self, runtime: Runtime, publisher: Publisher) {
        loop {
            let next = runtime.now() + self.0.config.interval;
            if publisher.is_synced() {
                self.round(&runtime, &publisher).await;
            }
            runtime.clock.sleep_until(next).await;
        }
    }

    /// The answer at a moment, in milliseconds since 1970.
    pub fn evaluate(&self, query: &Query, at_ms: i64) -> Vec<Row> {
        self.state().series.evaluate(query, at_ms)
    }

    /// The answers at moments `step_ms` apart.
    pub fn evaluate_range(
        &self,
        query: &Query,
        start_ms: i64,
        end_ms: i64,
        step_ms: i64,
    ) -> Vec<RangeRow> {
        self.state().series.evaluate_range(query, start_ms, end_ms, step_ms)
    }

    /// What came of the last scrape of each proxy, by namespace and name of its instance.
    pub fn health(&self) -> BTreeMap<(String, String), Health> {
        self.state().health.clone()
    }

    /// Since when there are figures, in milliseconds since 1970.
    pub fn since_ms(&self) -> Option<i64> {
        self.state().since_ms
    }

    /// What is kept.
    pub fn usage(&self) -> Usage {
        self.state().series.usage()
    }

    /// How proxies are scraped.
    pub fn config(&self) -> &ScrapeConfig {
        &self.0.config
    }

    /// Scrapes each proxy once.
    async fn round(&self, runtime: &Runtime, publisher: &Publisher) {
        let targets = targets(publisher);
        let now_ms = wall_ms(runtime);
        {
            let state = &mut *self.state();
            state.since_ms.get_or_insert(now_ms);
            let still: BTreeSet<_> = targets.iter().map(|target| target.labels.clone()).collect();
            state.series.end_others(&still, now_ms);
            state.series.sweep(now_ms);
            let names: BTreeSet<_> = targets.iter().map(|target| &target.name).collect();
            state.health.retain(|name, _| names.contains(name));
        }
        let left = Arc::new(Mutex::new(VecDeque::from(targets)));
        let (working, mut done) = mpsc::channel::<()>(1);
        let mut tasks = Vec::new();
        for _ in 0..self.0.config.concurrency {
            let (scrapes, runtime, left) = (self.clone(), runtime.clone(), left.clone());
            let working = working.clone();
            let of_task = runtime.clone();
            tasks.push(runtime.spawn_guarded("scrape", async move {
                let _working = working;
                loop {
                    let next = left.lock().unwrap_or_else(PoisonError::into_inner).pop_front();
                    let Some(target) = next else { return };
                    scrapes.scrape(&of_task, target).await;
                }
            }));
        }
        drop(working);
        // Nothing is ever sent: it ends when the last task has.
        done.recv().await;
    }

    async fn scrape(&self, runtime: &Runtime, target: Target) {
        let at_ms = wall_ms(runtime);
        let text = self.fetch(runtime, target.at).await;
        let (namespace, name) = &target.name;
        self.put((namespace, name), &target.labels, at_ms, text);
    }

    /// Takes in what a proxy answered.
    pub(super) fn put(
        &self,
        (namespace, name): (&str, &str),
        labels: &Labels,
        at_ms: i64,
        text: Result<String, String>,
    ) {
        let state = &mut *self.state();
        state.since_ms.get_or_insert(at_ms);
        let recorded = text.and_then(|text| {
            let recorded = state.series.record(labels, at_ms, &text);
            recorded.map_err(|error| format!("its metrics cannot be read: {error}"))
        });
        let fault = recorded.err();
        if let Some(fault) = &fault {
            state.series.record_failure(labels, at_ms);
            tracing::debug!(namespace, name, fault, "a proxy could not be scraped");
        }
        let name = (namespace.to_string(), name.to_string());
        state.health.insert(name, Health { at_ms, fault });
    }

    async fn fetch(&self, runtime: &Runtime, at: Option<SocketAddr>) -> Result<String, String> {
        let at = at.ok_or("it has no address")?;
        let mut request = Request::new(Body::empty());
        *request.uri_mut() = ::http::Uri::from_static("/metrics");
        let host = HeaderValue::from_str(&at.to_string());
        let headers = request.headers_mut();
        headers.insert(HOST, host.expect("an address has only visible characters"));
        headers.insert(ACCEPT, HeaderValue::from_static("text/plain;version=0.0.4"));
        let ScrapeConfig { timeout, bytes_max, .. } = self.0.config;
        let fetched = fetch(runtime, at, request, Patience { timeout, bytes_max }).await;
        match fetched {
            Ok((StatusCode::OK, text)) => {
                String::from_utf8(text.into()).map_err(|_| "its metrics are no text".to_string())
            }
            Ok((status, _)) => Err(format!("http://{at}/metrics answers {status}")),
            Err(error) => Err(format!("http://{at}/metrics: {error}")),
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Every proxy of this control plane.
fn targets(publisher: &Publisher) -> Vec<Target> {
    publisher.read(|view| {
        let is_target = |instance: &Instance<'_>| {
            instance.is_meshed(&view.mesh.control_namespace) && instance.is_running()
        };
        let target = |instance: Instance<'_>| Target {
            name: (instance.namespace().to_string(), instance.name().to_string()),
            at: instance.addresses().first().map(|ip| (*ip, instance.admin_port()).into()),
            labels: workload::target_labels(view, instance),
        };
        view.instances().filter(is_target).map(target).collect()
    })
}

/// Milliseconds since 1970.
pub(super) fn wall_ms(runtime: &Runtime) -> i64 {
    i64::try_from(runtime.clock.wall().as_duration().as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
