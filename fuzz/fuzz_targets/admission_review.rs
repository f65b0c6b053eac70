//! See `fuzz::injection::review`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::injection::review(input));
