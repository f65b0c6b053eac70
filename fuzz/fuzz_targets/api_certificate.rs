//! See `fuzz::api::certificate`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::api::certificate(input));
