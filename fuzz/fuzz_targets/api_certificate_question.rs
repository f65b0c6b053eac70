//! See `fuzz::api::certificate_question`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::api::certificate_question(input));
