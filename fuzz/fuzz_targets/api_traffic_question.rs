//! See `fuzz::api::traffic_question`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::api::traffic_question(input));
