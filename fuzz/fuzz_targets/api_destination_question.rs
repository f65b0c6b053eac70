//! See `fuzz::api::destination_question`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::api::destination_question(input));
