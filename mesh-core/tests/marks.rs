//! Every coverage mark in the source is in the list of marks, once, and the other way round; and so are
//! bugs that can be planted, which may take more than one place.

// Reads the source; the crate itself may not touch files.
#![allow(clippy::disallowed_methods)]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

fn named_under(directory: &Path, by: &str, found: &mut Vec<String>) {
    for entry in fs::read_dir(directory).expect("a directory of the source") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            named_under(&path, by, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = fs::read_to_string(&path).expect("a source file");
            let named = text.split(by).skip(1).filter(|_| !path.ends_with("src/mark.rs"));
            found.extend(named.filter_map(|rest| Some(rest.split_once("\")")?.0.to_owned())));
        }
    }
}

fn source() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("src")
}

#[test]
fn the_list_of_marks_is_that_of_the_source() {
    let mut found = Vec::new();
    named_under(&source(), "mark!(\"", &mut found);
    let distinct: BTreeSet<_> = found.iter().map(String::as_str).collect();
    let known: Vec<_> = distinct.iter().copied().collect();
    assert_eq!(mesh_core::mark::KNOWN, known, "KNOWN in src/mark.rs, in order");
    assert_eq!(found.len(), distinct.len(), "a name stands at one place: {found:?}");
}

#[test]
fn the_list_of_planted_bugs_is_that_of_the_source() {
    let mut found = Vec::new();
    named_under(&source(), "planted!(\"", &mut found);
    let distinct: BTreeSet<_> = found.iter().map(String::as_str).collect();
    let known: Vec<_> = distinct.iter().copied().collect();
    assert_eq!(mesh_core::planted::KNOWN, known, "KNOWN in src/planted.rs, in order");
}
