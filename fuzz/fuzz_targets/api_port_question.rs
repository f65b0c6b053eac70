//! See `fuzz::api::port_question`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::api::port_question(input));
