//! Addresses of this console: what a page is asked for, and links to others. Every address is a
//! path of this origin, so none leads elsewhere or runs a script.

use std::collections::BTreeMap;
use std::fmt::{self, Write};

/// The longest name or value that is taken from an address; more of it is cut off.
const VALUE_CHARS_MAX: usize = 2_048;
/// The most parameters that are taken from an address; further ones are passed over.
const PARAMETERS_MAX: usize = 32;

/// A link to a page of the console.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    path: String,
    query: Vec<(String, String)>,
    fragment: Option<&'static str>,
}

impl Link {
    /// A path that is written in this program.
    pub(crate) fn to(path: &'static str) -> Self {
        debug_assert!(path.starts_with('/') && !path.starts_with("//"));
        Self { path: path.to_string(), query: Vec::new(), fragment: None }
    }

    /// A further part of the path, whatever its characters.
    pub(crate) fn segment(mut self, segment: &str) -> Self {
        if !self.path.ends_with('/') {
            self.path.push('/');
        }
        // Browsers would take these for steps in the path, escaped or not.
        match segment {
            "." | ".." => self.path.push('_'),
            _ => encode(&mut self.path, segment),
        }
        self
    }

    /// A parameter. One that is empty is left out, and one of the same name is replaced.
    pub(crate) fn query(mut self, name: &str, value: impl ToString) -> Self {
        let value = value.to_string();
        self.query.retain(|(other, _)| other != name);
        if !value.is_empty() {
            self.query.push((name.to_string(), value));
        }
        self
    }

    /// A place on the page that one is on.
    pub(crate) fn here(fragment: &'static str) -> Self {
        Self { path: String::new(), query: Vec::new(), fragment: Some(fragment) }
    }
}

impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        let mut encoded = String::new();
        for (index, (name, value)) in self.query.iter().enumerate() {
            encoded.push(if index == 0 { '?' } else { '&' });
            encode(&mut encoded, name);
            encoded.push('=');
            encode(&mut encoded, value);
        }
        f.write_str(&encoded)?;
        match self.fragment {
            Some(fragment) => write!(f, "#{fragment}"),
            None => Ok(()),
        }
    }
}

/// What a page is asked for: the parts of its path, decoded, and its parameters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Asked {
    path: Vec<String>,
    query: BTreeMap<String, String>,
}

impl Asked {
    /// Reads a path and a query. What is not well formed is taken as it stands.
    pub(crate) fn read(path: &str, query: &str) -> Self {
        let segments = path.split('/').filter(|segment| !segment.is_empty());
        let pairs = query.split('&').filter(|pair| !pair.is_empty()).take(PARAMETERS_MAX);
        let pairs = pairs.map(|pair| pair.split_once('=').unwrap_or((pair, "")));
        Self {
            path: segments.take(8).map(|segment| decode(segment, false)).collect(),
            query: pairs
                .map(|(name, value)| (decode(name, true), decode(value, true).trim().to_string()))
                .filter(|(_, value)| !value.is_empty())
                .collect(),
        }
    }

    /// Reads a path with its query.
    pub(crate) fn read_both(address: &str) -> Self {
        let address = address.split('#').next().unwrap_or_default();
        let (path, query) = address.split_once('?').unwrap_or((address, ""));
        Self::read(path, query)
    }

    /// The parts of the path.
    pub(crate) fn path(&self) -> Vec<&str> {
        self.path.iter().map(String::as_str).collect()
    }

    /// A parameter; empty where there is none.
    pub(crate) fn value(&self, name: &str) -> &str {
        self.query.get(name).map(String::as_str).unwrap_or_default()
    }

    /// A parameter as a number.
    pub(crate) fn number(&self, name: &str) -> Option<usize> {
        self.value(name).parse().ok()
    }

    /// A link to another place that keeps some of the parameters.
    pub(crate) fn keep(&self, link: Link, names: &[&str]) -> Link {
        names.iter().fold(link, |link, name| link.query(name, self.value(name)))
    }
}

fn encode(out: &mut String, text: &str) {
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' => {
                out.push(char::from(byte));
            }
            // Writing into a string does not fail.
            _ => drop(write!(out, "%{byte:02X}")),
        }
    }
}

/// Takes percent escapes out, and plus signs for spaces in a query.
fn decode(text: &str, is_query: bool) -> String {
    let bytes = text.as_bytes();
    let mut out = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        let escaped = match byte {
            b'%' => bytes
                .get(at + 1..at + 3)
                .and_then(|hex| u8::from_str_radix(std::str::from_utf8(hex).ok()?, 16).ok()),
            _ => None,
        };
        match escaped {
            Some(byte) => out.push(byte),
            None if is_query && *byte == b'+' => out.push(b' '),
            None => out.push(*byte),
        }
        at += if escaped.is_some() { 3 } else { 1 };
    }
    String::from_utf8_lossy(&out).chars().take(VALUE_CHARS_MAX).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_link_is_a_path_of_this_origin() {
        let link = Link::to("/workloads").segment("a/b").segment("..").query("q", "x y&z");
        assert_eq!(link.to_string(), "/workloads/a%2Fb/_?q=x%20y%26z");
        assert_eq!(link.query("q", "").to_string(), "/workloads/a%2Fb/_");
    }

    #[test]
    fn escapes_that_are_none_stay() {
        let asked = Asked::read("/a%2Fb/%zz", "q=1+2&bad=%f&e=");
        assert_eq!(asked.path(), ["a/b", "%zz"]);
        assert_eq!((asked.value("q"), asked.value("bad"), asked.value("e")), ("1 2", "%f", ""));
    }

    proptest! {
        #[test]
        fn what_a_link_says_is_what_is_asked(segment in "[^/]{1,20}", value in "\\PC{1,20}") {
            prop_assume!(!matches!(&*segment, "." | ".."));
            prop_assume!(!value.trim().is_empty());
            let link = Link::to("/x").segment(&segment).query("v", &value).to_string();
            let asked = Asked::read_both(&link);
            prop_assert_eq!(asked.path(), ["x", &segment]);
            prop_assert_eq!(asked.value("v"), value.trim());
        }
    }
}
