//! Documents as text: YAML with `---` before each, or JSON as a List.

use serde_json::{Value, json};

use crate::resource::yaml;

/// How documents are written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// YAML documents.
    #[default]
    Yaml,
    /// One JSON List.
    Json,
}

/// The documents' text, as `kubectl apply -f -` takes it.
pub fn render(documents: &[Value], format: Format) -> String {
    match format {
        Format::Json => {
            let list = json!({"apiVersion": "v1", "kind": "List", "items": documents});
            serde_json::to_string_pretty(&list).expect("documents are plain data") + "\n"
        }
        Format::Yaml => {
            let text = |document| serde_yaml_ng::to_string(document).expect("it is plain data");
            documents.iter().map(|document| format!("---\n{}", text(document))).collect()
        }
    }
}

/// The documents of a text, those in Lists too.
///
/// # Errors
/// Which document is no YAML, and what is wrong with it.
pub fn documents(text: &str) -> Result<Vec<Value>, String> {
    let mut documents = Vec::new();
    for (index, (_, document)) in yaml::documents(text).into_iter().enumerate() {
        let read: Result<Value, _> = serde_yaml_ng::from_str(document);
        let document = read.map_err(|error| format!("document {}: {error}", index + 1))?;
        let is_list = document["kind"] == "List" && document["items"].is_array();
        match is_list {
            true => documents.extend(document["items"].as_array().into_iter().flatten().cloned()),
            false if document.is_null() => {}
            false => documents.push(document),
        }
    }
    Ok(documents)
}
