//! The injector's answers to an API server that is about to create something: an AdmissionReview in,
//! an AdmissionReview out. Serves nothing and asks nobody.
//!
//! Law: nothing is ever refused. What has no sidecar coming goes through as it is, and so does what
//! cannot be understood beyond its `uid`; annotations that cannot be used are passed over with a
//! warning, which kubectl shows to whoever wrote them.

use std::collections::BTreeMap;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::manifest::annotations::{self, INJECT, OPAQUE_PORTS};
use crate::manifest::inject::{self, Skip, Surroundings};
use crate::manifest::{Values, patch};

use super::review::Request;

pub use super::review::{REVIEW_BYTES_MAX, ReviewError};

/// What the injector knows of the cluster.
pub trait Surrounded {
    /// The annotations of a namespace.
    fn namespace_annotations(&self, namespace: &str) -> BTreeMap<String, String>;

    /// What owns an object, where that is known: `("Deployment", "web")` for a ReplicaSet.
    fn owner_of(&self, namespace: &str, kind: &str, name: &str) -> Option<(String, String)>;
}

/// An answer, and what it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// The AdmissionReview to send.
    pub review: Vec<u8>,
    /// What was decided.
    pub decision: Decision,
    /// Of what.
    pub subject: Subject,
}

/// What an answer is about, for those who count and tell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Subject {
    /// `Pod` and the like.
    pub kind: String,
    /// Its namespace.
    pub namespace: String,
    /// What owns it, through what is between them.
    pub owner: Option<Owner>,
    /// Whose annotation asks for a sidecar or refuses one: `workload`, `namespace` or nobody's.
    pub annotation_at: &'static str,
}

/// What owns a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Owner {
    /// `apps/v1` and the like.
    pub api_version: String,
    /// `Deployment` and the like.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid, where the pod tells it.
    pub uid: Option<String>,
}

/// What was decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    /// A sidecar.
    Injected,
    /// Annotations of the namespace, without a sidecar.
    Annotated,
    /// No sidecar, for a reason.
    Skipped(Skip),
    /// Nothing that concerns the mesh.
    Ignored,
}

/// Answers a review.
///
/// # Errors
/// [`ReviewError`].
pub fn answer(
    review: &[u8],
    values: &Values,
    surrounded: &dyn Surrounded,
) -> Result<Answer, ReviewError> {
    Ok(answer_request(&Request::read(review)?, values, surrounded))
}

/// Answers a review that has been read.
pub(super) fn answer_request(
    request: &Request,
    values: &Values,
    surrounded: &dyn Surrounded,
) -> Answer {
    let mut after = request.object.clone();
    let mut warnings = Vec::new();
    let decision = match request.object["kind"].as_str() {
        Some("Pod") => pod(&mut after, &request.namespace, values, surrounded, &mut warnings),
        Some("Service") => {
            let namespace = surrounded.namespace_annotations(&request.namespace);
            inherit_opaque_ports(&mut after, &namespace)
        }
        _ => Decision::Ignored,
    };
    let operations = patch::difference(&request.object, &after);
    let patch = (!operations.is_empty())
        .then(|| STANDARD.encode(serde_json::to_vec(&operations).expect("plain data")));
    let subject = Subject::of(&request.object, &request.namespace, surrounded);
    Answer { review: request.allow(patch, warnings).review(), decision, subject }
}

fn pod(
    pod: &mut Value,
    namespace: &str,
    values: &Values,
    surrounded: &dyn Surrounded,
    warnings: &mut Vec<String>,
) -> Decision {
    let namespace_annotations = surrounded.namespace_annotations(namespace);
    let owner = Owner::of(pod, namespace, surrounded);
    let owner = owner.map(|owner| (owner.kind.to_lowercase(), owner.name));
    let mut surroundings =
        Surroundings { namespace: namespace.to_string(), namespace_annotations, owner };
    if !inject::is_whole(pod) {
        return Decision::Ignored;
    }
    if let Err(skip) = inject::is_asked(pod, &surroundings) {
        return match inherit_opaque_ports(pod, &surroundings.namespace_annotations) {
            Decision::Annotated => Decision::Annotated,
            _ => Decision::Skipped(skip),
        };
    }
    warnings.extend(annotations::unknown(&inject::annotations(pod)));
    let before = pod.clone();
    if let Err(bad) = inject::pod(pod, values, &surroundings) {
        // Without these, the rest is as good as it was; the pod keeps what its author wrote.
        let mut usable = before.clone();
        for bad in &bad {
            warnings.push(format!("{bad}; it is passed over"));
            surroundings.namespace_annotations.remove(&bad.name);
            if let Some(annotations) = usable.pointer_mut("/metadata/annotations") {
                annotations.as_object_mut().map(|annotations| annotations.remove(&bad.name));
            }
        }
        if inject::pod(&mut usable, values, &surroundings).is_err() {
            *pod = before;
            return Decision::Ignored;
        }
        for (name, value) in inject::annotations(&before) {
            usable["metadata"]["annotations"][name] = value.into();
        }
        *pod = usable;
    }
    Decision::Injected
}

