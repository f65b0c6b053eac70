//! The rules in the fenced blocks of the architecture document, and what breaks them.

use std::collections::BTreeMap;

use crate::source::Source;

/// The blocks ```` ```layers ```` and ```` ```doors ````, as tables.
pub(crate) struct Rules {
    /// Module to the modules that it may import.
    pub(crate) layers: BTreeMap<String, Vec<String>>,
    /// Modules of one layer, of which the first may not import the second.
    strangers: Vec<(String, String)>,
    /// Path outside the crate to the modules that may name it.
    doors: Vec<(String, Vec<String>)>,
}

impl Rules {
    pub(crate) fn parse(document: &str) -> Self {
        let mut rules = Self { layers: BTreeMap::new(), strangers: Vec::new(), doors: Vec::new() };
        for line in block(document, "layers") {
            if let Some((from, to)) = line.split_once("->") {
                rules.layers.insert(from.trim().to_string(), list(to));
            } else if let Some((from, to)) = line.split_once(" x ") {
                rules.strangers.push((from.trim().to_string(), to.trim().to_string()));
            } else {
                panic!("a layer reads `module -> modules` or `module x module`: {line}");
            }
        }
        for line in block(document, "doors") {
            let (paths, owners) = line.rsplit_once(" : ").expect("a door reads `paths : owners`");
            let owners: Vec<String> =
                list(owners).into_iter().filter(|owner| owner != "-").collect();
            rules.doors.extend(list(paths).into_iter().map(|path| (path, owners.clone())));
        }
        rules
    }

    /// Modules that import each other, directly or through others.
    pub(crate) fn cycle(&self) -> Vec<String> {
        let mut remaining = self.layers.clone();
        loop {
            let is_free = |to: &Vec<String>| to.iter().all(|name| !remaining.contains_key(name));
            let free: Vec<String> = remaining
                .iter()
                .filter(|(_, to)| is_free(to))
                .map(|(module, _)| module.clone())
                .collect();
            if free.is_empty() {
                return remaining.into_keys().collect();
            }
            remaining.retain(|module, _| !free.contains(module));
        }
    }

    /// Every line of `source` that breaks a rule, and the rule.
    pub(crate) fn violations(&self, source: &Source) -> Vec<String> {
        let Some(layer) = source.module.first() else {
            return Vec::new();
        };
        let here = source.module.join("::");
        let told = source.imports().into_iter().filter_map(|(line, import)| {
            let why = match import.strip_prefix("crate::") {
                Some(inside) => self.forbid_inside(layer, &here, inside),
                None => self.forbid_outside(&here, &import),
            }?;
            Some(format!("{}:{line}: `{here}` may not use `{import}`: {why}", source.name))
        });
        told.collect()
    }

    fn forbid_inside(&self, layer: &str, here: &str, import: &str) -> Option<String> {
        let other = import.split("::").next().expect("split gives one");
        let below = self.layers.get(layer).is_some_and(|to| to.iter().any(|name| name == other));
        if other != layer && self.layers.contains_key(other) && !below {
            return Some(format!("`{other}` is not below `{layer}` in ```layers"));
        }
        let mut strangers = self.strangers.iter();
        let (a, b) = strangers.find(|(a, b)| within(here, a) && within(import, b))?;
        Some(format!("`{a}` and `{b}` do not know each other"))
    }

    fn forbid_outside(&self, here: &str, import: &str) -> Option<String> {
        let (_, owners) = self.doors.iter().find(|(path, _)| within(import, path))?;
        if owners.iter().any(|owner| within(here, owner)) {
            return None;
        }
        Some(match owners.as_slice() {
            [] => "it belongs to the runtimes".to_string(),
            owners => format!("it lives behind `{}`", owners.join("`, `")),
        })
    }
}

fn block<'a>(document: &'a str, name: &str) -> impl Iterator<Item = &'a str> {
    let open = format!("```{name}\n");
    let (_, body) = document.split_once(open.as_str()).expect("the block is there");
    let (body, _) = body.split_once("```").expect("the block ends");
    body.lines().filter(|line| !line.trim().is_empty())
}

fn list(text: &str) -> Vec<String> {
    text.split(',').map(|item| item.trim().to_string()).filter(|item| !item.is_empty()).collect()
}

/// Whether `path` is `prefix` or below it.
fn within(path: &str, prefix: &str) -> bool {
    path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}
