//! See `fuzz::sniff::race`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::sniff::race(input));
