//! See `fuzz::http1_body::chunked`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::http1_body::chunked(input));