impl Subject {
    fn of(object: &Value, namespace: &str, surrounded: &dyn Surrounded) -> Self {
        let asks = |annotations: &BTreeMap<String, String>| annotations.contains_key(INJECT);
        let annotation_at = match inject::has_whole_metadata(object) {
            true if asks(&inject::annotations(object)) => "workload",
            _ if asks(&surrounded.namespace_annotations(namespace)) => "namespace",
            _ => "",
        };
        let kind = object["kind"].as_str().unwrap_or_default().to_string();
        let owner = Owner::of(object, namespace, surrounded);
        Self { kind, namespace: namespace.to_string(), owner, annotation_at }
    }
}

impl Owner {
    /// What made a pod, through what made that.
    fn of(pod: &Value, namespace: &str, surrounded: &dyn Surrounded) -> Option<Self> {
        let owners = pod["metadata"]["ownerReferences"].as_array()?;
        let is_controller = |owner: &&Value| owner["controller"] == true;
        let owner = owners.iter().find(is_controller).or_else(|| owners.first())?;
        let text = |name: &str| owner[name].as_str().map(str::to_string);
        let (kind, name) = (text("kind")?, text("name")?);
        let api_version = text("apiVersion").unwrap_or_default();
        let above = surrounded.owner_of(namespace, &kind, &name);
        // A ReplicaSet's name is its Deployment's with the hash that its pods carry as a label.
        let by_name = || {
            let hash = pod["metadata"]["labels"]["pod-template-hash"].as_str()?;
            let deployment = name.strip_suffix(hash)?.strip_suffix('-')?;
            (kind == "ReplicaSet").then(|| ("Deployment".to_string(), deployment.to_string()))
        };
        Some(match above.or_else(by_name) {
            Some((kind, name)) => Self { api_version, kind, name, uid: None },
            None => Self { api_version, kind, name, uid: text("uid") },
        })
    }
}

