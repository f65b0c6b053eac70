//! What must hold of every input, as plain functions over bytes: each panics where its law is
//! broken, and returns for everything else.
//!
//! The same functions are run three ways: by `cargo test -p fuzz` on the corpora, on random bytes and
//! on mutations of [`seeds`]; and by libFuzzer, on nightly, from the three lines of each file in
//! `fuzz_targets/` (`.ci/run fuzz` runs them all for some seconds each; docs/TESTING.md):
//!
//! ```text
//! cargo install cargo-fuzz
//! cargo +nightly fuzz run -s none --features libfuzzer http1_request -- -max_total_time=60
//! ```
//!
//! Inputs that libFuzzer finds are kept in `corpus/TARGET/`, which every test run replays. The seeds
//! there are written by `cargo run -p fuzz --example corpus`.

pub mod api;
pub mod control;
pub mod detect;
pub mod exposition;
pub mod garbage;
pub mod http1;
pub mod http1_body;
pub mod injection;
pub mod input;
pub mod manifest;
pub mod mutate;
pub mod pipeline;
pub mod scenario;
pub mod scrape;
pub mod seeds;
pub mod sniff;
pub mod tap;
pub mod tls;
pub mod trace_context;
pub mod transport_header;

/// A law over bytes.
pub type Property = fn(&[u8]);

/// Every target: its name, as in `fuzz_targets/` and `corpus/`, and its law.
pub const TARGETS: &[(&str, Property)] = &[
    ("tls_detect", detect::tls),
    ("http_detect", detect::http),
    ("sniff", sniff::sniff),
    ("sniff_race", sniff::race),
    ("http1_request", http1::request),
    ("http1_response", http1::response),
    ("http1_chunked", http1_body::chunked),
    ("transport_header", transport_header::read),
    ("http_outbound", pipeline::outbound),
    ("http_inbound", pipeline::inbound),
    ("http_response", pipeline::response),
    ("http2_server", pipeline::http2_server),
    ("http2_client", pipeline::http2_client),
    ("api_client_policy", api::client_policy),
    ("api_server_policy", api::server_policy),
    ("api_profile", api::profile),
    ("api_endpoint_update", api::endpoint_update),
    ("api_certificate", api::certificate),
    ("api_traffic_question", api::traffic_question),
    ("api_port_question", api::port_question),
    ("api_destination_question", api::destination_question),
    ("api_certificate_question", api::certificate_question),
    ("tap_question", tap::question),
    ("tap_event", tap::event),
    ("manifest", manifest::read),
    ("injection", injection::text),
    ("admission_review", injection::review),
    ("validation_review", injection::validation),
    ("scenario", scenario::read),
    ("csr", control::csr),
    ("token", control::token),
    ("authority", control::authority),
    ("x509", tls::certificate),
    ("trust_anchors", tls::trust_anchors),
    ("exposition", exposition::parse),
    ("scrape", scrape::record),
    ("trace_context", trace_context::read),
];
