//! What proxies say of themselves: `/metrics` read as text, as Prometheus would, and held against
//! what the workloads counted.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::{Evidence, Finding, Offence};
use crate::world::record::Answer;
use crate::world::scenario::Protocol;

/// The samples of one scrape.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics {
    families: BTreeMap<String, Vec<Series>>,
}

#[derive(Clone, Debug, PartialEq)]
struct Series {
    labels: BTreeMap<String, String>,
    value: f64,
}

impl Metrics {
    /// Reads the text format. Lines that are no samples are passed over.
    pub fn read(text: &str) -> Self {
        let mut families: BTreeMap<String, Vec<Series>> = BTreeMap::new();
        for line in text.lines().filter(|line| !line.starts_with('#')) {
            let Some((selector, rest)) = read_selector(line) else { continue };
            let value = rest.split_whitespace().next().and_then(|value| value.parse().ok());
            if let Some(value) = value {
                let series = Series { labels: selector.labels, value };
                families.entry(selector.name).or_default().push(series);
            }
        }
        Self { families }
    }

    /// The sum of the series that match; none where none does.
    pub fn sum(&self, selector: &Selector) -> Option<f64> {
        let series = self.families.get(&selector.name).into_iter().flatten();
        let matching = series.filter(|series| selector.matches(&series.labels));
        let mut values = matching.map(|series| series.value).peekable();
        values.peek().is_some().then(|| values.sum())
    }

    /// The sums of a metric by the value of a label.
    fn by_label(&self, name: &str, label: &str) -> BTreeMap<String, f64> {
        let mut sums = BTreeMap::new();
        for series in self.families.get(name).into_iter().flatten() {
            let value = series.labels.get(label).cloned().unwrap_or_default();
            *sums.entry(value).or_insert(0.0) += series.value;
        }
        sums
    }
}

/// A metric's name and labels that a series must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Selector {
    name: String,
    labels: BTreeMap<String, String>,
}

impl Selector {
    /// Reads `name{label="value"}`.
    ///
    /// # Errors
    /// Where it is not of this form.
    pub fn read(text: &str) -> Result<Self, String> {
        match read_selector(text) {
            Some((selector, rest)) if rest.trim().is_empty() => Ok(selector),
            _ => Err(format!("`{text}` does not read metric{{label=\"value\"}}")),
        }
    }

    fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.labels.iter().all(|(name, value)| labels.get(name) == Some(value))
    }
}

/// A name, labels where there are some, and what follows.
fn read_selector(text: &str) -> Option<(Selector, &str)> {
    let end = text.find(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '_' | ':'));
    let (name, mut rest) = text.split_at(end.unwrap_or(text.len()));
    let mut labels = BTreeMap::new();
    if let Some(inside) = rest.strip_prefix('{') {
        rest = inside;
        loop {
            rest = rest.trim_start_matches([',', ' ']);
            if let Some(after) = rest.strip_prefix('}') {
                rest = after;
                break;
            }
            let (label, after) = rest.split_once("=\"")?;
            let (value, after) = read_text(after)?;
            labels.insert(label.to_owned(), value);
            rest = after;
        }
    }
    (!name.is_empty()).then(|| (Selector { name: name.to_owned(), labels }, rest))
}

/// A quoted text from behind its first quote, and what follows its last.
fn read_text(text: &str) -> Option<(String, &str)> {
    let mut value = String::new();
    let mut characters = text.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' => return Some((value, &text[at + 1..])),
            '\\' => match characters.next()?.1 {
                'n' => value.push('\n'),
                escaped => value.push(escaped),
            },
            other => value.push(other),
        }
    }
    None
}

/// Compares, for each meshed pod, what its proxy counted with what the workloads saw: of plain HTTP the
/// answers and requests, of everything the connections and bytes between it and its program. Counts of all its proxies, where it was started again, are added up.
pub(super) fn agree(evidence: &Evidence<'_>, tolerance: u64) -> Finding {
    let mut differences = Vec::new();
    let mut compared = 0;
    let mut compare = |pod: &str, what: String, proxy: f64, own: u64, unit: u64| {
        if (proxy - own as f64).abs() > (tolerance * unit) as f64 {
            let what = format!("the proxy counted {proxy} {what}, the workloads {own}");
            differences.push(Offence::at(evidence.end, what).of_pod(pod));
        }
    };
    for (pod, scrapes) in evidence.scrapes {
        let mut statuses: BTreeMap<String, f64> = BTreeMap::new();
        let mut inbound = 0.0;
        let requests = Selector::read("request_total{direction=\"inbound\"}");
        for metrics in scrapes {
            let by_status =
                metrics.by_label("outbound_http_route_request_statuses_total", "http_status");
            for (status, count) in by_status {
                *statuses.entry(status).or_default() += count;
            }
            let sum = requests.as_ref().ok().and_then(|selector| metrics.sum(selector));
            inbound += sum.unwrap_or(0.0);
        }
        for (status, own) in answers(evidence, pod) {
            compared += own;
            let proxy = statuses.get(&status.to_string()).copied().unwrap_or(0.0);
            compare(pod, format!("answers of {status}"), proxy, own, 1);
        }
        let executed = executions(evidence, pod);
        if executed > 0 {
            compared += executed;
            compare(pod, "requests to its application".to_owned(), inbound, executed, 1);
        }
        for Counted { what, selector, own, unit } in traffic(evidence, pod) {
            let selector = Selector::read(&selector).ok();
            let sums = scrapes.iter().filter_map(|metrics| metrics.sum(selector.as_ref()?));
            compared += u64::from(own > 0);
            compare(pod, what.to_owned(), sums.sum(), own, unit);
        }
    }
    match compared {
        0 => Finding::new(false, "nothing of a meshed pod to compare"),
        _ => {
            let found = format!("{compared} counted, {} figures differ", differences.len());
            Finding::of(found, differences.into_iter().next())
        }
    }
}

