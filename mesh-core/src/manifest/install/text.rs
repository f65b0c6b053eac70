//! Documents as text: YAML with `---` before each, or JSON as a List.

use serde_json::{Value, json};

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
