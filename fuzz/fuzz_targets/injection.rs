//! See `fuzz::injection::text`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::injection::text(input));
