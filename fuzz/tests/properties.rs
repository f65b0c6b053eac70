//! Every target's law, on stable: over its corpus, over random bytes and over damaged seeds.
//!
//! `WEFT_FUZZ_CASES` sets how many damaged inputs each target is given (2,000 where it is not set).

use std::fs;
use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use fuzz::mutate::{Draw, mutate};
use fuzz::{Property, TARGETS, seeds};
use proptest::prelude::*;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus").join(target)
}

/// Names the input where the law is broken.
fn check(target: &str, property: Property, input: &[u8]) {
    let holds = catch_unwind(|| property(input)).is_ok();
    assert!(holds, "{target} is broken by b\"{}\"", input.escape_ascii());
}

/// The corpus of a target, in the order of its files' names.
fn inputs(target: &str) -> Vec<Vec<u8>> {
    let files = fs::read_dir(corpus(target)).expect("every target has a corpus");
    let mut files: Vec<_> = files.map(|file| file.expect("a file").path()).collect();
    files.sort();
    let inputs = files.iter().map(|file| fs::read(file).expect("readable"));
    inputs.collect()
}

#[test]
fn every_corpus_obeys_its_law() {
    for (target, property) in TARGETS {
        for input in inputs(target) {
            check(target, *property, &input);
        }
    }
}

#[test]
fn every_corpus_has_its_seeds() {
    for (target, property) in TARGETS {
        let seeds = seeds::of(target);
        assert!(!seeds.is_empty(), "{target} has no seeds");
        for (number, seed) in seeds.iter().enumerate() {
            check(target, *property, seed);
            let file = corpus(target).join(format!("seed-{number}"));
            let file_name = file.display();
            assert!(file.exists(), "no {file_name}: `cargo run -p fuzz --example corpus`");
        }
    }
}

#[test]
fn every_target_has_its_three_lines() {
    let targets = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz_targets");
    let manifest = include_str!("../Cargo.toml");
    for (target, _) in TARGETS {
        let text = fs::read_to_string(targets.join(format!("{target}.rs"))).expect("its file");
        assert_eq!(text.lines().count(), 3, "{target}");
        assert!(manifest.contains(&format!("name = \"{target}\"")), "{target}");
    }
    let files = fs::read_dir(targets).expect("a directory").count();
    assert_eq!(files, TARGETS.len());
}

#[test]
fn damaged_seeds_obey_the_law() {
    let cases = std::env::var("WEFT_FUZZ_CASES");
    let cases = cases.map_or(2_000, |cases| cases.parse().expect("a number"));
    for (target, property) in TARGETS {
        let mut draw = Draw::new(target.bytes().map(u64::from).sum());
        let inputs = inputs(target);
        for _ in 0..cases {
            check(target, *property, &damaged(&inputs, &mut draw));
        }
    }
}

fn damaged(inputs: &[Vec<u8>], draw: &mut Draw) -> Vec<u8> {
    let mut input = draw.of(inputs).clone();
    if draw.once_in(8) {
        let other = draw.of(inputs).clone();
        let at = draw.below(input.len() + 1);
        drop(input.splice(at.., other));
    }
    mutate(&mut input, draw);
    // Where the first byte tells the segments, half of the inputs have some.
    if draw.once_in(2) && input.first() == Some(&0) {
        let cuts = 1 + draw.below(7);
        input[0] = cuts as u8;
        let cuts = (0..cuts).map(|_| draw.below(64) as u8).collect::<Vec<_>>();
        drop(input.splice(1..1, cuts));
    }
    input
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(256))]

    #[test]
    fn any_bytes_obey_every_law(input in prop::collection::vec(any::<u8>(), 0..300)) {
        for (target, property) in TARGETS {
            check(target, *property, &input);
        }
    }

    #[test]
    fn any_text_obeys_every_law(input in "[\\x00-\\x02]([ -~\r\n]|(\r\n)|(: )|(HTTP/1\\.1)){0,100}") {
        for (target, property) in TARGETS {
            check(target, *property, input.as_bytes());
        }
    }
}
