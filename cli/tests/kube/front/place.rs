//! Where things are: what a path of the API names, of the kinds that the simulator keeps.

use mesh_core::resource::{Kind, ObjectRef};

/// What a path names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    pub kind: Kind,
    /// `v1`, `policy.linkerd.io/v1beta3`.
    pub version: String,
    /// Empty: all of them, or the kind has none.
    pub namespace: String,
    /// None: the collection.
    pub name: Option<String>,
    /// `status` and the like.
    pub part: Option<String>,
}

impl Place {
    /// Reads a path. `is_served` tells whether a version of a kind is there.
    pub fn of(path: &str, is_served: impl Fn(Kind, &str) -> bool) -> Option<Self> {
        let parts: Vec<_> = path.split('/').skip(1).collect();
        let (version, rest) = match parts.as_slice() {
            ["api", version, rest @ ..] => ((*version).to_owned(), rest),
            ["apis", group, version, rest @ ..] => (format!("{group}/{version}"), rest),
            _ => return None,
        };
        let (namespace, plural, name, part) = match *rest {
            [plural] => ("", plural, None, None),
            [plural, name] => ("", plural, Some(name), None),
            ["namespaces", namespace, plural] => (namespace, plural, None, None),
            ["namespaces", namespace, plural, name] => (namespace, plural, Some(name), None),
            ["namespaces", namespace, plural, name, part] => {
                (namespace, plural, Some(name), Some(part))
            }
            _ => return None,
        };
        let kind = Kind::ALL.iter().copied().find(|kind| {
            kind.plural() == plural
                && kind.api_versions().contains(&version)
                && is_served(*kind, &version)
        })?;
        let is_whole = name.is_none() || kind.is_namespaced() != namespace.is_empty();
        is_whole.then(|| Self {
            kind,
            version,
            namespace: namespace.to_owned(),
            name: name.map(str::to_owned),
            part: part.map(str::to_owned),
        })
    }

    /// The object that is named.
    pub fn object_ref(&self) -> Option<ObjectRef> {
        let name = self.name.clone()?;
        Some(ObjectRef { kind: self.kind, namespace: self.namespace.clone(), name })
    }

    /// The API group; empty for the core.
    pub fn group(&self) -> &str {
        self.version.split_once('/').map_or("", |(group, _)| group)
    }

    /// The version within the group.
    pub fn short_version(&self) -> &str {
        self.version.split_once('/').map_or(&self.version, |(_, version)| version)
    }
}
