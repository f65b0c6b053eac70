//! The way back: metrics text (Prometheus' text format 0.0.4) read into samples. For programs that
//! look at a proxy's metrics, not for the proxy.
//!
//! Law: `parse(render(samples)) == samples`.

use std::fmt::Write;
use std::str::Chars;

/// Samples that are read from one text; a proxy's is a few thousand.
pub const SAMPLES_MAX: usize = 1_000_000;

/// A line: a name, labels in the order they stood in, a value.
#[derive(Clone, Debug, PartialEq)]
pub struct Sample {
    /// The name, with `_bucket`, `_sum`, `_count` or `_total` where it has it.
    pub name: String,
    /// Names and values.
    pub labels: Vec<(String, String)>,
    /// The value.
    pub value: f64,
}

/// Text that is not metrics.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the metrics text: {fault}")]
pub struct ParseError {
    /// Counted from 1.
    pub line: usize,
    /// What is wrong with it.
    pub fault: &'static str,
}

impl Sample {
    /// A label's value.
    pub fn label(&self, name: &str) -> Option<&str> {
        let found = self.labels.iter().find(|(label, _)| label == name);
        found.map(|(_, value)| value.as_str())
    }

    /// Whether it has all these labels.
    pub fn has(&self, labels: &[(&str, &str)]) -> bool {
        labels.iter().all(|(name, value)| self.label(name) == Some(*value))
    }
}

/// The sum of the samples of this name that `keep` keeps.
pub fn sum(samples: &[Sample], name: &str, keep: impl Fn(&Sample) -> bool) -> f64 {
    let found = samples.iter().filter(|s| s.name == name && keep(s));
    found.map(|sample| sample.value).sum()
}

/// Reads a text. Comments and timestamps are skipped.
///
/// # Errors
/// [`ParseError`] at the first line that is none.
pub fn parse(text: &str) -> Result<Vec<Sample>, ParseError> {
    let mut samples = Vec::new();
    for (index, line) in text.split('\n').enumerate() {
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let sample = parse_line(line).map_err(|fault| ParseError { line: index + 1, fault })?;
        if samples.len() == SAMPLES_MAX {
            return Err(ParseError { line: index + 1, fault: "there are too many samples" });
        }
        samples.push(sample);
    }
    Ok(samples)
}

/// Writes samples as text.
pub fn render(samples: &[Sample]) -> String {
    let mut out = String::new();
    for sample in samples {
        out.push_str(&sample.name);
        let mut before = '{';
        for (name, value) in &sample.labels {
            out.push(before);
            before = ',';
            let _ = write!(out, "{name}=\"");
            for c in value.chars() {
                match c {
                    '\\' => out.push_str("\\\\"),
                    '"' => out.push_str("\\\""),
                    '\n' => out.push_str("\\n"),
                    c => out.push(c),
                }
            }
            out.push('"');
        }
        if before == ',' {
            out.push('}');
        }
        let _ = match sample.value {
            f64::INFINITY => writeln!(out, " +Inf"),
            f64::NEG_INFINITY => writeln!(out, " -Inf"),
            value => writeln!(out, " {value}"),
        };
    }
    out
}

fn parse_line(line: &str) -> Result<Sample, &'static str> {
    let name_end = line.find(|c: char| !is_name(c)).unwrap_or(line.len());
    let (name, rest) = line.split_at(name_end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("it has no metric name");
    }
    let mut chars = rest.chars();
    let mut labels = Vec::new();
    if rest.trim_start().starts_with('{') {
        chars = rest.trim_start()[1..].chars();
        parse_labels(&mut chars, &mut labels)?;
    }
    let mut words = chars.as_str().split_ascii_whitespace();
    let value = words.next().ok_or("it has no value")?;
    let value = value.parse().map_err(|_| "its value is no number")?;
    if words.next().is_some_and(|at| at.parse::<i64>().is_err()) || words.next().is_some() {
        return Err("something follows its value");
    }
    Ok(Sample { name: name.to_string(), labels, value })
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// Reads up to and with the closing brace.
fn parse_labels(
    chars: &mut Chars<'_>,
    labels: &mut Vec<(String, String)>,
) -> Result<(), &'static str> {
    loop {
        let rest = chars.as_str().trim_start();
        if let Some(rest) = rest.strip_prefix('}') {
            *chars = rest.chars();
            return Ok(());
        }
        let (name, rest) = rest.split_once('=').ok_or("its labels do not end")?;
        let name = name.trim_end();
        if name.is_empty() || !name.chars().all(is_name) {
            return Err("a label has no name");
        }
        let value = rest.trim_start().strip_prefix('"');
        *chars = value.ok_or("a label's value is not quoted")?.chars();
        labels.push((name.to_string(), parse_value(chars)?));
        let rest = chars.as_str().trim_start();
        match rest.strip_prefix(',') {
            Some(rest) => *chars = rest.chars(),
            None if rest.starts_with('}') => {}
            None => return Err("there is no comma between labels"),
        }
    }
}

/// Reads up to and with the closing quote.
fn parse_value(chars: &mut Chars<'_>) -> Result<String, &'static str> {
    let mut value = String::new();
    loop {
        match chars.next().ok_or("a label's value does not end")? {
            '"' => return Ok(value),
            '\\' => match chars.next().ok_or("a label's value does not end")? {
                'n' => value.push('\n'),
                c @ ('\\' | '"') => value.push(c),
                c => value.extend(['\\', c]),
            },
            c => value.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn any_sample() -> impl Strategy<Value = Sample> {
        let name = "[a-zA-Z_:][a-zA-Z0-9_:]{0,20}";
        let value = prop_oneof![
            any::<f64>().prop_filter("NaN equals nothing", |value| !value.is_nan()),
            any::<u32>().prop_map(f64::from),
            Just(f64::INFINITY),
        ];
        let text = prop_oneof![".*", "[\\\\\"\n{},= n]*"];
        let labels = proptest::collection::vec(("[a-zA-Z_][a-zA-Z0-9_]{0,8}", text), 0..4);
        (name, labels, value).prop_map(|(name, labels, value)| Sample { name, labels, value })
    }

    proptest! {
        #[test]
        fn parsing_undoes_rendering(samples in proptest::collection::vec(any_sample(), 0..8)) {
            prop_assert_eq!(parse(&render(&samples)), Ok(samples));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[a-z{}\"\\\\=,# \n0-9.]*") {
            let _ = parse(&text);
        }
    }

    #[test]
    fn comments_blank_lines_and_timestamps_are_skipped() {
        let text =
            "# HELP a b\n# TYPE a counter\n\n a_total{ x = \"1\" , } 3 1795352937000\nb +Inf";
        let samples = parse(text).unwrap();
        assert_eq!(samples.len(), 2);
        assert!(samples[0].has(&[("x", "1")]));
        assert_eq!(samples[0].value, 3.0);
        assert_eq!(samples[1].value, f64::INFINITY);
    }

    #[test]
    fn faults_are_named_with_their_line() {
        for (text, line) in [
            ("a 1\n9b 1", 2),
            ("a{b=\"c\" 1", 1),
            ("a{b=\"c} 1", 1),
            ("a{b=c} 1", 1),
            ("a", 1),
            ("a x", 1),
            ("a 1 2 3", 1),
            ("a{b=\"1\"c=\"2\"} 1", 1),
        ] {
            assert_eq!(parse(text).map_err(|error| error.line), Err(line), "{text}");
        }
    }
}
