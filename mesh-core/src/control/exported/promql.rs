//! Queries, read as far as it takes to know which metrics and labels they name. Not a parser of
//! PromQL: `promtool` says whether a query is one.

/// A name of a metric with the labels that it must have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Named {
    pub(super) metric: String,
    /// Of matchers in its braces, and of groupings around it.
    pub(super) labels: Vec<String>,
}

/// What a query names.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) metrics: Vec<Named>,
    /// The labels of groupings; none where nothing is grouped.
    pub(super) grouped: Option<Vec<String>>,
}

const WORDS: [&str; 11] = [
    "and",
    "or",
    "unless",
    "offset",
    "bool",
    "on",
    "ignoring",
    "group_left",
    "group_right",
    "inf",
    "nan",
];

/// Reads a query.
pub(super) fn read(query: &str) -> Names {
    let mut names = Names::default();
    let mut tokens = tokens(query).into_iter().peekable();
    // For each parenthesis that is open: the labels by which its content is grouped.
    let mut open: Vec<Vec<String>> = Vec::new();
    let mut grouping = Vec::new();
    while let Some(token) = tokens.next() {
        match token.as_str() {
            "(" => open.push(std::mem::take(&mut grouping)),
            ")" => drop(open.pop()),
            "[" => tokens.by_ref().take_while(|token| token != "]").for_each(drop),
            "by" | "without" | "on" | "ignoring" => {
                tokens.next();
                let labels = tokens.by_ref().take_while(|token| token != ")");
                grouping = labels.filter(|label| label != ",").collect();
                names.grouped.get_or_insert_default().extend(grouping.clone());
            }
            word if !is_name(word) || WORDS.contains(&word) => {}
            _ if matches!(tokens.peek().map(String::as_str), Some("(" | "by" | "without")) => {}
            metric => {
                let mut labels: Vec<_> = open.iter().flatten().cloned().collect();
                if tokens.next_if(|token| token == "{").is_some() {
                    let inside = tokens.by_ref().take_while(|token| token != "}");
                    labels.extend(inside.filter(|token| is_name(token)));
                }
                names.metrics.push(Named { metric: metric.to_string(), labels });
            }
        }
    }
    names
}

fn is_name(token: &str) -> bool {
    token.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_' || c == ':')
}

/// Names, numbers with their units, and single characters; texts in quotes are left out.
fn tokens(query: &str) -> Vec<String> {
    let is_word = |c: char| c.is_ascii_alphanumeric() || "_:.$".contains(c);
    let mut tokens = Vec::new();
    let mut rest = query.trim_start();
    while let Some(first) = rest.chars().next() {
        let length = match first {
            '"' | '\'' => {
                let end = rest[1..].find(first).expect("a text ends") + 2;
                rest = rest[end..].trim_start();
                continue;
            }
            _ if is_word(first) => rest.find(|c| !is_word(c)).unwrap_or(rest.len()),
            _ => first.len_utf8(),
        };
        tokens.push(rest[..length].to_string());
        rest = rest[length..].trim_start();
    }
    tokens
}

#[test]
fn names_are_found_wherever_they_stand() {
    let query = "topk(10, sum by (le, ns) (rate(a_bucket{x=\"b{c\", y!~'(d|e)'}[5m]))) \
                 / (weft:b > 0.5) and on (pod) c offset 1h == 0 or vector(0)";
    let names = read(query);
    let named = |metric: &str, labels: &[&str]| Named {
        metric: metric.to_string(),
        labels: labels.iter().map(ToString::to_string).collect(),
    };
    let metrics =
        [named("a_bucket", &["le", "ns", "x", "y"]), named("weft:b", &[]), named("c", &[])];
    assert_eq!(names.metrics, metrics);
    assert_eq!(names.grouped.unwrap(), ["le", "ns", "pod"]);
}