/// Opaque ports of a namespace are those of its services and pods that name none themselves.
fn inherit_opaque_ports(to: &mut Value, namespace: &BTreeMap<String, String>) -> Decision {
    match namespace.get(OPAQUE_PORTS) {
        Some(ports)
            if inject::has_whole_metadata(to)
                && !inject::annotations(to).contains_key(OPAQUE_PORTS) =>
        {
            inject::annotate(to, OPAQUE_PORTS, ports);
            Decision::Annotated
        }
        _ => Decision::Ignored,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    /// A cluster in which everything is asked for.
    struct Cluster(BTreeMap<String, String>);

    impl Surrounded for Cluster {
        fn namespace_annotations(&self, _: &str) -> BTreeMap<String, String> {
            self.0.clone()
        }

        fn owner_of(&self, _: &str, kind: &str, name: &str) -> Option<(String, String)> {
            let name = name.rsplit_once('-')?.0;
            (kind == "ReplicaSet").then(|| ("Deployment".into(), name.into()))
        }
    }

    fn cluster(annotations: &[(&str, &str)]) -> Cluster {
        let named = annotations.iter().map(|(name, value)| (name.to_string(), value.to_string()));
        Cluster(named.collect())
    }

    fn ask(object: Value, cluster: &Cluster) -> (Value, Decision) {
        let review = json!({
            "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
            "request": {"uid": "u-1", "namespace": "shop", "operation": "CREATE", "object": object},
        });
        let answer = answer(review.to_string().as_bytes(), &Values::default(), cluster).unwrap();
        let review: Value = serde_json::from_slice(&answer.review).unwrap();
        assert_eq!(
            (&review["response"]["uid"], &review["response"]["allowed"]),
            (&"u-1".into(), &true.into())
        );
        (review["response"].clone(), answer.decision)
    }

    fn patch(response: &Value) -> Vec<Value> {
        let patch = STANDARD.decode(response["patch"].as_str().unwrap()).unwrap();
        serde_json::from_slice(&patch).unwrap()
    }

    fn pod(annotations: Value) -> Value {
        json!({"kind": "Pod", "apiVersion": "v1",
            "metadata": {"generateName": "web-5d-", "annotations": annotations, "ownerReferences":
                [{"kind": "ReplicaSet", "name": "web-5d", "controller": true}]},
            "spec": {"containers": [{"name": "web", "image": "web:1"}]}})
    }

    #[test]
    fn a_pod_of_an_annotated_namespace_gets_a_sidecar_and_its_deployments_name() {
        let cluster = cluster(&[("linkerd.io/inject", "enabled")]);
        let (response, decision) = ask(pod(json!({})), &cluster);
        assert_eq!((decision, &response["patchType"]), (Decision::Injected, &"JSONPatch".into()));
        let patch = patch(&response);
        let at = |path: &str| patch.iter().find(|op| op["path"] == path).map(|op| &op["value"]);
        assert_eq!(at("/metadata/labels").unwrap()["linkerd.io/proxy-deployment"], "web");
        let names = at("/spec/initContainers").unwrap().as_array().unwrap().iter();
        let names: Vec<_> = names.map(|container| container["name"].as_str().unwrap()).collect();
        assert_eq!(names, ["linkerd-init", "linkerd-proxy"]);
    }

    #[test]
    fn who_has_no_sidecar_coming_goes_through_as_it_is() {
        let (response, decision) = ask(pod(json!({})), &cluster(&[]));
        assert_eq!((decision, response.get("patch")), (Decision::Skipped(Skip::NotAsked), None));
        let (response, decision) = ask(json!({"kind": "ConfigMap"}), &cluster(&[]));
        assert_eq!((decision, response.get("patch")), (Decision::Ignored, None));
    }

    #[test]
    fn opaque_ports_of_a_namespace_are_its_services() {
        let cluster = cluster(&[("config.linkerd.io/opaque-ports", "25")]);
        let (response, decision) = ask(json!({"kind": "Service", "metadata": {}}), &cluster);
        assert_eq!(decision, Decision::Annotated);
        let annotations = json!({"config.linkerd.io/opaque-ports": "25"});
        let added = json!([{"op": "add", "path": "/metadata/annotations", "value": annotations}]);
        assert_eq!(Value::from(patch(&response)), added);
    }

    #[test]
    fn annotations_that_cannot_be_used_are_warned_of_and_stay() {
        let cluster = cluster(&[("config.linkerd.io/proxy-uid", "root")]);
        let annotations = json!({"linkerd.io/inject": "enabled", "config.linkerd.io/admin-port": "x",
            "config.linkerd.io/admin-prot": "1"});
        let (response, decision) = ask(pod(annotations), &cluster);
        assert_eq!(decision, Decision::Injected);
        let warnings = response["warnings"].as_array().unwrap().iter();
        let warnings: Vec<_> = warnings.map(|warning| warning.as_str().unwrap()).collect();
        insta::assert_snapshot!(warnings.join("\n"), @r"
        annotation config.linkerd.io/admin-prot means nothing; did you mean config.linkerd.io/admin-port?
        annotation config.linkerd.io/admin-port: `x` cannot be used; it takes a port from 1 to 65535; it is passed over
        annotation config.linkerd.io/proxy-uid: `root` cannot be used; it takes a number; it is passed over
        ");
        let removed = |op: &Value| op["op"] == "remove";
        assert!(!patch(&response).iter().any(removed), "{response}");
    }

    #[test]
    fn what_is_no_review_says_why() {
        let fault = |text: &str| {
            answer(text.as_bytes(), &Values::default(), &cluster(&[])).unwrap_err().to_string()
        };
        insta::assert_snapshot!(fault("{}"), @"not an AdmissionReview of admission.k8s.io/v1: missing field `apiVersion` at line 1 column 2");
        insta::assert_snapshot!(fault(r#"{"apiVersion": "v1", "kind": "Pod"}"#), @"not an AdmissionReview of admission.k8s.io/v1: it is a Pod of v1");
    }
}
