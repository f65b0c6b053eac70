//! Lists and watches of the simulator's objects, and their statuses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use hyper::{Method, Response, StatusCode};
use mesh_core::resource::{Kind, Object, ObjectRef};
use mesh_core::runtime::cluster::ClusterError;
use runtime_sim::cluster::served::{Listed, Served, ServedChange};
use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::named;
use super::patch::merge;
use super::place::Place;
use super::reply::{Reply, json_reply, line, status, status_json};
use super::{Asked, CLIENT, Shared};

/// Lists whose further pages can be asked for, by number.
pub type Pages = BTreeMap<usize, Listed>;

const EXPIRED: &str = "The provided continue parameter is too old";

pub async fn collection(shared: Arc<Shared>, place: &Place, asked: &Asked) -> Response<Reply> {
    let is_watch = asked.query("watch").as_deref() == Some("true");
    match asked.method {
        Method::POST => named::create(&shared, place, asked).await,
        Method::GET if is_watch && place.namespace.is_empty() => watch(shared, place.kind, asked),
        Method::GET if is_watch => status(StatusCode::BAD_REQUEST, "watch all namespaces"),
        Method::GET => list(&shared, place, asked),
        _ => status(StatusCode::METHOD_NOT_ALLOWED, "the server does not allow this method"),
    }
}

fn list(shared: &Shared, place: &Place, asked: &Asked) -> Response<Reply> {
    let kind = place.kind;
    let (number, from, listed): (usize, usize, Listed) = match asked.query("continue") {
        Some(token) => {
            let (number, from) = token.split_once(':').expect("a token of ours");
            let number = number.parse().expect("a token of ours");
            match shared.pages.lock().unwrap().get(&number) {
                Some(listed) => (number, from.parse().expect("a number"), listed.clone()),
                None => return status(StatusCode::GONE, EXPIRED),
            }
        }
        None => match shared.server.serve_list(CLIENT, kind) {
            Ok(mut listed) => {
                let is_in = |object: &Object| object.object_ref().namespace == place.namespace;
                listed.objects.retain(|object| place.namespace.is_empty() || is_in(object));
                let mut pages = shared.pages.lock().unwrap();
                let number = pages.keys().last().map_or(0, |last| last + 1);
                pages.insert(number, listed.clone());
                (number, 0, listed)
            }
            Err(error) => return refusal(&error),
        },
    };
    let limit = asked.query("limit").and_then(|limit| limit.parse().ok()).unwrap_or(usize::MAX);
    let limit = limit.min(*shared.page_max.lock().unwrap());
    let upto = listed.objects.len().min(from.saturating_add(limit));
    let items = listed.objects[from..upto].iter().map(|object| shared.json(object));
    let items: Vec<_> = items.collect();
    let next = (upto < listed.objects.len()).then(|| format!("{number}:{upto}"));
    json_reply(
        StatusCode::OK,
        &json!({
            "kind": "List", "apiVersion": kind.api_version(), "items": items,
            "metadata": {
                "resourceVersion": listed.version.to_string(),
                "continue": next.unwrap_or_default(),
            },
        }),
    )
}

fn watch(shared: Arc<Shared>, kind: Kind, asked: &Asked) -> Response<Reply> {
    let after = asked.query("resourceVersion").and_then(|version| version.parse().ok());
    let Some(after) = after else {
        return status(StatusCode::BAD_REQUEST, "a watch needs a resourceVersion");
    };
    match shared.server.serve_changes(CLIENT, kind, after) {
        Ok(Served::Gone) => return status(StatusCode::GONE, "too old resource version"),
        Ok(Served::Changes { .. }) => {}
        Err(error) => return refusal(&error),
    }
    let seconds = asked.query("timeoutSeconds").and_then(|text| text.parse().ok());
    let lasts = Duration::from_secs(seconds.unwrap_or(300));
    let has_bookmarks = asked.query("allowWatchBookmarks").as_deref() == Some("true");
    let (lines, reply) = mpsc::channel(16);
    tokio::spawn(async move {
        let following = follow(shared, kind, after, has_bookmarks, lines);
        let _ = tokio::time::timeout(lasts, following).await;
    });
    let response = Response::builder().header("content-type", "application/json");
    response.body(Reply::Lines(reply)).expect("a plain answer")
}

