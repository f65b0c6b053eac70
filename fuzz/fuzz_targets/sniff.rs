//! See `fuzz::sniff::sniff`.
#![no_main]
libfuzzer_sys::fuzz_target!(|input: &[u8]| fuzz::sniff::sniff(input));
