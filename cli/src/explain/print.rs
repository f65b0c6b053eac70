//! An explanation as text: a line for each step, what it follows from below, and the verdict last.

use std::fmt::Write as _;

use mesh_core::control::explain::{Cited, Explanation, Outcome, Step, Verdict, Way};

/// Columns of the steps' names.
const NAME_COLUMNS: usize = 15;

const BOLD: &str = "\x1b[1m";
const DIM: &str = "\x1b[2m";
const GREEN: &str = "\x1b[32m";
const RED: &str = "\x1b[31m";
const YELLOW: &str = "\x1b[33m";
const PLAIN: &str = "\x1b[0m";

pub(super) fn text(explanation: &Explanation, colours: bool) -> String {
    let mut page = Page { text: String::new(), colours };
    let Explanation { from, to, request, steps, ways, verdict } = explanation;
    page.line("", &[(BOLD, &format!("{request}: {from} → {to}"))]);
    page.line("", &[]);
    page.steps("", steps);
    // One way needs no name of its own.
    let indent = if ways.len() > 1 { "  " } else { "" };
    for way in ways {
        page.way(way, ways.len() > 1);
        page.steps(indent, &way.steps);
        if ways.len() > 1 {
            page.verdict(indent, &way.verdict);
        }
    }
    page.line("", &[]);
    page.verdict("", verdict);
    page.text
}

struct Page {
    text: String,
    colours: bool,
}

impl Page {
    /// A line of parts, each with its colour.
    fn line(&mut self, indent: &str, parts: &[(&str, &str)]) {
        self.text.push_str(indent);
        for (colour, part) in parts {
            match self.colours && !colour.is_empty() {
                true => self.text.extend([*colour, part, PLAIN]),
                false => self.text.push_str(part),
            }
        }
        let bare = self.text.trim_end_matches(' ').len();
        self.text.truncate(bare);
        self.text.push('\n');
    }

    fn way(&mut self, way: &Way, is_named: bool) {
        let endpoints = way.endpoints.join(", ");
        if is_named {
            self.line("", &[]);
            let head = format!("{} ({} %)", way.backend, way.percent);
            self.line("", &[(BOLD, &head), ("", " "), ("", &endpoints)]);
        }
    }

    fn steps(&mut self, indent: &str, steps: &[Step]) {
        for step in steps {
            let (mark, colour) = match step.outcome {
                Outcome::Refused => ("×", RED),
                Outcome::Allowed | Outcome::Depends => ("·", DIM),
            };
            let name = format!("{:NAME_COLUMNS$} ", step.name.title());
            let parts = [(colour, mark), ("", " "), (BOLD, &*name), ("", &*step.says)];
            self.line(indent, &parts);
            let below = format!("{indent}{:1$}", "", NAME_COLUMNS + 3);
            for line in &step.because {
                self.line(&below, &[("", line)]);
            }
            let objects: Vec<_> = step.objects.iter().map(cited).collect();
            if !objects.is_empty() {
                self.line(&below, &[(DIM, &format!("[{}]", objects.join(", ")))]);
            }
        }
    }

    fn verdict(&mut self, indent: &str, verdict: &Verdict) {
        let (mark, colour) = match verdict.outcome {
            Outcome::Allowed => ("√ ", GREEN),
            Outcome::Refused => ("× ", RED),
            Outcome::Depends => ("‼ ", YELLOW),
        };
        self.line(indent, &[(colour, mark), (colour, &verdict.says)]);
    }
}

/// `Server shop/web, generation 3`.
fn cited(object: &Cited) -> String {
    let Cited { kind, namespace, name, generation, resource_version } = object;
    let mut text = match namespace.as_str() {
        "" => format!("{kind} {name}"),
        namespace => format!("{kind} {namespace}/{name}"),
    };
    if let Some(generation) = generation {
        let _ = write!(text, " generation {generation}");
    }
    if let Some(version) = resource_version {
        let _ = write!(text, " version {version}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use mesh_core::control::explain::StepName;

    fn step(name: StepName, outcome: Outcome, says: &str) -> Step {
        let object = Cited {
            kind: "Server".into(),
            namespace: "shop".into(),
            name: "web".into(),
            generation: Some(3),
            resource_version: None,
        };
        let because = vec!["one reason".to_string()];
        Step { name, outcome, says: says.into(), because, objects: vec![object] }
    }

    fn verdict(outcome: Outcome, says: &str) -> Verdict {
        Verdict { outcome, status: None, grpc_status: None, says: says.into() }
    }

    fn explanation(ways: usize) -> Explanation {
        let way = |number: usize| Way {
            backend: format!("Service shop/w{number}:80"),
            percent: 50.0,
            endpoints: vec!["10.0.0.1:8080 (Pod shop/web-1)".into()],
            steps: vec![step(StepName::Authorization, Outcome::Refused, "denied")],
            verdict: verdict(Outcome::Refused, "refused with 403"),
        };
        Explanation {
            from: "Pod shop/a".into(),
            to: "Service shop/web:80".into(),
            request: "GET / over HTTP/1".into(),
            steps: vec![step(StepName::Source, Outcome::Allowed, "it is meshed")],
            ways: (0..ways).map(way).collect(),
            verdict: verdict(Outcome::Refused, "refused with 403"),
        }
    }

    #[test]
    fn one_way_is_told_in_one_go() {
        insta::assert_snapshot!(text(&explanation(1), false), @r#"
        GET / over HTTP/1: Pod shop/a → Service shop/web:80

        · source          it is meshed
                          one reason
                          [Server shop/web generation 3]
        × authorization   denied
                          one reason
                          [Server shop/web generation 3]

        × refused with 403
        "#);
    }

    #[test]
    fn several_ways_are_told_apart() {
        insta::assert_snapshot!(text(&explanation(2), false), @r#"
        GET / over HTTP/1: Pod shop/a → Service shop/web:80

        · source          it is meshed
                          one reason
                          [Server shop/web generation 3]

        Service shop/w0:80 (50 %) 10.0.0.1:8080 (Pod shop/web-1)
          × authorization   denied
                            one reason
                            [Server shop/web generation 3]
          × refused with 403

        Service shop/w1:80 (50 %) 10.0.0.1:8080 (Pod shop/web-1)
          × authorization   denied
                            one reason
                            [Server shop/web generation 3]
          × refused with 403

        × refused with 403
        "#);
    }

    #[test]
    fn colours_are_around_words_alone() {
        let coloured = text(&explanation(1), true);
        assert!(coloured.contains("\x1b[31m× \x1b[0m\x1b[31mrefused with 403\x1b[0m\n"));
        let mut plain = coloured;
        for code in [BOLD, DIM, GREEN, RED, YELLOW, PLAIN] {
            plain = plain.replace(code, "");
        }
        assert_eq!(plain, text(&explanation(1), false));
    }
}
