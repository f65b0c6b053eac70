//! A bar on stderr for long work, on a terminal only.

use std::io::{IsTerminal, Write, stderr};

const WIDTH: usize = 30;

/// A bar. Whoever prints something clears it before and draws it again after.
pub struct Progress {
    shown: bool,
}

impl Progress {
    /// A bar that is not drawn yet.
    pub fn new() -> Self {
        Self { shown: stderr().is_terminal() }
    }

    /// Draws how much is done, 0 to 1, and a few words.
    pub fn draw(&self, part: f64, words: &str) {
        if self.shown {
            let text = format!("\r\x1b[K{} {words}", bar(part));
            let mut stderr = stderr().lock();
            // Nobody misses a bar that cannot be drawn.
            let _ = stderr.write_all(text.as_bytes()).and_then(|()| stderr.flush());
        }
    }

    /// Takes the bar away.
    pub fn clear(&self) {
        if self.shown {
            let mut stderr = stderr().lock();
            let _ = stderr.write_all(b"\r\x1b[K").and_then(|()| stderr.flush());
        }
    }
}

fn bar(part: f64) -> String {
    let full = (part.clamp(0.0, 1.0) * WIDTH as f64).round() as usize;
    format!("[{}{}]", "#".repeat(full), "-".repeat(WIDTH - full))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_is_as_full_as_its_part() {
        assert_eq!(bar(0.0), format!("[{}]", "-".repeat(30)));
        assert_eq!(bar(0.5), format!("[{}{}]", "#".repeat(15), "-".repeat(15)));
        assert_eq!(bar(7.0), format!("[{}]", "#".repeat(30)));
    }
}
