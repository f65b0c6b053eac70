//! Objects that the simulator does not keep, by path: made, read, patched or replaced with a
//! precondition, removed. And the review of tokens, which it has.

use std::collections::BTreeMap;
use std::sync::Mutex;

use hyper::{Method, Response, StatusCode};
use mesh_core::runtime::cluster::ClusterError;
use serde_json::{Value, json};

use super::reply::{Reply, json_reply, status};
use super::{Asked, Shared, patch};

/// Whom tokens are for where nobody is named.
pub const DEFAULT_AUDIENCE: &str = "https://kubernetes.default.svc.cluster.local";

#[derive(Default)]
pub struct Kept(Mutex<State>);

#[derive(Default)]
struct State {
    version: u64,
    objects: BTreeMap<String, Value>,
}

impl Kept {
    pub fn find(&self, path: &str) -> Option<Value> {
        self.0.lock().unwrap().objects.get(path).cloned()
    }

    pub fn below(&self, path: &str) -> Vec<Value> {
        let state = self.0.lock().unwrap();
        let below = state.objects.iter().filter(|(at, _)| at.starts_with(path));
        below.map(|(_, object)| object.clone()).collect()
    }

    pub fn put(&self, path: &str, object: Value) {
        self.0.lock().unwrap().put(path, object);
    }

    pub fn answer(&self, asked: &Asked) -> Response<Reply> {
        let mut state = self.0.lock().unwrap();
        let found = state.objects.get(&asked.path).cloned();
        match (&asked.method, found) {
            (&Method::GET, Some(object)) => json_reply(StatusCode::OK, &object),
            (&Method::POST, _) => {
                let object = asked.json();
                let path = format!("{}/{}", asked.path, text(&object["metadata"]["name"]));
                if state.objects.contains_key(&path) {
                    return status(StatusCode::CONFLICT, "it exists already");
                }
                match fault(&object) {
                    Some(fault) => status(StatusCode::UNPROCESSABLE_ENTITY, &fault),
                    None => json_reply(StatusCode::CREATED, &state.put(&path, object)),
                }
            }
            (&Method::PATCH, Some(object)) => match patched(&object, asked) {
                Ok(new) => state.replace(&asked.path, &object, new),
                Err(fault) => status(StatusCode::UNPROCESSABLE_ENTITY, &fault),
            },
            (&Method::PUT, Some(object)) => state.replace(&asked.path, &object, asked.json()),
            (&Method::DELETE, Some(object)) => {
                state.objects.remove(&asked.path);
                json_reply(StatusCode::OK, &object)
            }
            _ => status(StatusCode::NOT_FOUND, "the server could not find the requested resource"),
        }
    }
}

impl State {
    /// Takes over the new version of an object, if it was made of the latest.
    fn replace(&mut self, path: &str, old: &Value, mut new: Value) -> Response<Reply> {
        let version = &old["metadata"]["resourceVersion"];
        if new["metadata"]["resourceVersion"].is_null() {
            new["metadata"]["resourceVersion"] = version.clone();
        }
        if new["metadata"]["resourceVersion"] != *version {
            return status(StatusCode::CONFLICT, "the object has been modified");
        }
        match fault(&new) {
            Some(fault) => status(StatusCode::UNPROCESSABLE_ENTITY, &fault),
            None => json_reply(StatusCode::OK, &self.put(path, new)),
        }
    }

    fn put(&mut self, path: &str, mut object: Value) -> Value {
        self.version += 1;
        object["metadata"]["resourceVersion"] = json!(self.version.to_string());
        self.objects.insert(path.to_owned(), object.clone());
        object
    }
}

/// What Kubernetes refuses of a Lease.
fn fault(object: &Value) -> Option<String> {
    if object["kind"] != "Lease" {
        return None;
    }
    let spec = &object["spec"];
    if spec["holderIdentity"] == "" {
        return Some("spec.holderIdentity: must not be empty".to_owned());
    }
    if spec["leaseDurationSeconds"].as_u64().is_none_or(|seconds| seconds == 0) {
        return Some("spec.leaseDurationSeconds: must be greater than 0".to_owned());
    }
    let is_micro_time = |time: &Value| {
        let text = text(time);
        text.len() == "2006-01-02T15:04:05.000000Z".len() && text.ends_with('Z')
    };
    let times = ["acquireTime", "renewTime"];
    let wrong = times.iter().find(|time| !is_micro_time(&spec[**time]));
    wrong.map(|time| format!("spec.{time}: cannot parse {}", spec[*time]))
}

/// What a patch makes of an object.
fn patched(object: &Value, asked: &Asked) -> Result<Value, String> {
    let mut object = object.clone();
    match asked.form.as_str() {
        "application/merge-patch+json" => patch::merge(&mut object, &asked.json()),
        "application/json-patch+json" => patch::apply(&mut object, &asked.json())?,
        other => return Err(format!("patches of form {other:?} are not understood")),
    }
    Ok(object)
}

pub async fn review(shared: &Shared, asked: &Asked) -> Response<Reply> {
    let spec = asked.json()["spec"].take();
    let audience = spec["audiences"][0].as_str().unwrap_or(DEFAULT_AUDIENCE);
    let reviewed = shared.door.review_token(text(&spec["token"]), audience).await;
    let result = match reviewed {
        Ok(review) => json!({
            "authenticated": true, "audiences": [audience],
            "user": { "username": review.username, "extra": review.extra },
        }),
        Err(ClusterError::Denied(reason)) => json!({ "error": reason }),
        Err(error) => return status(StatusCode::SERVICE_UNAVAILABLE, &error.to_string()),
    };
    let review = json!({ "kind": "TokenReview", "spec": spec, "status": result });
    json_reply(StatusCode::CREATED, &review)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}
