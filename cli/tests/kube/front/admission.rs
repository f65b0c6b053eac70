//! Admission: before something is stored, the webhooks are asked that are configured for it, over
//! HTTP/2 and TLS by their caBundle, as an API server asks them.
//!
//! Configurations are what was kept of them. What is not there: `matchPolicy`, `matchConditions`,
//! reinvocation, and kinds that the simulator does not know.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hyper::{Response, StatusCode};
use serde_json::{Value, json};

use super::place::Place;
use super::reply::{Reply, status};
use super::webhook::{self, Target};
use super::{Shared, patch};

const CONFIGURATIONS: &str = "/apis/admissionregistration.k8s.io/v1";
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

/// What is about to be written.
pub struct Write<'a> {
    pub place: &'a Place,
    /// What was there.
    pub before: Option<&'a Value>,
}

impl Write<'_> {
    fn operation(&self) -> &'static str {
        if self.before.is_some() { "UPDATE" } else { "CREATE" }
    }
}

/// Asks every webhook that is for this. Gives the object as they changed it and what they warn of,
/// or the refusal.
pub async fn admit(
    shared: &Shared,
    write: &Write<'_>,
    mut object: Value,
) -> Result<(Value, Vec<String>), Response<Reply>> {
    let mut warnings = Vec::new();
    for sort in ["mutatingwebhookconfigurations", "validatingwebhookconfigurations"] {
        for configuration in shared.kept.below(&format!("{CONFIGURATIONS}/{sort}/")) {
            for webhook in configuration["webhooks"].as_array().into_iter().flatten() {
                if !is_for(shared, webhook, write, &object) {
                    continue;
                }
                let changed = ask(shared, webhook, write, &object, &mut warnings).await?;
                object = changed.filter(|_| sort.starts_with("mutating")).unwrap_or(object);
            }
        }
    }
    Ok((object, warnings))
}

/// What a webhook makes of an object; none where it leaves it as it is.
async fn ask(
    shared: &Shared,
    webhook: &Value,
    write: &Write<'_>,
    object: &Value,
    warnings: &mut Vec<String>,
) -> Result<Option<Value>, Response<Reply>> {
    let name = webhook["name"].as_str().unwrap_or_default();
    let review = review(shared, write, object);
    let answered = async {
        let target = Target::of(&shared.server, &webhook["clientConfig"])?;
        let response = webhook::call(&target, webhook, &review).await?;
        let changed = changed(object, &response)?;
        Ok::<_, String>((response, changed))
    };
    match answered.await {
        Ok((response, changed)) => {
            let told = response["warnings"].as_array().into_iter().flatten();
            warnings.extend(told.filter_map(Value::as_str).map(str::to_owned));
            match response["allowed"].as_bool() {
                Some(true) => Ok(changed),
                _ => Err(denial(name, &response)),
            }
        }
        Err(_) if webhook["failurePolicy"] == "Ignore" => Ok(None),
        Err(error) => {
            let what = format!(
                "Internal error occurred: failed calling webhook {name:?}: failed to call webhook: \
                 {error}"
            );
            Err(status(StatusCode::INTERNAL_SERVER_ERROR, &what))
        }
    }
}

fn denial(webhook: &str, response: &Value) -> Response<Reply> {
    let code = response["status"]["code"].as_u64().and_then(|code| u16::try_from(code).ok());
    let code = code.and_then(|code| StatusCode::from_u16(code).ok());
    let message = response["status"]["message"].as_str();
    let what = match message {
        Some(message) => format!("admission webhook {webhook:?} denied the request: {message}"),
        None => format!("admission webhook {webhook:?} denied the request without explanation"),
    };
    status(code.unwrap_or(StatusCode::BAD_REQUEST), &what)
}

fn changed(object: &Value, response: &Value) -> Result<Option<Value>, String> {
    let Some(encoded) = response["patch"].as_str() else { return Ok(None) };
    if response["patchType"] != "JSONPatch" {
        return Err(format!("unexpected patch type {}", response["patchType"]));
    }
    let text = STANDARD.decode(encoded).map_err(|error| error.to_string())?;
    let steps = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    let mut object = object.clone();
    patch::apply(&mut object, &steps)?;
    Ok(Some(object))
}

fn review(shared: &Shared, write: &Write<'_>, object: &Value) -> Value {
    let Write { place, before } = write;
    let (group, version) = (place.group(), place.short_version());
    let kind = json!({ "group": group, "version": version, "kind": place.kind.name() });
    let resource = json!({ "group": group, "version": version, "resource": place.kind.plural() });
    let options = if before.is_some() { "UpdateOptions" } else { "CreateOptions" };
    json!({
        "kind": "AdmissionReview", "apiVersion": "admission.k8s.io/v1",
        "request": {
            "uid": format!("00000000-0000-4000-8000-{:012}", shared.number()),
            "kind": kind, "requestKind": kind, "resource": resource, "requestResource": resource,
            "name": object["metadata"]["name"], "namespace": place.namespace,
            "operation": write.operation(), "object": object, "oldObject": before,
            "userInfo": { "username": super::CLIENT, "groups": ["system:authenticated"] },
            "dryRun": false,
            "options": { "kind": options, "apiVersion": "meta.k8s.io/v1" },
        },
    })
}

/// Whether a webhook is to be asked about an object.
fn is_for(shared: &Shared, webhook: &Value, write: &Write<'_>, object: &Value) -> bool {
    let Write { place, .. } = write;
    let has = |list: &Value, wanted: &str| {
        let mut list = list.as_array().into_iter().flatten();
        list.any(|each| each == "*" || each == wanted)
    };
    let mut rules = webhook["rules"].as_array().into_iter().flatten();
    let is_ruled = rules.any(|rule| {
        has(&rule["apiGroups"], place.group())
            && has(&rule["apiVersions"], place.short_version())
            && has(&rule["resources"], &place.kind.plural())
            && has(&rule["operations"], write.operation())
            && match rule["scope"].as_str() {
                Some("Namespaced") => !place.namespace.is_empty(),
                Some("Cluster") => place.namespace.is_empty(),
                _ => true,
            }
    });
    let mut namespace = shared.namespace_labels(&place.namespace);
    if !place.namespace.is_empty() {
        namespace[NAME_LABEL] = json!(place.namespace);
    }
    is_ruled
        && selects(&webhook["namespaceSelector"], &namespace)
        && selects(&webhook["objectSelector"], &object["metadata"]["labels"])
}

/// Whether a label selector selects what has these labels.
fn selects(selector: &Value, labels: &Value) -> bool {
    let mut wanted = selector["matchLabels"].as_object().into_iter().flatten();
    let mut expressions = selector["matchExpressions"].as_array().into_iter().flatten();
    wanted.all(|(key, value)| labels.get(key) == Some(value))
        && expressions.all(|expression| {
            let label = labels.get(expression["key"].as_str().unwrap_or_default());
            let values = expression["values"].as_array();
            let is_one = label.is_some_and(|label| values.is_some_and(|all| all.contains(label)));
            match expression["operator"].as_str() {
                Some("In") => is_one,
                Some("NotIn") => !is_one,
                Some("Exists") => label.is_some(),
                _ => label.is_none(),
            }
        })
}
