//! Questions about metrics, in the few forms that statistics need: sums of increases, rates and last
//! values, and quantiles of histograms. Asked of the controller's own [`series`](super::series) or,
//! as PromQL, of a [`prometheus`](super::prometheus); the answers cannot be told apart.
//!
//! Law: [`Query::promql`] and [`Series::evaluate`](super::series::Series::evaluate) mean the same.

use std::fmt::Write;
use std::time::Duration;

/// A question whose answer is a number for each group of series.
#[derive(Clone, Debug, PartialEq)]
pub struct Query {
    /// What is computed.
    pub operation: Operation,
    /// The family; of a histogram with `_bucket`.
    pub family: &'static str,
    /// Which of its series.
    pub matchers: Vec<Matcher>,
    /// By which labels the sums are grouped.
    pub by: Vec<&'static str>,
    /// Over how much time, but for [`Operation::Last`].
    pub window: Duration,
}

/// What is computed of series.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Operation {
    /// By how much counters grew in the window.
    Increase,
    /// The same for each second.
    Rate,
    /// The sum of what was scraped last.
    Last,
    /// This quantile (0 to 1) of what a histogram observed in the window.
    Quantile(f64),
}

/// A condition on a label. A label that is not there is empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Matcher {
    /// The label.
    pub label: &'static str,
    /// What its value has to be.
    pub value: Wanted,
}

/// What a label's value has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// This.
    Is(String),
    /// Anything but this.
    Not(String),
    /// One of these.
    OneOf(Vec<String>),
}

/// The number of a group.
#[derive(Clone, Debug, PartialEq)]
pub struct Row {
    /// The values of [`Query::by`], in that order.
    pub labels: Vec<String>,
    /// The number; never NaN.
    pub value: f64,
}

/// The numbers of a group over time.
#[derive(Clone, Debug, PartialEq)]
pub struct RangeRow {
    /// The values of [`Query::by`], in that order.
    pub labels: Vec<String>,
    /// Milliseconds since 1970 and a number, in order of time.
    pub points: Vec<(i64, f64)>,
}

impl Matcher {
    /// The label has this value.
    pub fn is(label: &'static str, value: impl Into<String>) -> Self {
        Self { label, value: Wanted::Is(value.into()) }
    }

    /// The label has another value.
    pub fn not(label: &'static str, value: impl Into<String>) -> Self {
        Self { label, value: Wanted::Not(value.into()) }
    }

    /// The label is there.
    pub fn some(label: &'static str) -> Self {
        Self::not(label, "")
    }

    /// The label has one of these values.
    pub fn one_of(label: &'static str, values: impl IntoIterator<Item = String>) -> Self {
        Self { label, value: Wanted::OneOf(values.into_iter().collect()) }
    }

    /// Whether a value fulfils it.
    pub fn takes(&self, value: &str) -> bool {
        match &self.value {
            Wanted::Is(wanted) => wanted == value,
            Wanted::Not(unwanted) => unwanted != value,
            Wanted::OneOf(wanted) => wanted.iter().any(|wanted| wanted == value),
        }
    }
}

impl Query {
    /// The sum of last values.
    pub fn last(family: &'static str, matchers: Vec<Matcher>, by: &[&'static str]) -> Self {
        let window = Duration::ZERO;
        Self { operation: Operation::Last, family, matchers, by: by.to_vec(), window }
    }

    /// By how much counters grew.
    pub fn increase(
        family: &'static str,
        matchers: Vec<Matcher>,
        by: &[&'static str],
        window: Duration,
    ) -> Self {
        Self { operation: Operation::Increase, family, matchers, by: by.to_vec(), window }
    }

    /// By how much counters grow a second.
    pub fn rate(
        family: &'static str,
        matchers: Vec<Matcher>,
        by: &[&'static str],
        window: Duration,
    ) -> Self {
        Self { operation: Operation::Rate, ..Self::increase(family, matchers, by, window) }
    }

    /// A quantile of a histogram.
    pub fn quantile(
        share: f64,
        family: &'static str,
        matchers: Vec<Matcher>,
        by: &[&'static str],
        window: Duration,
    ) -> Self {
        let operation = Operation::Quantile(share);
        Self { operation, ..Self::increase(family, matchers, by, window) }
    }

    /// The question as Prometheus takes it.
    pub fn promql(&self) -> String {
        let mut selector = format!("{}{{", self.family);
        for (index, Matcher { label, value }) in self.matchers.iter().enumerate() {
            let comma = if index == 0 { "" } else { "," };
            // Writing into a string does not fail.
            let _ = match value {
                Wanted::Is(value) => write!(selector, "{comma}{label}={}", quoted(value)),
                Wanted::Not(value) => write!(selector, "{comma}{label}!={}", quoted(value)),
                Wanted::OneOf(values) => {
                    let values: Vec<_> = values.iter().map(|value| literal(value)).collect();
                    write!(selector, "{comma}{label}=~{}", quoted(&values.join("|")))
                }
            };
        }
        selector.push('}');
        let window = format!("[{}ms]", self.window.as_millis());
        let by = self.by.join(",");
        match self.operation {
            Operation::Increase => format!("sum by ({by}) (increase({selector}{window}))"),
            Operation::Rate => format!("sum by ({by}) (rate({selector}{window}))"),
            Operation::Last => format!("sum by ({by}) ({selector})"),
            Operation::Quantile(share) => {
                let by = if by.is_empty() { "le".to_string() } else { format!("le,{by}") };
                format!("histogram_quantile({share},sum by ({by}) (rate({selector}{window})))")
            }
        }
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// As a regular expression that matches nothing else.
fn literal(text: &str) -> String {
    let special = |c: char| r"\.+*?()|[]{}^$".contains(c);
    text.chars().flat_map(|c| special(c).then_some('\\').into_iter().chain([c])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn questions_are_written_as_promql() {
        let inbound = || {
            let names = ["a.b".to_string(), "c|d".to_string()];
            vec![
                Matcher::is("direction", "inbound"),
                Matcher::not("deployment", ""),
                Matcher::one_of("pod", names),
                Matcher::is("authority", "a\"\\\n"),
            ]
        };
        let minute = Duration::from_secs(60);
        let by = ["namespace", "deployment"];
        insta::assert_snapshot!(
            [
                Query::increase("response_total", inbound(), &by, minute),
                Query::rate("tcp_read_bytes_total", vec![], &by, minute),
                Query::last("tcp_open_connections", vec![], &[]),
                Query::quantile(0.95, "response_latency_ms_bucket", vec![], &by, minute),
                Query::quantile(0.5, "response_latency_ms_bucket", vec![], &[], minute),
            ]
            .map(|query| query.promql())
            .join("\n"),
            @r#"
        sum by (namespace,deployment) (increase(response_total{direction="inbound",deployment!="",pod=~"a\\.b|c\\|d",authority="a\"\\\n"}[60000ms]))
        sum by (namespace,deployment) (rate(tcp_read_bytes_total{}[60000ms]))
        sum by () (tcp_open_connections{})
        histogram_quantile(0.95,sum by (le,namespace,deployment) (rate(response_latency_ms_bucket{}[60000ms])))
        histogram_quantile(0.5,sum by (le) (rate(response_latency_ms_bucket{}[60000ms])))
        "#
        );
    }
}
