//! Whose proxies are asked: the pods of a resource, and the instances of plain hosts, as the index
//! has them. Those that cannot be tapped are found too, with the reason.

use std::fmt;

use ::http::StatusCode;

use super::TapQuestion;
use crate::control::destination::endpoints;
use crate::control::dial::ProxyAddress;
use crate::control::index::{Instance, View};
use crate::control::public_api::ApiError;
use crate::control::public_api::resource::ResourceKind;
use crate::control::select::matches_labels;
use crate::control::workload;
use crate::manifest::annotations::DISABLE_TAP;
use crate::model::labels::Labels;

/// Proxies that one tap asks at most.
pub const PODS_MAX: usize = 100;

/// Whom to ask, and who would have been asked too.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Found {
    /// Those that can be asked.
    pub targets: Vec<Target>,
    /// Those that cannot.
    pub missing: Vec<Missing>,
}

/// A proxy to be asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// Whose it is.
    pub name: Name,
    /// Where it serves taps.
    pub proxy: ProxyAddress,
    /// What its own end of a request is labelled with.
    pub labels: Labels,
}

/// A pod that cannot be tapped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missing {
    /// Which.
    pub name: Name,
    /// Why, for people.
    pub reason: String,
}

/// An instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// The pods of what is asked for.
///
/// # Errors
/// [`ApiError`] where there is no such thing, or none of its pods can be tapped.
pub fn find(view: &View<'_>, question: &TapQuestion) -> Result<Found, ApiError> {
    let mut found = Found::default();
    let wanted = view.instances().filter(|instance| is_wanted(view, question, *instance));
    for instance in wanted.filter(|instance| instance.is_running()) {
        let name =
            Name { namespace: instance.namespace().to_string(), name: instance.name().to_string() };
        match target(view, instance, name.clone()) {
            Ok(_) if found.targets.len() >= PODS_MAX => {
                let reason = format!("{PODS_MAX} others are tapped already");
                found.missing.push(Missing { name, reason });
            }
            Ok(target) => found.targets.push(target),
            Err(reason) => found.missing.push(Missing { name, reason }),
        }
    }
    match (found.targets.is_empty(), found.missing.first()) {
        (false, _) => Ok(found),
        (true, None) => Err(nobody(view, question)),
        (true, Some(first)) => {
            let message = format!(
                "no pod of {} can be tapped; of {} the first is {}: {}",
                described(question),
                found.missing.len(),
                first.name,
                first.reason
            );
            Err(ApiError::new(StatusCode::CONFLICT, message, "see docs/tap.md"))
        }
    }
}

fn is_wanted(view: &View<'_>, question: &TapQuestion, instance: Instance<'_>) -> bool {
    let selector = question.selector.as_ref();
    instance.namespace() == question.namespace
        && selector.is_none_or(|all| matches_labels(all, |name| instance.label(name)))
        && is_of(view, question, instance)
}

fn is_of(view: &View<'_>, question: &TapQuestion, instance: Instance<'_>) -> bool {
    let name = question.resource.name.as_deref();
    match question.resource.kind {
        ResourceKind::Namespace => true,
        ResourceKind::Pod => name.is_none_or(|name| instance.name() == name),
        ResourceKind::Service => is_of_service(view, instance, name),
        // A ReplicaSet's or a Job's pods are those of what made it, too.
        kind => {
            let made = workload::of_instance(view, instance);
            let by = instance.made_by();
            let made = made.as_ref().map(|(kind, name)| (kind.as_str(), name.as_str()));
            [made, by].into_iter().flatten().any(|(made_by, its_name)| {
                made_by.eq_ignore_ascii_case(kind.name()) && name.is_none_or(|n| n == its_name)
            })
        }
    }
}

fn is_of_service(view: &View<'_>, instance: Instance<'_>, name: Option<&str>) -> bool {
    if let Instance::Workload(workload) = instance {
        let service = workload.spec.service.as_deref();
        return service.is_some_and(|service| name.is_none_or(|name| service == name));
    }
    let selected = |service: &str| {
        let service = view.service(instance.namespace(), service);
        let spec = service.and_then(|service| service.spec.as_ref());
        let selector = spec.and_then(|spec| spec.selector.as_ref());
        let selector = selector.filter(|selector| !selector.is_empty());
        selector.is_some_and(|all| {
            all.iter().all(|(name, value)| instance.label(name) == Some(value.as_str()))
        })
    };
    name.is_some_and(selected)
}

/// An instance as it is to be asked, or why it cannot be.
fn target(view: &View<'_>, instance: Instance<'_>, name: Name) -> Result<Target, String> {
    if !instance.is_meshed(&view.mesh.control_namespace) {
        return Err("it has no proxy of this mesh".to_string());
    }
    let namespace = view.namespace(instance.namespace());
    let of_namespace = namespace.and_then(|namespace| namespace.metadata.annotations.as_ref());
    let of_namespace = of_namespace.and_then(|all| all.get(DISABLE_TAP)).map(String::as_str);
    if instance.annotation(DISABLE_TAP).or(of_namespace) == Some("true") {
        return Err(format!("{DISABLE_TAP} is true"));
    }
    if let Instance::Pod(_) = instance
        && instance.tap_service().is_none()
    {
        let reason = "its proxy has no LINKERD2_PROXY_TAP_SVC_NAME, so nobody may tap it; it was \
                      injected before there was a tap service, and has to be made anew";
        return Err(reason.to_string());
    }
    let address = instance.addresses().first().copied().ok_or("it has no address")?;
    let server = endpoints::identity(view, instance).ok_or("nobody knows its identity")?;
    let at = (address, instance.control_port()).into();
    let proxy = ProxyAddress { at, server };
    Ok(Target { name, proxy, labels: labels(view, instance) })
}

/// What Linkerd's tap says of a pod.
pub fn labels(view: &View<'_>, instance: Instance<'_>) -> Labels {
    let mut labels = vec![
        ("namespace".to_string(), instance.namespace().to_string()),
        ("pod".to_string(), instance.name().to_string()),
        ("serviceaccount".to_string(), instance.service_account().to_string()),
    ];
    labels.extend(workload::of_instance(view, instance));
    if let Some(control) = instance.control_namespace(&view.mesh.control_namespace) {
        labels.push(("control_plane_ns".to_string(), control.to_string()));
    }
    if let Some(hash) = instance.label("pod-template-hash") {
        labels.push(("pod_template_hash".to_string(), hash.to_string()));
    }
    labels.into_iter().collect()
}

fn described(question: &TapQuestion) -> String {
    match (&question.resource.name, question.resource.kind) {
        (Some(name), ResourceKind::Namespace) => format!("namespace {name}"),
        (Some(name), kind) => format!("{kind} {}/{name}", question.namespace),
        (None, kind) => format!("every {kind} of namespace {}", question.namespace),
    }
}

fn nobody(view: &View<'_>, question: &TapQuestion) -> ApiError {
    let of_namespace = |instance: Instance<'_>| instance.namespace() == question.namespace;
    let remedy = if !view.instances().any(of_namespace) {
        format!("namespace {} has no pods; give another with namespace=NAME", question.namespace)
    } else {
        format!("see what there is in namespace {}", question.namespace)
    };
    let message = format!("there is no running pod of {}", described(question));
    ApiError::new(StatusCode::NOT_FOUND, message, remedy)
}
