//! A fraction kept in millionths, so that policies compare exactly.

/// A number from 0 upward in steps of one millionth: jitter, thresholds, budgets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Ratio {
    millionths: u32,
}

impl Ratio {
    /// From millionths: `500_000` is one half.
    pub const fn from_millionths(millionths: u32) -> Self {
        Self { millionths }
    }

    /// The nearest ratio. `None` where `value` is negative, not a number or above 4,000.
    pub fn from_f64(value: f64) -> Option<Self> {
        let millionths = (value * 1e6).round();
        (0.0..=4e9).contains(&millionths).then_some(Self { millionths: millionths as u32 })
    }

    /// As a float.
    pub fn as_f64(self) -> f64 {
        f64::from(self.millionths) / 1e6
    }
}
