//! Figures and their gates, as `budget.toml` has them: `name = number`, one a line, in two sections.
//! `[counts]` are the same on every machine, so a gate that is far above is to be tightened;
//! `[promises]` are bounds, and under them is where figures belong.

use std::collections::BTreeMap;

/// How far under its gate a figure may be before the gate is to be tightened.
const LOOSE: f64 = 0.9;

/// Figures that must not grow.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Gates(BTreeMap<String, Gate>);

#[derive(Clone, Copy, Debug, PartialEq)]
struct Gate {
    value: f64,
    /// One of `[counts]`.
    is_tight: bool,
}

/// A figure against its gate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// As it should be.
    Within,
    /// More than 10 % under its gate, which ought to be tightened.
    Loose,
    /// Over.
    Over,
    /// There is no gate for it.
    Ungated,
}

impl Verdict {
    /// As it is printed.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Within => "within",
            Self::Loose => "loose",
            Self::Over => "OVER",
            Self::Ungated => "",
        }
    }
}

impl Gates {
    /// Reads gates.
    ///
    /// # Errors
    /// The line that is not one.
    pub fn parse(text: &str) -> Result<Self, String> {
        let (mut gates, mut is_tight) = (BTreeMap::new(), None);
        for line in text.lines() {
            let fact = line.split('#').next().unwrap_or_default().trim();
            match fact {
                "" => continue,
                "[counts]" => is_tight = Some(true),
                "[promises]" => is_tight = Some(false),
                _ => {
                    let gate = fact
                        .split_once('=')
                        .and_then(|(name, value)| Some((name.trim(), number(value.trim())?)));
                    let (name, value) =
                        gate.ok_or_else(|| format!("not `name = number`: {line}"))?;
                    let is_tight = is_tight.ok_or_else(|| format!("not in a section: {line}"))?;
                    gates.insert(name.to_string(), Gate { value, is_tight });
                }
            }
        }
        Ok(Self(gates))
    }

    /// A figure's gate.
    pub fn of(&self, figure: &str) -> Option<f64> {
        self.0.get(figure).map(|gate| gate.value)
    }

    /// The figures that have gates.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// Judges a figure.
    pub fn judge(&self, figure: &str, value: f64) -> Verdict {
        match self.0.get(figure) {
            None => Verdict::Ungated,
            Some(gate) if value > gate.value => Verdict::Over,
            Some(gate) if gate.is_tight && value < gate.value * LOOSE => Verdict::Loose,
            Some(_) => Verdict::Within,
        }
    }
}

/// As TOML has numbers: digits may be set apart.
fn number(text: &str) -> Option<f64> {
    text.replace('_', "").parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_over_its_gate_fails_and_one_far_under_it_asks_for_a_tighter_gate() {
        let gates = "# why\n[counts]\nallocations = 20 # each\nbytes = 1_000\n[promises]\nms = 50";
        let gates = Gates::parse(gates).unwrap();
        let judged = [20.0, 20.1, 18.0, 17.9].map(|value| gates.judge("allocations", value));
        let [exact, over, under, far] = judged;
        assert_eq!((exact, over), (Verdict::Within, Verdict::Over));
        assert_eq!((under, far), (Verdict::Within, Verdict::Loose));
        assert_eq!(gates.judge("bytes", 1_001.0), Verdict::Over);
        assert_eq!(gates.judge("ms", 1.0), Verdict::Within, "a promise is no aim");
        assert_eq!(gates.judge("ms", 51.0), Verdict::Over);
        assert_eq!(gates.judge("unknown", 1.0), Verdict::Ungated);
    }

    #[test]
    fn a_wrong_line_is_told() {
        let wrong = |text| Gates::parse(text).unwrap_err();
        assert_eq!(wrong("[counts]\nallocations: 20"), "not `name = number`: allocations: 20");
        assert_eq!(wrong("allocations = 20"), "not in a section: allocations = 20");
    }

    #[test]
    fn the_budget_can_be_read() {
        let gates = Gates::parse(include_str!("../budget.toml")).unwrap();
        assert!(gates.of("allocations_per_request_outbound").is_some());
    }
}