/// Tells of what happens until the reader is gone, the server is cut, or the history is.
async fn follow(
    shared: Arc<Shared>,
    kind: Kind,
    mut after: u64,
    has_bookmarks: bool,
    lines: mpsc::Sender<hyper::body::Bytes>,
) {
    let notify = shared.server.changes();
    let cuts = shared.server.cuts(CLIENT);
    loop {
        let mut changed = std::pin::pin!(notify.notified());
        changed.as_mut().enable();
        if shared.server.cuts(CLIENT) != cuts {
            return;
        }
        match shared.server.serve_changes(CLIENT, kind, after) {
            Err(_) => return,
            Ok(Served::Gone) => {
                let gone = status_json(StatusCode::GONE, "too old resource version");
                let _ = lines.send(line("ERROR", &gone)).await;
                return;
            }
            Ok(Served::Changes { changes, upto }) => {
                let had_none = changes.is_empty();
                for (_, change) in changes {
                    let told = match change {
                        ServedChange::Added(object) => line("ADDED", &shared.json(&object)),
                        ServedChange::Modified(object) => line("MODIFIED", &shared.json(&object)),
                        ServedChange::Deleted(object) => line("DELETED", &shared.json(&object)),
                    };
                    if lines.send(told).await.is_err() {
                        return;
                    }
                }
                // Nothing of this kind, but time went on.
                if had_none && has_bookmarks && upto > after {
                    let mark = json!({ "kind": kind.name(), "apiVersion": kind.api_version(),
                        "metadata": { "resourceVersion": upto.to_string() } });
                    if lines.send(line("BOOKMARK", &mark)).await.is_err() {
                        return;
                    }
                }
                after = upto;
            }
        }
        tokio::select! {
            biased;
            () = lines.closed() => return,
            () = changed => {}
        }
    }
}

pub async fn write_status(shared: &Shared, name: &ObjectRef, asked: &Asked) -> Response<Reply> {
    if asked.method != Method::PATCH || asked.form != "application/merge-patch+json" {
        return status(StatusCode::UNSUPPORTED_MEDIA_TYPE, "give a merge patch");
    }
    let Some(object) = shared.server.find(name) else {
        return status(StatusCode::NOT_FOUND, &format!("{name} not found"));
    };
    let mut json = object.to_json();
    merge(&mut json, &asked.json());
    let object = match Object::deserialize(name.kind, json) {
        Ok(object) => object,
        Err(error) => return status(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
    };
    match shared.door.write_status(object).await {
        Ok(()) => {
            let object = shared.server.find(name).map(|object| object.to_json());
            json_reply(StatusCode::OK, &object.unwrap_or_default())
        }
        Err(error) => refusal(&error),
    }
}

fn refusal(error: &ClusterError) -> Response<Reply> {
    let code = match error {
        ClusterError::Unavailable(_) => StatusCode::SERVICE_UNAVAILABLE,
        ClusterError::Denied(_) => StatusCode::FORBIDDEN,
        ClusterError::NotFound(_) => StatusCode::NOT_FOUND,
        ClusterError::Conflict(_) => StatusCode::CONFLICT,
        _ => StatusCode::UNPROCESSABLE_ENTITY,
    };
    status(code, &error.to_string())
}

impl Shared {
    /// An object as it is served.
    pub fn json(&self, object: &Object) -> Value {
        let mut json = object.to_json();
        if let Some(overlay) = self.overlays.lock().unwrap().get(&object.object_ref()) {
            merge(&mut json, overlay);
        }
        json
    }
}
