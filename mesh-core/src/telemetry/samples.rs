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

/// A line as it stands in its text; its labels are not read yet.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Line<'a> {
    /// The name.
    pub name: &'a str,
    /// What stands between the braces.
    pub labels: &'a str,
    /// The value.
    pub value: f64,
    /// Where it stands, counted from 1.
    pub number: usize,
}

impl Line<'_> {
    /// Its labels, in order.
    ///
    /// # Errors
    /// [`ParseError`] where they are none.
    pub fn read_labels(&self) -> Result<Vec<(String, String)>, ParseError> {
        parse_labels(self.labels).map_err(|fault| ParseError { line: self.number, fault })
    }
}

/// The lines of a text, one after the other. Comments and timestamps are skipped. After a fault
/// the next line follows.
pub fn lines(text: &str) -> impl Iterator<Item = Result<Line<'_>, ParseError>> {
    let numbered = text.split('\n').enumerate().map(|(index, line)| (index + 1, line.trim()));
    let said = numbered.filter(|(_, line)| !line.is_empty() && !line.starts_with('#'));
    said.map(|(number, line)| {
        split_line(line, number).map_err(|fault| ParseError { line: number, fault })
    })
}

/// Reads a text. Comments and timestamps are skipped.
///
/// # Errors
/// [`ParseError`] at the first line that is none.
pub fn parse(text: &str) -> Result<Vec<Sample>, ParseError> {
    let mut samples = Vec::new();
    for line in lines(text) {
        let line = line?;
        if samples.len() == SAMPLES_MAX {
            let fault = "there are too many samples";
            return Err(ParseError { line: line.number, fault });
        }
        let labels = line.read_labels()?;
        samples.push(Sample { name: line.name.to_string(), labels, value: line.value });
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

fn split_line(line: &str, number: usize) -> Result<Line<'_>, &'static str> {
    let name_end = line.find(|c: char| !is_name(c)).unwrap_or(line.len());
    let (name, rest) = line.split_at(name_end);
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return Err("it has no metric name");
    }
    let (labels, rest) = match rest.trim_start().strip_prefix('{') {
        Some(rest) => {
            let end = closing_brace(rest).ok_or("its labels do not end")?;
            (&rest[..end], &rest[end + 1..])
        }
        None => ("", rest),
    };
    let mut words = rest.split_ascii_whitespace();
    let value = words.next().ok_or("it has no value")?;
    let value = value.parse().map_err(|_| "its value is no number")?;
    if words.next().is_some_and(|at| at.parse::<i64>().is_err()) || words.next().is_some() {
        return Err("something follows its value");
    }
    Ok(Line { name, labels, value, number })
}

fn is_name(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == ':'
}

/// Where the first brace outside of quotes is.
fn closing_brace(text: &str) -> Option<usize> {
    let (mut quoted, mut escaped) = (false, false);
    text.bytes().position(|byte| {
        let is_end = byte == b'}' && !quoted;
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            _ => {}
        }
        is_end
    })
}

fn parse_labels(text: &str) -> Result<Vec<(String, String)>, &'static str> {
    let mut labels = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').ok_or("a label has no value")?;
        let name = name.trim_end();
        if name.is_empty() || !name.chars().all(is_name) {
            return Err("a label has no name");
        }
        let value = after.trim_start().strip_prefix('"');
        let mut chars = value.ok_or("a label's value is not quoted")?.chars();
        labels.push((name.to_string(), parse_value(&mut chars)?));
        let after = chars.as_str().trim_start();
        rest = match after.strip_prefix(',') {
            Some(after) => after.trim_start(),
            None if after.is_empty() => after,
            None => return Err("there is no comma between labels"),
        };
    }
    Ok(labels)
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
        fn lines_are_those_that_are_parsed(text in "[a-z{}\"\\\\=,# \n0-9.]*") {
            let read = |line: Result<Line<'_>, ParseError>| {
                let line = line?;
                let (name, value) = (line.name.to_string(), line.value);
                Ok(Sample { name, labels: line.read_labels()?, value })
            };
            let all: Result<Vec<_>, ParseError> = lines(&text).map(read).collect();
            prop_assert_eq!(all, parse(&text));
        }

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
