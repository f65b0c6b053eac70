//! See `fuzz::exposition::parse`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::exposition::parse(input));
