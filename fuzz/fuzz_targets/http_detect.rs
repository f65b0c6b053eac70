//! See `fuzz::detect::http`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::detect::http(input));
