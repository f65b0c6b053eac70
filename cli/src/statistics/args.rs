//! Flags that several commands have, and how resources are typed.

use clap::{Args, ValueEnum};
use mesh_core::control::public_api::resource::{ResourceKind, ResourceQuery};
use mesh_core::control::public_api::statistics::read_window;

/// Where.
#[derive(Clone, Debug, Args)]
pub(crate) struct ScopeArgs {
    /// The namespace
    #[arg(long, short, value_name = "NAME", default_value = "default")]
    pub(crate) namespace: String,
    /// All namespaces
    #[arg(long, short = 'A', conflicts_with = "namespace")]
    pub(crate) all_namespaces: bool,
}

impl ScopeArgs {
    /// As parts of a question.
    pub(crate) fn question(&self) -> (&'static str, String) {
        match self.all_namespaces {
            true => ("all_namespaces", "true".to_string()),
            false => ("namespace", self.namespace.clone()),
        }
    }
}

/// How an answer is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// A table
    Table,
    /// A table with more columns
    Wide,
    /// JSON
    Json,
}

/// A window such as `30s`: checked, and handed on as it is.
pub(crate) fn window(text: &str) -> Result<String, String> {
    read_window(text).map(|_| text.to_string()).map_err(|error| error.to_string())
}

/// One resource: `deploy/web`.
pub(crate) fn resource(text: &str) -> Result<String, String> {
    ResourceQuery::read_one(text).map(|_| text.to_string()).map_err(|error| error.to_string())
}

/// Resources as people type them: `deploy`, `deploy/web po/x`, `deploy web api`.
pub(crate) fn resources(typed: &[String]) -> Result<Vec<String>, String> {
    let check = |text: String| match ResourceQuery::read(&text) {
        Ok(_) => Ok(text),
        Err(error) => Err(error.to_string()),
    };
    match typed {
        [kind, names @ ..]
            if !names.is_empty()
                && !kind.contains('/')
                && names.iter().all(|name| !name.contains('/')) =>
        {
            names.iter().map(|name| check(format!("{kind}/{name}"))).collect()
        }
        all => all.iter().cloned().map(check).collect(),
    }
}

/// Whether names alone do not tell what is meant.
pub(crate) fn is_of_many_kinds(resources: &[String]) -> bool {
    let read = resources.iter().flat_map(|text| ResourceQuery::read(text).unwrap_or_default());
    let kinds: std::collections::BTreeSet<ResourceKind> = read.map(|one| one.kind).collect();
    kinds.len() > 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_are_taken_as_people_type_them() {
        let read = |typed: &[&str]| {
            let typed: Vec<_> = typed.iter().map(ToString::to_string).collect();
            resources(&typed).map(|all| all.join(" "))
        };
        assert_eq!(read(&["deploy"]).unwrap(), "deploy");
        assert_eq!(read(&["deploy", "web", "api"]).unwrap(), "deploy/web deploy/api");
        assert_eq!(read(&["deploy/web", "po/x"]).unwrap(), "deploy/web po/x");
        assert!(read(&["deploy", "po/x"]).is_ok());
        assert!(read(&["nothing", "web"]).unwrap_err().contains("there is no kind"));
    }
}
