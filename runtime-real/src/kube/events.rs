//! Events that are recorded for people. One that happens again is counted.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff;
use mesh_core::runtime::Entropy as _;
use mesh_core::runtime::cluster::{ClusterError, Event};
use serde_json::json;

use super::client::{ApiClient, MERGE_PATCH};
use super::paths::escaped;
use super::write::{made, patched};
use crate::entropy::SystemEntropy;

/// Events that are known again; of more, the oldest are recorded anew when they happen again.
const KNOWN_MAX: usize = 1_000;
/// A message is no longer than this.
const MESSAGE_BYTES_MAX: usize = 1_024;
/// An object's name in the event's own, so that this stays within 253 bytes.
const NAME_BYTES_MAX: usize = 230;

/// What was recorded.
#[derive(Debug, Default)]
pub(super) struct Recorded(Mutex<VecDeque<Known>>);

#[derive(Clone, Debug)]
struct Known {
    event: Event,
    name: String,
    count: u32,
}

impl Recorded {
    /// Records an event, or that it happened again.
    pub(super) async fn record(
        &self,
        client: &ApiClient,
        event: Event,
    ) -> Result<(), ClusterError> {
        let namespace = match event.namespace.as_str() {
            // Where Kubernetes has those of objects without one.
            "" => "default",
            namespace => namespace,
        };
        let collection = format!("/api/v1/namespaces/{}/events", escaped(namespace));
        let what = format!("record an event of {} {namespace}/{}", event.kind, event.name);
        let now = Time(jiff::Timestamp::now());
        if let Some(Known { name, count, .. }) = self.again(&event) {
            let patch = json!({ "count": count, "lastTimestamp": now });
            let path = format!("{collection}/{name}");
            match patched(client, &path, MERGE_PATCH, &patch, &what).await {
                // It has run out: the server keeps events for an hour.
                Err(ClusterError::NotFound(_)) => {}
                result => return result.map(drop),
            }
        }
        let name = format!(
            "{}.{:016x}",
            cut(&event.name, NAME_BYTES_MAX),
            SystemEntropy::new().next_u64()
        );
        let object = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": { "name": name, "namespace": namespace },
            "involvedObject": {
                "apiVersion": event.api_version,
                "kind": event.kind,
                "namespace": event.namespace,
                "name": event.name,
                "uid": event.uid.clone().unwrap_or_default(),
            },
            "type": if event.is_warning { "Warning" } else { "Normal" },
            "reason": event.reason,
            "message": cut(&event.message, MESSAGE_BYTES_MAX),
            "source": { "component": event.component },
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": 1,
        });
        made(client, &collection, &object, &what).await?;
        self.keep(Known { event, name, count: 1 });
        Ok(())
    }

    /// The event that was recorded before, counted once more.
    fn again(&self, event: &Event) -> Option<Known> {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let found = known.iter_mut().rev().find(|known| known.event == *event)?;
        found.count = found.count.saturating_add(1);
        Some(found.clone())
    }

    fn keep(&self, new: Known) {
        let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        known.retain(|old| old.event != new.event);
        known.push_back(new);
        if known.len() > KNOWN_MAX {
            known.pop_front();
        }
    }
}

/// At most so many bytes of a text, and whole characters.
fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}
