//! Metrics text: what parses is written and read again the same.

use mesh_core::telemetry::samples::{self, Sample};

/// Any text.
pub fn parse(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    match samples::parse(text) {
        Ok(found) => {
            let again = samples::parse(&samples::render(&found)).expect("what is written is read");
            assert_eq!(again.len(), found.len());
            for (a, b) in again.iter().zip(&found) {
                assert!(is_same(a, b), "{a:?} was {b:?}");
            }
        }
        Err(error) => assert!((1..=text.split('\n').count()).contains(&error.line)),
    }
}

/// Equal, where NaN equals itself.
fn is_same(a: &Sample, b: &Sample) -> bool {
    let values = a.value == b.value || (a.value.is_nan() && b.value.is_nan());
    a.name == b.name && a.labels == b.labels && values
}
