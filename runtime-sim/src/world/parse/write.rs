//! Writes a scenario as a file.

use serde::Serialize;
use serde_yaml_ng::Value as Yaml;
use serde_yaml_ng::with::singleton_map_recursive;

use mesh_core::resource::Object;

use super::Scenario;
use super::schema::{API_VERSION, Document, Metadata};

impl Scenario {
    /// The text of a file that is read as this scenario.
    pub fn to_yaml(&self) -> String {
        let document = Document {
            api_version: API_VERSION.to_owned(),
            kind: "Scenario".to_owned(),
            metadata: Metadata { name: self.name.clone() },
            spec: self.spec.clone(),
        };
        let value = singleton_map_recursive::serialize(&document, serde_yaml_ng::value::Serializer);
        let mut documents = vec![value.expect("plain data can be written")];
        documents.extend(self.manifest_deployments.iter().map(to_value));
        documents.extend(self.manifest_stateful_sets.iter().map(to_value));
        documents.extend(self.manifests.iter().map(manifest));
        let texts = documents.into_iter().map(|mut document| {
            prune(&mut document);
            serde_yaml_ng::to_string(&document).expect("a value can be written")
        });
        texts.collect::<Vec<_>>().join("---\n")
    }
}

fn to_value(object: &impl Serialize) -> Yaml {
    serde_yaml_ng::to_value(object).expect("an object that was read can be written")
}

fn manifest(object: &Object) -> Yaml {
    let mut value = match object {
        Object::Namespace(object) => to_value(&**object),
        Object::ServiceAccount(object) => to_value(&**object),
        Object::Service(object) => to_value(&**object),
        Object::EndpointSlice(object) => to_value(&**object),
        Object::Pod(object) => to_value(&**object),
        Object::Node(object) => to_value(&**object),
        Object::ReplicaSet(object) => to_value(&**object),
        Object::Job(object) => to_value(&**object),
        Object::Workload(object) => to_value(&**object),
        Object::Server(object) => to_value(&**object),
        Object::AuthorizationPolicy(object) => to_value(&**object),
        Object::MeshTLSAuthentication(object) => to_value(&**object),
        Object::ServerAuthorization(object) => to_value(&**object),
        Object::NetworkAuthentication(object) => to_value(&**object),
        Object::PolicyHTTPRoute(object) => to_value(&**object),
        Object::HTTPRoute(object) => to_value(&**object),
        Object::GRPCRoute(object) => to_value(&**object),
        Object::ServiceProfile(object) => to_value(&**object),
        Object::ExternalWorkload(object) => to_value(&**object),
        Object::HTTPLocalRateLimitPolicy(object) => to_value(&**object),
        Object::EgressNetwork(object) => to_value(&**object),
    };
    if let Yaml::Mapping(map) = &mut value {
        let version = object.kind().api_version();
        map.entry("apiVersion".into()).or_insert_with(|| version.into());
        map.entry("kind".into()).or_insert_with(|| object.kind().to_string().into());
    }
    value
}

/// Removes what says nothing: fields without a value.
fn prune(value: &mut Yaml) {
    match value {
        Yaml::Mapping(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(prune);
        }
        Yaml::Sequence(items) => items.iter_mut().for_each(prune),
        _ => {}
    }
}
