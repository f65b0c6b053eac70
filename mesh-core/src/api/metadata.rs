//! Which object something comes from (`meta.proto`), and labels.

// prost's maps are HashMaps; what is taken out of them is sorted.
#![allow(clippy::disallowed_types)]

use std::collections::{BTreeMap, HashMap};

use linkerd2_proxy_api::meta as proto;

use super::codec::{Codec, DecodeError, Decoded, decode_u16, field};
use crate::model::labels::Labels;
use crate::model::metadata::{Metadata, ResourceRef};

impl Codec for Metadata {
    type Proto = proto::Metadata;

    fn encode(&self) -> Self::Proto {
        let kind = match self {
            Self::Default(name) => proto::metadata::Kind::Default(name.to_string()),
            Self::Resource(resource) => proto::metadata::Kind::Resource(proto::Resource {
                group: resource.group.clone(),
                kind: resource.kind.clone(),
                name: resource.name.clone(),
                namespace: resource.namespace.clone(),
                section: resource.section.clone(),
                port: u32::from(resource.port),
            }),
        };
        proto::Metadata { kind: Some(kind) }
    }

    fn decode(proto: Self::Proto) -> Decoded<Self> {
        match proto.kind {
            Some(proto::metadata::Kind::Default(name)) => Ok(Self::new_default(&name)),
            Some(proto::metadata::Kind::Resource(resource)) => {
                Ok(Self::new_resource(ResourceRef {
                    port: field("resource.port", resource.port, decode_u16)?,
                    group: resource.group,
                    kind: resource.kind,
                    name: resource.name,
                    namespace: resource.namespace,
                    section: resource.section,
                }))
            }
            None => Err(DecodeError::new("is neither a default nor a resource")),
        }
    }
}

/// Labels on the wire. Protobuf maps have no order, so nothing depends on one.
pub(super) type LabelMap = HashMap<String, String>;

pub(super) fn encode_labels(labels: &Labels) -> LabelMap {
    let owned = |(name, value): (&str, &str)| (name.to_string(), value.to_string());
    labels.iter().map(owned).collect()
}

pub(super) fn decode_labels(labels: LabelMap) -> Labels {
    Labels::from(labels.into_iter().collect::<BTreeMap<_, _>>())
}

/// Where Linkerd names an object by three labels: `group`, `kind` and `name`, among others.
pub(super) fn encode_labelled(object: &Metadata, labels: &Labels) -> LabelMap {
    let mut all = encode_labels(labels);
    all.insert("group".to_string(), object.group().to_string());
    all.insert("kind".to_string(), object.kind().to_string());
    all.insert("name".to_string(), object.name().to_string());
    all
}

/// The object that `group`, `kind` and `name` name, and the other labels. Without `kind`, as old
/// control planes send it, `name` must be `default:NAME`.
pub(super) fn decode_labelled(mut labels: LabelMap) -> Decoded<(Metadata, Labels)> {
    let missing = |label: &str| DecodeError::new("required").at(&format!("labels[{label:?}]"));
    let name = labels.remove("name").ok_or_else(|| missing("name"))?;
    let (group, kind) = (labels.remove("group"), labels.remove("kind"));
    let object = match (kind, name.strip_prefix("default:")) {
        (Some(kind), _) if kind == "default" => Metadata::new_default(&name),
        (None, Some(name)) => Metadata::new_default(name),
        (Some(kind), _) => Metadata::new_resource(ResourceRef {
            group: group.ok_or_else(|| missing("group"))?,
            kind,
            name,
            ..ResourceRef::default()
        }),
        (None, None) => return Err(missing("kind")),
    };
    Ok((object, decode_labels(labels)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(pairs: &[(&str, &str)]) -> LabelMap {
        encode_labels(&pairs.iter().copied().collect())
    }

    #[test]
    fn objects_are_named_by_group_kind_and_name() {
        let given = labels(&[("group", ""), ("kind", "default"), ("name", "deny")]);
        let (object, rest) = decode_labelled(given).unwrap();
        assert_eq!(object, Metadata::new_default("deny"));
        assert!(rest.is_empty());

        let given = labels(&[("group", "g"), ("kind", "server"), ("name", "x"), ("a", "b")]);
        let (object, rest) = decode_labelled(given.clone()).unwrap();
        assert_eq!((object.group(), object.kind()), ("g", "server"));
        assert_eq!(encode_labelled(&object, &rest), given);

        let (old, _) = decode_labelled(labels(&[("name", "default:deny")])).unwrap();
        assert_eq!(old, Metadata::new_default("deny"));
    }

    #[test]
    fn a_missing_label_is_named() {
        let error =
            |given: &[(&str, &str)]| decode_labelled(labels(given)).unwrap_err().to_string();
        assert_eq!(error(&[("kind", "server")]), r#"labels["name"]: required"#);
        assert_eq!(error(&[("name", "x")]), r#"labels["kind"]: required"#);
        assert_eq!(error(&[("name", "x"), ("kind", "server")]), r#"labels["group"]: required"#);
    }
}
