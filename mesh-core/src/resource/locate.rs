//! Where a field stands in a YAML document, for messages to people. Follows block style; in flow
//! style it stops at the nearest field around. Never wrong about validity, for it decides nothing.

/// The line and column, both from 1, of the deepest part of `field` (`spec.ports[0].port`) that can
/// be found in `text`.
pub(super) fn locate(text: &str, field: &str) -> (usize, usize) {
    let lines: Vec<&str> = text.lines().collect();
    let mut found = (first_line(&lines), 0);
    // Lines of the value in which the next part is looked for.
    let mut scope = found.0..lines.len();
    for part in parts(field) {
        let place = match part {
            Part::Key(key) => key_line(&lines, scope.clone(), found.1, key),
            Part::Index(index) => item_line(&lines, scope.clone(), index),
        };
        let Some((line, column)) = place else { break };
        found = (line, column);
        let is_item = matches!(part, Part::Index(_));
        let end = (line + 1..scope.end)
            .find(|at| ends_value(lines[*at], column, is_item))
            .unwrap_or(scope.end);
        scope = if is_item { line..end } else { line + 1..end };
        if is_item {
            // Keys of an item may stand on its own line, behind the dash.
            found.1 = column;
        }
    }
    (found.0 + 1, found.1 + 1)
}

enum Part<'a> {
    Key(&'a str),
    Index(usize),
}

/// Splits `a.b[0].c`. A key may hold dots where it is the last: annotations do.
fn parts(field: &str) -> Vec<Part<'_>> {
    const MAPS: [&str; 2] = ["metadata.annotations.", "metadata.labels."];
    let (path, last) = MAPS
        .iter()
        .find_map(|map| Some((map.trim_end_matches('.'), field.strip_prefix(map)?)))
        .map_or((field, None), |(path, last)| (path, Some(last)));
    let mut parts = Vec::new();
    for piece in path.split('.') {
        let mut pieces = piece.split('[');
        parts.extend(pieces.next().filter(|key| !key.is_empty()).map(Part::Key));
        parts.extend(
            pieces.filter_map(|index| index.trim_end_matches(']').parse().ok().map(Part::Index)),
        );
    }
    parts.extend(last.map(Part::Key));
    parts
}

fn first_line(lines: &[&str]) -> usize {
    let is_content = |line: &&str| {
        let line = line.trim();
        !line.is_empty() && !line.starts_with('#') && !line.starts_with("---")
    };
    lines.iter().position(is_content).unwrap_or(0)
}

/// Whether a line is outside the value whose key or dash stands at `column`.
fn ends_value(line: &str, column: usize, is_item: bool) -> bool {
    let text = line.trim_start();
    if text.is_empty() || text.starts_with('#') {
        return false;
    }
    let indent = line.len() - text.len();
    // Items of a list may stand as far left as its key.
    indent < column || (indent == column && (is_item || !text.starts_with('-')))
}

fn key_line(
    lines: &[&str],
    scope: std::ops::Range<usize>,
    column_min: usize,
    key: &str,
) -> Option<(usize, usize)> {
    scope
        .filter_map(|at| {
            let line = lines[at];
            let text = line.trim_start_matches([' ', '-']);
            let column = line.len() - text.len();
            let name = text.split(':').next()?.trim().trim_matches(['"', '\'']);
            let is_key = text.contains(':') && (name == key || text.starts_with(key));
            (column >= column_min && is_key).then_some((column, at))
        })
        // The outermost: the same word may stand deeper, before it.
        .min()
        .map(|(column, at)| (at, column))
}

fn item_line(
    lines: &[&str],
    scope: std::ops::Range<usize>,
    index: usize,
) -> Option<(usize, usize)> {
    let dash = |at: usize| {
        let text = lines[at].trim_start();
        text.starts_with('-').then(|| lines[at].len() - text.len())
    };
    let column = scope.clone().find_map(dash)?;
    let line = scope.filter(|at| dash(*at) == Some(column)).nth(index)?;
    Some((line, column))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_in_block_style() {
        let text = "\
# a service
kind: Service
metadata:
  name: web
  annotations:
    config.linkerd.io/opaque-ports: x
spec:
  selector: {name: a}
  ports:
  - name: a
    port: 1
  - port: 2
    name: b
";
        assert_eq!(locate(text, "metadata.name"), (4, 3));
        assert_eq!(locate(text, "spec.ports"), (9, 3));
        assert_eq!(locate(text, "spec.ports[0].port"), (11, 5));
        assert_eq!(locate(text, "spec.ports[1].port"), (12, 5));
        assert_eq!(locate(text, "spec.ports[1].name"), (13, 5));
        assert_eq!(locate(text, "spec.ports[7].name"), (9, 3));
        assert_eq!(locate(text, "spec.selector.name"), (8, 3));
        let annotation = "metadata.annotations.config.linkerd.io/opaque-ports";
        assert_eq!(locate(text, annotation), (6, 5));
        assert_eq!(locate("", "spec"), (1, 1));
    }
}
