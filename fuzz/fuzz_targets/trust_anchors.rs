//! See `fuzz::tls::trust_anchors`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::tls::trust_anchors(input));
