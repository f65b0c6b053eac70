//! See `fuzz::injection::validation`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::injection::validation(input));
