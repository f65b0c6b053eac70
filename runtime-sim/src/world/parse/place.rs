//! Where a field stands in a YAML document, by the document's own positions.

use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, IgnoredAny, MapAccess, SeqAccess, Visitor};

/// A step from a value into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Step {
    Key(String),
    Index(usize),
}

/// From the document to a value.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Path(pub(super) Vec<Step>);

impl Path {
    /// Reads `spec.faults[0].do`.
    pub(super) fn read(text: &str) -> Self {
        let mut steps = Vec::new();
        for piece in text.split('.').filter(|piece| !piece.is_empty()) {
            let mut parts = piece.split('[');
            let key = parts.next().filter(|key| !key.is_empty());
            steps.extend(key.map(|key| Step::Key(key.to_owned())));
            let indices = parts.filter_map(|part| part.trim_end_matches(']').parse().ok());
            steps.extend(indices.map(Step::Index));
        }
        Self(steps)
    }

    pub(super) fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    pub(super) fn index(&self, index: usize) -> Self {
        self.with(Step::Index(index))
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (number, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) if number == 0 => f.write_str(key)?,
                Step::Key(key) => write!(f, ".{key}")?,
                Step::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Line and column, from 1, of the value at a path, or of its key; of what is nearest around it
/// where there is none.
pub(super) fn place(text: &str, path: &Path, at_key: bool) -> (usize, usize) {
    for length in (0..=path.0.len()).rev() {
        let document = serde_yaml_ng::Deserializer::from_str(text);
        let seek = Seek { steps: &path.0[..length], at_key: at_key && length == path.0.len() };
        // It "fails" at the place that is sought: that is how the parser tells positions.
        if let Err(error) = seek.deserialize(document)
            && error.to_string().contains(FOUND)
            && let Some(place) = error.location()
        {
            return (place.line(), place.column());
        }
    }
    (1, 1)
}

const FOUND: &str = "\u{1}found";

#[derive(Clone, Copy)]
struct Seek<'a> {
    steps: &'a [Step],
    at_key: bool,
}

impl<'de> DeserializeSeed<'de> for Seek<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, value: D) -> Result<(), D::Error> {
        value.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seek<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Any type error at the place sought is the place as well.
        f.write_str(if self.steps.is_empty() { FOUND } else { "a value with parts" })
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<(), A::Error> {
        let Some((Step::Key(wanted), rest)) = self.steps.split_first() else {
            return Err(not_here(self.steps));
        };
        let key = Key { wanted, sought: self.at_key && rest.is_empty() };
        while let Some(is_it) = map.next_key_seed(key)? {
            if is_it {
                return map.next_value_seed(Seek { steps: rest, ..self });
            }
            map.next_value::<IgnoredAny>()?;
        }
        Err(A::Error::custom("no such key"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<(), A::Error> {
        let Some((Step::Index(wanted), rest)) = self.steps.split_first() else {
            return Err(not_here(self.steps));
        };
        for _ in 0..*wanted {
            if list.next_element::<IgnoredAny>()?.is_none() {
                return Err(A::Error::custom("no such item"));
            }
        }
        match list.next_element_seed(Seek { steps: rest, ..self })? {
            Some(()) => Ok(()),
            None => Err(A::Error::custom("no such item")),
        }
    }
}

fn not_here<E: Error>(steps: &[Step]) -> E {
    E::custom(if steps.is_empty() { FOUND } else { "another kind of value" })
}

/// Reads a key, and tells whether it is the wanted one.
#[derive(Clone, Copy)]
struct Key<'a> {
    wanted: &'a str,
    sought: bool,
}

impl<'de> DeserializeSeed<'de> for Key<'_> {
    type Value = bool;

    fn deserialize<D: Deserializer<'de>>(self, key: D) -> Result<bool, D::Error> {
        key.deserialize_str(self)
    }
}

impl Visitor<'_> for Key<'_> {
    type Value = bool;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a key")
    }

    fn visit_str<E: Error>(self, key: &str) -> Result<bool, E> {
        match key == self.wanted {
            true if self.sought => Err(E::custom(FOUND)),
            is_it => Ok(is_it),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# about
spec:
  faults:
    - at: 1s
      do: {crash: {target: web-0, how: power}}
    - {at: 2s, do: {restart: {target: web-1}}}
  text: |
    target: none
";

    fn at(path: &str, at_key: bool) -> (usize, usize) {
        place(TEXT, &Path::read(path), at_key)
    }

    #[test]
    fn fields_are_found_in_block_and_flow_style() {
        assert_eq!(at("spec.faults[0].at", false), (4, 11));
        assert_eq!(at("spec.faults[0].at", true), (4, 7));
        assert_eq!(at("spec.faults[0].do.crash.target", false), (5, 28));
        assert_eq!(at("spec.faults[0].do.crash.how", true), (5, 35));
        assert_eq!(at("spec.faults[1].do.restart.target", false), (6, 39));
        assert_eq!(at("spec.text", true), (7, 3));
    }

    #[test]
    fn what_is_missing_is_placed_at_what_is_around_it() {
        assert_eq!(at("spec.faults[1].do.restart.who", false), (6, 30));
        assert_eq!(at("spec.faults[7].at", true), (4, 5));
        assert_eq!(place("", &Path::read("spec"), false), (1, 1));
    }

    #[test]
    fn paths_are_printed_as_they_are_read() {
        let path = "spec.faults[0].do.crash";
        assert_eq!(Path::read(path).to_string(), path);
    }
}
