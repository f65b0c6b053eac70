//! The code keeps the architecture that `docs/ARCHITECTURE.md` draws. The document is the input:
//! change a rule there and it changes here. Knows text, not types: it reads paths as they are
//! written, so a `use … as …` of a crate would escape it.

// Tests of the source read the source; the crate itself may not touch files.
#![allow(clippy::disallowed_methods)]

mod rules;
mod source;

use std::fs;
use std::path::{Path, PathBuf};

use rules::Rules;
use source::Source;

#[test]
fn the_layers_have_no_cycle() {
    assert_eq!(rules().cycle(), Vec::<String>::new(), "these modules import each other");
}

#[test]
fn every_module_of_the_crate_has_its_layer() {
    let rules = rules();
    let modules: Vec<String> =
        sources().iter().filter_map(|source| source.module.first().cloned()).collect();
    let homeless: Vec<&String> =
        modules.iter().filter(|module| !rules.layers.contains_key(*module)).collect();
    assert!(homeless.is_empty(), "not in ```layers: {homeless:?}");
    let gone: Vec<&String> = rules.layers.keys().filter(|layer| !modules.contains(layer)).collect();
    assert!(gone.is_empty(), "in ```layers, but not in the crate: {gone:?}");
}

#[test]
fn the_code_keeps_the_layers_and_the_doors() {
    let rules = rules();
    assert_none(sources().iter().flat_map(|source| rules.violations(source)).collect());
}

#[test]
fn every_select_is_biased() {
    assert_none(sources().iter().flat_map(unbiased_selects).collect());
}

#[test]
fn every_file_opens_with_what_it_is() {
    let root = workspace();
    let crates = ["mesh-core", "runtime-real", "runtime-sim", "cli", "fuzz", "benches"];
    let files = crates.iter().flat_map(|name| rust_files(&root.join(name)));
    let untitled = files.filter(|file| !read(file).starts_with("//! "));
    assert_none(untitled.map(|file| format!("{}: no //! on line 1", file.display())).collect());
}

#[test]
fn a_module_that_reaches_above_itself_is_reported() {
    let told = violations("traffic::detect", "use crate::wire::sniff::Sniffed;");
    insta::assert_snapshot!(told, @"planted.rs:1: `traffic::detect` may not use `crate::wire::sniff::Sniffed`: `wire` is not below `traffic` in ```layers");
}

#[test]
fn a_relative_path_cannot_hide_a_violation() {
    let told = violations("model::route", "fn f() {\n    super::super::proxy::serve();\n}");
    insta::assert_snapshot!(told, @"planted.rs:2: `model::route` may not use `crate::proxy::serve`: `proxy` is not below `model` in ```layers");
}

#[test]
fn strangers_of_one_layer_are_reported() {
    let told = violations("proxy::outbound::http", "use crate::proxy::inbound::http::handle;");
    insta::assert_snapshot!(told, @"planted.rs:1: `proxy::outbound::http` may not use `crate::proxy::inbound::http::handle`: `proxy::outbound` and `proxy::inbound` do not know each other");
}

#[test]
fn what_lives_behind_a_door_is_reported_elsewhere() {
    let told = violations(
        "proxy::listen",
        "use std::{collections::{BTreeMap, HashMap}, time::Duration};\nuse hyper::rt::Timer;\n\
         async fn f() { tokio::spawn(async {}); let _ = std::time::Instant::now(); }",
    );
    insta::assert_snapshot!(told, @r"
    planted.rs:1: `proxy::listen` may not use `std::collections::HashMap`: it lives behind `api::metadata`
    planted.rs:2: `proxy::listen` may not use `hyper::rt::Timer`: it lives behind `wire`
    planted.rs:3: `proxy::listen` may not use `tokio::spawn`: it belongs to the runtimes
    planted.rs:3: `proxy::listen` may not use `std::time::Instant::now`: it lives behind `wire::http::runtime`
    ");
}

#[test]
fn one_of_several_owners_may_use_its_door() {
    assert_eq!(violations("wire::tls", "use rustls::ServerConfig;"), "");
    assert_eq!(violations("runtime::crypto", "use rustls::crypto::CryptoProvider;"), "");
    assert_ne!(violations("runtime::net", "use rustls::ServerConfig;"), "");
}

#[test]
fn comments_strings_and_tests_may_say_anything() {
    let text = r##"
        // use std::fs::File;
        /* tokio::spawn */
        const TEXT: &str = "std::env::var"; const RAW: &str = r#"std::thread::"spawn"#;
        fn quote<'a>(c: char) -> bool { c == '"' || c == '\'' }
        #[cfg(test)]
        mod testing;
        #[cfg(test)]
        mod tests { use std::fs::File; fn f() { std::thread::spawn(|| {}); } }
    "##;
    assert_eq!(violations("traffic", text), "");
    let after = format!("{text}\nuse std::fs::File;");
    assert_ne!(violations("traffic", &after), "", "what follows the tests counts again");
}

#[test]
fn an_unbiased_select_is_reported() {
    let source = Source::planted("proxy", "tokio::select! {\n    () = a => {}\n}");
    assert_eq!(unbiased_selects(&source), ["planted.rs:1: select! without `biased;`"]);
    let source = Source::planted("proxy", "tokio::select! {\n    biased;\n    () = a => {}\n}");
    assert_eq!(unbiased_selects(&source), [""; 0]);
}

fn violations(module: &str, text: &str) -> String {
    rules().violations(&Source::planted(module, text)).join("\n")
}

/// Selects that leave the order of their branches to chance.
fn unbiased_selects(source: &Source) -> Vec<String> {
    let starts = source.code.match_indices("select!").map(|(at, name)| (at, at + name.len()));
    let unbiased = starts.filter(|(_, end)| {
        let body = source.code[*end..].trim_start().trim_start_matches(['{', '(']);
        !body.trim_start().starts_with("biased;")
    });
    unbiased
        .map(|(at, _)| format!("{}:{}: select! without `biased;`", source.name, source.line(at)))
        .collect()
}

fn rules() -> Rules {
    Rules::parse(&read(&workspace().join("docs/ARCHITECTURE.md")))
}

/// The crate's files that are part of a build without tests.
fn sources() -> Vec<Source> {
    let root = workspace().join("mesh-core/src");
    let all: Vec<Source> =
        rust_files(&root).iter().map(|file| Source::read(&root, file, &read(file))).collect();
    let tests: Vec<Vec<String>> =
        all.iter().flat_map(|source| source.test_modules.iter().cloned()).collect();
    let is_test = |source: &Source| tests.iter().any(|test| source.module.starts_with(test));
    all.into_iter().filter(|source| !is_test(source)).collect()
}

fn rust_files(directory: &Path) -> Vec<PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).expect("a directory of the workspace") {
        let path = entry.expect("an entry of it").path();
        if path.is_dir() {
            files.extend(rust_files(&path));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    files
}

fn read(file: &Path) -> String {
    fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()))
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn assert_none(violations: Vec<String>) {
    assert!(violations.is_empty(), "\n{}\n", violations.join("\n"));
}
