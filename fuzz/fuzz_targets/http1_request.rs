//! See `fuzz::http1::request`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::http1::request(input));
