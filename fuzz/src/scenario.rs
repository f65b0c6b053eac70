//! Scenario files: read whole or not at all, and every fault has a place in the text.

use runtime_sim::world::parse;

use crate::manifest::assert_placed;

/// Any text.
pub fn read(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    match parse::read("fuzz.yaml", text) {
        Ok(scenario) => assert!(!scenario.name.is_empty() || text.contains("name")),
        Err(problems) => {
            assert!(!problems.is_empty());
            assert_placed(&problems, text);
        }
    }
}
