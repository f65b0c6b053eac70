//! Objects of the simulator, one by one: read, made, replaced, patched, applied, removed; each write
//! is admitted first. And tokens for service accounts.
//!
//! Server-side apply knows one manager: what was applied before and is no longer said is gone.

use hyper::header::{HeaderValue, WARNING};
use hyper::{Method, Response, StatusCode};
use mesh_core::resource::{Object, ObjectRef};
use runtime_sim::cluster::TokenSpec;
use serde_json::{Value, json};

use super::admission::{self, Write};
use super::kept::DEFAULT_AUDIENCE;
use super::patch;
use super::place::Place;
use super::reply::{Reply, json_reply, status};
use super::{Asked, Shared};

/// Makes an object in a collection.
pub async fn create(shared: &Shared, place: &Place, asked: &Asked) -> Response<Reply> {
    write(shared, place, asked.json(), None).await
}

/// What is asked of one object.
pub async fn answer(shared: &Shared, name: &ObjectRef, asked: &Asked) -> Response<Reply> {
    let place = shared.place(&asked.path).expect("who calls has found it");
    let found = shared.server.find(name).map(|object| shared.json(&object));
    let is_apply = asked.form.starts_with("application/apply-patch+");
    match (&asked.method, found) {
        (&Method::PATCH, _) if is_apply && asked.query("fieldManager").is_none() => {
            status(StatusCode::BAD_REQUEST, "fieldManager is required for apply patch")
        }
        (&Method::PATCH, None) if is_apply => write(shared, &place, asked.json(), None).await,
        (_, None) => {
            let what = format!("{} \"{}\" not found", place.kind.plural(), name.name);
            status(StatusCode::NOT_FOUND, &what)
        }
        (&Method::GET, Some(found)) => json_reply(StatusCode::OK, &found),
        (&Method::DELETE, Some(found)) => {
            shared.server.delete(name);
            json_reply(StatusCode::OK, &found)
        }
        (&Method::PUT, found) => write(shared, &place, asked.json(), found).await,
        (&Method::PATCH, Some(found)) => match patched(&found, asked, is_apply) {
            Ok(object) => write(shared, &place, object, Some(found)).await,
            Err(fault) => status(StatusCode::UNPROCESSABLE_ENTITY, &fault),
        },
        _ => status(StatusCode::METHOD_NOT_ALLOWED, "the server does not allow this method"),
    }
}

fn patched(found: &Value, asked: &Asked, is_apply: bool) -> Result<Value, String> {
    let mut object = found.clone();
    match asked.form.as_str() {
        _ if is_apply => {
            object = asked.json();
            // Others write it.
            if object["status"].is_null() && !found["status"].is_null() {
                object["status"] = found["status"].clone();
            }
        }
        "application/merge-patch+json" => patch::merge(&mut object, &asked.json()),
        "application/json-patch+json" => patch::apply(&mut object, &asked.json())?,
        other => return Err(format!("patches of form {other:?} are not understood")),
    }
    Ok(object)
}

/// Stores an object in the place of another, or where there is none, if it is admitted.
async fn write(
    shared: &Shared,
    place: &Place,
    mut object: Value,
    before: Option<Value>,
) -> Response<Reply> {
    if let Err(fault) = settle(place, &mut object) {
        return status(StatusCode::BAD_REQUEST, &fault);
    }
    let version = &object["metadata"]["resourceVersion"];
    let known = before.as_ref().map(|before| &before["metadata"]["resourceVersion"]);
    if !version.is_null() && known.is_some_and(|known| known != version) {
        return status(StatusCode::CONFLICT, "the object has been modified");
    }
    let write = Write { place, before: before.as_ref() };
    let (mut object, warnings) = match admission::admit(shared, &write, object).await {
        Ok(admitted) => admitted,
        Err(refusal) => return refusal,
    };
    shared.name(&mut object);
    let object = match Object::deserialize(place.kind, object) {
        Ok(object) => object,
        Err(error) => return status(StatusCode::UNPROCESSABLE_ENTITY, &error.to_string()),
    };
    let name = object.object_ref();
    if before.is_none() && shared.server.find(&name).is_some() {
        let what = format!("{} \"{}\" already exists", place.kind.plural(), name.name);
        return status(StatusCode::CONFLICT, &what);
    }
    shared.server.apply(object);
    let code = if before.is_some() { StatusCode::OK } else { StatusCode::CREATED };
    let stored = shared.server.find(&name).map(|object| shared.json(&object));
    let mut reply = json_reply(code, &stored.unwrap_or_default());
    for warning in warnings {
        if let Ok(warning) = HeaderValue::from_str(&format!("299 - {warning:?}")) {
            reply.headers_mut().append(WARNING, warning);
        }
    }
    reply
}

/// What the path says of an object is so.
fn settle(place: &Place, object: &mut Value) -> Result<(), String> {
    let expected = place.kind.name();
    let version = object["apiVersion"].as_str().unwrap_or_default();
    if object["kind"] != json!(expected) || !place.kind.reads(version) {
        return Err(format!("it is no {expected}, but {} of {version}", object["kind"]));
    }
    let meta = &mut object["metadata"];
    for (field, said) in [("namespace", Some(&place.namespace)), ("name", place.name.as_ref())] {
        let Some(said) = said.filter(|said| !said.is_empty()) else { continue };
        if meta[field].is_null() {
            meta[field] = json!(said);
        }
        if meta[field] != json!(said) {
            return Err(format!("the {field} of the object does not match the one of the request"));
        }
    }
    Ok(())
}

/// A token for a service account (TokenRequest).
pub fn issue(shared: &Shared, name: &ObjectRef, asked: &Asked) -> Response<Reply> {
    if shared.server.find(name).is_none() {
        return status(StatusCode::NOT_FOUND, &format!("{name} not found"));
    }
    let mut request = asked.json();
    let spec = &request["spec"];
    let pod = &spec["boundObjectRef"];
    let token = shared.server.issue(TokenSpec {
        namespace: name.namespace.clone(),
        account: name.name.clone(),
        audience: spec["audiences"][0].as_str().unwrap_or(DEFAULT_AUDIENCE).to_owned(),
        pod: pod["name"].as_str().filter(|_| pod["kind"] == "Pod").map(str::to_owned),
        expires: None,
    });
    request["status"] = json!({ "token": token });
    json_reply(StatusCode::CREATED, &request)
}