/// A figure of a program's connections, and where its proxy has it.
struct Counted {
    what: &'static str,
    selector: String,
    own: u64,
    /// How many of it are as one request or connection.
    unit: u64,
}

/// Bytes that a connection may take with it that breaks: a window of them.
const WINDOW_BYTES: u64 = 256 * 1024;

/// What a pod's program had of connections. Its proxy reads what it writes.
fn traffic(evidence: &Evidence<'_>, pod: &Arc<str>) -> Vec<Counted> {
    let Some(traffic) = evidence.entries.traffic.get(pod) else { return Vec::new() };
    let mut all = Vec::new();
    let sides = [("outbound", "src", &traffic.opened), ("inbound", "dst", &traffic.accepted)];
    for (direction, peer, tally) in sides {
        let mut add = |what, name: &str, own: &AtomicU64, unit| {
            let selector = format!("{name}{{direction=\"{direction}\",peer=\"{peer}\"}}");
            all.push(Counted { what, selector, own: own.load(Ordering::Relaxed), unit });
        };
        add("connections of its program", "tcp_open_total", &tally.connections, 1);
        let (read, written) = (&tally.read_bytes, &tally.written_bytes);
        add("bytes from its program", "tcp_read_bytes_total", written, WINDOW_BYTES);
        add("bytes to its program", "tcp_write_bytes_total", read, WINDOW_BYTES);
    }
    all
}

fn is_plain_http(evidence: &Evidence<'_>, workload: &str) -> bool {
    let spoken = evidence.workloads.get(workload).map(|workload| workload.protocol);
    matches!(spoken, Some(Protocol::Http1 | Protocol::H2))
}

/// Answers of plain HTTP that a pod got, by status.
fn answers(evidence: &Evidence<'_>, pod: &Arc<str>) -> BTreeMap<u16, u64> {
    let mut answers = BTreeMap::new();
    for request in evidence.entries.requests.iter().filter(|request| request.sender == *pod) {
        if let Some((_, Ok(Answer { status, .. }))) = &request.end
            && is_plain_http(evidence, &request.workload)
        {
            *answers.entry(*status).or_default() += 1;
        }
    }
    answers
}

/// Requests of HTTP that reached a pod's program, where nothing else did.
fn executions(evidence: &Evidence<'_>, pod: &Arc<str>) -> u64 {
    let here = evidence.entries.executions.iter().filter(|execution| execution.pod == *pod);
    let mut count = 0;
    for execution in here {
        let workload = evidence.workload_of(execution.number);
        if !workload.is_some_and(|workload| is_plain_http(evidence, workload)) {
            return 0;
        }
        count += 1;
    }
    count
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "# HELP a_total Text\n# TYPE a_total counter\n\
        a_total{x=\"1\",y=\"with \\\"quotes\\\", and \\\\\"} 3\na_total{x=\"2\",y=\"\"} 4\n\
        plain 1.5\nbroken{x=\"1 7\n";

    #[test]
    fn the_text_format_is_read_with_its_escapes() {
        let metrics = Metrics::read(TEXT);
        let sum = |selector: &str| metrics.sum(&Selector::read(selector).expect(selector));
        assert_eq!(sum("a_total"), Some(7.0));
        assert_eq!(sum("a_total{x=\"1\"}"), Some(3.0));
        assert_eq!(sum("a_total{y=\"with \\\"quotes\\\", and \\\\\"}"), Some(3.0));
        assert_eq!(sum("a_total{x=\"3\"}"), None);
        assert_eq!(sum("plain"), Some(1.5));
        assert_eq!(metrics.by_label("a_total", "x").len(), 2);
    }

    #[test]
    fn a_selector_that_cannot_be_read_is_an_error() {
        for text in ["", "a{", "a{x=1}", "a{x=\"1\"} 3", "{x=\"1\"}"] {
            assert!(Selector::read(text).is_err(), "{text}");
        }
    }
}
