//! What of an event is asked for by a template: `{.source.ip} {.requestInitEvent.path}`. Fields,
//! `['quoted']` ones, indices and `[*]`, of what kubectl's JSONPath has.

use serde_json::Value;

/// A template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct JsonPath(Vec<Part>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Part {
    Text(String),
    Path(Vec<Step>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(usize),
    All,
}

impl JsonPath {
    /// Reads a template; a path alone may do without its braces.
    pub(super) fn new(template: &str) -> Result<Self, String> {
        if !template.contains('{') {
            return Ok(Self(vec![Part::Path(steps(template)?)]));
        }
        let mut parts = Vec::new();
        let mut rest = template;
        while let Some((text, after)) = rest.split_once('{') {
            if !text.is_empty() {
                parts.push(Part::Text(text.to_string()));
            }
            let (path, after) = after
                .split_once('}')
                .ok_or_else(|| format!("{template}: a brace is not closed"))?;
            // `{"\t"}` is a text.
            match path.strip_prefix('"').and_then(|text| text.strip_suffix('"')) {
                Some(text) => {
                    parts.push(Part::Text(text.replace("\\t", "\t").replace("\\n", "\n")));
                }
                None => parts.push(Part::Path(steps(path)?)),
            }
            rest = after;
        }
        if !rest.is_empty() {
            parts.push(Part::Text(rest.to_string()));
        }
        Ok(Self(parts))
    }

    /// What the template makes of a value; none where it has nothing of what is asked for.
    pub(super) fn of(&self, value: &Value) -> Option<String> {
        let mut text = String::new();
        let mut has_any = false;
        for part in &self.0 {
            match part {
                Part::Text(literal) => text.push_str(literal),
                Part::Path(path) => {
                    let found = path.iter().fold(vec![value], |found, step| {
                        found.into_iter().flat_map(|value| step.of(value)).collect()
                    });
                    has_any |= !found.is_empty();
                    let found: Vec<_> = found.into_iter().map(plain).collect();
                    text.push_str(&found.join(" "));
                }
            }
        }
        has_any.then_some(text)
    }
}

impl Step {
    fn of<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match (self, value) {
            (Self::Field(name), Value::Object(fields)) => fields.get(name).into_iter().collect(),
            (Self::Index(index), Value::Array(items)) => items.get(*index).into_iter().collect(),
            (Self::All, Value::Array(items)) => items.iter().collect(),
            (Self::All, Value::Object(fields)) => fields.values().collect(),
            _ => Vec::new(),
        }
    }
}

fn plain(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_string)
}

fn steps(path: &str) -> Result<Vec<Step>, String> {
    let wrong = || format!("{path:?} is no path; write one as {{.requestInitEvent.path}}");
    let mut rest = path.trim().trim_start_matches('$');
    let mut steps = Vec::new();
    while !rest.is_empty() {
        if let Some(after) = rest.strip_prefix('[') {
            let (inside, after) = after.split_once(']').ok_or_else(wrong)?;
            let quoted = inside.trim().strip_prefix('\'').and_then(|text| text.strip_suffix('\''));
            steps.push(match (inside.trim(), quoted) {
                ("*", _) => Step::All,
                (_, Some(name)) => Step::Field(name.to_string()),
                (index, None) => Step::Index(index.parse().map_err(|_| wrong())?),
            });
            rest = after;
            continue;
        }
        let name = rest.strip_prefix('.').ok_or_else(wrong)?;
        let end = name.find(['.', '[']).unwrap_or(name.len());
        steps.push(match &name[..end] {
            "" => return Err(wrong()),
            "*" => Step::All,
            field => Step::Field(field.to_string()),
        });
        rest = &name[end..];
    }
    if steps.is_empty() { Err(wrong()) } else { Ok(steps) }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn of(template: &str) -> Option<String> {
        let event = json!({
            "source": {"ip": "10.0.0.1", "metadata": {"pod": "web-1", "app.io/x": "y"}},
            "requestInitEvent": {"path": "/a", "headers": [{"name": "a"}, {"name": "b"}]},
        });
        JsonPath::new(template).unwrap().of(&event)
    }

    #[test]
    fn templates_show_what_they_name() {
        let is = |template: &str, text: &str| assert_eq!(of(template).as_deref(), Some(text));
        is("{.requestInitEvent.path}", "/a");
        is(".requestInitEvent.path", "/a");
        is("{$.source.ip}{\"\\t\"}{.source.metadata.pod}!", "10.0.0.1\tweb-1!");
        is("{.requestInitEvent.headers[1].name}", "b");
        is("{.requestInitEvent.headers[*].name}", "a b");
        is("{.source.metadata['app.io/x']}", "y");
        is("{.requestInitEvent.headers[0]}", r#"{"name":"a"}"#);
        assert_eq!(of("{.responseInitEvent.httpStatus}"), None);
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for template in ["", "{", "{path}", "{.a[}", "{.a[x]}", "{..}"] {
            assert!(JsonPath::new(template).is_err(), "{template}");
        }
    }
}
