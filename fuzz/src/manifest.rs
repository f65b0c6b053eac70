//! Manifests: read whole or not at all, and every fault has a place in the text.

use mesh_core::resource::yaml::{self, Problem};

/// Any text.
pub fn read(input: &[u8]) {
    let Ok(text) = std::str::from_utf8(input) else {
        return;
    };
    let problems = match yaml::read("fuzz.yaml", text) {
        Ok(manifest) => {
            for object in &manifest.objects {
                let name = object.object_ref();
                assert!(!name.name.is_empty(), "{name}");
                assert_eq!(name.namespace.is_empty(), !name.kind.is_namespaced(), "{name}");
            }
            manifest.notices
        }
        Err(problems) => {
            assert!(!problems.is_empty());
            problems
        }
    };
    assert_placed(&problems, text);
}

/// Every problem is somewhere in the text, and says what to do.
pub(crate) fn assert_placed(problems: &[Problem], text: &str) {
    // YAML has more ends of line than one. The place after the end is a line: what is missing is
    // missing there.
    let ends = ['\n', '\r', '\u{85}', '\u{2028}', '\u{2029}'];
    let lines = text.split(ends).count() + 1;
    for problem in problems {
        let within = problem.document >= 1 && (1..=lines).contains(&problem.line);
        assert!(within && problem.column >= 1, "{lines} lines: {problem:?}");
        assert!(!problem.fault.is_empty() && !problem.remedy.is_empty(), "{problem:?}");
    }
}
