//! A regular expression out of a route: compiled where it enters, compared by its text.

use std::fmt;
use std::hash::{Hash, Hasher};

/// A regular expression that must match the whole of its subject, as Gateway API's
/// `RegularExpression` matches do in Linkerd.
#[derive(Clone)]
pub struct Pattern {
    source: String,
    regex: regex_lite::Regex,
}

/// Longest pattern accepted, in bytes; longer ones come from no sane route.
pub const PATTERN_BYTES_MAX: usize = 8 * 1024;

impl Pattern {
    /// Compiles a pattern.
    ///
    /// # Errors
    /// [`InvalidPattern`] where it is no regular expression or is too large.
    pub fn new(source: impl Into<String>) -> Result<Self, InvalidPattern> {
        let source = source.into();
        let invalid = |reason: String| InvalidPattern { pattern: source.clone(), reason };
        if source.len() > PATTERN_BYTES_MAX {
            return Err(invalid(format!("longer than {PATTERN_BYTES_MAX} bytes")));
        }
        let anchored = format!("^(?:{source})$");
        let regex = regex_lite::RegexBuilder::new(&anchored)
            .size_limit(1 << 20)
            .build()
            .map_err(|error| invalid(error.to_string()))?;
        Ok(Self { source, regex })
    }

    /// The text it was made of.
    pub fn as_str(&self) -> &str {
        &self.source
    }

    /// Whether it matches the whole of `subject`.
    pub fn matches(&self, subject: &str) -> bool {
        self.regex.is_match(subject)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.source == other.source
    }
}

impl Eq for Pattern {}

impl Hash for Pattern {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.source.hash(state);
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "/{}/", self.source)
    }
}

/// A text that is not a regular expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{pattern:?} is not a usable regular expression: {reason}")]
pub struct InvalidPattern {
    /// What was given.
    pub pattern: String,
    /// What is wrong with it.
    pub reason: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_the_whole_subject() {
        let pattern = Pattern::new("/v[0-9]+|/any").unwrap();
        assert!(pattern.matches("/v12") && pattern.matches("/any"));
        assert!(!pattern.matches("/v12/x") && !pattern.matches("x/any"));
    }

    #[test]
    fn a_wrong_pattern_says_what_is_wrong() {
        assert!(Pattern::new("(").unwrap_err().to_string().contains("\"(\""));
    }
}
